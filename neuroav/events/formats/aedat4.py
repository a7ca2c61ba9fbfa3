"""AEDAT 4.0 files of iniVation's DV software: packets of events behind a header, each a compressed FlatBuffer.

Holds every time and size that :class:`~neuroav.events.types.Events` can have. Written here: one stream of events,
packets of at most 65,536 compressed with LZ4, and no table of packets at the end (readers then walk through the file).
Read: every stream of events, in the order of the file (frames, inertial data and triggers are passed over); Zstandard
needs the package ``zstandard``. The few FlatBuffer tables are taken apart here with every offset checked, as a file
may be damaged. Layout after the schemas that DV publishes (``ioheader.fbs``, ``events.fbs``).
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import check_size, event_arrays, make_events
from neuroav.events.types import Events

MAGIC = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12],
                  "itemsize": 16})  # fmt: skip
NONE, LZ4, LZ4_HIGH, ZSTD, ZSTD_HIGH = range(5)
PACKET_EVENTS = 1 << 16
MAX_PACKET_BYTES = 1 << 28  # DV's packets hold milliseconds, not gigabytes
PIECE_BYTES = 1 << 22


class _Buffer:
    """A size-prefixed FlatBuffer, read with every access checked."""

    def __init__(self, path: Path, content: bytes, identifier: bytes):
        self.path, self.content = path, content
        if content[8:12] != identifier:
            raise self._damaged(f"identifier {content[8:12]!r}")
        self.root = 4 + self.number("<I", 4)

    def number(self, kind: str, place: int) -> int:
        if not 0 <= place <= len(self.content) - struct.calcsize(kind):
            raise self._damaged(f"an offset of {place} in {len(self.content)} bytes")
        return struct.unpack_from(kind, self.content, place)[0]

    def field(self, index: int) -> int | None:
        """Return where field ``index`` of the root table lies; ``None`` if it has its default."""
        table = self.root - self.number("<i", self.root)
        if 4 + 2 * index >= self.number("<H", table):
            return None
        offset = self.number("<H", table + 4 + 2 * index)
        return self.root + offset if offset else None

    def vector(self, index: int, item_bytes: int) -> tuple[int, int]:
        """Return start and length of the vector in field ``index``; an absent one is empty."""
        place = self.field(index)
        if place is None:
            return 0, 0
        start = place + self.number("<I", place)
        length = self.number("<I", start)
        if start + 4 + length * item_bytes > len(self.content):
            raise self._damaged(f"{length} items of {item_bytes} bytes in {len(self.content)} bytes")
        return start + 4, length

    def _damaged(self, actual: str) -> Exception:
        return fail(str(self.path), "FlatBuffer packets of AEDAT 4", actual, "The file is damaged.")


def read(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read the events of an AEDAT 4 file."""
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        raise fail(str(path), f"a file that begins with {MAGIC.decode().strip()}", repr(content[: len(MAGIC)]))
    header_bytes = 4 + int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4], "little")
    start = len(MAGIC) + header_bytes
    if len(content) < start:
        raise fail(str(path), f"a header of {header_bytes} bytes", f"{len(content) - len(MAGIC)} bytes; truncated?")
    header = _Buffer(path, content[len(MAGIC) : start], b"IOHE")
    code, table = header.field(0), header.field(1)
    compression = NONE if code is None else header.number("<i", code)
    table_place = -1 if table is None else header.number("<q", table)
    text, length = header.vector(2, 1)
    streams = _event_streams(path, header.content[text : text + length])
    stop = table_place if start <= table_place <= len(content) else len(content)
    packets = [
        _packet_events(path, _decompressed(path, packet, compression))
        for stream, packet in _packets(path, content, start, stop)
        if stream in streams
    ]
    events = np.concatenate([np.empty(0, dtype=EVENT), *packets])
    sizes = [size for size in streams.values() if size is not None]
    largest = (max(h for h, _ in sizes), max(w for _, w in sizes)) if sizes else sensor_size
    return make_events(path, events["t"], events["x"], events["y"], events["p"], largest)


def write(path: Path, events: Events) -> None:
    """Write one stream of events."""
    import lz4.frame

    t, x, y, p = event_arrays(events)
    records = np.zeros(len(t), dtype=EVENT)
    records["t"], records["x"], records["y"], records["p"] = t, x, y, p
    height, width = events.sensor_size
    info = _INFO.format(height=height, width=width).encode()
    # Tables begin with the distance back to their list of fields: sizes of list and table, then each field's place.
    fields = struct.pack("<4s6xHHHHH", b"IOHE", 10, 20, 4, 12, 8)
    header = struct.pack("<I", 24) + fields + struct.pack("<iiIqI", 10, LZ4, 12, -1, len(info)) + info + b"\0"
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<I", len(header)) + header)
        for first in range(0, len(records), PACKET_EVENTS):
            part = records[first : first + PACKET_EVENTS]
            body = struct.pack("<I4sHHHxxiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(part)) + part.tobytes()
            packet = lz4.frame.compress(struct.pack("<I", len(body)) + body)
            file.write(struct.pack("<ii", 0, len(packet)) + packet)


_INFO = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">\
<node name="0" path="/mainloop/Recorder/outInfo/0/">\
<attr key="compression" type="string">LZ4</attr>\
<attr key="originalModuleName" type="string">neuroav</attr>\
<attr key="originalOutputName" type="string">events</attr>\
<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>\
<attr key="typeIdentifier" type="string">EVTS</attr>\
<node name="info" path="/mainloop/Recorder/outInfo/0/info/">\
<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr>\
<attr key="source" type="string">neuroav</attr><attr key="tsOffset" type="long">0</attr>\
</node></node></node></dv>
"""


def _event_streams(path: Path, text: bytes) -> dict[int, tuple[int, int] | None]:
    """Return the sensor's size for each stream of events, by its number."""
    try:
        if b"<!" in text:
            raise ElementTree.ParseError("a document type, which DV never writes")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise fail(str(path), "a description in XML", f"something else ({error})", "The file is damaged.") from error
    streams: dict[int, tuple[int, int] | None] = {}
    for node in root.iterfind("./node[@name='outInfo']/node"):
        values = {attribute.get("key"): attribute.text or "" for attribute in node.iter("attr")}
        number = node.get("name", "")
        if values.get("typeIdentifier") != "EVTS" or not re.fullmatch(r"\d{1,9}", number):
            continue
        sides = (values.get("sizeY", ""), values.get("sizeX", ""))
        known = all(re.fullmatch(r"\d{1,9}", side) for side in sides)
        streams[int(number)] = check_size(path, int(sides[0]), int(sides[1])) if known else None
    if not streams:
        raise fail(str(path), "a stream of events", "none in the file's description")
    return streams


def _packets(path: Path, content: bytes, place: int, stop: int) -> Iterator[tuple[int, bytes]]:
    while place < stop:
        stream, size = struct.unpack_from("<ii", content, place) if place + 8 <= stop else (0, -1)
        if not 0 <= size <= stop - place - 8:
            raise fail(str(path), f"a packet at byte {place}", "fewer bytes than it needs; truncated or damaged?")
        yield stream, content[place + 8 : place + 8 + size]
        place += 8 + size


def _decompressed(path: Path, packet: bytes, compression: int) -> bytes:
    """Inflate a packet piece by piece, so that a damaged one can't ask for more memory than it is worth."""
    if compression == NONE:
        return packet
    if compression in (LZ4, LZ4_HIGH):
        pieces = _lz4_pieces(path, packet)
    elif compression in (ZSTD, ZSTD_HIGH):
        pieces = _zstandard_pieces(path, packet)
    else:
        raise fail(str(path), "compression 0 to 4 (none, LZ4 or Zstandard)", str(compression))
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MAX_PACKET_BYTES:
            raise fail(str(path), f"packets of at most {MAX_PACKET_BYTES} bytes", "more", "The file is damaged.")
    return bytes(content)


def _lz4_pieces(path: Path, packet: bytes) -> Iterator[bytes]:
    import lz4.frame

    try:
        inflater = lz4.frame.LZ4FrameDecompressor()
        yield inflater.decompress(packet, max_length=PIECE_BYTES)
        while not inflater.eof:
            piece = inflater.decompress(b"", max_length=PIECE_BYTES)
            if not piece and inflater.needs_input:
                raise RuntimeError("a packet that doesn't end")
            yield piece
    except (RuntimeError, ValueError, EOFError, MemoryError) as error:
        raise fail(str(path), "packets compressed with LZ4", str(error), "The file is damaged.") from error


def _zstandard_pieces(path: Path, packet: bytes) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise fail(str(path), "the package zstandard, to read this file", "none", "pip install zstandard") from error
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_PACKET_BYTES).stream_reader(packet) as reader:
            while piece := reader.read(PIECE_BYTES):
                yield piece
    except zstandard.ZstdError as error:
        raise fail(str(path), "packets compressed with Zstandard", str(error), "The file is damaged.") from error


def _packet_events(path: Path, content: bytes) -> np.ndarray:
    start, length = _Buffer(path, content, b"EVTS").vector(0, EVENT.itemsize)
    return np.frombuffer(content, dtype=EVENT, count=length, offset=start) if length else np.empty(0, dtype=EVENT)
