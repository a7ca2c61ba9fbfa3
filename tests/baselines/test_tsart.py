"""TSART: its look at the past step by step, its losses against numpy, what the printed forms do, whether it learns."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from neuroav.baselines.tsart import (
    TSART,
    CrossModal,
    History,
    Modality,
    NoReasoning,
    PooledLoss,
    PreviousStep,
    PrintedLoss,
    TSARTConfig,
)
from neuroav.checks import InputError
from neuroav.data.types import Batch, DataSpec, Sequence

T, B, DIM, HEADS, HEAD_DIM = 5, 4, 6, 2, 7
NEGATIVES = torch.tensor([1, 2, 3, 0])
SMALL = TSARTConfig(dim=DIM, hidden=9, shared=5, heads=HEADS, head_dim=HEAD_DIM)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def array(x):
    return x.detach().numpy()


# ----------------------------------------------------------------------------------------------------------- reasoning


def looked_back(module, x):
    """Eq. 3 with all earlier steps for keys, one query, one clip and one head at a time: ``(T, B, D)``."""
    attend, found = module.attend, np.zeros((T, B, HEADS * HEAD_DIM))
    asked = array(attend.query(torch.from_numpy(x)))
    for t in range(T):
        for b in range(B):
            past = np.stack([np.full(DIM, 0.5), *(sigmoid(x[s, b]) for s in range(t))])  # the sigmoid of zeros first
            key, value = np.split(array(attend.key_value(torch.from_numpy(past))), 2, axis=1)
            for h in range(HEADS):
                part = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
                weight = np.exp(key[:, part] @ asked[t, b, part] / math.sqrt(HEAD_DIM))
                found[t, b, part] = weight / weight.sum() @ value[:, part]
    return array(attend.output(torch.from_numpy(found)))


def test_a_step_asks_the_steps_before_it():
    torch.manual_seed(0)
    module, x = History().build(SMALL).double(), rand(T, B, DIM)
    expected = module.mix(x + torch.from_numpy(looked_back(module, array(x))))
    torch.testing.assert_close(module(x), expected)


def test_no_step_sees_itself_answered_or_what_follows():
    torch.manual_seed(0)
    module, x = History().build(SMALL).double(), rand(T, B, DIM)
    changed = x.clone()
    changed[3] += 1.0
    before, after = module(x), module(changed)
    torch.testing.assert_close(before[:3], after[:3], rtol=0, atol=0)
    assert (before[4] - after[4]).abs().min() > 0


def test_as_printed_a_step_depends_on_the_one_before_alone():
    torch.manual_seed(0)
    module, x = PreviousStep().build(SMALL).double(), rand(T, B, DIM)
    inner, outer = module.attend
    expected = []
    for t in range(T):
        past = sigmoid(array(x[t - 1])) if t else np.full((B, DIM), 0.5)
        expected.append(array(outer(inner(torch.from_numpy(past)))))
    torch.testing.assert_close(module(x), module.mix(torch.from_numpy(np.stack(expected))))


def test_a_single_key_makes_attention_the_map_of_its_value():
    """The reason why the printed form has no maps of queries and keys: one step of the other form, without them."""
    torch.manual_seed(0)
    module, x = History().build(SMALL).double(), rand(1, B, DIM)
    value = module.attend.key_value(torch.full((1, B, DIM), 0.5).double()).chunk(2, -1)[1]
    torch.testing.assert_close(module(x), module.mix(x + module.attend.output(value)))


def batch_of(audio, video, text):
    def sequence(values):
        time = torch.arange(len(values), dtype=torch.float64)[:, None].expand(-1, B)
        return Sequence(values, time, torch.ones(values.shape[:2], dtype=torch.bool))

    return Batch(sequence(audio), sequence(video), None, torch.arange(B), text)


def model(**changes):
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, **changes)
    return TSART(DataSpec(audio_dim=8, video_dim=10, text_dim=11), config).double().eval()


def small_batch():
    return batch_of(rand(T, B, 8, seed=1), rand(T + 2, B, 10, seed=2), rand(B, 11, seed=3))


@pytest.mark.parametrize(("reasoning", "matters"), [(History(), True), (PreviousStep(), True), (NoReasoning(), False)])
def test_order_in_time_matters_to_the_reasoning_alone(reasoning, matters):
    made = model(audio=Modality(reasoning=reasoning), video=Modality(reasoning=reasoning))
    batch = small_batch()
    turned = batch_of(batch.audio.values.flip(0), batch.video.values.flip(0), batch.text)
    gap = (made.distances(batch, batch.text) - made.distances(turned, batch.text)).abs().max()
    assert (gap > 1e-6) == matters


@pytest.mark.parametrize("residual", [True, False])
def test_audio_asks_video_and_video_asks_audio(residual):
    made, batch = model(cross=CrossModal(residual=residual)), small_batch()
    audio, video = made.audio(batch.audio.values, None), made.video(batch.video.values, None)
    heard, seen = made.cross.attend(audio, video), made.cross.attend(video, audio)
    if residual:
        heard, seen = heard + audio, seen + video
    found = made.embed(batch)
    torch.testing.assert_close(found[0], made.project_audio(made.cross.mix(heard).mean(0)))
    torch.testing.assert_close(found[1], made.project_video(made.cross.mix(seen).mean(0)))


def test_distances_add_those_of_audio_and_video():
    made, batch = model(), small_batch()
    (audio, video), words = made.embed(batch), made.word(batch.text)
    found = made.distances(batch, batch.text)
    for b in range(B):
        for k in range(B):
            expected = np.linalg.norm(array(audio[b] - words[k])) + np.linalg.norm(array(video[b] - words[k]))
            assert found[b, k].item() == pytest.approx(expected, rel=1e-9)


# -------------------------------------------------------------------------------------------------------------- losses


def by_hand(audio, video, word, margin):
    """Eq. 11 as read, clip by clip."""
    norm, total = np.linalg.norm, 0.0
    for i, j in enumerate(NEGATIVES.tolist()):
        near = norm(audio[i] - word[i]) + norm(video[i] - word[i])
        total += max(0.0, margin + near - norm(audio[j] - word[i]) - norm(video[j] - word[i]))
        total += max(0.0, margin + near - norm(audio[i] - word[j]) - norm(video[i] - word[j]))
    return total / len(audio)


def test_terms_are_pooled_hinges_squared_errors_and_three_reconstructions():
    made, batch = model(loss=PooledLoss(triplet=2.0, projection=3.0, reconstruction=0.5, margin=0.3)), small_batch()
    terms = {name: value.item() for name, value in made.loss(batch, NEGATIVES).items()}
    (audio, video), word, text = made.embed(batch), made.word(batch.text), array(batch.text)
    rebuilt = [array(made.rebuild(each)) for each in (audio, video, word)]
    audio, video, word = array(audio), array(video), array(word)
    assert terms == pytest.approx(
        {
            "triplet": 2.0 * by_hand(audio, video, word, 0.3),
            "projection": 3.0 * (((audio - word) ** 2).mean() + ((video - word) ** 2).mean()),
            "reconstruction": 0.5 * sum(((each - text) ** 2).mean() for each in rebuilt),
        },
        rel=1e-5,  # PyTorch adds 1e-6 to each difference
    )


@pytest.mark.parametrize("left_out", ["triplet", "projection", "reconstruction"])
def test_a_weight_of_zero_leaves_its_term_out(left_out):
    made = model(loss=PooledLoss(**{left_out: 0.0}))
    expected = [name for name in ("triplet", "projection", "reconstruction") if name != left_out]
    assert list(made.loss(small_batch(), NEGATIVES)) == expected
    assert hasattr(made, "rebuild") == (left_out != "reconstruction")


def test_the_printed_triplet_is_twice_the_margin_and_teaches_nothing():
    audio, video, word = (rand(B, 3, seed=s).requires_grad_() for s in (1, 2, 3))
    terms = PrintedLoss(margin=0.7).terms(audio, video, word, NEGATIVES)
    assert terms["triplet"].item() == pytest.approx(1.4)
    for gradient in torch.autograd.grad(terms["triplet"], (audio, video)):
        assert gradient.abs().max() < 1e-15
    other, total = NEGATIVES.numpy(), 0.0
    for x in range(1, B + 1):
        total += (array(audio)[x - 1] + array(video)[other[x - 1]] - array(word)[x - 1]) / x
    assert terms["projection"].item() == pytest.approx(total.mean())


# ------------------------------------------------------------------------------------------------------------ learning


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    def make(spec):
        return TSART(spec, TSARTConfig(dim=32, hidden=32, heads=2, head_dim=16))

    assert right_share(make, lr=5e-3) > 0.5  # chance is 1/8
    assert right_share(make, shuffled=True, lr=5e-3) < 0.3


@pytest.mark.parametrize(
    ("change", "text"), [({"dim": 0}, "dim in"), ({"heads": 0}, "heads in"), ({"dropout_decoder": 1.5}, "decoder in")]
)
def test_bad_sizes_are_named(change, text):
    with pytest.raises(InputError, match=text):
        TSARTConfig(**change)
