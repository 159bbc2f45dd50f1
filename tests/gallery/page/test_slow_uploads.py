"""Pictures that take long to decode: they are given up, hold up nobody, and do not keep the program from ending."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import httpx
import pytest
from fake_gallery import view
from visits import PAGE, noise, png, send, served

from gallery.page import decoder
from utils.errors import InputError

ROOT = Path(__file__).parents[3]


def slow_picture():
    """Return a PNG that takes 2 s to open on a fast machine: it has 1.4 million chunks of text, and 20 MB."""
    whole = png(noise(1))
    place = whole.index(b"IDAT") - 4
    text = struct.pack(">I", 2) + b"tEXta\0" + struct.pack(">I", zlib.crc32(b"tEXta\0"))
    return whole[:place] + text * 1_400_000 + whole[place:]


@pytest.fixture(scope="module", autouse=True)
def no_helper_is_left():
    yield
    decoder.close()


def test_a_slow_picture_is_given_up_and_others_go_on(drawn, monkeypatch):
    root, paths = drawn
    monkeypatch.setattr(decoder, "SECONDS", 1.25)
    answers = {}

    def upload(name, data):
        began = time.monotonic()
        answers[name] = httpx.post(f"{address}/api/upload", content=data, headers=PAGE, timeout=60), time.monotonic() - began

    with served([view("ready-made", paths[:3], root=root)]) as address:
        for helper in decoder.helpers:
            helper.decode(png(noise(2)), [64], 10**9)  # so that both have started
        slow = threading.Thread(target=upload, args=("slow", slow_picture()))
        slow.start()
        time.sleep(0.5)
        upload("other", png(noise(2)))
        assert "slow" not in answers and answers["other"][1] < 3
        slow.join()
        upload("after", png(noise(2)))
    answer, seconds = answers["slow"]
    assert answer.status_code == 415 and "longer than 1.25 seconds" in answer.json()["error"] and seconds < 12
    assert all(answers[name][0].status_code == 200 for name in ("other", "after"))


def kill_all():
    for helper in decoder.helpers:
        if helper.process and helper.process.poll() is None:
            process = helper.process
            os.kill(process.pid, signal.SIGKILL)
            process.wait(5)


def test_a_helper_that_dies(page):
    send(page, png(noise(2)))
    kill_all()
    send(page, png(noise(2)))
    busy = threading.Timer(0.8, kill_all)
    busy.start()
    sentence = send(page, slow_picture(), 415)
    busy.join()
    assert sentence.startswith("This image cannot be read") and sentence.endswith(".")
    send(page, png(noise(2)))


def test_a_helper_says_why_a_file_cannot_be_read():
    with pytest.raises(InputError, match="^the file is empty$"):
        decoder.decode(b"", [64], 10**9)
    images, thumbnail = decoder.decode(png(noise(2)), [64, 20], 10**9)
    assert [image.size for image in images] == [(76, 64), (24, 20)] and thumbnail[:2] == b"\xff\xd8"


PROGRAM = """
import signal, sys, threading
sys.path[:0] = [{root!r}, {here!r}]

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    from fake_gallery import view
    from gallery.page.app import create_app
    from gallery.page.server import address_of, bind, serve

    listener = bind("127.0.0.1", 0)
    print(address_of(listener), flush=True)
    try:
        serve(create_app([view("ready-made", {paths!r})], ["127.0.0.1"]), listener)
    except KeyboardInterrupt:
        sys.exit(130)

if __name__ == "__main__":
    main()
"""


def test_ctrl_c_while_a_slow_picture_is_decoded(drawn, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(ROOT), here=str(Path(__file__).parent), paths=drawn[1][:2]))
    command = [sys.executable, str(program)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            address = process.stdout.readline().strip()
            assert httpx.post(f"{address}api/upload", content=png(noise(2)), headers=PAGE, timeout=60).status_code == 200
            upload = threading.Thread(target=lambda: post_quietly(f"{address}api/upload", slow_picture()))
            upload.start()
            time.sleep(1)
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: also to the helper
            out, err = process.communicate(timeout=20)
            assert time.monotonic() - began < 4.5, err
        finally:
            process.kill()
        upload.join()
    assert process.returncode == 130 and not out and not err


def post_quietly(address, data):
    try:
        httpx.post(address, content=data, headers=PAGE, timeout=60)
    except httpx.HTTPError:
        pass
