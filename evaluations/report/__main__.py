"""Compares several runs on one page: python -m evaluations.report FILE RUN_FOLDER RUN_FOLDER ..."""

import sys

from evaluations.report import compare
from utils.errors import InputError, exit_on_error


def main() -> None:
    if len(sys.argv) < 3:
        raise InputError("give the page to write and the folders of runs: FILE RUN_FOLDER RUN_FOLDER ...")
    compare(sys.argv[1], sys.argv[2:])
    print(f"the comparison: {sys.argv[1]}")


if __name__ == "__main__":
    exit_on_error(main)
