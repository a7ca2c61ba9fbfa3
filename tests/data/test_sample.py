"""Mini-batches against plain indexing: standardisation, padding, balanced draws, negatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from neuroav.checks import InputError
from neuroav.data.sample import ClipData, Statistics, class_balanced, in_batch_negatives
from neuroav.data.store import LoadedClips

LENGTHS = (3, 1, 5, 2)
VECTORS = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS)
    audio, video = (rng.normal(2, 3, (rows, n)).astype(np.float32) for n in (4, 5))
    audio[:, 2] = 7.0  # a constant feature
    return LoadedClips(
        t_s=np.concatenate([0.2 * np.arange(n) for n in LENGTHS]).astype(np.float32),
        video=video,
        audio=audio,
        motion=rng.integers(0, 9, (rows, 2, 3, 3)).astype(np.uint16),
        offsets=np.cumsum([0, *LENGTHS]),
        labels=np.array([2, 0, 3, 2]),
    )


def test_audio_with_steps_of_its_own_is_padded_by_itself(clips):
    lengths = (2, 4, 1, 1)
    audio = np.random.default_rng(3).normal(size=(sum(lengths), 4)).astype(np.float32)
    times = np.concatenate([0.96 * np.arange(n) for n in lengths]).astype(np.float32)
    own = replace(clips, audio=audio, audio_t_s=times, audio_offsets=np.cumsum([0, *lengths]), motion=None)
    data = ClipData(own, Statistics.of(own), VECTORS)
    assert data.spec.motion_shape is None
    assert data.events_per_step == 1
    batch = data.batch(np.array([2, 0]))
    assert batch.motion is None
    assert (len(batch.video), len(batch.audio)) == (5, 2)
    assert batch.audio.valid.T.tolist() == [[True, False], [True, True]]
    np.testing.assert_array_equal(batch.audio.t_s[:, 1], times[:2])
    np.testing.assert_array_equal(batch.audio.values[:, 1], data.audio[:2])
    np.testing.assert_array_equal(batch.audio.values[:, 0], [data.audio[6].tolist(), [0] * 4])


@pytest.fixture
def data(clips):
    return ClipData(clips, Statistics.of(clips), VECTORS)


def test_statistics_standardise_the_training_steps(clips, data):
    for values in (data.video, data.audio[:, [0, 1, 3]]):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(0, correction=0), 1, atol=1e-5)
    assert not data.audio[:, 2].any()
    assert data.events_per_step == pytest.approx(clips.motion.sum() / sum(LENGTHS))


def test_spec_holds_the_sizes(data):
    spec = data.spec
    assert (spec.audio_dim, spec.video_dim, spec.text_dim, spec.motion_shape) == (4, 5, 6, (2, 3, 3))
    assert spec.events_per_step == data.events_per_step


def test_a_batch_is_the_chosen_clips_padded_with_zeros(clips, data):
    chosen = [2, 0, 1]
    batch = data.batch(np.array(chosen))
    assert batch.label.tolist() == [3, 2, 0]
    np.testing.assert_array_equal(batch.text, VECTORS[[3, 2, 0]])
    for name in ("audio", "video", "motion"):
        sequence, flat = getattr(batch, name), np.asarray(getattr(data, name), np.float32)
        assert len(sequence) == 5
        assert sequence.values.dtype == torch.float32
        for column, clip in enumerate(chosen):
            rows, length = clips.rows(clip), LENGTHS[clip]
            np.testing.assert_array_equal(sequence.values[:length, column], flat[rows])
            np.testing.assert_array_equal(sequence.t_s[:length, column], clips.t_s[rows])
            assert not sequence.values[length:, column].any()
            assert sequence.valid[:, column].tolist() == [True] * length + [False] * (5 - length)


def test_batches_in_order_cover_every_clip_once(data):
    assert [b.label.tolist() for b in data.in_order(3)] == [[2, 0, 3], [2]]


def test_counts_beyond_fifteen_bits_survive(clips):
    clips.motion[0, 0, 0, 0] = 65535
    data = ClipData(clips, Statistics.of(clips), VECTORS)
    assert data.batch(np.array([0])).motion.values[0, 0, 0, 0, 0] == 65535


def test_no_clips_are_refused(clips):
    none = LoadedClips(
        clips.t_s[:0], clips.video[:0], clips.audio[:0], clips.motion[:0], np.zeros(1, int), np.zeros(0, int)
    )
    with pytest.raises(InputError, match="ClipData: expected at least one clip, got none"):
        ClipData(none, Statistics.of(clips), VECTORS)


def test_classes_are_drawn_alike_and_clips_within_a_class_too():
    labels = np.repeat([4, 1, 7], [50, 2, 8])
    drawn = class_balanced(labels, 12_000, np.random.default_rng(0))
    classes = [(labels[drawn] == label).sum() for label in (4, 1, 7)]
    assert chisquare(classes).pvalue > 0.01
    for label in (4, 1, 7):
        own = np.flatnonzero(labels == label)
        assert chisquare([(drawn == clip).sum() for clip in own]).pvalue > 0.01


def test_negatives_are_of_another_class_and_uniform_over_the_others():
    labels, rng = np.array([0, 0, 1, 2, 2, 2]), np.random.default_rng(0)
    drawn = np.stack([in_batch_negatives(labels, rng) for _ in range(3000)])
    assert (labels[drawn] != labels).all()
    for item, label in enumerate(labels):
        others = np.flatnonzero(labels != label)
        assert chisquare([(drawn[:, item] == other).sum() for other in others]).pvalue > 0.01


def test_a_batch_of_one_class_has_no_negatives():
    with pytest.raises(InputError, match="at least two classes in a batch"):
        in_batch_negatives(np.array([3, 3]), np.random.default_rng(0))
