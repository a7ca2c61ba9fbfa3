"""AVGZSLNet's terms against numpy written from their definitions, for both codes of it; whether it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from neuroav.baselines.avgzslnet import AsBenchmarked, AsByAuthors, AVGZSLNet, AVGZSLNetConfig
from neuroav.checks import InputError
from neuroav.nn.negatives import Trio, TwoPasses

B, D = 6, 5
BENCHMARKED = AsBenchmarked(hidden=32, hidden_decoder=16, dropout=0.1, dropout_decoder=0.1)
AUTHORS = AsByAuthors(hidden=32, hidden_decoder=16, dropout=0.1)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hinge(anchor, near, far, margin=1.0):
    """Mean triplet loss with Euclidean distance."""
    near, far = (np.linalg.norm(anchor - other, axis=1) for other in (near, far))
    return np.maximum(0, near - far + margin).mean()


def parts(reading, scenes):
    """A model in evaluation, embedded clips, negatives and words, and its terms as numbers."""
    torch.manual_seed(0)
    model = AVGZSLNet(scenes[0].spec, AVGZSLNetConfig(shared=D, reading=reading)).eval()
    positive, negative = (Trio(*(rand(B, D, seed=3 * i + j) for j in range(3))) for i in range(2))
    text = rand(B, scenes[0].spec.text_dim, seed=7)
    with torch.no_grad():
        terms = {name: value.item() for name, value in model.terms(positive, negative, text).items()}
        decode = [np.asarray(model.decoder(x)) for x in (*positive, negative.audio, negative.video)]
    return [np.asarray(x) for x in (*positive, *negative)], decode, text.numpy(), terms


@pytest.mark.parametrize("reading", [BENCHMARKED, AUTHORS])
def test_triplets(scenes, reading):
    (audio, video, word, audio_n, video_n, word_n), decoded, _, terms = parts(reading, scenes)
    for name, clip, clip_n in (("audio", audio, audio_n), ("video", video, video_n)):
        expected = hinge(word, clip, clip_n) + hinge(clip, word, word_n)
        if reading is AUTHORS:
            expected += hinge(word_n, clip_n, clip) + hinge(clip_n, word_n, word)
        assert terms[f"{name}_triplet"] == pytest.approx(expected, rel=1e-4)
    heard, seen, said, heard_n, seen_n = decoded
    assert terms["decoded_audio_triplet"] == pytest.approx(hinge(said, heard, heard_n), rel=1e-4)
    assert terms["decoded_video_triplet"] == pytest.approx(hinge(said, seen, seen_n), rel=1e-4)


def test_the_benchmark_compares_lengths_of_differences_and_the_authors_squares(scenes):
    _, decoded, text, terms = parts(BENCHMARKED, scenes)
    assert all(np.linalg.norm(x, axis=1) == pytest.approx(np.ones(B), rel=1e-5) for x in decoded)
    lengths = [np.linalg.norm(x - text, axis=1).mean() for x in decoded[:3]]
    assert terms["reconstruction"] == pytest.approx(sum(lengths), rel=1e-5)
    _, decoded, text, terms = parts(AUTHORS, scenes)
    assert terms["reconstruction"] == pytest.approx(sum(((x - text) ** 2).mean() for x in decoded[:3]), rel=1e-5)


def test_negatives_are_rows_of_the_batch_or_a_batch_of_their_own(scenes):
    batch, negatives = scenes[0].batch(np.arange(8)), torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    counts = []
    for way in (AVGZSLNetConfig(), AVGZSLNetConfig(negatives=TwoPasses())):
        torch.manual_seed(0)
        model = AVGZSLNet(scenes[0].spec, dataclasses.replace(way, reading=BENCHMARKED)).train()
        model.loss(batch, negatives)
        counts.append([int(model.audio.norm[0].num_batches_tracked), int(model.decoder[0].norm[0].num_batches_tracked)])
    assert counts == [[1, 5], [2, 5]]


def test_distances_of_audio_and_video_are_added(scenes):
    model = AVGZSLNet(scenes[0].spec, AVGZSLNetConfig(reading=AUTHORS)).eval()
    batch = scenes[0].batch(np.arange(3))
    with torch.no_grad():
        found = model.distances(batch, batch.classes.text)
        word = model.word(batch.classes.text[5])
        means = [x.values[: int(x.valid[:, 1].sum()), 1].mean(0) for x in (batch.audio, batch.video)]
        expected = torch.dist(model.audio(means[0]), word) + torch.dist(model.video(means[1]), word)
    torch.testing.assert_close(found[1, 5], expected)


@pytest.mark.parametrize("reading", [BENCHMARKED, AUTHORS])
def test_it_learns_what_shuffled_labels_do_not_teach(right_share, reading):
    def make(spec):
        return AVGZSLNet(spec, AVGZSLNetConfig(reading=reading))

    assert right_share(make) > 0.6  # chance is 1/8
    assert right_share(make, shuffled=True) < 0.3


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (AsBenchmarked, {"hidden": 0}),
        (AsBenchmarked, {"dropout_decoder": 1.5}),
        (AsByAuthors, {"hidden_decoder": 0}),
        (AVGZSLNetConfig, {"shared": 0}),
        (AVGZSLNetConfig, {"margin": -1.0}),
    ],
)
def test_bad_sizes_are_named(kind, change):
    with pytest.raises(InputError, match=f"{kind.__name__}: expected {next(iter(change))} in"):
        kind(**change)
