"""Times scripts/search_folder.sh from its start to the page, the first neighbours, the groups and the map.

python scripts/benchmarks/at_once.py FOLDER [--project OTHER_CHECKOUT] [--port 8600]
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTENSIONS = (".jpg", ".jpeg", ".png")
PAUSE = 0.2  # seconds between two looks


def answer_of(url):
    """Return the text of an answer with status 200; None for any other, and while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read().decode() if answer.status == 200 else None
    except (OSError, urllib.error.HTTPError):
        return None


def first_image(folder):
    """Return the first image of a folder in order of the paths: a gallery that is being filled holds it from the start."""
    paths = [str(path) for path in Path(folder).absolute().rglob("*") if path.suffix.lower() in EXTENSIONS]
    return min(path for path in paths if "/." not in path)


def cpu_of_session(session):
    """Return the CPU seconds of the processes of a session, and of their children that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # the name, in brackets, may hold anything
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(project, folder, port):
    """Return {event: seconds from the start}, and the CPU seconds of all processes."""
    key = hashlib.blake2b(os.fsencode(first_image(folder)), digest_size=8).hexdigest()
    url = f"http://127.0.0.1:{port}/"
    events = {
        "the page answers": url,
        "first neighbours": f"{url}api/0/search?image={key}&count=60",
        "all images": f"{url}api/galleries",
        "groups": f"{url}api/0/clusters",
        "map": f"{url}api/0/map",
    }
    seconds = dict[str, float]()
    with tempfile.TemporaryDirectory() as results:
        settings = {"ROOT": results, "PORT": str(port), "SERVE_FLAGS": "", "PYTHON": sys.executable}
        command = [Path(project) / "scripts" / "search_folder.sh", folder]
        began = time.perf_counter()
        running = subprocess.Popen(command, env={**os.environ, **settings}, start_new_session=True)
        try:
            while len(seconds) < len(events) and running.poll() is None:
                for event in [name for name in events if name not in seconds]:
                    text = answer_of(events[event])
                    if event == "all images" and text:
                        galleries = json.loads(text)["galleries"]
                        text = galleries and not galleries[0].get("of")
                    if not text:
                        break
                    seconds[event] = time.perf_counter() - began
                    print(f"{event}: {seconds[event]:.1f} s", file=sys.stderr)
                time.sleep(PAUSE)
            cpu = cpu_of_session(running.pid)
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(running.pid, number)
                except ProcessLookupError:
                    break
                time.sleep(3)
            running.wait()
    return seconds, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--project", nargs="*", default=[ROOT], help="checkouts to compare, one after the other")
    parser.add_argument("--port", type=int, default=8600)
    args = parser.parse_args()
    rows = {}
    for number, project in enumerate(args.project):
        seconds, cpu = timed(project, args.folder, args.port + number)
        rows[str(project)] = {**seconds, "CPU": cpu}
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    print("| | " + " | ".join(rows) + " |\n|---|" + "---|" * len(rows))
    for name in names:
        print(f"| {name}, s | " + " | ".join(f"{row[name]:.1f}" if name in row else "" for row in rows.values()) + " |")


if __name__ == "__main__":
    main()
