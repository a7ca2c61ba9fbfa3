"""AEDAT 2.0 files of jAER: big-endian pairs of address and time behind lines that begin with ``#``. Only read.

Addresses are those of the DAVIS cameras (bit 31 clear for an event, bit 10 for special ones, ``y`` in bits 22..30,
``x`` in 12..21, polarity in 11). jAER counts columns from the right and rows from the bottom, so both are turned
round. The header's ``AEChip`` gives the camera and so the size; frames, inertial data and special events are passed
over. The signed clock of 32 bits overflows at 36 minutes, which is undone.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import check_size, make_events
from neuroav.events.types import Events

MAGIC = b"#!AER-DAT2.0"
CHIPS = {"240": (180, 240), "346": (260, 346), "640": (480, 640), "208": (192, 208), "128": (128, 128)}


def read(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read an AEDAT 2 file; ``sensor_size`` counts before that of the camera named in the header."""
    content = path.read_bytes()
    header = re.match(rb"(?:#[^\n]*\n)*", content)
    place = header.end() if header else 0
    height, width = check_size(path, *(sensor_size or _chip_size(path, content[:place].decode("latin-1"))))
    if (len(content) - place) % 8:
        raise fail(str(path), "events of 8 bytes", f"{(len(content) - place) % 8} bytes over; truncated?")
    words = np.frombuffer(content, dtype=">u4", offset=place).reshape(-1, 2)
    address, time = words[:, 0].astype(np.uint32), words[:, 1].astype(np.uint32).view(np.int32).astype(np.int64)
    wraps = np.cumsum(np.diff(time, prepend=time[:1]) < -(1 << 31))  # from the largest int32 to the smallest
    chosen = (address & (1 << 31 | 1 << 10)) == 0
    address, t = address[chosen], (time + (wraps << 32))[chosen]
    x = width - 1 - (address >> 12 & 0x3FF).astype(np.int64)
    y = height - 1 - (address >> 22 & 0x1FF).astype(np.int64)
    return make_events(path, t, x, y, address >> 11 & 1, (height, width))


def _chip_size(path: Path, header: str) -> tuple[int, int]:
    chip = re.search(r"AEChip: *(\S*)", header)
    name = chip[1].rsplit(".", 1)[-1] if chip else ""
    found = re.search(r"davis\D{0,4}(\d{3})", name, re.IGNORECASE)
    if found is None or found[1] not in CHIPS:
        remedy = "Say the sensor's size: --size HxW, or read_events(..., sensor_size=(H, W))."
        raise fail(str(path), "a DAVIS camera of known size in the header", repr(name or "no AEChip"), remedy)
    return CHIPS[found[1]]
