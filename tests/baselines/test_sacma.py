"""SACMA: its three inputs against three passes, its losses against numpy, its ablations, and whether it learns."""

import math

import numpy as np
import pytest
import torch

from neuroav.baselines.sacma import (
    SACMA,
    AsPublished,
    AsReleased,
    AudioOutput,
    JointOutput,
    SACMAConfig,
    SACMALoss,
    SharedTransformer,
    VideoOutput,
    contrast,
)
from neuroav.checks import InputError
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.nn.encoder import CrossAttention, FullAttention, SelfAttention, TokenLayer, TokenTransformer

AUDIO, VIDEO, B, DIM = 4, 6, 3, 10
NO_NEGATIVES = torch.empty(0)
DROPOUTS = [name for name in SACMAConfig.__dataclass_fields__ if name.startswith("dropout")]
SMALL = {"dim": DIM, "encoder_hidden": 9, "hidden": 8, "shared": 5, "layers": 2, "heads": 2, "head_dim": 3}
SMALL |= {"feed_forward": 7, "position": 6} | dict.fromkeys(DROPOUTS, 0.0)
NAMES = ("audio", "video", "joint")


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(**changes):
    torch.manual_seed(0)
    config = SACMAConfig(**SMALL | changes)
    return SACMA(DataSpec(audio_dim=8, video_dim=12, text_dim=11), config).double().eval()


def small_batch():
    heard, seen = torch.tensor([4, 1, 3]), torch.tensor([2, 6, 1])

    def sequence(values, lengths):
        steps = torch.arange(len(values))[:, None]
        return Sequence(values, 0.96 * steps.double().expand(-1, B), steps < lengths)

    audio, video = sequence(rand(AUDIO, B, 8, seed=1), heard), sequence(rand(VIDEO, B, 12, seed=2), seen)
    return Batch(audio, video, None, torch.arange(B), rand(B, 11, seed=3))


# ---------------------------------------------------------------------------------------------------- three in one pass


@pytest.mark.parametrize("alone", [FullAttention(), CrossAttention()])
@pytest.mark.parametrize("joint", [CrossAttention(), SelfAttention(), FullAttention()])
def test_inputs_in_one_pass_are_those_of_three(alone, joint):
    torch.manual_seed(0)
    layers, batch = [TokenLayer(DIM, 2, 3, 7, dropout=0.0).double() for _ in range(3)], small_batch()
    audio, token, video = rand(AUDIO, B, DIM, seed=4), rand(DIM, seed=5), rand(VIDEO, B, DIM, seed=6)
    heard, seen = batch.audio.valid, batch.video.valid
    found = SharedTransformer({"audio": alone, "video": alone, "joint": joint}, layers)(
        NAMES, audio, token, video, heard, seen
    )
    assert list(found) == list(NAMES)
    lengths = {"audio": (AUDIO, 0), "video": (0, VIDEO), "joint": (AUDIO, VIDEO)}
    for name, (a, v) in lengths.items():
        passed = TokenTransformer(joint if name == "joint" else alone, layers)
        torch.testing.assert_close(found[name], passed(audio[:a], token, video[:v], heard[:a], seen[:v]))


def test_without_its_attention_a_step_does_not_see_its_neighbours():
    """Table 3: steps of the input change the class token each on its own, which one layer shows."""
    torch.manual_seed(0)
    layers = [TokenLayer(DIM, 2, 3, 7, dropout=0.0).double() for _ in range(2)]
    rows = []
    layers[0].register_forward_hook(lambda module, given, out: rows.append(out))
    audio, valid = rand(AUDIO, 1, DIM), torch.ones(AUDIO, 1, dtype=torch.bool)
    for pattern in (CrossAttention(), FullAttention()):
        for values in (
            audio,
            audio + torch.eye(AUDIO, DIM).double()[:, None] * torch.tensor([0, 0, 0, 1.0])[:, None, None],
        ):
            SharedTransformer({"audio": pattern}, layers)(["audio"], values, rand(DIM), audio[:0], valid, valid[:0])
    assert torch.equal(rows[0][:3], rows[1][:3])
    assert (rows[2][:3] - rows[3][:3]).abs().min() > 0


@pytest.mark.parametrize("output", [JointOutput(), AudioOutput(), VideoOutput()])
def test_distances_are_those_of_the_output_chosen(output):
    made, batch = model(output=output), small_batch()
    every, words = made.embed(batch, NAMES), made.word(batch.text)
    found = made.distances(batch, batch.text)
    expected = (every[output.name][:, None] - words).norm(dim=-1)
    torch.testing.assert_close(found, expected)


# -------------------------------------------------------------------------------------------------------------- losses


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def contrast_by_hand(one, other, tau):
    """Eq. 14, term by term."""
    u, v, total = unit(one), unit(other), 0.0
    for i in range(len(u)):
        own = math.exp(u[i] @ v[i] / tau)
        total -= math.log(own / sum(math.exp(u[i] @ v[j] / tau) for j in range(len(v)))) / len(u)
        total -= math.log(own / sum(math.exp(u[j] @ v[i] / tau) for j in range(len(u)))) / len(u)
    return total


def test_contrast_by_hand():
    one, other = rand(5, 3), rand(5, 3, seed=1)
    assert contrast(one, other, 0.3).item() == pytest.approx(contrast_by_hand(one.numpy(), other.numpy(), 0.3))
    assert contrast(one[:1], other[:1], 0.05).item() == 0  # a single clip has nothing to be told from


def terms_by_hand(made, batch, loss, text_weight, names):
    outputs = {name: value.detach().numpy() for name, value in made.embed(batch, names).items()}
    text, head = batch.text.numpy(), made.config.reading.head
    word = made.word(batch.text).detach()
    rebuilt = [made.rebuild[head(n)](torch.from_numpy(x)).detach().numpy() for n, x in outputs.items()]
    rebuilt.append(made.rebuild_word(word).detach().numpy())
    there = {"text": word.numpy(), **outputs}
    weights = {"joint text": loss.text_joint, "audio text": text_weight, "text video": text_weight}
    weights |= dict.fromkeys(("audio video", "audio joint", "joint video"), loss.between)
    contrasts = cosines = 0.0
    for pair, weight in weights.items():
        a, b = pair.split()
        if a in there and b in there:
            contrasts += weight * contrast_by_hand(there[a], there[b], loss.temperature)
            if "text" in pair or pair == "audio video":
                cosines += 1 - (unit(there[a]) * unit(there[b])).sum(1).mean()
    return {
        "contrast": loss.contrast * contrasts,
        "cosine": loss.cosine * cosines,
        "regression": loss.regression * sum(((x - there["text"]) ** 2).mean() for x in outputs.values()),
        "reconstruction": loss.reconstruction * sum(((x - text) ** 2).mean() for x in rebuilt),
    }


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({}, NAMES),
        ({"video": None}, ("audio", "joint")),
        ({"audio": None}, ("video", "joint")),
        ({"audio": None, "video": None}, ("joint",)),
    ],
)
def test_terms_by_hand_with_the_inputs_of_table_6(inputs, names):
    loss = SACMALoss(contrast=2.0, cosine=0.5, regression=3.0, reconstruction=0.7, temperature=0.2, between=0.3)
    made, batch = model(loss=loss, **inputs), small_batch()
    terms = {name: value.item() for name, value in made.loss(batch, NO_NEGATIVES).items()}
    assert terms == pytest.approx(terms_by_hand(made, batch, loss, 0.8, names), rel=1e-6)
    assert list(made.project) == list(made.rebuild) == list(names)


def test_as_released_heads_are_shared_and_words_weigh_less():
    made, batch = model(reading=AsReleased()), small_batch()
    assert list(made.project) == list(made.rebuild) == ["joint"]
    in_seconds = made.projected(made.gather(batch, NAMES, batch.audio.t_s, batch.video.t_s))
    made.embed = lambda batch, names: in_seconds
    expected = terms_by_hand(made, batch, SACMALoss(), 0.1, NAMES)
    terms = {name: value.item() for name, value in made.loss(batch, NO_NEGATIVES).items()}
    assert terms == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("left_out", ["contrast", "cosine", "regression", "reconstruction"])
def test_a_weight_of_zero_leaves_its_term_out(left_out):
    made = model(loss=SACMALoss(**{left_out: 0.0}))
    expected = [name for name in ("contrast", "cosine", "regression", "reconstruction") if name != left_out]
    assert list(made.loss(small_batch(), NO_NEGATIVES)) == expected
    assert hasattr(made, "rebuild") == (left_out != "reconstruction")


@pytest.mark.parametrize(("reading", "moves"), [(AsPublished(), False), (AsReleased(), True)])
def test_the_second_pass_belongs_to_the_released_code(reading, moves):
    made = model(reading=reading).train()
    before = {name: buffer.clone() for name, buffer in made.named_buffers()}
    made.after_step(small_batch(), NO_NEGATIVES)
    moved = [name for name, buffer in made.named_buffers() if not torch.equal(buffer, before[name])]
    assert any(name.startswith("word.") for name in moved) == moves
    assert bool(moved) == moves


# ------------------------------------------------------------------------------------------------------------ learning


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    sizes = {"dim": 32, "encoder_hidden": 32, "hidden": 32, "layers": 2, "heads": 2, "head_dim": 16, "feed_forward": 32}

    def make(spec):
        return SACMA(spec, SACMAConfig(**sizes, **dict.fromkeys(DROPOUTS, 0.1)))

    assert right_share(make, steps=40, lr=4e-3) > 0.5  # chance is 1/8
    assert right_share(make, shuffled=True, steps=40, lr=4e-3) < 0.3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden": 0}, "hidden in"),
        ({"dropout_word": 1.5}, "dropout_word in"),
        ({"audio": None, "output": AudioOutput()}, "an output out of video, joint, got audio"),
    ],
)
def test_bad_configurations_are_named(change, text):
    with pytest.raises(InputError, match=text):
        SACMAConfig(**change)


@pytest.mark.parametrize(
    ("change", "text"), [({"cosine": -1.0}, "cosine in"), ({"temperature": 0.0}, "above 0, got 0")]
)
def test_bad_losses_are_named(change, text):
    with pytest.raises(InputError, match=text):
        SACMALoss(**change)
