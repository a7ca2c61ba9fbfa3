"""Stores, published archives, pickles and lists, cut short or with other bytes: an error that says so, or sound data.

    python tests/fuzz/fuzz_data.py --cases 10000 --seed 0

A case depends on the seed and its number alone: repeat one with ``--first N --cases 1``. ``--trace`` names every case
before it runs, for crashes of the libraries below. What a damaged store still gives must be what was written; what
other damaged files give must be of the right types and lengths. The exit status is 1 at the first case that ends in
anything else but an ``InputError``, runs a program, takes more memory or time than its file is worth, or never ends.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rounds
from fuzz_files import damaged, repacked, require

from neuroav.checks import InputError
from neuroav.data.extract import read_labels
from neuroav.data.readers import (
    AVERAGED,
    BENCHMARKS,
    SEQUENCES,
    ClassFiles,
    Layout,
    Published,
    open_published,
    read_class_list,
    read_name_map,
    read_named_vectors,
    read_parts,
)
from neuroav.data.store import ClipRecord, Store, StoreWriter
from neuroav.data.unpickle import load_pickle
from neuroav.data.vectors import read_vectors

MOST_BYTES = 64 << 20  # of memory for a file of some kilobytes
MOST_SECONDS = 5.0
CLASSES = ["dog", "playing violin, fiddle", "rain"]
VECTORS = np.arange(15, dtype=np.float32).reshape(3, 5)
FORBIDDEN = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "ctypes.dlopen"}


sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))  # when run as a script
published = import_module("published")


# ------------------------------------------------------------------------------------------------------- sound files


def some_records(seed: int, own_audio: bool) -> list[ClipRecord]:
    random = np.random.default_rng(seed)
    records = []
    for i in range(6):
        steps, audio_steps = random.integers(1, 5, 2).tolist()
        audio_steps = audio_steps if own_audio else steps
        records.append(
            ClipRecord(
                name=f"clip-{i}",
                label=CLASSES[i % 3],
                part=["train", "test_seen", ""][i % 3],
                t_s=np.arange(steps, dtype=np.float32),
                video=random.normal(size=(steps, 6)).astype(np.float32),
                audio=random.normal(size=(audio_steps, 4)).astype(np.float32),
                motion=None if own_audio else random.integers(0, 9, (steps, 2, 3, 2)).astype(np.uint16),
                extras={"scene": i, "u": i / 7, "file": f"ä{i}.mp4"},
                audio_t_s=np.arange(audio_steps, dtype=np.float32) if own_audio else None,
            )
        )
    return records


def _store(seed: int, own_audio: bool) -> bytes:
    return _written(seed, own_audio, whole=True)


def _partial(seed: int) -> bytes:
    return _written(seed, False, whole=False)


def _written(seed: int, own_audio: bool, whole: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.h5"
        with suppress(KeyboardInterrupt), _writer(path) as writer:
            for record in some_records(seed, own_audio):
                writer.write(record)
            if not whole:
                raise KeyboardInterrupt
        return path.with_name("s.h5" if whole else "s.h5.partial").read_bytes()


def _writer(path: Path) -> StoreWriter:
    return StoreWriter(path, class_names=CLASSES, class_vectors=VECTORS, settings={"bin_s": 0.2})


def _pickle(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 5, 3)
    values = [random.normal(size=(n, 5)).astype(np.float32) for n in lengths]
    if seed == 1:
        values = [value.astype(">f8") for value in values]
    names = [np.bytes_(b"v_a"), b"v_b", b"v_c"]
    return pickle.dumps({"features": values, "video_names": names, "fps": [25] * 3}, [4, 2, 0, 5][seed % 4])


def _averaged(seed: int, text: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with h5py.File(path, "w") as file:
            file["data"] = np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)
            file["video_urls"] = (
                ["v_a", "v_b", "v_ü", "v_d"] if text else np.array([b"v_a", b"v_b", b"v_c", b"v_d"], "S80")
            )
        return path.read_bytes()


def _vectors(seed: int, packed: bool) -> bytes:
    values = np.random.default_rng(seed).normal(size=(3, 5)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("v.npz" if packed else "v.npy")
        if packed:
            np.savez(path, names=np.array(CLASSES), vectors=values)
        else:
            np.save(path, np.array(dict(zip(CLASSES, values, strict=True)), dtype=object))
        return path.read_bytes()


def _lines(*lines: str) -> Callable[[int], bytes]:
    return lambda seed: "\n".join(lines).encode()


# --------------------------------------------------------------------------------------------------- what must hold


def check_store(path: Path, seed: int, own_audio: bool) -> None:
    """What a damaged store gives is what was written."""
    with Store(path) as store:
        records = some_records(seed, own_audio)
        require(store.names == [r.name for r in records] and store.class_names == CLASSES, "other names")
        require(store.settings == {"bin_s": 0.2}, "other settings")
        require(np.array_equal(store.class_vectors, VECTORS), "other class vectors")
        loaded = store.load([4, 0])
        for place, i in enumerate((4, 0)):
            require(np.array_equal(loaded.video[loaded.rows(place)], records[i].video), "other video")
        for i, record in enumerate(records):
            _same_clip(store.clip(i), record)
        store.verify()


def _same_clip(clip: ClipRecord, record: ClipRecord) -> None:
    require((clip.name, clip.label, clip.part) == (record.name, record.label, record.part), "another clip")
    for key in ("t_s", "video", "audio", "motion"):
        require(np.array_equal(getattr(clip, key), getattr(record, key)), f"other {key}")


def check_partial(path: Path, seed: int) -> None:
    """Whole clips from the first on, and no others, are taken up; the rest is written after them."""
    records = some_records(seed, False)
    with _writer(path) as writer:
        done = list(writer.done)
        require(done == [record.name for record in records][: len(done)], "other clips")
        for record in records[len(done) :]:
            writer.write(record)
    check_store(path, seed, False)


def check_clips(path: Path, layout: Layout) -> None:
    """Names, types and lengths."""
    tree = Published(path.parent, BENCHMARKS["ucf"], layout, "cls", "cls", [], {}, {})
    for clip in tree.clips(ClassFiles("train", "dog", path, path)):
        require(isinstance(clip.name, str) and clip.name.isprintable() and clip.name != "", "a name")
        for values, times in ((clip.audio, clip.audio_t_s), (clip.video, clip.video_t_s)):
            require(values.dtype == times.dtype == np.float32 and values.ndim == 2, "a type")
            require(values.size > 0 and times.shape == (len(values),) and bool((np.diff(times) > 0).all()), "a length")


def check_any_pickle(path: Path) -> None:
    """Data of the admitted types only."""
    pending, visited = [load_pickle(path)], set()
    admitted = (np.ndarray, np.generic, list, tuple, dict, str, bytes, memoryview, int, float, type(None))
    while pending:
        item = pending.pop()
        require(isinstance(item, admitted), f"a {type(item).__name__}")
        if isinstance(item, list | tuple | dict) and id(item) not in visited:
            visited.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)


def check_vectors(found: Any) -> None:
    require(len(found.names) == len(found.vectors) == len(set(found.names)), "a number of names")
    require(found.vectors.dtype == np.float32 and bool(np.isfinite(found.vectors).all()), "a vector")


def check_list(path: Path) -> None:
    names = read_class_list(path)
    require(bool(names) and all(names) and len(set(names)) == len(names), "a list")


def check_map(path: Path) -> None:
    require(all(read_name_map(path, CLASSES).values()), "a map")


def check_labels(path: Path) -> None:
    for row in read_labels(path, path.parent):
        require((path.parent / row.file).is_file() and bool(row.label), "a row")


def check_tree(path: Path, seed: int) -> None:
    """Put the list into a whole tree and open that."""
    root = path.parent / "tree"
    shutil.rmtree(root, ignore_errors=True)
    published.write_lists(root / "UCF" / "class-split", published.NAMES["UCF"][0])
    (root / "UCF" / "features" / "cls_features_non_averaged").mkdir(parents=True)
    stages = list(published.PARTS)
    shutil.copy(path, root / "UCF" / "class-split" / "cls_split" / f"{stages[seed % len(stages)]}.txt")
    tree = open_published(root, SEQUENCES)
    require(
        tree.parts == read_parts(root / "UCF/class-split/cls_split", tree.class_names, tree.benchmark), "other parts"
    )
    require({name for names in tree.parts.values() for name in names} <= set(tree.class_names), "an unknown class")


Check = Callable[[Path, int], None]
KINDS: dict[str, tuple[str, Callable[[int], bytes], Check]] = {
    "store": ("s.h5", lambda seed: _store(seed, False), lambda path, seed: check_store(path, seed, False)),
    "store, own audio steps": (
        "s.h5",
        lambda seed: _store(seed, True),
        lambda path, seed: check_store(path, seed, True),
    ),
    "unfinished store": ("s.h5.partial", _partial, lambda path, seed: check_partial(path.with_name("s.h5"), seed)),
    "sequences": ("a.pkl", _pickle, lambda path, seed: check_clips(path, SEQUENCES)),
    "any pickle": ("a.pkl", _pickle, lambda path, seed: check_any_pickle(path)),
    "averaged": ("a.h5", lambda seed: _averaged(seed, False), lambda path, seed: check_clips(path, AVERAGED)),
    "averaged, text": ("a.h5", lambda seed: _averaged(seed, True), lambda path, seed: check_clips(path, AVERAGED)),
    "named vectors": (
        "v.npy",
        lambda seed: _vectors(seed, False),
        lambda path, seed: check_vectors(read_named_vectors(path)),
    ),
    "vectors": ("v.npz", lambda seed: _vectors(seed, True), lambda path, seed: check_vectors(read_vectors(path))),
    "class list": ("c.txt", _lines(*CLASSES), lambda path, seed: check_list(path)),
    "list of a split": ("c.txt", _lines("Rowing", "Fencing"), check_tree),
    "name map": (
        "n.csv",
        _lines("original,manual", "dog,Dog", '"playing violin, fiddle",violin', "rain,Rain"),
        lambda path, seed: check_map(path),
    ),
    "labels": (
        "l.csv",
        _lines("file,label,part", "l.csv,dog,train", '"a.mp4",rain,'),
        lambda path, seed: check_labels(path),
    ),
}


@cache
def sound(name: str, seed: int) -> bytes:
    return KINDS[name][1](seed)


# Pickles that would run code; spliced into the others.
HOSTILE = [
    b"cos\nsystem\n(Vtouch ran\ntR.",
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
    b"cnumpy\nload\n(Vx\ntR.",
    b"(S'touch ran'\nios\npopen\n.",
]


class Watch:
    """Notes what must never happen while a file is read."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if self.on and event in FORBIDDEN:
            self.seen.append(event)
            raise RuntimeError(f"forbidden: {event}")


WATCH = Watch()


def run_case(seed: int, number: int, folder: Path) -> tuple[str, bool]:
    """Run one case; returns the kind of its file and whether it was refused."""
    random = np.random.default_rng([seed, number])
    name = list(KINDS)[random.integers(len(KINDS))]
    version = int(random.integers(4))
    content = sound(name, version)
    other = sound(list(KINDS)[random.integers(len(KINDS))], 1) if random.random() < 0.3 else content
    if "pickle" in name or name in ("sequences", "named vectors"):
        other = HOSTILE[random.integers(len(HOSTILE))] if random.random() < 0.3 else other
    for item in folder.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    (folder / "a.mp4").touch()
    path = folder / KINDS[name][0]
    change = repacked if name == "vectors" and random.random() < 0.5 else damaged
    path.write_bytes(change(content, other, random))
    return name, refused(folder, lambda: KINDS[name][2](path, version))


def refused(folder: Path, call: Callable[[], None]) -> bool:
    """Make a call; returns whether the file was refused in one line that names it."""
    begin = time.process_time()
    tracemalloc.reset_peak()
    WATCH.on = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call()
    except InputError as error:
        words = str(error)
        require(words.startswith(str(folder)) and ": expected " in words, f"an error like this: {words}")
        require("\n" not in words, f"several lines: {words}")
        return True
    finally:
        WATCH.on = False
        require(not WATCH.seen and not (folder / "ran").exists() and not Path("ran").exists(), f"{WATCH.seen}")
        require(tracemalloc.get_traced_memory()[1] < MOST_BYTES, f"{tracemalloc.get_traced_memory()[1]} bytes taken")
        require(time.process_time() - begin < MOST_SECONDS, f"{time.process_time() - begin:.1f} s taken")
    return False


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(rounds.main("Fuzz the readers of data.", run_case))
