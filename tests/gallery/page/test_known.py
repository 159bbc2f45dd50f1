"""What the page says of the quality of its results: only what was measured or judged, and how."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_gallery import FakeIndex, by_colour, by_place, real_gallery
from playwright.sync_api import expect

from browser import served
from gallery import derived
from gallery.page.app import create_app
from gallery.page.gallery_view import GalleryView
from gallery.page.known import known

SCRIPT = Path(__file__).parents[3] / "scripts/keep_judgement.py"


@pytest.fixture
def views(drawn, tmp_path):
    """Two real galleries, as the page shows them. Their models have different digests."""
    root, paths = drawn
    both = []
    for name, embed in (("ready-made", by_colour), ("trained", by_place)):
        (tmp_path / name).mkdir()
        gallery = real_gallery(str(tmp_path / name), name, paths, embed, root)
        gallery.place.write_about({**gallery.place.read_about(), "model": f"digest of {name}"})
        view = GalleryView(gallery, FakeIndex(gallery.embeddings), embed, side=64)
        view.model = f"digest of {name}"
        view.index.neighbours = ()  # results are smoothed
        both.append(view)
    return both


def judge(tmp_path, before, after, *galleries):
    """Do as search_folder.sh does. Returns what it reads."""
    file = tmp_path / "judgement.json"
    file.write_text(json.dumps([{"label_free": {"overlap": score, "agreement": 0.9}} for score in (before, after)]))
    command = [sys.executable, SCRIPT, file, *(tmp_path / name for name in galleries)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_without_a_judgement_only_what_was_measured_elsewhere_is_said(views):
    one, both = known(views[:1]), known(views)
    assert one["line"] == both["line"] and len(one["line"].split()) <= 16 and "." not in one["line"]
    assert "four folders with labels" in one["how"] and "judged" not in one["how"] and "scripts/" not in one["how"]
    assert "Nobody has judged" in both["how"]
    for view in views:
        view.index.neighbours = None
    assert known(views) == known(views[:1]) == known([]) == {"line": "", "how": ""}


def test_a_better_net_is_named_where_both_are_shown(views, tmp_path):
    assert judge(tmp_path, 0.5, 0.6244, "ready-made") == "1\n"
    assert "better than" not in known(views)["line"]  # nobody knows yet of which gallery that was said
    assert judge(tmp_path, 0.5, 0.6244, "ready-made", "trained") == "1\n"
    said = known(views)
    assert said["line"].startswith("“trained” is judged better than “ready-made”") and "without labels" in said["line"]
    assert "0.624 after training and 0.500 before" in said["how"]
    assert known(views[::-1]) == said
    for alone in (views[:1], views[1:]):
        assert "better than" not in known(alone)["line"]
    views[1].model = "a net that was trained again"
    assert "better than" not in known(views)["line"]
    views[1].model, views[0].model = "digest of trained", "a net that was fitted again"
    assert "better than" not in known(views)["line"]


def test_training_that_did_not_help_is_said(views, tmp_path):
    assert judge(tmp_path, 0.5, 0.5, "ready-made") == "0\n"
    said = known(views[:1])
    assert said["line"].startswith("Training on this folder did not help") and "0.500 after" in said["how"]
    assert "did not help" not in known(views)["line"]  # the other gallery may be of a later training


@pytest.mark.parametrize(
    "content",
    (
        *("", "[]", "{}", '{"score": "x", "before": "x", "after": 1, "untrained": "a", "trained": "b"}'),
        '{"score": "x", "before": 1, "after": 1, "untrained": "a", "trained": []}',
        '{"score": [], "before": 1, "after": 1, "untrained": "digest of ready-made", "trained": ""}',
        '{"score": "x", "before": NaN, "after": 1, "untrained": "digest of ready-made", "trained": ""}',
        '{"before": 1, "after": 1, "untrained": "digest of ready-made", "trained": ""}',  # of an earlier version's score
        f'{{"score": "x", "before": {"9" * 400}, "after": 1, "untrained": "a", "trained": "b"}}',
    ),
)
def test_a_damaged_judgement_says_nothing(views, content):
    with open(views[0].gallery.place.judged, "w") as file:
        file.write(content)
    assert known(views)["line"].startswith("Each photo is compared")


def test_the_start_view_says_it_in_one_line(opened, views, tmp_path):
    views[0].index.neighbours = views[1].index.neighbours = None  # searching is not the topic here
    derived.groups(views[0].gallery)  # now, so that the browser need not wait for it
    judge(tmp_path, 0.5, 0.625, "ready-made", "trained")
    with served(create_app(views, ["127.0.0.1"])) as at:
        page = opened(at=at, width=390)
        line, how = page.locator(".known summary"), page.locator(".known p")
        expect(line).to_have_text("“trained” is judged better than “ready-made”: by scores without labels, on this folder")
        expect(how).to_be_hidden()
        place = "node => node.getBoundingClientRect().top"
        assert line.evaluate(place) > page.locator(".card").last.evaluate(place)  # at the end of the page
        line.focus()
        page.keyboard.press("Enter")
        expect(how).to_contain_text("larger pictures")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator(".card a").first.click()
        expect(page.locator(".at-group")).to_be_visible()
        expect(page.locator(".at-group .known")).to_have_count(0)
        page.context.close()
