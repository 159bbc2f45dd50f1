"""The flags that train.py and test.py share, and how flags are read."""

import argparse
import os
import re
import sys

from utils.errors import InputError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors, one line like all others."""

    def parse_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        for text in args:  # no file needs such a name, and the log, the errors and the system would each trip over it
            if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
                self.error(f"{ascii(text)[:200]} holds a line break or another control character")
            if re.fullmatch(r"--?[\w-]+=--|-\w--", text):  # argparse makes an empty list of it, whatever the flag's type
                self.error(f"{text}: `--` is not a value")
        return super().parse_args(args, namespace)

    def error(self, message):
        raise InputError(f"{message} (see {self.prog} --help)")


def boolean(text):
    """True or False from what people write on a command line, 0 and 1 included."""
    known = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"`{text}` is neither True nor False")
    return known[text.lower()]


def number(kind, least, above=False, most=2**31 - 100):
    """A parser of numbers, int or float, that are at least (or, with `above`, above) `least`, and at most `most`.

    Every count and seed fits 32 bits so, seeds of clusterings counted on from it too.
    """

    def parse(text):
        value = kind(text)
        if not (value > least if above else value >= least):
            raise argparse.ArgumentTypeError(f"{text} is not {'above' if above else 'at least'} {least}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is above {most}")
        return value

    parse.__name__ = kind.__name__  # argparse names it in its own errors
    return parse


positive_int, natural = number(int, 1), number(int, 0)
positive_float, weight = number(float, 0, above=True), number(float, 0)
side = number(int, 1, most=4096)  # of images in pixels; one of that size takes 50 MB, and the network some GB for it


def add_common(parser):
    """Which images, how they are cropped, and where it runs."""
    add = parser.add_argument
    add("--data", default="cub", help="a name in data/dataset.py, a folder under --data_root, or a path")
    add("--data_root", default=os.environ.get("DATA_ROOT"), help="folder of the data sets (default: $DATA_ROOT)")
    add("--gallery_eq_query", "-g_eq_q", type=boolean, default=None,
        help="True: test.txt is gallery and query; False: gallery.txt and query.txt (default: whichever is there)")
    add("--weights", default=None, help="file of pretrained backbone weights, instead of the net's own source")
    add("--pool_feature", type=boolean, default=False, help="evaluate the pooled backbone features, not the embedding")
    add("--on_bad_image", choices=("stop", "skip"), default="stop", help="skip leaves unreadable images out")
    add("--nThreads", "-j", type=number(int, 0, most=1024), default=None,
        help="data loading processes; 0 loads in the main one (default: up to 8 for a GPU, 0 on the CPU and for few images)")
    add("--seed", type=natural, default=0, help="of all random draws")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    add("--amp", choices=("auto", "off", "bf16", "fp16"), default="auto", help="precision of the network's forward pass")
    add("--channels_last", type=boolean, default=None, help="memory layout of the network (default: by device)")
    add("--features_dir", default=None, help="keep features in temporary files there: for lists larger than the memory")
    add("--log_file", default=None, help="also append the log to this file")


def add_crops(parser):
    """How training cuts its crops out of the images, and whether it keeps these decoded."""
    add = parser.add_argument
    add("--width", type=side, default=227, help="side of the crops; smaller is faster")
    add("--origin_width", type=side, default=256, help="shorter side of an image before cropping")
    add("--ratio", type=float, default=0.16, help="smallest share of the image in a crop; raise it for small subjects")
    add("--cache", choices=("auto", "none", "ram", "disk"), default="auto",
        help="keep the images decoded, in memory or in a file (disk: for many photos far larger than --origin_width); auto: "
        "in memory, where they are few")
    add("--cache_dir", default=None, help="folder of --cache disk, one for each data set (default: .cache beside train.txt)")
