"""The closed form on data sets: what each part of it brings, how few images are enough, whether it carries over to another
set, and whether neighbour agreement, which needs no labels, tells the weights that are good.

    python scripts/closed_form_table.py FOLDER ... [--net EfficientNet-Lite0] [--width 128] [--ae_svc] [--cross]
    python scripts/closed_form_table.py               # prints what is there, and plots it

FOLDER: a data set with train.txt and test.txt. Features of each set are kept below --scratch and results in a JSON file for
each set, net and width; neither is made a second time. Labels are for scores only. Seconds are of the CPU, over all cores.
"""

import argparse
import json
import os
import sys
import time
from functools import cached_property
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import ae_svc

import models
from data.dataset import read_test, read_train
from data.images import Images
from data.views import ImageBatches
from evaluations.retrieval import columns, score
from models.closed_form import ClosedForm, Moments, projection
from models.readout import LAST_WEIGHT, SAMPLE, WEIGHTS, Fitter
from utils import device
from utils.arrays import evenly
from utils.clustering.agreement import neighbour_agreement
from utils.errors import InputError, exit_on_error

DIMS = (512, 1024)
LAST_WEIGHTS = (LAST_WEIGHT, 0, 1)  # that agreement is measured with; the closed form itself has the first
SHARES = (0.3, 0.1, 0.03)  # of the training images
BATCH = 100
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")  # Okabe and Ito 2008
MARKERS = "osD^vP"


# ---- features, once ------------------------------------------------------------------------------------------------------


class Recorder:
    """Stands in for an Embedder's `read`, and keeps the pooled features and descriptions of what passes."""

    def __init__(self, embedder):
        self.read, self.pooled, self.descriptions, self.seconds = embedder.read, [], [], []
        embedder.read = self

    def __call__(self, images, *kinds):
        *asked, pooled, description = self.read(images, *kinds, "pooled", "description")
        self.pooled.append(F.normalize(pooled))
        self.descriptions.append(description)
        self.seconds.append(time.process_time())
        return tuple(asked)


class Frozen:
    """A set as a frozen net sees it: `array(name)` of the training images (pooled; description; crops: the descriptions of
    the sample's random crops, in passes) and of the test images (test_pooled; test_description)."""

    def __init__(self, folder, net, width, scratch):
        self.folder, self.net, self.width = folder, net, width
        self.set = os.path.basename(os.path.abspath(folder))
        self.name = f"{self.set}-{net.replace('/', '-')}-{width}"
        self.cache = Path(scratch) / "features" / self.name

    @cached_property
    def train_labels(self):
        return read_train(self.folder).labels

    @cached_property
    def test_labels(self):
        return self._test_list.labels

    @cached_property
    def _test_list(self):
        query, gallery = read_test(self.folder)
        if gallery is not query:
            raise InputError(f"{self.folder}: has a query.txt and a gallery.txt; this table is of sets with a test.txt")
        return query

    @cached_property
    def meta(self):
        """feature_dim, layers, sample (how many images have random crops), seconds of the centre pass and of all passes."""
        if not (self.cache / "meta.json").exists():
            self._extract()
        return json.loads((self.cache / "meta.json").read_text())

    def array(self, name):
        assert self.meta
        return np.load(self.cache / f"{name}.npy")

    def form(self, dim):
        """A closed form that describes as this set's does; it is not fitted yet."""
        form = ClosedForm(self.meta["feature_dim"], self.meta["layers"], dim)
        for number, buffer in enumerate(form.reduce.buffers()):
            buffer.copy_(torch.from_numpy(self.array(f"reduce_{number}")))
        return form

    def describe_test(self, other):
        """The descriptions of another set's test images, with the channels reduced as this set has it."""
        name = f"test_description_of_{other.set}"
        if not (self.cache / f"{name}.npy").exists():
            embedder = self._embedder()
            embedder.closed_form = self.form(1)
            self._keep(name, self._pass(embedder, other._test_list)[1])
        return np.load(self.cache / f"{name}.npy")

    def _embedder(self):
        embedder = models.create(self.net, DIMS[0], True, width=self.width, origin_width=self.width * 9 // 8).eval()
        return device.choose("cpu").place(embedder)

    def _batches(self, images, embedder):
        return ImageBatches(Images(images.paths, embedder.transforms), BATCH, 0)

    @torch.inference_mode()
    def _pass(self, embedder, images):
        """Pooled features and descriptions of centre crops."""
        recorder = Recorder(embedder)
        for _, batch, bad in self._batches(images, embedder).crops():
            if bad:
                raise InputError(bad[0].message)
            embedder.read(batch)
        return torch.cat(recorder.pooled), torch.cat(recorder.descriptions)

    def _extract(self):
        """Fit as a user does, and keep what the Fitter sees: centre crops of all images, then passes over crops of some."""
        say(f"{self.name}: features")
        embedder, train = self._embedder(), read_train(self.folder)
        recorder, began = Recorder(embedder), time.process_time()
        Fitter(self._batches(train, embedder), device.choose("cpu"))(embedder)
        pooled, descriptions = torch.cat(recorder.pooled), torch.cat(recorder.descriptions)
        count, sizes = len(train), np.array([len(rows) for rows in recorder.pooled])
        centre = recorder.seconds[int(np.searchsorted(sizes.cumsum(), count))] - recorder.seconds[0]
        del embedder.read  # the class's own again
        test_pooled, test_description = self._pass(embedder, self._test_list)
        self._keep("pooled", pooled[:count])
        self._keep("description", descriptions[:count])
        self._keep("crops", descriptions[count:])
        self._keep("test_pooled", test_pooled)
        self._keep("test_description", test_description)
        form = embedder.closed_form
        for number, buffer in enumerate(form.reduce.buffers()):
            self._keep(f"reduce_{number}", buffer)
        meta = {
            "feature_dim": embedder.feature_dim,
            "layers": {name: list(buffer.shape) for name, buffer in zip(form.layers, form.reduce.buffers())},
            "sample": min(count, SAMPLE),
            "weights": form.weights.tolist(),
            "seconds": {"centre": centre * count / (count - sizes[0]), "all": recorder.seconds[-1] - began},
        }
        write(self.cache / "meta.json", json.dumps(meta))

    def _keep(self, name, rows):
        self.cache.mkdir(parents=True, exist_ok=True)
        np.save(self.cache / "part.tmp.npy", rows.cpu().numpy())
        os.replace(self.cache / "part.tmp.npy", self.cache / f"{name}.npy")


# ---- fitting, and the rows -----------------------------------------------------------------------------------------------


class Sight:
    """What a closed form is fitted to: descriptions of centre crops, (n, P), and of each pass over crops of a sample."""

    def __init__(self, frozen, share=1.0):
        """share: of the images; evenly spaced, and from the sample where it is not all of them."""
        began = time.process_time()
        centre, sample = torch.from_numpy(frozen.array("description")), frozen.meta["sample"]
        crops = torch.from_numpy(frozen.array("crops")).unflatten(0, (-1, sample))
        sampled = torch.from_numpy(evenly(len(centre), sample))  # as the Fitter does
        if share < 1:
            count = min(sample, round(share * len(centre)))
            some = torch.from_numpy(evenly(sample, count))
            centre, crops, sampled = centre[sampled[some]], crops[:, some], torch.arange(count)
        self.frozen, self.images, self.views = frozen, len(centre), [centre[sampled], *crops]
        moments = Moments(centre.shape[1])
        for rows in (centre, *crops):
            moments.add(rows)
        self.covariance = moments.total()
        self.seconds = time.process_time() - began

    def forms(self, weights, dtype):
        """dim -> the closed form with these weights of its parts."""
        blank = self.frozen.form(1)
        whole = projection(self.covariance, blank.scales(torch.tensor(weights, dtype=dtype)), max(DIMS))
        forms = {dim: self.frozen.form(dim) for dim in DIMS}
        for dim, form in forms.items():
            form.mean.copy_(self.covariance.mean)
            form.projection.copy_(whole[:, :dim])  # the leading directions are the same for every dim
        return forms

    def agreement(self, form):
        """Of the sample's images, as the Fitter measures it."""
        embedded = [form.project(rows) for rows in self.views]
        return neighbour_agreement(embedded[0], embedded[1:])

    def choose(self, dim):
        """The weights with the highest agreement, and that."""
        found = {}
        for middle in WEIGHTS:
            weights = (1.0, middle, LAST_WEIGHT)
            found[weights] = self.agreement(self.forms(weights, torch.float32)[dim])
        best = max(found, key=lambda weights: found[weights])
        return best, found[best]


class Results:
    """Rows by section and name, in a JSON file."""

    def __init__(self, path, **about):
        self.path, self.found = path, json.loads(path.read_text()) if path.exists() else about

    def row(self, section, name, compute):
        """The row of that name; where there is none it is computed, and written at once."""
        rows = self.found.setdefault(section, {})
        if name not in rows:
            began = time.time()
            rows[name] = compute()
            write(self.path, json.dumps(self.found, indent=1))
            say(f"{self.path.stem}: {section}, {name}: {time.time() - began:.0f} s")
        return rows[name]


def scored(features, labels, metrics=("recall", "map_at_r", "nmi")):
    """Heading -> share."""
    return columns(score([np.ascontiguousarray(features)], [labels], (1, 8), metrics))


def study(frozen, results):
    """All rows of one set, net and width but those of AE-SVC and of other sets."""
    sights = {}

    def sight(share=1.0):
        if share not in sights:
            sights[share] = Sight(frozen, share)
        return sights[share]

    def test(form):
        return form.project(torch.from_numpy(frozen.array("test_description"))).numpy()

    def grid(weights):
        began = time.process_time()
        forms = sight().forms(weights, torch.float32)
        agreement = {dim: sight().agreement(form) for dim, form in forms.items()}
        seconds = time.process_time() - began
        recall = {dim: scored(test(form), frozen.test_labels, ("recall",))["R@1"] for dim, form in forms.items()}
        return {"weights": weights, "seconds": seconds} | {
            str(dim): {"agreement": agreement[dim], "R@1": recall[dim]} for dim in DIMS
        }

    def closed(weights, dim, tried=(), share=1.0):
        began = time.process_time()
        form = sight(share).forms(weights, torch.float64)[dim]
        seconds = time.process_time() - began + sight(share).seconds + sum(tried) + frozen.meta["seconds"]["all"]
        return {"dim": dim, **scored(test(form), frozen.test_labels), "seconds": seconds, "weights": weights}

    def shared(share):
        weights, agreement = sight(share).choose(DIMS[0])
        row = closed(weights, DIMS[0], share=share)
        del row["seconds"]  # the passes are those over all images
        return {"images": sight(share).images, "agreement": agreement, **row}

    def baseline():
        pooled = frozen.array("test_pooled")
        return {"dim": pooled.shape[1], **scored(pooled, frozen.test_labels), "seconds": 0}

    def row(method, dim, compute):
        return results.row("methods", f"{method}, {dim}", lambda: {"method": method, **compute()})

    row("frozen, pooled", "all", baseline)
    for last in LAST_WEIGHTS:
        for middle in WEIGHTS:
            results.row("weights", f"{middle:g}, {last:g}", lambda: grid((1, middle, last)))
    mine = [entry for entry in results.found["weights"].values() if entry["weights"][2] == LAST_WEIGHT]
    for dim in DIMS:
        best = max(mine, key=lambda entry: entry[str(dim)]["agreement"])
        tried = [entry["seconds"] for entry in mine]
        row("first order only", dim, lambda: closed((1, 0, 0), dim))
        row("closed form, weights 1, 1, 0.5", dim, lambda: closed((1, 1, 0.5), dim))
        row("closed form, weight by agreement", dim, lambda: closed(tuple(best["weights"]), dim, tried))
    for share in SHARES:
        results.row("shares", f"{share:g}", lambda: shared(share))


def study_ae_svc(frozen, results):
    """The rows of AE-SVC; nothing without labels, which its search needs."""
    if frozen.train_labels is None:
        return

    def learned(settings, dim):
        began = time.process_time()
        encoder = ae_svc.train(frozen.array("pooled"), dim, settings)
        seconds = time.process_time() - began + frozen.meta["seconds"]["centre"]
        found = scored(ae_svc.encode(encoder, frozen.array("test_pooled")), frozen.test_labels)
        return {"dim": dim, **found, "seconds": seconds, "settings": str(settings)}

    def searched():
        began = time.process_time()
        best, tried = ae_svc.search(frozen.array("pooled"), frozen.train_labels, DIMS[0])
        return {"best": best._asdict(), "R@1 on held-out training classes": tried, "seconds": time.process_time() - began}

    found = results.row("search", str(DIMS[0]), searched)["best"]
    for dim in DIMS:
        for name, settings in (("not searched", ae_svc.Settings()), ("searched", ae_svc.Settings(**found))):
            method = f"AE-SVC, {name}"
            results.row("methods", f"{method}, {dim}", lambda: {"method": method, **learned(settings, dim)})


def across(frozen, other, results):
    """The closed form fitted to one set, tested on another."""
    for dim in DIMS:
        weights = results.found["methods"][f"closed form, weight by agreement, {dim}"]["weights"]

        def compute():
            form = Sight(frozen).forms(weights, torch.float64)[dim]
            embedded = form.project(torch.from_numpy(frozen.describe_test(other))).numpy()
            return {"dim": dim, "weights": weights, **scored(embedded, other.test_labels)}

        results.row("cross", f"{other.set}, {dim}", compute)


# ---- tables --------------------------------------------------------------------------------------------------------------


def table(title, headings, rows):
    """A Markdown table; floats are shares, and shown in per cent."""
    if not rows:
        return
    print(f"\n### {title}\n\n| " + " | ".join(headings) + " |\n|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(f"{100 * cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def print_tables(found, scratch):
    """found: what the JSON files hold. Also plots agreement, and writes its points to agreement.json."""
    metrics = ("R@1", "R@8", "MAP@R", "NMI")
    sets = [(f["set"], f["net"], f["width"], f) for f in found]

    def marks(row):
        return [row.get(metric, "") for metric in metrics]

    for net, width in dict.fromkeys((net, width) for _, net, width, _ in sets):
        rows = [
            [name, row["method"], row["dim"], *marks(row), f"{row['seconds']:.0f}", note(row)]
            for name, n, w, f in sets
            if (n, w) == (net, width)
            for row in f.get("methods", {}).values()
        ]
        headings = ["set", "method", "dim", *metrics, "CPU s", "settings"]
        table(f"{net}, {width} px, held-out classes, in %", headings, rows)
    rows = [
        [name, net, width, dim, ae_svc.Settings(**row["best"]), max(row["R@1 on held-out training classes"].values())]
        for name, net, width, f in sets
        for dim, row in f.get("search", {}).items()
    ]
    headings = ["set", "net", "px", "dim", "best settings", "R@1 on held-out training classes"]
    table("AE-SVC: what the search chose, for both dims", headings, rows)
    rows = []
    for name, net, width, f in sets:
        whole = f.get("methods", {}).get(f"closed form, weight by agreement, {DIMS[0]}")
        if whole and f.get("shares"):
            rows.append([name, net, width, "100 %", f["train_images"], *marks(whole), note(whole)])
            rows += [
                [name, net, width, f"{100 * float(share):g} %", row["images"], *marks(row), note(row)]
                for share, row in f["shares"].items()
            ]
    headings = ["set", "net", "px", "share", "images", *metrics, "weights"]
    table(f"Fitted to a share of the training images, {DIMS[0]} dims", headings, rows)
    rows = []
    for name, net, width, f in sets:
        for key, row in f.get("cross", {}).items():
            other = next(g for n, *at, g in sets if (n, *at) == (key.split(",")[0], net, width))["methods"]
            own = other[f"closed form, weight by agreement, {row['dim']}"]["R@1"]
            rows.append([name, key.split(",")[0], row["dim"], *marks(row), own, other["frozen, pooled, all"]["R@1"]])
    headings = ["fitted to", "tested on", "dim", *metrics, "R@1 fitted to its own", "R@1 frozen"]
    table("Fitted to one set, tested on another", headings, rows)
    print_agreement(sets, scratch)


def note(row):
    """The weights of the parts, or a learned one's settings."""
    return ", ".join(f"{weight:g}" for weight in row["weights"]) if "weights" in row else row.get("settings", "")


def print_agreement(sets, scratch):
    """How well agreement tells the good weights from the bad."""
    points = [
        {"set": name, "net": net, "width": width, "weights": row["weights"], "dim": dim, **row[str(dim)]}
        for name, net, width, f in sets
        for row in f.get("weights", {}).values()
        for dim in DIMS
    ]
    if not points:
        return
    write(scratch / "agreement.json", json.dumps(points, indent=1))
    rows = []
    for name, net, width, _ in sets:
        for dim in DIMS:
            some = [p for p in points if (p["set"], p["net"], p["width"], p["dim"]) == (name, net, width, dim)]
            if some:
                chosen = max((p for p in some if p["weights"][2] == LAST_WEIGHT), key=lambda p: p["agreement"])
                recalls = [p["R@1"] for p in some]
                rows.append([name, net, width, dim, correlation(some), len(some), chosen["R@1"], max(recalls), min(recalls)])
    for dim in DIMS:
        for name in [*dict.fromkeys(p["set"] for p in points), "all"]:
            some = [p for p in points if p["dim"] == dim and name in (p["set"], "all")]
            rows.append([name, "all", "all", dim, correlation(some), len(some), "", "", ""])
    headings = ["set", "net", "px", "dim", "Spearman's rho", "weights", "R@1 of the chosen", "of the best", "of the worst"]
    table("Neighbour agreement against R@1 on held-out classes, over the weights", headings, rows)
    plot([p for p in points if p["dim"] == DIMS[0]], scratch / "agreement.png")


def correlation(points):
    """Spearman's, in words: NaN where one of the two is constant."""
    return f"{spearmanr([p['agreement'] for p in points], [p['R@1'] for p in points]).statistic:.2f}"


def plot(points, path):
    """Agreement and R@1: a marker for each set, a colour for each net and width."""
    try:
        import matplotlib
    except ImportError:
        say("no plot: run pip install matplotlib")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    sets = list(dict.fromkeys(p["set"] for p in points))
    nets = list(dict.fromkeys((p["net"], p["width"]) for p in points))
    for marker, name in zip(cycle(MARKERS), sets):
        for colour, (net, width) in zip(cycle(COLOURS), nets):
            some = [p for p in points if (p["set"], p["net"], p["width"]) == (name, net, width)]
            if some:
                x, y = ([100 * p[key] for p in some] for key in ("agreement", "R@1"))
                axes.scatter(x, y, s=22, marker=marker, color=colour, alpha=0.7, label=f"{name}, {net}, {width} px")
    axes.set_xlabel("neighbour agreement of two random crops, training images without labels (%)")
    axes.set_ylabel("R@1 on held-out classes (%)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=150)
    say(f"plot: {path}")


def write(path, text):
    """The file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    part.write_text(text)
    os.replace(part, path)


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="data sets; without one, what is there is printed")
    parser.add_argument("--net", default="EfficientNet-Lite0")
    parser.add_argument("--width", type=int, default=128, help="side of the crops; images come with 9/8 of it")
    parser.add_argument("--scratch", type=Path, default=Path("results/closed_form"), help="features and results")
    parser.add_argument("--ae_svc", action="store_true", help="also AE-SVC, which takes about as long as all the rest")
    parser.add_argument("--cross", action="store_true", help="also fit to each of the sets and test on the others")
    args = parser.parse_args()
    sets = []
    for folder in args.folders:
        frozen = Frozen(folder, args.net, args.width, args.scratch)
        about = {"set": frozen.set, "net": args.net, "width": args.width, "train_images": len(read_train(folder))}
        results = Results(args.scratch / f"{frozen.name}.json", **about)
        study(frozen, results)
        sets.append((frozen, results))
    for frozen, results in sets:
        if args.ae_svc:
            study_ae_svc(frozen, results)
    for frozen, results in sets:
        for other, _ in sets:
            if args.cross and other is not frozen:
                across(frozen, other, results)
    found = [json.loads(path.read_text()) for path in args.scratch.glob("*.json") if path.name != "agreement.json"]
    print_tables(sorted(found, key=lambda f: (f["width"], f["net"], f["set"])), args.scratch)


if __name__ == "__main__":
    exit_on_error(main)
