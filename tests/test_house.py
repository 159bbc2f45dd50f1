"""The structure of the code: imports point one way and not in a circle, files and functions are short, and so is
train.py."""

import ast
import graphlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRY_POINTS = ""  # the files outside of folders: train.py, test.py, ...
MAY_IMPORT = {
    ENTRY_POINTS: {"gallery", "models", "evaluations", "data", "losses", "utils"},
    "gallery": {"models", "evaluations", "data", "utils"},
    "models": {"data", "losses", "utils"},
    "evaluations": {"data", "utils"},
    "data": {"utils"},
    "losses": {"utils"},
    "utils": set(),
}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 260, 60
OUTSIDE = {"tests", "scripts"}  # these may import anything, and nothing may import them


def name_of(path):
    """data/prepare/__init__.py -> data.prepare"""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files(*patterns):
    """Return the paths of all such files that git tracks, or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [Path(line) for line in listed if (ROOT / line).exists()]


@pytest.fixture(scope="module")
def modules():
    """name -> path of every module"""
    return {name_of(path): path for path in files("*.py") if path.parts[0] not in OUTSIDE}


def imports(path, modules):
    """Yield (line, module) for each import in a file, also inside functions. `from data import lists` imports data.lists."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import; write the whole name"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield node.lineno, inside if inside in modules else node.module


def folder_of(path):
    return path.parts[0] if len(path.parts) > 1 else ENTRY_POINTS


def test_imports_point_one_way(modules):
    wrong = []
    for path in modules.values():
        folder = folder_of(path)
        assert folder in MAY_IMPORT, f"{path}: a new folder; say in MAY_IMPORT what it may import"
        for line, name in imports(path, modules):
            top = name.split(".")[0]
            if top in OUTSIDE or top in MAY_IMPORT and top not in MAY_IMPORT[folder] | {folder}:
                wrong.append(f"{path}:{line}: {folder or 'an entry point'} imports {name}")
            elif folder and name in modules and folder_of(modules[name]) == ENTRY_POINTS:
                wrong.append(f"{path}:{line}: {folder} imports the entry point {name}")
    assert not wrong, "\n".join(wrong)


def test_imports_go_in_no_circle(modules):
    graph = {name: {other for _, other in imports(path, modules) if other in modules} for name, path in modules.items()}
    assert sum(map(len, graph.values())) > len(modules)  # it finds imports
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def test_files_and_functions_are_short():
    """A file has one topic, and a function does one thing. Tests and benchmark results do not count."""
    too_long = []
    for path in [path for path in files("*.py", "*.js", "*.css", "*.sh") if path.parts[0] != "tests"]:
        text = (ROOT / path).read_text(encoding="utf-8")
        if (lines := text.count("\n")) > LINES_OF_A_FILE:
            too_long.append(f"{path}: {lines} lines")
        for node in ast.walk(ast.parse(text)) if path.suffix == ".py" else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    too_long.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    assert not too_long, "\n".join(too_long)


def test_the_loop_is_a_page():
    assert len((ROOT / "train.py").read_text().splitlines()) < 125


def test_no_test_stops_the_clock_of_all():
    """Servers of other tests run in threads beside a test, and sleep for ever if the clock is wrong when they wait."""
    patched = re.compile(r"""setattr\((?:[\w.]*\btime,|["']time\.)""")
    assert patched.search('setattr(writer.time, "monotonic", clock)') and not patched.search(
        'setattr(writer, "time", clock)'
    )
    wrong = [
        f"{path}:{number}: replaces a function of the module time; replace the name `time` in the module under test"
        for path in files("tests/*.py")
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if patched.search(line) and path.name != Path(__file__).name
    ]
    assert not wrong, "\n".join(wrong)
