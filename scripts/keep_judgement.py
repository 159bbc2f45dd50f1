"""Keeps in a gallery how training on its photos was judged, and prints 1 if it helped, else 0: for search_folder.sh.

python scripts/keep_judgement.py training/judgement.json READY-MADE [TRAINED]      # of test.py --select, two nets
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from evaluations.label_free import CHOOSES
from gallery import judged
from utils.errors import exit_on_error


def main() -> None:
    file, ready_made, *trained = sys.argv[1:]
    with open(file, encoding="utf-8") as results:
        before, after = (entry["label_free"][CHOOSES] for entry in json.load(results))
    print(int(judged.keep((before, after), ready_made, next(filter(os.path.isdir, trained), None)).helped))


if __name__ == "__main__":
    exit_on_error(main)
