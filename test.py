"""Tests checkpoints: Recall@K, NMI and other metrics on the classes that training never saw.

python test.py --data cub --data_root ~/data --resume results/.../ckp_ep600.pth.tar [more checkpoints]
python test.py --data cub --data_root ~/data --net ResNet50 --pretrained True        # the frozen backbone
python test.py ... --pretrained True --readout closed_form           # also its closed form, fitted to the training images
python test.py ... --rerank                      # extra rows: smoothed over the other test images
python test.py ... --metrics recall map_at_r nmi --save_json result.json
python test.py --data ~/photos --resume results/mine --select          # chooses a checkpoint without labels
"""

import argparse
import copy
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import models
from data.dataset import locate, read_test, read_train, recall_ks, why_no_test
from data.images import Images
from data.lists import ImageList
from data.views import ImageBatches, count_workers
from evaluations import label_free
from evaluations.report import report_tested
from evaluations.retrieval import METRICS, NEIGHBOURS, extract_lists, neighbours, net_name, reranked, score_lists, summary
from models import engine
from models.enlarge import judging_width
from models.readout import Fitter, Look, NoVariation
from utils import checkpoint, device, flags, log
from utils.arrays import evenly
from utils.distributed import Group
from utils.errors import InputError, exit_on_error
from utils.features import encoder


class Net(NamedTuple):
    epoch: int | None  # None: the frozen backbone
    embedder: models.Embedder
    readouts: list[str]  # readouts of `Embedder.read`; "auto" until the net is fitted


def parse_args() -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return all settings, and the settings that differ from their defaults."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    flags.add_common(parser)
    about = "checkpoints or folders of checkpoints, all tested in one go"
    add("--resume", "-r", nargs="*", default=[], metavar="CHECKPOINT", help=about)
    add("--pretrained", type=flags.boolean, default=False, help="True: also test the frozen pretrained backbone")
    flags.add_readout(parser, several=True)
    add("--net", default=None, help="backbone (default: the checkpoint's)")
    add("--dim", "-d", type=flags.positive_int, default=None, help="embedding size (default: the checkpoint's)")
    add("--width", type=flags.side, default=None, help="side of the crops (default: the checkpoint's)")
    add("--origin_width", type=flags.side, default=None, help="shorter side before cropping (default: the checkpoint's)")
    add("--batch_size", "-b", type=flags.positive_int, default=100, help="images in one forward pass")
    about = f"any of {', '.join(METRICS)}; the values come in the order given. The last three share one k-means; ami takes "
    about += "15 s more for 10,000 classes (default: recall nmi)"
    add("--metrics", nargs="+", choices=METRICS, default=("recall", "nmi"), metavar="METRIC", help=about)
    about = "how NMI averages the two entropies; old tables used geometric, which gives slightly higher values"
    add("--nmi_average", choices=("arithmetic", "geometric"), default="arithmetic", help=about)
    about = "also judge each net without labels, on its training images, and choose one; needs no test list"
    add("--select", action="store_true", help=about)
    about = (
        "add a row for each net and readout whose features are smoothed over the other test images, as in the search of a "
    )
    about += "folder; never compare these rows with other tables"
    add("--rerank", action="store_true", help=about)
    add("--save_json", default=None, help="write the results to this file")
    about = f"write the {NEIGHBOURS} nearest images of each query to this file (.npz), by the net in the table's last row"
    add("--save_neighbours", "--save_txt", default=None, metavar="FILE", help=about)
    args = parser.parse_args()
    return args, parser.changed(args)


def main() -> None:
    args, changed = parse_args()
    log.start(vars(args), changed, args.log_file)
    compute = device.choose(args.device, args.amp, args.channels_last, args.engine)

    # the test lists and the nets
    lists = test_lists(folder := locate(args.data, args.data_root), args)
    nets = [Net(epoch, compute.place(embedder), requested(args, epoch, embedder)) for epoch, embedder in embedders(args)]
    training = functools.cache(lambda: read_train(folder).paths)

    def load(paths: Any) -> ImageBatches:
        workers = count_workers(args.nThreads, len(paths), compute.device.type)
        return ImageBatches(Images(paths, nets[0].embedder.transforms), args.batch_size, workers)

    def fit(images: ImageBatches, embedder: models.Embedder, readout: str = "closed_form") -> None:
        Fitter(images, compute, Group(), readout, args.seed, args.on_bad_image)(embedder)

    # on training images: missing closed forms, and scores without labels
    if lists:
        fit_missing(nets, lambda *what: fit(load(training()), *what))
    about = [facts(net.embedder) for net in nets]
    if args.select:
        sample = [training()[place] for place in evenly(len(training()), label_free.SAMPLE).tolist()]
        scores = select(args, nets, load(sample), compute)
        about = [{**net_facts, "label_free": score} for net_facts, score in zip(about, scores)]
    if not lists:
        return write(args, entries([(net.epoch, net.embedder.kind) for net in nets], about), None)

    # on test images
    nets = [net._replace(readouts=resolved(net.readouts, net.embedder)) for net in nets]
    for net in nets:
        engine.use(net.embedder, compute, sum(map(len, dict.fromkeys(lists))))
    encoders = [encoder(net.embedder, net.readouts, compute) for net in nets]
    extracted = extract_lists(encoders, lists, lambda part: load(part.paths).crops(), args.on_bad_image, args.features_dir)
    how = recall_ks(folder), args.metrics, args.nmi_average, args.seed, compute.scores
    scored = score_lists(extracted, *how)
    if args.rerank:
        smoothed_scores = score_lists(reranked(extracted), *how)
        scored = [{**result, "reranked": scores} for result, scores in zip(scored, smoothed_scores)]
    rows = [(net.epoch, readout) for net in nets for readout in net.readouts]
    log.say(summary(rows, scored, args.nmi_average))
    about_rows = [net_facts for net_facts, net in zip(about, nets) for _ in net.readouts]
    results = entries(rows, [{**result, **net_facts} for result, net_facts in zip(scored, about_rows)])
    write(args, results, neighbours(extracted) if args.save_neighbours else None)
    if args.report == "yes" and "checkpoint" in about[-1]:
        report_tested(os.path.dirname(about[-1]["checkpoint"]), folder, lists, extracted, results)


def test_lists(folder: str, args: argparse.Namespace) -> tuple[ImageList, ...]:
    """Read the queries and the gallery. Returns () where there is no test list and --select needs none."""
    why = why_no_test(folder, args.gallery_eq_query) if args.select else None
    if why is None:
        return read_test(folder, args.gallery_eq_query)
    if args.save_neighbours:
        raise InputError(f"needs a test list: {why}", setting="save_neighbours")
    return ()


def embedders(args: argparse.Namespace) -> Iterator[tuple[int | None, models.Embedder]]:
    """Yield (epoch, Embedder) for each net to test. The frozen backbone, whose epoch is None, comes first."""
    paths = [path for given in args.resume for path in (checkpoint.all_in(given) if os.path.isdir(given) else [given])]
    if not paths and not args.pretrained:
        raise InputError("nothing to test: give checkpoints with --resume, or --pretrained True for the frozen backbone")
    if args.weights and not args.pretrained:
        raise InputError("--weights belongs to the frozen backbone: it needs --pretrained True")
    settings = {name: getattr(args, name) for name in models.DEFAULTS}
    trained = [models.load(path, **settings) for path in paths]
    if args.pretrained:
        like: dict[str, Any] = trained[0].settings if trained else models.DEFAULTS
        complete = {name: like[name] if value is None else value for name, value in settings.items()}
        yield None, models.create(complete.pop("net"), weights=args.weights, **complete).eval()
    for path, embedder in zip(paths, trained):
        for name in ("width", "origin_width"):  # all nets see the same crops
            if embedder.settings[name] != trained[0].settings[name]:
                what = f"its --{name} is {embedder.settings[name]}, the first checkpoint's is {trained[0].settings[name]}"
                raise InputError(f"{path}: {what}; test them one by one")
        yield embedder.origin.epoch if embedder.origin else None, embedder


def requested(args: argparse.Namespace, epoch: int | None, embedder: models.Embedder) -> list[str]:
    """Return the readouts of an Embedder to test: names for `Embedder.read`, or "auto"."""
    if epoch is None or args.pool_feature:  # the frozen backbone's embedding head is random
        return ["pooled", *(readout for readout in args.readout or () if readout != "embedding")]
    return args.readout or embedder.kinds


def facts(embedder: models.Embedder) -> dict[str, Any]:
    """Return facts about a net for result files: its checkpoint and its training time."""
    return {"checkpoint": embedder.origin.path, **embedder.origin.times} if embedder.origin else {}


def fit_missing(nets: Sequence[Net], fit: Callable) -> None:
    """Give a closed form, by fit(embedder, readout), to nets that need one. Log the nets that have one already."""
    for epoch, embedder, readouts in nets:
        if embedder.closed_form is None and {"auto", "closed_form"} & set(readouts):
            fit(embedder, "auto" if "auto" in readouts else "closed_form")
        elif embedder.closed_form is not None and epoch is not None:
            log.say(f"epoch {epoch}: its closed form is the one in the checkpoint")


def resolved(readouts: list[str], embedder: models.Embedder) -> list[str]:
    """Replace "auto" by the readout that the Embedder chose, and drop repeated readouts."""
    chosen = "pooled" if embedder.kind == "embedding" and "pooled" in readouts else embedder.kind
    return list(dict.fromkeys(chosen if readout == "auto" else readout for readout in readouts))


def select(
    args: argparse.Namespace, nets: list[Net], images: ImageBatches, compute: device.Compute
) -> list[dict[str, float]]:
    """Judge each net without labels, log the net to take, and return the scores of each.

    All nets are compared with the net before training: the tested frozen net, or a frozen net like the first one. It also
    looks at enlarged images, and the neighbours that it finds there judge all nets. images: a sample of the training images.
    """
    frozen = lambda **changed: compute.place(frozen_like(nets[0].embedder, args.weights, **changed))
    compared = nets if nets[0].epoch is None else [Net(None, frozen(), []), *nets]
    start = compared[0].embedder
    width = judging_width(start)
    if width == start.transforms.width:
        what = f"{start.settings['net']} takes images of {width} pixels only, so it cannot judge by larger ones"
        raise InputError(f"{what}; give a test list instead", setting="select")
    enlarged = images.enlarged(width)
    log.say(f"judged by the neighbours that the net before training finds in images of {width} pixels")

    def look(embedder: models.Embedder, batches: ImageBatches = images) -> Look:
        return Fitter(batches, compute, Group(), "closed_form", args.seed, args.on_bad_image).look(copy.deepcopy(embedder))

    judge = look(frozen(width=width, origin_width=enlarged.images.transforms.origin_width), enlarged)
    scores = []
    for net in compared:
        try:
            agreement, nearest, unreadable = look(net.embedder)
        except NoVariation:  # it makes all images alike
            agreement, nearest, unreadable = {0: 0.0}, {}, judge.unreadable
        if unreadable != judge.unreadable:
            number = min(set(unreadable) ^ set(judge.unreadable))
            raise InputError(f"{images.images.paths[number]}: can be read at one size only; replace or remove it")
        scores.append(label_free.label_free(agreement, nearest, judge.chosen))
    names, origins = [net_name(net.epoch) for net in compared], [net.embedder.origin for net in compared]
    paths = [origin.path if origin else None for origin in origins]
    log.say(label_free.verdict(names, paths, scores, len(images)))
    return scores[len(compared) - len(nets) :]


def frozen_like(embedder: models.Embedder, weights: str | None, **changed: int) -> models.Embedder:
    """Return the net of an Embedder before training, with some settings changed."""
    settings = {**embedder.settings, **changed}
    return models.create(settings.pop("net"), weights=weights, **settings).eval()


def entries(rows: Sequence[tuple[int | None, str]], results: Sequence[dict]) -> list[dict]:
    """Return the results as result files hold them."""
    return [{"epoch": epoch or 0, **result, "readout": readout} for (epoch, readout), result in zip(rows, results)]


def write(args: argparse.Namespace, results: list[dict], nearest: dict[str, np.ndarray] | None) -> None:
    """Write the files that the settings name."""
    for path in filter(None, (args.save_json, args.save_neighbours)):
        log.make_folder(os.path.dirname(os.path.abspath(path)))
    if args.save_json:
        with open(args.save_json, "w", encoding="utf-8") as file:  # written in place: it may be a device or a link
            json.dump(results, file, indent=1)
    if nearest is not None:
        with open(args.save_neighbours, "wb") as opened:
            np.savez(opened, **nearest)  # type: ignore[arg-type]


if __name__ == "__main__":
    exit_on_error(main)
