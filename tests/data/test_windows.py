"""Windows of clips against plain slices: where they lie, what they hold, that the same batch is the same everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from neuroav.checks import InputError
from neuroav.data.sample import AsStored, ClipData
from neuroav.data.store import ClipRecord, LoadedClips, Store, StoreWriter
from neuroav.data.windows import AsPublished, AsReleased, Crops

LENGTHS = (9, 3, 12, 5, 1)
STEP_S, AUDIO_STEP_S = 0.2, 0.5
VECTORS = np.eye(3, dtype=np.float32)
CROPS = Crops(train=4, test=5)


def times(lengths, step_s):
    return np.concatenate([7 + step_s * np.arange(n) for n in lengths]).astype(np.float32)


@pytest.fixture
def clips():
    """Clips whose first feature is the number of the row; audio and motion share the video's steps."""
    rows = np.arange(sum(LENGTHS), dtype=np.float32)
    motion = np.broadcast_to(rows.astype(np.uint16)[:, None, None, None], (len(rows), 2, 1, 1))
    offsets, labels = np.cumsum([0, *LENGTHS]), np.array([0, 1, 2, 0, 1])
    values = np.stack([rows, -rows], 1)
    return LoadedClips(times(LENGTHS, STEP_S), values, values[:, :1], motion, offsets, labels)


@pytest.fixture
def apart(clips):
    """The same with audio that has steps of its own, a few for the last clip but one."""
    lengths = (4, 2, 5, 1, 2)
    audio = np.arange(sum(lengths), dtype=np.float32)[:, None]
    offsets = np.cumsum([0, *lengths])
    return replace(clips, audio=audio, audio_t_s=times(lengths, AUDIO_STEP_S), audio_offsets=offsets)


def batches_of(clips, steps):
    return ClipData(clips, AsStored().statistics(clips), VECTORS, steps)


def held(sequence, column):
    """First row and number of steps of a clip in a batch, after a check that they follow one another from time 0."""
    valid = sequence.valid[:, column]
    rows = sequence.values[valid, column].flatten(1)[:, 0].int().tolist()
    assert rows == list(range(rows[0], rows[0] + len(rows)))
    assert valid.tolist() == [True] * len(rows) + [False] * (len(valid) - len(rows))
    assert not sequence.values[~valid, column].any()
    return rows[0], len(rows)


def starts(sequence, offsets, chosen):
    return [held(sequence, column)[0] - int(offsets[clip]) for column, clip in enumerate(chosen)]


def assert_same(one, other):
    for name in ("audio", "video"):
        for key in ("values", "t_s", "valid"):
            assert torch.equal(getattr(getattr(one, name), key), getattr(getattr(other, name), key))


def test_evaluation_takes_the_centre(clips):
    batch = batches_of(clips, CROPS.evaluation()).batch(np.arange(5))
    assert [held(batch.video, clip) for clip in range(5)] == [(0 + 2, 5), (9, 3), (12 + 3, 5), (24, 5), (29, 1)]
    np.testing.assert_allclose(batch.video.t_s[:, 0], STEP_S * np.arange(5), atol=1e-5)
    np.testing.assert_allclose(batch.video.t_s[:3, 1], STEP_S * np.arange(3), atol=1e-5)


@pytest.mark.parametrize("reading", [AsPublished(), AsReleased()])
@pytest.mark.parametrize("use", ["training", "evaluation"])
def test_modalities_of_common_steps_stay_aligned(clips, reading, use):
    crops = replace(CROPS, reading=reading)
    steps = crops.training(0) if use == "training" else crops.evaluation()
    batch = batches_of(clips, steps).batch(np.array([2, 0, 4, 3]))
    for other in (batch.audio, batch.motion):
        assert [held(other, column) for column in range(4)] == [held(batch.video, column) for column in range(4)]
        assert torch.equal(other.t_s, batch.video.t_s)


def test_windows_of_training_are_uniform_over_every_place(clips):
    chosen = np.array([2, 0, 1, 2])
    drawn = []
    for seed in range(500):
        batch = batches_of(clips, CROPS.training(seed)).batch(chosen)
        drawn.append(starts(batch.video, clips.offsets, chosen))
        assert batch.video.valid.sum(0).tolist() == [4, 4, 3, 4]
    first, second, short, again = np.array(drawn).T
    assert not short.any()
    assert chisquare(np.bincount(first, minlength=9)).pvalue > 0.01  # 12 steps leave 9 places for 4
    assert chisquare(np.bincount(second, minlength=6)).pvalue > 0.01
    assert chisquare(np.bincount(9 * first + again, minlength=81)).pvalue > 0.01  # a clip twice has two places


def test_the_released_code_never_draws_the_last_place(clips):
    crops = Crops(train=8, test=8, reading=AsReleased())
    drawn = [
        starts(batches_of(clips, crops.training(seed)).batch([2, 0]).video, clips.offsets, [2, 0]) for seed in range(99)
    ]
    first, second = np.array(drawn).T
    assert set(first) == {0, 1, 2, 3}  # of 5
    assert not second.any()  # of 2


@pytest.mark.parametrize("place", ["training", "evaluation"])
def test_audio_of_its_own_follows_its_video(apart, place):
    crops = Crops(train=5, test=5)  # 1 s: 2 audio steps
    for seed in range(20):
        steps = crops.training(seed) if place == "training" else crops.evaluation()
        chosen = np.array([2, 0, 3])
        batch = batches_of(apart, steps).batch(chosen)
        assert [held(batch.audio, column)[1] for column in range(3)] == [2, 2, 1]
        seen = starts(batch.video, apart.offsets, chosen)
        heard = starts(batch.audio, apart.audio_offsets, chosen)
        expected = [min(round(seen[0] * 0.4), 3), min(round(seen[1] * 0.4), 2), 0]
        assert heard == expected
        np.testing.assert_allclose(batch.audio.t_s[batch.audio.valid[:, 0], 0], [0, 0.5], atol=1e-5)


@pytest.mark.parametrize(("steps", "same_span", "released"), [(60, 40, 37), (300, 200, 184), (1, 1, 1)])
def test_audio_steps_beside_c3d(steps, same_span, released):
    assert AsPublished().audio_steps(steps, 0.64, 0.96) == same_span
    assert AsReleased().audio_steps(steps, 0.64, 0.96) == released


def test_a_batch_is_the_same_in_any_process_ahead_of_its_turn_and_again(apart):
    batches = [np.array(one) for one in ([2, 0], [0, 2], [2, 2, 0, 3], [2, 0])]
    here, there = (batches_of(apart, CROPS.training(3)) for _ in range(2))
    in_turn = [here.batch(one) for one in batches]
    there.expect(reversed(batches))
    for one, indices in zip(in_turn, batches, strict=True):
        assert_same(there.batch(indices), one)
        assert_same(here.batch(torch.from_numpy(indices)), one)


def test_another_seed_or_batch_draws_other_windows(clips):
    chosen = np.array([2, 0] * 8)
    one, other = (batches_of(clips, CROPS.training(seed)) for seed in (0, 1))
    assert not torch.equal(one.batch(chosen).video.values, other.batch(chosen).video.values)
    changed = one.batch(np.array([*chosen[:-1], 1])).video.values[:, :-1]  # the same clips in another batch
    assert not torch.equal(one.batch(chosen).video.values[:, :-1], changed)


def test_windows_from_disk_are_those_from_memory(tmp_path):
    rng = np.random.default_rng(5)
    with StoreWriter(tmp_path / "s.h5", class_names=["a", "b"], class_vectors=np.eye(2)) as writer:
        for i in range(20):
            steps, audio_steps = int(rng.integers(1, 30)), int(rng.integers(1, 20))
            video, audio = (rng.normal(size=(n, 500)).astype(np.float32) for n in (steps, audio_steps))
            seconds = np.arange(audio_steps) * 0.96
            writer.write(ClipRecord(str(i), "ab"[i % 2], "train", np.arange(steps), video, audio, audio_t_s=seconds))
    with Store(tmp_path / "s.h5") as store:
        memory, disk = store.load(np.arange(20)), store.load(np.arange(20), most_bytes=1000)
    for steps in (CROPS.training(0), CROPS.evaluation()):
        indices = rng.permutation(20)[:12]
        assert_same(batches_of(memory, steps).batch(indices), batches_of(disk, steps).batch(indices))


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_window_holds_a_step(name):
    with pytest.raises(InputError, match=f"Crops: expected {name}"):
        Crops(**{name: 0})
