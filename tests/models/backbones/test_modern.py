"""Transformers and ConvNeXts of timm with random weights: normalisation, pooling, halves, and a step of every method."""

import numpy as np
import pytest
import timm
import torch
from torch.nn.functional import normalize

import models
from data.images import Images
from data.lists import read_list
from data.transforms import Transforms
from data.views import ImageBatches
from models import backbones, methods
from models.cut import below, train_from, trained_from
from models.readout import Fitter
from utils.device import Compute
from utils.run import Run

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HALF = (127.5,) * 3, (127.5,) * 3
# net -> width, feature_dim, mean and std, how it pools, "middle", "top"
NETS = {
    "timm/test_vit": (32, 64, HALF, "token", "blocks.3", "blocks.4"),
    "timm/test_vit3": (32, 96, HALF, "map", "blocks.5", "blocks.6"),  # attention pooling, like SigLIP
    "timm/vit_tiny_patch16_224": (32, 192, HALF, "token", "blocks.7", "blocks.8"),
    "timm/vit_small_patch14_dinov2": (28, 384, IMAGENET, "token", "blocks.7", "blocks.8"),
    "timm/vit_small_patch14_reg4_dinov2": (28, 384, IMAGENET, "token", "blocks.7", "blocks.8"),
    "timm/vit_small_patch16_dinov3": (32, 384, IMAGENET, "avg", "blocks.6", "blocks.7"),
    "timm/vit_tiny_patch16_dinov3_qkvb": (32, 192, IMAGENET, "avg", "blocks.6", "blocks.7"),
    "timm/test_convnext": (64, 64, HALF, "maps", "stages.2", "stages.3"),
    "timm/convnext_atto": (64, 320, IMAGENET, "maps", "stages.2", "stages.3"),
}
# The smallest nets of each family, which the tests train.
LEARN = {
    "timm/test_vit": ("all", "middle"),
    "timm/test_vit3": ("all", "middle"),
    "timm/vit_small_patch14_reg4_dinov2": ("middle",),
    "timm/vit_tiny_patch16_dinov3_qkvb": ("all", "middle"),
    "timm/test_convnext": ("all", "middle"),
}


def create(name, dim=8, freeze_bn=False):
    torch.manual_seed(0)
    width = NETS[name][0]
    model = models.create(name, dim, False, freeze_bn=freeze_bn, width=width, origin_width=width + 4)
    with torch.no_grad():
        for key, parameter in model.features.named_parameters():
            if "gamma" in key:  # LayerScale starts at 1e-5 or less: a random net would hardly see the image
                parameter.fill_(0.5)
    return model


@pytest.fixture(scope="module", params=NETS)
def net(request):
    """(name, model), for tests that do not change the model."""
    return request.param, create(request.param).eval().requires_grad_(False)


def pixels_for(width, count=3):
    return torch.randint(256, (count, 3, width, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_statistics_and_pooling_are_the_models_own(net):
    name, model = net
    width, feature_dim, (mean, std), pool, *_ = NETS[name]
    pixels = pixels_for(width)
    images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    x = model.features.forward_features(images)
    expected = {
        "token": lambda: x[:, 0],
        "avg": lambda: x[:, 5:].mean(1),  # without the class token and four registers
        "map": lambda: model.features.attn_pool(x),
        "maps": lambda: model.features.head.norm(x.mean((2, 3), keepdim=True))[:, :, 0, 0],
    }[pool]()
    assert expected.shape == (3, feature_dim) == (3, model.feature_dim)
    torch.testing.assert_close(model.pool(pixels), expected, rtol=1e-4, atol=1e-4)


def test_siglip_is_known():
    """The smallest SigLIP has 93 million weights, so only shapes are computed."""
    with torch.device("meta"):
        net, feature_dim, preprocessing, _ = backbones.build("timm/vit_base_patch32_siglip_256", pretrained=False)
        pooled = net(torch.empty(2, 3, 128, 128))
    assert pooled.shape == (2, feature_dim) == (2, 768) and net.global_pool == "map"
    assert preprocessing.mean == pytest.approx(HALF[0]) and preprocessing.std == pytest.approx(HALF[1])


@torch.no_grad()
def test_transformers_take_other_sizes_and_their_own_as_before():
    model = models.create("timm/test_vit3", 8, False).eval()
    own = timm.create_model("test_vit3", num_classes=0).eval()
    own.load_state_dict(model.features.state_dict())
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.pool(images), own(images))
    smaller = timm.create_model("test_vit3", num_classes=0, img_size=64).eval()
    row = torch.randn(96)
    for net in (model.features, smaller):  # if all places have the same embedding, it is the same at any size
        net.pos_embed.copy_(row.expand_as(net.pos_embed))
    smaller.load_state_dict({**model.features.state_dict(), "pos_embed": smaller.pos_embed})
    images = images[:, :, :64, :64]
    torch.testing.assert_close(model.pool(images), smaller(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_halves_are_the_net_and_what_lies_below_is_frozen(name):
    width, *_, middle, top = NETS[name]
    model = create(name).eval()
    images = torch.randn(3, 3, width, width, generator=torch.Generator().manual_seed(0))
    named = "stages.1" if "convnext" in name else "blocks.1"
    for stage, place in ((named, named), ("middle", middle), ("top", top)):  # each freezes more than the one before
        train_from(model, stage)
        assert trained_from(model) == place
        below, above = model.cut.halves
        with torch.no_grad():
            assert torch.equal(above(below(images)), model.features(images))
        lower, upper = ({id(parameter) for parameter in half.parameters()} for half in (below, above))
        assert not lower & upper and lower | upper == {id(parameter) for parameter in model.features.parameters()}
        assert {id(parameter) for parameter in model.features.parameters() if parameter.requires_grad} == upper


@torch.no_grad()
def test_constants_of_the_halves_go_where_the_model_goes():
    """The net is cut on the CPU and moved to its device afterwards, as in a run."""
    model = create("timm/vit_tiny_patch16_dinov3_qkvb").eval()
    state = list(model.state_dict())
    train_from(model, "top")
    assert list(model.state_dict()) == state
    model.double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = model.features(images)
    halves = model.cut.halves
    got = halves.above(halves.below(images))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)  # the uncut net makes its constants anew, in float64
    model.to("meta")
    assert halves.above(halves.below(images.to("meta"))).is_meta


# ---- methods --------------------------------------------------------------------------------------------------------


SETTINGS = {"batch_size": 12, "num_clusters": 4, "num_instances": 3, "num_neighbours": 3, "rot_batch": 3, "g_dim": 9}
SETTINGS["margin"] = 2  # larger than any difference of cosines, so all pairs count
OWN = {"cluster_contrast": {"grouping": "kmeans"}, "shared_neighbours": {"k1": 5, "near": 0.9, "far": 0.95}}


def looked_at(method, batches, look):
    """Return the features that a method's look asks for, with rows of length one."""
    embedder = method.trained()
    if look.features == "description":
        Fitter(batches, Compute(torch.device("cpu"), None, False)).describe_only(embedder)
    if look.enlarged:
        batches = batches.enlarged(look.enlarged)
    embedder.eval()
    with torch.no_grad():
        rows = torch.cat([embedder.read(images, look.features)[0] for _, images, _ in batches.crops()])
    return normalize(rows).numpy()


@pytest.mark.parametrize("name, stage", [(name, stage) for name, stages in LEARN.items() for stage in stages])
@pytest.mark.parametrize("method_name", methods.names())
def test_a_step_of_every_method(image_folder, method_name, name, stage):
    """Only what is trained changes, and nothing below the cut does. Kept activations stay float16."""
    embedder = create(name, freeze_bn=True)  # there is no BatchNorm to freeze
    train_from(embedder, stage)
    images = read_list(str(image_folder / "train.txt"), labels_required=True)
    batches = ImageBatches(Images(images.paths, Transforms(NETS[name][0], NETS[name][0] + 4, 0.5)), 8)
    settings = methods.default_settings(method_name, **SETTINGS, **OWN.get(method_name, {}))
    method = methods.create(method_name, embedder, images, settings)
    if look := method.looks(1):
        assert method.prepare(looked_at(method, batches, look), np.arange(len(images)))
    Run.before_steps(method)
    groups = method.param_groups()
    assert bool(groups) == (method_name not in ("frozen", "closed_form"))
    steps = list(batches.steps(method.draws(1)))
    if not groups:
        assert not steps and not any(parameter.requires_grad for parameter in method.parameters())
        return

    optimiser = torch.optim.Adam(groups, lr=1e-3)
    before = {key: value.clone() for key, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    batch, _ = steps[0]
    if stage != "all":
        with torch.no_grad():
            batch = batch._replace(images=below(embedder, batch.images).half())
    out = method(batch.images, batch)
    loss, _ = method.loss(out, batch)
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        method.after_step(out, batch)
    assert loss.isfinite()

    changed = {key for key, value in method.state_dict().items() if key in before and not torch.equal(value, before[key])}
    trained = {id(parameter) for group in groups for parameter in group["params"] if parameter.requires_grad}
    expected = {key for key, parameter in method.named_parameters() if id(parameter) in trained}
    parameters = {key for key, _ in method.named_parameters()}
    slow = {key for key in parameters if key.startswith(("teacher", "average.", "result."))}
    assert changed & parameters - slow == expected
    above = [key for key in expected if key.startswith("embedder.features.")]
    if stage != "all":
        upper = {id(parameter) for parameter in embedder.cut.halves.above.parameters()}
        assert {id(method.get_parameter(key)) for key in above} == upper
    else:
        assert len(above) == len(list(embedder.features.parameters()))
    for copied in {"stml": ["teacher"], "shared_neighbours": ["result"]}.get(method_name, []):
        assert {key.replace("embedder", copied, 1) for key in above} <= changed
