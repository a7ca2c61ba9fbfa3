"""Prophesee DAT files, version 2: 8 bytes per event, after the description at docs.prophesee.ai.

Holds times from 0 to 2^32 us (71 minutes) and sensors up to 16384x16384; both are refused rather than cut. The size of
the sensor is in files written here, but not in every file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import check_holds, check_size, event_arrays, make_events, unwrap
from neuroav.events.formats.prophesee import split_header
from neuroav.events.types import Events

MAX_SIDE, MAX_T_US = 1 << 14, 1 << 32
EVENT_TYPES = (0, 12)  # Event2d and EventCD, which share a layout


def read(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a DAT file; ``sensor_size`` counts if the file doesn't say."""
    fields, body = split_header(path.read_bytes())
    if fields.get("Version", "") not in ("1", "2"):
        raise fail(str(path), "a DAT file of version 2", f"version {fields.get('Version', 'not said')!r}")
    if body[:1] not in [bytes([code]) for code in EVENT_TYPES] or body[1:2] != b"\x08":
        raise fail(str(path), "events of type 0 or 12 and 8 bytes", f"header bytes {body[:2].hex() or 'missing'}")
    if (len(body) - 2) % 8:
        raise fail(str(path), "events of 8 bytes", f"{(len(body) - 2) % 8} bytes over; truncated?")
    words = np.frombuffer(body, dtype="<u4", offset=2).reshape(-1, 2)
    t, place = unwrap(words[:, 0], bits=32), words[:, 1]
    height, width = fields.get("Height", ""), fields.get("Width", "")
    if height.isdecimal() and width.isdecimal():
        sensor_size = check_size(path, int(height[:9]), int(width[:9]))
    return make_events(path, t, place & 0x3FFF, place >> 14 & 0x3FFF, place >> 28, sensor_size)


def write(path: Path, events: Events) -> None:
    """Write a DAT file."""
    check_holds(path, "DAT", events, MAX_T_US, MAX_SIDE)
    t, x, y, p = (column.astype(np.uint32) for column in event_arrays(events))
    height, width = events.sensor_size
    header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
    with path.open("wb") as file:
        file.write(header.encode() + bytes([EVENT_TYPES[1], 8]))
        file.write(np.column_stack([t, x | y << np.uint32(14) | p << np.uint32(28)]).astype("<u4").tobytes())
