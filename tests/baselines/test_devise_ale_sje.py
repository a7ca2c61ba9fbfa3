"""DeViSE, ALE and SJE: their rankings by loops over clips and classes, their readings, whether they learn."""

import dataclasses

import numpy as np
import pytest
import torch

from neuroav.baselines.ale import ALE, rank_weighted
from neuroav.baselines.devise import DeViSE
from neuroav.baselines.sje import SJE
from neuroav.checks import InputError
from neuroav.nn.bilinear import AsReleased, BilinearConfig, UnitLength

KINDS = {"devise": DeViSE, "ale": ALE, "sje": SJE}
STILL = BilinearConfig(dropout=0.0)


@pytest.fixture
def train(scenes):
    return scenes[0]


def violations(model, batch):
    """For each clip how far every wrong class comes within the margin, from audio and video averaged by hand."""
    valid = batch.audio.valid.numpy().astype(float)[..., None]
    means = [(s.values.numpy() * valid).sum(0) / valid.sum(0) for s in (batch.audio, batch.video)]
    scores = np.concatenate(means, 1) @ model.bilinear.linear.weight.detach().numpy().T @ batch.classes.text.numpy().T
    right = np.searchsorted(batch.classes.label.numpy(), batch.label.numpy())
    margin = model.bilinear.config.margin
    return [
        [max(0.0, margin + row[k] - row[y]) for k in range(len(row)) if k != y]
        for row, y in zip(scores, right, strict=True)
    ]


def weighted(found):
    """ALE's sum for one clip."""
    rank = sum(one > 0 for one in found)
    return sum(found) * sum(1 / place for place in range(1, rank + 1)) / max(1, rank)


BY_HAND = {"devise": sum, "ale": weighted, "sje": max}


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_is_that_of_a_loop_over_clips_and_classes(train, name):
    model = KINDS[name](train.spec, STILL)
    batch = train.batch(np.arange(20))
    (loss,) = model.loss(batch, torch.empty(0)).values()
    expected = np.mean([BY_HAND[name](found) for found in violations(model, batch)])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    (wide,) = KINDS[name](train.spec, dataclasses.replace(STILL, margin=50.0)).loss(batch, torch.empty(0)).values()
    assert wide > loss + 20


def test_a_rank_weighs_as_the_mean_of_its_reciprocals():
    hinges = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(rank_weighted(hinges), torch.tensor([6 * (1 + 1 / 2 + 1 / 3) / 3, 0.0, 0.5]))


@pytest.mark.parametrize("name", KINDS)
def test_the_nearest_class_has_the_highest_score_or_as_released_the_shortest_way(train, name):
    batch, vectors = train.batch(np.arange(20)), train.class_vectors * torch.arange(1.0, 9.0)[:, None]
    model = KINDS[name](train.spec, STILL).eval()
    released = KINDS[name](train.spec, dataclasses.replace(STILL, reading=AsReleased())).eval()
    released.load_state_dict(model.state_dict())
    projected = model.bilinear.project(torch.cat([s.values.sum(0) / s.valid.sum(0)[:, None] for s in both(batch)], 1))
    scores = projected @ vectors.t()
    found = model.distances(batch, vectors)
    torch.testing.assert_close(found, scores.max(1, keepdim=True).values - scores, rtol=1e-4, atol=1e-4)
    apart = (projected[:, None] - vectors).norm(dim=2)
    torch.testing.assert_close(released.distances(batch, vectors), apart, rtol=1e-4, atol=1e-4)


def both(batch):
    return batch.audio, batch.video


def test_released_dropout_falls_on_class_vectors_too(train):
    batch = train.batch(np.arange(20))
    x, vectors = torch.randn(20, batch.audio.values.shape[2] + batch.video.values.shape[2]), batch.classes.text
    for reading, whole in ((BilinearConfig().reading, True), (AsReleased(), False)):
        bilinear = DeViSE(train.spec, BilinearConfig(dropout=0.5, reading=reading)).train().bilinear
        torch.manual_seed(0)
        scores = bilinear.scores(x, vectors)
        torch.manual_seed(0)
        assert torch.allclose(scores, bilinear.project(x) @ vectors.t(), atol=1e-4) == whole


@pytest.mark.parametrize("scale", [BilinearConfig().scale, UnitLength()])
def test_inputs_of_unit_length_forget_how_long_they_were(train, scale):
    bilinear = DeViSE(train.spec, BilinearConfig(scale=scale)).eval().bilinear
    x = torch.randn(3, bilinear.linear.in_features)
    same = torch.allclose(bilinear.project(x), bilinear.project(3 * x), atol=1e-5)
    assert same == isinstance(scale, UnitLength)


@pytest.mark.parametrize("name", KINDS)
def test_it_learns_what_shuffled_labels_do_not_teach(right_share, name):
    assert right_share(KINDS[name]) > 0.6  # chance is 1/8
    assert right_share(KINDS[name], shuffled=True) < 0.3


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_without_its_classes_is_refused(train, name):
    batch = dataclasses.replace(train.batch(np.arange(4)), classes=None)
    title = KINDS[name].CARD.title
    with pytest.raises(
        InputError, match=rf"{title}.loss: expected a batch with classes, got None. Batches of ClipData"
    ):
        KINDS[name](train.spec).loss(batch, torch.empty(0))


@pytest.mark.parametrize("change", [{"margin": -0.1}, {"dropout": 1.5}])
def test_bad_numbers_are_named(change):
    with pytest.raises(InputError, match=f"BilinearConfig: expected {next(iter(change))} in"):
        BilinearConfig(**change)
