"""Cluster Contrast: its clusters, its draws, its loss and memory, and resuming."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch.nn.functional import normalize

from data.views import Batch
from models import methods
from models.methods.cluster_contrast import update_memory
from small_nets import DIM, FEATURES, WIDTH, Some, one_convolution
from thumbnails import TINY
from utils.device import Compute
from utils.distributed import Group
from utils.errors import InputError
from utils.features import Look
from utils.grad_cache import ForwardBackward

KINDS, EACH = 5, 10


def make(count=60, labels=None, **changed):
    """Return the method, with a net of one convolution."""
    torch.manual_seed(0)
    embedder = one_convolution()
    settings = {"batch_size": 8, "num_instances": 4, "k1": 8, "k2": 3, **changed}
    return methods.create(
        "cluster_contrast", embedder, Some(count, labels), methods.default_settings("cluster_contrast", **settings)
    )


def kinds(dim=FEATURES, spread=0.15, outliers=5, seed=0):
    """Return rows of length 1, float32 (55, dim): ten around each of five axes in turn, then outliers between the axes."""
    rng = np.random.default_rng(seed)
    rows = [*np.eye(dim)[[*range(KINDS)] * EACH], *np.full((outliers, dim), 1 / math.sqrt(dim))]
    rows += spread * rng.normal(size=(len(rows), dim))
    rows[KINDS * EACH :] += 0.4 * rng.normal(size=(outliers, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


READABLE = np.delete(np.arange(60), [0, 13, 14, 31, 59])  # the images that the 55 rows belong to


def prepared(**changed):
    method = make(**changed)
    method.prepare(kinds(), READABLE)
    return method


def batch_of(labels, index=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (len(labels), 3, WIDTH, WIDTH), dtype=torch.uint8, generator=generator)
    labels = torch.as_tensor(labels)
    index = torch.arange(len(labels)) if index is None else torch.as_tensor(index)
    return Batch(images, index, labels, torch.full_like(labels, -1), torch.ones_like(labels, dtype=torch.bool))


def rows_of(count, seed=0, dtype=torch.float32):
    return normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed), dtype=dtype))


# ---- clusters -------------------------------------------------------------------------------------------------------


def test_clusters_are_those_of_dbscan_and_nobody_else_is_drawn():
    method = prepared()
    labels = method.labels.tolist()
    assert [labels[i] for i in READABLE[: KINDS * EACH]] == [*range(KINDS)] * EACH
    left_out = {i for i in range(60) if labels[i] < 0}
    assert left_out >= {0, 13, 14, 31, 59} and len(left_out) > 5  # unreadable images and outliers are left out
    drawn = [draw for epoch in range(1, 60) for step in method.draws(epoch) for draw in step]
    assert {draw.index for draw in drawn} == set(range(60)) - left_out
    assert all(draw.label == labels[draw.index] for draw in drawn) and len({draw.seed for draw in drawn}) == len(drawn)


def test_an_epoch_is_batches_of_p_by_k():
    steps = list(prepared().draws(1))
    assert len(steps) == 2  # each has two clusters; the fifth cluster waits
    assert all([*np.bincount([draw.label for draw in step])].count(4) == 2 and len(step) == 8 for step in steps)
    first, again, later = (list(prepared().draws(epoch)) for epoch in (1, 1, 2))
    assert first == again != later and list(prepared(seed=1).draws(1)) != first


@pytest.mark.parametrize("init", ["random", "pca"])
def test_the_memory_starts_at_the_means_of_embeddings(init):
    """First, these are embeddings that the head makes of pooled features. Later, they are the embeddings themselves."""
    method = prepared(init=init)
    weight, bias = method.embedder.classifier.linear.weight.detach().double(), method.embedder.classifier.linear.bias
    if init == "pca":
        shared = torch.linalg.svd(torch.from_numpy(kinds()).double()).Vh[:DIM]
        assert torch.allclose((normalize(weight) @ shared.T).abs(), torch.eye(DIM).double(), atol=1e-4)
    else:
        assert torch.equal(weight, make().embedder.classifier.linear.weight.double())
    assert not bias.any()
    embeddings = [weight @ torch.from_numpy(row).double() for row in kinds()]

    def check(embeddings):
        assert method.memory.shape == (method.labels.max() + 1, DIM) and method.memory.dtype == torch.float32
        for cluster, found in enumerate(method.memory):
            own = [embeddings[row] / embeddings[row].norm() for row, i in enumerate(READABLE) if method.labels[i] == cluster]
            mean = sum(own) / len(own)
            torch.testing.assert_close(found.double(), mean / mean.norm(), rtol=1e-5, atol=1e-5)

    check(embeddings)
    later = kinds(DIM, seed=1)
    method.prepare(later, READABLE)
    check([torch.from_numpy(row).double() for row in later])
    assert torch.equal(weight, method.embedder.classifier.linear.weight.double())  # it stays after the start


def test_it_looks_at_pooled_features_first_then_at_embeddings():
    method = make(up_step=3)
    assert [method.looks(epoch) for epoch in (1, 2)] == [Look("pooled"), Look("pooled")]
    method.prepare(kinds(), READABLE)
    assert [method.looks(epoch) for epoch in range(1, 8)] == [*[Look("embedding"), None, None] * 2, Look("embedding")]
    assert prepared().looks(2) == Look("embedding")  # the default is before each epoch


def test_kmeans_gives_a_cluster_to_every_readable_image():
    method = make(grouping="kmeans", num_clusters=7)
    said = method.prepare(kinds(), READABLE)
    assert said.startswith("clustered 55 images into 7: objective ")
    assert np.unique(method.labels[READABLE]).tolist() == [*range(7)] and (method.labels < 0).sum() == 5
    method.prepare(kinds(DIM), READABLE)
    assert method.memory.shape == (7, DIM)


def test_it_goes_on_by_kmeans_with_fewer_clusters_and_after_dbscan():
    method = prepared()
    for number in (6, 3):
        method.settings.grouping, method.settings.num_clusters = "kmeans", number
        assert method.prepare(kinds(DIM), READABLE).startswith(f"clustered 55 images into {number}: ")
        assert method.labels.max() + 1 == len(method.memory) == number


def test_the_log_says_what_was_found():
    """The numbers count images in clusters. The true labels of unreadable images do not count."""
    labels = np.full(60, 7)
    labels[READABLE] = [*range(KINDS)] * EACH + [5] * 5
    method = make(labels=labels)
    said = method.prepare(kinds(), READABLE)
    found = method.labels[READABLE].numpy()
    k, inside = found.max() + 1, np.flatnonzero(found >= 0)
    own = [kinds().astype(np.float64)[found == label] for label in range(k)]
    spread = sum(np.square(rows - rows.mean(0)).sum() for rows in own)
    sizes = sorted(map(len, own))
    assert said.startswith(f"{k} clusters of {len(inside)} images: objective ") and len(inside) < 55
    assert float(said.split()[6].rstrip(",")) == pytest.approx(spread, rel=1e-4)
    assert f"sizes {sizes[0]}/{sizes[k // 2]}/{sizes[-1]} (min/median/max)" in said and k % 2
    known = labels[READABLE][inside], found[inside]
    agreement = f"NMI {normalized_mutual_info_score(*known):.4f} ARI {adjusted_rand_score(*known):.4f}"
    assert said.endswith(f", with the true labels {agreement}; outliers: {55 - len(inside)} other images")
    assert "with the last" not in said and "NMI with the last 1.0000" in method.prepare(kinds(), READABLE)


@pytest.mark.parametrize(
    "eps, found, remedy",
    [
        (0.001, "no cluster", "a larger one, or a smaller min_samples"),
        (0.99, "one cluster alone", "a smaller one, or a smaller k1"),
    ],
)
def test_less_than_two_clusters(eps, found, remedy, said):
    """At the start, this is an error. Later, the previous clusters stay, and their vectors are computed again."""
    features = kinds(spread=0.4)
    what = f"{eps}: DBSCAN finds {found} in 55 images"
    with pytest.raises(InputError) as caught:
        make(eps=eps, k1=20).prepare(features, READABLE)
    assert caught.value.setting == "eps"
    assert str(caught.value) == f"{what}, so there is nothing to tell apart; give {remedy}, or group by kmeans"

    method = prepared(eps=0.6)
    before, memory, same = method.labels.clone(), method.memory.clone(), kinds(DIM, 0.4)
    method.settings.eps, method.settings.k1 = eps, 20
    said()
    assert method.prepare(same, READABLE).startswith(f"{len(memory)} clusters of ")
    assert said() == [f"warning: --eps {what}; the previous clusters stay. Give {remedy}"]
    assert torch.equal(method.labels, before) and not torch.equal(method.memory, memory)
    mean = same[(method.labels[READABLE] == 2).numpy()].mean(0)
    np.testing.assert_allclose(method.memory[2], mean / np.linalg.norm(mean), atol=1e-5)


def test_clusters_that_stay_are_numbered_anew_where_one_cannot_be_read_any_more():
    method = prepared()
    method.settings.eps = 0.001
    left = np.array([i for i in READABLE if method.labels[i] != 1])
    rows = np.isin(READABLE, left)
    k = len(method.memory)
    method.prepare(kinds(DIM)[rows], left)
    assert np.unique(method.labels).tolist() == [*range(-1, k - 1)] and method.memory.shape == (k - 1, DIM)
    assert method.memory.isfinite().all()


def test_nothing_is_left_of_the_clusters():
    method = prepared()
    method.settings.eps = 0.001
    left = np.array([i for i in READABLE if method.labels[i] < 1])
    with pytest.raises(InputError, match=f"^0.001: DBSCAN finds no cluster in {len(left)} images"):
        method.prepare(kinds(DIM)[np.isin(READABLE, left)], left)


def test_one_cluster_of_most_images_is_warned_of(said):
    features = kinds(outliers=0)[np.array([*range(0, 50, 5)] * 3 + [*range(1, 50, 5), *range(2, 50, 5)])]
    features[:30] += np.random.default_rng(0).normal(scale=0.02, size=(30, FEATURES)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    said()
    method = make(50, k1=20)
    method.prepare(features, np.arange(50))
    sizes = np.bincount(method.labels[method.labels >= 0])
    share = f"{sizes.max() / sizes.sum():.0%}"
    assert said() == [f"warning: one cluster holds {share} of the images in clusters; lower --eps or --k1"]


@pytest.mark.parametrize(
    "changed, setting, message",
    [
        ({"batch_size": 7}, "batch_size", "^7 is not a multiple of num_instances 4"),
        ({"k2": 9}, "k2", "^9 is more than k1, 8$"),
        ({"grouping": "kmeans", "num_clusters": 61}, "num_clusters", "^61 is not between 2 and the 60 images of train.txt$"),
        ({"grouping": "kmeans", "num_clusters": 1}, "num_clusters", "^1 is not between 2 and"),
    ],
)
def test_what_does_not_fit_is_refused(changed, setting, message):
    with pytest.raises(InputError, match=message) as caught:
        make(**changed)
    assert caught.value.setting == setting
    make(num_clusters=61)  # num_clusters only matters for kmeans
    make(batch_size=7, num_instances=1)


@pytest.mark.parametrize("flag", ["--eps 0", "--eps 1", "--k1 0", "--min_samples 0", "--temperature 0", "--momentum 1.1"])
def test_flags_out_of_range_are_refused(refused, flag, tmp_path):
    assert flag.split()[0] in refused("train", "--method", "cluster_contrast", *flag.split(), "--save_dir", tmp_path / "run")


# ---- a step ---------------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.sampled_from([0.05, 0.5]), st.integers(0, 1000))
def test_the_loss_is_that_of_the_paper(labels, temperature, seed):
    """It is the mean over images q of -log(exp(q . c / t) / the sum over clusters of exp(q . c' / t)); c belongs to q's
    cluster."""
    method = make(temperature=temperature)
    method.memory = rows_of(5, seed)
    found = []
    for dtype in (torch.float32, torch.float64):
        x = rows_of(len(labels), seed + 1).to(dtype).requires_grad_()
        if dtype == torch.float32:
            loss, shown = method.loss({"embedding": x}, batch_of(labels))
            assert shown["loss"] is loss and {"positive", "negative", "lowest"} <= shown.keys()
        else:
            loss = 0
            for q, label in zip(x, labels):
                terms = [torch.exp(q @ c.double() / temperature) for c in method.memory]
                loss = loss - torch.log(terms[label] / sum(terms)) / len(labels)
        loss.backward()
        found.append((loss.item(), x.grad.double()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4, abs=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-4)


def slow_move(memory, embeddings, labels, momentum):
    """Move the memory image by image."""
    memory = memory.clone()
    for x, y in zip(embeddings, labels):
        row = momentum * memory[y] + (1 - momentum) * x
        memory[y] = row / math.sqrt(row @ row)
    return memory


some_labels, some_momentum = st.lists(st.integers(0, 4), min_size=1, max_size=20), st.sampled_from([0.0, 0.1, 0.7, 1.0])


@hypothesis_settings(max_examples=100, deadline=None)
@given(some_labels, some_momentum, st.integers(0, 1000))
def test_the_memory_moves_by_the_sequential_formula(labels, momentum, seed):
    memory, embeddings = rows_of(5, seed, torch.float64), rows_of(len(labels), seed + 1, torch.float64)
    expected = slow_move(memory, embeddings, labels, momentum)
    assert (momentum == 1) == torch.allclose(expected, memory)
    update_memory(memory, embeddings, torch.tensor(labels), momentum)
    torch.testing.assert_close(memory, expected, rtol=1e-12, atol=1e-12)


def test_a_step_moves_the_clusters_of_its_images():
    """Each cluster has one image in the batch, so the order does not matter. The default momentum is 0.1."""
    method = prepared()
    before, labels = method.memory.clone(), [2, 0, 3]
    out = {"embedding": rows_of(3).requires_grad_()}
    method.after_step(out, batch_of(labels))
    torch.testing.assert_close(method.memory, slow_move(before, out["embedding"].detach(), labels, 0.1))
    assert torch.equal(method.memory[1], before[1]) and not method.memory.requires_grad


@hypothesis_settings(max_examples=30, deadline=None)
@given(some_labels, st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(labels, seed):
    """Several processes have the images of a batch in another order. Some images occur twice, in different views."""
    rng, found = np.random.default_rng(seed), []
    index, embeddings = torch.from_numpy(rng.integers(12, size=len(labels))), rows_of(len(labels), seed)
    for order in (torch.arange(len(labels)), torch.from_numpy(rng.permutation(len(labels)))):
        method = make()
        method.memory = rows_of(5, seed + 1)
        batch = batch_of(torch.tensor(labels)[order], index[order])
        loss, _ = method.loss({"embedding": embeddings[order]}, batch)
        method.after_step({"embedding": embeddings[order]}, batch)
        found.append((loss, method.memory))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_every_image_is_at_times_the_last_that_moves_its_cluster():
    """The last image weighs most, so it must not always be the same one, nor the one with the highest index."""
    last = []
    for other in range(100):
        method = make(momentum=0.0)  # the memory then equals the last image
        method.memory = rows_of(5)
        embeddings = rows_of(4, other)
        method.after_step({"embedding": embeddings}, batch_of([0, 0, 0, 1], [3, 4, 5, 6 + other]))
        last.append((embeddings[:3] - method.memory[0]).norm(dim=1).argmin().item())
    assert min(np.bincount(last, minlength=3)) > 15


def test_everything_that_is_trained_has_a_gradient():
    method, batch = prepared(), batch_of([0, 0, 1, 4])
    out = method(batch.images, batch)
    method.loss(out, batch)[0].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.parameters())
    trained = {id(p) for group in method.param_groups() for p in group["params"]}
    assert trained == {id(p) for p in method.embedder.parameters()} and method.trained() is method.embedder


def test_embeddings_are_float32_in_mixed_precision_too():
    method, batch = prepared(), batch_of([0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        out = method(batch.images, batch)
    assert {name: (tuple(rows.shape), rows.dtype) for name, rows in out.items()} == {"embedding": ((2, DIM), torch.float32)}
    torch.testing.assert_close(out["embedding"].norm(dim=1), torch.ones(2))


def test_micro_batches_give_the_gradients_of_a_whole_one():
    found = []
    for size in (0, 3):
        method, batch = prepared(), batch_of([0, 0, 1, 1, 4, 4])
        passes = ForwardBackward(method, Compute(torch.device("cpu"), None, False), Group(), size)
        loss, _ = method.loss(passes.forward(batch), batch)
        passes.backward(loss)
        found.append([loss.detach(), *(parameter.grad for parameter in method.parameters())])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


# ---- a run ----------------------------------------------------------------------------------------------------------


def test_the_state_brings_back_clusters_memory_draws_and_loss():
    """The state is loaded into a method without clusters, and into one with others. Later, each only changes its own."""
    method, batch = prepared(), batch_of([0, 0, 1, 4])
    method.after_step({"embedding": rows_of(4)}, batch)
    others = [make(), make(grouping="kmeans", num_clusters=3)]
    others[1].prepare(kinds(), READABLE)
    for other in others:
        other.load_state_dict(method.state_dict())
        assert torch.equal(other.memory, method.memory) and torch.equal(other.labels, method.labels)
        assert list(other.draws(4)) == list(method.draws(4)) and other.looks(4) == method.looks(4) == Look("embedding")
    before = method.memory.clone()
    for other in others:
        other.after_step({"embedding": rows_of(4, 1)}, batch)
        assert torch.equal(method.memory, before) and not torch.equal(other.memory, before)
    assert torch.equal(others[0].memory, others[1].memory)


RUN = "--method cluster_contrast --pretrained False --batch_size 8 --num_instances 2 --print_freq 1".split()


def test_training_lowers_the_loss(run, image_folder, tmp_path):
    flags = (*TINY, *RUN, "--grouping", "kmeans", "--num_clusters", 4, "--up_step", 100, "--lr", "3e-4")
    run("train", *flags, "--data", image_folder, "--save_dir", tmp_path / "run", "--epochs", 30)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
