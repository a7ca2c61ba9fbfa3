"""Videos that go on: a file that still grows or a camera, described step by step with the camera's state carried on."""

from __future__ import annotations

import io
import stat
import time
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import check_range, fail
from neuroav.data.classic import (
    FRAME_SIZE,
    GRID,
    SUB_FRAMES,
    bin_edges,
    frame_cells,
    log_mel,
    luma,
    representative_frames,
)
from neuroav.data.extract import SETTINGS, Described
from neuroav.events.represent import frames_to_counts
from neuroav.events.types import EventState
from neuroav.events.video import CONTAINERS, Drawer

POLL_S = 0.02
LIVE = "a video that can be read while it grows (MPEG-TS, Matroska, fragmented MP4)"
LATE_S = 1.0  # sound that lags further behind the pictures counts as silence


class GrowingFile(io.RawIOBase):
    """A file that another process still writes: at its end, reading waits for more.

    Args:
        path: The file.
        patience_s: Seconds without growth after which it counts as finished.

    Attributes:
        interrupted: Whether waiting was ended by Ctrl-C, which can't pass through libav.
    """

    def __init__(self, path: Path, patience_s: float):
        super().__init__()
        self._file, self._patience_s = path.open("rb", buffering=0), patience_s
        self.interrupted = self.finished = False

    def readable(self) -> bool:
        """Only reading is possible, from front to back."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, at least one until the file is finished."""
        deadline = time.monotonic() + self._patience_s
        try:
            while not (data := self._file.read(size)):
                self.finished = self.finished or time.monotonic() > deadline  # asked again, it doesn't wait again
                if self.interrupted or self.finished:
                    break
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            self.interrupted = True
            return b""
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextmanager
def live_video(path: str, patience_s: float = 5.0) -> Iterator[Any]:
    """Open a growing file, or a camera such as ``/dev/video0`` (Linux), as a PyAV container.

    Raises:
        InputError: If there is none, it holds no video, or it can't be read before it is finished.
    """
    import av

    check_range("classify", "--patience", patience_s, 0)
    av.logging.set_level(None)
    camera = path.startswith("/dev/video")
    what = "a camera that can be opened" if camera else LIVE
    if camera:
        if not Path(path).exists():
            raise fail(path, what, "no such device", "Cameras are /dev/video0 and on, where Linux has one.")
        if not stat.S_ISCHR(Path(path).stat().st_mode):
            raise fail(path, what, "a file that is no device")
    elif not Path(path).is_file():
        raise fail(path, what, "a folder" if Path(path).is_dir() else "no such file")
    with nullcontext() if camera else GrowingFile(Path(path), patience_s) as source:
        try:
            options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
            container = av.open(path, format="v4l2") if camera else av.open(source, options=options)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            _pass_on(source)
            reason = getattr(error, "strerror", None) or str(error)
            raise fail(path, what, f"something else ({reason})") from error
        with container:
            if not container.streams.video:
                raise fail(path, what, "one without a video track")
            yield container
    _pass_on(source)


def _pass_on(source: GrowingFile | None) -> None:
    """Raise the interrupt that a source has met."""
    if source is not None and source.interrupted:
        raise KeyboardInterrupt


class Live:
    """Feeds a :class:`Running` from a container, packet by packet.

    Args:
        path: What was opened, for errors.
        container: From :func:`live_video`.
        running: What is fed.

    Attributes:
        received_s: ``time.perf_counter()`` when the last packet came.
        idle_s: Seconds spent waiting for packets so far.
        num_damaged: Packets that did not decode.
    """

    def __init__(self, path: str, container: Any, running: Running):
        import av

        self._path = path
        self._container, self._running = container, running
        self._video = container.streams.video[0]
        self._video.thread_type = "SLICE"  # threads over frames would hold back as many of them
        self._sound = container.streams.audio[0] if container.streams.audio else None
        running.expects_sound = self._sound is not None
        self._draw = Drawer("rgb24")
        self._resampler = av.AudioResampler("flt", "mono", running.rate)
        self._early: list[Any] = []  # sound that came before the first picture
        self._place: int | None = None
        self.received_s, self.idle_s, self.num_damaged = time.perf_counter(), 0.0, 0

    def __iter__(self) -> Iterator[None]:
        """Feed one packet a turn, until the container ends."""
        import av

        streams = [self._video] if self._sound is None else [self._video, self._sound]
        packets = self._container.demux(streams)
        while True:
            start = time.perf_counter()
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                if self._running.zero_us is None:
                    found = f"one with its index at the end, or damaged ({error.strerror})"
                    raise fail(self._path, LIVE, found) from error
                packet = None  # what is there has been described
                self.num_damaged += 1
            self.received_s = time.perf_counter()
            self.idle_s += self.received_s - start
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue  # a decoder that was flushed already
            except av.error.FFmpegError:
                self.num_damaged += 1
                continue
            for frame in frames:
                self._feed(packet.stream, frame)
            yield
        if self._place is not None:
            self._hear(None)

    def _feed(self, stream: Any, frame: Any) -> None:
        if frame.pts is None:
            return
        if stream.type == "video":
            image = np.empty((FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
            self._draw(frame, image)
            self._running.see(image, round(Fraction(frame.pts) * (frame.time_base or stream.time_base) * 1_000_000))
            early, self._early = self._early, []
            for piece in early:
                self._hear(piece)
        elif self._running.zero_us is None:
            self._early.append(frame)
        else:
            self._hear(frame)

    def _hear(self, frame: Any) -> None:
        running = self._running
        if self._place is None:
            self._place = round(((frame.time or 0.0) - (running.zero_us or 0) / 1e6) * running.rate)
        for piece in self._resampler.resample(frame):
            running.hear(piece.to_ndarray()[0], self._place)
            self._place += piece.samples


class Running:
    """The classic descriptors of a video that goes on; of its steps the last ones are kept.

    The steps are those of :func:`neuroav.data.classic.describe_clip` of the whole video: the camera's state is carried
    on, and a step is described once the picture after it and its sound are there.

    Args:
        keep: Steps to keep.

    Attributes:
        zero_us: Time of the first frame on the video's clock; ``None`` before it.
        steps: Steps described so far.
        rate: Samples per second that it listens to.
        expects_sound: Whether a step has to wait for its sound.
    """

    def __init__(self, keep: int):
        self.rate: int = SETTINGS["audio_rate"]
        self.zero_us: int | None = None
        self.steps = 0
        self.expects_sound = False
        self._bin_us = round(SETTINGS["bin_s"] * 1e6)
        self._bin_samples = round(SETTINGS["bin_s"] * self.rate)
        self._images: list[np.ndarray] = []  # from the last one before the first open step
        self._t_us: list[int] = []
        self._gaps = array("q")
        self._state: EventState | None = None
        self._fed = 0  # images that the camera has seen
        self._counts: dict[int, np.ndarray] = {}  # events of open steps
        self._samples = np.zeros(0, np.float32)
        self._heard, self._first_sample = 0, 0
        self._kept: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=keep)

    def see(self, image: np.ndarray, t_us: int) -> None:
        """Take a frame ``(64, 64, 3)`` uint8; one that is not later than the one before is left out."""
        if self.zero_us is None:
            self.zero_us = t_us
        elif t_us <= self._t_us[-1]:
            return
        else:
            self._gaps.append(t_us - self._t_us[-1])
        self._images.append(image)
        self._t_us.append(t_us)

    def hear(self, samples: np.ndarray, place: int) -> None:
        """Take samples ``(S,)`` of which the first is the ``place``-th after the first frame."""
        end = place + len(samples)
        held = np.zeros(max(self._first_sample + len(self._samples), end) - self._first_sample, np.float32)
        held[: len(self._samples)] = self._samples
        if end > self._first_sample:
            held[max(place - self._first_sample, 0) : end - self._first_sample] = samples[
                max(self._first_sample - place, 0) :
            ]
        self._samples, self._heard = held, max(self._heard, end)

    @property
    def ready(self) -> int:
        """Steps that could be described by now, since the video began."""
        if self.zero_us is None:
            return 0
        seen_us = self._t_us[-1] - self.zero_us
        steps = seen_us // self._bin_us
        if not self.expects_sound:
            return steps
        margin = self._bin_samples // SUB_FRAMES  # sub-frames reach over the end of their step
        heard = (self._heard - margin) // self._bin_samples
        return max(min(steps, heard), (seen_us - round(LATE_S * 1e6)) // self._bin_us, 0)

    def advance(self, steps: int) -> None:
        """Describe the steps up to ``steps``, which is at most :attr:`ready`."""
        if steps <= self.steps or self.zero_us is None:
            return
        edges_us = self.zero_us + np.arange(self.steps, steps + 1) * self._bin_us
        self._watch()
        images, t_us = np.stack(self._images), np.array(self._t_us)
        video = frame_cells(images[representative_frames(t_us, edges_us)])
        empty = np.zeros((2, *GRID), np.int64)
        for step, seen, heard in zip(range(self.steps, steps), video, self._listen(steps), strict=True):
            motion = np.minimum(self._counts.pop(step, empty), np.iinfo(np.uint16).max).astype(np.uint16)
            self._kept.append((seen, heard, motion))
        self.steps = steps
        first = max(int(np.searchsorted(t_us, edges_us[-1])) - 1, 0)
        del self._images[:first], self._t_us[:first]
        self._fed -= first
        start = max(steps - 1, 0) * self._bin_samples  # one step before the open one, for its first sub-frame
        self._samples = self._samples[max(start - self._first_sample, 0) :]
        self._first_sample = max(start, self._first_sample)

    def _watch(self) -> None:
        """Count the events of the frames that the camera has not seen yet."""
        zero_us, new = self.zero_us or 0, slice(self._fed, None)
        if self._fed == len(self._images):
            return
        since_us = zero_us if self._state is None else self._state.t_us
        first, last = ((t_us - zero_us) // self._bin_us for t_us in (since_us, self._t_us[-1]))
        contrast = {"contrast_on": SETTINGS["contrast"], "contrast_off": SETTINGS["contrast"]}
        edges_us = zero_us + np.arange(first, last + 2) * self._bin_us
        grey = luma(np.stack(self._images[new]))
        counts, self._state = frames_to_counts(
            grey, np.array(self._t_us[new]), edges_us, grid=GRID, state=self._state, **contrast
        )
        for step, count in zip(range(first, last + 1), counts.numpy(), strict=True):
            self._counts[step] = self._counts.get(step, 0) + count.astype(np.int64)
        self._fed = len(self._images)

    def _listen(self, steps: int) -> np.ndarray:
        """Describe the sound of the open steps up to ``steps``, ``(T, 512)``."""
        before = 1 if self.steps else 0  # a step that is done, for the sub-frame that begins in it
        start = (self.steps - before) * self._bin_samples - self._first_sample
        stop = (steps + 1) * self._bin_samples - self._first_sample
        num_steps = steps - self.steps + before
        hop_s = SETTINGS["bin_s"] / SUB_FRAMES
        heard = log_mel(self._samples[start:stop], self.rate, num_steps * SUB_FRAMES, hop_s)
        return heard.reshape(num_steps, -1)[before:]

    def finish(self) -> None:
        """Describe what is left when the video has ended: the last step counts if half of it is there."""
        if self.zero_us is None:
            return
        times = np.array([0, *np.cumsum(self._gaps)], np.int64)
        last_gap = self._gaps[-1] if self._gaps else 40_000
        end = round((int(times[-1]) + last_gap) * self.rate / 1e6)
        self._samples = self._samples[: max(end - self._first_sample, 0)]
        self.advance(len(bin_edges(times, SETTINGS["bin_s"])) - 1)

    def latest(self) -> Described:
        """Return the steps that are kept, as a clip that begins with the first of them."""
        video, audio, motion = (np.stack(values) for values in zip(*self._kept, strict=True))
        t_s = (np.arange(len(video)) * self._bin_us * 1e-6).astype(np.float32)
        duration_s = len(video) * SETTINGS["bin_s"]
        return Described(t_s, video, audio, motion, self._heard > 0, duration_s, "")
