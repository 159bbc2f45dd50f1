"""Small image folders in the project's layout, and flags that let a run on them take a second."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

# A tiny, randomly initialised net for tests on thumbnails.
TINY = tuple("--net timm/test_resnet --width 32 --origin_width 36 --dim 16 --nThreads 0 --device cpu".split())
TINY_TRAIN = (
    *TINY,
    *"--pretrained False --num_clusters 4 --batch_size 8 --num_instances 2 --rot_batch 3 --up_step 2".split(),
    *"--lr 1e-4 --rot_lr 1e-4 --print_freq 1".split(),
)


def make_image_folder(folder, train_classes=4, test_classes=3, per_class=6, size=(48, 40)):
    """Write noisy images, one colour for each class, with train.txt and test.txt."""
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


def measured(save_dir):
    """Return the lines of metrics.jsonl, without measurements of time."""
    lines = [json.loads(line) for line in (Path(save_dir) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("images_per_s", "data_wait")} for line in lines]
