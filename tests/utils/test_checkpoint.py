"""Checkpoints: they are whole or absent, damage is noticed, code in them never runs, and the right one is found."""

import errno
import os
import random
import zipfile
from itertools import product

import pytest
import torch

import payloads
from utils import checkpoint
from utils.checkpoint import compare_settings, find, load, path_of, save
from utils.errors import InputError, Interrupted, RunError


def state(epoch, step=0):
    return {"state_dict": {"w": torch.full((2,), float(epoch))}, "epoch": epoch, "step": step}


def one_line(error, call, *arguments, **settings):
    with pytest.raises(error) as caught:
        call(*arguments, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_round_trip_and_order(tmp_path):
    for epoch in (100, 5, 50):
        save(path_of(str(tmp_path), epoch), state(epoch))
    (tmp_path / "ckp_epX.pth.tar").touch()
    assert [load(path)["epoch"] for path in checkpoint.all_in(str(tmp_path))] == [5, 50, 100]


def broken(message):
    def call(*_):
        raise message

    return call


@pytest.mark.parametrize(
    "module, name, error",
    [
        (torch, "save", OSError(errno.ENOSPC, "No space left on device")),
        (torch, "save", RuntimeError("PytorchStreamWriter failed writing file data/0\nwith a trace")),
        (torch, "save", RuntimeError()),
        (os, "fsync", OSError(errno.EIO, "Input/output error")),
        (os, "replace", PermissionError(errno.EACCES, "Permission denied")),
        ("builtins", "open", OSError(errno.EDQUOT, "Disk quota exceeded")),
    ],
)
def test_an_interrupted_write_leaves_the_old_one(tmp_path, monkeypatch, module, name, error):
    path = path_of(str(tmp_path), 1)
    save(path, state(1))
    with monkeypatch.context() as patch:
        if module == "builtins":
            patch.setattr("builtins.open", broken(error))
        else:
            patch.setattr(module, name, broken(error))
        with pytest.raises(RunError) as caught:
            save(path, state(2))
    reason = getattr(error, "strerror", None) or (str(error) or "RuntimeError").splitlines()[0]
    assert str(caught.value).startswith(f"{path}: cannot be written ({reason}); earlier checkpoints are as they were.")
    assert len(str(caught.value).splitlines()) == 1 and not caught.value.rescue
    assert load(path)["epoch"] == 1 and os.listdir(tmp_path) == ["ckp_ep1.pth.tar"]


def test_it_is_on_the_disk_before_it_has_its_name_and_so_is_the_name_at_the_end(tmp_path, monkeypatch):
    path, events = path_of(str(tmp_path), 1), []

    def fsync(handle, real=os.fsync):
        real(handle)
        name = os.readlink(f"/proc/self/fd/{handle}")
        events.append((os.path.basename(name).split(".tmp")[0], os.path.getsize(name) > 1000, os.path.exists(path)))

    monkeypatch.setattr(os, "fsync", fsync)
    save(path, state(1))
    assert [(name, there) for name, _, there in events] == [("ckp_ep1.pth.tar", False), (tmp_path.name, True)]
    assert events[0][1]  # everything was written by then


def test_half_a_write_leaves_the_old_one_also_when_a_signal_ends_it(tmp_path, monkeypatch):
    path = path_of(str(tmp_path), 1)
    save(path, state(1))

    def stopped(_, file):
        file.write(b"half a check")
        raise Interrupted("by SIGTERM", 143)

    monkeypatch.setattr(torch, "save", stopped)
    with pytest.raises(Interrupted):
        save(path, state(2))
    assert load(path)["epoch"] == 1 and os.listdir(tmp_path) == ["ckp_ep1.pth.tar"]


def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path, monkeypatch):
    def fsync(handle, real=os.fsync):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    save(path_of(str(tmp_path), 1), state(1))
    assert load(path_of(str(tmp_path), 1))["epoch"] == 1


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture(scope="module")
def realistic(tmp_path_factory):
    """(content, bytes of the file, start of its directory) of a small checkpoint with all parts that a run's checkpoint
    has."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 3))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3, 3, 3)).sum().backward()
    optimiser.step()
    content = {
        "state_dict": dict(net.state_dict()),
        "epoch": 3,
        "step": 2,
        "labels": torch.arange(20),
        "labelled": 1,
        "optimiser": optimiser.state_dict(),
        "scaler": {},
        "window": [{"loss": 0.1}],
        "images": "0f" * 32,
        "settings": {"lr": 1e-5, "net": "ResNet18", "device": None},
        "versions": {"torch": "2"},
    }
    path = tmp_path_factory.mktemp("realistic") / "ckp_ep3.pth.tar"
    save(str(path), content)
    assert same(load(str(path)), content)
    with zipfile.ZipFile(path) as archive:
        return content, path.read_bytes(), archive.start_dir


@pytest.fixture
def reads(realistic, tmp_path):
    """reads(bytes) returns True if they load and give the realistic content, False if they are refused in one line."""
    path = str(tmp_path / "damaged.pth.tar")

    def attempt(data):
        with open(path, "wb") as file:
            file.write(data)
        try:
            found = load(path)
        except InputError as error:
            assert str(error).startswith(path) and len(str(error).splitlines()) == 1
            return False
        assert same(found, realistic[0])
        return True

    return attempt


def flipped(data, position, bit):
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def test_a_flipped_bit_is_seen_or_changes_nothing(realistic, reads):
    """Flip a bit in every 41st byte, and in every 13th byte of the directory at the end, which has no checksum."""
    _, data, directory = realistic
    draw = random.Random(0)
    positions = [*range(0, directory, 41), *range(directory, len(data), 13)]
    outcomes = [reads(flipped(data, position, draw.randrange(8))) for position in positions]
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.8  # many bytes are padding and dates, which do not matter


@pytest.mark.parametrize("offset, bit", [(10, 3), (20, 0), (24, 0), (38, 4), (42, 6)])
def test_a_flipped_bit_in_the_directory(realistic, reads, offset, bit):
    """The bits say whether an entry is compressed, both its sizes, whether it is a folder, and its offset. torch misses
    some."""
    _, data, directory = realistic
    entries = [start for start in range(directory, len(data)) if data[start : start + 4] == b"PK\1\2"]
    assert len(entries) > 10
    assert not any(reads(flipped(data, entry + offset, bit)) for entry in entries)


def test_a_flipped_bit_in_a_tensor_is_seen(realistic, reads):
    content, data, _ = realistic
    weight = content["state_dict"]["0.weight"].numpy().tobytes()
    start = data.index(weight)
    assert not any(reads(flipped(data, start + i, i % 8)) for i in range(0, len(weight), 7))


def test_a_truncated_file_is_refused(realistic, reads):
    data = realistic[1]
    ends = [*range(70), *range(70, len(data), 173), *range(len(data) - 70, len(data))]
    assert not any(reads(data[:end]) for end in ends)


@pytest.mark.filterwarnings("error")  # torch's warnings would give bad advice
@pytest.mark.parametrize("form", payloads.WRITERS)
def test_code_in_a_checkpoint_never_runs(tmp_path, form):
    """The error line does not say how to allow it. tests/models/test_weight_files.py tests weights."""
    path, marker = tmp_path / "ckp_ep1.pth.tar", tmp_path / "ran"
    payloads.write(form, {"state_dict": payloads.Payload(marker), "epoch": 1}, path)
    message = one_line(InputError, load, str(path))
    assert "ckp_ep1.pth.tar: not a readable checkpoint" in message and len(message) < len(str(path)) + 200
    assert "weights_only" not in message and "trust" not in message
    if form in ("zip", "legacy", "pickle"):
        assert "refused, because it holds" in message and "system" in message
    assert not marker.exists()
    payloads.read_carelessly(form, path)
    assert marker.exists()


def test_other_files_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder.pth").mkdir()
    for name in ("list.pth", "empty.pth", "folder.pth", "missing.pth"):
        assert name in one_line(InputError, load, str(tmp_path / name))


# ---- which one to resume --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latest", [None, (1, 3), (2, 0), (2, 3), (10, 1)])
def test_the_newest_intact_one_is_found(tmp_path, lines, latest):
    """The checkpoints of epochs 2 and 10 and the rolling one are each there, missing or damaged."""
    there = {path_of(str(tmp_path), epoch): (epoch, 0) for epoch in (2, 10)}
    if latest:
        there[str(tmp_path / "latest.pth.tar")] = latest
    whole = {}
    for path, position in there.items():
        save(path, state(*position))
        with open(path, "rb") as file:
            whole[path] = file.read()
    for kinds in product(("intact", "missing", "damaged"), repeat=len(there)):
        intact, missing, damaged = (
            [path for path, its in zip(there, kinds) if its == kind] for kind in ("intact", "missing", "damaged")
        )
        for path in there:
            with open(path, "wb") as file:
                file.write(whole[path][: 100 if path in damaged else None])
        for path in missing:
            os.remove(path)
        lines.clear()
        if intact:
            best = max(intact, key=lambda path: (there[path], path.endswith("latest.pth.tar")))
            path, content = find("yes", str(tmp_path))
            assert path == best and (content["epoch"], content["step"]) == there[best]
            named = [path for path in damaged if any(line.startswith(f"{path}: not a readable") for line in lines)]
            assert len(named) == len(lines) and all("the one before it is taken" in line for line in lines)
            assert set(named) >= {path for path in damaged if there[path] > there[best]}
        elif damaged:
            message = one_line(InputError, find, "yes", str(tmp_path))
            assert any(message.startswith(f"{path}: cannot be resumed") for path in damaged)
        else:
            assert find("yes", str(tmp_path)) == (None, None)


def test_no_means_a_folder_without_checkpoints(tmp_path):
    assert find("no", str(tmp_path)) == (None, None) == find("no", str(tmp_path / "missing"))
    for name in ("latest.pth.tar", "ckp_ep3.pth.tar"):
        (tmp_path / name).touch()
        assert one_line(InputError, find, "no", str(tmp_path)).startswith(f"{tmp_path}: holds checkpoints of an earlier run")
        (tmp_path / name).unlink()


def test_a_path_is_taken_as_it_is(tmp_path, lines):
    for epoch in (1, 2):
        save(path_of(str(tmp_path), epoch), state(epoch))
    path, content = find(path_of(str(tmp_path), 1), str(tmp_path))
    assert path == path_of(str(tmp_path), 1) and content["epoch"] == 1
    assert len(lines) == 1 and "holds later checkpoints" in lines[0]
    for resume, save_dir in ((path_of(str(tmp_path), 2), tmp_path), (path, tmp_path / "elsewhere")):
        find(resume, str(save_dir))
    assert len(lines) == 1
    with open(path, "w"):
        pass
    assert path in one_line(InputError, find, path, str(tmp_path))  # no other checkpoint takes its place


def test_a_folder_whose_name_is_a_pattern(tmp_path):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    save(path_of(str(folder), 1), state(1))
    assert find("yes", str(folder))[1]["epoch"] == 1


def test_settings(lines):
    saved = {"lr": 1e-5, "net": "Inception", "epochs": 600, "data_root": "/a", "resume": "yes", "gone": 1}
    compare_settings(saved, {**saved, "new": 5, "resume": "no", "override": True, "log_file": "x"}, "ckp")
    assert not lines
    compare_settings(saved, {**saved, "epochs": 700, "data_root": "/b"}, "ckp")
    assert lines == ["ckp: goes on with other settings: --epochs was 600, is 700; --data_root was /a, is /b"]
    lines.clear()
    other = {**saved, "epochs": 700, "lr": 0.1, "net": "ResNet18"}
    message, differ = (
        one_line(InputError, compare_settings, saved, other, "ckp"),
        ("--lr was 1e-05, is 0.1; --net was Inception, is ResNet18; "),
    )
    assert message.startswith(f"ckp: cannot resume with other settings: {differ}")
    assert "epochs" not in message and not lines
    compare_settings(saved, other, "ckp", override=True)
    assert lines == [f"ckp: goes on with other settings: {differ}--epochs was 600, is 700"]
