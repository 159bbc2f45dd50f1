"""STML's loss against loops over images, pairs and sets, one at a time and in float64."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn.functional import normalize

from losses.stml import contextual_similarity, distillation, relative_distances, relaxed_contrastive

# ---- slow and obvious ----------------------------------------------------------------------------------------------


def slow_distance(a, b):
    return (a - b).square().sum().sqrt() if not torch.equal(a, b) else 0 * a.sum()


def slow_neighbours(x, index, sigma, count):
    """Map i to the `count` rows nearest to it: itself, then the other views of its image, then the most similar rows."""
    n = range(len(x))

    def place(i, j):
        nearness = 1 if index[i] == index[j] else math.exp(-(slow_distance(x[i], x[j]).item() ** 2) / sigma)
        return (i != j, -nearness, j)

    return [sorted(n, key=lambda j, i=i: place(i, j))[:count] for i in n]


def slow_similarity(x, index, sigma, k):
    n = range(len(x))
    near = slow_neighbours(x, index, sigma, k)
    nearest = slow_neighbours(x, index, sigma, max(1, round(min(k, len(x)) / 2)))
    reciprocal = [{j for j in near[i] if i in near[j]} for i in n]

    def agreement(i, j):
        return len(reciprocal[i] & reciprocal[j]) / len(reciprocal[i]) if j in reciprocal[i] else 0.0

    def expanded(i, j):
        return sum(agreement(h, j) for h in nearest[i]) / len(nearest[i])

    rows = []
    for i in n:
        rows.append([])
        for j in n:
            pairwise = math.exp(-(slow_distance(x[i], x[j]).item() ** 2) / sigma)
            contextual = (expanded(i, j) + expanded(j, i)) / 2
            rows[i].append((pairwise + contextual) / 2)
    return torch.tensor(rows, dtype=torch.float64)


def slow_relative(x):
    rows = []
    for a in x:
        distances = [slow_distance(a, b) for b in x]
        mean = sum(distances) / len(x)
        rows.append([distance / mean if mean > 0 else distance for distance in distances])
    return rows


def slow_contrastive(relative, similarity, delta):
    total, pairs = 0, 0
    for i, row in enumerate(relative):
        for j, distance in enumerate(row):
            if i != j:
                pairs += 1
                total = total + similarity[i][j] * distance**2
                if distance < delta:
                    total = total + (1 - similarity[i][j]) * (delta - distance) ** 2
    return total / max(1, pairs)


def slow_distillation(relative, target):
    total = 0
    for row, wanted in zip(relative, target):
        wanted = [distance.item() for distance in wanted]
        sum_wanted, sum_row = sum(math.exp(-t) for t in wanted), sum(torch.exp(-d) for d in row)
        for distance, t in zip(row, wanted):
            p = math.exp(-t) / sum_wanted
            total = total + p * (math.log(p) - torch.log(torch.exp(-distance) / sum_row))
    return total / len(relative)


# ---- ours ----------------------------------------------------------------------------------------------------------


def views_of(images, views, dim, spread, seed):
    """Return rows of length 1, with a centre for every two images, float64 (images * views, dim), and the image of each
    row."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(images).repeat_interleave(views)
    centres = torch.randn(images, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(index), dim, generator=generator, dtype=torch.float64)
    return normalize(centres[index // 2] + spread * noise), index


batches = given(st.integers(1, 6), st.integers(1, 3), st.integers(2, 5), st.sampled_from([0.1, 1.0]), st.integers(0, 999))


@settings(max_examples=60, deadline=None)
@batches
def test_similarity_equals_the_loops(images, views, dim, spread, seed):
    x, index = views_of(images, views, dim, spread, seed)
    for k in (1, 2, 3, 5, 6, 10, 99):
        for sigma in (0.3, 3.0):
            torch.testing.assert_close(
                contextual_similarity(x, index, sigma, k), slow_similarity(x, index.tolist(), sigma, k), rtol=0, atol=1e-12
            )


@settings(max_examples=60, deadline=None)
@batches
def test_losses_and_gradients_equal_the_loops(images, views, dim, spread, seed):
    """Batches of a single row, whose distances are all zero, are among the examples."""
    x, index = views_of(images, views, dim, spread, seed)
    f, g = 7 * x + 3, x @ torch.randn(dim, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    similarity = contextual_similarity(x, index, 3, 4)

    def pieces(f, g, relative, contrastive, distil):
        of_f, of_g = relative(f), relative(g)
        return [contrastive(of_f, similarity, 0.9), contrastive(of_g, similarity, 1), distil(of_f, of_g)]

    found = []
    for functions in (
        (relative_distances, relaxed_contrastive, distillation),
        (slow_relative, slow_contrastive, slow_distillation),
    ):
        leaves = [rows.clone().requires_grad_() for rows in (f, g)]
        values = pieces(*leaves, *functions)
        loss = values[0] + 2 * values[1] + 3 * values[2] + 0 * sum(rows.sum() for rows in leaves)
        loss.backward()
        found.append([*(torch.as_tensor(value).item() for value in values), *(rows.grad for rows in leaves)])
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)


def test_float32_is_close_to_float64():
    """The batch has the size of real training. Its rows are far from the origin, like features after a ReLU."""
    x, index = views_of(120, 2, 64, 0.5, 0)
    similarity = contextual_similarity(x, index, 3, 10)
    torch.testing.assert_close(contextual_similarity(x.float(), index, 3, 10).double(), similarity, rtol=0, atol=1e-5)
    exact, rounded = (relative_distances(rows + 5) for rows in (x, x.float()))
    torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=2e-5)
    for loss in (lambda d: relaxed_contrastive(d, similarity.to(d), 1), lambda d: distillation(d, d.T)):
        assert loss(rounded).item() == pytest.approx(loss(exact).item(), rel=1e-5, abs=1e-7)


def test_an_example_by_hand():
    """There are two images, at a right angle, with two equal views each. sigma is 2, so exp(-d^2 / sigma) is 1 / e."""
    x = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    index = torch.tensor([0, 0, 1, 1])
    far = 1 / math.e / 2  # without common neighbours
    expected = torch.tensor([[1.0, 1, far, far], [1, 1, far, far], [far, far, 1, 1], [far, far, 1, 1]])
    torch.testing.assert_close(contextual_similarity(x, index, 2, 2), expected)
    relative = relative_distances(x)  # distances are 0 or sqrt(2), their mean is sqrt(2) / 2
    torch.testing.assert_close(relative, torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [2, 2, 0, 0], [2, 2, 0, 0]]))
    # A third of the pairs costs nothing. Each other pair costs far * 2^2; it is too distant to be pushed.
    assert relaxed_contrastive(relative, expected, 1).item() == pytest.approx(2 / 3 * far * 4)
    assert relaxed_contrastive(relative, expected, 3).item() == pytest.approx(2 / 3 * (far * 4 + (1 - far) * 1))
    near, away = math.log((2 + 2 * math.exp(-2)) / 4), math.log((2 * math.exp(2) + 2) / 4)
    assert distillation(relative, torch.ones(4, 4)).item() == pytest.approx((near + away) / 2)


def test_views_of_an_image_are_neighbours_whatever_their_distance():
    """Rows 0 and 1 are views of one image, which the teacher places far apart. Row 2 is close to 0, and row 3 is close to
    1."""
    x = normalize(torch.tensor([[1.0, 0], [-1, 0], [1, 0.1], [-1, 0.1]]))
    together, apart = (contextual_similarity(x, torch.tensor(index), 3, 2) for index in ([0, 0, 1, 2], [0, 3, 1, 2]))
    assert together[0, 1] > 0.5 > apart[0, 1] and together[0, 2] < apart[0, 2]


# ---- properties of every batch -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@batches
def test_similarity_is_symmetric_within_0_and_1_and_follows_the_rows(images, views, dim, spread, seed):
    x, _ = views_of(images, views, dim, spread, seed)
    index = torch.arange(len(x))  # no ties, because the order of rows would decide them
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    found = contextual_similarity(x, index, 3, 4)
    assert found.min() >= 0 and found.max() <= 1 + 1e-12
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(contextual_similarity(x[order], index[order], 3, 4), found[order][:, order])


@settings(max_examples=40, deadline=None)
@batches
def test_relative_distances_see_no_scale_no_shift_and_no_rotation(images, views, dim, spread, seed):
    x, _ = views_of(images, views, dim, spread, seed)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    found = relative_distances(x)
    torch.testing.assert_close(relative_distances(100 * x @ rotation - 3), found, rtol=1e-6, atol=1e-7)
    if len(x) > 1:
        torch.testing.assert_close(found.mean(1), torch.ones(len(x), dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@batches
def test_distillation_is_zero_where_both_agree_and_teaches_only_the_one(images, views, dim, spread, seed):
    x, _ = views_of(images, views, dim, spread, seed)
    student, target = x.clone().requires_grad_(), x[:, :1].clone().requires_grad_()
    loss = distillation(relative_distances(student), relative_distances(target))
    assert loss >= -1e-15 and distillation(relative_distances(x), relative_distances(x)).abs() < 1e-15
    loss.backward()
    assert target.grad is None and student.grad is not None


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("kind", ["equal", "zero"])
def test_rows_that_are_all_the_same(kind, rows):
    """As of a collapsed net, or of one image: value and gradient are finite."""
    x = (torch.ones(rows, 4) * (kind == "equal")).requires_grad_()
    similarity = contextual_similarity(normalize(x), torch.arange(rows) // 2, 3, 4)
    relative = relative_distances(x)
    loss = relaxed_contrastive(relative, similarity, 1) + distillation(relative, relative)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and similarity.isfinite().all() and not similarity.requires_grad


def test_what_is_not_finite_shows_in_the_loss():
    x, index = views_of(4, 2, 5, 1.0, 0)
    similarity, broken = contextual_similarity(x, index, 3, 4), x.clone()
    broken[3, 0] = torch.nan
    assert relaxed_contrastive(relative_distances(broken), similarity, 1).isnan()
    assert relaxed_contrastive(relative_distances(x), contextual_similarity(broken, index, 3, 4), 1).isnan()
