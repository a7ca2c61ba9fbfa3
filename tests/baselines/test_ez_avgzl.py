"""EZ-AVGZL's similarities and losses pair by pair, what calibration does to its scores, and whether it learns."""

import dataclasses
import math

import pytest
import torch

from neuroav.baselines.ez_avgzl import (
    EZAVGZL,
    AmongClasses,
    AmongClips,
    AttentionSimilarity,
    Clips,
    CosineSimilarity,
    EZConfig,
    LinearSimilarity,
    MLPSimilarity,
)
from neuroav.checks import InputError
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.train.seed import seed_torch

SPEC = DataSpec(audio_dim=5, video_dim=6, text_dim=10)
SMALL = EZConfig(dim=10, encoder_hidden=8, position=4, layers=2, heads=2, head_dim=3, feed_forward=9)
NONE = torch.zeros(5, dtype=torch.long)


@pytest.fixture
def clips():
    """Three clips of 1 to 6 tokens; what lies behind the valid ones must not matter."""
    seed_torch(0)
    valid = torch.arange(6)[:, None] < torch.tensor([3, 6, 1])
    return Clips(torch.randn(3, 10), torch.randn(6, 3, 10), valid)


@pytest.fixture
def words():
    """Four class vectors of different lengths."""
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [2.0], [0.5], [3.0]])


def batch_of(labels):
    generator = torch.Generator().manual_seed(0)

    def sequence(width):
        valid = torch.arange(4)[:, None] < torch.tensor([4, 1, 3, 2, 4])
        values = torch.randn(4, 5, width, generator=generator) * valid[..., None]
        return Sequence(values, torch.arange(4)[:, None].expand(4, 5) * 0.5, valid)

    text = torch.randn(10, 10, generator=generator)
    label = torch.tensor(labels)
    return Batch(sequence(5), sequence(6), None, label, text[label])


# --------------------------------------------------------------------------------------------------------- similarities


def unit(word):
    return word / word.norm()


def attended(module, tokens, word):
    """One class asks the tokens of one clip, a head at a time."""
    x, query, found = module.norm(tokens), module.query(unit(word)), []
    for ask, key, value in zip(
        query.chunk(module.heads), *(w(x).chunk(module.heads, -1) for w in (module.key, module.value))
    ):
        share = (key @ ask / math.sqrt(len(ask))).softmax(0)
        found.append(share @ value)
    return module.score.weight[0] @ torch.cat(found)


EXPECTED = {
    CosineSimilarity(): lambda module, token, tokens, word: token @ unit(word),
    LinearSimilarity(): lambda module, token, tokens, word: token @ module.linear.weight.t() @ unit(word),
    MLPSimilarity(hidden=7): lambda module, token, tokens, word: (
        module.score.weight[0]
        @ torch.relu(
            torch.cat([module.clip.weight, module.word.weight], 1) @ torch.cat([token, unit(word)]) + module.clip.bias
        )
    ),
    AttentionSimilarity(): lambda module, token, tokens, word: attended(module, tokens, word),
}


@pytest.mark.parametrize("similarity", EXPECTED, ids=lambda similarity: type(similarity).__name__)
def test_similarities_are_those_of_one_clip_and_one_class(similarity, clips, words):
    module = similarity.build(SMALL, 10)
    with torch.no_grad():
        found = module(clips, words)
        for b in range(3):
            for c in range(4):
                tokens = clips.tokens[clips.valid[:, b], b]
                expected = EXPECTED[similarity](module, clips.token[b], tokens, words[c])
                torch.testing.assert_close(found[b, c], expected)


# ----------------------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("contrast", [AmongClasses(), AmongClips()], ids=["classes", "clips"])
def test_the_loss_is_that_of_loops(contrast):
    """Classes 3 and 7 have two clips each: below the fraction they stand once, or once a clip as Eq. 5 prints it."""
    seed_torch(0)
    model = EZAVGZL(SPEC, dataclasses.replace(SMALL, contrast=contrast)).eval()
    batch = batch_of([7, 3, 7, 1, 3])
    with torch.no_grad():
        scores = model.scores(batch, batch.text)  # of every clip and the class of every clip
        found = model.loss(batch, NONE)
    below = range(5) if isinstance(contrast, AmongClips) else (0, 1, 3)
    expected = sum(sum(scores[i, k].exp() for k in below).log() - scores[i, i] for i in range(5)) / 5
    assert list(found) == ["contrast"]
    torch.testing.assert_close(found["contrast"], expected)


def test_calibration_takes_from_scores_what_it_adds_to_distances():
    seed_torch(0)
    model, batch = EZAVGZL(SPEC, SMALL).eval(), batch_of([0, 1, 2, 3, 4])
    words, seen = torch.randn(6, 10), torch.tensor([True, False, True, True, False, False])
    with torch.no_grad():
        scores, distances = model.scores(batch, words), model.distances(batch, words)
    torch.testing.assert_close(distances.neg().exp().sum(1), torch.ones(5))
    for beta in (0.0, 0.05, 0.5):
        assert torch.equal((distances + beta * seen).argmin(1), (scores - beta * seen).argmax(1))


# ------------------------------------------------------------------------------------------------------------- learning

LEARNER = EZConfig(dim=32, encoder_hidden=32, layers=2, heads=2, head_dim=16, feed_forward=32, dropout=0.1)


@pytest.mark.parametrize("similarity", [AttentionSimilarity(), LinearSimilarity()], ids=["attention", "linear"])
def test_it_learns_what_shuffled_labels_do_not_teach(right_share, similarity):
    def make(spec):
        return EZAVGZL(spec, dataclasses.replace(LEARNER, similarity=similarity))

    assert right_share(make) > 0.5  # chance is 1/8
    assert right_share(make, shuffled=True) < 0.3


# --------------------------------------------------------------------------------------------------------------- errors


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"CosineSimilarity: expected EZConfig\(dim=10\), got dim=32"):
        EZAVGZL(SPEC, EZConfig(dim=32, similarity=CosineSimilarity()))
    with pytest.raises(InputError, match="MLPSimilarity: expected hidden in"):
        MLPSimilarity(hidden=0)
    with pytest.raises(InputError, match="EZConfig: expected layers in"):
        EZConfig(layers=0)
