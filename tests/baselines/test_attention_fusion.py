"""Attention Fusion's weights and loss, clip by clip, and whether it learns."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from neuroav.baselines.attention_fusion import AttentionFusion, AttentionFusionConfig
from neuroav.checks import InputError
from neuroav.data.types import Batch, Classes, DataSpec, Sequence
from neuroav.train.seed import seed_torch

SPEC = DataSpec(audio_dim=5, video_dim=6, text_dim=7)
SMALL = AttentionFusionConfig(dim=10, encoder_hidden=8, hidden=8, shared=6)
NONE = torch.zeros(3, dtype=torch.long)


def ragged_batch():
    """Three clips of different lengths; the training classes are labelled 2, 5 and 9."""
    generator = torch.Generator().manual_seed(0)

    def sequence(width, lengths):
        valid = torch.arange(max(lengths))[:, None] < torch.tensor(lengths)
        values = torch.randn(*valid.shape, width, generator=generator) * valid[..., None]
        return Sequence(values, torch.zeros(valid.shape), valid)

    text = torch.randn(3, 7, generator=generator)
    classes = Classes(torch.tensor([2, 5, 9]), text)
    return Batch(
        sequence(5, [4, 1, 3]), sequence(6, [2, 6, 1]), None, torch.tensor([9, 2, 9]), text[[2, 0, 2]], classes
    )


@pytest.fixture
def model():
    seed_torch(0)
    return AttentionFusion(SPEC, SMALL).eval()


def test_predictions_are_those_of_one_clip_after_the_other(model):
    batch = ragged_batch()
    found = model.predict(batch)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3))
    for b in range(3):
        alone = []
        for name in ("audio", "video"):
            sequence = getattr(batch, name)
            steps = sequence.values[sequence.valid[:, b], b]
            alone.append(model.clip[name](model.encoder[name](steps).mean(0, keepdim=True))[0])
        scores = model.weigh.weight @ torch.cat(alone) + model.weigh.bias
        share = scores.exp() / scores.exp().sum()
        torch.testing.assert_close(found.audio[b], alone[0])
        torch.testing.assert_close(found.video[b], alone[1])
        torch.testing.assert_close(found.fused[b], share[0] * alone[0] + share[1] * alone[1])


def test_the_modalities_learn_to_predict_alone_too(model):
    batch = ragged_batch()
    terms, found = model.loss(batch, NONE), model.predict(batch)
    word, classes = model.heads.word(batch.text), model.heads.word(batch.classes.text)
    expected = {
        "cross_entropy": 0.0,
        "regression": 0.0,
        "reconstruction": F.mse_loss(model.heads.rebuild_word(word), batch.text),
    }
    for x in found[:3]:
        for i, row in enumerate((2, 0, 2)):
            scores = classes @ x[i]
            expected["cross_entropy"] += (scores.exp().sum().log() - scores[row]) / 3
        expected["regression"] += ((x - word) ** 2).mean()
        expected["reconstruction"] += ((model.heads.rebuild_clip(x) - batch.text) ** 2).mean()
    torch.testing.assert_close(terms, expected)


def test_the_order_of_steps_does_not_matter(model):
    batch = ragged_batch()
    turned = {}
    for name in ("audio", "video"):
        sequence = getattr(batch, name)
        turned[name] = dataclasses.replace(sequence, values=sequence.values.flip(0), valid=sequence.valid.flip(0))
    words = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = [model.distances(each, words) for each in (batch, dataclasses.replace(batch, **turned))]
    torch.testing.assert_close(*found)


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    def make(spec):
        return AttentionFusion(spec, AttentionFusionConfig(dim=32, encoder_hidden=32, hidden=32))

    assert right_share(make) > 0.5  # chance is 1/8
    assert right_share(make, shuffled=True) < 0.3


def test_what_it_needs_is_named(model):
    with pytest.raises(InputError, match=r"AttentionFusion.loss: expected a batch with classes, got None"):
        model.loss(dataclasses.replace(ragged_batch(), classes=None), NONE)
    with pytest.raises(InputError, match="dropout_encoder in"):
        AttentionFusionConfig(dropout_encoder=2.0)
    with pytest.raises(InputError, match="dim in"):
        AttentionFusionConfig(dim=0)
    with pytest.raises(InputError, match="shared in"):
        AttentionFusionConfig(shared=0)
