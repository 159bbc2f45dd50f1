"""Finds planted copies among synthetic prints and embeddings: seconds, memory, recall, beside the exact search.

python scripts/benchmarks/duplicates.py [--sizes 10000 100000 1000000] [--exact_up_to 100000] [--turned_up_to 100000]

One row in a hundred is a copy of another. A copied print lacks 5 % of the picture at each side, and has noise of one grey
level. A copied embedding has a cosine of about 0.95. Recall: the share of copies whose group is just the copy and its
original. Inverted files are also compared with exact search: for 2,000 sampled prints, by the share of exact search's
candidates that the inverted file also finds; for embeddings, by the recall@10 that the index measured when it was built.
"""

import numpy as np

from bench import embeddings, heading, measure, parser, set_threads, table
from gallery.candidates import EXACT, candidates
from gallery.duplicates import alike, near
from gallery.index import build, exact_neighbours
from gallery.thumbprints import SIDE

COPIES = 100  # one row in this many is a copy
CROP = 0.05
STEEPNESS = 1.1  # amplitude ~ frequency^-1.1 gives as many candidate pairs as photos do (CUB100)
THRESHOLD = 0.9  # least similarity of look-alikes
SAMPLE = 2_000
ROWS_AT_ONCE = 10_000


def planted(n):
    """Return the rows of the originals and of their copies."""
    copies = np.arange(n - n // COPIES, n)
    return copies - n // 2, copies


def made_prints(n, seed=0):
    """Make random pictures with the spectrum of photos, the last n // COPIES cropped from others: uint8 (n, SIDE, SIDE)."""
    originals, copies = planted(n)
    prints = np.empty((n, SIDE, SIDE), np.uint8)
    for begin in range(0, n, ROWS_AT_ONCE):
        rows = np.arange(begin, min(begin + ROWS_AT_ONCE, n))
        prints[rows] = _pictures(rows, 0, seed)
    for begin in range(0, len(copies), ROWS_AT_ONCE):
        rows, sources = copies[begin : begin + ROWS_AT_ONCE], originals[begin : begin + ROWS_AT_ONCE]
        noise = np.random.default_rng((seed, 1, rows[0])).standard_normal((len(rows), SIDE, SIDE))
        prints[rows] = (_pictures(sources, CROP, seed) + noise).clip(0, 255)
    return prints


def _pictures(rows, crop, seed):
    """Draw each row's picture, without the share `crop` at each edge, as random cosines: float32 (m, SIDE, SIDE)."""
    frequency = np.hypot(*np.mgrid[:SIDE, :SIDE])
    frequency[0, 0] = np.inf
    size = (frequency**-STEEPNESS).astype(np.float32)
    waves = np.stack([np.random.default_rng((seed, row)).standard_normal((SIDE, SIDE), np.float32) for row in rows]) * size
    along = (np.arange(SIDE) + 0.5) / SIDE * (1 - 2 * crop) + crop
    cosines = np.cos(np.pi * along[:, None] * np.arange(SIDE)).astype(np.float32)
    pictures = cosines @ waves @ cosines.T
    return (128 + 60 * pictures / np.sqrt((waves**2).sum((1, 2), keepdims=True) / 4)).clip(0, 255)


def made_embeddings(n, dim, seed=0):
    """Make embeddings: float32 (n, dim), rows of length 1. The last n // COPIES are near others."""
    # Clustered, because an inverted file needs clusters in order to work well.
    x, _ = embeddings(n, dim, classes=max(2, n // 100), noise=0.05, seed=seed)
    originals, copies = planted(n)
    noise = np.random.default_rng((seed, 2)).standard_normal((len(copies), dim), np.float32)
    moved = x[originals] + noise / np.linalg.norm(noise, axis=1, keepdims=True) / 3  # cosine: 1 / sqrt(1 + 1/9) = 0.949
    x[copies] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return x


def recall(groups, n):
    """Return the share of copies whose group is just the copy and its original, and the number of other groups."""
    pairs = {tuple(pair) for pair in np.stack(planted(n), 1).tolist()}
    right = sum(tuple(group.rows) in pairs for group in groups)
    return right / len(pairs), len(groups) - right


def near_rows(sizes, exact_up_to, turned_up_to):
    for n in sizes:
        prints = made_prints(n)
        sample = np.sort(np.random.default_rng(1).choice(n, min(n, SAMPLE), replace=False))
        for turned in (False, True)[: 1 + (n <= turned_up_to)]:
            took = measure(lambda: near(prints, turned=turned))
            exact, kept = "", ""
            if not turned:
                if n <= exact_up_to:
                    exact = measure(lambda: candidates(prints, exact_up_to=n)).seconds
                if n > EXACT:
                    exact_pairs, pairs = (set(zip(*candidates(prints, queries=sample, exact_up_to=most))) for most in (n, 0))
                    kept = len(exact_pairs & pairs) / max(1, len(exact_pairs))
            yield (
                n,
                "turned too" if turned else "upright",
                took.seconds,
                took.peak_mb,
                *recall(took.result.copies, n),
                exact,
                kept,
            )


def alike_rows(sizes, dim, exact_up_to):
    for n in sizes:
        x = made_embeddings(n, dim)
        index = measure(lambda: build(x))
        took = measure(lambda: alike(x, index.result.search, THRESHOLD))
        exact = measure(lambda: exact_neighbours(x, x, 33)).seconds if n <= exact_up_to else ""
        at_10 = index.result.about.get("recall", 1.0)
        yield n, index.seconds, took.seconds, took.peak_mb, *recall(took.result, n), exact, at_10


def main():
    flags = parser(__doc__)
    flags.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    flags.add_argument("--dim", type=int, default=256, help="numbers in an embedding")
    flags.add_argument("--exact_up_to", type=int, default=100_000, help="largest size for which exact search is timed too")
    flags.add_argument("--turned_up_to", type=int, default=100_000, help="largest size for which turned copies count too")
    args = flags.parse_args()
    set_threads(args.threads)
    heading("Duplicates")

    print("Copies (gallery.duplicates.near), by prints.\n")
    columns = ["", "s", "MB above the prints", "recall", "other groups", "exact search, s", "share of its candidates"]
    table(["prints", *columns], near_rows(args.sizes, args.exact_up_to, args.turned_up_to))
    print(f"Look-alikes (gallery.duplicates.alike), by embeddings of {args.dim} dimensions, threshold {THRESHOLD}.\n")
    columns = ["index, s", "s", "MB above both", "recall", "other groups", "exact search, s", "recall@10"]
    table(["embeddings", *columns], alike_rows(args.sizes, args.dim, args.exact_up_to))


if __name__ == "__main__":
    main()
