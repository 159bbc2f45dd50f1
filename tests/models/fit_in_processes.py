"""One process of several, for test_readout.py.

It fits closed forms to a net that starts at random, and writes to FILE-<rank>.npz their tensors and the embeddings of all
images: of images that can all be read, and of some of which the first half cannot.
"""

from pathlib import Path

import numpy as np
import torch


def fit(folder, file):
    import models
    from data.images import Images
    from data.views import ImageBatches
    from models import readout
    from utils import device, distributed

    readout.REDUCED = 8  # of 16 positions; of a net that leaves its maps flat, rounding would show
    compute = device.choose("cpu")
    group = distributed.join(compute.device)
    torch.manual_seed(0)
    embedder = compute.place(models.create("timm/test_vit", 16, False, width=64, origin_width=70))
    paths = sorted(map(str, Path(folder).rglob("*.jpg")))
    found = {}
    for name, listed in (("all", paths), ("half", [f"{folder}/gone-{i}.jpg" for i in range(len(paths))] + paths)):
        batches = ImageBatches(Images(listed, embedder.transforms), 5, group=group)
        readout.Fitter(batches, compute, group, on_bad_image="skip", weights=(0.5, 1))(embedder)
        found[f"{name} embeddings"] = embedder.embed(paths)
        for key, value in embedder.closed_form.state_dict().items():
            found[f"{name} {key.replace('/', '-')}"] = value.numpy()
    np.savez(f"{file}-{group.rank}.npz", **found)
    group.leave()
