"""What several test files share: small image folders in the project's layout, and a way to run the entry points."""

import numpy as np
import pytest
from PIL import Image

import test as test_program
import train as train_program
from utils.errors import InputError


def make_image_folder(folder, train_classes=4, test_classes=3, per_class=6, size=(48, 40)):
    """Noisy images around a colour for each class, with train.txt and test.txt."""
    rng = np.random.default_rng(0)
    for split, classes in (("train", train_classes), ("test", test_classes)):
        lines = []
        for label in range(classes):
            colour = rng.integers(40, 215, size=3)
            (folder / split / f"class {label}").mkdir(parents=True)
            for i in range(per_class):
                pixels = np.clip(colour + rng.normal(0, 25, size=(size[1], size[0], 3)), 0, 255).astype(np.uint8)
                name = f"{split}/class {label}/{i}.jpg"
                Image.fromarray(pixels).save(folder / name)
                lines.append(f"{name} {label}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def image_folder(tmp_path):
    return make_image_folder(tmp_path / "images")


@pytest.fixture
def run(monkeypatch):
    """run("train", "--flag", value, ...) runs an entry point in this process."""

    def call(program, *arguments):
        main = {"train": train_program, "test": test_program}[program].main
        monkeypatch.setattr("sys.argv", [f"{program}.py", *map(str, arguments)])
        main()

    return call


@pytest.fixture
def refused(run):
    """refused("train", ...) -> the one line with which an entry point refuses its input."""

    def call(*arguments):
        with pytest.raises(InputError) as caught:
            run(*arguments)
        message = str(caught.value)
        assert message and "\n" not in message
        return message

    return call


# Small and fast: a randomly initialised ResNet18 on thumbnails.
TINY = ("--net", "ResNet18", "--width", "32", "--origin_width", "36", "--dim", "16", "--nThreads", "0", "--device", "cpu")
TINY_TRAIN = (*TINY, "--pretrained", "False", "--num_clusters", "4", "--batch_size", "8", "--num_instances", "2",
              "--rot_batch", "3", "--up_step", "2", "--lr", "1e-4", "--rot_lr", "1e-4", "--print_freq", "1")
