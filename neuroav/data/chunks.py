"""Steps that stay on disk: rows of a store's array, read chunk by chunk without HDF5 and without Python's lock.

HDF5 serialises all reading in a process, and unpacks under Python's lock, so that a training step would wait for it.
Here the chunks' addresses are asked for once; a row is then a read at an address, ISA-L's inflate (which compares
zlib's checksum) and an unshuffle, in whichever thread asks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuroav.checks import fail

if TYPE_CHECKING:
    import h5py

_CHECKSUM_BYTES = 4  # of the filter fletcher32, behind the stream


class StoredRows:
    """Flat rows ``(R, ...)`` of some clips, as an array that is read where it is sliced.

    Args:
        path: The store.
        dataset: An array of it, in chunks, shuffled and deflated.
        first: ``(n,)`` first row of each clip in ``dataset``.
        offsets: ``(n + 1,)`` its first row here.

    Attributes:
        shape: ``(R, ...)``.
        dtype: of a row.
    """

    def __init__(self, path: str | os.PathLike[str], dataset: h5py.Dataset, first: np.ndarray, offsets: np.ndarray):
        if not (dataset.chunks and dataset.shuffle and dataset.compression == "gzip"):
            raise ValueError(f"array {dataset.name!r} is not in shuffled, deflated chunks")
        self.path, self.dtype = Path(path), dataset.dtype
        self.shape: tuple[int, ...] = (int(offsets[-1]), *dataset.shape[1:])
        self._first, self._offsets, self._chunk = first, offsets, dataset.chunks
        self._trailer = _CHECKSUM_BYTES if dataset.fletcher32 else 0
        self._places = np.zeros((-(-len(dataset) // dataset.chunks[0]), 2), np.int64)

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            self._places[chunk.chunk_offset[0] // dataset.chunks[0]] = chunk.byte_offset, chunk.size

        dataset.id.chunk_iter(note)
        self._file = os.open(self.path, os.O_RDONLY)

    def __len__(self) -> int:
        return self.shape[0]

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read rows ``start:stop``.

        Raises:
            InputError: If a chunk is damaged or holds NaN or infinity.
        """
        start, stop, _ = rows.indices(len(self))
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        clip = int(np.searchsorted(self._offsets, start, side="right")) - 1
        while start < stop:
            end = min(stop, int(self._offsets[clip + 1]))
            source = int(self._first[clip]) + start - int(self._offsets[clip])
            self._read(source, out[len(out) - (stop - start) :][: end - start])
            start, clip = end, clip + 1
        return out

    def _read(self, row: int, out: np.ndarray) -> None:
        """Fill ``out`` with the rows of the file from ``row`` on."""
        filled = 0
        while filled < len(out):
            chunk, skip = divmod(row + filled, self._chunk[0])
            piece = self._unpack(chunk)[skip : skip + len(out) - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
        if not np.isfinite(out.sum(dtype=np.float64)):
            raise fail(str(self.path), "finite features", "NaN or infinity", "Write the store again.")

    def _unpack(self, chunk: int) -> np.ndarray:
        """One chunk, its last rows without meaning if it is the last."""
        from isal import isal_zlib
        from isal.igzip_lib import IsalError

        address, size = self._places[chunk].tolist()
        count = int(np.prod(self._chunk))
        try:
            packed = os.pread(self._file, size - self._trailer, address)
            planes = np.frombuffer(isal_zlib.decompress(packed), np.uint8).reshape(self.dtype.itemsize, count)
        except (IsalError, ValueError, OSError) as error:  # type: ignore[misc]  # its stub calls the class an instance
            found = f"a damaged one (chunk {chunk}: {error})"
            raise fail(str(self.path), "an intact feature store", found, "Delete it and write it again.") from error
        values = np.empty((count, self.dtype.itemsize), np.uint8)
        for k, plane in enumerate(planes):
            values[:, k] = plane
        return values.view(self.dtype).reshape(self._chunk)
