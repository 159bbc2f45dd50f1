"""Embeds the images of folders and lists into a gallery: a folder of embeddings that search.py searches.

python embed.py --images ~/photos --out results/photos                          # a ready-made net, fitted to the images
python embed.py --images ~/photos --out results/trained --checkpoint results/.../ckp_ep600.pth.tar
torchrun --standalone --nproc_per_node 4 embed.py --images ...                  # every process embeds its share

The same command again embeds new and changed images, forgets missing ones, and goes on where it was stopped.
"""

import argparse
from typing import Any

from data.exclusions import EXCLUDED
from gallery.model_choice import Machine, Settings
from gallery.renew import renew
from models.readout import ENOUGH
from utils import device, distributed, flags, log
from utils.errors import InputError, exit_on_error
from utils.interrupt import Stop


def parse_args() -> tuple[Settings, argparse.Namespace, dict[str, Any]]:
    """Return the gallery's settings, all flags, and the flags that differ from the defaults."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    about = "folders, searched at any depth; list files with one path a line; photos"
    add("--images", nargs="+", required=True, metavar="PATH", help=about)
    about = "files and folders to leave out, by their names or their paths below a folder of --images: 'old*' 'trips/*.png'"
    add("--exclude", nargs="+", default=[], metavar="GLOB", help=about)
    about = f"do not leave out {', '.join(EXCLUDED)}; hidden files stay left out"
    add("--include_excluded", action="store_true", help=about)
    add("--out", required=True, help="the folder for the embeddings; never a folder of your photos")
    add("--checkpoint", default=None, help="a trained net; without one, --net is fitted to the images, not trained")
    add("--net", default=None, help="a ready-made net; a wrong name lists them all (default: EfficientNet-Lite0)")
    add("--weights", default=None, help="a file of pretrained weights, instead of the net's own source")
    about = "how an embedding is taken from the net. closed_form: fitted to these images. embedding: a checkpoint's head. "
    about += "pooled: the bare features. auto (default): the checkpoint's choice; for a ready-made net, closed_form if "
    about += f"there are at least {ENOUGH} images, otherwise pooled"
    readouts = ("auto", "closed_form", "embedding", "pooled")
    add("--readout", "--head", dest="head", choices=readouts, default="auto", help=about)
    add("--dim", type=flags.positive_int, default=None, help="numbers in a ready-made net's closed form (default: 512)")
    add("--width", type=flags.side, default=None, help="side of the crops (default: the checkpoint's, or 128)")
    about = "shorter side of an image before cropping (default: the checkpoint's, or 9/8 of --width)"
    add("--origin_width", type=flags.side, default=None, help=about)
    add("--dtype", choices=("float32", "float16"), default="float32", help="float16 halves the file")
    add("--name", default=None, help="name of the gallery on the page (default: ready-made, or trained)")
    add("--thumbnails", type=flags.boolean, default=True, help="keep a small JPEG of each image for the page (10 to 20 kB)")
    flags.add_image_memory(add)
    add("--again", action="store_true", help="drop the embeddings in --out and embed all images anew")
    add("--batch_size", "-b", type=flags.positive_int, default=64, help="images in one forward pass")
    about = "data loading processes; 0: the main process loads (default: one a core, at most 8; 0 for few images)"
    add("--nThreads", "-j", type=flags.number(int, 0, most=1024), default=None, help=about)
    add("--seed", type=flags.natural, default=0, help="seed of the crops that a closed form is fitted to")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto, which takes the best available")
    flags.add_engine(add)
    about = "precision; auto: half on a GPU, off elsewhere"
    add("--amp", choices=("auto", "off", "bf16", "fp16"), default="auto", help=about)
    add("--log_file", default=None, help="also append the log to this file")
    args = parser.parse_args()
    changed = parser.changed(args)  # before the defaults that depend on other flags are filled in
    if args.checkpoint and args.weights:
        raise InputError(f"{args.weights}: the checkpoint has its own weights; give one of the two", setting="weights")
    if not args.checkpoint:
        args.net, args.dim = args.net or "EfficientNet-Lite0", args.dim or 512
    args.name = args.name or ("trained" if args.checkpoint else "ready-made")
    args.memory = round(args.image_memory * 1e9)
    settings = Settings(**{name: getattr(args, name) for name in Settings._fields})
    return settings, args, changed


def main() -> None:
    settings, args, changed = parse_args()
    stop = Stop()
    log.start(vars(args), changed, args.log_file)
    compute = device.choose(args.device, args.amp, engine=args.engine)
    renew(settings, Machine(compute, distributed.join(compute.device), stop))


if __name__ == "__main__":
    exit_on_error(main)
