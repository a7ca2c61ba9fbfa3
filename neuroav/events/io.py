"""Event files in and out, whatever their format; :mod:`neuroav.events.formats` lists them and what each can't hold."""

from __future__ import annotations

import glob
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import InputError, check_shape, fail
from neuroav.events.formats import FORMATS, HDF5, Format, by_suffix, detect, hdf5, v2e
from neuroav.events.types import Events
from neuroav.events.video import Clip, VideoInfo, read_clip, read_video, video_info
from neuroav.files import WHOLE, writing

__all__ = [
    "Clip",
    "VideoInfo",
    "describe_events",
    "read_clip",
    "read_events",
    "read_frame_times",
    "read_video",
    "video_info",
    "write_events",
]


def read_events(
    path: str | Path,
    clip: str | None = None,
    *,
    start_us: int | None = None,
    stop_us: int | None = None,
    sensor_size: tuple[int, int] | None = None,
) -> Events:
    """Read an event file of any known format; the format is found by its content.

    Files of this package and of DSEC are read by time: only the chunks that hold the events asked for are touched.

    Args:
        path: The file.
        clip: Name of the clip, for HDF5 files of several; may be left out if there is only one.
        start_us: Leave out events at or before this time, in microseconds.
        stop_us: Leave out events after this time, in microseconds (so bins ``(start, stop]`` join without overlap).
        sensor_size: ``(H, W)``, for files that don't state it; otherwise the smallest size that holds all events.

    Returns:
        The events, sorted by time; at equal times in the order of the file.

    Raises:
        InputError: If the file is missing, damaged, truncated or of no known format, or the clip isn't in it.

    Warns:
        UserWarning: If events were out of time order, as real sensors record a few, and had to be sorted.
    """
    path = Path(path)
    if start_us is not None and stop_us is not None and start_us > stop_us:
        raise fail("read_events", "start_us at or before stop_us", f"{start_us} and {stop_us}")
    form = event_format(path)
    if clip is not None and form.name not in HDF5:
        raise fail(str(path), "no clip, as a file of this format holds one", repr(clip))
    if form.name in HDF5:
        events = hdf5.read(path, clip, sensor_size, start_us, stop_us)
    else:
        events = _read_whole(path, form, sensor_size)
    if (start_us is None and stop_us is None) or not len(events):
        return events
    first, last = int(events.t_us[0]) - 1, int(events.t_us[-1])
    return events.between(first if start_us is None else start_us, last if stop_us is None else stop_us)


def write_events(
    path: str | Path,
    events: Events,
    *,
    format: str | None = None,
    camera: Mapping[str, Any] | None = None,
    source: str = "",
) -> None:
    """Write events to a file, in the format of its suffix or the one named; the file appears when it is complete.

    Args:
        path: The file; one that exists is replaced.
        events: What to write, on the CPU.
        format: One of ``neuroav``, ``v2e``, ``npz``, ``npy``, ``text``, ``aedat4``, ``evt2``, ``evt3``, ``dat``.
        camera: Parameters of the camera that made the events (``EventCamera.to_dict()``); kept by ``neuroav`` files.
        source: Where the events come from; kept by ``neuroav`` files.

    Raises:
        InputError: If the suffix or format isn't known, or the format can't hold these times or this sensor.
        OutputError: If the file can't be written to the end.

    Example:
        >>> import tempfile, torch
        >>> one = torch.tensor([1])
        >>> events = Events(one.long(), one.short(), one.short(), one.byte(), (2, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_events(Path(folder) / "one.raw", events)
        ...     read_events(Path(folder) / "one.raw").t_us.tolist()
        [1]
    """
    final = Path(path)
    form = by_suffix(final, format)
    for name in ("x", "y", "p"):
        check_shape("write_events", name, getattr(events, name), (len(events),))
    with renamed_when_done(final) as temporary:
        if form.name == "neuroav":
            hdf5.write(temporary, events, camera, source=source)
        else:
            form.write()(temporary, events)


def read_frame_times(path: str | Path, clip: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the frame times ``(F,)`` int64 us and the index ``(F + 1,)`` int64 of the events between frames.

    Events ``[index[f], index[f + 1])`` of :func:`read_events` lie between frame ``f - 1`` and frame ``f``.

    Raises:
        InputError: If the file isn't one made from frames by this package.
    """
    path = Path(path)
    event_format(path)
    with hdf5.opened(path) as file:
        group = hdf5.choose_clip(path, file, clip)
        if "frame_t_us" not in group or "frame_event_index" not in group:
            raise fail(str(path), "a clip converted from frames", "one without frame times")
        for name in ("frame_t_us", "frame_event_index"):
            hdf5.check_stored(path, group[name])
        return group["frame_t_us"][:], group["frame_event_index"][:]


def describe_events(path: str | Path, sensor_size: tuple[int, int] | None = None) -> list[dict[str, Any]]:
    """Say what an event file holds: one row per clip, with figures from its events.

    Returns:
        Rows with ``file``, ``clip``, ``format``, ``bytes``, ``height``, ``width``, ``events``, ``start_us``,
        ``stop_us``, ``duration_s``, ``events_per_s``, ``on_share`` (``None`` where there is no event), ``frames``
        (``None`` for recordings) and ``camera`` (``None`` if the file doesn't say).
    """
    path = Path(path)
    form = event_format(path)
    if form.name not in HDF5:
        return [_row(path, form.name, "", _read_whole(path, form, sensor_size), None, None)]
    rows = []
    with hdf5.opened(path) as file:
        name = (
            "v2e" if v2e.is_v2e(file) else "neuroav" if hdf5.text_attribute(file, "format") == hdf5.FORMAT else "dsec"
        )
        clips = [""] if name == "v2e" else hdf5.clip_names(path, file)
        groups = {clip: file[clip] if clip else file for clip in clips}
        kept = {clip: (_camera(path, group), _num_frames(group)) for clip, group in groups.items()}
    for clip in clips:
        rows.append(_row(path, name, clip, hdf5.read(path, clip or None, sensor_size), *kept[clip]))
    return rows


def event_format(path: Path) -> Format:
    """Return the format of an event file, or say what is wrong with it."""
    if not path.is_file():
        actual = "a folder" if path.is_dir() else "no such file" if not path.exists() else "something that is no file"
        raise fail(str(path), "an event file", actual)
    form = detect(path)
    if form is None:
        raise fail(str(path), f"an event file ({', '.join(FORMATS)})", "something else")
    return form


@contextmanager
def renamed_when_done(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, renamed to ``path`` at the end or removed on any error.

    Raises:
        OutputError: If it can't be written to the end.
    """
    final = Path(path)
    temporary = final.with_name(f"{final.name}.{os.getpid()}.partial")
    try:
        with writing(final, WHOLE, "Make room there, or write elsewhere."):
            yield temporary
            temporary.replace(final)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, InputError) and str(temporary) in str(error):
            raise InputError(str(error).replace(str(temporary), str(final))) from error
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of a file that :func:`renamed_when_done` was to write."""
    for one in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        number = one.name.removesuffix(".partial").rpartition(".")[2]
        if number.isdecimal() and not _is_running(int(number)):
            one.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def _read_whole(path: Path, form: Format, sensor_size: tuple[int, int] | None) -> Events:
    try:
        return form.read()(path, sensor_size)
    except (OverflowError, MemoryError, struct.error) as error:
        actual = str(error) or type(error).__name__
        raise fail(str(path), f"a sound file of format {form.name}", actual, "The file is damaged.") from error


def _row(path: Path, name: str, clip: str, events: Events, camera: Any, frames: int | None) -> dict[str, Any]:
    count = len(events)
    start, stop = (int(events.t_us[0]), int(events.t_us[-1])) if count else (None, None)
    duration_s = None if start is None or stop is None else (stop - start) / 1e6
    height, width = events.sensor_size
    return {
        "file": str(path),
        "clip": clip,
        "format": name,
        "bytes": path.stat().st_size,
        "height": height,
        "width": width,
        "events": count,
        "start_us": start,
        "stop_us": stop,
        "duration_s": duration_s,
        "events_per_s": count / duration_s if duration_s else None,
        "on_share": int(events.p.sum()) / count if count else None,
        "frames": frames,
        "camera": camera,
    }


def _camera(path: Path, group: Any) -> Any:
    text = hdf5.text_attribute(group, "camera")
    try:
        return None if text is None else json.loads(text)
    except (ValueError, TypeError) as error:
        raise fail(str(path), "attribute camera in JSON", repr(text), "Is it damaged?") from error


def _num_frames(group: Any) -> int | None:
    frames = group.get("frame_t_us")
    return None if frames is None else len(frames)
