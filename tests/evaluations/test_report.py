"""The report: the files that it reads, the images that it chooses, and its page in a real browser."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from browser import browser
from evaluations.report import Embedded, compare, figures, page as page_module, report
from evaluations.report.__main__ import main
from evaluations.report.folder import read_folder
from evaluations.report.page import differing, last_rows, verdict
from evaluations.report.shown import choose_clusters, choose_queries
from galleries import photo
from made_clusters import made
from thumbnails import TINY_TRAIN
from utils.errors import InputError

HOSTILE = "<img src=x onerror=alert(1)>'\"&.jpg"
RESULTS = [
    {"epoch": 0, "recall": {"1": 0.5, "8": 0.9}, "nmi": 0.6, "readout": "pooled"},
    {"epoch": 4, "recall": {"1": 0.7, "8": 0.95}, "nmi": 0.7, "readout": "embedding", "seconds": 30.0},
    {"epoch": 8, "recall": {"1": 0.8, "8": 0.99}, "nmi": 0.8, "readout": "embedding", "seconds": 90.0},
    {"epoch": 8, "recall": {"1": 0.85, "8": 0.98}, "nmi": 0.75, "readout": "closed_form", "seconds": 90.0},
]


def made_run(folder, lr=1e-4, name=None):
    """Make the folder of a run of 24 steps, as train.py leaves it."""
    folder.mkdir()
    lines = [
        {"epoch": 1 + step // 12, "step": step % 12 + 1, "steps": 2, "loss": 5 - step / 10, "images_per_s": 40}
        for step in range(0, 24, 2)
    ]
    lines.insert(3, {"epoch": 1, "test": {"recall": {"1": 0.4}}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"epoch": 3, "st')
    settings = {"lr": lr, "net": "ResNet18", "data": name or "/some/where"}
    about = {"command": f"train.py --data {name}", "versions": "torch 2", "method": "udml_ss", "source": name or "train.txt"}
    (folder / "run.json").write_text(json.dumps({**about, "settings": settings, "seconds": {"data": 2.0, "steps": 100.0}}))
    return folder


@pytest.fixture
def images(tmp_path):
    """24 photos of 4 classes, with embeddings. One has a hostile name, and one file is missing."""
    rows, labels = made(4, 24, spread=0.3, d=16)
    paths = [str(tmp_path / (HOSTILE if not i else f"{i}.jpg")) for i in range(24)]
    for i, path in enumerate(paths[:-1]):
        photo(path, 10 * i)
    return Embedded(paths, labels, rows)


def test_a_folder_is_read_as_far_as_it_can_be(tmp_path):
    folder = made_run(tmp_path / "run")
    run = read_folder(str(folder))
    assert run.curves["loss"] == [(2 * place, pytest.approx(5 - (2 * place - 2) / 10)) for place in range(1, 13)]
    assert list(run.curves) == ["loss", "R@1 in tests"] and run.curves["R@1 in tests"] == [(6, 0.4)]
    assert run.about["method"] == "udml_ss" and run.results == []
    some = [{"epoch": 1}, 5, {"epoch": 1, "readout": "zz", "nmi": 1}, {"epoch": None, "recall": {"1": 1}}]
    some.append({"epoch": 1, "recall": {"1": 1.0}, "seconds": "long"})
    for about, results in (("[1, {", "{"), ("[]", json.dumps(some)), ('{"seconds": null, "settings": 3}', "null")):
        (folder / "run.json").write_text(about)
        (folder / "results.json").write_text(results)
        damaged = read_folder(str(folder))
        assert damaged.about == {} and damaged.curves == run.curves
        assert not [row for row in damaged.results if row.scores]
        report(str(folder))
    nothing = read_folder(str(tmp_path / "none"))
    assert (nothing.about, nothing.curves, nothing.results) == ({}, {}, [])


def test_the_verdict_is_the_last_closed_form_beside_the_net_before(tmp_path):
    folder = made_run(tmp_path / "run")
    (folder / "results.json").write_text(json.dumps(RESULTS))
    rows = read_folder(str(folder)).results
    assert verdict(rows) == {"after": pytest.approx(85), "before": pytest.approx(50)}
    assert [row.kind for row in last_rows(rows)] == ["embedding", "closed_form"]
    assert verdict(rows[1:]) == {"after": pytest.approx(85)} and verdict([]) is None
    assert verdict(rows[:3])["after"] == pytest.approx(80)
    frozen = {**RESULTS[0], "readout": "closed_form", "recall": {"1": 0.625}}
    (folder / "results.json").write_text(json.dumps([frozen, *RESULTS]))
    both = read_folder(str(folder)).results
    assert verdict(both) == {"after": pytest.approx(85), "before": pytest.approx(50), "formulas": pytest.approx(62.5)}
    assert "formulas" not in verdict(both[:4])


def test_labels_of_any_64_bits(images):
    """Such labels may be in a list file."""
    for names in ({0: -10, 1: 10**12, 2: 2**62}, {0: -5, 1: -4, 2: -3}):
        other = np.array([names.get(int(label), int(label)) for label in images.labels])
        some, mistakes = choose_queries(images._replace(labels=other), None)
        expected, wrong = choose_queries(images, None)
        assert [query.found for query in some] == [query.found for query in expected]
        assert [query.path for query in mistakes] == [query.path for query in wrong]


def test_a_legend_names_every_run(monkeypatch):
    """The legend also names a run without curves in the first panel. If there are more runs than colours, line styles
    differ."""
    made = []
    monkeypatch.setattr(figures, "_png", made.append)
    figures.compared_figure([{"loss": [(1, 2.0)], "other": [(1, 1.0)]}, {"loss": [(1, 1.0)]}, {"other": [(1, 3.0)]}] * 3)
    (legend,) = made[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [str(number) for number in range(1, 10)]
    looks = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
    assert len(set(looks)) == 9


def by_hand(images, row, k):
    similar = images.rows @ images.rows[row]
    others = sorted((i for i in range(len(similar)) if i != row), key=lambda i: -similar[i])[:k]
    return [
        (images.paths[i], pytest.approx(similar[i], abs=1e-5), bool(images.labels[i] == images.labels[row])) for i in others
    ]


def test_queries_and_mistakes_are_those_of_a_loop(images):
    chosen, mistakes = choose_queries(images, None)
    assert len({query.path for query in chosen}) == 6
    for query in chosen:
        row = images.paths.index(query.path)
        assert query.label == images.labels[row] and query.found == by_hand(images, row, 8)
    first = {row: by_hand(images, row, 1)[0] for row in range(24)}
    wrong = sorted((row for row in range(24) if not first[row][2]), key=lambda row: -first[row][1].expected)
    assert wrong and [query.path for query in mistakes] == [images.paths[row] for row in wrong[:6]]

    apart = Embedded(images.paths[:8], images.labels[:8], images.rows[:8])
    lonely = Embedded(
        images.paths[8:], np.where(images.labels[8:] == images.labels[0], 99, images.labels[8:]), images.rows[8:]
    )
    _, mistakes = choose_queries(apart, lonely)  # the gallery has no image of the first image's class
    assert all(query.label != images.labels[0] for query in mistakes)
    without, none = choose_queries(images._replace(labels=None), None)
    assert none == [] and without[0].label is None and without[0].found[0][2] is None


def test_clusters_by_size_and_by_how_tight_they_are(images):
    clusters, labels = choose_clusters(images)
    assert len(labels) == 24 and set(clusters) == {"Largest", "Tightest", "Loosest"}
    sizes = np.bincount(labels)
    assert [cluster.size for cluster in clusters["Largest"]] == sorted(sizes, reverse=True)[:3]
    for cluster in clusters["Tightest"] + clusters["Loosest"]:
        members = np.flatnonzero(labels == labels[images.paths.index(cluster.paths[0])])
        middle = images.rows[members].mean(0)
        assert cluster.size == len(members) >= 3
        assert cluster.tightness == pytest.approx(np.mean(images.rows[members] @ middle / np.linalg.norm(middle)), abs=1e-5)
    assert clusters["Tightest"][0].tightness >= clusters["Loosest"][0].tightness


def test_settings_that_differ():
    some = [{"a": 1, "b": 2, "save_dir": "x"}, {}, {"a": 1, "b": 3, "c": 4, "save_dir": "y"}]
    assert differing(some) == {"b": [2, None, 3], "c": [None, None, 4]}


@pytest.fixture(scope="module")
def chrome():
    with browser() as opened:
        yield opened


def visit(chrome, file, scheme="light", width=1280):
    """Open the file in a new page. Returns the page, and a list of all that it logged and of its requests to other
    addresses."""
    page, faults, own = (
        chrome.new_page(color_scheme=scheme, viewport={"width": width, "height": 900}),
        [],
        Path(file).as_uri(),
    )
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("request", lambda request: request.url.startswith("data:") or request.url == own or faults.append(request.url))
    page.goto(own)
    return page, faults


def serious(page):
    found = Axe().run(page).response["violations"]
    return [(fault["id"], fault["nodes"][0]["html"]) for fault in found if fault["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 390)])
def test_the_page_in_a_browser(chrome, images, tmp_path, scheme, width):
    folder = made_run(tmp_path / "run", name=HOSTILE)
    report(str(folder), images, results=RESULTS)
    file = folder / "report.html"
    assert file.stat().st_size < 5e6 and not list(folder.glob("*.part"))
    for name in ("curves", "map"):
        with Image.open(folder / f"report-{name}.png") as picture:
            assert picture.width > 300
    page, faults = visit(chrome, file, scheme, width)
    assert page.locator("h1").inner_text() == "85 of 100 pictures find their own class"
    assert page.locator("table").first.locator("tbody tr").count() == 4
    headings = page.locator("h2").all_inner_texts()
    assert headings == ["Results", "What it finds", "The worst mistakes", "Groups of look-alikes", "Map", "How it learned",
                        "Where the time went", "To repeat it"]  # fmt: skip
    first = page.locator(".search").first.locator("ol li")
    chosen, _ = choose_queries(images, None)
    expected = ["right" if right else "wrong" for _, _, right in chosen[0].found]
    assert [item.get_attribute("class") for item in first.all()] == expected
    assert all(("same class" in item.inner_text()) == (kind == "right") for item, kind in zip(first.all(), expected))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # the page fits the window
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Results"
    assert HOSTILE in page.locator("pre").inner_text() and page.locator("img[src=x]").count() == 0
    assert serious(page) == [] and faults == []
    page.close()


def test_a_run_without_tests_shows_what_it_takes_for_alike(chrome, images, tmp_path):
    folder = made_run(tmp_path / "run")
    report(str(folder), images._replace(labels=None))
    page, faults = visit(chrome, folder / "report.html")
    assert "Nothing was tested" in page.locator(".lead").inner_text() and page.locator(".search").count() == 6
    assert page.locator(".right, .wrong").count() == 0 and "The worst mistakes" not in page.locator("h2").all_inner_texts()
    assert faults == []
    page.close()
    report(str(folder))  # without images, the report shows curves, time and settings
    assert "How it learned" in (folder / "report.html").read_text()


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(page_module.log, "warn", said.append)
    report(str(tmp_path / "gone"), results=RESULTS)
    assert said == [f"{tmp_path / 'gone' / 'report.html'}: cannot be written (No such file or directory)"]
    assert not (tmp_path / "gone").exists()


def test_a_page_says_what_it_does_not_know(tmp_path):
    folder = made_run(tmp_path / "run")
    report(str(folder))
    assert "The net was not tested yet" in (folder / "report.html").read_text()
    report(str(folder), results=[{"epoch": 8, "nmi": 0.75, "readout": "closed_form"}])
    said = (folder / "report.html").read_text()
    assert "The table says" in said and "75.00" in said and "not tested yet" not in said


def test_names_without_a_blank_do_not_widen_a_phones_page(chrome, tmp_path, images):
    folder = made_run(tmp_path / ("name" * 40))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    report(str(folder), images)
    compare(str(tmp_path / "both.html"), [str(folder)] * 2)
    for file in (folder / "report.html", tmp_path / "both.html"):
        page, faults = visit(chrome, file, "dark", 390)
        assert page.evaluate("document.documentElement.scrollWidth") == 390 and serious(page) == [] and faults == []
        page.close()


def test_two_runs_on_one_page(chrome, tmp_path, monkeypatch, capsys):
    runs = [made_run(tmp_path / "first"), made_run(tmp_path / "second <b>", lr=1e-5)]
    (runs[0] / "results.json").write_text(json.dumps(RESULTS))
    file = tmp_path / "out" / "page.html"
    monkeypatch.setattr("sys.argv", ["-m", str(file), *map(str, runs)])
    main()
    assert capsys.readouterr().out == f"the comparison: {file}\n"
    page, faults = visit(chrome, file)
    assert page.locator("h1").inner_text() == "2 runs compared" and "second <b>" in page.locator("ol").inner_text()
    differing_rows = page.locator("section").last.locator("tbody tr").all_inner_texts()
    assert [re.split(r"\s+", row.strip()) for row in differing_rows] == [["lr", "0.0001", "1e-05"]]
    assert page.locator("table").first.locator("tbody tr").count() == 2  # the two rows of the last epoch
    assert "Not tested: run 2." in page.locator("main").inner_text() and serious(page) == [] and faults == []
    page.close()
    with pytest.raises(InputError, match="none: not the folder of a run"):
        compare(str(file), [str(tmp_path / "none")])


def test_tensorboards_own_reader_finds_scalars_and_images(run, image_folder, tmp_path):
    """The run stops after two of three epochs and goes on. Its metrics.jsonl has the values to compare with."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    for epochs in (2, 3):
        flags = ("--data", image_folder, "--save_dir", folder, "--epochs", epochs, "--eval_step", 2, "--override")
        run("train", *TINY_TRAIN, *flags, "--tensorboard")
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    step, expected, tested = 0, [], []
    for line in lines:
        step += line.get("steps", 0)
        if "loss" in line:
            expected.append((step, line["loss"]))
        else:
            tested.append((step, line["test"]["recall"]["1"]))
    for name, values in (("loss", expected), ("test/recall/1", tested)):
        found = [(event.step, event.value) for event in board.Scalars(name)]
        np.testing.assert_allclose(found, values, rtol=1e-6)
    assert tested
    (rows,) = (folder / "tensorboard").rglob("tensors.tsv")
    (names,) = (folder / "tensorboard").rglob("metadata.tsv")
    assert len(rows.read_text().splitlines()) == len(names.read_text().splitlines()) == 24
    assert len(rows.read_text().splitlines()[0].split("\t")) == 16
    with Image.open(next((folder / "tensorboard").rglob("sprite.png"))) as sprite:
        assert sprite.size == (5 * 64, 5 * 64)


def test_the_ends_of_training_and_testing_name_their_report(run, image_folder, tmp_path, capsys):

    flags = (*TINY_TRAIN, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 2)
    run("train", *flags, "--report", "yes")
    path = tmp_path / "run" / "report.html"
    assert f"the report: {path}\n" in capsys.readouterr().out and "How it learned" in path.read_text()
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["settings"]["epochs"] == 2 and "forward/backward" in about["seconds"] and about["images"] == 24
    run("test", "--data", image_folder, "--resume", tmp_path / "run", "--report", "yes", "--device", "cpu")
    assert f"the report: {path}\n" in capsys.readouterr().out and "find their own class" in path.read_text()
    assert len(json.loads((tmp_path / "run" / "results.json").read_text())) == 1

    shutil.copytree(tmp_path / "run", tmp_path / "other")  # with two runs, each keeps only its own results
    run(
        "test",
        "--data",
        image_folder,
        "--resume",
        tmp_path / "other",
        tmp_path / "run",
        "--report",
        "yes",
        "--device",
        "cpu",
    )
    (kept,) = json.loads((tmp_path / "run" / "results.json").read_text())
    assert kept["checkpoint"] == str(tmp_path / "run" / "ckp_ep2.pth.tar")

    (image_folder / "test.txt").unlink()
    run("train", *flags, "--epochs", 3, "--override", "--report", "yes")
    assert path.read_text().count('class="search"') == 6
