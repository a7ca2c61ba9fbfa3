"""Prophesee RAW files of encodings EVT 2.0 and EVT 3.0, after the descriptions at docs.prophesee.ai.

Holds times from 0 to 2^34 us (4.7 hours) and sensors up to 2048x2048; both are refused rather than cut. External
triggers and vendor words are passed over, and events before the first time word, which have no time. EVT 2.1 and
other encodings are refused by name. Files state the sensor's size, except old ones, where that of the camera
generation (``plugin_name``) is used, or else the smallest that holds the events.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neuroav.checks import fail
from neuroav.events.formats.columns import Columns, check_holds, check_size, event_arrays, make_events, unwrap
from neuroav.events.types import Events

MAX_SIDE, MAX_T_US = 1 << 11, 1 << 34
GENERATIONS = {"gen3": (480, 640), "gen31": (480, 640), "gen4": (720, 1280), "gen41": (720, 1280)}
EVT2_OFF, EVT2_ON, EVT2_TIME_HIGH, EVT2_SKIPPED = 0x0, 0x1, 0x8, (0xA, 0xE, 0xF)
EVT3_Y, EVT3_X, EVT3_BASE, EVT3_VECTOR_12, EVT3_VECTOR_8 = 0x0, 0x2, 0x3, 0x4, 0x5
EVT3_TIME_LOW, EVT3_TIME_HIGH, EVT3_SKIPPED = 0x6, 0x8, (0x7, 0xA, 0xE, 0xF)


def read(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a RAW file; ``sensor_size`` counts if the file doesn't say."""
    fields, body = split_header(path.read_bytes())
    encoding = fields.get("format", "").split(";")[0] or f"EVT{fields.get('evt', '').split('.')[0]}"
    if encoding not in ("EVT2", "EVT3") or fields.get("evt", "") == "2.1":
        actual = f"{encoding} ({fields.get('evt', 'no evt line')})"
        raise fail(str(path), "encoding EVT2 or EVT3", actual, "Convert it with Prophesee's metavision tools.")
    width = 4 if encoding == "EVT2" else 2
    if len(body) % width:
        raise fail(str(path), f"{encoding} words of {width} bytes", f"{len(body) % width} bytes over; truncated?")
    decode = decode_evt2 if encoding == "EVT2" else decode_evt3
    columns = decode(path, np.frombuffer(body, dtype=f"<u{width}"))
    return make_events(path, *columns, _stated_size(path, fields) or sensor_size)


def write_evt2(path: Path, events: Events) -> None:
    """Write EVT 2.0: one word per event and one per 64 us."""
    check_holds(path, "EVT 2.0", events, MAX_T_US, MAX_SIDE)
    t, x, y, p = (column.astype(np.uint64) for column in event_arrays(events))
    high = t >> np.uint64(6)
    words = np.empty((len(t), 2), dtype="<u4")
    words[:, 0] = high | np.uint64(EVT2_TIME_HIGH << 28)
    words[:, 1] = (p << np.uint64(28)) | ((t & np.uint64(63)) << np.uint64(22)) | (x << np.uint64(11)) | y
    _write(path, events, "EVT2", words[np.column_stack([_changes(high), np.ones(len(t), dtype=bool)])])


def write_evt3(path: Path, events: Events) -> None:
    """Write EVT 3.0: words for time, row and column, each of the first two only where it changes.

    The clock of 24 bits wraps every 16.8 s; a longer gap is bridged by time words, so that readers count every wrap.
    """
    check_holds(path, "EVT 3.0", events, MAX_T_US, MAX_SIDE)
    t, x, y, p = (column.astype(np.int64) for column in event_arrays(events))
    high, low = t >> 12, t & 0xFFF
    words = np.empty((len(t), 4), dtype="<u2")
    words[:, 0] = EVT3_TIME_HIGH << 12 | (high & 0xFFF)
    words[:, 1] = EVT3_TIME_LOW << 12 | low
    words[:, 2] = EVT3_Y << 12 | y
    words[:, 3] = EVT3_X << 12 | p << 11 | x
    new_high, everywhere = _changes(high), np.ones(len(t), dtype=bool)
    kept = np.column_stack([new_high, _changes(t), _changes(y), everywhere])
    gaps = np.diff(high, prepend=0)
    bridges = np.flatnonzero(gaps > 2047)
    places = np.cumsum(kept.sum(axis=1)) - kept.sum(axis=1)
    fill = [np.arange(high[k] - gaps[k] + 2047, high[k], 2047) for k in bridges]
    bridge_words = np.concatenate([EVT3_TIME_HIGH << 12 | (times & 0xFFF) for times in [*fill, high[:0]]])
    at = np.repeat(places[bridges], [len(times) for times in fill])
    _write(path, events, "EVT3", np.insert(words[kept], at, bridge_words.astype("<u2")))


def decode_evt2(path: Path, words: np.ndarray) -> Columns:
    """Return ``t, x, y, p`` of EVT 2.0 words ``(N,)`` uint32."""
    kind = words >> 28
    _check_kinds(path, kind, (EVT2_OFF, EVT2_ON, EVT2_TIME_HIGH, *EVT2_SKIPPED))
    is_time = kind == EVT2_TIME_HIGH
    high = unwrap(words[is_time] & 0xFFFFFFF, bits=28)
    timed = np.cumsum(is_time, dtype=np.int64)
    chosen = (kind <= EVT2_ON) & (timed > 0)
    cd = words[chosen]
    t = (high[timed[chosen] - 1] << 6) | (cd >> 22 & 0x3F)
    return t, cd >> 11 & 0x7FF, cd & 0x7FF, cd >> 28


def decode_evt3(path: Path, words: np.ndarray) -> Columns:
    """Return ``t, x, y, p`` of EVT 3.0 words ``(N,)`` uint16."""
    kind = words >> 12
    known = (EVT3_Y, EVT3_X, EVT3_BASE, EVT3_VECTOR_12, EVT3_VECTOR_8, EVT3_TIME_LOW, EVT3_TIME_HIGH, *EVT3_SKIPPED)
    _check_kinds(path, kind, known)
    starts = np.flatnonzero(kind == EVT3_TIME_HIGH)
    words, kind = (words[starts[0] :], kind[starts[0] :]) if len(starts) else (words[:0], kind[:0])
    time = _evt3_times(words, kind)
    y = _held(words & 0x7FF, kind == EVT3_Y)
    single = np.flatnonzero(kind == EVT3_X)
    place, x, p = _evt3_vectors(words, kind)
    place = np.concatenate([single, place])
    x = np.concatenate([words[single] & 0x7FF, x])
    p = np.concatenate([words[single] >> 11 & 1, p])
    order = np.argsort(place, kind="stable")
    place = place[order]
    if len(x) and int(x.max()) >= MAX_SIDE:
        raise fail(str(path), f"columns below {MAX_SIDE}", str(int(x.max())))
    return time[place], x[order], y[place], p[order]


def _evt3_times(words: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return the time at each word; where the high part moves on, the low part is 0 until it is said."""
    is_high, value = kind == EVT3_TIME_HIGH, words & 0xFFF
    high = unwrap(value[is_high], bits=12)
    moves = np.zeros(len(words), dtype=bool)
    moves[np.flatnonzero(is_high)[_changes(high)]] = True
    is_low = kind == EVT3_TIME_LOW
    low = _held(np.where(is_low, value, 0), is_low | moves)
    return (high[np.cumsum(is_high) - 1] << 12) | low


def _evt3_vectors(words: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return word index, ``x`` and ``p`` of the events in vector words; each moves the base on by 12 or 8 columns."""
    is_base, vector = kind == EVT3_BASE, np.flatnonzero((kind == EVT3_VECTOR_12) | (kind == EVT3_VECTOR_8))
    width = np.where(kind[vector] == EVT3_VECTOR_12, 12, 8)
    moved = np.zeros(len(words) + 1, dtype=np.int64)
    moved[vector + 1] = width
    moved = np.cumsum(moved)[:-1]  # columns gone by before each word
    base = _held((words & 0x7FF) - np.where(is_base, moved, 0), is_base)
    polarity = _held(words >> 11 & 1, is_base)
    bits = (words[vector, None] >> np.arange(12, dtype=np.uint16)) & 1
    bits &= np.arange(12) < width[:, None]
    row, bit = np.nonzero(bits)
    place = vector[row]
    return place, base[place] + moved[place] + bit, polarity[place]


def _held(values: np.ndarray, is_set: np.ndarray) -> np.ndarray:
    """Return at each place the value at the last one where ``is_set``; 0 before the first."""
    last = np.maximum.accumulate(np.where(is_set, np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], 0) if len(values) else values.astype(np.int64)


def _changes(values: np.ndarray) -> np.ndarray:
    """Return where a value differs from the one before it; the first always does."""
    return np.concatenate([np.ones(min(1, len(values)), dtype=bool), values[1:] != values[:-1]])


def split_header(content: bytes) -> tuple[dict[str, str], bytes]:
    """Split the lines ``% key value`` at the start of a RAW or DAT file from what follows them."""
    fields, place = {}, 0
    while content[place : place + 2] == b"% " and (end := content.find(b"\n", place)) >= 0:
        key, _, value = content[place + 2 : end].decode("latin-1").strip().partition(" ")
        place = end + 1
        if key == "end":
            break
        fields[key] = value
    return fields, content[place:]


def _stated_size(path: Path, fields: dict[str, str]) -> tuple[int, int] | None:
    options = dict(part.partition("=")[::2] for part in fields.get("format", "").split(";"))
    height, width = options.get("height", ""), options.get("width", "")
    if "geometry" in fields:
        width, _, height = fields["geometry"].partition("x")
    if height.isdecimal() and width.isdecimal():
        return check_size(path, int(height[:9]), int(width[:9]))
    generation = re.search(r"gen\d+", fields.get("plugin_name", ""))
    return GENERATIONS.get(generation[0]) if generation else None


def _check_kinds(path: Path, kind: np.ndarray, known: tuple[int, ...]) -> None:
    unknown = np.bincount(kind, minlength=16)
    unknown[list(known)] = 0
    if unknown.any():
        first = int(np.flatnonzero(np.isin(kind, np.flatnonzero(unknown)))[0])
        raise fail(str(path), "words of known types", f"type 0x{int(kind[first]):X} at word {first}; is it damaged?")


def _write(path: Path, events: Events, encoding: str, words: np.ndarray) -> None:
    height, width = events.sensor_size
    lines = [f"evt {encoding[-1]}.0", f"format {encoding};height={height};width={width}", f"geometry {width}x{height}"]
    with path.open("wb") as file:
        file.write("".join(f"% {line}\n" for line in [*lines, "end"]).encode())
        file.write(words.astype(words.dtype.newbyteorder("<"), copy=False).tobytes())
