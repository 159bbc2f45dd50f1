"""A folder of images, or a list of them -> their embeddings, in a folder that search.py searches.

python embed.py --images ~/photos --out results/photos                          # a ready-made net, fitted to the images
python embed.py --images ~/photos --out results/trained --checkpoint results/.../ckp_ep600.pth.tar
torchrun --standalone --nproc_per_node 4 embed.py --images ...                  # every process embeds its share

The same command again embeds what is new or changed, forgets what is gone, and goes on where it was stopped.
"""

import argparse
from typing import Any

from gallery.renew import Machine, Settings, renew
from models.readout import ENOUGH
from utils import device, distributed, flags, log
from utils.errors import InputError, exit_on_error
from utils.interrupt import Stop


def parse_args() -> tuple[Settings, argparse.Namespace, dict[str, Any]]:
    """The gallery's settings, all flags, and the flags that are not the defaults."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--images", required=True, help="a folder, searched at any depth, or a list file with a path a line")
    add("--out", required=True, help="where the embeddings go; never a folder of your photos")
    add("--checkpoint", default=None, help="a trained net; without one --net is taken as it is")
    add("--net", default=None, help="a ready-made net; a wrong name lists them all (default: EfficientNet-Lite0)")
    add("--weights", default=None, help="file of its pretrained weights, instead of the net's own source")
    about = "what reads the net out: closed_form, fitted to these images; embedding, of a checkpoint; pooled, the bare "
    about += f"features; auto: what a checkpoint chose, or the closed form from {ENOUGH} images (default)"
    add("--head", "--readout", choices=("auto", "closed_form", "embedding", "pooled"), default="auto", help=about)
    add("--dim", type=flags.positive_int, default=None, help="numbers of the closed form of a ready-made net (default: 512)")
    add("--width", type=flags.side, default=None, help="side of the crop (default: the checkpoint's, or 128)")
    about = "shorter side before it (default: the checkpoint's, or 9/8 of --width)"
    add("--origin_width", type=flags.side, default=None, help=about)
    add("--dtype", choices=("float32", "float16"), default="float32", help="float16 halves the file")
    add("--name", default=None, help="what the page calls it (default: ready-made, or trained)")
    add("--again", action="store_true", help="drop what is in --out and embed all anew")
    add("--batch_size", "-b", type=flags.positive_int, default=64, help="images in one forward pass")
    about = "data loading processes; 0 loads in the main one (default: one a core, at most 8; 0 for few images)"
    add("--nThreads", "-j", type=flags.number(int, 0, most=1024), default=None, help=about)
    add("--seed", type=flags.natural, default=0, help="of the crops that the closed form is fitted to, when it is")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    about = "precision; auto: half on a GPU, off elsewhere"
    add("--amp", choices=("auto", "off", "bf16", "fp16"), default="auto", help=about)
    add("--log_file", default=None, help="also append the log to this file")
    args = parser.parse_args()
    if args.checkpoint and args.weights:
        raise InputError(f"{args.weights}: the checkpoint has its own; give one of the two", setting="weights")
    if not args.checkpoint:
        args.net, args.dim = args.net or "EfficientNet-Lite0", args.dim or 512
    args.name = args.name or ("trained" if args.checkpoint else "ready-made")
    settings = Settings(**{name: getattr(args, name) for name in Settings._fields})
    return settings, args, parser.changed(args)


def main() -> None:
    settings, args, changed = parse_args()
    stop = Stop()
    log.start(vars(args), changed, args.log_file)
    compute = device.choose(args.device, args.amp)
    renew(settings, Machine(compute, distributed.join(compute.device), stop))


if __name__ == "__main__":
    exit_on_error(main)
