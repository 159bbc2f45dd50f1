"""STML: its draws, its teacher, its loss, and resuming."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st
from torch import nn
from torch.nn.functional import normalize

from data.images import Images
from data.lists import read_list
from data.transforms import Transforms
from data.views import Batch, ImageBatches
from losses.stml import contextual_similarity, distillation, relative_distances, relaxed_contrastive
from models import methods
from models.methods.stml import NeighbourBatches
from small_nets import DIM, FEATURES, WIDTH, Some, embedder_of
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.features import Look
from utils.grad_cache import ForwardBackward


def embedder(freeze_bn=True):
    """Return an Embedder with convolutions and a BatchNorm, whose statistics are not the initial ones."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, FEATURES, 3, 2), nn.ReLU()]
    layers[1].running_mean.normal_()
    layers[1].running_var.uniform_(1, 2)
    return embedder_of(layers, freeze_bn)


def make(count=20, labels=None, freeze_bn=True, **changed):
    settings = {"batch_size": 6, "num_neighbours": 3, "g_dim": 9, **changed}
    return methods.create("stml", embedder(freeze_bn), Some(count, labels), methods.default_settings("stml", **settings))


def features_of(count, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, generator=generator)).numpy()


def prepared(count=20, **changed):
    method = make(count, **changed)
    method.prepare(features_of(count), np.arange(count))
    return method


def batch_of(images=4, seed=0):
    """Return a batch of random pixels: two views of each image."""
    index = torch.arange(images).repeat_interleave(2)
    views = torch.randint(
        256, (2 * images, 3, WIDTH, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Batch(views, index, index // 2, torch.full_like(index, -1), torch.ones_like(index, dtype=torch.bool))


def slow_neighbours(features, k):
    """For each row, return itself, then the others by their cosine."""
    similarity = features.astype(np.float64) @ features.T.astype(np.float64)
    return [
        [i, *[j for j in np.argsort(-row, kind="stable").tolist() if j != i][: k - 1]] for i, row in enumerate(similarity)
    ]


# ---- neighbours -----------------------------------------------------------------------------------------------------


def test_prepare_keeps_the_neighbours_and_says_how_they_are():
    method = make(8, labels=np.arange(8) // 4)
    rows, features = np.array([1, 3, 4, 5, 7]), features_of(5)
    said = method.prepare(features, rows)
    expected = rows[np.array(slow_neighbours(features, 3))]
    assert method.neighbours.dtype == torch.int64 and np.array_equal(method.neighbours[rows], expected)
    assert (method.neighbours[[0, 2, 6]] == -1).all()  # they are unreadable
    same = np.mean([i // 4 == j // 4 for i, row in zip(rows, expected) for j in row[1:]])
    assert f"the 2 nearest neighbours of 5 images, {same:.1%} with" in said
    assert "100.0% as last time" in method.prepare(features, rows)
    other = features_of(5, seed=1)
    kept = np.mean(
        [
            j in old[1:]
            for new, old in zip(rows[np.array(slow_neighbours(other, 3))].tolist(), expected.tolist())
            for j in new[1:]
        ]
    )
    assert 0 < kept < 1 and f"{kept:.1%} as last time" in method.prepare(other, rows)


def test_it_looks_at_pooled_features_first_then_at_the_embedding():
    method = make(up_step=3)
    assert [method.looks(epoch) for epoch in (1, 2)] == [Look("pooled"), Look("pooled")]
    method.prepare(features_of(20), np.arange(20))
    assert [method.looks(epoch) for epoch in range(1, 8)] == [Look("embedding"), None, None] * 2 + [Look("embedding")]
    assert [prepared().looks(epoch) for epoch in (2, 3)] == [Look("embedding")] * 2


def test_init_pca_sets_the_embedding_of_student_and_teacher_once():
    method, expected, features = make(init="pca"), embedder(), features_of(20, FEATURES)
    expected.start_embedding_at(features)
    for seed in (0, 1):
        method.prepare(features if not seed else features_of(20, FEATURES, seed), np.arange(20))
        for started in (method.embedder, method.teacher):
            assert torch.equal(started.classifier.linear.weight, expected.classifier.linear.weight)
    random = make()
    random.prepare(features, np.arange(20))
    assert torch.equal(random.embedder.classifier.linear.weight, embedder().classifier.linear.weight)


# ---- draws ----------------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10), st.integers(0, 99))
def test_draws_are_queries_with_their_neighbours_in_two_views(readable, k, queries, unreadable, seed):
    """Random neighbours are enough: the draws only have to follow the given table."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(readable + unreadable)[:readable]
    neighbours = np.full((readable + unreadable, k), -1)
    neighbours[rows] = np.column_stack([rows, rng.choice(rows, (readable, k - 1))])
    batches = NeighbourBatches(neighbours, queries * k, seed, 3)
    steps = list(batches)
    assert len(steps) == len(batches) == max(1, readable // (queries * k))
    asked = []
    for step in steps:
        first, second = step[::2], step[1::2]
        assert all(draw.crop == 0 and draw.metric and draw.turn == -1 for draw in first)
        assert second == [draw._replace(crop=1) for draw in first]
        assert len({draw.seed for draw in first}) == len(first)  # an image near two queries has two seeds
        assert len(first) == min(queries, readable) * k
        for place in range(0, len(first), k):
            query = first[place].index
            assert [draw.index for draw in first[place : place + k]] == neighbours[query].tolist()
            assert {draw.label for draw in first[place : place + k]} == {query}
            asked.append(query)
    assert len(set(asked)) == len(asked) and set(asked) <= set(rows.tolist())  # each readable image is a query at most once


def test_draws_depend_on_seed_and_epoch_alone():
    method = prepared()
    first, again, later = (list(method.draws(epoch)) for epoch in (1, 1, 2))
    assert first == again != later
    assert list(prepared(seed=1).draws(1)) != first
    assert len({draw.index for step in first for draw in step}) > 6  # more than one batch's images


def test_every_image_is_a_query_in_the_end():
    method = prepared()
    asked = {draw.label for epoch in range(40) for step in method.draws(epoch) for draw in step}
    assert asked == set(range(20))


def test_fewer_images_than_a_batch_are_one_step():
    method = prepared(4, batch_size=120)
    (step,) = method.draws(1)
    assert len(step) == 4 * 3 * 2 and len(method.draws(1)) == 1


@pytest.mark.parametrize(
    "count, changed, setting, message",
    [
        (2, {}, "num_neighbours", "3 (a query and its 2 nearest) is more than the 2 images of train.txt"),
        (20, {"batch_size": 7}, "batch_size", "7 is not a multiple of num_neighbours 3"),
        (20, {"batch_size": 2}, "batch_size", "2 is not a multiple"),
    ],
)
def test_what_does_not_fit_is_refused(count, changed, setting, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        make(count, **changed)
    assert caught.value.setting == setting


def test_too_few_readable_images_are_refused():
    with pytest.raises(InputError, match=r"3 \(a query and its 2 nearest\) is more than the 2 images"):
        make(20).prepare(features_of(2), np.array([4, 9]))


# ---- teacher --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0, 0.9, 1])
def test_the_teacher_is_the_moving_average(momentum):
    """The teacher's weights and BatchNorm statistics are moving averages. Its counters are the newest ones."""
    method = make(momentum=momentum).double()

    def state(student):
        net, head = (method.embedder, method.head) if student else (method.teacher, method.teacher_head)
        both = {**net.state_dict(), **{f"g.{name}": value for name, value in head.state_dict().items()}}
        return {name: value.clone() for name, value in both.items()}

    expected = state(student=True)  # the teacher starts as a copy
    assert all(torch.equal(value, expected[name]) for name, value in state(student=False).items())
    for _ in range(3):
        with torch.no_grad():
            for value in [*method.parameters(), *method.embedder.buffers()]:
                if value.requires_grad or not isinstance(value, nn.Parameter):
                    value.add_(torch.rand(value.shape).to(value.dtype) if value.is_floating_point() else 1)
        method.after_step({}, batch_of())
        for name, value in state(student=True).items():
            new = momentum * expected[name] + (1 - momentum) * value
            expected[name] = new if value.is_floating_point() else value
        found = state(student=False)
        assert found.keys() == expected.keys() and "g.weight" in found and "features.1.running_mean" in found
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_teacher_is_not_trained_and_shares_nothing():
    method = make()
    trained = {id(p) for group in method.param_groups() for p in group["params"]}
    teachers = [*method.teacher.parameters(), *method.teacher_head.parameters()]
    assert not any(p.requires_grad or id(p) in trained for p in teachers)
    assert trained == {id(p) for p in [*method.embedder.parameters(), *method.head.parameters()]}
    places = {value.data_ptr() for value in [*method.embedder.parameters(), *method.head.parameters()]}
    assert not places & {value.data_ptr() for value in teachers}
    assert method.trained() is method.embedder


@pytest.mark.parametrize("freeze_bn", [True, False])
def test_the_teacher_stays_in_evaluation_mode(freeze_bn):
    method = make(freeze_bn=freeze_bn)
    method.train()
    assert method.training and method.embedder.training and not any(m.training for m in method.teacher.modules())
    assert method.embedder.features[1].training is not freeze_bn
    before, batch = method.teacher.features[1].running_mean.clone(), batch_of()
    whole, part = (method(batch.images[:rows], batch)["teacher"] for rows in (8, 3))
    torch.testing.assert_close(whole[:3], part)
    assert torch.equal(method.teacher.features[1].running_mean, before)


def test_heads_may_learn_at_another_rate():
    for changed, rate in (({}, 3e-4), ({"head_lr": 1e-2}, 1e-2)):
        backbone, heads = make(lr=3e-4, **changed).param_groups()
        assert "lr" not in backbone and heads["lr"] == rate
        assert [tuple(p.shape) for p in heads["params"]] == [(DIM, FEATURES), (DIM,), (9, FEATURES)]


# ---- a step ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def doubles(monkeypatch):
    """Compute in float64, so that rounding cannot look like a difference."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.mark.parametrize("student_norm", [False, True])
def test_the_loss_is_that_of_the_paper(doubles, student_norm):
    """f and g come from the linear heads, and the teacher is another net."""
    changed = {"sigma": 2.0, "delta": 0.8, "context_k": 5, "student_norm": student_norm}
    method, batch = make(**changed).double(), batch_of()
    with torch.no_grad():
        for p in [*method.teacher.parameters(), *method.teacher_head.parameters()]:
            p.add_(0.1 * torch.randn_like(p))
    found, shown = method.loss(method(batch.images, batch), batch)

    def pooled(net):
        return net.features((batch.images.double() - 128) / 64).flatten(1)

    linear = method.embedder.classifier.linear
    f, g = pooled(method.embedder) @ linear.weight.T + linear.bias, pooled(method.embedder) @ method.head.weight.T
    teacher = pooled(method.teacher) @ method.teacher_head.weight.T
    similarity = contextual_similarity(teacher / teacher.norm(dim=1, keepdim=True), batch.index, 2.0, 5)
    cosines = (f / f.norm(dim=1, keepdim=True)) @ (f / f.norm(dim=1, keepdim=True)).T
    if student_norm:
        f, g = f / f.norm(dim=1, keepdim=True), g / g.norm(dim=1, keepdim=True)
    of_f, of_g = relative_distances(f), relative_distances(g)
    contrastive = (relaxed_contrastive(of_f, similarity, 0.8) + relaxed_contrastive(of_g, similarity, 0.8)) / 2
    expected = {"loss": contrastive + distillation(of_f, of_g), "contrastive": contrastive, "lowest": cosines.min()}
    for name, value in expected.items():
        assert shown[name].item() == pytest.approx(value.item(), rel=1e-9)
    assert found.item() == shown["loss"].item() > 0.01 and {"distillation", "positive", "negative"} <= shown.keys()


def test_the_neighbourhoods_have_as_many_views_as_a_query_has(doubles):
    method, batch = make().double(), batch_of(12)
    other = make(context_k=6).double()
    assert method.loss(method(batch.images, batch), batch)[0] == other.loss(other(batch.images, batch), batch)[0]
    other.settings.context_k = 3
    assert method.loss(method(batch.images, batch), batch)[0] != other.loss(other(batch.images, batch), batch)[0]


@pytest.mark.parametrize("student_norm", [False, True])
def test_everything_that_is_trained_has_a_gradient(student_norm):
    """The bias of f cancels in distances between rows. It has a gradient only if student_norm normalises the rows first."""
    method, batch = make(student_norm=student_norm), batch_of()
    loss, _ = method.loss(method(batch.images, batch), batch)
    loss.backward()
    assert method.embedder.classifier.linear.bias.requires_grad is student_norm
    assert all(p.grad is not None and p.grad.any() for p in method.parameters() if p.requires_grad)
    assert all(p.grad is None for p in method.parameters() if not p.requires_grad)


def test_outputs_are_float32_in_mixed_precision_too():
    method, batch = make(), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        out = method(batch.images, batch)
    assert {name: (tuple(rows.shape), rows.dtype) for name, rows in out.items()} == {
        "f": ((8, DIM), torch.float32),
        "g": ((8, 9), torch.float32),
        "teacher": ((8, 9), torch.float32),
    }
    torch.testing.assert_close(out["teacher"].norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_batches_that_unreadable_images_have_thinned(rows):
    method, batch = make(), batch_of()
    batch = Batch(*(field[:rows] for field in batch))
    loss, _ = method.loss(method(batch.images, batch), batch)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


def gradients(method):
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_two_half_batches_that_are_gathered_are_one(doubles):
    """A batch computed in two parts (by two processes, or in pieces) and gathered gives the loss and gradients of the whole
    batch."""
    found = []
    for pieces in (1, 2):
        method, batch = make().double(), batch_of()
        halves = [
            Batch(*(field[rows] for field in batch)) for rows in ((slice(0, 5), slice(5, 8)) if pieces == 2 else (...,))
        ]
        outs = [method(half.images, half) for half in halves]
        loss, _ = method.loss({name: torch.cat([out[name] for out in outs]) for name in outs[0]}, batch)
        loss.backward()
        found.append((loss.item(), gradients(method)))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("micro_batch", [3, 8])
def test_micro_batches_give_the_gradients_of_a_whole_one(doubles, micro_batch):
    found = []
    for size in (0, micro_batch):
        method, batch = make().double(), batch_of()
        passes = ForwardBackward(method, Compute(torch.device("cpu"), None, False), Group(), size)
        loss, _ = method.loss(passes.forward(batch), batch)
        passes.backward(loss)
        found.append((loss.item(), gradients(method)))
    assert found[0][1].keys() == {name for name, p in method.named_parameters() if p.requires_grad}
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_the_order_of_rows_does_not_matter(doubles):
    """Several processes have the images of a batch in another order."""
    method, batch = make(context_k=6).double(), batch_of(12)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    shuffled = Batch(*(field[order] for field in batch))
    losses = [method.loss(method(b.images, b), b)[0].item() for b in (batch, shuffled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


# ---- a run ----------------------------------------------------------------------------------------------------------


def test_the_state_brings_back_draws_teacher_and_loss():
    method, batch = prepared(momentum=0.5), batch_of()
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    state = {name: value.clone() for name, value in method.state_dict().items()}
    other = make()
    assert list(other.state_dict()) == list(state)
    other.load_state_dict(state)
    other.settings.momentum = 0.5
    assert list(other.draws(4)) == list(method.draws(4)) and other.looks(4) == method.looks(4) == Look("embedding")
    for one in (method, other):
        one.after_step({}, batch)
    found = [one.loss(one(batch.images, batch), batch)[0] for one in (method, other)]
    assert torch.equal(*found) and not torch.equal(found[0], make().loss(make()(batch.images, batch), batch)[0])


def test_training_on_a_few_images_lowers_the_loss(image_folder):
    """The net starts at random and learns from 24 images of four colours. The loss of draws that it has not seen falls
    too."""
    images = read_list(str(image_folder / "train.txt"), labels_required=True)
    batches = ImageBatches(Images(images.paths, Transforms(WIDTH, WIDTH, 0.5)), 8)
    method = make(len(images), batch_size=24, lr=3e-3)
    method.prepare(method.embedder.embed(images.paths, pooled=True), np.arange(len(images)))
    optimiser = torch.optim.Adam(method.param_groups(), lr=3e-3)
    method.train()

    def loss_of(batch):
        return method.loss(method(batch.images, batch), batch)[0]

    unseen = [batch for epoch in (101, 102) for batch, _ in batches.steps(method.draws(epoch))]
    with torch.no_grad():
        before = np.mean([loss_of(batch).item() for batch in unseen])
    for epoch in range(1, 41):
        for batch, _ in batches.steps(method.draws(epoch)):
            optimiser.zero_grad()
            loss_of(batch).backward()
            optimiser.step()
            method.after_step({}, batch)
    with torch.no_grad():
        after = np.mean([loss_of(batch).item() for batch in unseen])
    assert after < 0.9 * before
