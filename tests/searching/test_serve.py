"""search.py serve: what its address shows, and how it ends."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from galleries import TINY, checkpoint_of

ROOT = Path(__file__).parents[2]


def served(folder, *flags):
    """Start search.py serve. Returns (process, the line with the addresses); its log goes to stderr."""
    command = [sys.executable, "search.py", "serve", folder, "--port", "0", *flags]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGINT, before)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "the page is at" in line:
            return process, line
    raise AssertionError("".join(lines))


def test_a_page_notices_a_renewed_gallery_and_ends_with_ctrl_c(made, tmp_path, run):
    images, gallery = shutil.copytree(made / "photos", tmp_path / "photos"), tmp_path / "gallery"
    flags = ("--images", images, "--checkpoint", checkpoint_of(tmp_path, 1), *TINY, "--out", gallery)
    run("embed", *flags)
    process, line = served(gallery)
    try:
        with httpx.Client(base_url=re.search(r"http://\S+", line)[0]) as visitor:
            before = visitor.get("api/galleries").json()
            (images / "worse.jpg").unlink()
            run("embed", *flags)
            time.sleep(2.1)  # the page looks at the disk at most every 2 s
            now = visitor.get("api/galleries").json()
            assert now["state"] != before["state"]
            assert now["galleries"][0]["count"] == before["galleries"][0]["count"] - 1
            data, headers = (images / "same.jpg").read_bytes(), {"X-Requested-With": "page"}
            token = visitor.post("api/upload", content=data, headers=headers, timeout=60).json()["upload"]
            found = visitor.get("api/0/search", params={"upload": token}).json()["items"]
            assert {item["name"] for item in found[:2]} == {"000.jpg", "same.jpg"} and found[0]["similarity"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


def test_a_page_for_other_machines(folder):
    process, line = served(folder, "--host", "0.0.0.0", "--password")
    try:
        for address in re.findall(r"http://\S+", line):
            assert "0.0.0.0" not in address
            with httpx.Client() as visitor:
                assert visitor.get(address, follow_redirects=True).status_code == 200
            assert httpx.get(address.partition("?")[0]).status_code == 401
    finally:
        process.kill()
        process.communicate()
    process, _ = served(folder, "--host", "0.0.0.0")
    try:
        assert "everyone in the network can see the photos" in process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
