"""A film to look at, MP4 or GIF: events in blue (brighter) and orange (darker), beside the grey clip or alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.events.sink import FileSink
from neuroav.events.types import Events

BRIGHTER, DARKER, BACKGROUND = (86, 180, 233), (230, 159, 0), (24, 24, 24)  # told apart by colour-blind readers too
COLOURS = np.array([DARKER, BACKGROUND, BRIGHTER], dtype=np.uint8)  # by sign + 1
GREYS = 253  # of a GIF, whose palette of 256 ends in the three colours
SMALLEST_HEIGHT = 240  # smaller clips are enlarged by a whole factor
FILM_RATE = 25  # frames per second of a film of events alone
CHUNK = 8  # frames drawn at a time


def draw_events(events: Events, t_us: np.ndarray) -> np.ndarray:
    """Draw, for each frame time, the events since the frame before.

    Args:
        events: Events of the frames ending at ``t_us``.
        t_us: ``(F,)`` int64 frame times.

    Returns:
        ``(F, H, W, 3)`` uint8 RGB; the colour of a pixel is the sign of its ON minus its OFF events.
    """
    return COLOURS[event_signs(events, t_us) + 1]


def event_signs(events: Events, t_us: np.ndarray) -> np.ndarray:
    """Return for each frame time and pixel the sign of ON minus OFF since the frame before, ``(F, H, W)`` int8."""
    height, width = events.sensor_size
    column = events.numpy()
    frame = np.searchsorted(t_us, column["t_us"])
    place = (frame * height + column["y"]) * width + column["x"]
    count = len(t_us) * height * width
    total = np.bincount(place, weights=column["p"] * 2.0 - 1, minlength=count).reshape(-1, height, width)
    return np.sign(total).astype(np.int8)


class FilmWriter:
    """Encodes a film frame by frame into ``path``; the caller renames or removes the file.

    Args:
        path: The file.
        size: ``(H, W)`` of the events, and of the clip.
        rate: Frames per second, for the file's header; frames are shown at their own times.
        suffix: ``".mp4"`` (H.264) or ``".gif"``.
        with_clip: Whether grey frames are shown at the left of the events.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction, suffix: str = ".mp4", with_clip: bool = True):
        import av

        self.scale = max(1, SMALLEST_HEIGHT // size[0])
        self.is_gif = suffix.lower() == ".gif"
        self.clock_hz = 100 if self.is_gif else 90_000
        self.file = FileSink(path)
        self.container = av.open(self.file, "w", format="gif" if self.is_gif else "mp4")
        codec, options = ("gif", {}) if self.is_gif else ("libx264", {"crf": "20", "preset": "veryfast"})
        stream: Any = self.container.add_stream(codec, rate=rate, options=options)
        self.stream = stream
        height, width = size[0] * self.scale, size[1] * self.scale * (2 if with_clip else 1)
        even = 1 if self.is_gif else 2  # H.264 wants even sides
        self.stream.height, self.stream.width = height + height % even, width + width % even
        self.stream.pix_fmt = "pal8" if self.is_gif else "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, self.clock_hz)
        self._first_us: int | None = None
        self._pts = -1

    def write(self, frames: np.ndarray | None, t_us: np.ndarray, events: Events) -> None:
        """Append frames at times ``(F,)``, with the events that end at them and the grey frames ``(F, H, W)``."""
        if self._first_us is None and len(t_us):
            self._first_us = int(t_us[0])
        for index, sign in enumerate(event_signs(events, t_us)):
            image = (sign.astype(np.int16) + (GREYS + 1)).astype(np.uint8)
            if frames is not None:
                image = np.concatenate([_grey(frames[index]), image], axis=1)
            self._encode(image, int(t_us[index]))
        self.file.check()

    def _encode(self, image: np.ndarray, t_us: int) -> None:
        import av

        image = image.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        rows, columns = self.stream.height - image.shape[0], self.stream.width - image.shape[1]
        image = np.pad(image, ((0, rows), (0, columns)), mode="edge")
        if self.is_gif:
            indexed: Any = (image, _palette())
            frame = av.VideoFrame.from_ndarray(indexed, format="pal8")
        else:
            frame = av.VideoFrame.from_ndarray(_palette()[image][..., 1:], format="rgb24").reformat(format="yuv420p")
        self._pts = max(self._pts + 1, (t_us - (self._first_us or 0)) * self.clock_hz // 1_000_000)
        frame.pts, frame.time_base = self._pts, Fraction(1, self.clock_hz)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and close the file."""
        with self.file:
            self.container.mux(self.stream.encode(None))
            self.container.close()


def film_events(path: Path, events: Events, suffix: str = ".mp4", rate: int = FILM_RATE) -> None:
    """Write a film of events alone, on dark ground, ``rate`` frames per second of their own time."""
    film = FilmWriter(path, events.sensor_size, Fraction(rate), suffix, with_clip=False)
    start, stop = (int(events.t_us[0]), int(events.t_us[-1])) if len(events) else (0, 0)
    count = (stop - start) * rate // 1_000_000 + 1
    for first in range(0, count, CHUNK):
        ends = start + np.arange(first + 1, min(first + CHUNK, count) + 1) * 1_000_000 // rate
        begin = start + first * 1_000_000 // rate
        film.write(None, ends, events.between(begin - (first == 0), int(ends[-1])))
    film.close()


def _grey(frame: np.ndarray) -> np.ndarray:
    return (frame.astype(np.uint16) * (GREYS - 1) // 255).astype(np.uint8)


def _palette() -> np.ndarray:
    """Return the 256 colours ``(256, 4)`` uint8 as alpha, red, green, blue: greys, then those of events."""
    grey = np.round(np.arange(GREYS) * 255 / (GREYS - 1))[:, None].repeat(3, axis=1)
    colours = np.concatenate([grey, COLOURS]).astype(np.uint8)
    return np.concatenate([np.full((256, 1), 255, dtype=np.uint8), colours], axis=1)
