"""The feature store: described clips of one data set in one HDF5 file, read lazily and by any number of processes.

A store ("neuroav-store", version 2) holds, for ``N`` clips with ``R`` time steps in all::

    video (R, D_video) float32     audio (R, D_audio) float32     motion (R, P, h, w) uint16     t_s (R,) float32
    offsets (N + 1,) int64: clip i owns rows offsets[i]:offsets[i + 1] of each of the four
    names, parts (N,) text         labels (N,) int64              extras/<key> (N,) int64, float64 or text
    class_names (K,) text          class_vectors (K, D_text) float32
    attributes: format, version, settings and provenance (JSON), crc32 of both; every dataset carries its own crc32

``motion`` is absent where a data set has no pixels. Where audio has steps of its own (published sequences), ``audio``
has ``audio_t_s`` and ``audio_offsets`` beside it. Text is UTF-8 of a fixed length, padded by NUL. Tables are compared
with their checksums when the file is opened, steps by those of their chunks when they are read.

While it is being written, the clips lie in ``<path>.partial`` (:mod:`neuroav.data.blocks`). The HDF5 file is made from
them at the end, under a temporary name, and renamed; the disk holds both until then. Memory holds one clip, a chunk of
each array, and a row per clip of the tables.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import zlib
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neuroav.checks import NeuroavError, check_shape, fail, nearest
from neuroav.data import blocks
from neuroav.data.chunks import StoredRows
from neuroav.data.intact import (
    FORMAT,
    MODALITIES,
    OPTIONAL,
    TABLES,
    VERSION,
    check_crc,
    check_steps,
    damage,
    gather,
    json_object,
    open_store,
    read_table,
    text_attribute,
)

if TYPE_CHECKING:
    import h5py

    from neuroav.events.sink import FileSink

_CHUNK_BYTES = 2**18

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
        audio: ``(T, D_audio)`` features, or ``(T', D_audio)`` with ``audio_t_s``.
        motion: ``(T, P, h, w)`` uint16 event counts, or ``None`` where there are no pixels.
        extras: Further columns; every clip of a store has the same keys with values of the same type.
        audio_t_s: ``(T',)`` start of each step of ``audio`` in seconds; ``None``: the same as ``t_s``.
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
        video: ``(R, D_video)`` float32; :class:`~neuroav.data.chunks.StoredRows` where it stays on disk.
        audio: ``(R, D_audio)`` float32, likewise; ``(R_audio, D_audio)`` where audio has steps of its own.
        motion: ``(R, P, h, w)`` uint16, or ``None`` where there are no pixels.
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


class _Row(NamedTuple):
    """What the tables need of a clip that is written."""

    label: str
    part: str
    length: int
    audio_length: int
    extras: dict[str, Extra]


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
        OutputError: If the folder can't be written to or is full; what was written stays.

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
        if self.path.is_dir():
            raise fail(str(path), "a file to write", "a folder", "Give it a name, such as store.h5.")
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._class_vectors = _check_classes(str(path), class_names, class_vectors)
        self._header = {
            "class_names": list(class_names),
            "class_vectors": zlib.crc32(self._class_vectors.tobytes()),
            "settings": json.loads(json.dumps(settings or {})),
            "provenance": json.loads(json.dumps(provenance or {})),
        }
        self._known = set(class_names)
        self._clips: dict[str, _Row] = {}  # in the order of writing
        self._shapes: dict[str, list[int]] = {}  # of one step, the same for every clip
        if self.path.exists():
            raise fail(str(path), "no file of that name yet", "an existing one", "Delete it or choose another output.")
        if not self.path.parent.is_dir():
            raise fail(
                str(path), "an existing folder to write into", f"no folder {self.path.parent}", "Create it first."
            )
        self._file = blocks.open_locked(self.partial)
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise

    @property
    def done(self) -> Set[str]:
        """Names already written, in this run or an earlier one; the set grows with what is written."""
        return self._clips.keys()

    def write(self, record: ClipRecord) -> None:
        """Append one clip; it survives a kill of the process from here on.

        Raises:
            InputError: If the name is taken, the label is no class, a shape or type differs from the clips before, or
                a feature is NaN or infinite.
            OutputError: If there is no room.
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
        with blocks.room_for(self.partial):
            blocks.write_block(self._file, buffer.getvalue())
        self._add(clip)

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
        payloads = blocks.read_blocks(self._file, self.partial)
        first, end = next(payloads, b""), 0
        if first:
            there = json.loads(first)
            self._check_header(there)
            self._header = there
            end = self._file.tell()
        for payload in payloads:
            end = self._file.tell()
            self._add(json.loads(np.load(io.BytesIO(payload), allow_pickle=False)["clip"].item()))
        with blocks.room_for(self.partial):
            self._file.truncate(end)
            self._file.seek(end)
            if not first:
                blocks.start(self._file)
                blocks.write_block(self._file, json.dumps(self._header).encode())

    def _add(self, clip: dict[str, Any]) -> None:
        label, part = sys.intern(clip["label"]), sys.intern(clip["part"])
        audio_length = clip.get("audio_length", clip["length"])  # absent in what version 0.1 left
        self._clips[clip["name"]] = _Row(label, part, clip["length"], audio_length, clip["extras"])
        self._shapes = clip["shapes"]

    def _check_header(self, there: dict[str, Any]) -> None:
        remedy = f"Delete {self.partial} to start anew, or choose another output."
        differing = [key for key in ("class_names", "class_vectors") if there[key] != self._header[key]]
        differing += settings_difference(there["settings"], self._header["settings"])
        if differing:
            raise fail(
                str(self.partial), "an unfinished store of the same settings", "other " + ", ".join(differing), remedy
            )

    def _check_alike(self, where: str, clip: dict[str, Any]) -> None:
        for key in ("name", "part", *clip["extras"]):
            text = clip.get(key, clip["extras"].get(key))
            if isinstance(text, str) and "\0" in text:
                raise fail(where, f"{key} without NUL", repr(text))
        if not self._clips:
            return
        first = next(iter(self._clips.values()))
        if clip["shapes"].keys() != self._shapes.keys():
            raise fail(where, f"arrays {', '.join(self._shapes)} as before", ", ".join(clip["shapes"]))
        for key, shape in clip["shapes"].items():
            if shape != self._shapes[key]:
                raise fail(where, f"{key} steps of shape {tuple(self._shapes[key])}", str(tuple(shape)))
        kinds, first_kinds = (
            {k: type(v).__name__ for k, v in extras.items()} for extras in (clip["extras"], first.extras)
        )
        if kinds != first_kinds:
            raise fail(where, f"extras of types {first_kinds}", str(kinds))

    def _finish(self) -> None:
        """Turn the blocks into the HDF5 file."""
        from neuroav.events.sink import new_hdf5

        temporary = self.path.with_name(self.path.name + ".tmp")
        said = {key: json.dumps(self._header[key]).encode() for key in ("settings", "provenance")}
        try:
            with blocks.room_for(self.path):
                with new_hdf5(temporary, rdcc_nbytes=2**24) as (file, sink):
                    self._write_tables(file)
                    file.flush()
                    sink.check()  # offsets are read back
                    self._write_steps(file, sink)
                    file.attrs.update(
                        format=np.bytes_(FORMAT), version=VERSION, crc32=zlib.crc32(b"".join(said.values()))
                    )
                    for key, text in said.items():
                        file.attrs[key] = np.bytes_(text)
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
            "labels": np.array([index[clip.label] for clip in clips], np.int64),
            "parts": [clip.part for clip in clips],
            "offsets": _offsets([clip.length for clip in clips]),
        }
        if "audio_t_s" in self._shapes:
            tables["audio_offsets"] = _offsets([clip.audio_length for clip in clips])
        for key in clips[0].extras:
            tables[f"extras/{key}"] = [clip.extras[key] for clip in clips]
        for key, values in tables.items():
            if isinstance(values, list):
                values = _column(values)
            file.create_dataset(key, data=values).attrs["crc32"] = zlib.crc32(values.tobytes())

    def _write_steps(self, file: h5py.File, sink: FileSink) -> None:
        offsets, crcs, datasets = {}, dict.fromkeys(self._shapes, 0), {}  # datasets keep their chunk caches
        for key, shape in self._shapes.items():
            own = key.startswith("audio") and "audio_offsets" in file
            offsets[key] = file["audio_offsets" if own else "offsets"][:]
            dtype, num_rows = np.dtype(MODALITIES[key][0]), int(offsets[key][-1])
            rows = max(1, _CHUNK_BYTES // (dtype.itemsize * math.prod(shape)))
            datasets[key] = file.create_dataset(
                key,
                (num_rows, *shape),
                dtype,
                chunks=(min(rows, num_rows), *shape),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=True,
            )
        self._file.seek(0)
        payloads = blocks.read_blocks(self._file, self.partial)
        next(payloads)  # the header
        for i, payload in enumerate(payloads):
            block = np.load(io.BytesIO(payload), allow_pickle=False)
            for key, dataset in datasets.items():
                values = block[key]
                dataset[offsets[key][i] : offsets[key][i + 1]] = values
                crcs[key] = zlib.crc32(values, crcs[key])
            sink.check()
        for key, dataset in datasets.items():
            dataset.attrs["crc32"] = crcs[key]


class Store:
    """A finished feature store, opened for reading.

    A store may be pickled and used after a fork: each process opens the file for itself.

    Attributes:
        class_names: ``K`` names.
        class_vectors: ``(K, D_text)`` float32.
        names: ``N`` clip names, in the order of writing.
        labels: ``(N,)`` int64 index into ``class_names``.
        parts: ``(N,)`` text, ``""`` where none was assigned.
        lengths: ``(N,)`` int64 time steps.
        audio_lengths: ``(N,)`` int64 time steps of audio.
        extras: ``(N,)`` array per further column.
        settings: How the clips were described.
        provenance: Where they come from.

    Raises:
        InputError: If the file is missing, unfinished, damaged, of a newer version or something else; the text says
            what to do.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._file, self._process = open_store(self.path), os.getpid()
        try:
            with damage(self.path):
                self._read_tables()
        except NeuroavError:
            self._file.close()
            raise

    def _read_tables(self) -> None:
        file = self._file
        said = {key: text_attribute(file, key) for key in ("settings", "provenance")}
        if "crc32" in file.attrs and int(file.attrs["crc32"]) != zlib.crc32("".join(said.values()).encode()):
            raise ValueError("its settings differ from their checksum")
        self.settings: dict[str, Any] = json_object(said["settings"])
        self.provenance: dict[str, Any] = json_object(said["provenance"])
        extras = [f"extras/{key}" for key in file.get("extras", {})]
        self._shared = "audio_offsets" not in file
        keys = [*TABLES, *extras, *([] if self._shared else ["audio_offsets"])]
        tables = {key: read_table(self.path, file[key]) for key in keys}
        self.class_names: list[str] = tables["class_names"].tolist()
        self.class_vectors: np.ndarray = tables["class_vectors"]
        self.names: list[str] = tables["names"].tolist()
        self.labels: np.ndarray = tables["labels"]
        self.parts: np.ndarray = tables["parts"]
        self._offsets = {"video": tables["offsets"], "audio": tables["offsets" if self._shared else "audio_offsets"]}
        self.lengths: np.ndarray = np.diff(self._offsets["video"])
        self.audio_lengths: np.ndarray = np.diff(self._offsets["audio"])
        self.extras: dict[str, np.ndarray] = {key.removeprefix("extras/"): tables[key] for key in extras}
        self._keys = [key for key in MODALITIES if key in file or key not in OPTIONAL]
        _check_tables(self)
        for key in self._keys:
            check_steps(self.path, key, file[key], int(self._axis(key)[-1]))

    def _axis(self, key: str) -> np.ndarray:
        """Offsets of the clips in array ``key``."""
        return self._offsets["audio" if key.startswith("audio") else "video"]

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, i: int) -> ClipRecord:
        """Read clip ``i`` (``0 <= i < N``)."""
        loaded = self.load([i])
        extras: dict[str, Extra] = {key: values[i].item() for key, values in self.extras.items()}
        steps = {key: getattr(loaded, key) for key in self._keys}
        return ClipRecord(self.names[i], self.class_names[self.labels[i]], str(self.parts[i]), **steps, extras=extras)

    def load(self, indices: Sequence[int] | np.ndarray | None = None, most_bytes: float = math.inf) -> LoadedClips:
        """Read clips ``indices`` (default: all), in that order, into flat arrays; clips that lie close in one piece.

        Args:
            indices: Which clips.
            most_bytes: An array of ``video`` or ``audio`` that would be larger is left on disk, to be read where it is
                sliced (:class:`~neuroav.data.chunks.StoredRows`); such an array outlives the store.

        Raises:
            InputError: If an index is outside ``[0, N)`` or the file is damaged.
        """
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices, np.int64).reshape(-1)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            bad = chosen[(chosen < 0) | (chosen >= len(self))][0]
            raise fail("Store.load", f"indices in [0, {len(self)})", str(bad))
        loaded: dict[str, Any] = {"motion": None}
        file, offsets = self._opened(), {}
        with damage(self.path):
            for key in self._keys:
                axis = self._axis(key)
                lengths = np.diff(axis)[chosen]
                offsets[key] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
                row_bytes = file[key].dtype.itemsize * math.prod(file[key].shape[1:])
                on_disk = key in ("video", "audio") and row_bytes * int(offsets[key][-1]) > most_bytes
                place = (axis[chosen], offsets[key])
                loaded[key] = StoredRows(self.path, file[key], *place) if on_disk else gather(file[key], *place)
        if not self._shared:
            loaded["audio_offsets"] = offsets["audio"]
        return LoadedClips(**loaded, offsets=offsets["video"], labels=self.labels[chosen])

    def verify(self) -> None:
        """Read everything and compare each array with the checksum it was written with.

        Raises:
            InputError: Naming the first array that differs.
        """
        file = self._opened()
        with damage(self.path):
            for key in self._keys:
                check_crc(file[key])

    def _opened(self) -> h5py.File:
        """The file as this very process opened it."""
        if self._process != os.getpid():
            self._file, self._process = open_store(self.path), os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_file": None, "_process": None}

    def close(self) -> None:
        """Close the file; arrays already read stay."""
        if self._process == os.getpid():
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


def check_complete(
    path: str | os.PathLike[str], settings: dict[str, Any], class_names: Sequence[str], class_vectors: np.ndarray
) -> None:
    """Check that the finished store at ``path`` is what a command would write anew.

    Raises:
        InputError: If it is no store, damaged, or of other settings, classes or class vectors.
    """
    with Store(path) as store:
        differing = settings_difference(store.settings, settings)
        if store.class_names != list(class_names) or not np.array_equal(store.class_vectors, class_vectors):
            differing.append("classes or their vectors")
    if differing:
        remedy = "Delete it or choose another output."
        raise fail(str(path), "no store yet, or one of the same settings", f"other {', '.join(differing)}", remedy)


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
    arrays: dict[str, Any] = {}
    steps = {"video": len(record.t_s)}
    steps["audio"] = steps["video"] if record.audio_t_s is None else len(record.audio_t_s)
    for key, (dtype, axes) in MODALITIES.items():
        if key in OPTIONAL and getattr(record, key) is None:
            continue
        value = np.asarray(getattr(record, key))
        check_shape(where, key, value, (steps["audio" if key.startswith("audio") else "video"], *axes))
        if key == "motion" and value.dtype != np.uint16:
            raise fail(where, "motion as uint16 counts", str(value.dtype), "Clip to 65535 and convert.")
        if 0 in value.shape[1:]:
            raise fail(where, f"{key} steps of at least one value", str(value.shape))
        arrays[key] = np.ascontiguousarray(value, dtype)
        bad = np.argwhere(~np.isfinite(arrays[key]))
        if len(bad):
            raise fail(
                where, f"finite {key} values", f"{len(bad)} NaN or infinite, the first at {tuple(bad[0].tolist())}"
            )
    if min(steps.values()) == 0:
        raise fail(where, "at least one time step", "0")
    return arrays


def _plain(where: str, key: str, value: Any) -> Extra:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float | str):
        raise fail(where, f"extra {key!r} as int, float or text", type(value).__name__)
    return int(value) if isinstance(value, bool) else value


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _column(values: list[Any]) -> np.ndarray:
    """A column of numbers, or of text in UTF-8 of a fixed length, which is robust if the file is damaged later."""
    if not isinstance(values[0], str):
        return np.array(values)
    encoded = [text.encode("utf-8", "surrogateescape") for text in values]
    return np.array(encoded, f"S{max(1, *map(len, encoded))}")


def _check_tables(store: Any) -> None:
    """Lengths, types and ranges of what was read."""
    count, num_classes = len(store.names), len(store.class_names)
    columns = [store.labels, store.parts, store.lengths, store.audio_lengths, *store.extras.values()]
    if any(column.shape != (count,) for column in columns):
        raise ValueError("its arrays differ in length")
    if store.class_vectors.shape[:1] != (num_classes,) or store.class_vectors.ndim != 2:
        raise ValueError("class vectors of another shape")
    if store.labels.dtype.kind not in "iu" or store.class_vectors.dtype != np.float32:
        raise ValueError("a table of another type")
    if count and not 0 <= store.labels.min() <= store.labels.max() < num_classes:
        raise ValueError("a label that is no class")
    for offsets in store._offsets.values():
        if offsets.dtype != np.int64 or offsets[0] != 0 or (np.diff(offsets) < 1).any():
            raise ValueError("offsets that do not rise")
