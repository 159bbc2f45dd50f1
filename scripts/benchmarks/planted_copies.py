"""Measures how well copies are found: plants copies of images of a folder among all its images, and looks for duplicates.

python scripts/benchmarks/planted_copies.py --images FOLDER [--each 300] [--threshold 0.85] [--sheet FILE.png]
    [--scenes 500]

Then it plants scenes: two shots of a picture in which something moved, which are a burst and no copies; and copies with a
caption or other tones (scenes.py). For these it shows how many pairs are found as copies and as scenes.

Each image is copied in one way at most. Recall: the share of copies that share a group with their original. Precision: the
share of such pairs among all pairs of a copy and another image in its group. Pairs that share a group without any planted
copies are the folder's own duplicates. They do not count here; --sheet shows them.
"""

import io
import os
import time
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from bench import heading, parser, set_threads, table
from data.images import decode
from gallery.duplicates import COPY, near
from gallery.thumbprints import thumbprint
from scenes import ALTERED, CHANGES, SIDES, scene, shots

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
DECODED = 144  # pixels of the shorter side, as embed.py decodes


def resized(image, share):
    return image.resize([max(1, round(share * side)) for side in image.size], Image.Resampling.BICUBIC)


def cropped(image, left, top, right, bottom):
    """Crop these shares off the image's sides."""
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height)))


def turned(image, how):
    return image.transpose(Image.Transpose[how])


MIDDLE, CORNER, HARD = (0.025,) * 4, (0.05, 0.05, 0, 0), (0.05,) * 4
WAYS: dict[str, Any] = {  # name -> the copy, the quality of its JPEG
    "resized to 50 %": (lambda image: resized(image, 0.5), 90),
    "resized to 70 %": (lambda image: resized(image, 0.7), 90),
    "JPEG quality 30": (lambda image: image, 30),
    "resized to 50 %, quality 30": (lambda image: resized(image, 0.5), 30),
    "cropped by 5 %, 2.5 % at each side": (lambda image: cropped(image, *MIDDLE), 90),
    "cropped by 5 % at the left and the top": (lambda image: cropped(image, *CORNER), 90),
    "cropped by 5 % at each side": (lambda image: cropped(image, *HARD), 90),
    "cropped by 5 %, resized to 50 %, quality 30": (lambda image: resized(cropped(image, *MIDDLE), 0.5), 30),
    "mirrored": (lambda image: turned(image, "FLIP_LEFT_RIGHT"), 90),
    "turned by 90 degrees": (lambda image: turned(image, "ROTATE_90"), 90),
    "turned by 180 degrees": (lambda image: turned(image, "ROTATE_180"), 90),
    "turned by 270 degrees": (lambda image: turned(image, "ROTATE_270"), 90),
    "mirrored, turned by 90 degrees": (lambda image: turned(image, "TRANSPOSE"), 90),
    "turned by 90 degrees, cropped by 5 %, quality 30": (lambda image: turned(cropped(image, *MIDDLE), "ROTATE_90"), 30),
}


def images_below(folder):
    paths = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    return sorted(path for path in paths if path.lower().endswith(ENDINGS))


def opened(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def print_of(image, quality=90):
    """Return the thumbprint of a picture, saved as a JPEG file in memory."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    file.seek(0)
    return thumbprint(decode(file, DECODED))


def print_of_copy(path, way):
    change, quality = WAYS[way]
    return print_of(change(opened(path)), quality)


def group_of(groups, count):
    """Return the group number of each row; -1 - row for a row without a group."""
    numbers = -1 - np.arange(count)
    for number, group in enumerate(groups):
        numbers[group.rows] = number
    return numbers


def evaluate(own, groups, originals, count):
    """Yield for each copy: whether its original is in its group, and the number of wrong images in its group."""
    before, after = group_of(own, count), group_of(groups, count + len(originals))
    stands_for = np.concatenate([np.arange(count), originals])
    partners = {number: np.asarray(group.rows) for number, group in enumerate(groups)}
    for copy, original in enumerate(originals.tolist(), start=count):
        others = partners.get(after[copy], np.empty(0, np.int64))
        others = others[others != copy]
        wrong = before[stands_for[others]] != before[original]
        yield bool((others == original).any()), int(wrong.sum())


def report(title, own, groups, originals, ways, count):
    rows, results = [], np.array(list(evaluate(own, groups, originals, count)))
    for name in WAYS:
        chosen = ways == name
        if chosen.any():
            right, wrong = results[chosen].sum(0).tolist()
            rows.append(
                (name, int(chosen.sum()), right, f"{right / chosen.sum():.4f}", f"{right / max(1, right + wrong):.4f}")
            )
    right, wrong = results.sum(0).tolist()
    rows.append(("all", len(ways), right, f"{right / len(ways):.4f}", f"{right / max(1, right + wrong):.4f}"))
    print(f"{title}\n")
    table(["copies", "planted", "found", "recall", "precision"], rows)


def found_as(pairs, threshold):
    """Return the shares of pairs of prints, uint8 (n, 2, SIDE, SIDE), that are found as copies, and as scenes."""
    count = len(pairs)
    copies, scenes = near(np.concatenate([pairs[:, 0], pairs[:, 1]]), threshold=threshold)
    numbers = group_of(copies, 2 * count)
    as_scenes = {(min(pair), max(pair)) for pair in zip(scenes.first.tolist(), scenes.second.tolist())}
    return (numbers[:count] == numbers[count:]).mean(), np.mean([(row, row + count) in as_scenes for row in range(count)])


def scenes_report(files, threshold, rng):
    """Print how pairs of shots, and pairs of a picture and an altered copy, are found."""
    images = [opened(path) for path in files]
    others = images[1:] + images[:1]
    prints_of = lambda pairs: np.array([[print_of(each) for each in pair] for pair in pairs])
    rows, sides = [], (f"{100 * side:g} %" for side in SIDES)
    for name in CHANGES:
        pairs = ((scene(name, image, other, side, rng) for image, other in zip(images, others)) for side in SIDES)
        shares = [found_as(prints_of(of_side), threshold) for of_side in pairs]
        rows.append((name, *(f"{100 * as_copies:.1f}, {100 * as_scenes:.1f}" for as_copies, as_scenes in shares)))
    print(f"scenes, {len(files)} of each: per cent found as copies, and as scenes, by the side of what changes\n")
    table(["what changes", *sides], rows)
    ways = {"two shots, nothing moved": lambda image: shots(image, image, rng)}
    ways |= {name: lambda image, alter=alter: (image, alter(image)) for name, alter in ALTERED.items()}
    rows = []
    for name, pair_of in ways.items():
        shares = found_as(prints_of(pair_of(image) for image in images), threshold)
        rows.append((name, *(f"{100 * share:.1f}" for share in shares)))
    print(f"altered copies, {len(files)} of each\n")
    table(["what is altered", "found as copies, %", "found as scenes, %"], rows)


def sheet(path, groups, files, most=40):
    """Save a picture of the last `most` groups, one group a line, with their similarity."""
    side = 120
    groups = groups[-most:]
    width = max([len(group.rows) for group in groups], default=1)
    page = Image.new("RGB", (width * side + 60, max(1, len(groups)) * side), "white")
    for line, group in enumerate(groups):
        ImageDraw.Draw(page).text((4, line * side + 50), f"{group.similarity:.3f}", fill="black")
        for place, row in enumerate(group.rows):
            with Image.open(files[row]) as image:
                page.paste(image.convert("RGB").resize((side - 4, side - 4)), (60 + place * side, line * side))
    page.save(path)


def main():
    flags = parser(__doc__)
    flags.add_argument("--images", required=True, help="a folder; the images below it are only read")
    flags.add_argument("--each", type=int, default=300, help="copies made in each way, at most, all of different images")
    flags.add_argument("--scenes", type=int, default=500, help="scenes of each sort and size, all of different images")
    flags.add_argument("--threshold", type=float, default=COPY)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--sheet", help="a file for a picture of the folder's own duplicates, the least similar last")
    args = flags.parse_args()
    set_threads(args.threads)
    heading("Planted copies")

    files = images_below(args.images)
    began = time.perf_counter()
    decoded = [decode(path, DECODED) for path in files]
    decoding = time.perf_counter() - began
    began = time.perf_counter()
    prints = np.stack([thumbprint(image) for image in decoded])
    printing = time.perf_counter() - began
    each = min(args.each, len(files) // len(WAYS))
    order = np.random.default_rng(args.seed).permutation(len(files))
    originals, ways = order[: each * len(WAYS)], np.repeat(list(WAYS), each)
    copies = np.stack([print_of_copy(files[row], way) for row, way in zip(originals, ways)])
    print(
        f"{len(files):,} images, {len(copies):,} copies, threshold {args.threshold}; an image took "
        f"{1e3 * decoding / len(files):.2f} ms to decode, its thumbprint {1e3 * printing / len(files):.3f} ms.\n"
    )
    for title, views in (("not turned", False), ("turned", True)):
        chosen = np.array([views or "mirrored" not in way and "turned" not in way for way in ways])
        own = near(prints, turned=views, threshold=args.threshold).copies
        began = time.perf_counter()
        groups = near(np.concatenate([prints, copies[chosen]]), turned=views, threshold=args.threshold).copies
        seconds = time.perf_counter() - began
        pairs = sum(len(group.rows) * (len(group.rows) - 1) // 2 for group in own)
        title = f"{title}: {seconds:.1f} s; the folder's own duplicates: {len(own)} groups, {pairs} pairs"
        report(title, own, groups, originals[chosen], ways[chosen], len(files))
    scenes_report([files[row] for row in order[: args.scenes]], args.threshold, np.random.default_rng(args.seed))
    if args.sheet:
        sheet(args.sheet, own, files)


if __name__ == "__main__":
    main()
