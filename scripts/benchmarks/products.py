"""Runs training and tests on a made set with the counts of Stanford Online Products, and says where time and memory go.

python scripts/benchmarks/products.py FOLDER [--width 64] [--methods shared_neighbours udml_ss] [--of 1]

The set has 11,318 classes of 59,551 images to train and 11,316 classes of 60,502 images to test: small JPEGs of invented
creatures, so the scores say nothing about products. udml_ss makes one epoch with 10,000 clusters, shared_neighbours its 20
epochs. FOLDER keeps the images and what was measured; the same command goes on where it was stopped. --of 100 makes a
hundredth of the set, to try the script.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench import heading, parser, set_threads, table
from data.creatures import recipe, snapshot

ROOT = Path(__file__).parents[2]
SPLITS = {"train": (11_318, 59_551), "test": (11_316, 60_502)}  # classes, images
CLUSTERS = 10_000
PART = re.compile(r"^  (\S.*?) +([\d.]+) s +[\d.]+%", re.MULTILINE)  # a line of the log's "time by part"


def sizes(classes, images, rng):
    """Return how many images each class has, int64 (classes,): 2 at least, `images` in all, as unequal as products'."""
    return 2 + rng.multinomial(images - 2 * classes, rng.dirichlet(np.full(classes, 3.0)))


def draw(folder, of):
    """Draw the images that are missing, and write train.txt and test.txt."""
    for split, (name, counts) in enumerate(SPLITS.items()):
        classes, images = (count // of for count in counts)
        lines, bar = [], tqdm(total=images, desc=f"drawing {name}", unit="img", disable=None, leave=False)
        for number, size in enumerate(sizes(classes, images, np.random.default_rng([0, split]))):
            place = folder / name / f"{number // 100:03d}"
            place.mkdir(parents=True, exist_ok=True)
            for i in range(size):
                path = place / f"{number:05d}-{i:03d}.jpg"
                lines.append(f"{path.relative_to(folder)} {split * SPLITS['train'][0] + number}\n")
                if not path.exists():
                    image = snapshot(recipe(0, split, number), np.random.default_rng([0, split, number, i]))
                    image.save(path.with_suffix(".part"), "JPEG", quality=70)
                    os.replace(path.with_suffix(".part"), path)
                bar.update()
        bar.close()
        (folder / f"{name}.txt").write_text("".join(lines))


def run(command, log):
    """Run a command. Returns its wall seconds, core seconds and peak memory in MB, mapped files included."""
    began = time.perf_counter()
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed; see {log}")
    return {
        "seconds": time.perf_counter() - began,
        "core_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss * 1024 / 1e6,
        "parts": [(name, float(seconds)) for name, seconds in PART.findall(Path(log).read_text())],
    }


def commands(folder, method, width, of):
    """Yield (name, command) for training by a method, and for testing its last checkpoint."""
    crops = f"--net EfficientNet-Lite0 --width {width} --origin_width {width * 9 // 8}".split()
    net = ["--data", str(folder), *crops]
    own = {
        "udml_ss": ["--num_clusters", str(CLUSTERS // of), "--epochs", "1", "--init", "pca", "--lr", "1e-4"],
        "shared_neighbours": ["--epochs", "20", "--lr", "3e-4", "--readout", "closed_form"],
    }[method]
    saved = str(folder / method)
    train = ["train.py", "--method", method, *net, *own, "--pretrained", "True", "--save_dir", saved, "--report", "no"]
    yield f"{method}: train.py", train
    yield f"{method}: test.py", ["test.py", *net, "--resume", saved, "--metrics", "recall", "map_at_r", "nmi"]


def main():
    flags = parser(__doc__)
    flags.add_argument("folder", type=Path)
    flags.add_argument("--width", type=int, default=64)
    flags.add_argument("--methods", nargs="+", default=["shared_neighbours", "udml_ss"])
    flags.add_argument("--of", type=int, default=1, help="make only this part of the set")
    args = flags.parse_args()
    set_threads(args.threads)
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder, args.of)
    kept = folder / "measured.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    for method in args.methods:
        for name, command in commands(folder, method, args.width, args.of):
            if name not in measured:
                measured[name] = run(command, folder / f"{name.replace(': ', '-')}.log")
                kept.write_text(json.dumps(measured, indent=1))
    heading(f"A set as large as Stanford Online Products, EfficientNet-Lite0, {args.width} pixels")
    longest = lambda parts: ", ".join(f"{part} {seconds / 60:.1f}" for part, seconds in parts if seconds > 6)
    rows = [
        (name, m["seconds"] / 60, m["core_seconds"] / 60, m["peak_mb"], longest(m["parts"])) for name, m in measured.items()
    ]
    table(["", "minutes", "core minutes", "peak memory, MB", "minutes by part"], rows)
    for log in sorted(folder.glob("*-test.py.log")):
        print(log.name, *(line for line in log.read_text().splitlines() if line.startswith("Epoch-")), sep="\n    ")


if __name__ == "__main__":
    main()
