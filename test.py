"""Checkpoints -> Recall@K, NMI and other metrics on the classes that training never saw.

    python test.py --data cub --data_root ~/data --resume results/.../ckp_ep600.pth.tar [more checkpoints]
    python test.py --data cub --data_root ~/data --net ResNet50 --pretrained True        # the frozen backbone
    python test.py ... --metrics recall map_at_r nmi --save_json result.json
"""

import json
import os

import models
from data.dataset import locate, read_test, recall_ks
from data.images import Images
from data.transforms import Normalise, Transforms
from data.views import crops_loader, report_bad
from evaluations.features import encoder
from evaluations.retrieval import METRICS, columns, evaluate, result_line
from utils import checkpoint, device, flags, log
from utils.errors import InputError, exit_on_error

# What a checkpoint knows about its model. A flag overrides it; these stand in where neither says it.
MODEL_DEFAULTS = {"net": "Inception", "dim": 512, "width": 227, "origin_width": 256}


def parse_args():
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    flags.add_common(parser)
    add("--resume", "-r", nargs="*", default=[], metavar="CHECKPOINT",
        help="checkpoints, or folders of them, tested in one go")
    add("--pretrained", type=flags.boolean, default=False, help="True: also test the frozen pretrained backbone")
    add("--net", default=None, help="backbone (default: the checkpoint's)")
    add("--dim", "-d", type=flags.positive_int, default=None, help="embedding size (default: the checkpoint's)")
    add("--width", type=flags.side, default=None, help="side of the crop (default: the checkpoint's)")
    add("--origin_width", type=flags.side, default=None, help="shorter side before it (default: the checkpoint's)")
    add("--batch_size", "-b", type=flags.positive_int, default=100, help="images in one forward pass")
    add("--metrics", nargs="+", choices=METRICS, default=("recall", "nmi"), metavar="METRIC",
        help=f"any of {', '.join(METRICS)}; the values come in the order asked for. The last three share a k-means; ami "
             "takes 15 s more for 10,000 classes (default: recall nmi)")
    add("--nmi_average", choices=("arithmetic", "geometric"), default="arithmetic",
        help="mean of the entropies in NMI; geometric gives what old tables used, a little higher")
    add("--save_json", default=None, help="write the results to this file")
    return parser.parse_args()


def load_models(args, compute):
    """The models to test as a list of (epoch, Embedder, on pooled features?); sets args.net, dim, width, origin_width."""
    paths = [path for given in args.resume for path in (checkpoint.all_in(given) if os.path.isdir(given) else [given])]
    if not paths and not args.pretrained:
        raise InputError("nothing to test: give checkpoints with --resume, or --pretrained True for the frozen backbone")
    if args.weights and not args.pretrained:
        raise InputError("--weights is of the frozen backbone: it needs --pretrained True")
    asked = {name: getattr(args, name) for name in MODEL_DEFAULTS}
    tested = []
    for path in paths:
        state = checkpoint.load(path)
        for name, default in MODEL_DEFAULTS.items():
            value = state.get("settings", {}).get(name, default) if asked[name] is None else asked[name]
            if tested and value != getattr(args, name):
                raise InputError(f"{path}: its --{name} is {value}, the first checkpoint's is {getattr(args, name)}; "
                                 "test them one by one")
            setattr(args, name, value)
        model = models.create(args.net, args.dim, pretrained=False, rotation=False, width=args.width)
        unused = models.load_state(model, state["state_dict"], path)
        unused = [key for key in unused if not key.startswith("classifier_rot.")]
        if unused:
            log.say(f"{path}: not used: {', '.join(unused)}")
        tested.append((state["epoch"], compute.place(model).eval(), args.pool_feature))
    if args.pretrained:
        for name, default in MODEL_DEFAULTS.items():
            setattr(args, name, default if getattr(args, name) is None else getattr(args, name))
        frozen = models.create(args.net, args.dim, weights=args.weights, rotation=False, width=args.width)
        tested.insert(0, (0, compute.place(frozen).eval(), True))
    return tested


def main():
    args = parse_args()
    log.start(args, args.log_file)
    compute = device.choose(args.device, args.amp, args.channels_last)
    folder = locate(args.data, args.data_root)
    query, gallery = read_test(folder, args.gallery_eq_query)
    workers = compute.workers(args.nThreads, len(gallery))
    tested = load_models(args, compute)
    transforms = Transforms(args.width, args.origin_width)
    normalise = Normalise(tested[0][1].preprocessing, compute.device, compute.channels_last)

    results = evaluate([encoder(model, normalise, compute, pooled) for _, model, pooled in tested], query, gallery,
                       loader=lambda images: crops_loader(Images(images.paths, transforms), args.batch_size, workers),
                       on_bad=lambda bad: report_bad(bad, args.on_bad_image, log.say),
                       ks=recall_ks(folder), metrics=args.metrics, nmi_average=args.nmi_average, seed=args.seed,
                       features_dir=args.features_dir, device=compute.scores)

    first = results[0]
    log.say(f"{first['queries']} queries; left out: {first['without_positive']} without a positive, "
            f"{first['unreadable']} unreadable images" + (f"; NMI: {args.nmi_average} mean" if "nmi" in first else ""))
    for (epoch, *_), result in zip(tested, results):
        log.say(result_line(epoch, result))
    log.say(table(tested, results))
    if args.save_json:
        log.make_folder(os.path.dirname(os.path.abspath(args.save_json)))
        with open(args.save_json, "w", encoding="utf-8") as file:
            json.dump([{"epoch": epoch, **result} for (epoch, *_), result in zip(tested, results)], file, indent=1)


def table(tested, results):
    """The results for people: a row for each model, in per cent."""
    rows = [f"{'':<18}" + "".join(f"{heading:>8}" for heading in columns(results[0]))]
    for (epoch, *_), result in zip(tested, results):
        name = f"epoch {epoch}" if epoch else "frozen backbone"
        rows.append(f"{name:<18}" + "".join(f"{100 * share:8.2f}" for share in columns(result).values()))
    return "\n".join(rows)


if __name__ == "__main__":
    exit_on_error(main)
