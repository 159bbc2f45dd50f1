"""Studies the closed form on data sets: the gain of each part, fewer images, transfer to another set, and the choice of
weight by soft agreement, which needs no labels.

    python scripts/closed_form_table.py FOLDER ... [--net EfficientNet-Lite0] [--width 128] [--ae_svc] [--cross]
    python scripts/closed_form_table.py               # prints and plots the existing results

FOLDER: a data set with train.txt and test.txt. Features of each set, and a JSON file of results for each set, net and width,
are kept below --scratch, and are not made again. Labels are for scores only. Seconds are CPU seconds over all cores.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from closed_form_features import Features
from closed_form_fits import Results, Study, across, study_ae_svc
from closed_form_print import print_tables

from data.dataset import read_train
from utils.errors import exit_on_error


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="data sets; without any, existing results are printed")
    parser.add_argument("--net", default="EfficientNet-Lite0")
    parser.add_argument("--width", type=int, default=128, help="side of the crops; an image's shorter side is 9/8 of it")
    parser.add_argument("--scratch", type=Path, default=Path("results/closed_form"), help="folder for features and results")
    parser.add_argument("--ae_svc", action="store_true", help="also train AE-SVC, which about doubles the time")
    parser.add_argument("--cross", action="store_true", help="also test each set's closed form on the other sets")
    args = parser.parse_args()
    sets = []
    for folder in args.folders:
        features = Features(folder, args.net, args.width, args.scratch)
        about = {"set": features.set, "net": args.net, "width": args.width, "train_images": len(read_train(folder))}
        results = Results(args.scratch / f"{features.name}.json", **about)
        Study(features, results).run()
        sets.append((features, results))
    for features, results in sets:
        if args.ae_svc:
            study_ae_svc(features, results)
    for features, results in sets:
        for other, _ in sets:
            if args.cross and other is not features:
                across(features, other, results)
    contents = [json.loads(path.read_text()) for path in args.scratch.glob("*.json")]
    print_tables(sorted(contents, key=lambda f: (f["width"], f["net"], f["set"])), args.scratch)


if __name__ == "__main__":
    exit_on_error(main)
