"""A folder of images, or a list of them -> their embeddings, in a folder that search.py searches.

python embed.py --images ~/photos --out results/photos                          # a ready-made net, fitted to the images
python embed.py --images ~/photos --out results/trained --checkpoint results/.../ckp_ep600.pth.tar
torchrun --standalone --nproc_per_node 4 embed.py --images ...                  # every process embeds its share

The same command again embeds what is new or changed, forgets what is gone, and goes on where it was stopped.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from data.images import Images
from data.lists import shown
from data.views import BadImage, ImageBatches
from gallery import model as gallery_model
from gallery.folder import amend, clear_words, is_current, known_bad, put_in_place, refuse_among_photos, refuse_foreign
from gallery.intake import Taken, Unopened, take_in
from gallery.model import FILE, MOST_FITTED, Model
from gallery.store import Bad, File
from gallery.survey import Survey, survey
from gallery.writer import Writer
from models.readout import Fitter
from utils import device, distributed, flags, log
from utils.arrays import evenly
from utils.distributed import Group
from utils.errors import InputError, RunError, exit_on_error
from utils.features import encoder
from utils.interrupt import Stop
from utils.lock import locked
from utils.progress import bar


def parse_args() -> tuple[argparse.Namespace, dict[str, Any]]:
    """The settings, and those of them that are not the defaults."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--images", required=True, help="a folder, searched at any depth, or a list file with a path a line")
    add("--out", required=True, help="where the embeddings go; never a folder of your photos")
    add("--checkpoint", default=None, help="a trained net; without one --net is taken as it is")
    add("--net", default=None, help="a ready-made net; a wrong name lists them all (default: EfficientNet-Lite0)")
    add("--weights", default=None, help="file of its pretrained weights, instead of the net's own source")
    about = (
        "what reads the net out: closed_form, fitted to these images; embedding, of a checkpoint; pooled, the bare features;"
    )
    about += f" auto: what a checkpoint chose, or the closed form from {gallery_model.ENOUGH} images (default)"
    add("--head", "--readout", choices=("auto", "closed_form", "embedding", "pooled"), default="auto", help=about)
    add("--dim", type=flags.positive_int, default=None, help="numbers of the closed form of a ready-made net (default: 512)")
    add("--width", type=flags.side, default=None, help="side of the crop (default: the checkpoint's, or 128)")
    add(
        "--origin_width",
        type=flags.side,
        default=None,
        help="shorter side before it (default: the checkpoint's, or 9/8 of --width)",
    )
    add("--dtype", choices=("float32", "float16"), default="float32", help="float16 halves the file")
    add("--name", default=None, help="what the page calls it (default: ready-made, or trained)")
    add("--again", action="store_true", help="drop what is in --out and embed all anew")
    add("--batch_size", "-b", type=flags.positive_int, default=64, help="images in one forward pass")
    about = "data loading processes; 0 loads in the main one (default: one a core, at most 8; 0 for few images)"
    add("--nThreads", "-j", type=flags.number(int, 0, most=1024), default=None, help=about)
    add("--seed", type=flags.natural, default=0, help="of the crops that the closed form is fitted to, when it is")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    add(
        "--amp",
        choices=("auto", "off", "bf16", "fp16"),
        default="auto",
        help="precision; auto: half on a GPU, off elsewhere",
    )
    add("--log_file", default=None, help="also append the log to this file")
    args = parser.parse_args()
    if args.checkpoint and args.weights:
        raise InputError(f"{args.weights}: the checkpoint has its own; give one of the two", setting="weights")
    if not args.checkpoint:
        args.net, args.dim = args.net or "EfficientNet-Lite0", args.dim or 512
    args.name = args.name or ("trained" if args.checkpoint else "ready-made")
    return args, parser.changed(args)


def main() -> None:
    args, changed = parse_args()
    stop = Stop()
    log.start(vars(args), changed, args.log_file)
    compute = device.choose(args.device, args.amp)
    group = distributed.join(compute.device)
    with ExitStack() as until_the_end:
        images: Survey = group.share_object(survey(args.images) if not group.rank else None)
        if group.rank == 0:
            refuse_among_photos(args.out, images.root)
            log.make_folder(args.out)
            until_the_end.enter_context(locked(args.out, "out"))
            until_the_end.enter_context(clear_words(args.out))
            refuse_foreign(args.out)
            put_in_place(args.out)
        until_the_end.enter_context(group.watching())
        model = choose_model(args, compute, group, [file.path for file in images.files])
        bring_up_to_date(args, model, compute, group, stop, images)
        group.leave()


# ---- by which model --------------------------------------------------------------------------------------------------


def choose_model(args: argparse.Namespace, compute: Any, group: Group, paths: list[str]) -> Model:
    """The model that the gallery in --out has, where it still fits what is asked for and the number of images; else a new
    one, fitted and put into `making`."""
    request = {name: getattr(args, name) for name in ("net", "head", "dim", "width", "origin_width")}
    request |= {name: file_hash(getattr(args, name)) for name in ("checkpoint", "weights")}
    place = os.path.join(args.out, "making", FILE)
    found = group.share_object(find_model(args, request, len(paths), place) if not group.rank else None)
    if found:
        model = gallery_model.load(found)
    else:
        sample = [paths[place] for place in evenly(len(paths), MOST_FITTED).tolist()]

        def fit(embedder: Any) -> None:
            compute.place(embedder)
            loaded = ImageBatches(
                Images(sample, embedder.transforms), args.batch_size, workers(args, len(sample)), group=group
            )
            Fitter(loaded, compute, group, "closed_form", args.seed, "skip")(embedder)

        model = gallery_model.make(request, args.checkpoint, args.weights, len(paths), fit, len(sample))
        if group.rank == 0:
            model.save(place)
    compute.place(model.embedder).eval()
    return model


def find_model(args: argparse.Namespace, request: dict[str, Any], images: int, place: str) -> str | None:
    """The file of a model that can be used again. Raises InputError where the gallery is of another one, without --again."""
    ready = os.path.join(args.out, FILE)
    for path in (place, ready):
        if not os.path.exists(path):
            continue
        try:
            model = gallery_model.load(path)
        except InputError:
            if path == place or args.again:
                continue
            raise
        if model.request != request:
            if path == ready and not args.again:
                differ = ", ".join(name for name in request if model.request.get(name) != request[name])
                what = f"holds embeddings of another model ({differ}); give another folder, or --again to embed all anew"
                raise InputError(f"{shown(args.out)}: {what}", setting="out")
        elif path == ready and args.again:
            pass
        elif reason := gallery_model.outgrown(model, images):
            log.say(f"the model is made anew: {reason}")
        else:
            if path == ready and os.path.exists(place):
                os.remove(place)
            return path
    return None


def file_hash(path: str | None) -> str | None:
    """SHA-256 of a file, so that a checkpoint is known wherever it lies."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({error.strerror})") from None


# ---- embedding -------------------------------------------------------------------------------------------------------


def bring_up_to_date(args: argparse.Namespace, model: Model, compute: Any, group: Group, stop: Stop, images: Survey) -> None:
    """Have the gallery hold the images as they are now, and say what was done."""
    known = [] if args.again or group.rank else known_bad(args.out, images.files)
    bad: list[Bad] = group.share_object(images.gone + known)
    unreadable = {entry.file.path for entry in bad}
    files = [file for file in images.files if file.path not in unreadable]
    digest, source = model.digest, shown(args.images)
    about = {"name": args.name, "root": images.root, "source": os.path.abspath(args.images), "kind": model.kind}
    about |= {"net": model.embedder.settings["net"], "dim": model.dim, "fitted_to": model.fitted_to}
    if group.share_object(not group.rank and not args.again and is_current(args.out, digest, args.dtype, files, bad)):
        if not group.rank:
            amend(args.out, about)
        log.say(f"{len(files)} images of {source}: all are embedded already")
        report(bad)
        return
    writer = Writer(args.out, digest, model.dim, args.dtype, group)
    todo = writer.plan(files, args.again)
    log.say(f"{len(files)} images of {source}, {len(todo)} to embed: {about['net']}, {model.kind}, {model.dim} numbers")
    began, new = time.monotonic(), list[Bad]()
    with stop.deferred():
        try:
            for taken, rows in embedded(args, model, compute, [file.path for file in files], todo[group.stretch(len(todo))]):
                writer.put(taken.indices, rows, taken.prints, taken.hashes)
                new += [bad_of(files[item.index], item) for item in taken.bad]
                stop.check(stop.signal)  # torchrun passes a signal on to all processes
        finally:
            writer.flush()
        bad += [entry for some in group.gather_objects(new) for entry in some]
        seconds = time.monotonic() - began
        if len(bad) >= len(images.files) + len(images.gone):
            raise InputError(f"none of the {len(bad)} images can be read, the first: {bad[0].reason}", setting="images")
        writer.finish(bad, about)
    report(bad)
    speed = f"{seconds:.0f} s, {len(todo) / max(seconds, 1e-9):.0f} images/s"
    log.say(f"{len(images.files) + len(images.gone) - len(bad)} images are embedded ({speed}), in {shown(args.out)}")


def bad_of(file: File, item: BadImage) -> Bad:
    """What is kept of a file that cannot be read; one that could not be opened is to be tried again."""
    return Bad(file._replace(mtime_ns=0) if isinstance(item, Unopened) else file, item.message)


def embedded(
    args: argparse.Namespace, model: Model, compute: Any, paths: list[str], indices: np.ndarray
) -> Iterator[tuple[Taken, np.ndarray]]:
    """The images at these indices, batch by batch, each with the embeddings of those that can be read, float32 (n, d)."""
    encode = encoder(model.embedder, [model.kind], compute)
    transforms, processes = model.embedder.transforms, workers(args, len(indices))
    batches = take_in(paths, indices.tolist(), transforms, args.batch_size, processes, compute.pin_memory)
    with bar(total=len(indices), desc="embedding", unit="img") as progress, torch.inference_mode():
        for taken in batches:
            rows = np.empty((0, model.dim), np.float32)
            if taken.crops is not None:
                (features,) = encode(taken.crops.to(compute.device, non_blocking=True))
                rows = torch.nn.functional.normalize(features.float(), dim=1).cpu().numpy()
                if not np.isfinite(rows).all():
                    first = shown(paths[taken.indices[~np.isfinite(rows).all(1)][0]])
                    raise RunError(f"{first}: its embedding is not finite; give --amp off, or another net")
            yield taken, rows
            progress.update(len(taken.indices) + len(taken.bad))


def workers(args: argparse.Namespace, images: int) -> int:
    """How many data loading processes. Unlike in training also on a CPU: decoding a photo takes longer than embedding it."""
    if args.nThreads is not None:
        return args.nThreads
    return 0 if images < 500 else min(8, max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def report(bad: list[Bad]) -> None:
    """Say which files cannot be read; on the terminal the first ones, in the log file all."""
    for number, entry in enumerate(bad, 1):
        (log.say if number <= 20 else log.debug)(f"left out ({number} of {len(bad)}): {entry.reason}")
    if len(bad) > 20:
        log.say("left out: and more; all stand in images.sqlite, in the table `bad`")


if __name__ == "__main__":
    exit_on_error(main)
