"""The answer drawn onto a copy of a clip: the picture, its events beside it, the classes and their scores below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from neuroav.data.classic import luma
from neuroav.events.generate import frames_to_events
from neuroav.events.preview import COLOURS, SMALLEST_HEIGHT, draw_events
from neuroav.events.sink import FileSink
from neuroav.events.types import EventState
from neuroav.events.video import VideoReader, opened, video_info
from neuroav.files import replacing

LARGEST_HEIGHT = 480  # larger pictures are made smaller
CLOCK_HZ = 90_000
AUDIO_RATE = 48_000
INK, FAINT, GROUND, TRACK = (235, 235, 235), (160, 160, 160), (24, 24, 24), (60, 60, 60)
UNSEEN, SEEN = tuple(COLOURS[2].tolist()), (200, 200, 200)


class Shown(Protocol):
    """What is drawn of a class; see :class:`neuroav.classify.Choice`."""

    @property
    def name(self) -> str: ...
    @property
    def seen(self) -> bool: ...
    @property
    def score(self) -> float: ...
    @property
    def margin(self) -> float: ...


class Layout(NamedTuple):
    """Sizes in pixels: of the picture ``(H, W)``, and the height of the board under it and its events."""

    height: int
    width: int
    board: int

    @classmethod
    def of(cls, size: tuple[int, int], rows: int) -> Layout:
        """Fit a picture of ``size (H, W)`` and a board of ``rows`` classes; all sides are even, as H.264 wants them."""
        target = min(max(size[0], SMALLEST_HEIGHT), LARGEST_HEIGHT)
        width = round(size[1] * target / size[0])
        line = _line_height(target)
        return cls(target + target % 2, width + width % 2, (line * (rows + 1) + line // 2 + 1) // 2 * 2)


def _line_height(height: int) -> int:
    return max(18, height // 16)


def draw_answer(path: str | Path, out: Path, ranked: Sequence[Shown], contrast: float = 0.2) -> None:
    """Write a copy of a clip with its events beside it and the ranked classes below; with its sound, if it has any.

    Frames keep their times. Pictures lower than 240 lines are enlarged, higher than 480 made smaller; events are those
    of an ideal camera that looks at the picture. The copy appears when it is complete.

    Args:
        path: The clip.
        out: MP4 file to write (H.264, AAC); its folder is made if need be.
        ranked: Classes, the winner first.
        contrast: Event threshold in log intensity, dimensionless.

    Raises:
        InputError: If the clip can't be read.
        OutputError: If the copy can't be written.
    """
    layout = Layout.of(video_info(path).size, len(ranked))
    board = draw_board(ranked, 2 * layout.width, layout.board, _line_height(layout.height))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary, FileSink(temporary) as sink:
        _encode(Path(path), sink, layout, board, contrast)


def draw_board(ranked: Sequence[Shown], width: int, height: int, line: int) -> np.ndarray:
    """Draw ranked classes, ``(height, width, 3)`` uint8: name, whether it is unseen, margin, and a bar for the score.

    A line above says what the columns are. The bar of the nearest class is full, that of the farthest shown is a tenth;
    blue is unseen in training.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")), round(line * 0.62))
    image = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(image)
    best, worst = ranked[0].score, ranked[-1].score
    left, right = round(width * 0.66), width - line // 2
    heads = ((line // 2, "lm", "class"), (left - line // 2, "rm", "margin"), (left, "lm", "nearness"))
    for across, anchor, head in heads:
        draw.text((across, line * 0.75), head, FAINT, font, anchor=anchor)
    for place, choice in enumerate(ranked, 1):
        top, colour = line // 4 + place * line, SEEN if choice.seen else UNSEEN
        share = 1 - 0.9 * (choice.score - best) / (worst - best) if np.isfinite(worst) and worst > best else 1.0
        draw.rectangle((left, top + line * 0.25, right, top + line * 0.75), fill=TRACK)
        draw.rectangle((left, top + line * 0.25, left + share * (right - left), top + line * 0.75), fill=colour)
        margin = f"{choice.margin:+.3g}" if np.isfinite(choice.margin) else ""
        draw.text((left - line // 2, top + line / 2), margin, FAINT, font, anchor="rm")
        tag = "" if choice.seen else "  unseen"
        room = left - line // 2 - draw.textlength("+0.0000", font) - line
        name = _fitting(choice.name, room - draw.textlength(tag, font), lambda text: draw.textlength(text, font))
        draw.text((line // 2, top + line / 2), name, INK if place == 1 else FAINT, font, anchor="lm")
        draw.text((line // 2 + draw.textlength(name, font), top + line / 2), tag, UNSEEN, font, anchor="lm")
    return np.asarray(image)


def _fitting(name: str, room: float, width: Callable[[str], float]) -> str:
    """Cut a name short until it fits into ``room`` pixels."""
    shorter = name
    while width(shorter) > room and len(shorter) > 2:
        shorter = shorter[:-2].rstrip(" …") + "…"
    return shorter


def _encode(path: Path, sink: FileSink, layout: Layout, board: np.ndarray, contrast: float) -> None:
    import av

    with av.open(sink, "w", format="mp4") as container, opened(path) as source:
        rate = source.streams.video[0].average_rate or Fraction(25)
        video: Any = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        video.height, video.width, video.pix_fmt = layout.height + layout.board, 2 * layout.width, "yuv420p"
        video.codec_context.time_base = Fraction(1, CLOCK_HZ)
        sound = _Sound(source, container) if source.streams.audio else None
        state: EventState | None = None
        first_us: int | None = None
        for frames, t_us in VideoReader(path, (layout.height, layout.width), "rgb24"):
            first_us = int(t_us[0]) if first_us is None else first_us
            events, state = frames_to_events(
                luma(frames), t_us, state=state, contrast_on=contrast, contrast_off=contrast
            )
            for image, drawn, time_us in zip(frames, draw_events(events, t_us), t_us.tolist(), strict=True):
                whole = np.concatenate([np.concatenate([image, drawn], axis=1), board])
                frame = av.VideoFrame.from_ndarray(whole, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = (time_us - first_us) * CLOCK_HZ // 1_000_000, Fraction(1, CLOCK_HZ)
                container.mux(video.encode(frame))
                if sound is not None:
                    sound.copy(first_us / 1e6, time_us / 1e6)
            sink.check()
        container.mux(video.encode(None))
        if sound is not None:
            sound.copy((first_us or 0) / 1e6, np.inf)


class _Sound:
    """Copies the first audio track of one container to another, piece by piece."""

    def __init__(self, source: Any, container: Any):
        import av

        self._container = container
        self._stream = container.add_stream("aac", rate=AUDIO_RATE, layout="stereo")
        self._resampler = av.AudioResampler("fltp", "stereo", AUDIO_RATE)
        self._frames: Iterator[Any] = chain(source.decode(source.streams.audio[0]), [None])
        self._samples: int | None = None
        self._reached_s, self._ended = -np.inf, False

    def copy(self, start_s: float, until_s: float) -> None:
        """Copy up to a time of the source; ``start_s`` becomes time 0. A track that fails ends there."""
        import av

        while not self._ended and self._reached_s <= until_s:
            try:
                frame = next(self._frames, None)
            except av.error.FFmpegError:
                frame, self._frames = None, iter(())
            if frame is not None and self._samples is None:
                self._samples = max(0, round(((frame.time or 0.0) - start_s) * AUDIO_RATE))
            self._ended = frame is None
            self._reached_s = self._reached_s if frame is None else frame.time or 0.0
            if self._samples is not None:
                for piece in self._resampler.resample(frame):
                    piece.pts, piece.time_base = self._samples, Fraction(1, AUDIO_RATE)
                    self._samples += piece.samples
                    self._container.mux(self._stream.encode(piece))
        if until_s == np.inf:
            self._container.mux(self._stream.encode(None))
