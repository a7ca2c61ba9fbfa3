"""The ``.bin`` files of N-MNIST and N-Caltech101: 5 bytes per event, big-endian. Only read.

8 bits each for ``x`` and ``y``, one for polarity, 23 for the time in microseconds. A row of 240 is no event but says
that the clock of the recorder has overflowed: 2^13 us are added to every later time. There is no header: the suffix
and a whole number of events are all that tells such a file, and the size of the sensor isn't in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import make_events
from neuroav.events.types import Events

OVERFLOW_ROW = 240


def read(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a ``.bin`` file; ``sensor_size`` is (34, 34) for N-MNIST, else the smallest that holds the events."""
    content = path.read_bytes()
    if len(content) % 5:
        raise fail(str(path), "events of 5 bytes (N-MNIST)", f"{len(content) % 5} bytes over; truncated?")
    byte = np.frombuffer(content, dtype=np.uint8).reshape(-1, 5).astype(np.int64)
    t = (byte[:, 2] & 0x7F) << 16 | byte[:, 3] << 8 | byte[:, 4]
    overflow = byte[:, 1] == OVERFLOW_ROW
    t, byte = (t + (np.cumsum(overflow) << 13))[~overflow], byte[~overflow]
    return make_events(path, t, byte[:, 0], byte[:, 1], byte[:, 2] >> 7, sensor_size)
