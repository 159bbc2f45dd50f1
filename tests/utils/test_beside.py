"""The file beside the checkpoints: when it is written, found, refused and removed."""

import os
import random

import pytest
import torch

import payloads
from utils import beside, checkpoint
from utils.checkpoint import LATEST, Saver, find, load, path_of, save
from utils.errors import InputError, Interrupted, RunError

LOOKS = [
    {"neighbours": torch.arange(i, 60 + i, dtype=torch.int32).view(20, 3), "distance": torch.rand(20, 3)} for i in (0, 1, 2)
]


def state(epoch, step=0, look=0):
    net = {"w": torch.full((2,), float(epoch))}
    return {"state_dict": net, "method": dict(net), "epoch": epoch, "step": step, "look": LOOKS[look]}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def looks_in(folder):
    """Return the numbers of the LOOKS whose files are in a folder."""
    paths = [beside.path_of(str(folder), beside.digest_of(look)) for look in LOOKS]
    assert beside.all_in(str(folder)) == {path for path in paths if os.path.exists(path)}
    return [number for number, path in enumerate(paths) if os.path.exists(path)]


def one_line(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def damage(path):
    os.truncate(path, os.path.getsize(path) // 2)


def test_it_is_written_once_and_found(tmp_path):
    files = set()
    for epoch in (1, 2):
        save(path_of(str(tmp_path), epoch), state(epoch))
        (path,) = beside.all_in(str(tmp_path))
        files.add((os.stat(path).st_ino, os.stat(path).st_mtime_ns))
        found = find("yes", str(tmp_path))[1]
        assert same(found["method"], {"w": torch.full((2,), float(epoch)), **LOOKS[0]}) and found["epoch"] == epoch
    assert len(files) == 1
    assert load(path_of(str(tmp_path), 2))["method"].keys() == {"w"}  # who only wants the net does not read it


def test_the_hash_depends_on_every_part():
    same_bytes = torch.arange(6, dtype=torch.int32)
    others = [{"a": same_bytes}, {"b": same_bytes}, {"a": same_bytes.view(torch.float32)}, {"a": same_bytes.view(2, 3)},
              {"a": same_bytes + 1}, {"a": same_bytes, "b": same_bytes}]  # fmt: skip
    assert len(set(map(beside.digest_of, others))) == len(others)
    two = {"a": same_bytes, "b": same_bytes + 1}
    assert beside.digest_of(two) == beside.digest_of(dict(reversed(two.items())))


def test_a_checkpoint_of_before_or_of_a_method_without(tmp_path):
    for look in ({}, {"look": {}}):
        save(path_of(str(tmp_path), 1), {"state_dict": {}, "method": LOOKS[0], "epoch": 1, **look})
        assert same(find("yes", str(tmp_path))[1]["method"], LOOKS[0]) and not looks_in(tmp_path)


def test_it_is_on_the_disk_before_a_checkpoint_names_it(tmp_path, monkeypatch):
    path, events = path_of(str(tmp_path), 1), []

    def fsync(handle, real=os.fsync):
        real(handle)
        events.append((os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))[:4], os.path.exists(path)))

    monkeypatch.setattr(os, "fsync", fsync)
    save(path, state(1))
    folder = tmp_path.name[:4]
    assert events == [("look", False), (folder, False), ("ckp_", False), (folder, True)]


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("error", [Interrupted("by SIGTERM", 143), OSError(28, "No space left on device")])
def test_a_stop_at_any_moment_leaves_the_old_state_or_the_new_one(tmp_path, monkeypatch, name, call, error):
    folder, calls = str(tmp_path), []
    save(os.path.join(folder, LATEST), state(1))

    def stops(*arguments, real=getattr(os, name)):
        calls.append(1)
        if len(calls) == call + 1:
            raise error
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, stops)
        try:
            save(os.path.join(folder, LATEST), state(2, look=1))
        except (Interrupted, RunError):
            pass
    Saver(folder, None)  # the next run's
    found = find("yes", folder)[1]
    assert found["epoch"] in (1, 2) and same(found["method"], state(found["epoch"])["method"] | LOOKS[found["epoch"] - 1])
    assert 0 in looks_in(tmp_path) and not list(tmp_path.glob("*.tmp*"))


def test_it_goes_only_when_no_checkpoint_names_it(tmp_path):
    content = state(1)
    saver = Saver(str(tmp_path), lambda: content, minutes=1e-9, keep_last=2)
    saver.epoch(1)
    content = state(1, step=1, look=1)
    saver.after_step()
    assert looks_in(tmp_path) == [0, 1]
    content = state(2, look=2)
    saver.epoch(2)
    assert looks_in(tmp_path) == [0, 1, 2]  # 1 belongs to the rolling checkpoint
    content = state(2, step=1, look=2)
    saver.after_step()
    assert looks_in(tmp_path) == [0, 2]
    os.rename(path_of(str(tmp_path), 1), tmp_path / "best.pth.tar")  # a user keeps it under another name
    for epoch in (3, 4):
        content = state(epoch, look=2)
        saver.epoch(epoch)
    assert looks_in(tmp_path) == [0, 2]
    os.remove(tmp_path / "best.pth.tar")
    damage(path_of(str(tmp_path), 3))  # what it names is not known
    content = state(4, step=1, look=2)
    saver.after_step()
    assert looks_in(tmp_path) == [0, 2]
    os.remove(path_of(str(tmp_path), 3))
    saver.after_step()
    assert looks_in(tmp_path) == [2]


def test_what_a_run_left_that_was_killed_before_its_first_checkpoint_goes(tmp_path):
    beside.write(str(tmp_path), LOOKS[1])
    assert find("no", str(tmp_path)) == (None, None) == find("yes", str(tmp_path))
    Saver(str(tmp_path), lambda: state(1)).epoch(1)
    assert looks_in(tmp_path) == [0]


@pytest.mark.parametrize(
    "spoil", [damage, os.remove, lambda path: torch.save(LOOKS[1], path), lambda path: torch.save([1], path)]
)
def test_without_it_a_checkpoint_is_refused_and_the_one_before_is_taken(tmp_path, lines, spoil):
    folder = str(tmp_path)
    save(path_of(folder, 1), state(1))
    save(os.path.join(folder, LATEST), state(2, look=2))
    spoil(beside.path_of(folder, beside.digest_of(LOOKS[2])))
    path, found = find("yes", folder)
    assert path == path_of(folder, 1) and same(found["method"], state(1)["method"] | LOOKS[0])
    assert len(lines) == 1 and lines[0].startswith(f"{folder}/{LATEST}: cannot be resumed without look_")
    assert "look_" in one_line(find, os.path.join(folder, LATEST), folder)
    load(os.path.join(folder, LATEST))  # the net can still be used
    spoil(beside.path_of(folder, beside.digest_of(LOOKS[0])))
    assert "cannot be resumed, and there is no other checkpoint" in one_line(find, "yes", folder)


@pytest.mark.parametrize("spoil", [damage, lambda path: torch.save(LOOKS[1], path)])
def test_a_new_run_makes_it_anew_where_it_is_damaged(tmp_path, spoil):
    folder = str(tmp_path)
    Saver(folder, lambda: state(1)).epoch(1)
    spoil(*beside.all_in(folder))
    os.remove(path_of(folder, 1))
    Saver(folder, lambda: state(1)).epoch(1)
    assert same(find("yes", folder)[1]["method"], state(1)["method"] | LOOKS[0])


def test_a_loaded_checkpoint_can_be_saved_again(tmp_path):
    path = path_of(str(tmp_path), 1)
    save(path, state(1))
    save(path, {**load(path), "epoch": 2})
    found = find(path, str(tmp_path))[1]
    assert found["epoch"] == 2 and same(found["method"], state(1)["method"] | LOOKS[0])


def test_a_named_checkpoint_brings_it_from_its_own_folder(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    save(path_of(str(old), 1), state(1))
    found = find(path_of(str(old), 1), str(new))[1]
    assert same(found["method"], state(1)["method"] | LOOKS[0])
    Saver(str(new), lambda: state(2)).epoch(2)
    assert looks_in(new) == [0] == looks_in(old)


@pytest.mark.parametrize("look", ["../../x", "0" * 63, 5, None, [1], torch.ones(3), {"a": 1}])
def test_a_name_that_could_be_another_file_is_refused(tmp_path, look):
    path = path_of(str(tmp_path), 1)
    torch.save({**state(1), "look": look}, path)
    assert "its `look` is no hash" in one_line(load, path)
    torch.save({"state_dict": {}, "epoch": 1, "look": "0" * 64}, path)
    assert "has no `method`" in one_line(load, path)


def test_code_in_it_never_runs(tmp_path):
    path, marker = path_of(str(tmp_path), 1), tmp_path / "ran"
    save(path, state(1))
    (look,) = beside.all_in(str(tmp_path))
    payloads.write("zip", {"neighbours": payloads.Payload(marker)}, look)
    assert "nothing of it was run" in one_line(find, path, str(tmp_path)) and not marker.exists()


def test_a_flipped_bit_is_seen(tmp_path):
    path, draw = path_of(str(tmp_path), 1), random.Random(0)
    save(path, state(1))
    (look,) = beside.all_in(str(tmp_path))
    with open(look, "rb") as file:
        data = file.read()
    numbers = LOOKS[0]["neighbours"].numpy().tobytes()
    for place in range(data.index(numbers), data.index(numbers) + len(numbers), 7):
        with open(look, "wb") as file:
            file.write(data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :])
        assert "cannot be resumed without look_" in one_line(find, path, str(tmp_path))
    assert checkpoint.load(path)["epoch"] == 1
