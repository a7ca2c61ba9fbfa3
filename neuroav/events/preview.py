"""A film to look at: the grey clip beside its events, blue brighter and orange darker, as on the page of a run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.events.types import Events

BRIGHTER, DARKER, BACKGROUND = (86, 180, 233), (230, 159, 0), (24, 24, 24)  # told apart by colour-blind readers too
CLOCK_HZ = 90_000
SMALLEST_HEIGHT = 240  # smaller clips are enlarged by a whole factor


def draw_events(events: Events, t_us: np.ndarray) -> np.ndarray:
    """Draw, for each frame time, the events since the frame before.

    Args:
        events: Events of the frames ending at ``t_us``.
        t_us: ``(F,)`` int64 frame times.

    Returns:
        ``(F, H, W, 3)`` uint8 RGB; the colour of a pixel is the sign of its ON minus its OFF events.
    """
    height, width = events.sensor_size
    column = events.numpy()
    frame = np.searchsorted(t_us, column["t_us"])
    place = (frame * height + column["y"]) * width + column["x"]
    count = len(t_us) * height * width
    sign = np.bincount(place, weights=column["p"] * 2.0 - 1, minlength=count).reshape(-1, height, width)
    image = np.full((*sign.shape, 3), BACKGROUND, dtype=np.uint8)
    image[sign > 0] = BRIGHTER
    image[sign < 0] = DARKER
    return image


class FilmWriter:
    """Encodes the film frame by frame (H.264 in MP4) into ``path``; the caller renames or removes the file."""

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction):
        import av

        self.scale = max(1, SMALLEST_HEIGHT // size[0])
        self.container = av.open(str(path), "w", format="mp4")
        self.stream: Any = self.container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        self.stream.height = size[0] * self.scale + size[0] * self.scale % 2  # H.264 wants even sides
        self.stream.width = 2 * size[1] * self.scale
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        self._first_us: int | None = None
        self._pts = -1

    def write(self, frames: np.ndarray, t_us: np.ndarray, events: Events) -> None:
        """Append grey frames ``(F, H, W)`` at times ``(F,)`` with the events that end at them."""
        if self._first_us is None:
            self._first_us = int(t_us[0])
        drawn = draw_events(events, t_us)
        for grey, colour, t in zip(frames, drawn, t_us, strict=True):
            self._encode(np.concatenate([np.repeat(grey[..., None], 3, axis=-1), colour], axis=1), int(t))

    def _encode(self, image: np.ndarray, t_us: int) -> None:
        import av

        image = image.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        image = np.pad(image, ((0, self.stream.height - image.shape[0]), (0, 0), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")
        self._pts = max(self._pts + 1, (t_us - (self._first_us or 0)) * CLOCK_HZ // 1_000_000)
        frame.pts, frame.time_base = self._pts, Fraction(1, CLOCK_HZ)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and close the file."""
        self.container.mux(self.stream.encode(None))
        self.container.close()
