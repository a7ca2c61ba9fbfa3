"""The unfinished store: a header, then one block per clip, each with its length and CRC-32.

A block cut short by a kill is dropped on the next start; everything before it counts as done.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from neuroav.checks import fail
from neuroav.files import WHOLE, writing
from neuroav.processes import took_lock

MAGIC = b"neuroav-store-partial 1\n"
_BLOCK_HEAD = struct.Struct("<QI")  # payload bytes, CRC-32 of the payload
_GO_ON = "Make room there, then run the same command again; it will go on."


def open_locked(path: Path) -> IO[bytes]:
    """Open for reading and appending under an exclusive lock (POSIX; elsewhere there is no lock)."""
    with room_for(path):
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - the writer closes it
    if not took_lock(file, path):
        file.close()
        raise fail(
            str(path),
            "no other process writing it",
            "a file in use",
            "Wait for that process, or choose another output.",
        )
    return file


def room_for(path: Path) -> AbstractContextManager[None]:
    """Say which file can't be written, and that nothing is lost."""
    return writing(path, WHOLE, _GO_ON)


def _write_all(file: IO[bytes], content: bytes) -> None:
    left = memoryview(content)
    while len(left):
        left = left[file.write(left) :]


def start(file: IO[bytes]) -> None:
    """Write what an unfinished store begins with."""
    _write_all(file, MAGIC)


def write_block(file: IO[bytes], payload: bytes) -> None:
    """Append one block."""
    _write_all(file, _BLOCK_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)


def read_blocks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the payload of each whole block; stop at the first one cut short."""
    size = os.fstat(file.fileno()).st_size
    magic = file.read(len(MAGIC))
    if not MAGIC.startswith(magic):
        raise fail(
            str(path), "an unfinished feature store", "another kind of file", "Move it away or choose another output."
        )
    while len(head := file.read(_BLOCK_HEAD.size)) == _BLOCK_HEAD.size:
        length, crc = _BLOCK_HEAD.unpack(head)
        payload = file.read(length) if length <= size - file.tell() else b""
        if not payload or len(payload) != length or zlib.crc32(payload) != crc:  # zeros are what a crash may leave
            return
        yield payload
