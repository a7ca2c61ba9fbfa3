"""What an encoder is, and the windows of a clip it looks at: frames at a fixed rate, whatever the file's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from neuroav.events.video import VideoReader, video_info

_TOLERANCE_US = 1000.0  # containers round times, to a millisecond at the worst
_BATCH = 8  # windows encoded at once


class VideoEncoder(Protocol):
    """Turns windows of frames into features.

    Attributes:
        fps: Frames per second that it looks at.
        frames: Frames of a window; windows follow each other without a gap.
        keep_rest: Whether what is left after the last whole window makes one too.
    """

    fps: float
    frames: int
    keep_rest: bool

    def decode_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the ``(H, W)`` to which frames of a video of ``size`` are brought."""
        ...

    def encode(self, windows: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return features ``(n, D)`` of windows ``(n, F, H, W, 3)`` uint8 RGB, the first ``real (n,)`` frames true."""
        ...


class AudioEncoder(Protocol):
    """Turns sound into a sequence of features.

    Attributes:
        rate: Samples per second that it listens to.
    """

    rate: int

    def encode(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return window starts ``(T,)`` in seconds and features ``(T, D)`` of mono samples ``(S,)`` in [-1, 1]."""
        ...


def encode_video(path: str | Path, encoder: VideoEncoder) -> tuple[np.ndarray, np.ndarray]:
    """Decode a video and encode it window by window, holding only a few windows at a time.

    Returns:
        Window starts ``(T,)`` float32 in seconds from the first frame, and features ``(T, D)`` float32.

    Raises:
        InputError: If no frame of the file decodes.
    """
    size = encoder.decode_size(video_info(path).size)
    frames = frames_at(VideoReader(path, size, "rgb24"), encoder.fps)
    parts: list[np.ndarray] = []
    windows: list[tuple[np.ndarray, int]] = []
    for window in chain(windows_of(frames, encoder.frames, encoder.keep_rest), [None]):
        if window is not None:
            windows.append(window)
        if windows and (window is None or len(windows) == _BATCH):
            images, real = zip(*windows, strict=True)
            parts.append(encoder.encode(np.stack(images), np.array(real)))
            windows = []
    values = np.concatenate(parts).astype(np.float32)
    return (np.arange(len(values)) * (encoder.frames / encoder.fps)).astype(np.float32), values


def frames_at(chunks: Iterable[tuple[np.ndarray, np.ndarray]], fps: float) -> Iterator[np.ndarray]:
    """Yield the frame that is seen at 0, 1 / fps, 2 / fps ... seconds after the first, to the end of the last one.

    Args:
        chunks: Frames ``(F, H, W, 3)`` and their times ``(F,)`` in microseconds, as from a video reader.
        fps: Frames per second.

    Example:
        >>> frames = np.arange(4).reshape(4, 1, 1, 1)
        >>> [int(frame.item()) for frame in frames_at([(frames, np.array([0, 40, 80, 240]) * 1000)], 25)]
        [0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    """
    step_us, place = 1e6 / fps, 0
    times: list[int] = []
    shown = np.empty(0)
    for images, chunk_us in chunks:
        for image, t_us in zip(images, chunk_us.tolist(), strict=True):
            while times and place * step_us + _TOLERANCE_US < t_us - times[0]:
                yield shown
                place += 1
            times = [*times[:1], *times[-1:], t_us] if len(times) > 1 else [*times, t_us]
            shown = image
    gap_us = times[-1] - times[-2] if len(times) > 1 else step_us
    while place * step_us + _TOLERANCE_US < times[-1] - times[0] + gap_us or place == 0:
        yield shown
        place += 1


def windows_of(frames: Iterable[np.ndarray], length: int, keep_rest: bool) -> Iterator[tuple[np.ndarray, int]]:
    """Yield windows ``(length, H, W, 3)`` and how many of their frames are true; the last frame fills up the others.

    A rest that is shorter than a window is dropped unless ``keep_rest``; a clip shorter than one makes one.
    """
    held: list[np.ndarray] = []
    any_yet = False
    for frame in frames:
        held.append(frame)
        if len(held) == length:
            yield np.stack(held), length
            held, any_yet = [], True
    if held and (keep_rest or not any_yet):
        yield np.stack([*held, *[held[-1]] * (length - len(held))]), len(held)


def on_steps(t_s: np.ndarray, values: np.ndarray, steps_s: np.ndarray) -> np.ndarray:
    """Bring a sequence onto other steps: each gets the mean of what overlaps it, by how long it does.

    A step that nothing overlaps gets what is nearest. Windows follow each other without a gap, the last as long as the
    others.

    Args:
        t_s: Starts ``(T,)`` of the windows in seconds.
        values: Their features ``(T, D)``.
        steps_s: Starts ``(S,)`` of the steps in seconds.

    Returns:
        ``(S, D)`` float32.

    Example:
        >>> on_steps(np.array([0, 1]), np.array([[0.0], [8.0]]), np.array([0.0, 0.75, 1.5, 2.25])).ravel().tolist()
        [0.0, 5.333333492279053, 8.0, 8.0]
    """
    window, step = (starts[1] - starts[0] if len(starts) > 1 else np.inf for starts in (t_s, steps_s))
    begin = np.maximum(t_s[None, :], steps_s[:, None])
    end = np.minimum((t_s + window)[None, :], (steps_s + step)[:, None])
    overlap = np.maximum(end - begin, 0)
    overlap = np.where(np.isinf(overlap), 1.0, overlap)  # one window, one step
    last = np.arange(len(t_s)) == np.clip(np.searchsorted(t_s, steps_s, "right") - 1, 0, None)[:, None]
    weights = np.where(overlap.sum(1, keepdims=True) > 0, overlap, last)
    return (weights @ values / weights.sum(1, keepdims=True)).astype(np.float32)
