"""Runs one of several processes, for test_readout.py.

It fits closed forms to a net with random weights: once to readable images, once to images of which the first half is
unreadable. It writes the closed forms' tensors and the embeddings of all images to FILE-<rank>.npz.
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

    readout.REDUCED = 8  # fewer than the 16 positions, because otherwise rounding would show in a net with flat maps
    compute = device.choose("cpu")
    group = distributed.join(compute.device)
    torch.manual_seed(0)
    embedder = compute.place(models.create("timm/test_vit", 16, False, width=64, origin_width=70))
    paths = sorted(map(str, Path(folder).rglob("*.jpg")))
    found = {}
    for name, listed in (("all", paths), ("half", [f"{folder}/gone-{i}.jpg" for i in range(len(paths))] + paths)):
        batches = ImageBatches(Images(listed, embedder.transforms), 5, group=group)
        fitter = readout.Fitter(batches, compute, group, on_bad_image="skip", weights=(0.5, 1))
        look = fitter.look(embedder)
        found[f"{name} agreement"], found[f"{name} nearest"] = list(look.agreement.values()), look.chosen
        found[f"{name} unreadable"] = look.unreadable
        fitter(embedder)
        found[f"{name} embeddings"] = embedder.embed(paths)
        for key, value in embedder.closed_form.state_dict().items():
            found[f"{name} {key.replace('/', '-')}"] = value.numpy()
    np.savez(f"{file}-{group.rank}.npz", **found)
    group.leave()
