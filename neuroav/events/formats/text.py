"""Text files: one event ``t x y p`` per line, as in the event camera data sets of the University of Zurich.

Written: a first line ``W H`` and times in seconds with six decimals, which is exact. Read: with or without that line;
times with a decimal point or exponent in the first event as seconds, otherwise as whole microseconds; polarity 0/1 or
-1/1; spaces, tabs or commas between the columns; lines that begin with ``#`` and a first line of column names are
passed over. Without ``W H`` the sensor is taken as the smallest that holds the events.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import MAX_TIME_US, check_size, event_arrays, make_events
from neuroav.events.types import Events

LINES = 1 << 16  # written at a time


def read(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a text file; ``sensor_size`` counts if its first line isn't ``W H``."""
    skipped, first, stated = _first_event(path)
    if first is None:
        if stated is None and sensor_size is None:
            remedy = "If it is an empty recording, say the sensor's size: --size HxW, or sensor_size=(H, W)."
            raise fail(str(path), "lines of t x y p, or the sensor's size W H", "neither", remedy)
        none = np.empty(0, dtype=np.int64)
        return make_events(path, none, none, none, none, stated or sensor_size)
    in_seconds = bool(re.search(r"[.eE]", re.split(r"[\s,]+", first)[0]))
    layout = np.dtype([("t", "f8" if in_seconds else "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
    try:
        delimiter = "," if "," in first else None
        table = np.loadtxt(path, layout, delimiter=delimiter, skiprows=skipped, ndmin=1, encoding="utf-8")
    except (ValueError, OverflowError) as error:
        actual = " ".join(str(error).split()).removesuffix(".")
        raise fail(str(path), "lines of t x y p", f"{actual} (after {skipped} lines of header)") from error
    t = table["t"]
    if in_seconds:
        with np.errstate(over="ignore"):  # what is refused below
            micros = np.rint(t * 1e6)
        if not (np.abs(micros) < MAX_TIME_US).all():
            raise fail(str(path), "finite times in seconds", "NaN, infinity or a huge value")
        t = micros.astype(np.int64)
    return make_events(path, t, table["x"], table["y"], table["p"], stated or sensor_size)


def write(path: Path, events: Events) -> None:
    """Write ``W H`` and the events, times in seconds."""
    t, x, y, p = event_arrays(events)
    height, width = events.sensor_size
    if len(t) and int(t[0]) < 0:
        raise fail(str(path), "times from 0 on, as the text format has no others", f"{int(t[0])} us")
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(f"{width} {height}\n")
        for first in range(0, len(t), LINES):
            columns = (column[first : first + LINES].tolist() for column in (t, x, y, p))
            rows = zip(*columns, strict=True)
            file.writelines(f"{time // 1_000_000}.{time % 1_000_000:06d} {a} {b} {c}\n" for time, a, b, c in rows)


def _first_event(path: Path) -> tuple[int, str | None, tuple[int, int] | None]:
    """Return the number of lines before the first event, its line, and the sensor's size if a line states it."""
    size = None
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                words = re.split(r"[\s,]+", line.strip())
                if line.startswith("#") or words == [""]:
                    continue
                if size is None and len(words) == 2 and all(re.fullmatch(r"\d{1,9}", word) for word in words):
                    size = check_size(path, int(words[1]), int(words[0]))
                elif not re.match(r"[-+.\d]", words[0]) and words[0].lower() not in ("nan", "inf") and number < 64:
                    continue  # names of the columns
                else:
                    return number, line, size
    except UnicodeDecodeError as error:
        raise fail(str(path), "text with one event per line", "binary data") from error
    return 0, None, size
