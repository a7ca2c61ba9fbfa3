"""A file for writers in C that can't bear a failed write."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from neuroav import interrupts


class FileSink(io.FileIO):
    """A new file whose writes never seem to fail; once one has, nothing more is written and ``check`` says so.

    libhdf5 and libav write on while an error closes their files, and fault if that fails too (on a full disk, say).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, FileSink(Path(folder) / "one") as sink:
        ...     sink.write(b"four")
        4
    """

    def __init__(self, path: str | Path):
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data``, unless something has failed."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and self._error is None:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file, unless something has failed."""
        try:
            return (size or 0) if self._error else super().truncate(size)
        except OSError as error:
            self._error = error
            return size or 0

    def check(self) -> None:
        """Raise what has failed, if anything has."""
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Close the file; raise what has failed unless something else is on its way."""
        self.close()
        if kind is None:
            self.check()

    def __del__(self) -> None:
        self.close()


@contextmanager
def new_hdf5(path: Path, **options: Any) -> Iterator[tuple[Any, FileSink]]:
    """Open a new HDF5 file; yield the ``h5py.File`` and what it writes to.

    An interrupt waits until the file is open: one that h5py has half opened is closed with the interpreter only, and
    then its sink has gone.
    """
    import h5py

    with FileSink(path) as sink, ExitStack() as stack:
        with interrupts.held():
            file = stack.enter_context(h5py.File(sink, "w", **options))
        yield file, sink
