"""Measures how often search says that nothing in a gallery is like a picture, for lists of pictures.

python scripts/benchmarks/unlike.py GALLERY LIST [LIST ...]       # a gallery of embed.py; files with one path a line

Each row is a rule: for a share of the gallery's own images it would hold too (FAR in gallery/scale.py). The first rows look
at the nearest image alone, the others also at the mean of the ten nearest, as `Scale.nothing_like` does.
"""

import os

import numpy as np

import bench  # finds the project
from gallery import scale
from gallery.model import of_gallery
from gallery.search import open_gallery

SHARES = (0.01, 0.02, 0.03, 0.05)


def nearest_of(gallery, model, file):
    """Return the ten highest similarities of each picture in a list, best first: (n, 10)."""
    with open(file) as lines:
        pictures = model.embed(lines.read().split("\n")[:-1])
    return -np.sort(-(pictures @ np.asarray(gallery.embeddings, np.float32).T), axis=1)[:, : scale.TEN]


def main():
    flags = bench.parser(__doc__)
    flags.add_argument("gallery", metavar="GALLERY")
    flags.add_argument("lists", nargs="+", metavar="LIST")
    args = flags.parse_args()
    bench.set_threads(args.threads)
    gallery, index = open_gallery(args.gallery)
    model, own = of_gallery(gallery), index.neighbours.similarities[:, : scale.TEN]
    asked = [nearest_of(gallery, model, file) for file in args.lists]
    rows = []
    for share in SHARES:
        limit = np.quantile(own[:, 0], share)
        rows.append([f"nearest, {share:.0%}", *(f"{(near[:, 0] < limit).mean():.1%}" for near in asked)])
    for share in SHARES:
        scale.FAR = share
        usual, far = scale.limits(index.neighbours)
        said = [[scale.Scale(np.empty(0), usual, far).nothing_like(one) for one in near] for near in asked]
        rows.append([f"ten nearest, {share:.0%}", *(f"{np.mean(of_list):.1%}" for of_list in said)])
    bench.heading("Pictures that nothing in the gallery is like")
    print(f"{len(gallery):,} images, {model.kind}. Pictures: {', '.join(str(len(near)) for near in asked)}.\n")
    bench.table(["rule", *(os.path.basename(file) for file in args.lists)], rows)


if __name__ == "__main__":
    main()
