"""Mini-batches against plain indexing: standardisation, padding, balanced draws, negatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from neuroav.checks import InputError
from neuroav.data import sample
from neuroav.data.chunks import StoredRows
from neuroav.data.sample import AsStored, ClipData, Statistics, class_balanced, in_batch_negatives
from neuroav.data.store import ClipRecord, LoadedClips, Store, StoreWriter

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
    assert not data.spec.shared_steps
    alike = replace(clips, audio_t_s=clips.t_s, audio_offsets=clips.offsets)
    assert ClipData(alike, Statistics.of(clips), VECTORS).spec.shared_steps
    late = replace(clips, audio_t_s=clips.t_s + 0.1, audio_offsets=clips.offsets)
    assert not ClipData(late, Statistics.of(clips), VECTORS).spec.shared_steps
    assert data.events_per_step == 1
    batch = data.batch(np.array([2, 0]))
    assert batch.motion is None
    assert (len(batch.video), len(batch.audio)) == (5, 2)
    assert batch.audio.valid.T.tolist() == [[True, False], [True, True]]
    np.testing.assert_array_equal(batch.audio.t_s[:, 1], times[:2])
    np.testing.assert_allclose(batch.audio.values[:, 1], scaled(audio)[:2], atol=1e-5)
    np.testing.assert_allclose(batch.audio.values[:, 0], [scaled(audio)[6], np.zeros(4)], atol=1e-5)


def scaled(values):
    """Mean 0 and standard deviation 1 per feature; zeros where it is constant."""
    std = values.std(0, dtype=np.float64)
    return (values - values.mean(0, dtype=np.float64)) / np.where(std < 1e-6, 1, std)


@pytest.fixture
def data(clips):
    return ClipData(clips, Statistics.of(clips), VECTORS)


def test_statistics_standardise_the_training_steps(clips, data):
    batch = data.batch(np.arange(4))
    video, audio = (sequence.values[sequence.valid] for sequence in (batch.video, batch.audio))
    for values in (video, audio[:, [0, 1, 3]]):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(0, correction=0), 1, atol=1e-5)
    assert not audio[:, 2].any()
    assert data.events_per_step == pytest.approx(clips.motion.sum() / sum(LENGTHS))


def test_features_as_stored_stay_as_they_are(clips):
    data = ClipData(clips, AsStored().statistics(clips), VECTORS)
    batch = data.batch(np.array([1]))
    for name in ("audio", "video"):
        np.testing.assert_array_equal(
            getattr(batch, name).values[:, 0], getattr(clips, name)[slice(*clips.offsets[1:3])]
        )
    assert data.events_per_step == Statistics.of(clips).events_per_step


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
        sequence, flat = getattr(batch, name), getattr(clips, name)
        if name != "motion":
            flat = scaled(flat)
        assert len(sequence) == 5
        assert sequence.values.dtype == torch.float32
        for column, clip in enumerate(chosen):
            rows, length = clips.rows(clip), LENGTHS[clip]
            np.testing.assert_allclose(sequence.values[:length, column], flat[rows], atol=1e-5)
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


def test_moments_of_pieces_are_those_of_the_whole(clips, monkeypatch):
    whole = Statistics.of(clips)
    monkeypatch.setattr(sample, "_PIECE_BYTES", 3 * 8 * 5)  # 3 rows of video at a time
    pieces = Statistics.of(clips)
    for key in ("audio_mean", "audio_std", "video_mean", "video_std"):
        np.testing.assert_allclose(getattr(pieces, key), getattr(whole, key), rtol=1e-6)
    np.testing.assert_allclose(whole.video_std, clips.video.std(0, dtype=np.float64), rtol=1e-6)


def assert_equal_batches(one, other):
    assert torch.equal(one.label, other.label)
    for name in ("audio", "video"):
        for key in ("values", "t_s", "valid"):
            assert torch.equal(getattr(getattr(one, name), key), getattr(getattr(other, name), key))


def test_an_expected_batch_is_the_one_asked_for(data):
    data.expect([np.array([1, 2]), np.array([3])])
    data.expect([np.array([0])])  # the one after it, before it is asked for
    assert_equal_batches(data.batch(np.array([1, 2])), data.batch(np.array([1, 2])))
    assert data.batch(np.array([3])).label.tolist() == [2]
    assert data.batch(np.array([3, 1])).label.tolist() == [2, 0]  # another one than expected
    data.expect([np.array([9])])
    with pytest.raises(IndexError):  # in the thread, told here
        data.batch(np.array([9]))


@pytest.fixture
def store(tmp_path):
    """A store of 40 clips whose chunks are shared by clips, and clips by chunks."""
    rng = np.random.default_rng(5)
    writer = StoreWriter(tmp_path / "s.h5", class_names=["a", "b"], class_vectors=np.eye(2))
    with writer:
        for i in range(40):
            steps, audio_steps = int(rng.integers(1, 40)), int(rng.integers(1, 9))
            video = np.maximum(rng.normal(size=(steps, 3000)), 0).astype(np.float32)
            audio = rng.normal(size=(audio_steps, 7)).astype(np.float32)
            times = np.arange(audio_steps) * 0.96
            writer.write(ClipRecord(str(i), "ab"[i % 2], "train", np.arange(steps), video, audio, audio_t_s=times))
    with Store(tmp_path / "s.h5") as store:
        yield store


def test_batches_from_disk_are_those_from_memory(store):
    chosen = np.random.default_rng(1).permutation(40)[:25]
    memory, disk = store.load(chosen), store.load(chosen, most_bytes=1000)
    assert isinstance(disk.video, StoredRows)
    assert isinstance(disk.audio, StoredRows)
    for first, stop in ((0, len(memory.video)), (3, 4), (17, 120), (5, 5), (len(memory.video) - 1, None)):
        np.testing.assert_array_equal(disk.video[first:stop], memory.video[first:stop])
    one, other = (Statistics.of(clips) for clips in (memory, disk))
    assert torch.equal(one.video_std, other.video_std)
    assert torch.equal(one.audio_mean, other.audio_mean)
    here, there = ClipData(memory, one, store.class_vectors), ClipData(disk, one, store.class_vectors)
    assert here.spec == there.spec
    store.close()
    for indices in ([3, 3, 20, 0], [24], range(25)):
        assert_equal_batches(here.batch(np.array(indices)), there.batch(np.array(indices)))
    for a, b in zip(here.in_order(4), there.in_order(4), strict=True):
        assert_equal_batches(a, b)


def test_only_arrays_beyond_the_limit_stay_on_disk(store):
    clips = store.load(most_bytes=100_000)
    assert isinstance(clips.video, StoredRows)
    assert isinstance(clips.audio, np.ndarray)


def test_damage_is_said_where_a_chunk_is_read(store):
    clips = store.load(most_bytes=1000)
    address, size = clips.video._places[0].tolist()
    with open(store.path, "r+b") as file:
        file.seek(address + size // 2)
        byte = file.read(1)[0]
        file.seek(address + size // 2)
        file.write(bytes([byte ^ 0x55]))
    with pytest.raises(InputError, match=r"s\.h5: expected an intact feature store, got a damaged one \(chunk 0: "):
        clips.video[:2]


def test_features_that_are_not_finite_are_said_where_they_are_read(store, monkeypatch):
    clips = store.load(most_bytes=1000)
    unpack = StoredRows._unpack
    monkeypatch.setattr(StoredRows, "_unpack", lambda self, chunk: unpack(self, chunk) * np.float32(np.inf))
    with pytest.raises(InputError, match="finite features, got NaN or infinity"), np.errstate(invalid="ignore"):
        clips.video[:2]
