"""The clip of a report as plain data: frames and events packed into two PNG sheets, the sound as WAV."""

from __future__ import annotations

import base64
import io
import math
import wave
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_shape

Array = NDArray[Any]

MAX_SIDE = 160
MAX_PIXELS = 2_000_000  # of all frames together; keeps a page of noisy video below about 8 MB
EMPTY, OFF, ON = 0, 1, 2
EVENT_RGB = {EMPTY: (20, 24, 30), OFF: (230, 159, 0), ON: (86, 180, 233)}


@dataclass(frozen=True)
class Sheets:
    """Frames side by side in two images of equal layout.

    Attributes:
        frames: PNG data URI of the frames.
        events: PNG data URI of the events up to each frame since the one before.
        columns: Frames per row of a sheet.
        height: Pixels of one frame.
        width: Pixels of one frame.
        t_s: Time of each frame in seconds from the first.
        counts: Events per frame.
        thinned: What was left out to keep the page small, or an empty string.
    """

    frames: str
    events: str
    columns: int
    height: int
    width: int
    t_s: list[float]
    counts: list[int]
    thinned: str = ""


def pack_clip(frames: Array, t_us: Array, event_t_us: Array, event_x: Array, event_y: Array, event_p: Array) -> Sheets:
    """Pack a clip and its events for the player; large clips are thinned in space, then in time.

    Args:
        frames: ``(F, H, W, 3)`` uint8.
        t_us: ``(F,)`` microseconds, increasing.
        event_t_us: ``(E,)`` microseconds, sorted.
        event_x: ``(E,)`` column.
        event_y: ``(E,)`` row.
        event_p: ``(E,)`` polarity, 0 OFF and 1 ON.

    Raises:
        InputError: If a length or shape does not fit.
    """
    check_shape("pack_clip", "frames", frames, ("F", "H", "W", 3))
    check_shape("pack_clip", "t_us", t_us, (len(frames),))
    for name, values in (("x", event_x), ("y", event_y), ("p", event_p)):
        check_shape("pack_clip", f"events.{name}", values, (len(event_t_us),))
    space = math.ceil(max(frames.shape[1:3]) / MAX_SIDE)
    small = frames[:, ::space, ::space]
    time = math.ceil(small.size / 3 / MAX_PIXELS)
    small, shown_us = small[::time], t_us[::time]
    images, counts = event_images(shown_us, small.shape[1:3], event_t_us, event_x // space, event_y // space, event_p)
    columns = math.ceil(math.sqrt(len(small)))
    palette = np.array([EVENT_RGB[i] for i in (EMPTY, OFF, ON)], np.uint8)
    thinned = [f"one frame in {time}"] * (time > 1) + [f"one pixel in {space} each way"] * (space > 1)
    return Sheets(
        frames=png_uri(tile(small, columns)),
        events=png_uri(palette[tile(images, columns)]),
        columns=columns,
        height=small.shape[1],
        width=small.shape[2],
        t_s=[round(float(t - t_us[0]) / 1e6, 4) for t in shown_us],
        counts=counts,
        thinned=" and ".join(thinned),
    )


def event_images(
    t_us: Array, size: tuple[int, int], event_t_us: Array, event_x: Array, event_y: Array, event_p: Array
) -> tuple[Array, list[int]]:
    """Draw, for each frame, the events after the frame before it and up to it; the last event of a pixel wins.

    Args:
        t_us: ``(F,)`` frame times in microseconds.
        size: ``(H, W)``.
        event_t_us: ``(E,)`` microseconds, sorted.
        event_x: ``(E,)`` column.
        event_y: ``(E,)`` row.
        event_p: ``(E,)`` polarity, 0 OFF and 1 ON.

    Returns:
        ``(F, H, W)`` uint8 of ``EMPTY``, ``OFF``, ``ON``; and the events per frame. Events after the last frame are
        in neither.

    Example:
        >>> t, x = np.array([5, 15]), np.array([0, 1])
        >>> images, counts = event_images(np.array([0, 10, 20]), (1, 2), t, x, 0 * x, np.array([0, 1]))
        >>> images.tolist(), counts
        ([[[0, 0]], [[1, 0]], [[0, 2]]], [0, 1, 1])
    """
    frame = np.searchsorted(t_us, event_t_us, side="left")
    inside = frame < len(t_us)
    images = np.zeros((len(t_us), *size), np.uint8)
    kept = frame[inside]
    images[kept, event_y[inside], event_x[inside]] = np.where(event_p[inside] > 0, ON, OFF)
    return images, np.bincount(kept, minlength=len(t_us)).tolist()


def tile(images: Array, columns: int) -> Array:
    """Lay ``(F, H, W, ...)`` images out row by row on one sheet; unused places are zero.

    Example:
        >>> tile(np.array([[[1]], [[2]], [[3]]]), columns=2).tolist()
        [[1, 2], [3, 0]]
    """
    num_rows = math.ceil(len(images) / columns)
    sheet = np.zeros((num_rows * columns, *images.shape[1:]), images.dtype)
    sheet[: len(images)] = images
    sheet = sheet.reshape(num_rows, columns, *images.shape[1:]).swapaxes(1, 2)
    return sheet.reshape(num_rows * images.shape[1], columns * images.shape[2], *images.shape[3:])


def png_uri(image: Array) -> str:
    """Return an ``(H, W, 3)`` uint8 image as a PNG data URI."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def wav_uri(audio: Array, rate_hz: int) -> str:
    """Return samples ``(S,)`` in [-1, 1] as a 16-bit WAV data URI.

    Example:
        >>> wav_uri(np.zeros(4), 16_000)[:22]
        'data:audio/wav;base64,'
    """
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate_hz)
        sound.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(out.getvalue()).decode()}"
