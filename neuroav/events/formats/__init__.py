"""The event file formats: one module each, found by a file's first bytes, else by its suffix.

=========  ===================  ======  ======================================================  =======================
name       suffix               access  what it can't hold                                      module
=========  ===================  ======  ======================================================  =======================
neuroav    .h5 .hdf5            rw      clips over 48 hours                                     ``hdf5``
dsec       .h5 .hdf5            r                                                               ``hdf5``
v2e        .h5 .hdf5            rw      times outside [0, 2^32) us, labels                      ``v2e``
npz        .npz                 rw                                                              ``arrays``
npy        .npy                 rw      the sensor's size, labels                               ``arrays``
text       .txt .csv            rw      negative times, labels                                  ``text``
aedat4     .aedat4              rw      labels                                                  ``aedat4``
evt2       .raw                 rw      times outside [0, 2^34) us, sides over 2048, labels     ``prophesee``
evt3       .raw                 rw      times outside [0, 2^34) us, sides over 2048, labels     ``prophesee``
dat        .dat                 rw      times outside [0, 2^32) us, sides over 16384, labels    ``dat``
aedat2     .aedat               r                                                               ``aedat2``
nmnist     .bin                 r                                                               ``nmnist``
=========  ===================  ======  ======================================================  =======================

Camera parameters and frame times are kept in ``neuroav`` files only. What a format can't hold is refused, not cut, save
for labels and (in ``npy``) the sensor's size, which are left out.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neuroav.checks import check_choice, fail

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HEAD_BYTES = 1 << 12
HDF5 = ("neuroav", "dsec", "v2e")  # told apart by what is in the file


@dataclass(frozen=True)
class Format:
    """How one format is recognised, read and written; functions are named as ``module:function``."""

    name: str
    suffixes: tuple[str, ...]
    reader: str
    writer: str = ""

    def read(self) -> Callable:
        """Load the function ``read(path, sensor_size) -> Events``."""
        return _load(self.reader)

    def write(self) -> Callable:
        """Load the function ``write(path, events)``."""
        return _load(self.writer)


FORMATS = {
    each.name: each
    for each in (
        Format("neuroav", (".h5", ".hdf5"), "hdf5:read", "hdf5:write"),
        Format("dsec", (), "hdf5:read"),
        Format("v2e", (), "hdf5:read", "v2e:write"),
        Format("npz", (".npz",), "arrays:read_npz", "arrays:write_npz"),
        Format("npy", (".npy",), "arrays:read_npy", "arrays:write_npy"),
        Format("text", (".txt", ".csv"), "text:read", "text:write"),
        Format("aedat4", (".aedat4",), "aedat4:read", "aedat4:write"),
        Format("evt3", (".raw",), "prophesee:read", "prophesee:write_evt3"),
        Format("evt2", (), "prophesee:read", "prophesee:write_evt2"),
        Format("dat", (".dat",), "dat:read", "dat:write"),
        Format("aedat2", (".aedat",), "aedat2:read"),
        Format("nmnist", (".bin",), "nmnist:read"),
    )
}
WRITABLE = tuple(name for name, each in FORMATS.items() if each.writer)


def detect(path: Path) -> Format | None:
    """Return the format of an existing file, or ``None`` if it is no event file that is known."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise fail(str(path), "a file that may be read", error.strerror or str(error)) from error
    by_content = {
        HDF5_MAGIC: "neuroav",
        b"PK\x03\x04": "npz",
        b"PK\x05\x06": "npz",
        b"\x93NUMPY": "npy",
        b"#!AER-DAT4": "aedat4",
        b"#!AER-DAT2": "aedat2",
    }
    for magic, name in by_content.items():
        if head.startswith(magic):
            return FORMATS[name]
    if version := re.match(rb"#!(AER-DAT[\d.]*)", head):
        remedy = "Convert it with iniVation's DV, or with jAER."
        raise fail(str(path), "AEDAT of version 2 or 4", version[1].decode(), remedy)
    if head.startswith(b"% "):
        encoding = re.search(rb"^% (?:evt |format EVT)([\d.]+)", head, re.MULTILINE | re.IGNORECASE)
        return FORMATS["dat" if encoding is None else "evt2" if encoding[1].startswith(b"2") else "evt3"]
    if not head:
        raise fail(str(path), "a video or event file", "an empty file")
    return next((each for each in FORMATS.values() if path.suffix.lower() in each.suffixes), None)


def by_suffix(path: Path, name: str | None = None) -> Format:
    """Return the format to write ``path`` in: ``name``, or the one of its suffix."""
    if name is not None:
        check_choice(str(path), "format", name, WRITABLE)
        return FORMATS[name]
    for each in FORMATS.values():
        if each.writer and path.suffix.lower() in each.suffixes:
            return each
    known = ", ".join(suffix for each in FORMATS.values() if each.writer for suffix in each.suffixes)
    raise fail(str(path), f"one of the suffixes {known}", repr(path.suffix), "Or name the format: --format.")


def _load(function: str) -> Callable:
    module, name = function.split(":")
    return getattr(importlib.import_module(f"neuroav.events.formats.{module}"), name)
