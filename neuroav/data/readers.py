"""The published feature archives of audio-visual zero-shot learning, read clip by clip and by class name.

Two layouts are known, both below one folder per data set (UCF, ActivityNet, VGGSound)::

    class-split/all_class.txt                                     one original class name per line
    class-split/<set>_w2v_class_names.csv                         columns original, manual: names of the word vectors
    class-split/{main_split,cls_split}/stage_*.txt                the classes of each part
    features/<features>/{audio,video}/stage_*/<class>.{h5,pkl}    the clips of one class and part
    features/<features>/text/word_embeddings_<set>_normed.npy     a word vector for each manual name

``AVERAGED`` is AVCA's [avca]: one vector per clip, ``.h5`` with ``data`` (n, D) and ``video_urls`` (n,). ``SEQUENCES``
is TCaF's [tcaf]: a vector per step, ``.pkl`` with lists ``features``, ``video_names`` and ``fps``; audio and video have
steps and lengths of their own.

What the released loaders do besides, and this one does not: they take rows in the order of the directory listing (here:
classes by name, then rows as stored), keep the text of a bytes literal as a clip's name (``b'v_1'``), and give a class
the word vector at its place instead of its own (``text_order="legacy"``, :func:`ordered_vectors`). The folders
``stage_2_train`` hold clips of the three parts of stage 1 again and are not read, as there.
"""

from __future__ import annotations

import csv
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neuroav.checks import NeuroavError, check_choice, fail, nearest
from neuroav.data.intact import DAMAGE
from neuroav.data.unpickle import load_object_npy, load_pickle
from neuroav.data.vectors import ClassVectors

STAGES = {
    "train": "stage_1_train",
    "val_seen": "stage_1_val_seen",
    "val_unseen": "stage_1_val_unseen",
    "test_seen": "stage_2_test_seen",
    "test_unseen": "stage_2_test_unseen",
}
MODALITIES = ("audio", "video")
TEXT_ORDERS = ("by_name", "legacy")
FEATURES = ("main", "cls")
C3D_FRAMES = 16
VGGISH_S, SELAVI_S = 0.96, 1.0
_MAX_TEXT_BYTES = 1 << 20
_REMEDY = "Fetch or unpack the archive again."


@dataclass(frozen=True)
class Benchmark:
    """What differs between the three published data sets.

    Attributes:
        folder: Name of its folder.
        names_csv: File that maps original class names to those of the word vectors.
        vectors_npy: File of the word vectors.
        any_case: Whether files and lists may write a class name in another case.
    """

    folder: str
    names_csv: str
    vectors_npy: str
    any_case: bool

    def key(self, name: str) -> str:
        """What two spellings of one class share."""
        return name.lower() if self.any_case else name


BENCHMARKS = {
    "ucf": Benchmark("UCF", "ucf_w2v_class_names.csv", "word_embeddings_ucf_normed.npy", True),
    "activitynet": Benchmark(
        "ActivityNet", "activitynet_w2v_class_names.csv", "word_embeddings_activity_normed.npy", True
    ),
    "vggsound": Benchmark("VGGSound", "vggsound_w2v_class_names.csv", "word_embeddings_vggsound_normed.npy", False),
}


@dataclass(frozen=True)
class PublishedClip:
    """The features of one clip.

    Attributes:
        name: As published, ``v_Archery_g01_c01`` for example.
        label: Original class name.
        part: Key of :data:`STAGES`.
        audio: ``(T, D_audio)`` float32.
        audio_t_s: ``(T,)`` start of each step in seconds.
        video: ``(T', D_video)`` float32; ``T'`` is ``T`` only by chance.
        video_t_s: ``(T',)``.
    """

    name: str
    label: str
    part: str
    audio: np.ndarray
    audio_t_s: np.ndarray
    video: np.ndarray
    video_t_s: np.ndarray


@dataclass(frozen=True)
class ClassFiles:
    """The two files of one class in one part."""

    part: str
    label: str
    audio: Path
    video: Path


@dataclass(frozen=True)
class ModalityRows:
    """What one file holds: the clips' names, the features ``(T, D)`` of each, and the seconds between its steps."""

    names: list[str]
    values: Sequence[np.ndarray] | np.ndarray
    step_s: Sequence[float]


class Averaged:
    """The layout of AVCA [avca]: one vector per clip and modality."""

    name, suffix = "averaged", ".h5"
    folders: ClassVar = {"main": "main_features", "cls": "cls_features"}

    def read(self, path: Path, modality: str, features: str) -> ModalityRows:
        """Read one file."""
        names, data = _averaged_file(path)
        return ModalityRows(names, data[:, None], [SELAVI_S] * len(names))


class Sequences:
    """The layout of TCaF [tcaf]: a vector per step."""

    name, suffix = "sequences", ".pkl"
    folders: ClassVar = {"main": "main_features_non_averaged", "cls": "cls_features_non_averaged"}

    def read(self, path: Path, modality: str, features: str) -> ModalityRows:
        """Read one file; its arrays are loaded from the disk one clip at a time."""
        content = load_pickle(path)
        where, what = str(path), "a dict with lists features, video_names and fps of one length"
        if not isinstance(content, dict) or not {"features", "video_names", "fps"} <= content.keys():
            raise fail(where, what, "another pickle", _REMEDY)
        columns = [content[key] for key in ("features", "video_names", "fps")]
        if not all(isinstance(one, list) or (isinstance(one, np.ndarray) and one.ndim) for one in columns):
            raise fail(where, what, "another pickle", _REMEDY)
        values, names, fps = columns
        if not len(values) == len(names) == len(fps):
            raise fail(where, what, "lists that differ in length", _REMEDY)
        texts = [_text(where, name) for name in names]
        return ModalityRows(texts, values, [_step_s(where, modality, features, rate) for rate in fps])


AVERAGED, SEQUENCES = Averaged(), Sequences()
Layout = Averaged | Sequences


def _step_s(where: str, modality: str, features: str, fps: Any) -> float:
    """Seconds between steps: SeLaVi one a second; VGGish 0.96 s; C3D 16 frames."""
    if not isinstance(fps, int | float | np.integer | np.floating) or not 1 <= fps <= 1000:
        raise fail(where, "frame rates of 1 to 1000 per second", repr(fps)[:40], _REMEDY)
    if features == "main":
        return SELAVI_S
    return VGGISH_S if modality == "audio" else C3D_FRAMES / float(fps)


# ----------------------------------------------------------------------------------------------------------- one tree


@dataclass(frozen=True)
class Published:
    """One published data set, features and split; made by :func:`open_published`.

    Attributes:
        folder: The data set's folder, with ``class-split`` and ``features`` in it.
        benchmark: Which data set.
        layout: ``AVERAGED`` or ``SEQUENCES``.
        features: ``main`` (SeLaVi) or ``cls`` (VGGish and C3D).
        split: ``main`` or ``cls``.
        class_names: All ``K`` original names, sorted; a name's place is its published label code.
        parts: For each key of :data:`STAGES` its class names, sorted.
        manual: Original name to the name of its word vector.
    """

    folder: Path
    benchmark: Benchmark
    layout: Layout
    features: str
    split: str
    class_names: list[str]
    parts: dict[str, list[str]]
    manual: dict[str, str]

    def files(self) -> list[ClassFiles]:
        """Return the files of every class of every part, parts in the order of :data:`STAGES`, classes sorted.

        Raises:
            InputError: If a class has no file in a modality, or two.
        """
        found = []
        for part, classes in self.parts.items():
            paths = {modality: self._paths(modality, part) for modality in MODALITIES}
            for name in classes:
                both = {modality: self._path(paths[modality], modality, part, name) for modality in MODALITIES}
                found.append(ClassFiles(part, name, **both))
        return found

    def clips(self, files: ClassFiles) -> Iterator[PublishedClip]:
        """Yield the clips of one class and part as stored.

        Raises:
            InputError: If a file is damaged or of another layout, or audio and video hold different clips.
        """
        audio = self.layout.read(files.audio, "audio", self.features)
        video = self.layout.read(files.video, "video", self.features)
        if audio.names != video.names:
            raise fail(str(files.video), "the clips of the audio file in their order", "others", _REMEDY)
        for i, name in enumerate(audio.names):
            (sound, sound_t_s), (image, image_t_s) = (
                _steps(path, rows, i) for path, rows in ((files.audio, audio), (files.video, video))
            )
            yield PublishedClip(name, files.label, files.part, sound, sound_t_s, image, image_t_s)

    def class_vectors(self, text_order: str = "by_name") -> np.ndarray:
        """Return the word vector of each of ``class_names``, ``(K, D_text)``; see :func:`ordered_vectors`."""
        known = read_named_vectors(self._features_folder() / "text" / self.benchmark.vectors_npy)
        return ordered_vectors(known, self.class_names, self.manual, text_order)

    def _features_folder(self) -> Path:
        return self.folder / "features" / self.layout.folders[self.features]

    def _paths(self, modality: str, part: str) -> dict[str, list[Path]]:
        folder = self._features_folder() / modality / STAGES[part]
        if not folder.is_dir():
            raise fail(str(folder), f"a folder of {self.layout.suffix} files", "no such folder", _REMEDY)
        found: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix == self.layout.suffix:
                found.setdefault(self.benchmark.key(path.stem), []).append(path)
        return found

    def _path(self, paths: dict[str, list[Path]], modality: str, part: str, name: str) -> Path:
        there = paths.get(self.benchmark.key(name), [])
        if len(there) != 1:
            where = str(self._features_folder() / modality / STAGES[part])
            found = " and ".join(path.name for path in there) or "none"
            raise fail(where, f"one file of class {name!r}", found, nearest(name, sorted(paths)) or _REMEDY)
        return there[0]


def open_published(
    folder: str | os.PathLike[str],
    layout: Layout,
    dataset: str | None = None,
    features: str | None = None,
    split: str | None = None,
) -> Published:
    """Open a published data set and read its lists of classes.

    Args:
        folder: The data set's folder, or one that holds it.
        layout: ``AVERAGED`` or ``SEQUENCES``.
        dataset: ``ucf``, ``activitynet`` or ``vggsound``; default the only one there.
        features: ``main`` or ``cls``; default the only ones there.
        split: ``main`` or ``cls``; default that of the features. They differ in the classes of ``test_unseen``, so
            results on one can't be compared with results on the other.

    Raises:
        InputError: If something is missing, or there are several data sets or features and none is chosen.
    """
    benchmark, root = _find_benchmark(Path(folder), dataset)
    features = _find_features(root, layout, features)
    split = features if split is None else split
    check_choice("--split", "split", split, FEATURES)
    lists = next((root / name for name in ("class-split", "class_split") if (root / name).is_dir()), None)
    if lists is None:
        raise fail(str(root), "a folder class-split", "none", _REMEDY)
    class_names = sorted(read_class_list(lists / "all_class.txt"))
    parts = read_parts(lists / f"{split}_split", class_names, benchmark)
    manual = read_name_map(lists / benchmark.names_csv, class_names)
    return Published(root, benchmark, layout, features, split, class_names, parts, manual)


def _find_benchmark(folder: Path, dataset: str | None) -> tuple[Benchmark, Path]:
    if dataset is not None:
        check_choice("--dataset", "dataset", dataset, BENCHMARKS)
    if not folder.is_dir():
        raise fail(str(folder), "the folder of a published data set", "no such folder")
    wanted = [BENCHMARKS[dataset]] if dataset else list(BENCHMARKS.values())
    places = [(one, place) for one in wanted for place in (folder, folder / one.folder)]
    found = [(one, place) for one, place in places if place.name == one.folder and (place / "features").is_dir()]
    if not found and dataset and (folder / "features").is_dir():
        found = [(wanted[0], folder)]  # a folder of another name
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.folder for one, _ in found) or "none of them"
    remedy = f"Say --dataset, one of {', '.join(BENCHMARKS)}."
    raise fail(str(folder), "one of the folders UCF, ActivityNet, VGGSound, with features in it", names, remedy)


def _find_features(root: Path, layout: Layout, features: str | None) -> str:
    if features is not None:
        check_choice("--features", "features", features, FEATURES)
    there = [key for key, name in layout.folders.items() if (root / "features" / name).is_dir()]
    chosen = [key for key in there if features in (None, key)]
    if len(chosen) != 1:
        what = layout.folders[features] if features else "one of " + ", ".join(layout.folders.values())
        found = ", ".join(layout.folders[key] for key in there) or "none"
        remedy = "Say --features main or --features cls." if len(chosen) > 1 else "Is it the other layout?"
        raise fail(str(root / "features"), f"a folder {what}", found, remedy)
    return chosen[0]


# --------------------------------------------------------------------------------------------------- lists and vectors


def read_class_list(path: str | os.PathLike[str]) -> list[str]:
    """Read a list of class names, one a line.

    Raises:
        InputError: If the file is missing, empty or not UTF-8, or repeats a name.
    """
    names = [line.strip() for line in _read_text(Path(path)).splitlines()]
    names = [name for name in names if name]
    if not names or len(set(names)) < len(names) or not all(name.isprintable() for name in names):
        found = "something else" if names else "nothing"
        raise fail(str(path), "different class names, one a line", found, _REMEDY)
    return names


def read_parts(
    folder: str | os.PathLike[str], class_names: Sequence[str], benchmark: Benchmark
) -> dict[str, list[str]]:
    """Read which classes each part has, in the spelling of ``class_names``.

    Raises:
        InputError: If a list is missing, names an unknown class, or an unseen class is also trained on.
    """
    known = {benchmark.key(name): name for name in class_names}
    parts = {}
    for part, stage in STAGES.items():
        path = Path(folder) / f"{stage}.txt"
        names = read_class_list(path)
        unknown = [name for name in names if benchmark.key(name) not in known]
        if unknown:
            found = f"{unknown[0]!r}"
            raise fail(str(path), "names of all_class.txt", found, nearest(unknown[0], class_names) or _REMEDY)
        parts[part] = sorted(known[benchmark.key(name)] for name in names)
    for unseen, seen in {"val_unseen": ("train", "val_seen"), "test_unseen": tuple(STAGES)[:4]}.items():
        both = set(parts[unseen]) & {name for part in seen for name in parts[part]}
        if both:
            raise fail(str(folder), f"classes of {unseen} that are nowhere before", repr(min(both)), _REMEDY)
    return parts


def read_name_map(path: str | os.PathLike[str], class_names: Sequence[str]) -> dict[str, str]:
    """Read the name of each class's word vector from a CSV file with columns ``original`` and ``manual``.

    Raises:
        InputError: If the file is missing or damaged, or lacks a class.
    """
    try:
        rows = list(csv.DictReader(_read_text(Path(path)).splitlines(), strict=True))
    except csv.Error as error:
        raise fail(str(path), "a CSV file", str(error), _REMEDY) from error
    if not rows or not {"original", "manual"} <= rows[0].keys():
        raise fail(str(path), "columns original and manual", "others", _REMEDY)
    manual = {str(row["original"]): str(row["manual"] or "") for row in rows}
    missing = [name for name in class_names if not manual.get(name)]
    if missing or len(manual) < len(rows):
        found = f"none for {missing[0]!r}" if missing else "two of one class"
        raise fail(str(path), "one line for every class of all_class.txt", found, _REMEDY)
    return {name: manual[name] for name in class_names}


def read_named_vectors(path: str | os.PathLike[str]) -> ClassVectors:
    """Read published word vectors: an ``.npy`` file that holds a pickled dict of name to float vector ``(D,)``.

    Raises:
        InputError: If the file is missing, damaged or something else; nothing in it is ever run.
    """
    where, what = str(path), "a dict of names to vectors (D,) of finite numbers"
    array = load_object_npy(path)
    found = array.item() if array.shape == () else None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        raise fail(where, what, "something else", _REMEDY)
    vectors = list(found.values())
    if not all(isinstance(v, np.ndarray) and v.ndim == 1 and v.dtype.kind == "f" for v in vectors):
        raise fail(where, what, "something else", _REMEDY)
    if len({len(v) for v in vectors}) > 1 or not all(np.isfinite(v).all() for v in vectors):
        raise fail(where, what, "vectors of different lengths, or NaN or infinity", _REMEDY)
    return ClassVectors(list(found), np.stack(vectors).astype(np.float32))


def ordered_vectors(
    known: ClassVectors, class_names: Sequence[str], manual: Mapping[str, str], text_order: str = "by_name"
) -> np.ndarray:
    """Return one word vector for each of ``class_names`` (sorted), ``(K, D_text)``.

    ``by_name`` looks each class's manual name up. ``legacy`` reproduces the released pipelines of [avca] and [tcaf]:
    they sort the vectors by their manual names and take the one at the place of the class among the sorted original
    names, so that after ``CleanAndJerk``, whose manual name is ``Weight Lifting``, every class of UCF has the vector of
    another one; 79 of its 101 classes do, 8 of ActivityNet's 200 and 205 of VGGSound's 309.

    Raises:
        InputError: If a vector is missing, or ``text_order`` is another one.

    Example:
        >>> known = ClassVectors(["Archery", "Fencing", "Weight Lifting"], np.eye(3, dtype=np.float32))
        >>> names = {"Archery": "Archery", "CleanAndJerk": "Weight Lifting", "Fencing": "Fencing"}
        >>> ordered_vectors(known, list(names), names).argmax(1).tolist()
        [0, 2, 1]
        >>> ordered_vectors(known, list(names), names, "legacy").argmax(1).tolist()
        [0, 1, 2]
    """
    check_choice("class vectors", "text_order", text_order, TEXT_ORDERS)
    if text_order == "by_name":
        return known.rows([manual[name] for name in class_names])
    if len(known.names) != len(class_names):
        raise fail("class vectors", f"{len(class_names)} of them for the legacy order", str(len(known.names)))
    return known.vectors[sorted(range(len(known.names)), key=known.names.__getitem__)]


# ----------------------------------------------------------------------------------------------------- files and values


def _steps(path: Path, rows: ModalityRows, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The features of clip ``i`` as float32 and the time of each step."""
    values = rows.values[i]
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        shape = getattr(values, "shape", type(values).__name__)
        raise fail(str(path), f"features (T, D) of clip {rows.names[i]!r}", str(shape), _REMEDY)
    with np.errstate(over="ignore"):  # infinity is refused where it is stored
        values = np.ascontiguousarray(values, np.float32)
    return values, np.arange(len(values), dtype=np.float32) * np.float32(rows.step_s[i])


def _averaged_file(path: Path) -> tuple[list[str], np.ndarray]:
    import h5py

    from neuroav.events.formats.hdf5 import check_stored

    where = str(path)
    with _hdf5_errors(path), h5py.File(path, "r") as file:
        if not {"data", "video_urls"} <= set(file):
            raise fail(where, "datasets data and video_urls", ", ".join(file) or "none", _REMEDY)
        data, urls = file["data"], file["video_urls"]
        check_stored(path, data)
        if data.ndim != 2 or data.dtype.kind not in "fiu" or urls.shape != data.shape[:1]:
            raise fail(where, "data (n, D) and video_urls (n,)", f"{data.shape} and {urls.shape}", _REMEDY)
        if urls.dtype.kind == "O":
            return [_text(where, name) for name in _heap_text(path, urls)], data[:]
        check_stored(path, urls)
        return [_text(where, name) for name in urls[:]], data[:]


def _heap_text(path: Path, dataset: Any) -> list[bytes]:
    """Text of variable length, found in its heap here, as libhdf5 may search a damaged heap for ever.

    A contiguous dataset holds length (4 bytes), address of a heap (8) and number there (4) of each value; a heap is
    ``GCOL``, version 1, its size, then number (2), count (2), 4 unused, size (8) and bytes (to a multiple of 8) each.
    """
    if dataset.id.get_offset() is None or 16 * len(dataset) > dataset.id.get_storage_size():
        raise fail(str(path), "clip names as plain or variable-length text, contiguous", "others", _REMEDY)
    content = path.read_bytes()
    heaps: dict[int, dict[int, bytes]] = {}
    left, texts = 4 * len(content), []
    for i in range(len(dataset)):
        length, address, number = struct.unpack_from("<IQI", content, dataset.id.get_offset() + 16 * i)
        if address not in heaps:
            signature, version, size = struct.unpack_from("<4sB3xQ", content, address)
            left -= size
            if (signature, version) != (b"GCOL", 1) or not 16 <= size <= len(content) - address or left < 0:
                raise ValueError("no heap of text where one should be")
            heaps[address] = _heap(content[address + 16 : address + size])
        texts.append(heaps[address][number][:length])
    return texts


def _heap(content: bytes) -> dict[int, bytes]:
    """The values of one heap by number."""
    values, place = {}, 0
    while place + 16 <= len(content):
        number, size = struct.unpack_from("<H6xQ", content, place)
        if number == 0:
            break
        values[number] = content[place + 16 : place + 16 + size]
        place += 16 + (size + 7) // 8 * 8
    return values


@contextmanager
def _hdf5_errors(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 finds wrong with a file into an :class:`InputError`."""
    try:
        yield
    except NeuroavError:
        raise
    except (*DAMAGE, struct.error) as error:
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise fail(str(path), "a sound HDF5 file of features", text.removesuffix("."), _REMEDY) from error


def _text(where: str, value: Any) -> str:
    """A clip's name from bytes (padded or not) or text."""
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str) or not text or not text.isprintable():
        raise fail(where, "clip names in UTF-8", repr(value)[:80], _REMEDY)
    return str(text)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise fail(str(path), "a text file", "a folder" if path.is_dir() else "no such file", _REMEDY)
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise fail(str(path), f"at most {_MAX_TEXT_BYTES} bytes", str(path.stat().st_size), _REMEDY)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail(str(path), "text in UTF-8", str(error), _REMEDY) from error
