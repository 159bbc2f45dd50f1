"""Pictures with exactly known thumbprints, also of their crops: sums of cosines with the spectrum of photos."""

import numpy as np

from gallery.thumbprints import SIDE


def pictures(seeds, left=0.0, top=0.0, right=0.0, bottom=0.0, noise=0.0):
    """Return the prints of the pictures with these seeds, cropped by these shares of the sides: uint8 (m, SIDE, SIDE)."""
    across, down = ((np.arange(SIDE) + 0.5) / SIDE * (1 - a - b) + a for a, b in ((left, right), (top, bottom)))
    wave = np.arange(SIDE)
    frequency = np.hypot(wave[:, None], wave)
    frequency[0, 0] = np.inf
    prints = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        waves = rng.normal(size=(SIDE, SIDE)) * frequency**-1.1
        picture = np.cos(np.pi * down[:, None] * wave) @ waves @ np.cos(np.pi * across[:, None] * wave).T
        prints.append(128 + 90 * picture / np.sqrt((waves**2).sum()) + rng.normal(0, noise, (SIDE, SIDE)))
    return np.array(prints).reshape(-1, SIDE, SIDE).clip(0, 255).round().astype(np.uint8)


def with_thing(prints, down, across):
    """Return prints, uint8 (m, SIDE, SIDE), with a thing of 5 x 5 pixels, 60 grey levels brighter or darker than before."""
    levels = prints.astype(np.int64)
    place = levels[:, down : down + 5, across : across + 5]
    place += np.where(place.mean((1, 2), keepdims=True) < 128, 60, -60)
    return levels.clip(0, 255).astype(np.uint8)
