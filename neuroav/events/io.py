"""Event files, and the ``events`` verb that makes them from video.

Layout (HDF5, format 1): attributes ``format`` "neuroav-events", ``format_version`` 1 and ``neuroav_version`` on the
file; then one group per clip, named after the video file, with attributes ``sensor_size`` (H, W), ``contrast_on``,
``contrast_off``, ``log_eps`` and ``source`` (file name), and datasets

=====================  ========  ====================================================================================
``t_us``               (E,)      int64 microseconds on the video's clock, non-decreasing
``x``, ``y``           (E,)      int16 column and row
``p``                  (E,)      uint8 polarity, 0 OFF, 1 ON
``frame_t_us``         (F,)      int64 time of each video frame
``frame_event_index``  (F + 1,)  int64; events ``[index[f], index[f + 1])`` lie between frame ``f - 1`` and frame ``f``
=====================  ========  ====================================================================================

Columns are chunked, byte-shuffled and compressed (gzip 1), so any HDF5 reader since 1.10 opens them (the older layout
keeps an index in memory that grows with the file). A file is written under a
temporary name beside its final one and renamed when it is complete.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroav import __version__
from neuroav.checks import check_range, fail, nearest
from neuroav.events.generate import frames_to_events
from neuroav.events.preview import FilmWriter
from neuroav.events.types import Events, EventState
from neuroav.events.video import Clip, VideoInfo, VideoReader, read_clip, read_video, video_info
from neuroav.progress import Progress

__all__ = ["Clip", "EventWriter", "VideoInfo", "events_command", "read_clip", "read_events", "read_video", "video_info"]

FORMAT, FORMAT_VERSION = "neuroav-events", 1
COLUMNS = {"t_us": np.int64, "x": np.int16, "y": np.int16, "p": np.uint8}
CHUNK_EVENTS = 1 << 16


class EventWriter:
    """Appends clips to an open event file, a few frames at a time; see the module for the layout.

    Args:
        file: An ``h5py.File`` open for writing.
    """

    def __init__(self, file: Any):
        file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "neuroav_version": __version__})
        self._file = file
        self._group: Any = None

    def start_clip(self, name: str, sensor_size: tuple[int, int], **attributes: Any) -> str:
        """Begin a clip and return its group's name: ``name``, or ``name-2`` and so on if that is taken."""
        taken = sum(other == name or other.startswith(f"{name}-") for other in self._file) if name in self._file else 0
        group_name = f"{name}-{taken + 1}" if taken else name
        self._group = self._file.create_group(group_name)
        self._group.attrs.update({"sensor_size": sensor_size, **attributes})
        for column, dtype in COLUMNS.items():
            self._create(column, dtype, CHUNK_EVENTS)
        self._create("frame_t_us", np.int64, 1024)
        self._create("frame_event_index", np.int64, 1024)
        self._extend("frame_event_index", np.zeros(1, dtype=np.int64))
        return group_name

    def append(self, events: Events, frame_t_us: np.ndarray) -> None:
        """Add the next frames' times ``(F,)`` and the events up to the last of them."""
        column = events.numpy()
        before = len(self._group["t_us"])
        index = before + np.searchsorted(column["t_us"], frame_t_us, side="right")
        for name, values in {**column, "frame_t_us": frame_t_us, "frame_event_index": index}.items():
            self._extend(name, values)

    def _create(self, name: str, dtype: type, chunk: int) -> None:
        layout = {"maxshape": (None,), "chunks": (chunk,), "shuffle": True, "compression": "gzip"}
        self._group.create_dataset(name, (0,), dtype, compression_opts=1, **layout)

    def _extend(self, name: str, values: np.ndarray) -> None:
        dataset = self._group[name]
        size = len(dataset)
        dataset.resize((size + len(values),))
        dataset[size:] = values


def read_events(path: str | Path, clip: str | None = None) -> Events:
    """Read one clip of an event file.

    Args:
        path: A file written by ``neuroav events`` or :class:`EventWriter`.
        clip: Name of the clip's group; may be left out if there is only one.

    Raises:
        InputError: If the file is missing or something else, or the clip isn't in it.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        actual = "no such file" if not Path(path).exists() else "something else or a truncated file"
        raise fail(str(path), "an event file (HDF5)", actual) from error
    with file:
        if file.attrs.get("format") != FORMAT:
            raise fail(str(path), f"an HDF5 file of format {FORMAT}", repr(file.attrs.get("format")))
        names = list(file)
        if clip is None and len(names) != 1:
            raise fail(str(path), "a clip's name, as the file holds several", "None", f"Known: {', '.join(names)}.")
        name = names[0] if clip is None else clip
        if name not in names:
            raise fail(str(path), f"clip to be one of {', '.join(names)}", repr(name), nearest(name, names))
        group = file[name]
        height, width = (int(side) for side in group.attrs["sensor_size"])
        t_us, x, y, p = (torch.from_numpy(group[column][:]) for column in COLUMNS)
        return Events(t_us, x, y, p, (height, width))


def events_command(
    clips: Sequence[str],
    out: str,
    preview: str | None = None,
    contrast: float = 0.2,
    size: tuple[int, int] | None = None,
    json_path: str | None = None,
) -> int:
    """Convert video files to one event file; the ``events`` verb.

    Every clip is opened, and its first frame decoded, before anything is written; an error or an interrupt leaves no
    file behind.

    Args:
        clips: Video files.
        out: Event file to write (HDF5).
        preview: Also write this film (MP4) of the clip beside its events; for a single clip.
        contrast: ON and OFF threshold in log intensity.
        size: Resize frames to ``(H, W)`` first.
        json_path: Also write the printed figures here.

    Returns:
        Exit status 0.

    Raises:
        InputError: If a clip doesn't decode or an output can't be written.
    """
    import h5py

    check_range("neuroav events", "--contrast", contrast, 0.01, 10)
    _check_outputs(clips, out, preview, json_path)
    infos = [video_info(clip) for clip in clips]
    _return_freed_memory()
    counts = [info.num_frames_estimate for info in infos]
    total = None if None in counts else sum(count or 0 for count in counts)
    with ExitStack() as stack:
        file_path = stack.enter_context(_renamed_when_done(out))
        writer = EventWriter(stack.enter_context(h5py.File(file_path, "w", libver=("v110", "v110"))))
        film_path = None if preview is None else stack.enter_context(_renamed_when_done(preview))
        progress = stack.enter_context(Progress("events", total=total, unit="frame"))
        rows = [_convert(info, writer, film_path, contrast, size, progress) for info in infos]
    for row in rows:
        sys.stdout.write(_summary(row))
    if json_path is not None:
        with _renamed_when_done(json_path) as path:
            path.write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


def _convert(
    info: VideoInfo,
    writer: EventWriter,
    film_path: Path | None,
    contrast: float,
    size: tuple[int, int] | None,
    progress: Progress,
) -> dict[str, Any]:
    start_s = time.perf_counter()
    reader = VideoReader(info.path, size)
    size = size or info.size
    settings = {"contrast_on": contrast, "contrast_off": contrast, "log_eps": 1.0}
    group = writer.start_clip(info.path.stem, size, **settings, source=info.path.name)
    num_frames = num_events = first_us = 0
    state: EventState | None = None
    film: FilmWriter | None = None
    for frames, t_us in reader:
        if state is None:
            first_us = int(t_us[0])
            film = FilmWriter(film_path, size, _rate(t_us)) if film_path is not None else None
        frames = np.ascontiguousarray(frames)
        events, state = frames_to_events(frames, t_us, contrast_on=contrast, contrast_off=contrast, state=state)
        writer.append(events, t_us)
        if film is not None:
            film.write(frames, t_us, events)
        num_frames, num_events = num_frames + len(frames), num_events + len(events)
        progress.update(len(frames), events_per_s=num_events / (time.perf_counter() - start_s))
    if film is not None:
        film.close()
    wall_s = time.perf_counter() - start_s
    elapsed_s = 0.0 if state is None else (state.t_us - first_us) / 1_000_000
    pixels = num_frames * size[0] * size[1]
    return {
        "clip": str(info.path),
        "group": group,
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


def _summary(row: dict[str, Any]) -> str:
    line = (
        f"{row['clip']}: {row['frames']} frames {row['height']}x{row['width']} in {row['duration_s']:.2f} s, "
        f"{row['events']} events ({row['events_per_pixel_frame']:.3f} per pixel and frame), "
        f"{row['mpixel_per_s']:.1f} Mpixel/s\n"
    )
    return line + "".join(f"  note: {note}\n" for note in row["notes"])


def _check_outputs(clips: Sequence[str], out: str, preview: str | None, json_path: str | None) -> None:
    if preview is not None and len(clips) > 1:
        raise fail("neuroav events", "one clip with --preview", f"{len(clips)} clips", "Call it once per clip.")
    seen = {Path(clip).resolve() for clip in clips}
    for name, value in {"--out": out, "--preview": preview, "--json": json_path}.items():
        if value is None:
            continue
        path = Path(value).resolve()
        if path in seen:
            raise fail("neuroav events", f"{name} to be a file of its own", str(value))
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            actual = f"{value}, which is a folder" if path.is_dir() else f"{value} in a folder that can't be written"
            raise fail("neuroav events", f"{name} to be a file in an existing folder", actual)
        seen.add(path)


def _return_freed_memory() -> None:
    """Have glibc give freed arrays back to the system: its heap would fragment and creep up over a long video."""
    with suppress(AttributeError, OSError, TypeError):  # another C library, without this habit
        ctypes.CDLL(None).mallopt(-3, 1 << 18)  # M_MMAP_THRESHOLD, fixed at 256 KiB instead of growing to 32 MiB


@contextmanager
def _renamed_when_done(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, renamed to ``path`` at the end or removed on any error."""
    final = Path(path)
    temporary = final.with_name(f"{final.name}.{os.getpid()}.partial")
    try:
        yield temporary
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
