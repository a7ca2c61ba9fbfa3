"""The event files of this package (HDF5, format 2), a superset of the layout of DSEC, whose files are read too.

A file of one clip has these at its root, a file of several in one group per clip:

=====================  ========  ====================================================================================
``events/t``           (E,)      uint32 (int64 from 71 minutes on) microseconds after ``t_offset``, non-decreasing
``events/x``, ``y``    (E,)      uint16 column and row
``events/p``           (E,)      uint8 polarity, 0 OFF, 1 ON
``events/is_noise``    (E,)      uint8, where the events were simulated with labels
``t_offset``           ()        int64 microseconds on the video's clock: the time of the first frame
``ms_to_idx``          (M,)      uint64; the first event with ``t >= 1000 m``, or E, for each millisecond ``m``
``frame_t_us``         (F,)      int64 time of each video frame on the video's clock (absent for recordings)
``frame_event_index``  (F + 1,)  int64; events ``[index[f], index[f + 1])`` lie between frame ``f - 1`` and frame ``f``
=====================  ========  ====================================================================================

Attributes there: ``sensor_size`` (H, W), ``camera`` (JSON of :class:`~neuroav.events.camera.EventCamera`), ``seed`` and
``source`` (file name); on the file: ``format`` "neuroav-events", ``format_version`` 2, ``neuroav_version``. Columns are
chunked, shuffled and deflated, so any HDF5 reader since 1.10 opens them without plug-ins. Recordings may be up to 48
hours long, as ``ms_to_idx`` grows with the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from neuroav import __version__
from neuroav.checks import NeuroavError, fail, nearest
from neuroav.events.formats import v2e
from neuroav.events.formats.columns import check_size, event_arrays, make_events
from neuroav.events.formats.deflate import Packer
from neuroav.events.sink import FileSink, new_hdf5
from neuroav.events.types import Events

FORMAT, FORMAT_VERSION = "neuroav-events", 2
CHUNK_EVENTS, CHUNK_FRAMES, CHUNK_MS = 1 << 16, 1 << 10, 1 << 14
COLUMNS = {"t": "<u4", "x": "<u2", "y": "<u2", "p": "u1"}
MAX_SPAN_US = 48 * 3600 * 1_000_000
MAX_CHUNK_BYTES = 1 << 28
MAX_RATIO = 1032  # no deflate stream shrinks its content further
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
PLUGIN_REMEDY = "pip install hdf5plugin"


class _Column:
    """A dataset that grows by whole chunks; the values of an unfinished one wait in memory.

    ``offset`` is taken off all values.
    """

    def __init__(self, group: Any, name: str, dtype: str, chunk: int, offset: int = 0):
        self.group, self.name, self.dtype, self.offset = group, name, np.dtype(dtype), offset
        self._dataset = group.create_dataset(
            name, (0,), dtype, maxshape=(None,), chunks=(chunk,), shuffle=True, compression="gzip", compression_opts=1
        )
        self._waiting, self._packer = np.zeros(chunk, dtype=dtype), Packer()
        self._written = self._num_waiting = 0

    def append(self, values: np.ndarray) -> None:
        chunk = len(self._waiting)
        while len(values):
            part = values[: chunk - self._num_waiting]
            if len(part) == chunk:
                self._write(part, chunk, self.offset)
                values = values[chunk:]
                continue
            place = slice(self._num_waiting, self._num_waiting + len(part))
            self._waiting[place] = part - self.offset if self.offset else part
            self._num_waiting += len(part)
            values = values[len(part) :]
            if self._num_waiting == chunk:
                self._num_waiting = 0
                self._write(self._waiting, chunk)

    def finish(self) -> None:
        if self._num_waiting:
            self._waiting[self._num_waiting :] = 0
            self._write(self._waiting, self._num_waiting)
            self._num_waiting = 0

    def widened(self, dtype: str) -> _Column:
        """Return this column copied to a wider type, which takes its place."""
        self.finish()
        old = f"{self.name}_narrow"
        self.group.move(self.name, old)
        wide = _Column(self.group, self.name, dtype, len(self._waiting))
        for first in range(0, self._written, len(self._waiting)):
            wide.append(self.group[old][first : first + len(self._waiting)])
        del self.group[old]
        wide.offset = self.offset
        return wide

    def _write(self, chunk: np.ndarray, count: int, offset: int = 0) -> None:
        first = self._written
        self._written += count
        self._dataset.resize((self._written,))
        self._dataset.id.write_direct_chunk((first,), self._packer.pack(chunk, self.dtype.itemsize, offset))


class ClipWriter:
    """Writes one clip into an HDF5 file or group, a few frames at a time; see the module for the layout.

    Args:
        group: The ``h5py.File`` or group to fill.
        sensor_size: ``(H, W)``.
        camera: Parameters of the simulated camera, ``EventCamera.to_dict()``; ``None`` for a recording.
        has_frames: Whether frame times are going to be given.
        has_labels: Whether events carry ``is_noise``.
        sink: What the file is written to, if a failure there is to end the writing early.
        attributes: More attributes of the clip, such as ``source``.
    """

    def __init__(
        self,
        group: Any,
        sensor_size: tuple[int, int],
        camera: Mapping[str, Any] | None = None,
        has_frames: bool = True,
        has_labels: bool = False,
        sink: FileSink | None = None,
        **attributes: Any,
    ):
        set_attributes(group, {"sensor_size": sensor_size, **attributes})
        if camera is not None:
            set_attributes(group, {"camera": json.dumps(camera), "seed": camera.get("seed", 0)})
        columns = COLUMNS | ({"is_noise": "u1"} if has_labels else {})
        events = group.create_group("events")
        self._columns = {name: _Column(events, name, dtype, CHUNK_EVENTS) for name, dtype in columns.items()}
        self._milliseconds = _Column(group, "ms_to_idx", "<u8", CHUNK_MS)
        self._frames: tuple[_Column, _Column] | None = None
        if has_frames:
            self._frames = (
                _Column(group, "frame_t_us", "<i8", CHUNK_FRAMES),
                _Column(group, "frame_event_index", "<i8", CHUNK_FRAMES),
            )
            self._frames[1].append(np.zeros(1, dtype=np.int64))
        self._group, self._sink = group, sink
        self._num_events = self._num_milliseconds = 0
        self._offset_us: int | None = None

    def append(self, events: Events, frame_t_us: np.ndarray | None = None) -> None:
        """Add events after those before, and the times ``(F,)`` of the frames up to whose last one they reach."""
        t_us, x, y, p = event_arrays(events)
        times = t_us if frame_t_us is None else frame_t_us
        self._check_frames(t_us, times)
        if not len(times):
            return
        if self._offset_us is None:
            self._offset_us = self._columns["t"].offset = int(times[0])
            self._group["t_offset"] = np.int64(self._offset_us)
        self._check_span(int(times[-1]) - self._offset_us)
        for name, values in zip(COLUMNS, (t_us, x, y, p), strict=True):
            self._columns[name].append(values)
        if "is_noise" in self._columns:
            self._columns["is_noise"].append(_labels(events))
        self._index_milliseconds(t_us, int(times[-1]))
        if self._frames is not None and frame_t_us is not None:
            self._frames[0].append(frame_t_us)
            self._frames[1].append(self._num_events + np.searchsorted(t_us, frame_t_us, side="right"))
        self._num_events += len(t_us)
        if self._sink is not None:
            self._sink.check()

    def finish(self) -> None:
        """Write what is still in memory; the file may be closed after that."""
        if self._offset_us is None:
            self._group["t_offset"] = np.int64(0)
        for column in (*self._columns.values(), self._milliseconds, *(self._frames or ())):
            column.finish()

    def _check_frames(self, t_us: np.ndarray, times: np.ndarray) -> None:
        """Refuse events beside the frames that they are said to lie between."""
        if len(t_us):
            first_us = self._offset_us if self._offset_us is not None else next(iter(times), None)
            if first_us is None or not first_us <= t_us[0] <= t_us[-1] <= times[-1]:
                expected = f"events between frames, {first_us} to {times[-1]} us" if len(times) else "times of frames"
                raise fail("event file", expected, f"events from {t_us[0]} to {t_us[-1]} us")

    def _check_span(self, span_us: int) -> None:
        if span_us > MAX_SPAN_US:
            remedy = "Are these times in microseconds?"
            raise fail("event file", f"a clip of at most {MAX_SPAN_US} us (48 hours)", f"{span_us} us", remedy)
        if span_us >= 1 << 32 and self._columns["t"].dtype.itemsize == 4:
            self._columns["t"] = self._columns["t"].widened("<i8")

    def _index_milliseconds(self, t_us: np.ndarray, last_us: int) -> None:
        """Index every millisecond that no later event can change."""
        offset_us = self._offset_us or 0
        while self._num_milliseconds * 1000 <= last_us - offset_us:
            stop = min((last_us - offset_us) // 1000 + 1, self._num_milliseconds + CHUNK_MS)
            starts_us = offset_us + np.arange(self._num_milliseconds, stop, dtype=np.int64) * 1000
            self._milliseconds.append(self._num_events + np.searchsorted(t_us, starts_us, side="left"))
            self._num_milliseconds = stop


def _labels(events: Events) -> np.ndarray:
    if events.is_noise is None:
        raise fail("event file", "events with labels, as before", "some without")
    return events.is_noise.numpy()


def write_format(file: Any) -> None:
    """Mark an open ``h5py.File`` as one of this package's event files."""
    set_attributes(file, {"format": FORMAT, "format_version": FORMAT_VERSION, "neuroav_version": __version__})


def set_attributes(owner: Any, values: Mapping[str, Any]) -> None:
    """Set attributes of a group or file; text has a fixed length, which is robust if the file is damaged later."""
    for name, value in values.items():
        owner.attrs[name] = (
            np.bytes_(value.encode(errors="surrogateescape")) if isinstance(value, str) and value else value
        )


def text_attribute(owner: Any, name: str) -> str | None:
    """Return an attribute as text, or ``None``."""
    value = owner.attrs.get(name)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None if value is None else str(value)


@contextmanager
def create(path: Path) -> Iterator[tuple[Any, FileSink]]:
    """Open a new event file for writing, for :class:`ClipWriter`; yield the ``h5py.File`` and what it writes to."""
    # The older layout keeps an index that grows.
    with new_hdf5(path, libver=("v110", "v110")) as (file, sink):
        write_format(file)
        yield file, sink


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading; whatever HDF5 finds wrong with it becomes an :class:`InputError`."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except NeuroavError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, MemoryError) as error:
        actual = " ".join(str(error).split()) or type(error).__name__
        raise fail(str(path), "a sound HDF5 file of events", actual.removesuffix("."), "Is it damaged?") from error


def holds_others(path: Path) -> bool:
    """Whether a file is HDF5 without events, a feature store for one."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    try:
        with opened(path) as file:
            clip_names(path, file)
    except NeuroavError:
        return True
    return False


def clip_names(path: Path, file: Any) -> list[str]:
    """Return the names of a file's groups with events; ``[""]`` if they are at its root."""
    version = file.attrs.get("format_version") if text_attribute(file, "format") == FORMAT else FORMAT_VERSION
    if version != FORMAT_VERSION:
        remedy = "Convert the video again, or read it with the neuroav that wrote it."
        raise fail(str(path), f"{FORMAT} of version {FORMAT_VERSION}", f"version {version}", remedy)
    if _has_columns(file):
        return [""]
    names = [name for name in file if _has_columns(file[name])]
    if not names:
        remedy = "Files of Prophesee (CD/events) must be converted to RAW." if "CD" in file else ""
        raise fail(str(path), "groups events or CLIP/events", ", ".join(file) or "an empty file", remedy)
    return names


def _has_columns(group: Any) -> bool:
    return hasattr(group, "keys") and "events" in group and hasattr(group["events"], "keys")


def choose_clip(path: Path, file: Any, clip: str | None) -> Any:
    """Return the group of ``clip``, or of the only one there is."""
    names = clip_names(path, file)
    if clip is None and len(names) != 1:
        raise fail(
            str(path),
            "a clip's name, as the file holds several",
            "None",
            f"Say --clip NAME, or clip=NAME. Known: {', '.join(names)}.",
        )
    name = names[0] if clip is None else clip
    if name not in names:
        known = ", ".join(names) if names != [""] else "a file of one clip, which has no name"
        raise fail(str(path), f"clip to be one of {known}", repr(name), nearest(name, names))
    return file[name] if name else file


def read(
    path: Path,
    clip: str | None = None,
    sensor_size: tuple[int, int] | None = None,
    start_us: int | None = None,
    stop_us: int | None = None,
) -> Events:
    """Read one clip of an HDF5 file of this package, of DSEC or of v2e: events with ``start_us < t <= stop_us``.

    With ``ms_to_idx`` only the chunks of that time are read.
    """
    with opened(path) as file:
        if v2e.is_v2e(file):
            return v2e.read_file(path, file, sensor_size)
        group = choose_clip(path, file, clip)
        columns = {name: group["events"][name] for name in (*COLUMNS, "is_noise") if name in group["events"]}
        if missing := [name for name in COLUMNS if name not in columns]:
            raise fail(str(path), "datasets events/t, x, y, p", f"no events/{missing[0]}")
        for column in columns.values():
            check_stored(path, column)
        offset = int(np.asarray(group["t_offset"][()]).item()) if "t_offset" in group else 0
        part = _time_slice(path, group, offset, start_us, stop_us)
        arrays = {name: column[part] for name, column in columns.items()}
        size = size_attribute(path, group)
    if any(values.ndim != 1 or values.dtype.kind not in "iub" for values in arrays.values()):
        raise fail(str(path), "columns (E,) of integers", str({k: (str(v.dtype), v.shape) for k, v in arrays.items()}))
    if arrays["p"].dtype.kind == "b":
        arrays["p"] = arrays["p"].view(np.uint8)
    t_us = arrays["t"].astype(np.int64) + offset
    x, y, p = (arrays[name] for name in "xyp")
    return make_events(path, t_us, x, y, p, size or sensor_size, arrays.get("is_noise"))


def kept(path: Path, clip: str | None = None) -> dict[str, Any]:
    """Return what a file of this package says of a clip beside its events, as arguments of :func:`write`."""
    with opened(path) as file:
        if v2e.is_v2e(file) or text_attribute(file, "format") != FORMAT:
            return {}
        group = choose_clip(path, file, clip)
        camera, source = text_attribute(group, "camera"), text_attribute(group, "source")
        said: dict[str, Any] = {"camera": dict(json.loads(camera))} if camera else {}
        if source:
            said["source"] = source
        if "frame_t_us" in group:
            check_stored(path, group["frame_t_us"])
            said["frame_t_us"] = group["frame_t_us"][:]
        return said


def write(
    path: Path,
    events: Events,
    camera: Mapping[str, Any] | None = None,
    frame_t_us: np.ndarray | None = None,
    **attributes: Any,
) -> None:
    """Write one clip at the root of a new file; ``frame_t_us`` ``(F,)`` are the frames it was simulated from."""
    with create(path) as (file, _):
        has_labels = events.is_noise is not None
        has_frames = frame_t_us is not None
        clip = ClipWriter(file, events.sensor_size, camera, has_frames, has_labels, **attributes)
        clip.append(events, frame_t_us)
        clip.finish()


def size_attribute(path: Path, owner: Any) -> tuple[int, int] | None:
    """Return the attribute ``sensor_size`` of a group or dataset."""
    if "sensor_size" not in owner.attrs:
        return None
    size = np.asarray(owner.attrs["sensor_size"])
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise fail(str(path), "sensor_size (H, W)", repr(size.tolist()))
    return check_size(path, int(size[0]), int(size[1]))


def check_stored(path: Path, dataset: Any) -> None:
    """Refuse a dataset that claims more values than its stored bytes can hold, and one whose filter isn't there."""
    if not hasattr(dataset, "shape") or dataset.shape is None or dataset.dtype.kind in "OV":
        raise fail(str(path), "datasets of numbers", repr(dataset))
    filters = _filters(path, dataset)
    claimed = int(np.prod([int(side) for side in dataset.shape], dtype=object)) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    room = stored
    if dataset.chunks is not None:
        chunk_bytes = int(np.prod([int(side) for side in dataset.chunks], dtype=object)) * dataset.dtype.itemsize
        room = dataset.id.get_num_chunks() * chunk_bytes
        plain = all(code in (DEFLATE, SHUFFLE, FLETCHER32) for code in filters)
        if plain and DEFLATE in filters:
            room = min(room, MAX_RATIO * stored)
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise fail(str(path), f"chunks of at most {MAX_CHUNK_BYTES} bytes", str(chunk_bytes), "Is it damaged?")
    if claimed > room:
        raise fail(str(path), f"{dataset.name} of at most {room} bytes, as stored", str(claimed), "Is it truncated?")


def _filters(path: Path, dataset: Any) -> list[int]:
    """Return the codes of a dataset's filters, having looked for one that isn't built in among the plug-ins."""
    import h5py

    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code in filters):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401 - brings its filters along
    for code in filters:
        if not h5py.h5z.filter_avail(code):
            raise fail(str(path), f"HDF5 filter {code} to decompress {dataset.name}", "no plug-in", PLUGIN_REMEDY)
    return filters


def _time_slice(path: Path, group: Any, offset: int, start_us: int | None, stop_us: int | None) -> slice:
    """Return which events have ``start_us < t <= stop_us``, by way of the index of milliseconds."""
    times = group["events"]["t"]
    count = len(times)
    bounds = [0, count]
    for end, limit in enumerate((start_us, stop_us)):
        if limit is None:
            continue
        low, high = _millisecond(path, group, limit - offset + 1, count)
        found = np.searchsorted(times[low:high].astype(np.int64), limit - offset, side="right")
        bounds[end] = low + int(found)
    return slice(bounds[0], max(bounds))


def _millisecond(path: Path, group: Any, t: int, count: int) -> tuple[int, int]:
    """Return a range of events that holds the first one at or after ``t`` microseconds."""
    index = group.get("ms_to_idx")
    if index is None or len(index) == 0:
        return 0, count
    first = min(max(t // 1000, 0), len(index))
    low = int(index[first]) if first < len(index) else int(index[-1])
    high = int(index[first + 1]) if first + 1 < len(index) else count
    low = 0 if t < 0 else low
    if not 0 <= low <= high <= count:
        raise fail(str(path), f"ms_to_idx between 0 and {count}, never falling", f"{low} and {high}", "Is it damaged?")
    return low, high
