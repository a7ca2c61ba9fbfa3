"""The feature store: described clips of one data set in one HDF5 file, written so that a killed job can go on.

A finished store ("neuroav-store", version 1) holds, for ``N`` clips with ``R`` time steps in all::

    video (R, D_video) float32     audio (R, D_audio) float32     motion (R, P, h, w) uint16     t_s (R,) float32
    offsets (N + 1,) int64: clip i owns rows offsets[i]:offsets[i + 1] of each of the four
    audio_t_s (R_audio,) float32, audio_offsets (N + 1,) int64: only where audio has steps of its own; its rows are then
    counted by these. motion is missing where the clips have none.
    names, parts (N,) text         labels (N,) int64              extras/<key> (N,) int64, float64 or text
    class_names (K,) text          class_vectors (K, D_text) float32
    attributes: format, version, settings and provenance (JSON); every dataset carries its own crc32

While it is being written, the clips lie in ``<path>.partial``: a header, then one block per clip, each with its length
and CRC-32. A block cut short by a kill is dropped on the next start; everything before it counts as done. The HDF5 file
is made from the blocks at the end, under a temporary name, and renamed.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from neuroav.checks import check_shape, fail, nearest

if TYPE_CHECKING:
    import h5py

FORMAT = "neuroav-store"
VERSION = 1
MAGIC = b"neuroav-store-partial 1\n"
MODALITIES = {
    "t_s": np.float32,
    "video": np.float32,
    "audio": np.float32,
    "motion": np.uint16,
    "audio_t_s": np.float32,
}
_BLOCK_HEAD = struct.Struct("<QI")  # payload bytes, CRC-32 of the payload
_CHUNK_BYTES = 2**18
_READ_ROWS = 4096

Extra = int | float | str


@dataclass(frozen=True)
class ClipRecord:
    """One described clip.

    Attributes:
        name: Unique in its store.
        label: Class name.
        part: ``train``, ``val_seen``, ``val_unseen``, ``test_seen``, ``test_unseen``, or ``""`` where none is assigned.
        t_s: ``(T,)`` start of each step in seconds.
        video: ``(T, D_video)`` features.
        audio: ``(T, D_audio)`` features; ``(T_audio, D_audio)`` where ``audio_t_s`` is given.
        motion: ``(T, P, h, w)`` uint16 event counts, or ``None`` where there are no pixels.
        audio_t_s: ``(T_audio,)`` start of each audio step, if audio has steps of its own; else ``None``.
        extras: Further columns; every clip of a store has the same keys with values of the same type.
    """

    name: str
    label: str
    part: str
    t_s: np.ndarray
    video: np.ndarray
    audio: np.ndarray
    motion: np.ndarray | None = None
    extras: dict[str, Extra] = field(default_factory=dict)
    audio_t_s: np.ndarray | None = None


@dataclass(frozen=True)
class LoadedClips:
    """Clips in memory: the steps of all of them one after another; clip ``i`` owns rows ``offsets[i]:offsets[i + 1]``.

    Attributes:
        t_s: ``(R,)`` float32 seconds.
        video: ``(R, D_video)`` float32.
        audio: ``(R, D_audio)`` float32; ``(R_audio, D_audio)`` where audio has steps of its own.
        motion: ``(R, P, h, w)`` uint16, or ``None``.
        offsets: ``(n + 1,)`` int64.
        labels: ``(n,)`` int64 index into the store's ``class_names``.
        audio_t_s: ``(R_audio,)`` float32 seconds; left out: those of the video.
        audio_offsets: ``(n + 1,)`` int64; left out: those of the video.
    """

    t_s: np.ndarray
    video: np.ndarray
    audio: np.ndarray
    motion: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    audio_t_s: np.ndarray = None  # type: ignore[assignment]  # set below
    audio_offsets: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.audio_offsets is None:
            object.__setattr__(self, "audio_t_s", self.t_s)
            object.__setattr__(self, "audio_offsets", self.offsets)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, i: int) -> slice:
        """Rows of clip ``i`` in the flat arrays (in those of audio, if it has no steps of its own)."""
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))


class StoreWriter:
    """Writes a store clip by clip; an interrupted job goes on where it stopped.

    Leaving the ``with`` block normally completes the store and renames it to ``path``. After an exception, an
    interrupt or a kill, ``<path>.partial`` keeps every clip written so far: open the same writer again and skip the
    names in ``done``.

    Args:
        path: The store to write; must not exist yet.
        class_names: ``(K,)`` unique names.
        class_vectors: ``(K, D_text)`` finite values, one row per class.
        settings: How the clips are described (JSON values); a partial file is only taken up under equal settings.
        provenance: Where the clips come from (JSON values); not compared. A resumed store keeps the first one.

    Raises:
        InputError: If ``path`` exists, another process is writing it, or the partial file belongs to something else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "store.h5"
        >>> record = ClipRecord(
        ...     "a", "dog", "train", np.zeros(1), np.zeros((1, 2)), np.zeros((1, 3)), np.zeros((1, 2, 4, 4), np.uint16)
        ... )
        >>> with StoreWriter(path, class_names=["dog"], class_vectors=np.ones((1, 5))) as writer:
        ...     writer.write(record)
        >>> with Store(path) as store:
        ...     store.names, store.clip(0).video.shape
        (['a'], (1, 2))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        class_vectors: np.ndarray,
        settings: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
    ):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._class_vectors = _check_classes(str(path), class_names, class_vectors)
        self._header = {
            "class_names": list(class_names),
            "class_vectors": zlib.crc32(self._class_vectors.tobytes()),
            "settings": json.loads(json.dumps(settings or {})),
            "provenance": json.loads(json.dumps(provenance or {})),
        }
        self._known = set(class_names)
        self._clips: dict[str, dict[str, Any]] = {}  # name -> what the HDF5 tables need, in the order of writing
        if self.path.exists():
            raise fail(str(path), "no file of that name yet", "an existing one", "Delete it or choose another output.")
        if not self.path.parent.is_dir():
            raise fail(
                str(path), "an existing folder to write into", f"no folder {self.path.parent}", "Create it first."
            )
        self._file = _open_locked(self.partial)
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise

    @property
    def done(self) -> frozenset[str]:
        """Names already written, in this run or an earlier one."""
        return frozenset(self._clips)

    def write(self, record: ClipRecord) -> None:
        """Append one clip; it survives a kill of the process from here on.

        Raises:
            InputError: If the name is taken, the label is no class, a shape or type differs from the clips before, or
                a feature is NaN or infinite.
        """
        where = f"clip {record.name!r}"
        if record.name in self._clips:
            raise fail(where, "a name not written yet", "a second clip of that name", "Give every clip its own name.")
        if record.label not in self._known:
            raise fail(
                where, "a label among the class names", repr(record.label), nearest(record.label, sorted(self._known))
            )
        arrays = _check_arrays(where, record)
        clip = {
            "name": record.name,
            "label": record.label,
            "part": record.part,
            "length": len(arrays["t_s"]),
            "audio_length": len(arrays["audio"]),
            "shapes": {key: list(value.shape[1:]) for key, value in arrays.items()},
            "extras": {key: _plain(where, key, value) for key, value in record.extras.items()},
        }
        self._check_alike(where, clip)
        buffer = io.BytesIO()
        np.savez(buffer, clip=np.array(json.dumps(clip)), **arrays)
        _write_block(self._file, buffer.getvalue())
        self._clips[record.name] = clip

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._clips:
                self._finish()
            if kind is None or not self._clips:
                self.partial.unlink()
        finally:
            self._file.close()
        if kind is None and not self._clips:
            raise fail(str(self.path), "at least one clip", "none", "No store was written.")

    def _take_up(self) -> None:
        """Read what an earlier run left, drop a block cut short, or start a new partial file."""
        self._file.seek(0)
        blocks = _read_blocks(self._file, self.partial)
        first, end = next(blocks, b""), 0
        if first:
            there = json.loads(first)
            self._check_header(there)
            self._header = there
            end = self._file.tell()
        for payload in blocks:
            end = self._file.tell()
            clip = json.loads(np.load(io.BytesIO(payload), allow_pickle=False)["clip"].item())
            self._clips[clip["name"]] = clip
        self._file.truncate(end)
        self._file.seek(end)
        if not first:
            self._file.write(MAGIC)
            _write_block(self._file, json.dumps(self._header).encode())

    def _check_header(self, there: dict[str, Any]) -> None:
        remedy = f"Delete {self.partial} to start anew, or choose another output."
        differing = [key for key in ("class_names", "class_vectors") if there[key] != self._header[key]]
        differing += settings_difference(there["settings"], self._header["settings"])
        if differing:
            raise fail(
                str(self.partial), "an unfinished store of the same settings", "other " + ", ".join(differing), remedy
            )

    def _check_alike(self, where: str, clip: dict[str, Any]) -> None:
        if not self._clips:
            return
        first = next(iter(self._clips.values()))
        if clip["shapes"].keys() != first["shapes"].keys():
            raise fail(where, f"arrays {', '.join(first['shapes'])} as in the clips before", ", ".join(clip["shapes"]))
        for key, shape in clip["shapes"].items():
            if shape != first["shapes"][key]:
                raise fail(where, f"{key} steps of shape {tuple(first['shapes'][key])}", str(tuple(shape)))
        kinds, first_kinds = ({k: type(v).__name__ for k, v in c["extras"].items()} for c in (clip, first))
        if kinds != first_kinds:
            raise fail(where, f"extras of types {first_kinds}", str(kinds))

    def _finish(self) -> None:
        """Turn the blocks into the HDF5 file."""
        import h5py

        temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            with h5py.File(temporary, "w", rdcc_nbytes=2**24) as file:
                self._write_tables(file)
                self._write_steps(file)
                file.attrs.update(format=FORMAT, version=VERSION)
                for key in ("settings", "provenance"):
                    file.attrs[key] = json.dumps(self._header[key])
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _write_tables(self, file: h5py.File) -> None:
        clips = list(self._clips.values())
        index = {name: k for k, name in enumerate(self._header["class_names"])}
        tables: dict[str, Any] = {
            "class_names": self._header["class_names"],
            "class_vectors": self._class_vectors,
            "names": list(self._clips),
            "labels": np.array([index[clip["label"]] for clip in clips], np.int64),
            "parts": [clip["part"] for clip in clips],
            "offsets": _offsets(clip["length"] for clip in clips),
        }
        if "audio_t_s" in clips[0]["shapes"]:
            tables["audio_offsets"] = _offsets(clip["audio_length"] for clip in clips)
        for key in clips[0]["extras"]:
            tables[f"extras/{key}"] = [clip["extras"][key] for clip in clips]
        for key, values in tables.items():
            if isinstance(values, list):
                values = np.array(values, object if isinstance(values[0], str) else None)
            dtype = _text() if values.dtype == object else values.dtype
            dataset = file.create_dataset(key, data=values, dtype=dtype)
            dataset.attrs["crc32"] = _crc(dataset)

    def _write_steps(self, file: h5py.File) -> None:
        shapes = next(iter(self._clips.values()))["shapes"]
        offsets = {key: file[_clock(key, shapes)][:] for key in shapes}
        crcs = dict.fromkeys(shapes, 0)
        datasets = {}  # kept open: closing a dataset empties its chunk cache
        for key, shape in shapes.items():
            dtype, total = np.dtype(MODALITIES[key]), int(offsets[key][-1])
            rows = max(1, _CHUNK_BYTES // (dtype.itemsize * math.prod(shape)))
            chunks = (min(rows, total), *shape)
            datasets[key] = file.create_dataset(
                key, (total, *shape), dtype, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
            )
        self._file.seek(0)
        blocks = _read_blocks(self._file, self.partial)
        next(blocks)  # the header
        for i, payload in enumerate(blocks):
            block = np.load(io.BytesIO(payload), allow_pickle=False)
            for key, dataset in datasets.items():
                values = block[key]
                dataset[offsets[key][i] : offsets[key][i + 1]] = values
                crcs[key] = zlib.crc32(values, crcs[key])
        for key, dataset in datasets.items():
            dataset.attrs["crc32"] = crcs[key]


class Store:
    """A finished feature store, opened for reading.

    Attributes:
        class_names: ``K`` names.
        class_vectors: ``(K, D_text)`` float32.
        names: ``N`` clip names, in the order of writing.
        labels: ``(N,)`` int64 index into ``class_names``.
        parts: ``(N,)`` text, ``""`` where none was assigned.
        lengths: ``(N,)`` int64 time steps.
        audio_lengths: ``(N,)`` int64 time steps of the audio.
        extras: ``(N,)`` array per further column.
        settings: How the clips were described.
        provenance: Where they come from.

    Raises:
        InputError: If the file is missing, unfinished, damaged, of a newer version or something else; the text says
            what to do.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._file = _open_store(self.path)
        try:
            self._read_tables()
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            self._file.close()
            raise _damaged(self.path, error) from error

    def _read_tables(self) -> None:
        file = self._file
        self.settings: dict[str, Any] = json.loads(file.attrs["settings"])
        self.provenance: dict[str, Any] = json.loads(file.attrs["provenance"])
        self.class_names: list[str] = file["class_names"].asstr()[:].tolist()
        self.class_vectors: np.ndarray = file["class_vectors"][:]
        self.names: list[str] = file["names"].asstr()[:].tolist()
        self.labels: np.ndarray = file["labels"][:]
        self.parts: np.ndarray = _column(file["parts"])
        self._offsets: np.ndarray = file["offsets"][:]
        self.lengths: np.ndarray = np.diff(self._offsets)
        self._keys = [key for key in MODALITIES if key in file]
        self._audio_offsets: np.ndarray = file[_clock("audio", self._keys)][:]
        self.audio_lengths: np.ndarray = np.diff(self._audio_offsets)
        self.extras: dict[str, np.ndarray] = {key: _column(value) for key, value in file.get("extras", {}).items()}
        counts = {len(self.names), len(self.labels), len(self.parts), len(self.lengths), len(self.audio_lengths)}
        uneven = [key for key in self._keys if len(file[key]) != int(file[_clock(key, self._keys)][-1])]
        if len(counts) > 1 or uneven or not {"t_s", "video", "audio"} <= set(self._keys):
            raise ValueError("its arrays differ in length, or one is missing")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError("a label that is no class")

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, i: int) -> ClipRecord:
        """Read clip ``i`` (``0 <= i < N``)."""
        loaded = self.load([i])
        extras: dict[str, Extra] = {key: values[i].item() for key, values in self.extras.items()}
        steps = {key: getattr(loaded, key) for key in self._keys}
        return ClipRecord(self.names[i], self.class_names[self.labels[i]], str(self.parts[i]), **steps, extras=extras)

    def load(self, indices: Sequence[int] | np.ndarray | None = None) -> LoadedClips:
        """Read clips ``indices`` (default: all), in that order, into flat arrays; each part of the file once.

        Raises:
            InputError: If an index is outside ``[0, N)`` or the file is damaged.
        """
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices, np.int64).reshape(-1)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            bad = chosen[(chosen < 0) | (chosen >= len(self))][0]
            raise fail("Store.load", f"indices in [0, {len(self)})", str(bad))
        places = {name: _places(table, chosen) for name, table in self._clocks().items()}
        loaded: dict[str, Any] = {"motion": None, "labels": self.labels[chosen]}
        loaded |= {name: place[2] for name, place in places.items()}
        try:
            for key in self._keys:
                loaded[key] = _gather(self._file[key], *places[_clock(key, self._keys)][:2])
        except (OSError, RuntimeError) as error:
            raise _damaged(self.path, error) from error
        return LoadedClips(**loaded)

    def _clocks(self) -> dict[str, np.ndarray]:
        """The tables of offsets that this store has."""
        tables = {"offsets": self._offsets, "audio_offsets": self._audio_offsets}
        return {name: tables[name] for name in {_clock(key, self._keys) for key in self._keys}}

    def verify(self) -> None:
        """Read everything and compare each array with the checksum it was written with.

        Raises:
            InputError: Naming the first array that differs.
        """
        damaged: list[str] = []

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "shape") and _crc(item) != int(item.attrs["crc32"]):
                damaged.append(f"array {name!r} differs from its checksum")

        try:
            self._file.visititems(visit)
        except (OSError, KeyError, RuntimeError) as error:
            raise _damaged(self.path, error) from error
        if damaged:
            raise _damaged(self.path, damaged[0])

    def close(self) -> None:
        """Close the file; arrays already read stay."""
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def settings_difference(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say in words which settings of a store differ from those wanted now.

    Example:
        >>> settings_difference({"bin_s": 0.2, "rate": 16000}, {"bin_s": 0.5, "rate": 16000})
        ['bin_s (0.2 there, 0.5 now)']
    """
    keys = sorted(now.keys() | then.keys())
    return [f"{k} ({then.get(k)!r} there, {now.get(k)!r} now)" for k in keys if now.get(k) != then.get(k)]


def _check_classes(where: str, class_names: Sequence[str], class_vectors: np.ndarray) -> np.ndarray:
    repeated = [name for name, count in Counter(class_names).items() if count > 1]
    if repeated:
        raise fail(where, "unique class names", f"{repeated[0]!r} more than once")
    vectors = np.ascontiguousarray(class_vectors, np.float32)
    check_shape(where, "class_vectors", vectors, (len(class_names), "D_text"))
    if not np.isfinite(vectors).all():
        bad = class_names[int(np.argwhere(~np.isfinite(vectors))[0, 0])]
        raise fail(where, "finite class vectors", f"NaN or infinity in that of {bad!r}")
    return vectors


def _check_arrays(where: str, record: ClipRecord) -> dict[str, Any]:
    ranks = {"t_s": (), "video": ("D",), "audio": ("D",), "motion": ("P", "h", "w"), "audio_t_s": ()}
    audio_steps = len(record.t_s if record.audio_t_s is None else record.audio_t_s)
    arrays = {}
    for key, dtype in MODALITIES.items():
        if getattr(record, key) is None and key in ("motion", "audio_t_s"):
            continue
        value = np.asarray(getattr(record, key))
        check_shape(where, key, value, (audio_steps if key.startswith("audio") else len(record.t_s), *ranks[key]))
        if key == "motion" and value.dtype != np.uint16:
            raise fail(where, "motion as uint16 counts", str(value.dtype), "Clip to 65535 and convert.")
        arrays[key] = np.ascontiguousarray(value, dtype)
        bad = np.argwhere(~np.isfinite(arrays[key]))
        if len(bad):
            raise fail(
                where, f"finite {key} values", f"{len(bad)} NaN or infinite, the first at {tuple(bad[0].tolist())}"
            )
    if min(audio_steps, len(record.t_s)) == 0:
        raise fail(where, "at least one time step", "0")
    return arrays


def _plain(where: str, key: str, value: Any) -> Extra:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float | str):
        raise fail(where, f"extra {key!r} as int, float or text", type(value).__name__)
    return int(value) if isinstance(value, bool) else value


def _open_locked(path: Path) -> IO[bytes]:
    """Open for reading and appending under an exclusive lock (POSIX; elsewhere there is no lock)."""
    file = open(path, "a+b")  # noqa: SIM115 - the writer closes it
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino  # finished as we opened it
    except ImportError:
        taken = False
    except OSError:
        taken = True
    if taken:
        file.close()
        raise fail(
            str(path),
            "no other process writing it",
            "a file in use",
            "Wait for that process, or choose another output.",
        )
    return file


def _write_block(file: IO[bytes], payload: bytes) -> None:
    file.write(_BLOCK_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
    file.flush()


def _read_blocks(file: IO[bytes], path: Path) -> Iterator[bytes]:
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
        if len(payload) != length or zlib.crc32(payload) != crc:
            return
        yield payload


def _open_store(path: Path) -> h5py.File:
    import h5py

    what = "a feature store written by neuroav"
    if not path.is_file():
        raise fail(str(path), what, "a folder" if path.is_dir() else "no such file", _unfinished_hint(path))
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            raise fail(
                str(path), what, "an unfinished one", "Run the command that was writing it again; it will go on."
            )
    if not h5py.is_hdf5(path):
        raise fail(str(path), what, "a file that is not HDF5", "Check the path, or write the store again.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error
    kind, version = file.attrs.get("format"), file.attrs.get("version", 0)
    if kind != FORMAT or version > VERSION:
        file.close()
        if kind == FORMAT:
            raise fail(str(path), f"store version {VERSION} or lower", str(version), "Install a newer neuroav.")
        raise fail(str(path), what, f"HDF5 of format {kind!r}", "Check the path.")
    return file


def _unfinished_hint(path: Path) -> str:
    partial = path.with_name(path.name + ".partial")
    return f"{partial.name} lies there: run the command that was writing it again." if partial.exists() else ""


def _damaged(path: Path, reason: object) -> Exception:
    text = str(reason).splitlines()[0]
    return fail(str(path), "an intact feature store", f"a damaged one ({text})", "Delete it and write it again.")


def _text() -> Any:
    import h5py

    return h5py.string_dtype()


def _column(dataset: h5py.Dataset) -> np.ndarray:
    return dataset.asstr()[:].astype(str) if dataset.dtype == object else dataset[:]


def _crc(dataset: h5py.Dataset) -> int:
    """CRC-32 of an array's bytes in row-major order (text: UTF-8, ended by NUL), read in bounded pieces."""
    crc = 0
    for start in range(0, len(dataset), _READ_ROWS):
        values = dataset[start : start + _READ_ROWS]
        piece = b"".join(text + b"\0" for text in values) if dataset.dtype == object else values.tobytes()
        crc = zlib.crc32(piece, crc)
    return crc


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(list(lengths), dtype=np.int64)])


def _clock(key: str, keys: Container[str]) -> str:
    """Name of the offsets that count the rows of array ``key`` in a store with arrays ``keys``."""
    return "audio_offsets" if key.startswith("audio") and "audio_t_s" in keys else "offsets"


def _places(table: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the chosen clips in the file, the order that sorts them, and their offsets once loaded."""
    lengths = np.diff(table)[chosen]
    offsets = _offsets(lengths)
    source = np.repeat(table[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return source, np.argsort(source, kind="stable"), offsets


def _gather(dataset: h5py.Dataset, source: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows ``source`` of ``dataset``; ``order`` sorts them, so that each piece of the file is read once."""
    out = np.empty((len(source), *dataset.shape[1:]), dataset.dtype)
    ordered = source[order]
    for start in range(0, len(dataset), _READ_ROWS):
        low, high = np.searchsorted(ordered, [start, start + _READ_ROWS])
        if low == high:
            continue
        first, last = int(ordered[low]), int(ordered[high - 1]) + 1
        out[order[low:high]] = dataset[first:last][ordered[low:high] - first]
    return out
