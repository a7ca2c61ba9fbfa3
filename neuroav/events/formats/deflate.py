"""Chunks of numbers for HDF5's own filters "shuffle" and "deflate", packed several times faster than HDF5 does.

Shuffling gathers the k-th bytes of all values in a plane. Planes of constant or regular bytes are compressed with
ISA-L; planes that hardly shrink (the low bytes of ``x``, ``y`` and often ``t``) are stored as they are. Both are blocks
of one ordinary zlib stream, so any HDF5 reader opens the result.
"""

from __future__ import annotations

import numpy as np

from neuroav.kernels.planes import byte_planes

HEADER, LAST_BLOCK = b"\x78\x01", b"\x01\x00\x00\xff\xff"
LARGEST_STORED = (1 << 16) - 1
WORTH = 0.7  # a plane that stays larger than this share is stored,
STORED_RUN = 15  # in so many chunks, before it is tried again


class Packer:
    """Packs the chunks of one column, remembering which byte planes are worth compressing.

    Example:
        >>> import zlib
        >>> chunk = Packer().pack(np.arange(300, dtype="<u2"))
        >>> zlib.decompress(chunk) == bytes(k % 256 for k in range(300)) + bytes(256) + bytes([1] * 44)
        True
    """

    def __init__(self) -> None:
        from isal import isal_zlib

        self._zlib = isal_zlib
        self._deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
        self._stored_for = [0] * 8

    def pack(self, values: np.ndarray, width: int | None = None, offset: int = 0) -> bytes:
        """Return one chunk ``(N,)`` of integers as a zlib stream of its byte planes, the lowest first.

        Args:
            values: What is to be stored, more ``offset``.
            width: Bytes of a stored value; default those of ``values``.
            offset: Taken off all values.
        """
        check, pieces = 1, [HEADER]
        for index, row in enumerate(byte_planes(values, width or values.dtype.itemsize, offset)):
            plane = row.data
            check = self._zlib.adler32(plane, check)
            pieces += self._blocks(index, plane)
        return b"".join([*pieces, LAST_BLOCK, check.to_bytes(4, "big")])

    def _blocks(self, index: int, plane: memoryview) -> list:
        if self._stored_for[index]:
            self._stored_for[index] -= 1
            return stored_blocks(plane)
        # A full flush ends on a whole byte and forgets what came before, so each plane can be read by itself.
        pieces = [self._deflate.compress(plane), self._deflate.flush(self._zlib.Z_FULL_FLUSH)]
        if sum(map(len, pieces)) <= WORTH * len(plane):
            return pieces
        self._stored_for[index] = STORED_RUN
        return stored_blocks(plane)


def stored_blocks(plane: memoryview) -> list:
    """Return the pieces of deflate's stored blocks: a zero byte, the length, its complement, the bytes."""
    pieces: list = []
    for first in range(0, len(plane), LARGEST_STORED):
        part = plane[first : first + LARGEST_STORED]
        size = len(part).to_bytes(2, "little")
        pieces += [b"\0" + size + bytes(byte ^ 0xFF for byte in size), part]
    return pieces
