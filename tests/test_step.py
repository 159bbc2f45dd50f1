"""One real training step of train.py against a slow, obvious version: its total loss and the gradient of every parameter.

The comparison is exact: float64 on the CPU, and all crops are central. All images fit into one batch, and k-means cannot
confuse the classes (K images each), so no random draw decides about the batch.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import models
from data import transforms
from utils import device

CLASSES, PER_CLASS, WIDTH = 4, 3, 32
ALPHA, BETA, BASE, MARGIN = 40, 2, 0.5, 0.1
ROTATION_WEIGHT, ORTHOGONAL_WEIGHT = 0.7, 0.3
FLAGS = (
    "--net",
    "Inception",
    "--pretrained",
    "False",
    "--width",
    WIDTH,
    "--origin_width",
    WIDTH,
    "--dim",
    6,
    "--num_clusters",
    CLASSES,
    "--num_instances",
    PER_CLASS,
    "--epochs",
    1,
    "--nThreads",
    0,
    "--device",
    "cpu",
    "--self_supervision_rot",
    ROTATION_WEIGHT,
)


@pytest.fixture
def images(tmp_path):
    """(file names, labels). Each class has a colour. Images get brighter to the right and downwards, so rotations differ."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    names, labels, y, x = [], [], *np.mgrid[0:1:32j, 0:1:32j][..., None]
    for label, colour in enumerate([(150, 20, 20), (20, 150, 20), (20, 20, 150), (90, 90, 90)]):
        for i in range(PER_CLASS):
            pixels = np.array(colour) * (0.6 + 0.5 * x + 0.3 * y) + rng.normal(0, 12, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{label}-{i}.png")
            names.append(folder / f"{label}-{i}.png")
            labels.append(label)
    (folder / "train.txt").write_text("".join(f"{name.name} {label}\n" for name, label in zip(names, labels)))
    return names, labels


@pytest.fixture
def real_step(run, images, tmp_path, monkeypatch):
    """real_step(flags) returns the loss of one step, and (weights, gradients) of each of the optimiser's groups."""
    found = {"losses": [], "groups": []}
    backward, step, place = torch.Tensor.backward, torch.optim.Adam.step, device.Compute.place

    def recorded_backward(loss, *args, **more):
        found["losses"].append(loss.item())
        backward(loss, *args, **more)

    def recorded_step(self, *args, **more):
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.requires_grad]
            found["groups"].append(([p.detach().clone() for p in weights], [p.grad.clone() for p in weights]))
        return step(self, *args, **more)

    def placed_in_float64(self, model):
        placed = place(self, model).double()
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        backbone = getattr(placed, "embedder", placed).features  # it takes whole numbers, exact in float32
        backbone.register_forward_pre_hook(lambda _, inputs: inputs[0].double())
        return placed

    def call(*flags):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", recorded_backward)
            patch.setattr(torch.optim.Adam, "step", recorded_step)
            patch.setattr(device.Compute, "place", placed_in_float64)
            patch.setattr(transforms.Transforms, "random_crop", transforms.Transforms.centre_crop)
            run("train", *FLAGS, "--data", images[0][0].parent, "--save_dir", tmp_path / "run", *flags)
        assert len(found["losses"]) == 1  # one step has all images
        return found["losses"][0], [group for group in found["groups"] if group[0]]

    return call


def read(names):
    """Read the files: float64 (N, 3, H, W), 0 to 255, RGB."""
    return torch.stack([torch.from_numpy(np.array(Image.open(name))).permute(2, 0, 1).double() for name in names])


def pair_loss(embeddings, labels):
    """Compute the multi-similarity loss with mining, anchor by anchor (Wang et al. 2019, eqs. 11 to 13), as a mean over
    anchors."""
    total = 0
    for i, anchor in enumerate(embeddings):
        similar = [(anchor @ other, labels[i] == labels[j]) for j, other in enumerate(embeddings) if j != i]
        positives, negatives = [s for s, same in similar if same], [s for s, same in similar if not same]
        hard_positives = [s for s in positives if s - MARGIN < max(negatives)]
        hard_negatives = [s for s in negatives if s + MARGIN > min(positives)]
        if hard_positives:
            total += torch.log(1 + sum(torch.exp(-BETA * (s - BASE)) for s in hard_positives)) / BETA
        if hard_negatives:
            total += torch.log(1 + sum(torch.exp(ALPHA * (s - BASE)) for s in hard_negatives)) / ALPHA
    return total / len(embeddings)


def off_diagonal(weight):
    """Return the sum of squares of W W^T off the diagonal, divided by the number of all its entries."""
    gram = weight @ weight.T
    return (gram * (1 - torch.eye(len(gram)).double())).square().sum() / gram.numel()


def slow_step(groups, images, labels, rotation, orthogonal):
    """Return (loss, gradients of each group), from the weights at the start of the real step."""
    backbone = models.create("Inception", pretrained=False).features.double()
    for parameter, weight in zip(backbone.parameters(), groups[0][0], strict=True):
        parameter.data = weight.clone()
    heads = [[weight.clone().requires_grad_() for weight in weights] for weights, _ in groups[1:]]
    mean = torch.tensor([104.0, 117.0, 128.0]).double()[:, None, None]

    def features(views):
        return torch.cat([backbone(view.flip(0)[None] - mean).flatten(1) for view in views])  # BGR, one image at a time

    weight, bias = heads[0]
    embeddings = [row / row.square().sum().sqrt() for row in features(images) @ weight.T + bias]
    loss = pair_loss(embeddings, labels)
    if rotation:
        first, first_bias, second, second_bias = heads[1]
        for turns in range(4):
            turned = [np.rot90(image.numpy(), turns, (1, 2)).copy() for image in images]  # anticlockwise
            hidden = features(map(torch.from_numpy, turned)) @ first.T + first_bias
            logits = hidden.clamp(min=0) @ second.T + second_bias
            for row in logits:
                loss = loss + ROTATION_WEIGHT * (torch.logsumexp(row, 0) - row[turns]) / (4 * len(images))
    if orthogonal:
        for weights in heads:
            for matrix in weights[::2]:
                loss = loss + ORTHOGONAL_WEIGHT * off_diagonal(matrix)
    loss.backward()
    return loss.item(), [[p.grad for p in backbone.parameters()], *[[p.grad for p in head] for head in heads]]


@pytest.mark.parametrize(
    "rot_batch, batch, orthogonal, more",
    [
        (12, 12, False, ("--rot_bt", 1)),
        (12, 12, False, ("--rot_bt", 0)),
        (0, 12, False, ()),
        (12, 12, True, ("--orth_reg", ORTHOGONAL_WEIGHT)),
        (12, 24, False, ()),
        (0, 24, False, ()),
        (12, 12, False, ("--labels", "True")),
    ],
)
def test_a_real_step_is_the_slow_one(real_step, images, rot_batch, batch, orthogonal, more):
    """The batch of 24 would have room for twice as many clusters as there are."""
    flags = (
        "--alpha",
        ALPHA,
        "--beta",
        BETA,
        "--loss_base",
        BASE,
        "--margin",
        MARGIN,
        "--batch_size",
        batch,
        "--rot_batch",
        rot_batch,
        *more,
    )
    loss, groups = real_step(*flags)
    assert len(groups) == 2 + (rot_batch > 0)  # backbone, embedding, rotation head
    names, labels = images
    expected, gradients = slow_step(groups, read(names), labels, rot_batch > 0, orthogonal)
    assert loss == pytest.approx(expected, rel=1e-9) and expected > 0.1 and math.isfinite(expected)
    for (_, found), wanted in zip(groups, gradients, strict=True):
        for ours, theirs in zip(found, wanted, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9 * max(w.abs().max() for w in wanted).item())
        assert any(ours.any() for ours in found)
