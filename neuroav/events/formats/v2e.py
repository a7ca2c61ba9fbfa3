"""HDF5 files as v2e writes them: a dataset ``events`` ``(E, 4)`` uint32 of ``t`` (us), ``x``, ``y`` and ``p``.

Holds times from 0 to 2^32 us (71 minutes), which is refused rather than cut. v2e's own files don't say the sensor's
size unless they hold frames; files written here carry it as attribute ``sensor_size``, which other readers pass over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import check_holds, check_size, event_arrays, make_events
from neuroav.events.sink import new_hdf5
from neuroav.events.types import Events

MAX_T_US = 1 << 32
CHUNK_EVENTS = 1 << 14


def is_v2e(file: Any) -> bool:
    """Whether an open ``h5py.File`` is laid out so."""
    events = file.get("events")
    return getattr(events, "ndim", 0) == 2 and events.shape[1] == 4


def read_file(path: Path, file: Any, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read an open ``h5py.File``; ``sensor_size`` counts if the file doesn't say."""
    from neuroav.events.formats.hdf5 import check_stored, size_attribute

    dataset = file["events"]
    check_stored(path, dataset)
    if dataset.dtype.kind not in "iu":
        raise fail(str(path), "events of an integer type", str(dataset.dtype))
    stated = size_attribute(path, dataset)
    frames = file.get("frame")
    if stated is None and getattr(frames, "ndim", 0) == 3:
        stated = check_size(path, *frames.shape[1:])
    t, x, y, p = dataset[:].T
    return make_events(path, t, x, y, p, stated or sensor_size)


def write(path: Path, events: Events) -> None:
    """Write a file that v2e's own tools read."""
    check_holds(path, "v2e's HDF5", events, MAX_T_US)
    table = np.column_stack([column.astype(np.uint32) for column in event_arrays(events)])
    with new_hdf5(path) as (file, _):
        dataset = file.create_dataset("events", data=table, chunks=(CHUNK_EVENTS, 4), maxshape=(None, 4), shuffle=True,
                                      compression="gzip", compression_opts=1)  # fmt: skip
        dataset.attrs["sensor_size"] = events.sensor_size
