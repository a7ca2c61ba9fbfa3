"""The clip of a benchmark: the first frames of a video file, or a texture that moves, made without any file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroav.checks import fail

PIXELS, MOST, LEAST = 15_000_000, 100, 16  # frames of a clip unless asked otherwise: as many as hold this many pixels


@dataclass(frozen=True)
class Frames:
    """The decoded clip that everybody gets: ``frames (F, H, W)`` uint8, ``t_us (F,)`` int64, and where it is from."""

    name: str
    frames: np.ndarray
    t_us: np.ndarray
    path: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns ``(H, W)``."""
        return self.frames.shape[1], self.frames.shape[2]


def texture(height: int, width: int, num_frames: int) -> Frames:
    """Make a clip without any file: a textured ground that drifts, and a textured disc circling over it.

    Deterministic; brightness falls off with frequency as in real pictures, and about one pixel in eight fires.
    """
    ground, disc = (_cloud(seed) for seed in (0, 1))
    rows, columns = np.ogrid[:height, :width]
    frames = np.empty((num_frames, height, width), dtype=np.uint8)
    for k in range(num_frames):
        angle = 2 * np.pi * k / 50
        y, x = height * (0.5 + 0.25 * np.sin(angle)), width * (0.5 + 0.3 * np.cos(angle))
        inside = (rows - y) ** 2 + (columns - x) ** 2 < (height / 4) ** 2
        still = ground[rows % 1024, (columns + k // 4) % 1024]
        moving = disc[(rows - round(y)) % 1024, (columns - round(x)) % 1024]
        frames[k] = np.where(inside, moving, still)
    return Frames(f"texture {width}x{height}", frames, np.arange(num_frames) * 1_000_000 // 30)


def _cloud(seed: int) -> np.ndarray:
    """Return a periodic random texture ``(1024, 1024)`` uint8 whose amplitude is one over the frequency."""
    white = np.random.default_rng(seed).random((1024, 1024))
    y, x = np.fft.fftfreq(1024)[:, None], np.fft.rfftfreq(1024)[None]
    spectrum = np.fft.rfft2(white) / np.maximum(np.hypot(y, x), 1 / 128)
    cloud = np.fft.irfft2(spectrum, s=(1024, 1024))
    return (128 + 45 * (cloud - cloud.mean()) / cloud.std()).clip(5, 250).astype(np.uint8)


def load(path: str, num_frames: int | None) -> Frames:
    """Decode the first frames of a video file, grey."""
    from neuroav.events.video import VideoReader, video_info

    height, width = video_info(path).size
    wanted = num_frames or min(MOST, max(LEAST, PIXELS // (height * width)))
    parts = list(VideoReader(path, max_frames=wanted))
    frames, t_us = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(frames) < 2:
        raise fail("neuroav bench events", f"at least 2 frames in {path}", str(len(frames)))
    return Frames(f"{Path(path).name} {width}x{height}", frames, t_us, path)
