"""APN: its terms from their formulas, its readings, whether it learns."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from neuroav.baselines.apn import APN, APNConfig, AsReleased
from neuroav.checks import InputError
from neuroav.nn.bilinear import UnitLength


@pytest.fixture
def train(scenes):
    return scenes[0]


def softmax(rows):
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("reading", [APNConfig().reading, AsReleased()])
def test_terms_are_those_of_their_formulas(train, reading):
    torch.manual_seed(0)
    model = APN(train.spec, APNConfig(reading=reading))
    with torch.no_grad():
        model.prototypes.mul_(20)
    batch = train.batch(np.arange(20))
    x = torch.cat([s.values.sum(0) / s.valid.sum(0)[:, None] for s in (batch.audio, batch.video)], 1).numpy()
    vectors, right = batch.classes.text.numpy(), np.searchsorted(batch.classes.label.numpy(), batch.label.numpy())
    terms = {name: term.item() for name, term in model.loss(batch, torch.empty(0)).items()}
    for name in ("whole", "prototypes"):
        predicted = x @ getattr(model, name).detach().numpy().T
        logits = predicted @ vectors.T
        logits = softmax(logits) if reading == AsReleased() else logits
        chosen = softmax(logits)[np.arange(20), right]
        assert terms.pop(f"class_{name}") == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
        error = ((predicted - batch.text.numpy()) ** 2).mean()
        assert terms.pop(f"regression_{name}") == pytest.approx(error, rel=1e-4)
    assert terms == {}


def test_a_softmax_twice_can_tell_no_class_for_sure(train):
    """The released cross-entropy stays above ln(1 + (K - 1) / e) whatever the scores."""
    scores = torch.full((1, 8), -50.0)
    scores[0, 3] = 50.0
    twice = AsReleased().logits(scores).log_softmax(1)[0, 3]
    assert -twice.item() == pytest.approx(math.log(1 + 7 / math.e), rel=1e-6)
    assert -APNConfig().reading.logits(scores).log_softmax(1)[0, 3].item() == 0


def test_prototypes_change_no_prediction(train):
    model = APN(train.spec, APNConfig(scale=UnitLength()))
    batch, vectors = train.batch(np.arange(5)), train.class_vectors
    before = model.distances(batch, vectors)
    with torch.no_grad():
        model.prototypes.add_(1.0)
    assert torch.equal(model.distances(batch, vectors), before)


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    assert right_share(APN) > 0.6  # chance is 1/8
    assert right_share(APN, shuffled=True) < 0.3


def test_a_batch_without_its_classes_is_refused(train):
    batch = dataclasses.replace(train.batch(np.arange(4)), classes=None)
    with pytest.raises(InputError, match=r"APN.loss: expected a batch with classes, got None"):
        APN(train.spec).loss(batch, torch.empty(0))
