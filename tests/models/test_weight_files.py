"""Where weights come from: hashes, the cache, working offline, and files that are something else than they claim."""

import hashlib
import io
import os
import shutil
import socket
import subprocess
import warnings

import numpy as np
import pytest
import torch

import models
import payloads
from models import weights
from models.load_tensors import as_tensors
from utils.errors import InputError


@pytest.fixture
def published(tmp_path):
    """(the Published entry of a made-up file, and the file on the server)"""
    server = tmp_path / "server.pth"
    torch.save({"a.weight": torch.arange(6.0).reshape(2, 3)}, server)
    sha = hashlib.sha256(server.read_bytes()).hexdigest()
    return weights.Published("https://example.org/net.pth", sha[:8]), server


def serve(monkeypatch, server, calls=None):
    def download(url, destination, *args, **kwargs):
        if calls is not None:
            calls.append(url)
        shutil.copy(server, destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)


def test_git_blob_id_is_gits_own(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(b"hello\n")
    assert weights.digest(path, "git blob id") == "ce013625030ba8dba906f756967f9e9ca394464a"
    path.write_bytes(os.urandom(3 << 20))
    if shutil.which("git"):
        by_git = subprocess.check_output(["git", "hash-object", "--no-filters", path], text=True)
        assert weights.digest(path, "git blob id") == by_git.strip()
    assert weights.digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_downloaded_once_then_from_the_cache(monkeypatch, offline, published):
    entry, server = published
    calls = []
    serve(monkeypatch, server, calls)
    for _ in range(2):
        assert torch.equal(weights.read(weights.fetch("Net", entry))["a.weight"], torch.arange(6.0).reshape(2, 3))
    assert calls == [entry.url] and os.listdir(offline) == ["net.pth"]


@pytest.mark.parametrize("kind", ["sha256", "git blob id"])
def test_a_download_with_another_hash_is_not_kept(monkeypatch, offline, published, kind):
    entry, server = published
    serve(monkeypatch, server)
    good = entry._replace(kind=kind, digest=weights.digest(server, kind))
    bad = good._replace(digest="0" * 40)
    with pytest.raises(InputError, match=f"no weights for Net: .*{kind}.*expected 0000"):
        weights.fetch("Net", bad)
    assert os.listdir(offline) == []
    assert weights.fetch("Net", good) == offline / "net.pth"


def test_a_wrong_file_put_by_hand_is_named(offline):
    offline.mkdir(parents=True)
    (offline / "inception.pth").write_bytes(b"not it")
    with pytest.raises(InputError, match=rf"{offline}/inception\.pth: not the published.*9474c89.*delete it"):
        models.create("Inception")


@pytest.mark.parametrize(
    "name, file", [("Inception", "inception.pth"), ("BN-Inception", "bn_inception-52deb4733.pth"), ("ResNet50", "resnet50-")]
)
def test_offline_says_what_to_put_where(offline, name, file):
    with pytest.raises(InputError) as caught:
        models.create(name)
    message = str(caught.value)
    assert "\n" not in message
    assert f"no weights for {name}: " in message and f"put that file at {offline}/{file}" in message
    for remedy in ("http", "give a weights file", "the net EfficientNet-Lite0", "Name or service not known"):
        assert remedy in message


def test_a_stalled_download_is_given_up(monkeypatch, published):
    seen = []

    def stall(*args, **kwargs):
        seen.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(torch.hub, "download_url_to_file", stall)
    with pytest.raises(InputError, match="timed out"):
        weights.fetch("Net", published[0])
    assert seen == [weights.TIMEOUT] and socket.getdefaulttimeout() is None


@pytest.mark.filterwarnings("error")  # torch's warnings would give bad advice
@pytest.mark.parametrize("form", payloads.WRITERS)
def test_code_in_a_file_is_refused_and_never_run(tmp_path, form):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    payloads.write(form, {"conv1.7x7_s2.weight": np.ones(3, np.float32), "x": payloads.Payload(marker)}, path)
    for suffix in (".pth", ".safetensors", ".npz"):
        named = path.with_suffix(suffix)
        if named != path:
            shutil.copy(path, named)
        with pytest.raises(InputError, match=r"evil\.\w+: ") as caught:
            models.create("Inception", weights=named)
        message = str(caught.value)
        assert not marker.exists() and "\n" not in message
        assert "weights_only" not in message and "trust" not in message and len(message) < len(str(named)) + 200
        if form in ("zip", "legacy", "pickle") and suffix != ".safetensors":
            assert "refused, because it holds" in message and "system" in message
    payloads.read_carelessly(form, path)
    assert marker.exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["program", "pickle of protocol 5"])
def test_other_files_that_torch_warns_of_are_refused_in_our_words(tmp_path, kind):
    path = tmp_path / "odd.pth"
    if kind == "program":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)).save(str(path))
    else:
        torch.save({"a": payloads.Payload(tmp_path / "ran")}, path, pickle_protocol=5)
    reason = "refused, because such files" if kind == "program" else "broken, or not in a form that torch.save writes"
    with pytest.raises(InputError, match=rf"odd\.pth: not a readable weights file \({reason}") as caught:
        weights.read(path)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken zip", b"\x80\x02broken", "truncated"])
def test_broken_file(tmp_path, content):
    path = tmp_path / "broken.pth"
    if content == "truncated":
        buffer = io.BytesIO()
        torch.save({"a": torch.randn(100)}, buffer)
        content = buffer.getvalue()[:-200]
    path.write_bytes(content)
    for suffix in (".pth", ".safetensors"):
        renamed = path.rename(path.with_suffix(suffix))
        with pytest.raises(InputError, match=r"broken\.\w+: ") as caught:
            weights.read(renamed)
        assert "\n" not in str(caught.value)
        path = renamed


def test_a_flipped_bit_is_noticed(tmp_path):
    """torch alone would not notice it."""
    path = tmp_path / "flipped.pth"
    torch.save({"a": torch.ones(1000)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(bytes(torch.ones(1).numpy().data) * 100) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"flipped\.pth: not a readable weights file .the checksum of .* is wrong"):
        weights.read(path)
    assert torch.load(path, weights_only=True)["a"].ne(1).any()


@pytest.mark.parametrize("path", ["nowhere.pth", "~no-such-user/x.pth", "n" * 300, "."])
def test_missing_file(path):
    with pytest.raises(InputError, match=f"{path}: no such weights file"):
        models.create("ResNet18", weights=path)


@pytest.mark.parametrize("held", [[1, 2], {}, {"a": 1}, {"a": np.array(["text"])}])
def test_file_without_weights(tmp_path, held):
    torch.save(held, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"odd\.pth: "):
        models.create("ResNet18", weights=tmp_path / "odd.pth")


def test_arrays_of_every_usual_kind_are_read(tmp_path):
    held = {code: np.arange(4).astype(code) for code in ("f2", "f4", "f8", "i4", "i8")}
    torch.save({"state_dict": held}, tmp_path / "arrays.pth")
    got = weights.read(tmp_path / "arrays.pth")
    for code, array in held.items():
        assert got[code].dtype == array.dtype and (got[code] == array).all()


def test_arrays_of_the_other_byte_order_become_tensors(tmp_path):
    torch.save({"a": np.arange(4).astype(">f4")}, tmp_path / "arrays.pth")
    assert as_tensors(weights.read(tmp_path / "arrays.pth"), "arrays.pth")["a"].tolist() == [0, 1, 2, 3]
