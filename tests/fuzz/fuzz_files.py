"""Event files of every format, cut short, with other bytes, or put together from two: an error that says so, or events.

    python tests/fuzz/fuzz_files.py --cases 20000 --seed 0

A case depends on the seed and its number alone: repeat one with ``--first N --cases 1``. ``--trace`` names every case
before it runs, for crashes of the libraries below. The exit status is 1 at the first case that ends in anything but an
``InputError`` or sound events, takes more memory or time than its file is worth, or never ends.
"""

from __future__ import annotations

import io
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import rounds
import torch

from neuroav.checks import InputError
from neuroav.events.formats import FORMATS, WRITABLE, aedat4, hdf5
from neuroav.events.io import describe_events, read_events, read_frame_times, write_events
from neuroav.events.types import Events

MOST_BYTES = 64 << 20  # of memory for a file of some kilobytes
MOST_SECONDS = 5.0
SUFFIX = {name: (*each.suffixes, ".h5" if name in ("dsec", "v2e") else ".raw")[0] for name, each in FORMATS.items()}


# ------------------------------------------------------------------------------------------------------- sound files


def some_events(count: int, seed: int, size: tuple[int, int] = (120, 160), labels: bool = False) -> Events:
    random = np.random.default_rng(seed)
    t_us = np.cumsum(random.integers(0, 90, count) * (random.random(count) < 0.5))
    columns = (t_us, *(random.integers(0, side, count).astype(np.int16) for side in (size[1], size[0])))
    signs = [random.integers(0, 2, count).astype(np.uint8) for _ in range(2 if labels else 1)]
    return Events(*map(torch.from_numpy, (*columns, signs[0])), size, *map(torch.from_numpy, signs[1:]))


def _written(name: str, **settings: bool) -> Callable[[int, int], bytes]:
    def content(count: int, seed: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"sound{SUFFIX[name]}"
            write_events(path, some_events(count, seed, **settings), format=name)
            return path.read_bytes()

    return content


def _columns(count: int, seed: int) -> dict[str, np.ndarray]:
    events = some_events(count, seed)
    return {"t": events.t_us.numpy(), "x": events.x.numpy(), "y": events.y.numpy(), "p": events.p.numpy()}


def _dsec(count: int, seed: int) -> bytes:
    """A file as DSEC has it, without what this package adds, stored without compression."""
    content, columns = io.BytesIO(), _columns(count, seed)
    with h5py.File(content, "w") as file:
        for name, dtype in hdf5.COLUMNS.items():
            file.create_dataset(f"events/{name}", data=columns[name].astype(dtype))
        milliseconds = np.arange(0, (columns["t"][-1] if count else 0) + 1000, 1000)
        file["ms_to_idx"] = np.searchsorted(columns["t"], milliseconds).astype(np.uint64)
        file["t_offset"] = 5_000_000
    return content.getvalue()


def _clips(count: int, seed: int) -> bytes:
    """Two clips with frame times."""
    content = io.BytesIO()
    with h5py.File(content, "w", libver=("v110", "v110")) as file:
        hdf5.write_format(file)
        for name in ("a", "b"):
            events = some_events(count, seed, labels=True)
            clip = hdf5.ClipWriter(file.create_group(name), events.sensor_size, {"seed": 1}, has_labels=True)
            last = int(events.t_us[-1]) if count else 0
            clip.append(events, np.array([0, last // 2 + 1, last + 2]))
            clip.finish()
    return content.getvalue()


def _zipped(count: int, seed: int) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **_columns(count, seed), frames=np.zeros((2, 120, 160), np.uint8))
    return content.getvalue()


def _seconds(count: int, seed: int) -> bytes:
    """An archive of floats, with labels, not packed: damage reaches every value and every header."""
    content, columns = io.BytesIO(), _columns(count, seed)
    columns |= {"t": columns["t"] * 1e-6, "p": columns["p"] * 2.0 - 1, "is_noise": columns["p"]}
    np.savez(content, sensor_size=np.array([120, 160]), **columns)
    return content.getvalue()


def _aedat4_plain(count: int, seed: int) -> bytes:
    """Packets without compression: damage reaches their tables and events."""
    place = len(aedat4.MAGIC)
    content = _written("aedat4")(count, seed)
    length = int.from_bytes(content[place : place + 4], "little")
    header = bytearray(content[place : place + 4 + length])
    code = aedat4._Buffer(Path("sound"), bytes(header), b"IOHE").field(0)
    struct.pack_into("<i", header, code, aedat4.NONE)
    packets = []
    for stream, packet in aedat4._packets(Path("sound"), content, place + 4 + length, len(content)):
        plain = aedat4._decompressed(Path("sound"), packet, aedat4.LZ4)
        packets.append(struct.pack("<ii", stream, len(plain)) + plain)
    return content[:place] + bytes(header) + b"".join(packets)


def _aedat2(count: int, seed: int) -> bytes:
    columns = _columns(count, seed)
    pairs = np.column_stack([columns["y"].astype(">u4") << 22 | columns["x"].astype(">u4") << 12, columns["t"]])
    return b"#!AER-DAT2.0\r\n# AEChip: DAVIS240\r\n" + pairs.astype(">u4").tobytes()


def _nmnist(count: int, seed: int) -> bytes:
    columns = _columns(count, seed)
    rows = np.stack([columns["x"] % 34, columns["y"] % 34, columns["p"] << 7, columns["t"] >> 8, columns["t"]], axis=1)
    return (rows & 255).astype(np.uint8).tobytes()


def _comma(count: int, seed: int) -> bytes:
    columns = _columns(count, seed)
    rows = zip(*(columns[name].tolist() for name in "txyp"), strict=True)
    return ("# a comment\nt,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows)).encode()


SOUND: dict[str, tuple[str, Callable[[int, int], bytes]]] = {
    **{name: (SUFFIX[name], _written(name)) for name in WRITABLE},
    "neuroav, labels": (".h5", _written("neuroav", labels=True)),
    "neuroav, clips": (".h5", _clips),
    "dsec": (".h5", _dsec),
    "npz, packed": (".npz", _zipped),
    "npz, seconds": (".npz", _seconds),
    "aedat4, plain": (".aedat4", _aedat4_plain),
    "aedat2": (".aedat", _aedat2),
    "nmnist": (".bin", _nmnist),
    "text, commas": (".csv", _comma),
}


@cache
def sound(name: str, count: int, seed: int) -> bytes:
    return SOUND[name][1](count, seed)


# ------------------------------------------------------------------------------------------------------------- damage

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63)


def damaged(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Return ``content`` with one to three faults, many near its start, where headers are."""
    for _ in range(int(random.choice([1, 1, 1, 2, 3]))):
        content = _fault(bytearray(content), other, random)
    return content


def _fault(content: bytearray, other: bytes, random: np.random.Generator) -> bytes:
    def place(size: int) -> int:
        reach = size if random.random() < 0.5 else min(size, int(random.choice([32, 200, 4096])))
        return int(random.integers(0, reach + 1))

    at, length = place(len(content)), int(random.choice([1, 2, 4, 8, 64, 1000]))
    kind = random.integers(8)
    if kind == 0:
        del content[at:]
    elif kind == 1:
        for _ in range(int(random.choice([1, 1, 3, 20]))):
            if content:
                content[min(place(len(content)), len(content) - 1)] ^= 1 << int(random.integers(8))
    elif kind == 2:
        number, width = NUMBERS[random.integers(len(NUMBERS))], int(random.choice([1, 2, 4, 8]))
        order = "little" if random.random() < 0.8 else "big"
        content[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, order)
    elif kind == 3:
        content[at : at + length] = random.integers(0, 256, length).astype(np.uint8).tobytes()
    elif kind == 4:
        del content[at : at + length]
    elif kind == 5:
        content[at:at] = content[place(len(content)) :][:length]
    elif kind == 6:
        content[at : at + length] = bytes(length)
    else:
        content[at:] = other[place(len(other)) :]
    return bytes(content)


def repacked(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Return an archive whose members are damaged, each with the checksum of what it is now."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(found, "w") as target:
        names = archive.namelist()
        chosen = names[random.integers(len(names))]
        for name in names:
            member = archive.read(name)
            target.writestr(name, damaged(member, other, random) if name == chosen else member)
    return found.getvalue()


# --------------------------------------------------------------------------------------------------- what must hold


def require(promise: bool, words: str) -> None:
    """Raise with ``words`` unless the promise is kept."""
    if not promise:
        raise AssertionError(words)


def require_sound(events: Events) -> None:
    """Types, lengths, ranges and order."""
    kinds = tuple(column.dtype for column in (events.t_us, events.x, events.y, events.p))
    require(kinds == (torch.int64, torch.int16, torch.int16, torch.uint8), f"types {kinds}")
    shapes = {tuple(column.shape) for column in (events.t_us, events.x, events.y, events.p)}
    require(shapes == {(len(events),)}, f"shapes {shapes}")
    height, width = events.sensor_size
    require(1 <= height <= 1 << 15 and 1 <= width <= 1 << 15, f"a sensor of {height}x{width}")
    if events.is_noise is not None:
        require(events.is_noise.dtype == torch.uint8 and len(events.is_noise) == len(events), "labels")
    if len(events) == 0:
        return
    require(bool((events.t_us.diff() >= 0).all()), "times that fall")
    require(abs(int(events.t_us[0])) < 1 << 62 and abs(int(events.t_us[-1])) < 1 << 62, "times out of range")
    require(int(events.y.min()) >= 0 and int(events.y.max()) < height, "rows outside the sensor")
    require(int(events.x.min()) >= 0 and int(events.x.max()) < width, "columns outside the sensor")
    require(int(events.p.max()) <= 1, "a polarity")
    require(events.is_noise is None or int(events.is_noise.max()) <= 1, "a label")


def require_description(rows: list[dict]) -> None:
    for row in rows:
        require(row["events"] >= 0 and (row["on_share"] is None or 0 <= row["on_share"] <= 1), "a description")


def require_frames(found: tuple[np.ndarray, np.ndarray]) -> None:
    require(all(isinstance(array, np.ndarray) for array in found), "frame times that are no arrays")


def run_case(seed: int, number: int, folder: Path) -> tuple[str, bool]:
    """Run one case; returns the kind of its file and whether its events were refused."""
    random = np.random.default_rng([seed, number])
    name = list(SOUND)[random.integers(len(SOUND))]
    other = list(SOUND)[random.integers(len(SOUND))] if random.random() < 0.3 else name
    count, version = int(random.choice([0, 1, 30, 300, 300])), int(random.integers(3))
    content, beside = sound(name, count, version), sound(other, 300, 7)
    change = repacked if name.startswith("npz") and random.random() < 0.5 else damaged
    path = folder / f"case{SOUND[name][0]}"
    path.write_bytes(change(content, beside, random))
    clip = str(random.choice(["a", "b"])) if name == "neuroav, clips" and random.random() < 0.7 else None
    size = (120, 160) if random.random() < 0.2 else None
    limits = np.sort(random.integers(-100, 20_000, 2)).tolist() if random.random() < 0.3 else [None, None]
    calls = [lambda: require_sound(read_events(path, clip, start_us=limits[0], stop_us=limits[1], sensor_size=size))]
    if random.random() < 0.3:
        calls.append(lambda: require_description(describe_events(path, size)))
    if path.suffix == ".h5":
        calls.append(lambda: require_frames(read_frame_times(path, clip)))
    of_events, *_ = [refused(path, call) for call in calls]
    return name, of_events


def refused(path: Path, call: Callable[[], None]) -> bool:
    """Make a call; returns whether the file was refused in one line that names it."""
    begin = time.process_time()  # not the clock's: other work may hold it up
    tracemalloc.reset_peak()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".*times run backwards")
            call()
    except InputError as error:
        words = str(error)
        require(words.startswith(f"{path}: expected ") and "\n" not in words, f"an error like this: {words}")
        return True
    finally:
        require(tracemalloc.get_traced_memory()[1] < MOST_BYTES, f"{tracemalloc.get_traced_memory()[1]} bytes taken")
        require(time.process_time() - begin < MOST_SECONDS, f"{time.process_time() - begin:.1f} s taken")
    return False


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(rounds.main("Fuzz the readers of event files.", run_case))
