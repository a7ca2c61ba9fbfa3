"""The classic descriptors: what a clip looks like, sounds like and how it moves, per time bin, with no learnt weights.

Video is 8x8 cells x (3 colour means + 5 orientation energies), audio is 64 log-mel bands x 8 sub-frames, motion is
event counts on a 2x16x16 grid. Nothing is standardised here; statistics of the training part are applied later.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from librosa.filters import mel
from numpy.typing import NDArray

from neuroav.checks import check_dtype, check_range, check_shape, fail
from neuroav.events.represent import frames_to_counts

FRAME_SIZE = 64
GRID = (16, 16)
CELLS = 8
ORIENTATIONS = 5
MEL_BANDS = 64
SUB_FRAMES = 8
MEL_TOP_HZ = 8000.0
POWER_FLOOR = 1e-8


@dataclass(frozen=True)
class Description:
    """The descriptors of one clip, one row per time bin.

    Attributes:
        t_s: ``(T,)`` float32 start of each bin in seconds from the first frame.
        video: ``(T, 512)`` float32, cells row by row: 3 colour means in [0, 1], then 5 orientation energies in [0, 1].
        audio: ``(T, 512)`` float32 natural logarithm of mel power, sub-frame by sub-frame.
        motion: ``(T, P, 16, 16)`` uint16 event counts.
    """

    t_s: NDArray[np.float32]
    video: NDArray[np.float32]
    audio: NDArray[np.float32]
    motion: NDArray[np.uint16]


def describe_clip(
    frames: NDArray[np.uint8],
    t_us: NDArray[np.int64],
    audio: NDArray[np.float32],
    audio_rate: int,
    *,
    bin_s: float = 0.2,
    contrast: float = 0.2,
) -> Description:
    """Describe a clip of any length and frame rate in bins of equal duration.

    A last bin covered by less than half is dropped. A bin without a frame repeats the frame before it; audio is taken
    to begin with the first frame and is padded with silence or cut to the bins of the video.

    Args:
        frames: ``(F, 64, 64, 3)`` uint8 RGB; F is the number of frames.
        t_us: ``(F,)`` increasing times in microseconds, evenly spaced or not.
        audio: ``(S,)`` mono samples in [-1, 1]; empty for a silent clip.
        audio_rate: Samples per second.
        bin_s: Duration of a bin in seconds; 8 audio sub-frames tile it.
        contrast: Event threshold in log intensity, dimensionless.

    Raises:
        InputError: If shapes disagree, ``t_us`` does not increase, or a number is out of range.

    Example:
        >>> frames = np.zeros((60, 64, 64, 3), np.uint8)
        >>> description = describe_clip(frames, np.arange(60) * 40_000, np.zeros(38_400, np.float32), 16_000)
        >>> description.video.shape, description.audio.shape, description.motion.shape
        ((12, 512), (12, 512), (12, 2, 16, 16))
    """
    _check_clip(frames, t_us, audio, audio_rate)
    check_range("describe_clip", "bin_s", bin_s, 1e-3)
    edges_us = bin_edges(t_us, bin_s)
    num_bins = len(edges_us) - 1
    return Description(
        t_s=((edges_us[:-1] - edges_us[0]) * 1e-6).astype(np.float32),
        video=frame_cells(frames[representative_frames(t_us, edges_us)]),
        audio=log_mel(audio, audio_rate, num_bins * SUB_FRAMES, bin_s / SUB_FRAMES).reshape(num_bins, -1),
        motion=motion_counts(frames, t_us, edges_us, contrast),
    )


def motion_counts(
    frames: NDArray[np.uint8], t_us: NDArray[np.int64], edges_us: NDArray[np.int64], contrast: float = 0.2
) -> NDArray[np.uint16]:
    """Count the events of RGB frames ``(F, H, W, 3)`` on a 16 x 16 grid between ``edges_us (T + 1,)``.

    Args:
        frames: uint8.
        t_us: ``(F,)`` increasing times in microseconds.
        edges_us: Edges of the bins in microseconds.
        contrast: Event threshold in log intensity, dimensionless.

    Returns:
        ``(T, P, 16, 16)``; a count beyond 65535 stays there.

    Example:
        >>> frames = np.full((3, 64, 64, 3), 9, np.uint8)
        >>> motion_counts(frames, np.arange(3) * 40_000, np.array([0, 80_000])).sum()
        np.uint64(0)
    """
    grey = luma(frames)
    counts, _ = frames_to_counts(grey, t_us, edges_us, grid=GRID, contrast_on=contrast, contrast_off=contrast)
    return np.minimum(counts.numpy(), np.iinfo(np.uint16).max).astype(np.uint16)


def _check_clip(frames: NDArray, t_us: NDArray, audio: NDArray, audio_rate: int) -> None:
    where = "describe_clip"
    check_shape(where, "frames", frames, ("F", FRAME_SIZE, FRAME_SIZE, 3))
    check_dtype(where, "frames", frames, np.uint8)
    check_shape(where, "t_us", t_us, (len(frames),))
    check_shape(where, "audio", audio, ("S",))
    check_range(where, "audio_rate", audio_rate, 1000)
    if len(frames) == 0:
        raise fail(where, "at least one frame", "none", "Leave the clip out.")
    if np.any(np.diff(t_us) <= 0):
        index = int(np.argmax(np.diff(t_us) <= 0)) + 1
        raise fail(where, "t_us increasing", f"{t_us[index]} after {t_us[index - 1]} at frame {index}")


def bin_edges(t_us: NDArray[np.int64], bin_s: float) -> NDArray[np.int64]:
    """Return the ``(T + 1,)`` edges in microseconds of the bins over all frames; the last lasts the median step.

    Example:
        >>> bin_edges(np.array([0, 100_000, 200_000, 300_000]), 0.2).tolist()
        [0, 200000, 400000]
    """
    step_us = float(np.median(np.diff(t_us))) if len(t_us) > 1 else bin_s * 1e6
    num_bins = max(1, math.floor((float(t_us[-1] - t_us[0]) + step_us) / (bin_s * 1e6) + 0.5))
    return int(t_us[0]) + np.round(np.arange(num_bins + 1) * (bin_s * 1e6)).astype(np.int64)


def representative_frames(t_us: NDArray[np.int64], edges_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each bin the index of its frame nearest the centre, or of the last frame before an empty bin.

    Example:
        >>> representative_frames(np.array([0, 40, 80, 120, 600]), np.array([0, 200, 400, 600, 800])).tolist()
        [2, 3, 3, 4]
    """
    centres = (edges_us[:-1] + edges_us[1:]) // 2
    after = np.searchsorted(t_us, centres)
    right, left = np.minimum(after, len(t_us) - 1), np.maximum(after - 1, 0)
    nearest = np.where(np.abs(t_us[right] - centres) < np.abs(t_us[left] - centres), right, left)
    first, stop = np.searchsorted(t_us, edges_us[:-1]), np.searchsorted(t_us, edges_us[1:])
    return np.where(stop > first, np.clip(nearest, first, stop - 1), np.maximum(first - 1, 0))


def luma(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn RGB ``(F, H, W, 3)`` into grey ``(F, H, W)`` with fixed integer weights.

    Implements the luma weights (0.299, 0.587, 0.114) of [bt601]. Differs from the paper: the weights are rounded to
    77/256, 150/256, 29/256, so that the result is the same on every machine.

    Example:
        >>> luma(np.full((1, 1, 1, 3), 200, np.uint8)).item()
        200
    """
    red, green, blue = (frames[..., c].astype(np.uint16) for c in range(3))
    return ((red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29)) >> np.uint16(8)).astype(np.uint8)


def frame_cells(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe each ``(T, 64, 64, 3)`` frame by 8x8 cells of 3 colour means and 5 orientation energies, ``(T, 512)``.

    An orientation energy is the mean gradient magnitude of the cell's pixels whose gradient points into that fifth of
    the half circle, as in histograms of oriented gradients. Differs from the paper [dalal2005hog]: no interpolation
    between cells or orientations and no block normalisation.
    """
    num_frames, size = len(frames), FRAME_SIZE // CELLS
    colour = frames.reshape(num_frames, CELLS, size, CELLS, size, 3).astype(np.float32).mean(axis=(2, 4)) / 255.0
    grey = luma(frames).astype(np.float32) / 255.0
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    dx, dy = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    angle = np.arctan2(dy, dx) * (ORIENTATIONS / math.pi)  # -5 to 5; opposite gradients share an orientation
    orientation = np.floor(angle).astype(np.int64) % ORIENTATIONS
    magnitude = np.sqrt(dx * dx + dy * dy)
    cell = np.arange(FRAME_SIZE) // size
    index = (np.arange(num_frames)[:, None, None] * CELLS + cell[:, None]) * CELLS + cell
    energy = np.bincount(
        (index * ORIENTATIONS + orientation).ravel(), magnitude.ravel(), num_frames * CELLS * CELLS * ORIENTATIONS
    ).reshape(num_frames, CELLS, CELLS, ORIENTATIONS)
    cells = np.concatenate([colour, (energy / (size * size)).astype(np.float32)], axis=-1)
    return cells.reshape(num_frames, -1)


def log_mel(
    audio: NDArray[np.float32], rate: int, num_frames: int, hop_s: float, bands: int = MEL_BANDS
) -> NDArray[np.float32]:
    """Return the natural logarithm of mel power, ``(num_frames, bands)``, of frames that tile time from sample 0.

    Frame ``j`` is a Hann window of two hops around ``(j + 0.5) * hop_s``. Samples past either end count as silence,
    and silence gives ``log(1e-8)``.

    Example:
        >>> log_mel(np.zeros(0, np.float32), 16_000, 8, 0.025).shape
        (8, 64)
    """
    width = round(2 * hop_s * rate)
    starts = np.round((np.arange(num_frames) + 0.5) * hop_s * rate).astype(np.int64) - width // 2
    before, after = max(0, -int(starts[0])), max(0, int(starts[-1]) + width - len(audio))
    padded = np.pad(np.asarray(audio, np.float32), (before, after))
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[starts + before]
    hann = np.hanning(width + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(windows * hann, axis=1)) ** 2 / float(np.sum(hann)) ** 2
    # einsum, not @: a threaded BLAS spends longer waking its threads than on this product, in every worker at once
    bands_power = np.einsum("tf,bf->tb", power, mel_filters(rate, width, bands))
    return np.log(bands_power + POWER_FLOOR).astype(np.float32)


@lru_cache(maxsize=8)
def mel_filters(rate: int, fft_size: int, bands: int = MEL_BANDS) -> NDArray[np.float64]:
    """Return librosa's ``(bands, fft_size // 2 + 1)`` triangular filters of unit peak from 0 to 8000 Hz.

    Slaney's mel scale, linear to 1000 Hz and logarithmic above [slaney1998auditory]. Differs from the paper: nothing.
    """
    with warnings.catch_warnings():  # below 16 kHz the highest bands are empty, and log_mel gives them the floor
        warnings.filterwarnings("ignore", message="Empty filters detected")
        return mel(sr=rate, n_fft=fft_size, n_mels=bands, fmin=0.0, fmax=MEL_TOP_HZ, norm=None, dtype=np.float64)
