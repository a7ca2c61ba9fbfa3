"""What the HDF5 file of a feature store must be like: checked as it is read, so that damage is said, not passed on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroav.checks import NeuroavError, fail
from neuroav.data.blocks import MAGIC

if TYPE_CHECKING:
    import h5py

# What HDF5 and NumPy raise on damaged files.
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    MemoryError,
    OverflowError,
)
FORMAT = "neuroav-store"
VERSION = 2
# Each array of steps, its type, and the axes of one step.
MODALITIES: dict[str, tuple[type, tuple[str, ...]]] = {
    "t_s": (np.float32, ()),
    "video": (np.float32, ("D",)),
    "audio": (np.float32, ("D",)),
    "motion": (np.uint16, ("P", "h", "w")),
    "audio_t_s": (np.float32, ()),
}
OPTIONAL = ("motion", "audio_t_s")
TABLES = ("class_names", "class_vectors", "names", "labels", "parts", "offsets")
_READ_BYTES = 2**24
_GAP_ROWS = 32


def open_store(path: Path) -> h5py.File:
    import h5py

    what = "a feature store written by neuroav"
    if not path.is_file():
        raise fail(str(path), what, "a folder" if path.is_dir() else "no such file", _how_to_make(path))
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            raise fail(
                str(path), what, "an unfinished one", "Run the command that was writing it again; it will go on."
            )
    if not h5py.is_hdf5(path):
        raise fail(str(path), what, "a file that is not HDF5", "Check the path, or write the store again.")
    with damage(path):
        file = h5py.File(path, "r")
        try:
            _check_version(path, what, file)
        except BaseException:
            file.close()
            raise
    return file


def _check_version(path: Path, what: str, file: h5py.File) -> None:
    kind, version = text_attribute(file, "format"), file.attrs.get("version", 0)
    if kind == FORMAT and version != VERSION:
        remedy = "Install a newer neuroav." if version > VERSION else "Write it again."
        raise fail(str(path), f"a store of version {VERSION}", str(version), remedy)
    if kind != FORMAT:
        raise fail(str(path), what, f"HDF5 of format {kind!r}", "Check the path.")


def _how_to_make(path: Path) -> str:
    partial = Path(f"{path}.partial")
    if partial.exists():
        return f"{partial.name} lies there: run the command that was writing it again."
    return "neuroav extract makes one: of clips, with --from-avca or --from-tcaf of published features."


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with the content of a store into an :class:`InputError`."""
    try:
        yield
    except NeuroavError:
        raise
    except DAMAGE as error:
        text = " ".join(str(error).split())[:120] or type(error).__name__
        found = f"a damaged one ({text})"
        raise fail(str(path), "an intact feature store", found, "Delete it and write it again.") from error


def text_attribute(file: h5py.File, key: str) -> str:
    """Text of fixed length; one of variable length is not read, as libhdf5 may search a damaged heap for ever."""
    if key not in file.attrs or file.attrs.get_id(key).dtype.kind != "S":
        return ""
    value = file.attrs[key]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("its settings are no JSON object")
    return value


def read_table(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """A whole table of numbers or text, after comparing it with its checksum."""
    from neuroav.events.formats.hdf5 import check_stored

    check_stored(path, dataset)
    values = dataset[:]
    _compare_crc(dataset, zlib.crc32(values.tobytes()))
    if values.dtype.kind != "S":
        return values
    return np.array([text.decode("utf-8", "surrogateescape") for text in values.tolist()], str)


def check_crc(dataset: h5py.Dataset) -> None:
    """Read an array of steps in bounded pieces and compare it with its checksum."""
    crc, rows = 0, _rows_at_once(dataset)
    for start in range(0, len(dataset), rows):
        crc = zlib.crc32(dataset[start : start + rows].tobytes(), crc)
    _compare_crc(dataset, crc)


def _compare_crc(dataset: h5py.Dataset, crc: int) -> None:
    if crc != int(dataset.attrs["crc32"]):
        raise ValueError(f"array {dataset.name.lstrip('/')!r} differs from its checksum")


def check_steps(path: Path, key: str, dataset: h5py.Dataset, rows: int) -> None:
    from neuroav.events.formats.hdf5 import check_stored

    check_stored(path, dataset)
    dtype, axes = MODALITIES[key]
    if dataset.dtype != dtype or dataset.ndim != 1 + len(axes) or 0 in dataset.shape[1:]:
        raise ValueError(f"array {key!r} of another type or shape")
    if len(dataset) != rows:
        raise ValueError("its arrays differ in length")


def _rows_at_once(dataset: h5py.Dataset) -> int:
    return max(1, _READ_BYTES // (dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))))


def gather(dataset: h5py.Dataset, first: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Rows of clips that begin at ``first`` (n,), put to ``offsets`` (n + 1,); near ones are read together."""
    out = np.empty((offsets[-1], *dataset.shape[1:]), dataset.dtype)
    stops, most = first + np.diff(offsets), _rows_at_once(dataset)
    order, place = np.argsort(first, kind="stable"), 0
    while place < len(order):
        start, stop, after = int(first[order[place]]), int(stops[order[place]]), place + 1
        while after < len(order) and first[order[after]] <= stop + _GAP_ROWS and stops[order[after]] - start <= most:
            stop, after = max(stop, int(stops[order[after]])), after + 1
        piece = dataset[start:stop]
        for i in order[place:after]:
            out[offsets[i] : offsets[i + 1]] = piece[first[i] - start : stops[i] - start]
        place = after
    return out
