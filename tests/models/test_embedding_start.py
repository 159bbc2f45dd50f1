"""Starting the embedding head at the PCA of features."""

import pytest
import torch
from sklearn.decomposition import TruncatedSVD

import models


def features_of(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) * torch.linspace(3, 0.1, d) + 0.5
    return torch.nn.functional.normalize(x)


def test_keeps_similarities_as_well_as_sklearns_svd():
    features = features_of(200, 512)
    model = models.create("ResNet18", dim=20, pretrained=False)
    model.start_embedding_at(features.numpy())
    ours = features @ model.classifier.linear.weight.detach().T
    peer = torch.from_numpy(TruncatedSVD(20, algorithm="arpack", random_state=0).fit_transform(features.numpy()))
    assert torch.allclose(3 * ours @ ours.T, peer @ peer.T, atol=1e-4)


def test_is_exact_when_the_embedding_is_no_smaller_than_the_features():
    features = features_of(30, 512)
    model = models.create("ResNet18", dim=600, pretrained=False)
    model.start_embedding_at(features)
    embeddings = model.project(features)
    assert embeddings.shape == (30, 600)
    assert torch.allclose(embeddings @ embeddings.T, features @ features.T, atol=1e-5)


def test_is_as_large_as_torchs_own_start():
    model = models.create("ResNet18", dim=64, pretrained=False)
    before = model.classifier.linear.weight.norm().item()
    model.start_embedding_at(features_of(600, 512))
    assert model.classifier.linear.weight.norm().item() == pytest.approx(before, rel=0.05)


@pytest.mark.parametrize("dim", [1, 16, 600])
@pytest.mark.parametrize("features", [features_of(1, 512), features_of(1, 512).expand(5, 512), torch.eye(512)[[0, 0, 0]]])
def test_one_image_and_images_that_are_all_the_same(features, dim):
    """The features have rank 1: one number is enough for them, and more numbers change nothing."""
    model = models.create("ResNet18", dim=dim, pretrained=False)
    model.start_embedding_at(features)
    projected, embeddings = features @ model.classifier.linear.weight.detach().T, model.project(features)
    for product in (3 * projected @ projected.T, embeddings @ embeddings.T):
        assert torch.allclose(product, torch.ones(len(features), len(features)), atol=1e-5)


def test_the_bias_of_a_checkpoint_does_not_stay():
    model = models.create("ResNet18", dim=8, pretrained=False)
    torch.nn.init.ones_(model.classifier.linear.bias)
    model.start_embedding_at(features_of(30, 512))
    assert not model.classifier.linear.bias.any()
