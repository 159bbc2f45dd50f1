"""Draws the invented creatures of the demo set. A class is a recipe; an image is a snapshot of a creature of that recipe.

A recipe is a body plan, parts, a pattern and colours. Like species, classes come in families that share a body plan and
differ in a few details. Telling them apart takes more than a glance at the shape. A snapshot has a random posture, view,
place and light, and is partly hidden by clutter.
"""

import colorsys
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE, FINE = 112, 224  # pixels of the image, and of the canvas it is drawn on: shrinking smooths the edges
FAMILY = 4  # classes that share a body plan
CHANGED = 3  # details in which a class may depart from its family

Rng = np.random.Generator
Recipe = dict[str, Any]  # trait -> its value: a number, a word, or an RGB colour


def vivid(rng: Rng) -> np.ndarray:
    """A random RGB colour in 0..1 for a creature."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.15, 0.95), rng.uniform(0.25, 1.0)))


def dull(rng: Rng) -> np.ndarray:
    """A random RGB colour in 0..1 for the surroundings: sand, grass, water, stone."""
    return np.array(colorsys.hsv_to_rgb(rng.uniform(0.05, 0.6), rng.uniform(0.0, 0.35), rng.uniform(0.4, 0.9)))


# Lengths are in units of about half a body; the creature looks to the right, y points down.
TRAITS = {
    "length": lambda rng: rng.uniform(0.65, 1.1),
    "height": lambda rng: rng.uniform(0.3, 0.65),
    "squareness": lambda rng: rng.uniform(1.6, 3.5),  # exponent of the body's superellipse
    "head": lambda rng: rng.uniform(0.2, 0.38),
    "snout": lambda rng: rng.choice([0.0, 0.25, 0.5]),
    "pairs": lambda rng: rng.choice([1, 2, 3]),  # pairs of legs
    "leg_width": lambda rng: rng.uniform(0.07, 0.16),
    "tail_curl": lambda rng: rng.uniform(-1.2, 1.2),
}
DETAILS = {
    "neck": lambda rng: rng.choice([0.1, 0.35, 0.8]),
    "leg": lambda rng: rng.uniform(0.2, 0.9),
    "tail": lambda rng: rng.uniform(0.2, 1.1),
    "tuft": lambda rng: rng.choice([0.0, 0.0, 0.2]),
    "crown": lambda rng: rng.choice(["none", "round ears", "long ears", "horns", "feelers", "crest"]),
    "back": lambda rng: rng.choice(["none", "none", "spikes", "sail", "wing", "hump"]),
    "pattern": lambda rng: rng.choice(["plain", "stripes", "bands", "chevrons", "spots", "blotches", "saddle", "belt"]),
    "grain": lambda rng: rng.uniform(0.7, 1.5),  # how fine the pattern is
    "coat": vivid,
    "marks": vivid,
    "limbs": vivid,
}


def recipe(seed: int, split: int, number: int) -> Recipe:
    """Return the traits of class `number` of a split: its family's traits, with CHANGED details drawn anew."""
    family = np.random.default_rng([seed, split, 0, number // FAMILY])
    own = np.random.default_rng([seed, split, 1, number])
    traits = {name: draw(family) for name, draw in (TRAITS | DETAILS).items()}
    for name in own.choice(list(DETAILS), CHANGED, replace=False):
        traits[name] = DETAILS[name](own)
    return traits


def blob(x: float, y: float, rx: float, ry: float, power: float = 2.0) -> np.ndarray:
    """Outline of a superellipse around (x, y), (32, 2)."""
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    return np.stack([x + rx * np.sign(c) * abs(c) ** (2 / power), y + ry * np.sign(s) * abs(s) ** (2 / power)], 1)


def limb(x: float, y: float, angle: float, length: float, width: float, curl: float = 0.0) -> np.ndarray:
    """Outline of a tapering arm from (x, y) that bends by `curl` radians, (16, 2). Angle 0 is right, -pi/2 up."""
    t = np.linspace(0, 1, 8)
    a = angle + curl * t
    line = np.stack([x + np.cumsum(np.cos(a)) * length / 8, y + np.cumsum(np.sin(a)) * length / 8], 1)
    side = np.stack([-np.sin(a), np.cos(a)], 1) * (width * (1 - 0.5 * t))[:, None]
    return np.concatenate([line + side, (line - side)[::-1]])


def body(r: Recipe, rng: Rng) -> list[tuple[np.ndarray, str]]:
    """The creature of recipe `r` in a random posture: [(outline, paint)] from back to front."""
    sway = lambda most: rng.uniform(-most, most)
    length, height, h = r["length"], r["height"], r["head"]
    hips = length * np.array({1: [0], 2: [-0.65, 0.65], 3: [-0.65, 0, 0.65]}[r["pairs"]])
    swing = sway(0.5)
    leg = lambda x, lean: limb(x, 0.6 * height, np.pi / 2 + lean, r["leg"] + 0.4 * height, r["leg_width"], sway(0.4))
    far_legs = [leg(x + 0.12, sway(0.2) - swing) for x in hips]
    near_legs = [leg(x - 0.08, sway(0.2) + swing * (-1) ** i) for i, x in enumerate(hips)]

    tail = limb(-0.85 * length, -0.1 * height, np.pi + sway(0.4), r["tail"], 0.12, r["tail_curl"] + sway(0.4))
    tip = tail[7:9].mean(0)
    tuft = [blob(tip[0], tip[1], r["tuft"], r["tuft"])] if r["tuft"] else []

    rise, nod = sway(0.35) - 0.9, sway(0.35)
    x, y = 0.7 * length + np.cos(rise) * (r["neck"] + 0.2), np.sin(rise) * (r["neck"] + 0.2) - 0.3 * height  # the head
    neck = limb(0.7 * length - 0.1, 0.05 - 0.3 * height, rise, r["neck"] + 0.3, 0.22)
    snout = limb(x, y + 0.2 * h, 0.25 + nod, h + r["snout"], 0.6 * h)
    crown = {
        "none": [],
        "round ears": [blob(x + d * h, y - 0.8 * h, 0.5 * h, 0.5 * h) for d in (-0.6, 0.45)],
        "long ears": [limb(x + d, y - 0.5 * h, d - 1.9 + sway(0.2), 0.7, 0.12) for d in (-0.15, 0.1)],
        "horns": [limb(x + d, y - 0.6 * h, d - 1.3, 0.6, 0.08, -1.2) for d in (-0.1, 0.15)],
        "feelers": [limb(x + d, y - 0.5 * h, 2 * d - 1.2, 0.8, 0.04, 1.0) for d in (-0.15, 0.15)],
        "crest": [limb(x + 0.8 * d * h, y - 0.6 * h, d - 1.6, 0.4, 0.1) for d in (-0.8, -0.3, 0.2)],
    }[r["crown"]]
    back = {
        "spikes": [limb(u * length, (0.45 * u * u - 0.8) * height, -1.9, 0.4, 0.1) for u in np.linspace(-0.7, 0.6, 6)],
        "sail": [blob(-0.1 * length, -0.75 * height, 0.75 * length, 0.5, 1.5)],
        "hump": [blob(-0.1, -0.75 * height, 0.45, 0.45)],
    }.get(r["back"], [])
    wing = [limb(0.1 * length, -0.6 * height, sway(0.4) - 2.2, 1.0, 0.35, -0.4)] if r["back"] == "wing" else []
    layers = [
        (far_legs, "shaded limbs"),
        ([tail], "coat"),
        (tuft, "marks"),
        (back, "coat" if r["back"] == "hump" else "limbs"),
        ([neck, blob(0, 0, length, height, r["squareness"])], "coat"),
        (crown, "limbs"),
        ([snout], "limbs" if r["snout"] else "coat"),
        ([blob(x, y, h, 0.9 * h)], "coat"),
        (near_legs + wing, "limbs"),
        ([blob(x + 0.35 * h, y - 0.2 * h, 0.28 * h, 0.28 * h)], "white"),
        ([blob(x + 0.42 * h, y - 0.2 * h, 0.15 * h, 0.15 * h)], "black"),
    ]
    return [(outline, paint) for outlines, paint in layers for outline in outlines]


def marked(r: Recipe, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return a boolean array, True where the body coordinates (u, v) carry marks."""
    f = 9 * r["grain"]
    return {
        "plain": lambda: u > np.inf,
        "stripes": lambda: np.sin(f * u + np.sin(3 * v)) > 0.2,
        "bands": lambda: np.sin(f * v) > 0.2,
        "chevrons": lambda: np.sin(f * (u + abs(v))) > 0.2,
        "spots": lambda: np.sin(f * u) * np.sin(f * v) + 0.3 * np.sin(0.5 * f * u) > 0.35,
        "blotches": lambda: np.sin(f * u / 2 + 2 * np.sin(f * v / 2)) + np.sin(f * v / 2 + 3 * np.sin(3 * u)) > 0.4,
        "saddle": lambda: v < 0.05 * np.sin(9 * u) - 0.1 * r["grain"],
        "belt": lambda: abs(u - 0.1) < 0.25 * r["grain"],
    }[r["pattern"]]()


def view(rng: Rng) -> np.ndarray:
    """A random camera: the 3 x 3 projective matrix from body coordinates to canvas pixels."""
    scale, angle = FINE * rng.uniform(0.25, 0.4), rng.normal(0, 0.2)
    turned = rng.uniform(0.6, 1.0) * rng.choice([-1, 1])  # foreshortened, looking left or right
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([scale * turned, scale * rng.uniform(0.85, 1.1), 1])
    matrix[:2, 2] = FINE * rng.uniform(0.38, 0.62, 2)
    perspective = np.eye(3)
    perspective[2, :2] = rng.uniform(-0.12, 0.12, 2)  # one end is nearer
    return matrix @ perspective


def project(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map points (N, 2) through a projective 3 x 3 matrix."""
    points = points @ matrix[:, :2].T + matrix[:, 2]
    return points[:, :2] / points[:, 2:]


def landscape(rng: Rng) -> Image.Image:
    """A canvas with cloudy colours above and below a horizon."""
    clouds = np.zeros((SIZE, SIZE, 3))
    for cells, strength in ((2, 0.5), (5, 0.3), (14, 0.25), (40, 0.2)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        clouds += strength * (np.asarray(noise.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) / 255 - 0.5)
    ground = np.arange(SIZE)[:, None, None] > SIZE * rng.uniform(0.2, 0.9)
    image = np.where(ground, dull(rng), dull(rng)) + rng.uniform(0.1, 0.35) * clouds
    return Image.fromarray(np.uint8(255 * np.clip(image, 0, 1))).resize((FINE, FINE))


def strew(canvas: Image.Image, rng: Rng, count: int) -> None:
    """Draw `count` stones, sticks and leaves on the canvas."""
    pen = ImageDraw.Draw(canvas)
    for _ in range(count):
        (x, y), (rx, ry) = rng.random(2), rng.uniform(0.02, 0.12, 2)
        stone = blob(x, y, rx, ry, rng.uniform(1.2, 4))
        stick = limb(x, y, rng.uniform(-3, 3), rng.uniform(0.1, 0.6), rng.uniform(0.005, 0.04), rng.normal())
        outline = stone if rng.random() < 0.4 else stick
        pen.polygon([tuple(p) for p in FINE * outline], fill=tuple(int(255 * c) for c in dull(rng)))


def creature(r: Recipe, rng: Rng) -> tuple[Image.Image, Image.Image]:
    """Recipe `r` in a random posture and view: an RGB image and its mask, both the canvas's size."""
    paints = {"none": 0, "shaded limbs": 0.6 * r["limbs"], "white": 1, "black": 0}
    paints |= {name: r[name] for name in ("coat", "marks", "limbs")}
    names, camera = list(paints), view(rng)
    canvas = Image.new("L", (FINE, FINE))  # each pixel holds the position of its paint in `names`
    pen = ImageDraw.Draw(canvas)
    for outline, paint in body(r, rng):
        pen.polygon([tuple(p) for p in project(outline, camera)], fill=names.index(paint))
    layer = np.array(canvas)
    y, x = np.nonzero(layer == names.index("coat"))
    u, v = project(np.stack([x, y], 1), np.linalg.inv(camera)).T
    layer[y, x] = np.where(marked(r, u, v), names.index("marks"), names.index("coat"))
    # Shading makes the body round: the blurred silhouette serves as a height map, lit from somewhere above.
    mask = Image.fromarray(np.uint8(255 * (layer > 0)))
    height = np.asarray(mask.filter(ImageFilter.GaussianBlur(FINE / 28)), np.float32) / 255
    down, right = np.gradient(height)
    shade = np.clip(0.75 + 0.25 * height + 6 * (rng.uniform(0.3, 1) * down + rng.uniform(-1, 1) * right), 0.35, 1.3)
    colours = np.stack([np.broadcast_to(c, 3) for c in paints.values()]).astype(np.float32)
    return Image.fromarray(np.uint8(255 * np.clip(colours[layer] * shade[..., None], 0, 1))), mask


def snapshot(r: Recipe, rng: Rng) -> Image.Image:
    """One image of recipe `r`, SIZE x SIZE RGB."""
    canvas = landscape(rng)
    strew(canvas, rng, int(rng.integers(2, 12)))
    picture, mask = creature(r, rng)
    canvas.paste(picture, mask=mask)
    strew(canvas, rng, int(rng.integers(0, 5)))  # in front of the creature
    canvas = canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
    canvas = canvas.filter(ImageFilter.GaussianBlur(max(0, rng.uniform(-1, 0.7))))
    across, along = rng.uniform(-0.3, 0.3, 2)
    ramp = np.linspace(-1, 1, SIZE)
    light = (1 + across * ramp + along * ramp[:, None])[..., None] * rng.uniform(0.75, 1.2) * rng.uniform(0.87, 1.13, 3)
    image = np.clip(np.asarray(canvas) / 255 * light, 0, 1) ** rng.uniform(0.8, 1.25)
    image += rng.normal(0, rng.uniform(0, 0.025), image.shape)
    return Image.fromarray(np.uint8(255 * np.clip(image, 0, 1)))
