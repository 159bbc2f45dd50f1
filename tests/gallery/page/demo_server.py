"""Serves the real page with invented images, to see it while working on it.

python tests/gallery/page/demo_server.py [--port 8000] [--count 120] [--hosts NAME ...]
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ODD_NAMES = (
    b"<img src=x onerror=alert(1)>.jpg",
    b"a b&c%20'\".jpg",
    b"not \xff UTF-8 \xe9.jpg",
    b"line\nbreak\ttab\x1b[31m.jpg",
    "right to left \u202egpj.exe, \u65e5\u672c\u8a9e, \U0001f98a.jpg".encode(),
    b"long name " + b"x" * 230 + b".jpg",
    b"..%2f..%2fetc%2fpasswd.jpg",
    b"{{ 7 * 7 }}.jpg",
)


def draw(folder, count, seed=0):
    """Write `count` pictures of creatures, and some with other shapes and names, into `folder`. Returns their paths."""
    from data.creatures import recipe, snapshot

    os.makedirs(os.path.join(folder, "holiday 2023"))
    paths = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image = snapshot(recipe(seed, 0, number % 12), rng)
        odd = os.fsdecode(ODD_NAMES[number // 12]) if number % 12 == 5 and number // 12 < len(ODD_NAMES) else ""
        name = odd or f"{'holiday 2023/' if number % 3 else ''}IMG_{number:04d}.jpg"
        width = int(rng.choice([300, 400, 900]))
        image = image.resize((width, 300)) if number % 4 == 1 else image
        paths.append(os.path.join(folder, name))
        image.save(paths[-1], quality=85)
    for name in ("same file.jpg", "holiday 2023/same file again.jpg"):
        paths.append(os.path.join(folder, name))
        shutil.copy(paths[0], paths[-1])
    with Image.open(paths[min(1, count - 1)]) as image:
        for name, copy in (
            ("smaller.jpg", image.resize((90, 90))),
            ("mirrored.png", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
            ("wide.png", image.resize((900, 60))),
            ("tall.png", image.resize((60, 900))),
        ):
            paths.append(os.path.join(folder, name))
            copy.save(paths[-1])
    paths.append(os.path.join(folder, "damaged <b>.jpg"))
    Path(paths[-1]).write_bytes(Path(paths[0]).read_bytes()[:400])
    return paths


def views(folder, paths):
    """Return the two galleries of a folder from `draw`."""
    from fake_gallery import by_colour, by_place, view

    return [view("ready-made", paths, by_colour, folder), view("trained", paths, by_place, folder)]


def main():
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from gallery.page.app import create_app
    from gallery.page.server import address_of, bind, serve

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--galleries", type=int, default=2, help="1 or 2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="page-demo-") as folder:
        root = os.path.join(folder, "photos")
        paths = draw(root, args.count)
        app = create_app(views(root, paths)[: args.galleries], ["127.0.0.1", "localhost", "::1"])
        listener = bind("127.0.0.1", args.port)
        print(address_of(listener), flush=True)
        serve(app, listener)


if __name__ == "__main__":
    main()
