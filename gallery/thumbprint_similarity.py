"""Measures how much two thumbprints look like copies of one picture: one is stretched and shifted until it fits the other,
then their details are compared part by part. `compare` takes candidate pairs, which `gallery.duplicates` finds."""

from typing import NamedTuple

import numpy as np

MOST_CROPPED = 0.06  # of the side: alignment moves an edge by this much at most
NOISE = 8.0  # grey levels squared: a part with this variance counts half; JPEG of quality 30 leaves about 1
PART = 4  # pixels: the side of a part; parts are compared one by one
LEAST_DETAIL = 0.08  # share of the parts; a picture with less detail is blank, and resembles any other blank one
COARSE, FINE = 3, 2  # alignment steps at half the size, then at full size
HOPELESS = 0.5  # a pair that agrees less after alignment at half the size is dropped
PAIRS = 256  # compared at once: they stay in the processor's cache
TONES = 3  # degree of the polynomial by which the grey levels of one print are fitted to the other print
BLURRED, MISALIGNED = 4.0, 0.25  # grey levels, and share of the contrast, by which a place of a copy may differ


class Comparison(NamedTuple):
    """The result of comparing m pairs of prints, float32 (m,) each."""

    similarity: np.ndarray  # 0 to 1, of the details: the mean of all parts
    median: np.ndarray  # 0 to 1: the median part; it stays high if the pictures differ in a few parts only
    change: np.ndarray  # how much the most different place differs, see `change`; 0 where both others are below `least`


def compare(a: np.ndarray, b: np.ndarray, least: float = 0.0) -> Comparison:
    """Compare each print of a with its partner in b. a, b: uint8 (m, S, S).

    One print is stretched and shifted until it fits the other best. Its edges move by up to MOST_CROPPED of the side,
    inwards or outwards. A frame of a 16th of the side is not compared, because a crop may lack it. Only detail is compared:
    the print minus its mean over 3 x 3 pixels. Different photos of one thing share light and large shapes, not detail.

    Details are correlated within each part of PART x PART pixels. The similarity is the mean over the parts, each weighted
    by its detail: e / (e + NOISE), e its variance. So strong edges that many pictures share, such as a frame or the outline
    of a bottle, do not outvote other parts. The similarity is 0 if fewer than LEAST_DETAIL of the parts have detail.
    """
    compared = Comparison(*np.zeros((3, len(a)), np.float32))
    for begin in range(0, len(a), PAIRS):
        first, second = (prints[begin : begin + PAIRS].astype(np.float32) for prints in (a, b))
        edges = align(halved(first), halved(second), np.zeros((len(first), 2, 2), np.float32), COARSE)
        # The print that shows more stays as it is, and a crop is shrunk. Enlarging the original would blur it.
        swap = edges[:, :, 0].sum(1) > edges[:, :, 1].sum(1)
        first[swap], second[swap], edges[swap] = second[swap], first[swap], -edges[swap]
        hopeful = np.flatnonzero(agreement(halved(first), halved(second), edges)[0] >= HOPELESS)
        if len(hopeful):
            first, second = first[hopeful], second[hopeful]
            edges = align(first, second, edges[hopeful], FINE)
            values = np.stack(agreement(first, second, edges)).clip(0, 1)
            compared.similarity[begin + hopeful], compared.median[begin + hopeful] = values
            enough = np.flatnonzero(values.max(0) >= least)
            compared.change[begin + hopeful[enough]] = change(first[enough], second[enough], edges[enough])
    return compared


def align(a: np.ndarray, b: np.ndarray, edges: np.ndarray, steps: int) -> np.ndarray:
    """Return the offsets of a's edges from b's edges, as shares of b's side: float32 (m, 2, 2), [:, x or y, begin or end].

    0: the two edges lie on each other. Begin below 0, or end above 0: a reaches beyond b there. a, b: prints, float32
    (m, s, s). edges: the offsets to start from.

    These are inverse compositional Gauss-Newton steps (Baker and Matthews 2004, IJCV 56, section 3.2). They use a's
    gradients, so gradients and inverse Hessian are computed once. Brightness and contrast are projected out.
    """
    count, side, _ = a.shape
    frame = side // 16
    along = _along(side, frame)
    inner = _middle(a, frame).reshape(count, -1)
    inner = inner - inner.mean(1, keepdims=True)
    energy = np.maximum(np.einsum("mi,mi->m", inner, inner), 1e-3)
    wider = _middle(a, frame - 1)
    slope_x = (wider[:, 1:-1, 2:] - wider[:, 1:-1, :-2]) * (side / 2)
    slope_y = (wider[:, 2:, 1:-1] - wider[:, :-2, 1:-1]) * (side / 2)
    down = along[:, None]
    moves = np.stack([slope_x * (1 - along), slope_x * along, slope_y * (1 - down), slope_y * down], 1).reshape(count, 4, -1)
    moves -= moves.mean(2, keepdims=True)
    moves -= (moves @ inner[:, :, None]) * (inner / energy[:, None])[:, None]
    hessian = moves @ moves.transpose(0, 2, 1)
    ridge = 1e-3 * np.trace(hessian, axis1=1, axis2=2) + 1e-3  # a print without detail in one direction stays where it is
    inverse = np.linalg.inv(hessian + ridge[:, None, None] * np.eye(4, dtype=np.float32))
    for _ in range(steps):
        fitted = warped(b, edges, frame).reshape(count, -1, 1)
        contrast = (inner[:, None] @ fitted)[:, 0] / energy[:, None]
        step = (inverse @ (moves @ fitted))[..., 0] / np.maximum(contrast, 0.3)
        edges = (edges - step.reshape(-1, 2, 2)).clip(-MOST_CROPPED, MOST_CROPPED)
    return edges


def agreement(a: np.ndarray, b: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and median of the parts of a and b, float32 (m, s, s) each, with `edges` from `align`: float32 (m,)."""
    frame = a.shape[-1] // 16
    first, second = detail(_middle(a, frame - 1)), detail(warped(b, edges, frame - 1))
    own, other = _products(first, first), _products(second, second)
    variance = np.maximum(own, other)
    weight = variance / (variance + NOISE)
    share = weight.mean((1, 2))
    correlation = _products(first, second) / np.sqrt(own * other + np.float32(1e-6))
    mean = (weight * correlation).mean((1, 2)) / np.maximum(share, 1e-6)
    return mean * (share >= LEAST_DETAIL), _median(correlation, weight) * (share >= LEAST_DETAIL)


def _median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the median of weighted values, (m, n, n) each: (m,)."""
    values, weights = values.reshape(len(values), -1), weights.reshape(len(weights), -1)
    order = values.argsort(1)
    below = np.take_along_axis(weights, order, 1).cumsum(1)
    middle = (below < below[:, -1:] / 2).sum(1, keepdims=True)
    return np.take_along_axis(values, np.take_along_axis(order, middle, 1), 1)[:, 0]


def change(a: np.ndarray, b: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how much a and b, float32 (m, s, s) each, differ in the most different place of 2 x 2 pixels: float32 (m,).

    The unit is the difference that a copy may have there: BLURRED, and MISALIGNED times the contrast that both prints have.
    A copy may be brighter, harder or black and white. So the grey levels of one print are fitted to the other's first.
    """
    frame = a.shape[-1] // 16
    wider = _middle(a, frame - 1), warped(b, edges, frame - 1)
    allowed = BLURRED + MISALIGNED * np.sqrt(np.minimum(*(_blocks(detail(x) ** 2) for x in wider)))
    first, second = (_middle(x, 1) for x in wider)
    ways = (_blocks(x - _in_tones_of(x, y)) for x, y in ((first, second), (second, first)))
    return np.minimum(*((np.abs(way) / allowed).max((1, 2)) for way in ways))


def _in_tones_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the polynomial of b's grey levels, of degree TONES, that is closest to a: (m, s, s) each."""
    count, side, _ = a.shape
    target, levels = a.reshape(count, side**2, 1), b.reshape(count, side**2)
    levels = (levels - levels.mean(1, keepdims=True)) / (levels.std(1, keepdims=True) + np.float32(1e-3))
    powers = np.stack([levels**power for power in range(TONES + 1)], 2)
    ridge = np.float32(1e-2) * np.eye(TONES + 1, dtype=np.float32)
    across = powers.transpose(0, 2, 1)
    return (powers @ np.linalg.solve(across @ powers + ridge, across @ target)).reshape(a.shape)


def _blocks(x: np.ndarray) -> np.ndarray:
    """Average over each block of 2 x 2 pixels, which overlap: (m, s, s) -> (m, s - 1, s - 1)."""
    return (x[:, :-1, :-1] + x[:, 1:, :-1] + x[:, :-1, 1:] + x[:, 1:, 1:]) / 4


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Average a * b over each part: (m, s, s) twice -> (m, n, n). Pixels left over at the end of s are left out."""
    count, side, _ = a.shape
    parts = side // PART
    a, b = (x[:, : parts * PART, : parts * PART].reshape(count, parts, PART, parts, PART) for x in (a, b))
    return np.einsum("mipjq,mipjq->mij", a, b) / PART**2


def _middle(prints: np.ndarray, frame: int) -> np.ndarray:
    """Cut off the outermost `frame` pixels."""
    side = prints.shape[-1]
    return prints[:, frame : side - frame, frame : side - frame]


def detail(prints: np.ndarray) -> np.ndarray:
    """Subtract from each pixel the mean of the 3 x 3 pixels around it: (m, s, s) -> (m, s - 2, s - 2)."""
    sums = prints[:, :-2] + prints[:, 1:-1] + prints[:, 2:]
    sums = sums[:, :, :-2] + sums[:, :, 1:-1] + sums[:, :, 2:]
    return prints[:, 1:-1, 1:-1] - sums / 9


def warped(b: np.ndarray, edges: np.ndarray, frame: int) -> np.ndarray:
    """Cut a's area out of b, without a's outermost `frame` pixels, bilinear: float32 (m, s - 2 frame, s - 2 frame)."""
    side = b.shape[-1]
    along = _along(side, frame)
    places = (along + edges[..., :1] * (1 - along) + edges[..., 1:] * along) * side - np.float32(0.5)
    weights = np.subtract(places.clip(0, side - 1)[..., None], np.arange(side, dtype=np.float32))  # (m, 2, s - 2 frame, s)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    return weights[:, 1] @ b @ weights[:, 0].transpose(0, 2, 1)


def _along(side: int, frame: int) -> np.ndarray:
    """Return the positions of the pixels between the frames, in sides: float32 (s - 2 frame,), 0 to 1."""
    return ((np.arange(frame, side - frame) + 0.5) / side).astype(np.float32)


def halved(prints: np.ndarray) -> np.ndarray:
    """Average over 2 x 2 pixels: (m, s, s) -> (m, s / 2, s / 2)."""
    return (prints[:, ::2, ::2] + prints[:, 1::2, ::2] + prints[:, ::2, 1::2] + prints[:, 1::2, 1::2]) / 4
