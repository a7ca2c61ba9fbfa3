"""The classic descriptors: bins of any frame rate, known pictures and tones."""

import librosa
import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.data.classic import (
    POWER_FLOOR,
    bin_edges,
    describe_clip,
    frame_cells,
    log_mel,
    luma,
    representative_frames,
)
from neuroav.events.generate import frames_to_events
from neuroav.events.represent import events_to_counts

RATE = 16_000


def moving_square(num_frames):
    frames = np.full((num_frames, 64, 64, 3), 60, np.uint8)
    for k in range(num_frames):
        frames[k, 20:30, (k % 50) : (k % 50) + 10] = 220
    return frames


def test_shapes_and_types():
    t_us = np.arange(60) * 40_000
    d = describe_clip(moving_square(60), t_us, np.zeros(38_400, np.float32), RATE)
    assert [(a.shape, a.dtype) for a in (d.t_s, d.video, d.audio, d.motion)] == [
        ((12,), np.float32),
        ((12, 512), np.float32),
        ((12, 512), np.float32),
        ((12, 2, 16, 16), np.uint16),
    ]
    np.testing.assert_allclose(d.t_s, np.arange(12) * 0.2, atol=1e-6)


def test_silence_is_finite_and_at_the_floor():
    d = describe_clip(moving_square(10), np.arange(10) * 40_000, np.zeros(0, np.float32), RATE)
    np.testing.assert_allclose(d.audio, np.log(POWER_FLOOR), rtol=1e-6)


@pytest.mark.parametrize(("frames_per_s", "seconds"), [(3, 4), (12.5, 2), (29.97, 3), (120, 1)])
def test_any_frame_rate_gives_whole_bins(frames_per_s, seconds):
    num = round(frames_per_s * seconds)
    t_us = 5_000_000 + np.round(np.arange(num) * 1e6 / frames_per_s).astype(np.int64)
    d = describe_clip(moving_square(num), t_us, np.zeros(1000, np.float32), RATE)
    assert len(d.t_s) == len(d.video) == len(d.audio) == len(d.motion) == seconds * 5
    assert d.t_s[0] == 0
    assert d.motion.sum() > 0


def test_one_frame_is_one_bin_without_events():
    d = describe_clip(moving_square(1), np.array([7]), np.zeros(0, np.float32), RATE)
    assert len(d.t_s) == 1
    assert d.motion.sum() == 0


def test_bins_without_a_frame_repeat_the_frame_before():
    t_us = np.array([0, 500_000, 1_000_000])
    assert representative_frames(t_us, bin_edges(t_us, 0.2)).tolist() == [0, 0, 1, 1, 1, 2, 2, 2]


def test_representative_frame_lies_in_its_bin_and_nearest_the_centre():
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.choice(2_000_000, 40, replace=False)) * 1
    edges = bin_edges(t_us, 0.2)
    for k, index in enumerate(representative_frames(t_us, edges)):
        inside = [i for i, t in enumerate(t_us) if edges[k] <= t < edges[k + 1]]
        centre = (edges[k] + edges[k + 1]) // 2
        if inside:
            assert index in inside
            assert abs(t_us[index] - centre) == min(abs(t_us[i] - centre) for i in inside)
        else:
            assert t_us[index] < edges[k]
            assert t_us[index] == max(t for t in t_us if t < edges[k])


def test_motion_counts_the_events_of_the_list():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 64, 64, 3)).astype(np.uint8)
    t_us = np.cumsum(rng.integers(20_000, 90_000, 12))
    events, _ = frames_to_events(luma(frames), t_us, contrast_on=0.3, contrast_off=0.3)
    expected = events_to_counts(events, bin_edges(t_us, 0.2), grid=(16, 16)).numpy()
    motion = describe_clip(frames, t_us, np.zeros(0, np.float32), RATE, contrast=0.3).motion
    assert motion.sum() > 10_000
    np.testing.assert_array_equal(motion, expected)


def test_motion_falls_into_the_bin_of_its_time():
    frames = np.full((60, 64, 64, 3), 60, np.uint8)
    frames[33:, 8:16, 40:48] = 220  # between 1.28 and 1.32 s: bin 6
    motion = describe_clip(frames, np.arange(60) * 40_000, np.zeros(0, np.float32), RATE).motion
    steps = int(np.log(221 / 61) / 0.2)
    assert motion[6, 1].sum() == motion.sum() == 64 * steps
    assert (motion[6, 1, 2:4, 10:12] == 16 * steps).all()


def test_colour_means_and_orientations_of_a_known_picture():
    frame = np.zeros((1, 64, 64, 3), np.uint8)
    frame[..., 0] = 255
    frame[0, :, 4:8] = 255  # vertical edges in the first column of cells: a horizontal gradient
    cells = frame_cells(frame).reshape(8, 8, 8)
    np.testing.assert_allclose(cells[0, 0, :3], [1, 0.5, 0.5])
    np.testing.assert_allclose(cells[5, 5, :3], [1, 0, 0])
    assert cells[3, 0, 3] > 0
    np.testing.assert_allclose(cells[3, 0, 4:], 0)
    np.testing.assert_allclose(cells[5, 5, 3:], 0)


def test_opposite_gradients_share_an_orientation():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (1, 64, 64, 1), dtype=np.uint8).repeat(3, axis=-1)
    energies = [frame_cells(f).reshape(8, 8, 8)[..., 3:] for f in (frame, 255 - frame)]
    np.testing.assert_allclose(energies[0], energies[1], atol=1e-5)


def test_luma_is_within_one_level_of_the_real_weights():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert np.abs(luma(frames).astype(float) - frames @ [0.299, 0.587, 0.114]).max() < 1.5


def test_a_tone_gives_the_same_mel_bands_at_any_rate():
    centres = librosa.mel_frequencies(n_mels=66, fmin=0, fmax=8000)[1:-1]
    peaks = []
    for rate in (8_000, 16_000, 44_100):
        tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
        mel = log_mel(tone, rate, 40, 0.025)
        assert np.isfinite(mel).all()  # at 8 kHz the bands above 4 kHz are empty
        assert abs(centres[mel[20].argmax()] - 1000) < 30
        peaks.append(mel[20].max())
    assert np.log(0.375 / 2) <= peaks[0] <= np.log(0.375)  # 1/4, spread by the Hann window over 1.5 bins, on a slope
    np.testing.assert_allclose(peaks, peaks[0], atol=0.02)


def test_sub_frames_tile_the_bin():
    click = np.zeros(RATE, np.float32)
    click[round(0.5125 * RATE)] = 1  # the middle of sub-frame 20
    assert log_mel(click, RATE, 40, 0.025).mean(axis=1).argmax() == 20


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"frames": np.zeros((4, 32, 64, 3), np.uint8)}, r"frames of shape \(F, 64, 64, 3\), got \(4, 32, 64, 3\)"),
        ({"t_us": np.array([0, 1, 2])}, r"t_us of shape \(4\), got \(3,\)"),
        ({"t_us": np.array([0, 2, 2, 3])}, "t_us increasing, got 2 after 2 at frame 2"),
        ({"audio": np.zeros((2, 9), np.float32)}, r"audio of shape \(S\), got \(2, 9\)"),
        ({"frames": np.zeros((0, 64, 64, 3), np.uint8), "t_us": np.zeros(0, np.int64)}, "at least one frame, got none"),
        ({"audio_rate": 0}, "audio_rate"),
    ],
)
def test_bad_clips_are_refused(change, match):
    good = {
        "frames": np.zeros((4, 64, 64, 3), np.uint8),
        "t_us": np.arange(4) * 40_000,
        "audio": np.zeros(0, np.float32),
        "audio_rate": RATE,
    }
    with pytest.raises(InputError, match=match):
        describe_clip(**{**good, **change})
