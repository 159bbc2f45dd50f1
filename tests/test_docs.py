"""README and docs: every link and named file exists, every command parses, and the pages stay within their bounds."""

import re
import shlex
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest

import test as test_program
import train as train_program
from models import methods

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"results"}
OURS = {"train": train_program, "test": test_program}  # imported as files, because the standard library has a `test` too
PROGRAMS = ("train", "test", "embed", "search", "export", "embed_onnx")


def prose(page):
    """Return the text of a page without tables and blocks of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def anchors(page):
    """Return the anchors that links can point to: the headings, as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    wrong = []
    for link in links:
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or anchor and anchor not in anchors(target):
            wrong.append(link)
    assert not wrong, f"{page.name}: {wrong}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page):
    names = re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8"))
    wrong = []
    for name in names:
        top = name.split("/")[0]
        if "..." in name or "/" not in name or top not in FOLDERS:
            continue
        if not (ROOT / name).exists() and not name.startswith(
            ("scripts/out", "models/methods/instances", "losses/", "data/mine")
        ):
            wrong.append(name)
    assert not wrong, f"{page.name}: {wrong}"


def commands(page):
    """Yield (line, words) of each of the project's commands: from the page's blocks, and from backticks in tables and
    prose."""
    text = page.read_text(encoding="utf-8")
    lines = [code for code in re.findall(r"`([^`\n]+)`", text) if " " in code]
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.M | re.S):
        lines += [line.removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        if re.match(r"([A-Z_]+=\S+ )*(python|torchrun|scripts/\w+\.sh|\. )", line):
            yield line, shlex.split(line, comments=True)


@cache
def flags_of(program, method="udml_ss"):
    """Return the flags that the help of a program names."""
    commands = ("index", "query", "duplicates", "clusters", "serve") if program == "search" else ()
    chosen = ["--method", method] if program == "train" else []
    texts = [help_of(program, *words) for words in ([*chosen], *([command] for command in commands))]
    return set(re.findall(r"(?<![\w-])--?[A-Za-z]\w*", " ".join(texts)))


def help_of(program, *words):
    module, printed = OURS.get(program) or import_module(program), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), suppress(SystemExit):
        patch.setattr("sys.argv", [f"{program}.py", *words, "--help"])
        (module.main if program == "embed_onnx" else module.parse_args)()
    assert "--help" in printed.getvalue()
    return printed.getvalue()


def faults(words):
    """Yield all that is wrong with a command."""
    settings = [word.split("=")[0] for word in words if re.match(r"[A-Z_0-9]+=", word)]
    words = [word for word in words if not re.match(r"[A-Z_0-9]+=", word)]
    script = next((word for word in words if re.fullmatch(r"(scripts/[\w/]+|\w+)\.(sh|py)", word)), None)
    if script is None:
        return
    if not (ROOT / script).exists():
        yield f"{script} does not exist"
        return
    program = Path(script).stem
    if script.endswith(".sh"):
        known = (ROOT / script).read_text() + (ROOT / "scripts" / "setup_env.sh").read_text()
        known += (ROOT / "scripts" / "run_train_test.sh").read_text()
        yield from (f"{name} is no setting of {script}" for name in settings if not re.search(rf"\b{name}\b", known))
    elif program in PROGRAMS and "/" not in script:
        after = words[words.index(script) + 1 :]
        method = after[after.index("--method") + 1] if "--method" in after else "udml_ss"
        known = flags_of(program, method if method in methods.names() else "udml_ss")
        yield from (
            f"{word} is no flag of {script}" for word in after if re.match(r"--?[A-Za-z]", word) and word not in known
        )
    elif script.startswith("scripts/"):
        text = (ROOT / script).read_text()
        yield from (f"{word} is no flag of {script}" for word in words if word.startswith("--") and word not in text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_parses(page):
    wrong = [f"{line}: {fault}" for line, words in commands(page) for fault in faults(words)]
    assert not wrong, "\n".join(wrong)


def test_commands_are_seen():
    """The test above must see commands on every page that has some, with flags and settings, and must find faults."""
    seen = [line for page in PAGES for line, _ in commands(page)]
    assert len(seen) > 40 and any("search.py query" in line for line in seen) and any("NET=" in line for line in seen)
    assert list(faults(shlex.split("python search.py query DIR photo.jpg --no_such_flag"))) != []
    assert list(faults(shlex.split("NO_SUCH=1 scripts/run_train_test.sh"))) != []
    assert list(faults(shlex.split("python tests.py --resume"))) != []


def test_flags_in_tables_exist():
    """A row of a table in docs/tuning.md or docs/methods.md may begin with a `--flag`."""
    known = flags_of("train") | flags_of("test") | {flag for name in methods.names() for flag in flags_of("train", name)}
    for page in ("tuning.md", "methods.md"):
        rows = re.findall(r"^\| ((?:`--\w+[^`]*`(?:, )?)+)", (ROOT / "docs" / page).read_text(), re.M)
        flags = [flag for row in rows for flag in re.findall(r"--\w+", row)]
        assert flags and set(flags) <= known, set(flags) - known


def test_they_are_short():
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 200 and len(readme.read_text().split()) <= 2000
    words = {page.name: len(prose(page).split()) for page in [readme, *(ROOT / "docs").glob("*.md")]}
    assert sum(words.values()) <= 7000, words
