"""How two prints compare: against loops in float64, and on pictures whose crops are known exactly."""

import numpy as np
import pytest

from gallery.duplicates import COPY, MOVED
from gallery.thumbprint_similarity import (
    BLURRED,
    LEAST_DETAIL,
    MISALIGNED,
    MOST_CROPPED,
    NOISE,
    PART,
    agreement,
    align,
    change,
    compare,
)
from gallery.thumbprints import SIDE
from made_prints import pictures, with_thing

CROPS = [(0.05, 0.05, 0.05, 0.05), (0.05, 0.05, 0, 0), (0, 0.025, 0.05, 0), (0.025, 0.025, 0.025, 0.025), (0, 0, 0.01, 0)]


def similarity(a, b):
    return compare(a, b).similarity


def fit_of(b, edges):
    """Return a function that gives the value of b, float64 (s, s), at a pixel (y, x) of the other print."""
    side = len(b)

    def at(along, ends):
        place = (along + 0.5) / side
        return min(max((place + ends[0] * (1 - place) + ends[1] * place) * side - 0.5, 0), side - 1)

    def fitted(y, x):
        y, x = at(y, edges[1]), at(x, edges[0])
        top, left = min(int(y), side - 2), min(int(x), side - 2)
        y, x = y - top, x - left
        upper, lower = (b[row, left] * (1 - x) + b[row, left + 1] * x for row in (top, top + 1))
        return upper * (1 - y) + lower * y

    return fitted


def slow_detail(value, y, x):
    return value(y, x) - np.mean([value(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)])


def slow_agreement(a, b, edges):
    """Return mean and median part by their definition, pixel by pixel. a, b: float64 (s, s). edges: as from `align`."""
    side = len(a)
    frame = side // 16
    fitted, parts = fit_of(b, edges), []
    for top in range(frame, side - frame - PART + 1, PART):
        for left in range(frame, side - frame - PART + 1, PART):
            pixels = [(y, x) for y in range(top, top + PART) for x in range(left, left + PART)]
            first = np.array([slow_detail(lambda y, x: a[y, x], *pixel) for pixel in pixels])
            second = np.array([slow_detail(fitted, *pixel) for pixel in pixels])
            variance = max((first**2).mean(), (second**2).mean())
            weight = variance / (variance + NOISE)
            parts.append(((first @ second) / np.sqrt((first @ first) * (second @ second) + 1e-3), weight))
    values, weights = np.array(sorted(parts)).T
    if weights.mean() < LEAST_DETAIL:
        return 0.0, 0.0
    return values @ weights / weights.sum(), next(v for v, w in zip(values, weights.cumsum()) if w >= weights.sum() / 2)


def slow_change(a, b, edges):
    """Return the change by its definition, place by place. a, b: float64 (s, s). edges: as from `align`."""
    fitted = fit_of(b, edges)
    inner = range(len(a) // 16, len(a) - len(a) // 16)
    first, second = a[2:-2, 2:-2], np.array([[fitted(y, x) for x in inner] for y in inner])
    energies = [[[slow_detail(value, y, x) ** 2 for x in inner] for y in inner] for value in (lambda y, x: a[y, x], fitted)]
    least = []
    for target, source in ((first, second), (second, first)):
        curve = np.polynomial.Polynomial.fit(source.ravel(), target.ravel(), 3)
        rest = target - curve(source)
        shares = []
        for y in range(len(rest) - 1):
            for x in range(len(rest) - 1):
                contrast = min(np.mean(np.array(energy)[y : y + 2, x : x + 2]) for energy in energies) ** 0.5
                shares.append(abs(rest[y : y + 2, x : x + 2].mean()) / (BLURRED + MISALIGNED * contrast))
        least.append(max(shares))
    return min(least)


EDGES = [((0, 0), (0, 0)), ((0.05, -0.05), (0.02, -0.06)), ((-0.06, 0.03), (0.06, 0.01))]


@pytest.mark.parametrize("edges", EDGES)
def test_agreement_is_mean_and_median_correlation_of_the_details_of_the_parts(edges):
    a, b = pictures([1, 1, 2, 3, 4, 5]), pictures([1, 4, 2, 3, 4, 5], 0.02, 0.01, noise=3)
    a[4, :20], b[5, :, :20] = 128, 128  # places where only one print has detail
    got = agreement(a.astype(np.float32), b.astype(np.float32), np.tile(np.float32(edges), (6, 1, 1)))
    expected = [slow_agreement(x.astype(float), y.astype(float), edges) for x, y in zip(a, b)]
    assert np.stack(got, 1) == pytest.approx(np.array(expected), abs=1e-3)


@pytest.mark.parametrize("edges", EDGES)
def test_change_is_the_greatest_difference_that_tones_and_edges_do_not_explain(edges):
    a, b = pictures([1, 1, 2, 3]), pictures([1, 4, 2, 3], 0.02, 0.01, noise=3)
    b[2] = 255 * (b[2] / 255) ** 2
    a[3, 10:15, 8:13] = 250
    got = change(a.astype(np.float32), b.astype(np.float32), np.tile(np.float32(edges), (4, 1, 1)))
    assert got == pytest.approx([slow_change(x.astype(float), y.astype(float), edges) for x, y in zip(a, b)], rel=1e-2)


@pytest.mark.parametrize("crop", [(), *CROPS])
def test_a_copy_in_other_tones_has_no_change_and_a_moved_thing_has(crop):
    originals, copies = pictures(range(100)), pictures(range(100), *crop, noise=1)
    darker = (255 * (copies / 255) ** 1.5).astype(np.uint8)
    assert sum((compare(originals, each).change > MOVED).sum() for each in (copies, darker)) <= 1  # of 200
    with_it = compare(originals, with_thing(copies, 12, 8))
    assert with_it.change.min() > MOVED and with_it.median.min() >= COPY


def test_change_is_not_measured_where_least_is_not_reached():
    a, b = pictures([1, 2]), pictures([1, 3])
    b = with_thing(b, 12, 8)
    assert (compare(a, b, 0.5).change > MOVED).tolist() == [True, False]
    assert (change(*(x.astype(np.float32) for x in (a, b)), np.zeros((2, 2, 2), np.float32)) > MOVED).all()


@pytest.mark.parametrize("crop", CROPS)
def test_alignment_finds_the_edges_of_a_crop(crop):
    left, top, right, bottom = crop
    originals, crops = (pictures(range(20), *share).astype(np.float32) for share in ((0, 0, 0, 0), crop))
    edges = align(crops, originals, np.zeros((20, 2, 2), np.float32), 12)
    assert np.abs(edges - [[left, -right], [top, -bottom]]).max() < 0.004  # this is an eighth of a pixel


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("noise", [0, 2])
def test_crops_are_copies_whichever_comes_first(crop, noise):
    originals, crops = pictures(range(100)), pictures(range(100), *crop, noise=noise)
    forth, back = similarity(originals, crops), similarity(crops, originals)
    assert forth.min() >= COPY and back.min() >= COPY
    assert np.abs(forth - back).max() < 0.02


def test_other_pictures_are_none():
    assert similarity(pictures(range(300)), pictures(range(300, 600))).max() < 0.5


def test_a_picture_is_its_own_copy_brighter_or_paler_too():
    prints = pictures(range(50))
    assert similarity(prints, prints) == pytest.approx(1, abs=1e-3)
    paler = (60 + 0.7 * prints).round().astype(np.uint8)
    assert similarity(prints, paler).min() > 0.97


def test_similarity_of_many_is_that_of_each():
    a, b = pictures(range(600)), pictures(range(600), 0.05, noise=2)
    several = similarity(a, b)
    assert several.dtype == np.float32 and several.shape == (600,)
    for row in (0, 255, 256, 599):
        assert similarity(a[row : row + 1], b[row : row + 1])[0] == pytest.approx(several[row], abs=1e-4)
    assert similarity(a[:0], b[:0]).shape == (0,)


def blank(kind):
    rng = np.random.default_rng(0)
    light = {"white": 255, "black": 0, "grey": 128}.get(kind, 200) + np.zeros((SIDE, SIDE))
    if kind == "vignette":
        light = 200 - 300 * ((np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5) ** 2).sum(0)
    return (light + rng.normal(0, 0.6, light.shape)).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("kind", ["white", "black", "grey", "vignette"])
def test_blank_pictures_resemble_nothing(kind):
    print_ = blank(kind)[None]
    assert similarity(print_, print_)[0] == 0
    assert similarity(print_, pictures([0]))[0] < 0.5 and similarity(pictures([0]), print_)[0] < 0.5


def test_a_small_thing_on_white_is_compared():
    """Only a sixth of the print has detail."""
    prints, others = pictures(range(40)), pictures(range(40, 80))
    things, other_things = (np.full_like(prints, 250) for _ in range(2))
    things[:, 9:22, 10:23], other_things[:, 9:22, 10:23] = prints[:, 9:22, 10:23], others[:, 9:22, 10:23]
    assert similarity(things, things).min() > 0.99
    assert similarity(things, other_things).max() < COPY  # although they have the same outline


def test_a_frame_that_pictures_share_does_not_make_them_copies():
    framed, others = pictures(range(200)), pictures(range(200, 400))
    for prints in (framed, others):
        prints[:, :5] = prints[:, -5:] = 0
        prints[:, :, :5] = prints[:, :, -5:] = 255
    assert similarity(framed, others).max() < 0.75


def test_edges_stay_within_the_margin():
    a, b = (pictures(range(k, k + 100)).astype(np.float32) for k in (0, 100))
    assert np.abs(align(a, b, np.zeros((100, 2, 2), np.float32), 5)).max() <= np.float32(MOST_CROPPED)
