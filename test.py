"""Checkpoints -> Recall@K, NMI and other metrics on the classes that training never saw.

python test.py --data cub --data_root ~/data --resume results/.../ckp_ep600.pth.tar [more checkpoints]
python test.py --data cub --data_root ~/data --net ResNet50 --pretrained True        # the frozen backbone
python test.py ... --pretrained True --readout closed_form           # and its closed form, fitted to the training images
python test.py ... --metrics recall map_at_r nmi --save_json result.json
python test.py --data ~/photos --resume results/mine --select          # which checkpoint to take, told without labels
"""

import argparse
import copy
import functools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import models
from data.dataset import locate, read_test, read_train, recall_ks, why_no_test
from data.images import Images
from data.views import ImageBatches, count_workers
from evaluations.label_free import CHOOSES, RATIO, SAMPLE, judge
from evaluations.report import Embedded, report
from evaluations.retrieval import METRICS, NEIGHBOURS, columns, evaluate, result_line
from models.readout import Fitter
from utils import checkpoint, device, flags, log
from utils.arrays import evenly
from utils.distributed import Group
from utils.errors import InputError, exit_on_error
from utils.features import encoder

ROW_ENDS = {"pooled": "", "embedding": "", "closed_form": ", closed form"}  # ends of the rows' names


def parse_args() -> tuple[argparse.Namespace, dict[str, Any]]:
    """The settings, and those of them that are not the defaults."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    flags.add_common(parser)
    add(
        "--resume",
        "-r",
        nargs="*",
        default=[],
        metavar="CHECKPOINT",
        help="checkpoints, or folders of them, tested in one go",
    )
    add("--pretrained", type=flags.boolean, default=False, help="True: also test the frozen pretrained backbone")
    flags.add_readout(parser, several=True)
    add("--net", default=None, help="backbone (default: the checkpoint's)")
    add("--dim", "-d", type=flags.positive_int, default=None, help="embedding size (default: the checkpoint's)")
    add("--width", type=flags.side, default=None, help="side of the crop (default: the checkpoint's)")
    add("--origin_width", type=flags.side, default=None, help="shorter side before it (default: the checkpoint's)")
    add("--batch_size", "-b", type=flags.positive_int, default=100, help="images in one forward pass")
    add(
        "--metrics",
        nargs="+",
        choices=METRICS,
        default=("recall", "nmi"),
        metavar="METRIC",
        help=f"any of {', '.join(METRICS)}; the values come in the order asked for. The last three share a k-means; ami "
        "takes 15 s more for 10,000 classes (default: recall nmi)",
    )
    add(
        "--nmi_average",
        choices=("arithmetic", "geometric"),
        default="arithmetic",
        help="mean of the entropies in NMI; geometric gives what old tables used, a little higher",
    )
    add(
        "--select",
        action="store_true",
        help="also judge each net without labels, by its training images, and say which to take; needs no test list",
    )
    add("--save_json", default=None, help="write the results to this file")
    add(
        "--save_neighbours",
        "--save_txt",
        default=None,
        metavar="FILE",
        help=f"write the {NEIGHBOURS} nearest images of each query, by the last row of the table, to this file (.npz)",
    )
    args = parser.parse_args()
    return args, parser.changed(args)


def embedders(args: argparse.Namespace) -> Iterator[tuple[int | None, models.Embedder]]:
    """(epoch, Embedder) of all that is to be tested; the frozen backbone, without an epoch, comes first."""
    paths = [path for given in args.resume for path in (checkpoint.all_in(given) if os.path.isdir(given) else [given])]
    if not paths and not args.pretrained:
        raise InputError("nothing to test: give checkpoints with --resume, or --pretrained True for the frozen backbone")
    if args.weights and not args.pretrained:
        raise InputError("--weights is of the frozen backbone: it needs --pretrained True")
    settings = {name: getattr(args, name) for name in models.DEFAULTS}
    trained = [models.load(path, **settings) for path in paths]
    if args.pretrained:
        like: dict[str, Any] = trained[0].settings if trained else models.DEFAULTS
        known = {name: like[name] if value is None else value for name, value in settings.items()}
        yield None, models.create(known.pop("net"), weights=args.weights, **known).eval()
    for path, embedder in zip(paths, trained):
        for name in ("width", "origin_width"):  # all see the same crops
            if embedder.settings[name] != trained[0].settings[name]:
                raise InputError(
                    f"{path}: its --{name} is {embedder.settings[name]}, the first checkpoint's is "
                    f"{trained[0].settings[name]}; test them one by one"
                )
        yield embedder.origin.epoch if embedder.origin else None, embedder


def main() -> None:
    args, changed = parse_args()
    log.start(vars(args), changed, args.log_file)
    compute = device.choose(args.device, args.amp, args.channels_last)
    folder = locate(args.data, args.data_root)
    query = gallery = None
    if not args.select or why_no_test(folder, args.gallery_eq_query) is None:
        query, gallery = read_test(folder, args.gallery_eq_query)
    elif args.save_neighbours:
        raise InputError(f"needs a test list: {why_no_test(folder, args.gallery_eq_query)}", setting="save_neighbours")
    tested = [(epoch, compute.place(embedder)) for epoch, embedder in embedders(args)]
    transforms = tested[0][1].transforms

    def batches(paths: Any) -> ImageBatches:
        workers = count_workers(args.nThreads, len(paths), compute.device.type)
        return ImageBatches(Images(paths, transforms), args.batch_size, workers)

    def fit(to: ImageBatches, embedder: models.Embedder, readout: str = "closed_form") -> None:
        Fitter(to, compute, Group(), readout, args.seed, args.on_bad_image)(embedder)

    training = functools.cache(lambda: read_train(folder).paths)
    tests = [(epoch, embedder, kinds(args, epoch, embedder)) for epoch, embedder in tested]
    if query is not None:
        fit_missing(tests, lambda *what: fit(batches(training()), *what))
    origins = [embedder.origin for _, embedder in tested]
    about: list[dict] = [{"checkpoint": origin.path, **origin.times} if origin else {} for origin in origins]
    if args.select:
        some = [training()[place] for place in evenly(len(training()), SAMPLE).tolist()]
        for entry, scores in zip(about, select(args, tested, batches(some), compute, fit)):
            entry["label_free"] = scores
    if query is None:
        write(args, [(epoch, embedder.kind) for epoch, embedder in tested], about, None)
        return
    tests = [(epoch, embedder, resolved(asked, embedder)) for epoch, embedder, asked in tests]
    rows = [(epoch, kind) for epoch, _, asked in tests for kind in asked]
    results = evaluate(
        [encoder(embedder, asked, compute) for _, embedder, asked in tests],
        query,
        gallery,
        lambda part: batches(part.paths).crops(),
        args.on_bad_image,
        recall_ks(folder),
        args.metrics,
        args.nmi_average,
        args.seed,
        args.features_dir,
        compute.scores,
        neighbours=bool(args.save_neighbours),
        embedded=args.report == "yes",
    )
    neighbours, embedded = ([result.pop(name, None) for result in results][-1] for name in ("neighbours", "embedded"))

    first = results[0]
    log.say(
        f"{first['queries']} queries; left out: {first['without_positive']} without a positive, "
        f"{first['unreadable']} unreadable images" + (f"; NMI: {args.nmi_average} mean" if "nmi" in first else "")
    )
    for (epoch, kind), result in zip(rows, results):
        log.say(result_line(epoch or 0, result, kind))
    log.say(table(rows, results))
    of_rows = [known for known, (_, _, asked) in zip(about, tests) for _ in asked]
    results = [{**result, **known} for result, known in zip(results, of_rows)]
    write(args, rows, results, neighbours)
    if embedded and about[-1].get("checkpoint"):
        shown = [embedded_part(part, *found) for part, found in zip(filter(None, (query, gallery)), embedded)]
        of_run, known = os.path.dirname(about[-1]["checkpoint"]), {"data": os.path.basename(os.path.abspath(folder))}
        tested_here = [{**entry, **known} for entry in entries(rows, results) if of_folder(entry, of_run)]
        report(of_run, shown[0], None if len(shown) == 1 else shown[1], tested_here)


def embedded_part(images: Any, places: Any, features: Any) -> Embedded:
    """What the report shows of a test list: the images at places, int64 (n,), with their features, float32 (n, d)."""
    labels = None if images.labels is None else images.labels[places]
    return Embedded([images.paths[place] for place in places.tolist()], labels, features)


def of_folder(entry: dict, folder: str) -> bool:
    """Whether a result is of a checkpoint in that folder, or of the frozen net."""
    return os.path.dirname(entry.get("checkpoint", "")) in ("", folder)


def select(
    args: argparse.Namespace,
    tested: list[tuple[int | None, models.Embedder]],
    batches: ImageBatches,
    compute: Any,
    fit: Callable,
) -> list[dict[str, float]]:
    """Judge each net without labels, say which to take, and return the scores of each.

    The net before training, which the others are compared with, is the frozen one that is tested, or one like the first.
    batches: of some training images. fit: gives an Embedder a closed form, fitted to these.
    """
    nets = tested
    if tested[0][0] is not None:
        settings = dict(tested[0][1].settings)
        nets = [(None, compute.place(models.create(settings.pop("net"), weights=args.weights, **settings).eval())), *tested]
    before = copy.deepcopy(nets[0][1])
    fit(batches, before)
    scores = judge(
        [encoder(embedder, ["pooled"], compute) for _, embedder in nets],
        encoder(before, ["closed_form"], compute),
        lambda seed: batches.crops(seed, ratio=RATIO),
        len(batches),
        args.on_bad_image,
        args.seed,
    )
    lines = [f"without labels, by {len(batches)} training images:"]
    lines += [f"{'':<28}" + "".join(f"{name:>14}" for name in scores[0])]
    for (epoch, _), found in zip(nets, scores):
        lines.append(f"{name_of(epoch):<28}" + "".join(f"{value:14.4f}" for value in found.values()))
    best = max(range(len(nets)), key=lambda place: scores[place][CHOOSES])
    origin = nets[best][1].origin
    advice = origin.path if origin else "training did not help, take the closed form (train.py --method closed_form)"
    log.say("\n".join([*lines, *[f"by {CHOOSES} the best is {name_of(nets[best][0])}: {advice}"][: len(nets) > 1]]))
    return scores[len(nets) - len(tested) :]


def kinds(args: argparse.Namespace, epoch: int | None, embedder: models.Embedder) -> list[str]:
    """What to test of an Embedder: kinds of `Embedder.read`, and "auto"."""
    if epoch is None or args.pool_feature:  # the frozen backbone's embedding head is a random one
        return ["pooled", *(kind for kind in args.readout or () if kind != "embedding")]
    return args.readout or embedder.kinds


def fit_missing(tests: list[tuple[int | None, models.Embedder, list[str]]], fit: Callable) -> None:
    """Give a closed form to those Embedders that are to be read out by one and have none; says which have one already.

    fit: of an Embedder and a kind of readout.
    """
    for epoch, embedder, asked in tests:
        if embedder.closed_form is None and {"auto", "closed_form"} & set(asked):
            fit(embedder, "auto" if "auto" in asked else "closed_form")
        elif embedder.closed_form is not None and epoch is not None:
            log.say(f"epoch {epoch}: its closed form is the one in the checkpoint")


def resolved(asked: list[str], embedder: models.Embedder) -> list[str]:
    """What was asked for, with what the Embedder chose in place of "auto"; each kind once."""
    chosen = "pooled" if embedder.kind == "embedding" and "pooled" in asked else embedder.kind
    return list(dict.fromkeys(chosen if kind == "auto" else kind for kind in asked))


def entries(rows: list[tuple[int | None, str]], results: list[dict]) -> list[dict]:
    """The results as files have them."""
    return [{"epoch": epoch or 0, **result, "readout": kind} for (epoch, kind), result in zip(rows, results)]


def name_of(epoch: int | None) -> str:
    return "frozen backbone" if epoch is None else f"epoch {epoch}"


def write(args: argparse.Namespace, rows: list[tuple[int | None, str]], results: list[dict], neighbours: Any) -> None:
    """The files that the settings ask for."""
    for path in filter(None, (args.save_json, args.save_neighbours)):
        log.make_folder(os.path.dirname(os.path.abspath(path)))
    if args.save_json:
        with open(args.save_json, "w", encoding="utf-8") as file:  # in place: it may be a device or a link
            json.dump(entries(rows, results), file, indent=1)
    if args.save_neighbours:
        with open(args.save_neighbours, "wb") as opened:
            np.savez(opened, **neighbours)


def table(rows: list[tuple[int | None, str]], results: list[dict]) -> str:
    """The results for people: a row for each readout of each model, in per cent."""
    lines = [f"{'':<28}" + "".join(f"{heading:>8}" for heading in columns(results[0]))]
    for (epoch, kind), result in zip(rows, results):
        name = name_of(epoch) + ROW_ENDS[kind]
        lines.append(f"{name:<28}" + "".join(f"{100 * share:8.2f}" for share in columns(result).values()))
    return "\n".join(lines)


if __name__ == "__main__":
    exit_on_error(main)
