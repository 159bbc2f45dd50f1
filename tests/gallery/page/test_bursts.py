"""Bursts are told apart from copies: by the camera and the second, or because something moved."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageDraw
from small_gallery import embedding, write
from visits import client, made

from data.creatures import recipe, snapshot
from data.pixels import Facts
from gallery import bursts, keep
from gallery.table import Content

START = datetime(2024, 5, 1, 12, 0, 0)


def shoot(folder, frames, step, camera="Camera"):
    """Write frames of one scene, 600 pixels wide, in which a disc moves by `step` pixels. Returns them, by name.

    frames: (name, seconds since START, or None for a frame without camera and date).
    """
    scene = snapshot(recipe(0, 0, 3), np.random.default_rng(3)).resize((600, 600))
    shots = {}
    for number, (name, seconds) in enumerate(frames):
        frame = scene.copy()
        ImageDraw.Draw(frame).ellipse((60 + step * number, 60, 130 + step * number, 130), "white")
        exif = Image.Exif()
        if seconds is not None:
            exif[0x0110] = camera
            exif.get_ifd(0x8769)[0x9003] = (START + timedelta(seconds=seconds)).strftime("%Y:%m:%d %H:%M:%S")
        frame.save(folder / name, quality=93, exif=exif)
        shots[name] = frame, exif
    return shots


@pytest.fixture
def shots(tmp_path):
    """A view of six shots, 3 seconds apart, with a coarser copy of one, a smaller one of another without any date, and a
    shot of the same scene a minute later. Hardly anything moves: by prints they are all copies."""
    folder = tmp_path / "photos"
    folder.mkdir()
    frames = shoot(folder, [(f"shot {n}.jpg", 3 * n) for n in range(6)] + [("later.jpg", 75)], step=1)
    frame, exif = frames["shot 2.jpg"]
    frame.save(folder / "coarser 2.jpg", quality=60, exif=exif)
    frames["shot 4.jpg"][0].resize((400, 400)).save(folder / "smaller 4.jpg", quality=90)
    return written(tmp_path, folder)


def written(tmp_path, folder):
    for number in range(3):
        snapshot(recipe(0, 0, 20 + number), np.random.default_rng(number)).save(folder / f"other {number}.jpg")
    return write(tmp_path / "gallery", "ready-made", folder, embedding(8))


def groups(view, kind):
    found = made(client([view]), "/api/0/duplicates", kind=kind, count=500)["groups"]
    return sorted(sorted(item["name"] for item in group["items"]) for group in found)


def test_shots_of_a_burst_are_no_copies_of_each_other(shots):
    for kind in ("near", "copies"):
        found = groups(shots, kind)
        assert ["coarser 2.jpg", "shot 2.jpg"] in found or ["coarser 2.jpg", "later.jpg", "shot 2.jpg"] in found
        assert any({"smaller 4.jpg", "shot 4.jpg"} <= set(group) for group in found)
        assert all(sum(name.startswith("shot") for name in group) == 1 for group in found)
    (burst,) = groups(shots, "burst")
    copies = groups(shots, "copies")
    firsts = {next((group[0] for group in copies if name in group), name) for name in (f"shot {n}.jpg" for n in range(6))}
    assert burst == sorted(firsts) and len(burst) == 6  # the first of each group of copies stands for it
    assert not any(sum("shot" in name or "er " in name for name in group) > 1 for group in groups(shots, "alike"))
    spares = keep.spares(shots.gallery, shots.index, False, "best")
    names = {shots.gallery.paths[spare.row].rpartition("/")[2] for spare in spares}
    assert names >= {"coarser 2.jpg", "smaller 4.jpg"} and not any(name.startswith("shot") for name in names)


def test_without_the_rule_they_would_be_copies(shots, monkeypatch):
    monkeypatch.setattr(bursts, "apart", lambda runs: [])
    assert any(sum(name.startswith("shot") for name in group) == 6 for group in groups(shots, "near"))


def test_without_dates_a_moved_disc_tells_shots_from_copies(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    frames = shoot(folder, [(f"shot {n}.jpg", None) for n in range(6)], step=60)
    frames["shot 2.jpg"][0].save(folder / "coarser 2.jpg", quality=40)
    frames["shot 4.jpg"][0].resize((300, 300)).save(folder / "smaller 4.jpg", quality=90)
    view = written(tmp_path, folder)
    copies = [["coarser 2.jpg", "shot 2.jpg"], ["shot 4.jpg", "smaller 4.jpg"]]
    assert groups(view, "copies") == groups(view, "near") == copies
    (burst,) = groups(view, "burst")
    assert sorted(name[-5] for name in burst) == list("012345")
    assert not any(sum("shot" in name or "er " in name for name in group) > 1 for group in groups(view, "alike"))
    spares = keep.spares(view.gallery, view.index, False, "best")
    assert sorted(view.gallery.paths[spare.row].rpartition("/")[2] for spare in spares) == ["coarser 2.jpg", "smaller 4.jpg"]


def test_no_picture_is_in_two_classes(tmp_path):
    """A copy without a date sorts before its original, which is a shot of a burst."""
    folder = tmp_path / "photos"
    folder.mkdir()
    frames = shoot(folder, [(f"shot {n}.jpg", 3 * n) for n in range(3)], step=60)
    frames["shot 1.jpg"][0].resize((300, 300)).save(folder / "a smaller 1.jpg", quality=90)
    view = written(tmp_path, folder)
    assert groups(view, "copies") == [["a smaller 1.jpg", "shot 1.jpg"]]
    assert groups(view, "burst") == [["a smaller 1.jpg", "shot 0.jpg", "shot 2.jpg"]]


dates = st.none() | st.integers(0, 60).map(lambda s: (START + timedelta(seconds=s)).strftime("%Y-%m-%d %H:%M:%S"))
dates |= st.sampled_from(("0000-00-00 00:00:00", "yesterday"))


@settings(deadline=None)
@given(st.lists(st.tuples(dates, st.sampled_from((None, "A", "B"))), max_size=12))
def test_pairs_of_shots(shots):
    """Compare with all pairs: two rows are apart if their camera took them at different times without a longer pause."""
    seconds = {}
    for row, (taken, camera) in enumerate(shots):
        if taken and camera and taken.startswith("2024"):
            seconds[row] = (datetime.strptime(taken, "%Y-%m-%d %H:%M:%S") - START).total_seconds()
    expected = set()
    for one in seconds:
        for other in seconds:
            first, last = seconds[one], seconds[other]
            between = sorted(
                seconds[row] for row in seconds if shots[row][1] == shots[one][1] and first <= seconds[row] <= last
            )
            if shots[one][1] == shots[other][1] and first < last and np.diff(between).max() <= bursts.SECONDS:
                expected.add(frozenset((one, other)))

    class Known:
        def contents_of(self, rows):
            assert list(rows) == list(range(len(shots)))
            return {row: Content(Facts(1, 1, "JPEG", *shot, 1, None), ()) for row, shot in enumerate(shots)}

        def __len__(self):
            return len(shots)

    found = bursts.apart(bursts.runs(Known()))
    assert {frozenset((a, b)) for group in found for a in group for b in group if a != b} == expected
