"""TCaF's attention against a dense matrix, its time features by hand, and whether it learns."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from neuroav.baselines.tcaf import TCAF, TCAFConfig
from neuroav.checks import InputError
from neuroav.nn.encoder import (
    CrossAttention,
    FourierTime,
    FullAttention,
    MeanOfTokens,
    Places,
    SelfAttention,
    TokenLayer,
    TokenTransformer,
)
from neuroav.nn.heads import WordLoss
from neuroav.train.seed import seed_torch

AUDIO, VIDEO, BATCH, DIM, HEADS = 4, 6, 3, 10, 2
SMALL = TCAFConfig(dim=32, encoder_hidden=32, hidden=32, layers=2, heads=2, head_dim=16, feed_forward=32, dropout=0.1)

# Who attends to whom, as printed in Eq. 11: rows ask, columns answer, in the order audio, class token, video.
OPEN = {
    CrossAttention(): {"audio": "token video", "token": "audio token video", "video": "audio token"},
    SelfAttention(): {"audio": "audio token", "token": "audio token video", "video": "token video"},
    FullAttention(): dict.fromkeys(("audio", "token", "video"), "audio token video"),
}


@pytest.fixture(params=OPEN, ids=lambda pattern: type(pattern).__name__)
def pattern(request):
    return request.param


def dense_layer(layer, tokens, allowed):
    """The layer with one softmax over every pair of tokens, a head and a clip at a time; ``allowed (B, L, L)``."""
    x = layer.norm(tokens)
    mixed = []
    for b in range(tokens.shape[1]):
        heads = []
        for query, key, value in zip(
            *(w(x[:, b]).chunk(layer.heads, -1) for w in (layer.query, layer.key, layer.value))
        ):
            scores = query @ key.t() / math.sqrt(query.shape[-1])
            heads.append(scores.masked_fill(~allowed[b], -torch.inf).softmax(-1) @ value)
        mixed.append(torch.cat(heads, -1))
    residual = tokens + layer.output(torch.stack(mixed, 1))
    return residual + layer.feed_forward(layer.norm(residual))


def expected_tokens(pattern, layers, audio, token, video, valid):
    """All tokens ``(L, B, D)`` after dense layers; ``token`` may be missing."""
    gathering = [] if token is None else [token.expand(1, BATCH, DIM)]
    kinds = ["audio"] * len(audio) + ["token"] * len(gathering) + ["video"] * len(video)
    pairs = torch.tensor([[answers in OPEN[pattern][asks].split() for answers in kinds] for asks in kinds])
    tokens = torch.cat([audio, *gathering, video])
    for layer in layers:
        tokens = dense_layer(layer, tokens, pairs & valid.t()[:, None, :])
    return tokens


@pytest.fixture
def ragged():
    """Layers, tokens of audio, a class token and tokens of video, and which are valid."""
    torch.manual_seed(0)
    layers = [TokenLayer(DIM, HEADS, 3, 7, dropout=0.0).double() for _ in range(3)]
    audio, token, video = torch.randn(AUDIO, BATCH, DIM), torch.randn(DIM), torch.randn(VIDEO, BATCH, DIM)
    heard, seen = torch.tensor([4, 1, 3]), torch.tensor([2, 6, 1])
    audio_valid, video_valid = torch.arange(AUDIO)[:, None] < heard, torch.arange(VIDEO)[:, None] < seen
    return layers, audio.double(), token.double(), video.double(), audio_valid, video_valid


def test_patterns_are_those_of_a_dense_matrix(pattern, ragged):
    layers, audio, token, video, audio_valid, video_valid = ragged
    transformer = TokenTransformer(pattern, layers)
    valid = torch.cat([audio_valid, torch.ones(1, BATCH, dtype=torch.bool), video_valid])
    expected = expected_tokens(pattern, layers, audio, token, video, valid)
    torch.testing.assert_close(transformer(audio, token, video, audio_valid, video_valid), expected[AUDIO])
    found, where = transformer.tokens(audio, token, video, audio_valid, video_valid)
    assert torch.equal(where, valid)
    torch.testing.assert_close(found[valid], expected[valid])


def test_without_class_token_the_clip_is_the_mean_of_its_tokens(pattern, ragged):
    layers, audio, _, video, audio_valid, video_valid = ragged
    valid = torch.cat([audio_valid, video_valid])
    tokens = expected_tokens(pattern, layers, audio, None, video, valid)
    expected = torch.stack([tokens[valid[:, b], b].mean(0) for b in range(BATCH)])
    found = TokenTransformer(pattern, layers)(audio, None, video, audio_valid, video_valid)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("alone", ["audio", "video"])
def test_one_modality_may_be_missing(pattern, ragged, alone):
    layers, audio, token, video, audio_valid, video_valid = ragged
    if alone == "audio":
        video, video_valid = video[:0], video_valid[:0]
    else:
        audio, audio_valid = audio[:0], audio_valid[:0]
    valid = torch.cat([audio_valid, torch.ones(1, BATCH, dtype=torch.bool), video_valid])
    expected = expected_tokens(pattern, layers, audio, token, video, valid)[len(audio)]
    torch.testing.assert_close(
        TokenTransformer(pattern, layers)(audio, token, video, audio_valid, video_valid), expected
    )


def test_tokens_of_padding_are_not_computed():
    valid = torch.tensor([[True, True, True], [False, True, True], [False, True, False]])
    places, values = Places.of(valid), torch.arange(9.0).reshape(3, 3, 1)
    packed = places.pack(values, slice(0, 3))
    assert packed[:, 0].tolist() == [0, 1, 2, 4, 5, 7]
    assert places.spread(packed[places.among(slice(1, 3))], slice(1, 3))[..., 0].tolist() == [[0, 4, 5], [0, 7, 0]]
    layer, rows = TokenLayer(DIM, HEADS, 3, 7, dropout=0.0), []
    layer.feed_forward.register_forward_hook(lambda module, given, out: rows.append(len(given[0])))
    TokenTransformer(FullAttention(), [layer, layer])(
        torch.randn(1, 3, DIM), torch.randn(DIM), torch.randn(3, 3, DIM), valid[:1], valid
    )
    assert rows == [3 + 3 + 6, 3]  # audio, token and valid video; in the last layer the token alone


def test_time_features_by_hand():
    time = FourierTime(4, std=2.0)
    with torch.no_grad():
        time.frequency.copy_(torch.tensor([[0.25, 1.0], [0.5, 0.0]]))
        time.linear.weight.copy_(torch.eye(4))
        time.linear.bias.zero_()
    angles = [2 * math.pi * 0.75 * 0.96, 2 * math.pi * 1.0 * 0.96]
    expected = [math.sin(angles[0]), math.sin(angles[1]), math.cos(angles[0]), math.cos(angles[1])]
    torch.testing.assert_close(time(torch.tensor([0.96]))[0].detach(), torch.tensor(expected))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        late = time(torch.tensor([100.64]))[0]
    assert late[1].item() == pytest.approx(math.sin(2 * math.pi * 0.64), abs=0.01)  # bfloat16 would miss the phase
    assert [name for name, _ in time.named_buffers()] == ["frequency"]  # fixed, and saved with the model
    assert FourierTime(256, std=10.0).frequency.std() == pytest.approx(10, rel=0.1)


# ----------------------------------------------------------------------------------------------------------- learning


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    def make(spec):
        return TCAF(spec, SMALL)

    assert right_share(make) > 0.5  # chance is 1/8
    assert right_share(make, shuffled=True) < 0.3


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_batch_without_its_classes_is_refused(scenes):
    train, _ = scenes
    batch = dataclasses.replace(train.batch(np.arange(4)), classes=None)
    with pytest.raises(InputError, match=r"TCAF.loss: expected a batch with classes, got None. Batches of ClipData"):
        TCAF(train.spec, SMALL).loss(batch, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"position": 7}, "position to be even and at least 2, got 7"),
        ({"layers": 0}, "layers in"),
        ({"dropout_word": 1.5}, "dropout_word in"),
        ({"frequency_std": -1.0}, "frequency_std in"),
    ],
)
def test_bad_sizes_are_named(change, text):
    with pytest.raises(InputError, match=text):
        TCAFConfig(**change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"modalities": ()}, r"modalities out of 'audio', 'video', got \(\)"),
        ({"modalities": ("audio", "motion")}, r"got \('audio', 'motion'\)"),
        (
            {"modalities": ("audio",), "summary": MeanOfTokens()},
            "two modalities for cross attention without class token",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(change, text):
    with pytest.raises(InputError, match=text):
        TCAFConfig(**change)


def test_a_loss_that_does_not_bind_clips_to_words_is_refused():
    with pytest.raises(InputError, match="cross_entropy or regression above 0"):
        WordLoss(cross_entropy=0.0, regression=0.0)
    with pytest.raises(InputError, match="regression in"):
        WordLoss(regression=-1.0)


# ---------------------------------------------------------------------------------------------------------- ablations


def test_loss_terms_are_left_out_by_their_weight(scenes):
    train, _ = scenes
    batch = train.batch(np.arange(6))
    terms = {}
    for loss in (WordLoss(), WordLoss(reconstruction=0.0), WordLoss(cross_entropy=0.0, reconstruction=0.0)):
        seed_torch(0)
        model = TCAF(train.spec, dataclasses.replace(SMALL, loss=loss)).eval()
        found = model.loss(batch, torch.zeros(6, dtype=torch.long))
        assert list(found) == [name for name, weight in vars(loss).items() if weight]
        terms[len(found)] = {name: value.item() for name, value in found.items()}
    assert terms[1]["regression"] == terms[2]["regression"] == terms[3]["regression"]
    doubled = WordLoss(cross_entropy=2.0)
    seed_torch(0)
    model = TCAF(train.spec, dataclasses.replace(SMALL, loss=doubled)).eval()
    twice = model.loss(batch, torch.zeros(6, dtype=torch.long))["cross_entropy"].item()
    assert twice == pytest.approx(2 * terms[3]["cross_entropy"], rel=1e-6)


@pytest.mark.parametrize("alone", ["audio", "video"])
def test_a_single_modality_is_blind_to_the_other(scenes, alone):
    train, _ = scenes
    batch = train.batch(np.arange(4))
    other = "video" if alone == "audio" else "audio"
    sequence = getattr(batch, other)
    changed = dataclasses.replace(batch, **{other: dataclasses.replace(sequence, values=sequence.values + 1)})
    for modalities, same in (((alone,), True), (("audio", "video"), False)):
        model = TCAF(train.spec, dataclasses.replace(SMALL, modalities=modalities)).eval()
        with torch.no_grad():
            found = [model.distances(each, train.class_vectors) for each in (batch, changed)]
        assert torch.equal(*found) == same
    assert not any(
        other in name
        for name, _ in TCAF(train.spec, dataclasses.replace(SMALL, modalities=(alone,))).named_parameters()
    )
