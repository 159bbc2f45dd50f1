"""Reads command lines, and adds the flags that several entry points share."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from utils.errors import InputError

DEFAULT_METHOD = "udml_ss"
METHOD_ALIASES = {"labels": "supervised", "rot_only": "rotation"}  # flag of the original -> the method that replaces it


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors, in one line."""

    def __init__(self, *args: Any, any_text: Collection[str] = (), **settings: Any) -> None:
        """any_text: names of arguments that may hold control characters, because they name files of the user."""
        super().__init__(*args, **settings)
        self.any_text = any_text

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else args
        for text in args:
            if not self.any_text:
                self._refuse_control(text)
            if re.fullmatch(r"--?[\w-]+=--|-\w--", text):  # argparse turns it into an empty list, whatever the flag's type
                self.error(f"{text}: `--` is not a value")
        namespace, others = super().parse_known_args(args, namespace)
        for name, value in vars(namespace).items():
            for text in value if isinstance(value, list) else [value]:
                if name not in self.any_text and isinstance(text, str):
                    self._refuse_control(text)
        return namespace, others

    def _refuse_control(self, text: str) -> None:
        if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):  # logs and error lines would break at it
            self.error(f"{ascii(text)[:200]} holds a line break or another control character")

    def changed(self, args: argparse.Namespace) -> dict[str, Any]:
        """Return the settings that differ from their defaults."""
        return {name: value for name, value in vars(args).items() if value != self.get_default(name)}

    def error(self, message: str) -> NoReturn:
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)
        raise InputError(f"{line} (see {self.prog} --help)")


def boolean(text: str) -> bool:
    """Read True or False as people write them on a command line, 0 and 1 included."""
    true = text.lower() in ("true", "yes", "1", "1.0")
    if not true and text.lower() not in ("false", "no", "0", "0.0"):
        raise argparse.ArgumentTypeError(f"`{text}` is neither True nor False")
    return true


def number(convert: type, least: float, above: bool = False, most: float = 2**31 - 100) -> Callable[[str], Any]:
    """Return the type of a flag: an int or float (`convert`) from `least` to `most`. above: it must be above `least`.

    The default `most` keeps every count and seed, and seeds a little above it, within 32 bits.
    """

    def parse(text: str) -> Any:
        value = convert(text)
        if not (value > least if above else value >= least):
            raise argparse.ArgumentTypeError(f"{text} is not {'above' if above else 'at least'} {least}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is above {most}")
        return value

    parse.__name__ = convert.__name__  # argparse shows this name in its own errors
    return parse


def number_or_auto(text: str) -> int | str:
    """Read a number of 1 or more, or `auto`."""
    return text if text == "auto" else positive_int(text)


number_or_auto.__name__ = "int"  # argparse shows this name in its own errors
positive_int, natural = number(int, 1), number(int, 0)
positive_float, weight = number(float, 0, above=True), number(float, 0)
side = number(int, 1, most=4096)  # pixels; an image of 4096 x 4096 takes 50 MB, and the network some GB for it


def add_method(parser: argparse.ArgumentParser, names: list[str]) -> None:
    """Add --method, and the flags of the original that stand for a method."""
    parser.add_argument("--method", default=None, help=f"training method: {', '.join(names)} (default: {DEFAULT_METHOD})")
    for flag, name in METHOD_ALIASES.items():
        parser.add_argument(f"--{flag}", type=boolean, default=False, help=f"True: the same as --method {name}")


def method_of(args: argparse.Namespace) -> str:
    """Return the name of the requested method. InputError where the flags name more than one."""
    names = {name for flag, name in METHOD_ALIASES.items() if getattr(args, flag)} | {args.method} - {None}
    if len(names) > 1:
        raise InputError(f"--method: {' and '.join(sorted(names))} at once; give one of them")
    return names.pop() if names else DEFAULT_METHOD


def settle_method(args: argparse.Namespace, name: str, parser: Parser) -> None:
    """Set `method` in `args` to `name`, and remove the original's flags for methods."""
    if method_of(args) != name:
        parser.error("--method was abbreviated; write it in full")
    for alias in METHOD_ALIASES:
        delattr(args, alias)
    args.method = name
    parser.set_defaults(method=DEFAULT_METHOD)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the flags that train.py and test.py share: the images, the device, and others."""
    add = parser.add_argument
    add("--data", default="cub", help="the data set: a name in data/dataset.py, a folder under --data_root, or a path")
    add("--data_root", default=os.environ.get("DATA_ROOT"), help="the folder of all data sets (default: $DATA_ROOT)")
    about = "True: test.txt is gallery and query; False: gallery.txt and query.txt (default: whichever is there)"
    add("--gallery_eq_query", "-g_eq_q", type=boolean, default=None, help=about)
    add("--weights", default=None, help="a file of pretrained backbone weights, instead of the net's own source")
    add("--pool_feature", type=boolean, default=False, help="evaluate the pooled backbone features, not the embedding")
    add("--on_bad_image", choices=("stop", "skip"), default="stop", help="stop at an unreadable image, or skip it")
    about = "data loading processes; 0 loads in the main one (default: up to 8 for a GPU, 0 on the CPU and for few images)"
    add("--nThreads", "-j", type=number(int, 0, most=1024), default=None, help=about)
    add("--seed", type=natural, default=0, help="seed of all random draws")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto, which takes the best available")
    about = "precision of the forward pass; auto: half on a GPU, off elsewhere; the paper's results were made with off"
    add("--amp", choices=("auto", "off", "bf16", "fp16"), default="auto", help=about)
    add_engine(add)
    add("--channels_last", type=boolean, default=None, help="memory layout of the network (default: by device)")
    about = "a folder for temporary files of features above 2 GB, and of activations (default: train.py takes --save_dir)"
    add("--features_dir", default=None, help=about)
    about = "no: do not write the page about the run, report.html beside the checkpoints"
    add("--report", choices=("yes", "no"), default="yes", help=about)
    add("--log_file", default=None, help="also append the log to this file")


def add_image_memory(add: Callable[..., Any]) -> None:
    """add: `add_argument` of a parser."""
    about = "GB that decoding one image may take; more for images of several hundred megapixels (default: 2)"
    add("--image_memory", type=positive_float, default=2.0, metavar="GB", help=about)


def add_engine(add: Callable[..., Any]) -> None:
    """add: `add_argument` of a parser."""
    about = (
        "what runs the net where it does not learn. onnx: ONNX Runtime, about twice as fast on a CPU. auto (default): onnx "
    )
    about += "on a CPU, from about a thousand images on, if the net can be exported; else torch"
    add("--engine", choices=("auto", "torch", "onnx"), default="auto", help=about)


def add_readout(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add --readout, which turns the backbone's features into the embedding. several: the flag takes more than one value."""
    about = "how an embedding is taken from the net. embedding: its embedding head. closed_form: the closed form, fitted "
    about += "without labels to the training images. auto: the closed form, unless there are too few images to fit it"
    values = {"nargs": "+", "default": None} if several else {"default": "embedding"}
    about += " (default: all that a checkpoint has)" if several else ""
    parser.add_argument("--readout", "--head", choices=("embedding", "closed_form", "auto"), help=about, **values)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the training flags that all methods share. The defaults are the paper's settings for CUB."""
    add = parser.add_argument
    # model
    add("--net", default="Inception", help="backbone; a wrong name lists them all; timm/<name> takes any timm model")
    add("--pretrained", type=boolean, default=True, help="start from ImageNet weights")
    add("--freeze_BN", type=boolean, default=True, help="keep BatchNorm statistics fixed (only with --pretrained)")
    add("--dim", type=positive_int, default=512, help="embedding size")
    add_readout(parser)
    about = "train this stage of the net and those above it; top: about a third, middle: a half; a wrong name lists them"
    add("--train_from", default="all", help=about)
    about = "with --train_from: number of random crops of an image, which are then used again and again; fewer are faster "
    about += "and take less disk; at least 2 for methods that take two crops of an image"
    add("--views", type=number(int, 1, most=1024), default=8, help=about)
    # crops
    add("--width", type=side, default=227, help="side of the crops; smaller is faster")
    add("--origin_width", type=side, default=256, help="shorter side of an image before cropping")
    add("--ratio", type=float, default=0.16, help="smallest share of the image in a crop; raise it for small subjects")
    about = "crops for the features that are clustered; random: as in the original"
    add("--cluster_crops", choices=("centre", "random"), default="centre", help=about)
    about = "ram: keep the decoded images in memory; auto: keep them if they take under 4 GB"
    add("--cache", choices=("auto", "none", "ram"), default="auto", help=about)
    # optimisation
    add("--batch_size", "-b", type=positive_int, default=80, help="images in a step")
    add("--lr", type=positive_float, default=1e-5, help="learning rate of backbone and embedding; 1e-4 for short runs")
    add("--weight_decay", "--weight-decay", type=weight, default=5e-4)
    about = "number of epochs. In udml_ss an epoch takes K images of every cluster. In shared_neighbours it has 10 steps, "
    about += "in stml it has images / batch_size steps"
    add("--epochs", type=positive_int, default=600, help=about)
    # the run
    add("--save_dir", required=True, help="the folder for checkpoints and metrics.jsonl")
    about = "try the data, the weights, a look, some steps and a checkpoint; say how long the run will take; keep "
    about += "nothing"
    add("--dry_run", action="store_true", help=about)
    about = "also write files for TensorBoard into --save_dir/tensorboard: scalars, and some embedded images at the end"
    add("--tensorboard", action="store_true", help=about)
    about = "images in the network at once, 0: all; gives the same gradient in less memory, for one more forward pass"
    add("--micro_batch", type=natural, default=0, help=about)
    add("--save_step", type=positive_int, default=50, help="epochs between checkpoints; the last epoch always gets one")
    add("--save_minutes", type=weight, default=10, help="minutes between writes of latest.pth.tar; 0: only when stopped")
    add("--keep_last", type=natural, default=0, help="number of epoch checkpoints to keep, the newest; 0: all")
    add("--eval_step", type=natural, default=0, help="epochs between tests on the test classes; 0: none")
    add("--resume", "-r", default="yes", help="a checkpoint to go on from; yes: the newest in --save_dir, if any; no: none")
    add("--override", action="store_true", help="resume even if settings differ from the checkpoint's")
    add("--print_freq", type=positive_int, default=20, help="steps between log lines")
