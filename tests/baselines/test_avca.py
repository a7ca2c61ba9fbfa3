"""AVCA's attention and terms against numpy written from their definitions, what its readings move, and learning."""

import copy
import math

import numpy as np
import pytest
import torch

from neuroav.baselines.avca import AVCA, AVCAConfig
from neuroav.checks import InputError
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.nn.negatives import Trio, rows
from neuroav.nn.pair import AsPublished, AsReleased, PairLayer

SIZES = {"dim": 12, "encoder_hidden": 10, "hidden": 9, "shared": 5, "heads": 2, "head_dim": 3, "feed_forward": 7}
DRY = {"dropout_encoder": 0.0, "dropout_projection": 0.0, "dropout_decoder": 0.0}
SPEC = DataSpec(audio_dim=6, video_dim=8, text_dim=11)
NEGATIVES = torch.tensor([2, 3, 0, 1, 0, 2])


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(**changes):
    torch.manual_seed(0)
    return AVCA(SPEC, AVCAConfig(**SIZES, **{**DRY, **changes})).double()


def clips(size=6, seed=0):
    return Trio(*(rand(size, width, seed=seed + i) for i, width in enumerate((6, 8, 11))))


def batch_of(trio):
    """Two equal steps of each clip and one of padding."""

    def sequence(values):
        valid = torch.tensor([[True], [True], [False]]).expand(3, len(values))
        steps = torch.stack([values, values, torch.full_like(values, 9.0)])
        return Sequence(steps * valid[..., None], torch.zeros(3, len(values)), valid)

    return Batch(sequence(trio.audio), sequence(trio.video), None, torch.arange(len(trio.text)) % 4, trio.text)


# ---------------------------------------------------------------------------------------------------------- by hand


def test_the_layer_attends_over_two_tokens_before_which_it_normalises():
    torch.manual_seed(0)
    layer = PairLayer(5, heads=2, head_dim=3, hidden=4, dropout=0.0).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    tokens = rand(2, 3, 5)
    found = layer(tokens)
    for clip in range(3):
        x = layer.attention_norm(tokens[:, clip])
        query, key, value = (layer.query_key_value.weight[6 * i : 6 * i + 6] for i in range(3))
        mixed = []
        for head in (slice(0, 3), slice(3, 6)):
            weight = ((x @ query[head].t()) @ (x @ key[head].t()).t() / math.sqrt(3)).softmax(-1)
            mixed.append(weight @ (x @ value[head].t()))
        expected = tokens[:, clip] + layer.output[0](torch.cat(mixed, -1))
        torch.testing.assert_close(found[:, clip], expected + layer.feed_forward(layer.feed_forward_norm(expected)))


def test_each_modality_hears_of_the_other():
    avca = model().eval()
    mixed = clips()._replace(audio=rand(6, 6, seed=9))
    (one,), (other,) = avca.embed([clips()]), avca.embed([mixed])
    assert torch.equal(one.encoded_video, other.encoded_video)
    assert (one.video - other.video).abs().max() > 1e-3


def hinge(anchor, positive, negative):
    """Mean triplet loss of margin 1."""
    near, far = (np.linalg.norm(anchor - other + 1e-6, axis=1) for other in (positive, negative))
    return np.maximum(0, 1 + near - far).mean()


def mean_square(x, y):
    return ((x - y) ** 2).mean()


def test_terms_are_triplets_and_squared_errors():
    avca = model()
    positive, negative = avca.embed([clips(), clips(seed=7)])
    rebuilt = [x.detach().numpy() for x in avca.rebuild(positive)]
    found = {name: value.item() for name, value in avca.terms(positive, negative).items()}
    p, n = (type(e)(*(x.detach().numpy() for x in e)) for e in (positive, negative))
    modalities = [
        (p.audio, n.audio, p.decoded_audio, n.decoded_audio, p.encoded_audio),
        (p.video, n.video, p.decoded_video, n.decoded_video, p.encoded_video),
    ]
    expected = dict.fromkeys(("reconstruction", "composite", "word_triplet", "crossed_triplet", "regression"), 0.0)
    expected["reconstruction"] = mean_square(p.decoded_word, p.text)
    for again, (x, other, decoded, decoded_other, token) in zip(rebuilt, modalities, strict=True):
        expected["reconstruction"] += mean_square(decoded, p.text)
        expected["composite"] += hinge(p.decoded_word, decoded, decoded_other)
        expected["word_triplet"] += hinge(p.word, x, other) + hinge(x, p.word, n.word)
        expected["crossed_triplet"] += hinge(x, p.word, other) + hinge(p.word, x, n.word)
        expected["regression"] += mean_square(again, token) + mean_square(x, p.word)
    assert found == pytest.approx(expected, rel=1e-9)


def test_clips_are_averaged_and_compared_by_their_video():
    avca, vectors = model().eval(), rand(4, 11, seed=5)
    found = avca.distances(batch_of(clips()), vectors)
    (embedded,) = avca.embed([clips()])
    torch.testing.assert_close(found[2, 3], torch.dist(embedded.video[2], avca.word_projection(vectors)[3]))


# --------------------------------------------------------------------------------------------------------- readings


def test_as_published_a_batch_passes_once_and_negatives_are_its_rows():
    avca = model()
    found = avca.loss(batch_of(clips()), NEGATIVES)
    assert {int(b) for n, b in avca.named_buffers() if n.endswith("tracked")} == {1, 3}
    assert int(avca.decoder.norm[0].num_batches_tracked) == 3  # words, audio, video
    (embedded,) = avca.embed([clips()])
    for name, value in avca.terms(embedded, rows(embedded, NEGATIVES)).items():
        torch.testing.assert_close(found[name], value)


def test_as_released_negatives_pass_on_their_own_and_reconstructions_move_statistics():
    avca = model(reading=AsReleased())
    avca.loss(batch_of(clips()), NEGATIVES)
    counts = {n.split(".")[0]: int(b) for n, b in avca.named_buffers() if n.endswith("tracked")}
    assert counts == {
        "audio_encoder": 2,
        "video_encoder": 2,
        "audio_projection": 3,
        "video_projection": 3,
        "word_projection": 2,
        "decoder": 6,
        "rebuild_audio": 1,
        "rebuild_video": 1,
    }
    before = copy.deepcopy(avca.state_dict())
    avca.after_step(batch_of(clips()), NEGATIVES)
    moved = {name.split(".")[0] for name, value in avca.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"audio_encoder", "video_encoder", "audio_projection", "video_projection", "word_projection"}


def test_as_published_nothing_follows_a_step_and_the_places_are_trained():
    published, released = model(), model(reading=AsReleased())
    before = copy.deepcopy(published.state_dict())
    published.after_step(batch_of(clips()), NEGATIVES)
    assert all(torch.equal(value, before[name]) for name, value in published.state_dict().items())
    assert "position" in dict(published.named_parameters())
    assert "position" in dict(released.named_buffers())


@pytest.mark.parametrize(("reading", "first"), [(AsPublished(), 0.99), (AsReleased(), 0.1)])
def test_the_momentum_reaches_each_normalisation_or_the_second_alone(reading, first):
    avca = model(reading=reading, momentum=0.99)
    assert [norm.momentum for norm in avca.audio_encoder.norm] == [first, 0.99]
    assert [norm.momentum for norm in avca.decoder.norm] == [first]


# --------------------------------------------------------------------------------------------------------- learning


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    def make(spec):
        return AVCA(spec, AVCAConfig(dim=32, encoder_hidden=32, hidden=32, heads=2, head_dim=16))

    assert right_share(make, steps=60) > 0.6  # chance is 1/8
    assert right_share(make, shuffled=True, steps=40) < 0.3


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shared": 0}, "AVCAConfig: expected shared in"),
        ({"dropout_decoder": 1.5}, "dropout_decoder in"),
        ({"momentum": -0.1}, "momentum in"),
    ],
)
def test_bad_sizes_are_named(change, text):
    with pytest.raises(InputError, match=text):
        AVCAConfig(**change)
