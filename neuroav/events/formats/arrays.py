"""NumPy files: ``.npz`` with one array per column, and ``.npy`` with the structured array that tonic works on.

``.npz`` holds everything: ``t`` (int64 microseconds), ``x``, ``y``, ``p`` and ``sensor_size`` (H, W), and ``is_noise``
if there are labels. Read are also files with other common names (``t_us``, ``ts``, ``timestamps``; ``polarity``), times
of a floating type as seconds, and a size from ``frames`` ``(F, H, W)``. ``.npy`` has fields ``x``, ``y`` (int16), ``t``
(int64 microseconds) and ``p`` (bool); the sensor's size and labels are not kept. Nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import MAX_TIME_US, check_size, event_arrays, make_events
from neuroav.events.types import Events

NAMES = {
    "t": ("t", "t_us", "ts", "timestamp", "timestamps", "time"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "polarity", "pol", "ps", "polarities"),
}
TONIC = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, UnicodeError, NotImplementedError, EOFError, OSError, RuntimeError)
MAX_RATIO = 1032  # no deflate stream shrinks its content further


def read_npz(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a ``.npz`` file; ``sensor_size`` counts if the file doesn't say."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            names = _names(path, list(members))
            arrays = {key: _member(path, archive, members[name]) for key, name in names.items()}
            stated = _stated_size(path, archive, members)
            is_noise = _member(path, archive, members["is_noise"]) if "is_noise" in members else None
    except DAMAGED_ZIP as error:
        actual = str(error) or type(error).__name__
        raise fail(str(path), "a sound .npz file", actual, "The file is damaged.") from error
    return _events(path, arrays, stated or sensor_size, is_noise)


def write_npz(path: Path, events: Events) -> None:
    """Write a ``.npz`` file, uncompressed."""
    t, x, y, p = event_arrays(events)
    with path.open("wb") as file:
        size = np.array(events.sensor_size)
        if events.is_noise is None:
            np.savez(file, t=t, x=x, y=y, p=p, sensor_size=size)
        else:
            np.savez(file, t=t, x=x, y=y, p=p, sensor_size=size, is_noise=events.is_noise.numpy())


def read_npy(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a structured ``.npy`` file."""
    with path.open("rb") as file:
        table = _array(path, file, path.stat().st_size)
    if table.dtype.names is None:
        remedy = "Save columns as .npz with names t, x, y, p."
        raise fail(str(path), "a structured array with fields t, x, y, p", f"dtype {table.dtype}", remedy)
    names = _names(path, list(table.dtype.names))
    return _events(path, {key: table[name] for key, name in names.items()}, sensor_size, None)


def write_npy(path: Path, events: Events) -> None:
    """Write a structured array as tonic has it."""
    table = np.empty(len(events), dtype=TONIC)
    for name, column in zip("txyp", event_arrays(events), strict=True):
        table[name] = column
    with path.open("wb") as file:
        np.save(file, table, allow_pickle=False)


def _names(path: Path, present: list[str]) -> dict[str, str]:
    names = {key: next((name for name in known if name in present), "") for key, known in NAMES.items()}
    missing = [key for key, name in names.items() if not name]
    if missing:
        raise fail(str(path), f"columns t, x, y, p ({', '.join(missing)} missing)", ", ".join(present) or "none")
    return names


def _events(
    path: Path, arrays: dict[str, np.ndarray], sensor_size: tuple[int, int] | None, is_noise: np.ndarray | None
) -> Events:
    for name, array in arrays.items():
        kinds = "iufb" if name in "tp" else "iu"
        if array.ndim != 1 or array.dtype.kind not in kinds:
            raise fail(str(path), f"{name} of shape (E,) and a number type", f"{array.dtype} {array.shape}")
    p = arrays["p"]
    if p.dtype.kind in "fb":
        if not np.isin(p, (-1, 0, 1)).all():
            raise fail(str(path), "polarity 0 and 1, or -1 and 1", "other values")
        p = p.astype(np.int64)
    t_us = _microseconds(path, arrays["t"]) if arrays["t"].dtype.kind == "f" else arrays["t"]
    return make_events(path, t_us, arrays["x"], arrays["y"], p, sensor_size, is_noise)


def _microseconds(path: Path, seconds: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what is refused below
        micros = np.rint(seconds.astype(np.float64) * 1e6)
    if not (np.abs(micros) < MAX_TIME_US).all():
        raise fail(str(path), "finite times in seconds", "NaN, infinity or a huge value")
    return micros.astype(np.int64)


def _stated_size(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> tuple[int, int] | None:
    if "sensor_size" in members:
        size = _member(path, archive, members["sensor_size"])
        if size.shape != (2,) or size.dtype.kind not in "iu":
            raise fail(str(path), "sensor_size (H, W)", f"{size.dtype} {size.shape}")
        return check_size(path, int(size[0]), int(size[1]))
    if "frames" in members:
        with archive.open(members["frames"]) as file:
            shape, _, _ = _npy_header(path, file)
        return check_size(path, *shape[1:3]) if len(shape) in (3, 4) else None
    return None


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.file_size > MAX_RATIO * info.compress_size + 1024:
        actual = f"{info.file_size} bytes from {info.compress_size}"
        raise fail(str(path), f"{info.filename} of a size it can have", actual, "The file is damaged.")
    with archive.open(info) as file:
        return _array(path, file, info.file_size)


def _array(path: Path, file: IO[bytes], num_bytes: int) -> np.ndarray:
    """Read one array of at most ``num_bytes``, checking the header before any memory is set aside."""
    shape, fortran, dtype = _npy_header(path, file)
    if dtype.hasobject:
        raise fail(str(path), "arrays of numbers", f"dtype {dtype}", "Python objects are never unpickled.")
    count = 1
    for side in shape:
        count *= side
    if count * dtype.itemsize > num_bytes or min(shape, default=0) < 0:
        raise fail(str(path), f"an array within {num_bytes} bytes", f"{dtype} {shape}", "The file is damaged.")
    content = file.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise fail(str(path), f"{count * dtype.itemsize} bytes of data", str(len(content)), "Is it truncated?")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _npy_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        return readers[version](file)
    except Exception as error:  # a damaged header can trip its parser in many ways
        raise fail(
            str(path), "an array in NumPy's format", " ".join(str(error).split())[:200], "The file is damaged."
        ) from error
