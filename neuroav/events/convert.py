"""From video files and event files to event files: one at a time as a stream, or a folder in parallel.

Decoding, finding the events, and compressing and writing them overlap, each in a thread of its own, a few frames at a
time, so memory doesn't grow with the length of a clip (it does where a format other than HDF5 is written).
"""

from __future__ import annotations

import json
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from neuroav.checks import fail
from neuroav.events.camera import EventCamera
from neuroav.events.formats import FORMATS, by_suffix, detect, hdf5
from neuroav.events.generate import IDEAL, frames_to_events
from neuroav.events.io import read_events, renamed_when_done, write_events
from neuroav.events.preview import FilmWriter, film_events
from neuroav.events.sink import FileSink
from neuroav.events.types import Events, EventState
from neuroav.events.video import VideoInfo, VideoReader, video_info
from neuroav.processes import num_cores
from neuroav.progress import Progress

AHEAD = 2  # chunks that one thread may be ahead of the next
END = object()
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What is done to every clip.

    Attributes:
        camera: The simulated camera; not used for event files.
        size: Resize frames to ``(H, W)`` first; for event files the sensor's size, where the file doesn't say.
        roi: Region ``(top, left, height, width)`` of the frames to keep; coordinates stay those of the whole frame.
        format: Format to write, by name; ``None`` goes by the suffix.
        clip: Name of the clip to take, of event files that hold several.
        from_zero: Count the times of event files from their first frame, or first event where they keep no frames.
        labels: Whether simulated events carry ``is_noise``; for formats that can hold it.
    """

    camera: EventCamera = IDEAL
    size: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    format: str | None = None
    clip: str | None = None
    from_zero: bool = False
    labels: bool = False

    def settings(self, source: Path) -> dict[str, Any]:
        """Return what decides the content of a clip's file, to compare it with that of an earlier run."""
        status = source.stat()
        return {
            "camera": self.camera.to_dict(),
            "size": None if self.size is None else list(self.size),
            "roi": None if self.roi is None else list(self.roi),
            "format": self.format,
            "source_bytes": status.st_size,
            "source_mtime_ns": status.st_mtime_ns,
        } | {name: True for name in ("from_zero", "labels") if getattr(self, name)}


def ahead(items: Iterable[T], depth: int = AHEAD) -> Iterator[T]:
    """Yield the items of an iterable that runs in a thread of its own, at most ``depth`` items early.

    Example:
        >>> list(ahead(range(3)))
        [0, 1, 2]
    """
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[Any]] = deque(pool.submit(next, source, END) for _ in range(depth))
        while (item := pending.popleft().result()) is not END:
            pending.append(pool.submit(next, source, END))
            yield item


@contextmanager
def behind(depth: int = AHEAD) -> Iterator[Any]:
    """Yield a function that calls others in a thread of its own, in order, and waits once it is ``depth`` calls early.

    An error in a call is raised by a later one, or at the end.
    """
    pending: deque[Future[Any]] = deque()

    def call(function: Any, *args: Any) -> None:
        pending.append(pool.submit(function, *args))
        while len(pending) > depth:
            pending.popleft().result()

    with ThreadPoolExecutor(1) as pool:
        yield call
        while pending:
            pending.popleft().result()


@contextmanager
def leaving_cores(busy: int = 2) -> Iterator[None]:
    """Let kernels use the cores that ``busy`` other threads (decoding, packing) leave, but at least one.

    Threads beyond that don't share the cores, they wait for each other by spinning: on two cores the conversion of a
    clip of 426x240 took 2.5 times the processor time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, num_cores() - busy)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Gathered:
    """Keeps the events of a clip in memory, for formats that are written in one piece; see ``hdf5.ClipWriter``."""

    def __init__(self) -> None:
        self._parts: list[Events] = []

    def append(self, events: Events, frame_t_us: np.ndarray) -> None:
        self._parts.append(events)

    def events(self) -> Events:
        names = ["t_us", "x", "y", "p"] + ([] if self._parts[0].is_noise is None else ["is_noise"])
        columns = {name: torch.cat([getattr(one, name) for one in self._parts]) for name in names}
        return Events(**columns, sensor_size=self._parts[0].sensor_size)


def convert_video(
    info: VideoInfo,
    sink: Any,
    conversion: Conversion,
    preview: tuple[Path, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Simulate the events of one video file and hand them to ``sink.append(events, frame_t_us)``, chunk by chunk.

    Args:
        info: The video.
        sink: What takes the events, such as ``hdf5.ClipWriter``; or ``None``.
        conversion: The camera and the region.
        preview: Where to write a film to, and its suffix.
        progress: Told of every chunk.

    Returns:
        The row of figures that ``neuroav events`` prints and writes as JSON.
    """
    start_s = time.perf_counter()
    reader = VideoReader(info.path, conversion.size, threads=max(1, num_cores() - 1))  # a core for what follows
    size = conversion.size or info.size
    num_frames = num_events = first_us = 0
    state: EventState | None = None
    film: FilmWriter | None = None
    with leaving_cores(), behind() as call:
        for frames, t_us in ahead(reader):
            if state is None:
                first_us = int(t_us[0])
                film = None if preview is None else FilmWriter(preview[0], size, _rate(t_us), preview[1])
            events, state = frames_to_events(
                frames, t_us, conversion.camera, state=state, roi=conversion.roi, labels=conversion.labels
            )
            if sink is not None:
                call(sink.append, events, t_us)
            if film is not None:
                call(film.write, frames, t_us, events)
            num_frames, num_events = num_frames + len(frames), num_events + len(events)
            if progress is not None:
                progress.update(len(frames), events_per_s=num_events / (time.perf_counter() - start_s))
        if film is not None:
            call(film.close)
    elapsed_s = 0.0 if state is None else (state.t_us - first_us) / 1_000_000
    pixels, wall_s = num_frames * size[0] * size[1], time.perf_counter() - start_s
    return {
        "clip": str(info.path),
        "height": size[0],
        "width": size[1],
        "frames": num_frames,
        "events": num_events,
        "events_per_pixel_frame": num_events / pixels,
        "duration_s": elapsed_s,
        "wall_s": wall_s,
        "mpixel_per_s": pixels / wall_s / 1e6,
        "notes": [*reader.notes, *_frame_notes(info, num_frames, elapsed_s)],
    }


def convert_videos(
    infos: list[VideoInfo], out: Path | None, conversion: Conversion, preview: Path | None, progress: Progress
) -> list[dict[str, Any]]:
    """Write one event file from videos: HDF5, with a group per clip if there are several; other formats from one."""
    name = "" if out is None else by_suffix(out, conversion.format).name
    if name not in ("", "neuroav") and len(infos) > 1:
        raise fail("neuroav events", f"one clip, as {name} holds no more", f"{len(infos)}", "Write HDF5 (.h5).")
    with ExitStack() as stack:
        film = None if preview is None else (stack.enter_context(renamed_when_done(preview)), preview.suffix)
        if out is not None and name == "neuroav":
            file, sink = stack.enter_context(hdf5.create(stack.enter_context(renamed_when_done(out))))
            return _convert_to_hdf5(infos, file, sink, conversion, film, progress)
        gathered = None if out is None else _Gathered()
        row = convert_video(infos[0], gathered, conversion, film, progress)
        if out is not None and gathered is not None:
            write_events(out, gathered.events(), format=name)
        return [row | {"group": ""}]


def _convert_to_hdf5(
    infos: list[VideoInfo],
    file: Any,
    sink: FileSink,
    conversion: Conversion,
    film: tuple[Path, str] | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    names = group_names([info.path.stem for info in infos]) if len(infos) > 1 else [""]
    rows = []
    for info, name in zip(infos, names, strict=True):
        group = file.create_group(name) if name else file
        settings, camera = json.dumps(conversion.settings(info.path)), conversion.camera.to_dict()
        size = conversion.size or info.size
        clip = hdf5.ClipWriter(
            group, size, camera, has_labels=conversion.labels, sink=sink, source=info.path.name, conversion=settings
        )
        rows.append(convert_video(info, clip, conversion, film, progress) | {"group": name})
        clip.finish()
    return rows


def convert_events(source: Path, out: Path | None, conversion: Conversion, preview: Path | None) -> dict[str, Any]:
    """Write the events of one event file in another format, and/or a film of them."""
    start_s = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        events = read_events(source, conversion.clip, sensor_size=conversion.size)
    kept = hdf5.kept(source, conversion.clip) if detect(source) is FORMATS["neuroav"] else {}
    if conversion.from_zero and len(events):
        first_us = int((kept["frame_t_us"] if len(kept.get("frame_t_us", ())) else events.t_us)[0])
        events = replace(events, t_us=events.t_us - first_us)
        if "frame_t_us" in kept:
            kept["frame_t_us"] = kept["frame_t_us"] - first_us
    with ExitStack() as stack:
        if preview is not None:
            film_events(stack.enter_context(renamed_when_done(preview)), events, preview.suffix)
        if out is not None:
            path, form = stack.enter_context(renamed_when_done(out)), by_suffix(out, conversion.format)
            if form.name == "neuroav":
                settings = json.dumps(conversion.settings(source))
                hdf5.write(path, events, **({"source": source.name} | kept), conversion=settings)
            else:
                form.write()(path, events)
    height, width = events.sensor_size
    span_us = int(events.t_us[-1] - events.t_us[0]) if len(events) else 0
    return {
        "clip": str(source),
        "height": height,
        "width": width,
        "frames": None,
        "events": len(events),
        "events_per_pixel_frame": None,
        "duration_s": span_us / 1e6,
        "wall_s": time.perf_counter() - start_s,
        "mpixel_per_s": None,
        "notes": [str(warning.message) for warning in caught],
        "group": "",
    }


def is_event_file(path: Path) -> bool:
    """Whether a file is one of events by its content or suffix, and not a video."""
    return path.is_file() and detect(path) is not None


def group_names(stems: list[str]) -> list[str]:
    """Return a name for each clip of a file: its stem, or ``stem-2`` and so on where that is taken.

    Example:
        >>> group_names(["a", "a", "a-2", "b"])
        ['a', 'a-2', 'a-2-2', 'b']
    """
    names: list[str] = []
    for stem in stems:
        tries = (f"{stem}-{number}" if number > 1 else stem for number in range(1, len(stems) + 2))
        names.append(next(name for name in tries if name not in names))
    return names


def _rate(t_us: np.ndarray) -> Fraction:
    """Return the mean frame rate of some frames, for a film's header."""
    if len(t_us) < 2:
        return Fraction(25)
    return Fraction(1_000_000 * (len(t_us) - 1), int(t_us[-1] - t_us[0])).limit_denominator(1001)


def _frame_notes(info: VideoInfo, num_frames: int, elapsed_s: float) -> list[str]:
    notes = [f"{info.path}: a single frame, so there is nothing to give events"] if num_frames == 1 else []
    if info.duration_s is not None and info.duration_s - elapsed_s > max(0.5, 0.2 * info.duration_s):
        notes.append(f"{info.path}: frames end after {elapsed_s:.2f} s of {info.duration_s:.2f} s; is it truncated?")
    return notes


def convert_one(job: tuple[Path, Path, Conversion]) -> dict[str, Any] | str:
    """Convert one file of a folder in a worker; one that can't be is answered by the reason, in one line."""
    source, out, conversion = job
    try:
        if is_event_file(source):
            return convert_events(source, out, conversion, None)
        with Progress("", quiet=True) as progress:
            return convert_videos([video_info(source)], out, conversion, None, progress)[0]
    except Exception as error:  # whatever is wrong with one file, the others are converted
        return " ".join(str(error).removeprefix(f"{source}: ").split()) or type(error).__name__
