"""The smallest net of each family of backbones, with a closed form, and crops of drawn images, for tests of graphs."""

import os
from pathlib import Path

import torch
from torch import nn

import models
from galleries import photos
from models.closed_form import REDUCED, ClosedForm
from models.taps import middle_and_last, prefix_tokens, stages

DIM, MARGIN = 16, 6
BLOCKS = 4  # transformer blocks are all alike, and each takes a second to export, so four are kept
# The smallest net of each family -> width of its crops.
NETS = {
    "ResNet18": 64,
    "timm/test_vit": 64,  # its position embedding is interpolated
}
NIGHTLY = {
    "timm/test_convnext": 64,
    "Inception": 64,
    "BN-Inception": 64,
    "ResNet50": 64,
    "EfficientNet-Lite0": 64,
    "MobileNetV2": 64,
    "timm/test_vit3": 32,  # attention pooling, like SigLIP
    "timm/vit_small_patch14_reg4_dinov2": 28,
    "timm/vit_tiny_patch16_dinov3_qkvb": 32,
}


def create(net):
    """Return the net with packaged or random weights, and a random closed form. Its features depend on the image."""
    torch.manual_seed(0)
    width = {**NETS, **NIGHTLY}[net]
    embedder = models.create(net, DIM, net == "EfficientNet-Lite0", width=width, origin_width=width + MARGIN)
    if hasattr(embedder.features, "blocks") and net.startswith("timm/"):
        del embedder.features.blocks[BLOCKS:]
    noise = torch.randn(8, 3, width, width)
    for name, parameter in embedder.features.named_parameters():
        if "gamma" in name:  # LayerScale starts at 1e-5 or less: a random net would hardly see the image
            nn.init.constant_(parameter, 0.5)
    if net != "EfficientNet-Lite0":
        for module in embedder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # one pass then sets the statistics to those of its batch
        embedder.pool(noise)
    embedder.eval().requires_grad_(False)
    sizes = stages(embedder.features, noise[:1])
    layers = {name: (sizes[name][1], min(REDUCED, sizes[name][1])) for name in middle_and_last(sizes)}
    form = embedder.closed_form = ClosedForm(embedder.feature_dim, layers, DIM, prefix_tokens(embedder.features))
    for buffer in form.reduce.buffers():
        nn.init.orthogonal_(buffer)
    form.mean.copy_(embedder.read(noise, "description")[0].mean(0))
    form.projection.normal_()
    return embedder


def crops_of(embedder, folder):
    """Return crops of five drawn images, or of five images in the folder REAL_IMAGES."""
    real = sorted(Path(os.environ.get("REAL_IMAGES", os.devnull)).rglob("*.jpg"))
    transforms = embedder.transforms
    paths = map(str, real[:: len(real) // 5][:5]) if len(real) >= 5 else photos(folder, 5)
    return torch.stack([transforms.centre_crop(transforms.load(path)) for path in paths])
