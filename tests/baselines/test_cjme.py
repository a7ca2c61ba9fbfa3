"""CJME's terms against numpy written from their definitions, what its attention is taught, whether it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from neuroav.baselines.cjme import CJME, AsPublished, AsReleased, CJMEConfig, entropy, trusted
from neuroav.checks import InputError
from neuroav.nn.negatives import Trio

B, D, K = 6, 5, 4
SMALL = CJMEConfig(hidden=32, shared=16, dropout=0.0)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hinges(anchor, near, far, margin):
    """Triplet loss of each row."""
    near, far = (np.linalg.norm(anchor - other, axis=1) for other in (near, far))
    return np.maximum(0, near - far + margin)


def surprise(embedding, classes):
    """Entropy of a softmax over products with the classes, a clip at a time."""
    shares = [np.exp(x) / np.exp(x).sum() for x in (embedding @ classes.t()).numpy()]
    return np.array([-(share * np.log(share)).sum() for share in shares])


def test_each_clips_attention_weighs_its_own_triplets_and_as_released_those_of_all(scenes):
    spec = scenes[0].spec
    positive, negative = (Trio(*(rand(B, D, seed=3 * i + j) for j in range(3))) for i in range(2))
    attention, classes = rand(B, seed=9), rand(K, D, seed=10)
    heard, seen = (
        hinges(positive.text.numpy(), x.numpy(), y.numpy(), 0.7)
        for x, y in ((positive.audio, negative.audio), (positive.video, negative.video))
    )
    weight = attention.numpy()
    gain = surprise(positive.audio, classes) - surprise(positive.video, classes)
    target = np.where(gain > 0.01, 1, np.where(gain < -0.01, 0, 0.5))
    assert set(target) == {0, 0.5, 1}
    pairs = np.mean([(1 - w) * h + w * s for w in weight for h, s in zip(heard, seen, strict=True)])
    for reading, expected in ((AsPublished(), np.mean((1 - weight) * heard + weight * seen)), (AsReleased(), pairs)):
        model = CJME(spec, dataclasses.replace(SMALL, margin=0.7, slack=0.01, reading=reading))
        terms = model.terms(positive, negative, attention, classes)
        assert terms["triplet"].item() == pytest.approx(expected, rel=1e-4)
        assert terms["distance"].item() == pytest.approx(((positive.audio - positive.video) ** 2).mean().item())
        assert terms["attention"].item() == pytest.approx(((weight - target) ** 2).mean())
    assert abs(pairs - np.mean((1 - weight) * heard + weight * seen)) > 1e-3


def test_the_clearer_modality_is_to_be_trusted():
    classes = torch.eye(3, dtype=torch.float64)
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]).double(), torch.tensor([[1.0, 1.0, 1.0]]).double()
    share = np.exp([9.0, 0.0, 0.0]) / np.exp([9.0, 0.0, 0.0]).sum()
    assert entropy(sure, classes).item() == pytest.approx(-(share * np.log(share)).sum())
    assert entropy(unsure, classes).item() == pytest.approx(np.log(3))
    heard = entropy(torch.cat([sure, unsure, unsure]), classes)
    seen = entropy(torch.cat([unsure, sure, unsure]), classes)
    assert trusted(heard, seen, slack=0.1).tolist() == [0.0, 1.0, 0.5]
    assert trusted(heard, seen, slack=2.0).tolist() == [0.5, 0.5, 0.5]


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    def make(spec):
        return CJME(spec, dataclasses.replace(SMALL, hidden=64, shared=32))

    # Audio says nothing of the scene, so that the attention has to learn to trust video.
    assert right_share(make, steps=80, lr=5e-4) > 0.45  # chance is 1/8
    assert right_share(make, shuffled=True, steps=80, lr=5e-4) < 0.3


def test_a_batch_without_its_classes_is_refused(scenes):
    train, _ = scenes
    batch = dataclasses.replace(train.batch(np.arange(4)), classes=None)
    with pytest.raises(InputError, match=r"CJME.loss: expected a batch with classes, got None. Batches of ClipData"):
        CJME(train.spec, SMALL).loss(batch, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("change", [{"hidden": 0}, {"shared": 0}, {"dropout": 1.5}, {"margin": -1.0}, {"slack": -0.1}])
def test_bad_sizes_are_named(change):
    with pytest.raises(InputError, match=f"CJMEConfig: expected {next(iter(change))} in"):
        CJMEConfig(**change)
