"""The closed form on data sets: what each part of it brings, how few images are enough, whether it carries over to another
set, and whether neighbour agreement, which needs no labels, tells the weights that are good.

    python scripts/closed_form_table.py FOLDER ... [--net EfficientNet-Lite0] [--width 128] [--ae_svc] [--cross]
    python scripts/closed_form_table.py               # prints what is there, and plots it

FOLDER: a data set with train.txt and test.txt. Features of each set are kept below --scratch and results in a JSON file for
each set, net and width; neither is made a second time. Labels are for scores only. Seconds are of the CPU, over all cores.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from closed_form_features import Frozen
from closed_form_fits import Results, Study, across, study_ae_svc
from closed_form_print import print_tables

from data.dataset import read_train
from utils.errors import exit_on_error


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="data sets; without one, what is there is printed")
    parser.add_argument("--net", default="EfficientNet-Lite0")
    parser.add_argument("--width", type=int, default=128, help="side of the crops; images come with 9/8 of it")
    parser.add_argument("--scratch", type=Path, default=Path("results/closed_form"), help="features and results")
    parser.add_argument("--ae_svc", action="store_true", help="also AE-SVC, which takes about as long as all the rest")
    parser.add_argument("--cross", action="store_true", help="also fit to each of the sets and test on the others")
    args = parser.parse_args()
    sets = []
    for folder in args.folders:
        frozen = Frozen(folder, args.net, args.width, args.scratch)
        about = {"set": frozen.set, "net": args.net, "width": args.width, "train_images": len(read_train(folder))}
        results = Results(args.scratch / f"{frozen.name}.json", **about)
        Study(frozen, results).run()
        sets.append((frozen, results))
    for frozen, results in sets:
        if args.ae_svc:
            study_ae_svc(frozen, results)
    for frozen, results in sets:
        for other, _ in sets:
            if args.cross and other is not frozen:
                across(frozen, other, results)
    found = [json.loads(path.read_text()) for path in args.scratch.glob("*.json") if path.name != "agreement.json"]
    print_tables(sorted(found, key=lambda f: (f["width"], f["net"], f["set"])), args.scratch)


if __name__ == "__main__":
    exit_on_error(main)
