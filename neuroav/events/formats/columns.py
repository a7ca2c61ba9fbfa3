"""Between the arrays of a file and :class:`~neuroav.events.types.Events`: what every format checks, once."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from neuroav.checks import fail
from neuroav.events.types import Events

MAX_SIDE = 1 << 15  # rows and columns are int16
MAX_TIME_US = 1 << 62
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t_us, x, y, p


def make_events(
    path: Path,
    t_us: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    sensor_size: tuple[int, int] | None,
    is_noise: np.ndarray | None = None,
) -> Events:
    """Check the columns of a file and return them as events.

    Events out of time order, as real sensors record a few, are sorted by time, stably, and counted in a warning; at
    equal times the order of the file stays.

    Args:
        path: The file, for messages.
        t_us: ``(E,)`` integers, microseconds.
        x: ``(E,)`` integers.
        y: ``(E,)`` integers.
        p: ``(E,)``: 0 or 1, or -1 or 1.
        sensor_size: ``(H, W)``; ``None`` if the file doesn't say: then just large enough for the events.
        is_noise: ``(E,)`` labels 0 or 1.

    Raises:
        InputError: If the columns differ in length, a pixel lies outside the sensor, or a value is no time or polarity.

    Warns:
        UserWarning: If events had to be sorted.
    """
    if is_noise is not None and (is_noise.dtype.kind not in "iub" or is_noise.ndim != 1):
        raise fail(str(path), "is_noise of shape (E,) and an integer type", f"{is_noise.dtype} {is_noise.shape}")
    columns = {"t": t_us, "x": x, "y": y, "p": p} | ({} if is_noise is None else {"is_noise": is_noise})
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise fail(str(path), "columns of one length", lengths)
    size = _sensor_size(path, x, y, sensor_size)
    polarity = _polarity(path, p)
    if len(t_us) and not -MAX_TIME_US < int(t_us.min()) <= int(t_us.max()) < MAX_TIME_US:
        raise fail(str(path), "times in microseconds", f"{int(t_us.min())} to {int(t_us.max())}")
    times = t_us.astype(np.int64, copy=False)
    order = _time_order(path, times)
    arrays: list[np.ndarray] = [times, x.astype(np.int16, copy=False), y.astype(np.int16, copy=False), polarity]
    if is_noise is not None:
        low, high = (int(is_noise.min()), int(is_noise.max())) if len(is_noise) else (0, 1)
        if not 0 <= low <= high <= 1:
            raise fail(str(path), "labels 0 and 1 in is_noise", f"values from {low} to {high}")
        arrays.append(is_noise.astype(np.uint8, copy=False))
    ordered = (array if order is None else array[order] for array in arrays)
    owned = (array if array.flags.owndata and array.flags.writeable else array.copy() for array in ordered)
    t, column, row, sign, *labels = (torch.from_numpy(array) for array in owned)
    return Events(t, column, row, sign, size, *labels)


def event_arrays(events: Events) -> Columns:
    """Return ``t_us, x, y, p`` as arrays, without copying."""
    return events.t_us.numpy(), events.x.numpy(), events.y.numpy(), events.p.numpy()


def check_size(path: Path, height: int, width: int) -> tuple[int, int]:
    """Return ``(height, width)`` as a file states it, or refuse it."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise fail(str(path), f"a sensor with sides in [1, {MAX_SIDE}]", f"{height} rows and {width} columns")
    return height, width


def check_holds(path: Path, what: str, events: Events, max_t_us: int, max_side: int = MAX_SIDE) -> None:
    """Refuse to write events that a format can't hold: times in ``[0, max_t_us)`` and sides up to ``max_side``."""
    remedy = "Shift the times (--from-zero), or write HDF5 (.h5)."
    if len(events) and not 0 <= int(events.t_us[0]) <= int(events.t_us[-1]) < max_t_us:
        actual = f"{int(events.t_us[0])} to {int(events.t_us[-1])}"
        raise fail(str(path), f"times from 0 to {max_t_us - 1} us, as {what} holds no others", actual, remedy)
    if max(events.sensor_size) > max_side:
        height, width = events.sensor_size
        raise fail(str(path), f"at most {max_side} rows and columns, as {what} holds no more", f"{height}x{width}")


def unwrap(counter: np.ndarray, bits: int) -> np.ndarray:
    """Undo the overflows of a counter of ``bits`` bits: a fall by at least half its range is one.

    Example:
        >>> unwrap(np.array([250, 255, 3, 2, 4]), bits=8).tolist()
        [250, 255, 259, 258, 260]
    """
    counter = counter.astype(np.int64)
    wrapped = np.diff(counter, prepend=counter[:1]) <= -(1 << (bits - 1))
    return counter + (np.cumsum(wrapped) << bits)


def _sensor_size(path: Path, x: np.ndarray, y: np.ndarray, stated: tuple[int, int] | None) -> tuple[int, int]:
    if len(x) == 0:
        return (1, 1) if stated is None else check_size(path, *stated)
    low, bottom, right = min(int(x.min()), int(y.min())), int(y.max()), int(x.max())
    height, width = check_size(path, *(stated or (max(bottom, 0) + 1, max(right, 0) + 1)))
    if low < 0 or bottom >= height or right >= width:
        actual = f"x from {int(x.min())} to {right}, y from {int(y.min())} to {bottom}"
        raise fail(str(path), f"events on a sensor of {height}x{width} (rows x columns)", actual)
    return height, width


def _polarity(path: Path, p: np.ndarray) -> np.ndarray:
    low, high = (int(p.min()), int(p.max())) if len(p) else (0, 1)
    if low < -1 or high > 1 or (low == -1 and bool((p == 0).any())):
        raise fail(str(path), "polarity 0 and 1, or -1 and 1", f"values from {low} to {high}")
    return (p > 0).view(np.uint8)


def _time_order(path: Path, t_us: np.ndarray) -> np.ndarray | None:
    backwards = int(np.count_nonzero(t_us[1:] < t_us[:-1]))
    if not backwards:
        return None
    warnings.warn(f"{path}: times run backwards at {backwards} of {len(t_us)} events; sorted by time", stacklevel=4)
    return np.argsort(t_us, kind="stable")
