"""How command lines are read, and the flags that several entry points share."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from utils.errors import InputError

DEFAULT_METHOD = "udml_ss"
METHOD_ALIASES = {"labels": "supervised", "rot_only": "rotation"}  # flag of the original -> the method it stands for


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors, one line like all others."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else args
        for text in args:  # no file needs such a name, and logs, errors and the system would trip over it
            if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
                self.error(f"{ascii(text)[:200]} holds a line break or another control character")
            if re.fullmatch(r"--?[\w-]+=--|-\w--", text):  # argparse makes an empty list of it, whatever the flag's type
                self.error(f"{text}: `--` is not a value")
        return super().parse_known_args(args, namespace)

    def changed(self, args: argparse.Namespace) -> dict[str, Any]:
        """The settings that are not the defaults."""
        return {name: value for name, value in vars(args).items() if value != self.get_default(name)}

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def boolean(text: str) -> bool:
    """True or False from what people write on a command line, 0 and 1 included."""
    true = text.lower() in ("true", "yes", "1", "1.0")
    if not true and text.lower() not in ("false", "no", "0", "0.0"):
        raise argparse.ArgumentTypeError(f"`{text}` is neither True nor False")
    return true


def number(kind: type, least: float, above: bool = False, most: float = 2**31 - 100) -> Callable[[str], Any]:
    """The type of a flag: a number of this `kind`, int or float, from `least` to `most`. above: it must be above `least`.

    With this `most` every count and seed fits 32 bits, and so do seeds that are counted on from it.
    """

    def parse(text: str) -> Any:
        value = kind(text)
        if not (value > least if above else value >= least):
            raise argparse.ArgumentTypeError(f"{text} is not {'above' if above else 'at least'} {least}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is above {most}")
        return value

    parse.__name__ = kind.__name__  # argparse names it in its own errors
    return parse


def number_or_auto(text: str) -> int | str:
    """A number of 1 or more, or `auto`."""
    return text if text == "auto" else positive_int(text)


number_or_auto.__name__ = "int"  # argparse names it in its own errors
positive_int, natural = number(int, 1), number(int, 0)
positive_float, weight = number(float, 0, above=True), number(float, 0)
side = number(int, 1, most=4096)  # of images in pixels; one of that size takes 50 MB, and the network some GB for it


def add_method(parser: argparse.ArgumentParser, names: list[str]) -> None:
    """Add --method, and the flags of the original that stand for one."""
    parser.add_argument("--method", default=None, help=f"how it learns: {', '.join(names)} (default: {DEFAULT_METHOD})")
    for flag, name in METHOD_ALIASES.items():
        parser.add_argument(f"--{flag}", type=boolean, default=False, help=f"True: the same as --method {name}")


def method_of(args: argparse.Namespace) -> str:
    """The name of the method that is asked for; InputError where it is more than one."""
    asked = {name for flag, name in METHOD_ALIASES.items() if getattr(args, flag)} | {args.method} - {None}
    if len(asked) > 1:
        raise InputError(f"--method: {' and '.join(sorted(asked))} at once; give one of them")
    return asked.pop() if asked else DEFAULT_METHOD


def settle_method(args: argparse.Namespace, name: str, parser: Parser) -> None:
    """Leave `method` alone of the flags that name one."""
    if method_of(args) != name:
        parser.error("--method was abbreviated; write it in full")
    for alias in METHOD_ALIASES:
        delattr(args, alias)
    args.method = name
    parser.set_defaults(method=DEFAULT_METHOD)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every entry point: which images, and where it runs."""
    add = parser.add_argument
    add("--data", default="cub", help="a name in data/dataset.py, a folder under --data_root, or a path")
    add("--data_root", default=os.environ.get("DATA_ROOT"), help="folder of the data sets (default: $DATA_ROOT)")
    about = "True: test.txt is gallery and query; False: gallery.txt and query.txt (default: whichever is there)"
    add("--gallery_eq_query", "-g_eq_q", type=boolean, default=None, help=about)
    add("--weights", default=None, help="file of pretrained backbone weights, instead of the net's own source")
    add("--pool_feature", type=boolean, default=False, help="evaluate the pooled backbone features, not the embedding")
    add("--on_bad_image", choices=("stop", "skip"), default="stop", help="skip leaves unreadable images out")
    about = "data loading processes; 0 loads in the main one (default: up to 8 for a GPU, 0 on the CPU and for few images)"
    add("--nThreads", "-j", type=number(int, 0, most=1024), default=None, help=about)
    add("--seed", type=natural, default=0, help="of all random draws")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    about = "precision of the network's forward pass; auto: half on a GPU, off elsewhere; the paper's results are of off"
    add("--amp", choices=("auto", "off", "bf16", "fp16"), default="auto", help=about)
    add("--channels_last", type=boolean, default=None, help="memory layout of the network (default: by device)")
    about = "keep features, and with --train_from activations, in temporary files there: for what the memory cannot hold"
    add("--features_dir", default=None, help=about)
    about = "no: leave out the page that says how the run went, report.html beside the checkpoints"
    add("--report", choices=("yes", "no"), default="yes", help=about)
    add("--log_file", default=None, help="also append the log to this file")


def add_readout(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add --readout: what turns the backbone's features into the embedding. several: the flag takes more than one."""
    about = "what reads the backbone out: its embedding head; the closed form, fitted without labels to the training images;"
    about += " auto: the closed form, unless there are too few images to fit it"
    kinds = {"nargs": "+", "default": None} if several else {"default": "embedding"}
    about += " (default: all that a checkpoint has)" if several else ""
    parser.add_argument("--readout", "--head", choices=("embedding", "closed_form", "auto"), help=about, **kinds)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the flags of training, for all methods; the defaults are the paper's settings for CUB."""
    add = parser.add_argument
    # model
    add("--net", default="Inception", help="backbone; a wrong name lists them all; timm/<name> takes any timm model")
    add("--pretrained", type=boolean, default=True, help="start from ImageNet weights")
    add("--freeze_BN", type=boolean, default=True, help="keep BatchNorm statistics fixed (only with --pretrained)")
    add("--dim", type=positive_int, default=512, help="embedding size")
    add_readout(parser)
    about = "train this stage of the net and what lies above it; top: about a third, middle: a half; a wrong name lists them"
    add("--train_from", default="all", help=about)
    about = "with --train_from: random crops of an image, which come again and again; fewer are faster and take less disk; "
    about += "2 at least for methods that take two of an image"
    add("--views", type=number(int, 1, most=1024), default=8, help=about)
    # crops
    add("--width", type=side, default=227, help="side of the crops; smaller is faster")
    add("--origin_width", type=side, default=256, help="shorter side of an image before cropping")
    add("--ratio", type=float, default=0.16, help="smallest share of the image in a crop; raise it for small subjects")
    about = "crops of the features that labels are made from; random: as the original clusters"
    add("--cluster_crops", choices=("centre", "random"), default="centre", help=about)
    about = "ram: keep the decoded images in memory; auto: where they are few (under 4 GB)"
    add("--cache", choices=("auto", "none", "ram"), default="auto", help=about)
    # optimisation
    add("--batch_size", "-b", type=positive_int, default=80, help="images a step")
    add("--lr", type=positive_float, default=1e-5, help="of backbone and embedding; 1e-4 for short runs")
    add("--weight_decay", "--weight-decay", type=weight, default=5e-4)
    add("--epochs", type=positive_int, default=600, help="of UDML-SS: one takes K images of every cluster")
    # the run
    add("--save_dir", required=True, help="where checkpoints and metrics.jsonl go")
    about = "try the data, the weights, a look, some steps and a checkpoint, say how long the run will take, and keep "
    about += "nothing"
    add("--dry_run", action="store_true", help=about)
    about = "also write what TensorBoard reads, to tensorboard in --save_dir: scalars, and some embedded images at the end"
    add("--tensorboard", action="store_true", help=about)
    about = "images in the network at once; the same gradient in less memory, for one more forward pass; 0: all"
    add("--micro_batch", type=natural, default=0, help=about)
    add("--save_step", type=positive_int, default=50, help="epochs between checkpoints; the last epoch always has one")
    add("--save_minutes", type=weight, default=10, help="minutes between writes of latest.pth.tar; 0: only when stopped")
    add("--keep_last", type=natural, default=0, help="checkpoints of epochs to keep, the newest; 0: all")
    add("--eval_step", type=natural, default=0, help="epochs between tests on the held-out classes; 0: none")
    add("--resume", "-r", default="yes", help="a checkpoint to go on from, `yes`: the newest in --save_dir, if any, or `no`")
    add("--override", action="store_true", help="resume with other settings than the checkpoint's")
    add("--print_freq", type=positive_int, default=20, help="steps between log lines")
