"""Learns an embedding from images without labels.

    scripts/run_train_test.sh                                  # the built-in demo, trained and tested
    python train.py --data cub --data_root ~/data --save_dir results/cub                   # the paper's CUB settings
    python train.py --data ~/my_photos --net EfficientNet-Lite0 --save_dir results/mine --num_clusters 500

Training alternates: the method looks at all images and decides which belong together, then it learns from batches of them.
`python train.py --method NAME --help` has the flags of a method.
"""

import argparse
from collections.abc import Callable

import torch

import models
from data.dataset import locate, read_test, read_train, recall_ks, why_no_test
from data.transforms import Transforms
from data.views import ImageBatches, Loading
from evaluations.report import SHOWN, Embedded, finish
from evaluations.retrieval import extract_lists, result_line, score_lists
from models import cut, engine, methods
from models.activations import below_cut
from models.readout import Fitter
from utils import flags
from utils.arrays import evenly
from utils.errors import exit_on_error
from utils.features import encoder, extract
from utils.rehearsal import rehearse, rehearsed
from utils.run import Run


def parse_args() -> tuple[argparse.Namespace, dict[str, object]]:
    """Return all settings, and the settings that differ from their defaults."""
    first = flags.Parser(add_help=False, allow_abbrev=False)
    flags.add_method(first, methods.names())
    name = flags.method_of(first.parse_known_args()[0])
    parser = flags.Parser(description=__doc__.split("\n")[0], parents=[first])
    methods.add_flags(name, parser)
    args = parser.parse_args()
    flags.settle_method(args, name, parser)
    return args, parser.changed(args)


def main() -> None:
    args, changed = parse_args()
    with rehearsed(args), Run(args, changed) as run:
        # images, decoded and cropped when they are needed
        images = read_train(folder := locate(args.data, args.data_root))
        crops = Transforms(args.width, args.origin_width, args.ratio)
        loading = Loading(crops, args.batch_size, args.nThreads, run.compute, run.group)
        with run.clock("data"):
            batches = loading.load(images, args.cache)
        test = make_test(folder, args, run, loading) if args.eval_step else None

        # the net and the method
        pretrained, weights = (False, None) if run.resumes else (args.pretrained, args.weights)
        freeze_bn = args.freeze_BN and args.pretrained
        with run.group.first_before_others():  # it may download weights
            embedder = models.create(args.net, args.dim, pretrained, weights, freeze_bn, args.width, args.origin_width)
        cut.train_from(embedder, args.train_from)
        method = run.compute.place(methods.create(args.method, embedder, images, args))
        inputs = below_cut(batches, embedder, run.compute, args.features_dir or args.save_dir, args.views, args.seed)
        groups = method.param_groups()
        optimiser = torch.optim.Adam(groups, lr=args.lr, weight_decay=args.weight_decay) if groups else None
        fit_readout = Fitter(batches, run.compute, run.group, args.readout, args.seed, args.on_bad_image)
        run.resume(method, optimiser, images)
        if args.dry_run:
            return rehearse(run, method, optimiser, batches, inputs, fit_readout, test)

        if optimiser and not run.resumes:
            with run.clock("untrained net"):
                method.trained().agreement_before = fit_readout.agreements(method.trained())
        for epoch in run.epochs():
            # 1. look at every image: which belong together?
            if look := run.due(method.looks, epoch):
                engine.use_for(look, method.trained(), inputs, run.compute, run.group)
                run.prepare(method, *run.extract(method, look, inputs, fit_readout))

            # 2. learn from batches of it
            for batch in run.batches(method.draws(epoch), inputs):
                out, batch = run.forward(method, batch)  # out, batch: the rows of all processes
                loss, shown = method.loss(out, batch)
                run.backward(loss, optimiser)
                with torch.no_grad():
                    method.after_step(out, batch)
                run.note(loss, shown)

            # 3. test and save, when due
            run.end_epoch(epoch, method, test, fit_readout)
        untested = why_no_test(folder, args.gallery_eq_query) is not None  # else test.py shows the test images
        report = args.report == "yes" and run.epoch > 0  # epoch 0: the run was complete before, and its page stays
        embedded = embed_some(method.trained(), batches, run) if args.tensorboard or report and untested else None
    finish(args.save_dir, embedded, report and run.group.rank == 0, args.tensorboard)


def make_test(folder: str, args: argparse.Namespace, run: Run, loading: Loading) -> Callable:
    """Return a function test(embedder, epoch), which scores the Embedder on the test classes."""
    lists, ks = read_test(folder, args.gallery_eq_query), recall_ks(folder)

    def test(embedder: models.Embedder, epoch: int) -> tuple[str, dict] | None:
        readouts = ["pooled"] if args.pool_feature else embedder.kinds
        crops = lambda images: run.clock.over(loading.load(images).crops(), "feature extraction")
        engine.use(embedder, run.compute, sum(map(len, dict.fromkeys(lists))), run.group)
        encoders = [encoder(embedder, readouts, run.compute)]
        extracted = extract_lists(encoders, lists, crops, args.on_bad_image, args.features_dir, run.group)
        results = score_lists(extracted, ks, seed=args.seed, device=run.compute.scores)
        line = "\n".join(result_line(epoch, *scored) for scored in zip(results, readouts))
        return (line, {**results[0], **dict(zip(readouts[1:], results[1:]))}) if line else None

    return test


def embed_some(embedder: models.Embedder, batches: ImageBatches, run: Run) -> Embedded | None:
    """Embed at most SHOWN evenly spaced training images. The report shows them where there are no test images."""
    sample = evenly(len(batches), SHOWN).tolist()
    encode = encoder(embedder.eval(), [embedder.kind], run.compute)
    with run.stop.at_once(), run.clock("report"):
        (rows,), places, _ = extract([encode], batches.crops(None, sample), len(sample), "report", group=run.group)
    return Embedded([batches.images.paths[place] for place in places.tolist()], None, rows) if run.group.rank == 0 else None


if __name__ == "__main__":
    exit_on_error(main)
