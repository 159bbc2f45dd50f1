"""UDML-SS: learns an embedding from images without labels (Cao, Chen, Lim 2019, arXiv 1911.07072).

    scripts/run_train_test.sh                                  # the built-in demo, trained and tested
    python train.py --data cub --data_root ~/data --save_dir results/cub                   # the paper's CUB settings
    python train.py --data ~/my_photos --net EfficientNet-Lite0 --save_dir results/mine --num_clusters 500

Alternates: every --up_step epochs k-means clusters the training images and the clusters become pseudo-labels; then
P x K batches of them train a metric loss, and rotated copies of some images a rotation classifier.
"""

import time
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import losses
import models
from data.cache import open_images
from data.dataset import has_test, locate, read_test, read_train, recall_ks
from data.sampler import PKSampler
from data.transforms import Normalise, Transforms
from data.views import crops_loader, report_bad, views_loader
from evaluations.features import encoder, extract
from evaluations.retrieval import evaluate, result_line
from losses.orthogonal import orthogonal_penalty
from models.training import Passes
from utils import checkpoint, clustering, device, distributed, flags, health, log
from utils.errors import InputError, RunError, exit_on_error
from utils.interrupt import Stop
from utils.lock import locked
from utils.metrics import Metrics
from utils.progress import bar
from utils.run_state import Position, capture, restore
from utils.seeding import seed_step
from utils.timing import Parts, process_age


def parse_args():
    """The flags; defaults are the paper's settings for CUB."""
    parser = flags.Parser(description=__doc__.split("\n")[0])
    add, boolean, positive, weight = parser.add_argument, flags.boolean, flags.positive_int, flags.weight
    flags.add_common(parser)
    flags.add_crops(parser)
    # model
    add("--net", default="Inception", help=f"backbone: {', '.join(models.names())}")
    add("--pretrained", type=boolean, default=True, help="start from ImageNet weights")
    add("--freeze_BN", type=boolean, default=True, help="keep BatchNorm statistics fixed (only with --pretrained)")
    add("--dim", type=positive, default=512, help="embedding size")
    add("--init", choices=("random", "pca"), default="random", help="pca: the embedding starts at the PCA of the features")
    # pseudo-labels
    add("--num_clusters", type=positive, default=100, help="about the number of kinds you expect, or a few times more")
    add("--up_step", type=positive, default=5, help="epochs between clusterings")
    add("--spherical", type=boolean, default=False, help="k-means with centroids of length 1: clusters by cosine")
    add("--cluster_crops", choices=("centre", "random"), default="centre", help="random: as the original clusters")
    add("--labels", type=boolean, default=False, help="train on the given labels: the supervised upper bound")
    # metric loss
    add("--loss", default="Weight", help=f"metric loss: {', '.join(losses.LOSSES)}")
    add("--batch_size", "-b", type=positive, default=80, help="P x K images a step")
    add("--num_instances", type=positive, default=5, help="K, images of each cluster in a step")
    add("--alpha", type=flags.positive_float, default=40, help="steepness for negative pairs")
    add("--beta", type=flags.positive_float, default=2, help="steepness for positive pairs")
    add("--loss_base", type=float, default=0.5, help="similarity at which a pair weighs half")
    add("--margin", type=float, default=0.1, help="of the pair mining; smaller keeps only harder pairs")
    add("--orth_reg", type=weight, default=0, help="weight of the orthogonal regularisation of the linear layers")
    # rotation loss
    add("--self_supervision_rot", type=weight, default=0.1, help="weight of the rotation loss; 0 turns it off")
    add("--rot_batch", type=flags.natural, default=16, help="images of a step that also come in four rotations")
    add("--rot_bt", type=boolean, default=True, help="1: rotate, then crop each copy by itself; 0: rotate one crop")
    add("--rot_only", type=boolean, default=False, help="train on the rotation loss alone")
    # optimisation
    add("--lr", type=flags.positive_float, default=1e-5, help="of backbone and embedding; 1e-4 for short runs")
    add("--rot_lr", type=flags.positive_float, default=1e-5, help="of the rotation head")
    add("--weight_decay", "--weight-decay", type=weight, default=5e-4)
    add("--epochs", type=positive, default=600, help="an epoch takes K images of every cluster")
    # the run
    add("--save_dir", required=True, help="where checkpoints and metrics.jsonl go")
    add("--micro_batch", type=flags.natural, default=0,
        help="images in the network at once; the same gradient in less memory, for one more forward pass; 0: all")
    add("--save_step", type=positive, default=50, help="epochs between checkpoints; the last epoch always has one")
    add("--save_minutes", type=weight, default=10, help="minutes between writes of latest.pth.tar; 0: only when stopped")
    add("--keep_last", type=flags.natural, default=0, help="checkpoints of epochs to keep, the newest; 0: all")
    add("--eval_step", type=flags.natural, default=0, help="epochs between tests on the held-out classes; 0: none")
    add("--resume", "-r", default="yes", help="a checkpoint to go on from, `yes`: the newest in --save_dir, if any, or `no`")
    add("--override", action="store_true", help="resume with other settings than the checkpoint's")
    add("--print_freq", type=positive, default=20, help="steps between log lines")
    return parser.parse_args()


def make_optimiser(model, args):
    """Adam with a parameter group each for backbone, embedding head and rotation head."""
    return torch.optim.Adam([{"params": model.features.parameters()},
                             {"params": model.classifier.parameters()},
                             {"params": model.classifier_rot.parameters(), "lr": args.rot_lr}],
                            lr=args.lr, weight_decay=args.weight_decay)


def training_features(encode, model, images, crops, args, epoch, group):
    """L2-normalised features (n, d) of the training images, and which of the N images the rows are."""
    model.eval()
    seed = (args.seed, epoch) if args.cluster_crops == "random" else None
    (features,), good, bad = extract([encode], crops(images, seed), len(images), "features", args.features_dir, group)
    report_bad(bad, args.on_bad_image, log.say)
    return features, good


def relabel(features, good, images, args, epoch, last):
    """k-means pseudo-labels int64 (N,), -1 for an unreadable image; `last`: those of before, or None."""
    began = time.perf_counter()
    last = None if last is None or last.max() >= args.num_clusters else last[good]
    clusters = clustering.kmeans(features, args.num_clusters, last, args.seed, args.spherical)
    summary = clustering.describe(clusters, args.num_clusters, last,
                                  None if images.labels is None else images.labels[good])
    log.say(f"epoch {epoch}: clustered {len(good)} images into {args.num_clusters} in "
            f"{time.perf_counter() - began:.1f} s: {summary}")
    health.watch_clusters(clusters.labels, args.num_clusters)
    labels = np.full(len(images), -1)
    labels[good] = clusters.labels
    return labels


def main():
    parts = Parts("start-up", already=process_age() if __name__ == "__main__" else 0)
    stop = Stop()
    args = parse_args()
    log.make_folder(args.save_dir)
    log.start(args, args.log_file)
    compute = device.choose(args.device, args.amp, args.channels_last)
    group = distributed.join(compute.device)
    with nullcontext() if group.rank else locked(args.save_dir), group.watching():
        run(args, parts, stop, compute, group)
    group.leave()


def run(args, parts, stop, compute, group):
    """The whole run of one process. parts: where its time goes. stop: the signals it listens to."""
    rot_batch = args.rot_batch if args.self_supervision_rot else 0
    if args.rot_only and not rot_batch:
        raise InputError("--rot_only needs --self_supervision_rot and --rot_batch above 0: nothing is left to train on")

    # images
    folder = locate(args.data, args.data_root)
    images = read_train(folder)
    workers = compute.workers(args.nThreads, len(images))
    clusters_needed = not args.labels and not args.rot_only
    if args.labels and images.labels is None:
        raise InputError(f"{images.source}: --labels True needs a label on every line")
    if clusters_needed and args.num_clusters > len(images):
        raise InputError(f"--num_clusters {args.num_clusters} is more than the {len(images)} images of {images.source}")
    held_out = read_test(folder, args.gallery_eq_query) if args.eval_step or has_test(folder) else None
    transforms = Transforms(args.width, args.origin_width, args.ratio)
    sampler = PKSampler(args.batch_size, args.num_instances, rot_batch, args.rot_only, args.seed, group.rank, group.size)
    kind = "none" if args.cache == "auto" and group.size > 1 else args.cache  # not once for each process, unless asked to
    with parts("data"), group.first() if kind == "disk" else nullcontext():
        decoded = open_images(images, transforms, kind, args.cache_dir)
    loader = views_loader(decoded, args.rot_bt, sampler, workers, compute.pin_memory)
    train_crops = crops_loader(decoded, args.batch_size, workers, compute.pin_memory, True, group.share(len(images)))

    def crops(part, seed=None):
        made = train_crops if part is images else crops_loader(open_images(part, transforms), args.batch_size, workers,
                                                               share=group.share(len(part)))
        made.sampler.seed = seed
        return parts.over(made, "feature extraction")

    # model, losses, optimiser
    torch.manual_seed(args.seed)
    criterion = losses.create(args.loss, alpha=args.alpha, beta=args.beta, base=args.loss_base, margin=args.margin)
    path, state = checkpoint.find(args.resume, args.save_dir)
    freeze_bn = args.freeze_BN and args.pretrained
    with group.first():
        model = models.create(args.net, args.dim, args.pretrained and state is None,
                              args.weights if state is None else None, freeze_bn, width=args.width)
    model = compute.place(model)
    model.classifier.requires_grad_(not args.rot_only)
    model.classifier_rot.requires_grad_(rot_batch > 0)
    normalise = Normalise(model.preprocessing, compute.device, compute.channels_last)
    optimiser, scaler = make_optimiser(model, args), compute.scaler()

    # labels: the true ones, or clusters that relabel() makes below
    at, window = Position(), ()
    if state is not None:
        at, window = restore(state, path, optimiser, scaler, images, args)
        models.load_state(model, state["state_dict"], path)
        if len(set(group.objects((at.epoch, at.step, at.labelled)))) > 1:
            raise RunError(f"{path}: the processes found different checkpoints; all have to share --save_dir")
    elif args.labels:
        at.labels = np.unique(images.labels, return_inverse=True)[1]
    elif args.rot_only:  # they only set how many images an epoch visits
        at.labels = np.random.default_rng(args.seed).permutation(len(images)) % args.num_clusters
    metrics = Metrics(args.save_dir, at.epoch, at.step, window, writes=group.rank == 0)

    def content():
        if not (at.epoch or at.step or at.labelled):
            return None  # nothing yet that would be lost
        metrics.sync()
        return capture(at, model, optimiser, scaler, metrics.window, images, args)

    saver = checkpoint.Saver(args.save_dir, content, args.save_minutes, args.keep_last, writes=group.rank == 0)
    log.say(f"{len(images)} images of {images.source}; {args.net} on {compute.device} in {compute.amp or torch.float32}, "
            f"BatchNorm {'frozen' if freeze_bn else 'not frozen'}; {group.size} process(es); "
            + (f"epochs {at.epoch + 1} to {args.epochs}" + (f", from step {at.step + 1}" if at.step else "")
               if at.epoch < args.epochs else f"epoch {at.epoch} is already reached"))

    parts.outside("other")
    pooled, embedded = (encoder(model, normalise, compute, pooled) for pooled in (True, False))
    features = None
    if state is None and (clusters_needed or args.init == "pca"):
        features, good = training_features(pooled, model, images, crops, args, 1, group)
        if args.init == "pca" and not group.rank:
            model.start_embedding_at(features)
    passes = Passes(model, normalise, compute, group, args.width, args.micro_batch)
    watch, progress = health.Watch(), bar(desc="training", unit="step")
    with stop.deferred(), saver.rescue(), group.watching():
        for epoch in range(at.epoch + 1, args.epochs + 1):
            if clusters_needed and (epoch - 1) % args.up_step == 0 and at.labelled < epoch:
                with stop.at_once():
                    if at.labels is not None:  # the first clustering is of pooled features, the later ones are of embeddings
                        features, good = training_features(embedded, model, images, crops, args, epoch, group)
                    with parts("clustering"):
                        labels = None if group.rank else relabel(features, good, images, args, epoch, at.labels)
                        labels = group.broadcast(labels, len(images))
                at.labels, at.labelled = labels, epoch
            features = None  # as large as the set
            sampler.set_labels(at.labels, epoch, at.step)
            progress.total = progress.n + (args.epochs - epoch + 1) * len(sampler) - at.step
            model.train()

            asked = time.perf_counter()
            for step, batch in enumerate(parts.over(loader, "forward/backward"), at.step + 1):
                arrived, where = time.perf_counter(), f"epoch {epoch} step {step}"
                total, bad, stopping = group.total(len(batch.images), len(batch.bad), bool(stop.signal))
                stop.check(stopping)
                if bad:
                    report_bad(sum(group.objects(batch.bad), []), args.on_bad_image, log.say)
                if not total:
                    at.step = step
                    continue
                seed_step(args.seed, epoch, step, group.rank)
                embeddings, logits = map(group.gather, passes.forward(batch.images, len(batch.labels), batch.rotation_index))
                labels, turns = (group.gather(x.to(compute.device)) for x in (batch.labels, batch.rotation_labels))
                loss, measured = 0 * (embeddings.sum() + logits.sum()), {}  # a gradient for both heads, in every process
                if len(embeddings):
                    pairs = criterion(embeddings, labels)
                    loss = loss + pairs.loss
                    measured.update(loss=pairs.loss, positive=pairs.positive, negative=pairs.negative)
                if len(logits):
                    rotation_loss = cross_entropy(logits, turns)
                    loss = loss + args.self_supervision_rot * rotation_loss
                    measured.update(rotation_loss=rotation_loss,
                                    rotation_accuracy=(logits.argmax(1) == turns).float().mean())
                if args.orth_reg:
                    loss = loss + args.orth_reg * orthogonal_penalty(model)

                optimiser.zero_grad(set_to_none=True)
                passes.backward(scaler.scale(loss))
                scaler.step(optimiser)
                scaler.update()

                lowest = pairs.lowest if len(embeddings) else loss.new_zeros(())
                values = torch.stack([loss.detach(), lowest, *(value.detach() for value in measured.values())]).tolist()
                watch.step(where, *values[:2])
                at.step = step
                metrics.window.append({**dict(zip(measured, values[2:])), "images": total, "waited": arrived - asked,
                                       "seconds": time.perf_counter() - asked})
                progress.update()
                if len(metrics.window) >= args.print_freq:
                    metrics.report(epoch, args.epochs, step)
                with parts("checkpoints"):
                    saver.after_step()
                asked = time.perf_counter()

            if args.eval_step and epoch % args.eval_step == 0:
                model.eval()
                with stop.at_once(), parts("evaluation"):
                    result, = evaluate([pooled if args.pool_feature else embedded], *held_out, loader=crops,
                                       on_bad=lambda bad: report_bad(bad, args.on_bad_image, log.say),
                                       ks=recall_ks(folder), seed=args.seed, features_dir=args.features_dir,
                                       device=compute.scores, group=group)
                if result:
                    log.say(result_line(epoch, result))
                    metrics.write(epoch, test=result)
            at.epoch, at.step = epoch, 0
            if epoch % args.save_step == 0 or epoch == args.epochs:
                metrics.report(epoch, args.epochs, len(sampler))
                with parts("checkpoints"):
                    saver.epoch(epoch)
    progress.close()
    log.say(parts.summary())
    log.say(f"done: the checkpoints are in {args.save_dir}")


if __name__ == "__main__":
    exit_on_error(main)
