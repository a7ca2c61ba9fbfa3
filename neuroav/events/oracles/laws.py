"""Oracles 5 to 9: what holds for any clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.events.camera import Linear, LinLog, Log
from neuroav.events.oracles.cases import (
    CHUNKS,
    UNITS,
    Bars,
    Check,
    Finding,
    Generator,
    Maps,
    Trace,
    by_pixel,
    check_between,
    check_equal,
    check_same,
    moving_clip,
    one_pixel,
    pixel_events,
    rows,
    same_state,
    signed_map,
    sort_rows,
)
from neuroav.events.types import Events, EventState


def conservation(generator: Generator) -> Finding:
    """Oracle 5 on a random walk with unequal thresholds."""
    return conservation_of(generator, *moving_clip(30))


def conservation_of(
    generator: Generator, frames: Tensor, t_us: Tensor, contrast_on: float = 0.21, contrast_off: float = 0.17
) -> Finding:
    """Oracle 5: at every frame, brightness minus what the events say lies strictly between the thresholds.

    Args:
        generator: What is judged.
        frames: ``(F, H, W)`` uint8; any clip.
        t_us: ``(F,)`` int64 microseconds.
        contrast_on: ON threshold.
        contrast_off: OFF threshold.
    """
    events, _ = generator.convert(frames, t_us, contrast_on=contrast_on, contrast_off=contrast_off)
    on, off = round(UNITS * contrast_on), round(UNITS * contrast_off)
    table = torch.tensor([round(UNITS * math.log(grey + 1)) for grey in range(256)])
    said = table[frames[0].long()].flatten()
    place = events.y.long() * frames.shape[2] + events.x.long()
    frame = torch.searchsorted(t_us, events.t_us)
    outside, largest = 0, 0.0
    for index in range(1, len(frames)):
        now = frame == index
        said = said.index_add(0, place[now], torch.where(events.p[now] == 1, on, -off))
        rest = table[frames[index].long()].flatten() - said
        outside += int(((rest <= -off) | (rest >= on)).sum())
        largest = max(largest, float((rest.double() / torch.where(rest > 0, on, off)).abs().max()))
    pixels = frames.numel() - frames[0].numel()
    early = int(((frame == 0) | (frame >= len(frames))).sum())
    checks = [
        check_equal(f"of {pixels:,} pixels at a frame: outside their thresholds", 0, outside),
        check_equal("events at or before the first frame, or after the last", 0, early),
        check_between("largest distance in thresholds", 0.0, 1 - 1e-9, largest),
        check_between("events", 1, math.inf, len(events)),
    ]
    y, x = _quiet_pixel(events)
    brightness = table[frames[:, y, x].long()].numpy() / UNITS
    levels, expected = _walk(t_us.numpy(), brightness, contrast_on, contrast_off)
    title = f"pixel ({y}, {x}) of the clip"
    return Finding(checks, Trace(title, t_us.numpy(), brightness, levels, expected, pixel_events(events, y, x)))


def _quiet_pixel(events: Events, wanted: int = 16) -> tuple[int, int]:
    """The pixel whose number of events is nearest to what a picture shows well."""
    height, width = events.sensor_size
    counts = torch.bincount(events.y.long() * width + events.x.long(), minlength=height * width)
    place = int((counts - wanted).abs().argmin())
    return place // width, place % width


def _walk(t_us: np.ndarray, brightness: np.ndarray, on: float, off: float) -> tuple[list[float], np.ndarray]:
    """Levels visited and events ``(2, E)`` of one pixel, by the textbook rule in floating point."""
    level, found = float(brightness[0]), []
    levels = {level}
    for index in range(1, len(t_us)):
        before, after = brightness[index - 1], brightness[index]
        while after - level >= on or level - after >= off:
            p = int(after > level)
            level += on if p else -off
            levels.add(level)
            share = (level - before) / (after - before)
            found.append((t_us[index - 1] + share * (t_us[index] - t_us[index - 1]), p))
    return sorted(levels), np.array(found).reshape(-1, 2).T


def symmetry(generator: Generator) -> Finding:
    """Oracle 6: mirrored brightness swaps polarity; gain and time scale do what the model says."""
    frames, t_us = moving_clip(12)
    settings: dict[str, Any] = {"contrast_on": 0.11, "contrast_off": 0.07}
    plain, _ = generator.convert(frames, t_us, brightness=Linear(), **settings)
    swapped: dict[str, Any] = {"contrast_on": 0.07, "contrast_off": 0.11}
    mirrored, _ = generator.convert(255 - frames, t_us, brightness=Linear(), **swapped)
    turned = rows(mirrored)
    turned[:, 3] = 1 - turned[:, 3]
    checks = [check_same("L -> -L with thresholds exchanged: same list, polarities swapped", rows(plain), turned)]
    slow, _ = generator.convert(frames, 3 * t_us, brightness=Linear(), **settings)
    checks.append(_scaled("t -> 3 t", rows(plain), rows(slow), 3))
    dim = frames // 4 + 1  # so that a gain of 3 stays below 256
    for law, name, unchanged in (
        (Log(1e-6), "pure log", True),
        (Log(1.0), "log with eps = 1", False),
        (LinLog(), "lin-log", False),
    ):
        once, thrice = (generator.convert(grey, t_us, brightness=law)[0] for grey in (dim, 3 * dim))
        maps = np.array_equal(signed_map(once), signed_map(thrice)) and len(once) == len(thrice)
        checks.append(check_equal(f"gain of 3, {name}: same counts in every pixel", unchanged, maps))
    picture = Maps(("brightness as it is", "brightness mirrored"), (signed_map(plain), signed_map(mirrored)))
    return Finding(checks, picture)


def _scaled(what: str, plain: Tensor, slow: Tensor, factor: int) -> Check:
    """Whether the times of every pixel's events grew by ``factor``; both are rounded up to whole microseconds."""
    plain, slow = by_pixel(plain), by_pixel(slow)
    if plain.shape != slow.shape or not torch.equal(plain[:, 1:], slow[:, 1:]):
        return Check(what, f"{len(plain)} events", f"{len(slow)} events or other pixels", False)
    early = factor * plain[:, 0] - slow[:, 0]
    text = f"{int(early.min())} to {int(early.max())} us" if len(early) else "none"
    return Check(f"{what}: rounding", f"0 to {factor - 1} us", text, bool(((early >= 0) & (early < factor)).all()))


def geometry(generator: Generator) -> Finding:
    """Oracle 7: what is done to the frames is done to the events; cutting, batching and threads change nothing."""
    frames, t_us = moving_clip()
    whole, last = generator.convert(frames, t_us)
    place = torch.arange(frames[0].numel()).reshape(frames[0].shape)
    plain = rows(whole)
    located = sort_rows(torch.stack([plain[:, 0], place[plain[:, 1], plain[:, 2]], plain[:, 3]], dim=1))
    checks = []
    moves: dict[str, Callable[[Tensor], Tensor]] = {
        "flipped upside down": lambda image: image.flip(-2),
        "flipped left to right": lambda image: image.flip(-1),
        "transposed": lambda image: image.transpose(-1, -2),
        "cropped": lambda image: image[..., 3:14, 2:20],
    }
    for name, move in moves.items():
        source = move(place)
        events, _ = generator.convert(move(frames).contiguous(), t_us)
        got = rows(events)
        shown = torch.stack([got[:, 0], source[got[:, 1], got[:, 2]], got[:, 3]], dim=1)
        checks.append(check_same(name, located[torch.isin(located[:, 1], source)], sort_rows(shown)))
    for pieces in CHUNKS:
        got, state = _in_pieces(generator, frames, t_us, [*pieces, len(frames) - sum(pieces)])
        checks.append(check_same(f"in calls of {', '.join(map(str, pieces))} and the rest of the frames", plain, got))
        checks.append(check_equal(f"its last state, cut into {len(pieces) + 1}", True, same_state(state, last)))
    checks += [*_threads(generator), *_batch(generator)]
    upside, _ = generator.convert(frames.flip(-2), t_us)
    return Finding(checks, Maps(("the clip", "upside down"), (signed_map(whole), signed_map(upside))))


def _in_pieces(generator: Generator, frames: Tensor, t_us: Tensor, sizes: list[int]) -> tuple[Tensor, EventState]:
    state, parts = None, []
    for part, times in zip(frames.split(sizes), t_us.split(sizes), strict=True):
        events, state = generator.convert(part, times, state=state)
        parts.append(rows(events))
    assert state is not None
    return torch.cat(parts), state


def _threads(generator: Generator) -> list[Check]:
    frames, t_us = moving_clip(6, 67, 131)  # several tiles of a kernel
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(rows(generator.convert(frames, t_us)[0]))
    finally:
        torch.set_num_threads(before)
    return [check_same(f"on {n} threads as on one", found[0], found[n - 1]) for n in (2, 3)]


def _batch(generator: Generator) -> list[Check]:
    if generator.convert_clips is None:
        return []
    clips = [moving_clip(*size, seed=i) for i, size in enumerate([(9, 17, 23), (1, 5, 4), (14, 8, 31), (2, 1, 1)])]
    together, _ = generator.convert_clips(clips)
    one_by_one = [generator.convert(*clip)[0] for clip in clips]
    pairs = zip(one_by_one, together, strict=True)
    return [
        check_same(f"clip {i + 1} of 4 in one call", rows(one), rows(other)) for i, (one, other) in enumerate(pairs)
    ]


def order(generator: Generator) -> Finding:
    """Oracle 8: the order of the list, and where times may lie."""
    frames, t_us = moving_clip(24)
    events, _ = generator.convert(frames, t_us, contrast_on=0.05, contrast_off=0.05)
    got, (height, width) = rows(events), events.sensor_size
    place = (got[:, 0] * height + got[:, 1]) * width + got[:, 2]
    outside = (got[:, 0] <= t_us[0]) | (got[:, 0] > t_us[-1])
    pixel = by_pixel(got)
    together = (pixel[1:, :3] == pixel[:-1, :3]).all(dim=1)
    checks = [
        check_between("events", 1000, math.inf, len(got)),
        check_equal("events before their predecessor in (t, y, x)", 0, int((place.diff() < 0).sum())),
        check_equal("events at or before the first frame, or after the last", 0, int(outside.sum())),
        check_equal("pairs of one pixel at one time", 0, int(together.sum())),
    ]
    crowd, _ = generator.convert(one_pixel([0, 255, 0]).expand(3, 4, 5).contiguous(), torch.tensor([0, 3, 9]))
    what, expected = "27 events each way of 20 pixels in 9 us: by t, then y, then x, ties fire", _crowd_rows(4, 5)
    checks.append(check_same(what, expected, rows(crowd)))
    first = expected[(expected[:, 1] == 0) & (expected[:, 2] == 0)][:, [0, 3]].T.numpy()
    path, levels = math.log(256) * np.array([0.0, 1.0, 0.0]), 0.2 * np.arange(28)
    title = "one of 20 pixels, in whole microseconds"
    return Finding(checks, Trace(title, np.array([0, 3, 9]), path, levels, first, pixel_events(crowd)))


def _crowd_rows(height: int, width: int) -> Tensor:
    """Rows of pixels that go from grey 0 to 255 in 3 us and back in 6, at a threshold of 0.2."""
    top, unit = round(UNITS * math.log(256)), round(UNITS * 0.2)
    count = top // unit
    times = [(-(-n * unit * 3 // top), 1) for n in range(1, count + 1)]
    times += [(3 - (-(top - n * unit) * 6 // top), 0) for n in range(count - 1, -1, -1)]
    return torch.tensor(sorted(((t, y, x, p) for t, p in times for y in range(height) for x in range(width))))


def monotone(generator: Generator) -> Finding:
    """Oracle 9: halving the threshold at least doubles a pixel's events; unequal thresholds share them out."""
    frames, t_us = moving_clip()
    counts, contrasts = [], (8.0, 0.5, 0.25, 0.125, 0.0625)
    for contrast in contrasts:
        events, _ = generator.convert(frames, t_us, contrast_on=contrast, contrast_off=contrast)
        counts.append(torch.bincount(events.y.long() * 23 + events.x.long(), minlength=17 * 23))
    totals = [int(count.sum()) for count in counts]
    fewer = sum(int((more < 2 * less).sum()) for less, more in pairwise(counts))
    checks = [
        check_equal("events at a threshold above the range of brightness", 0, totals[0]),
        check_equal("pixels with less than twice the events at half the threshold", 0, fewer),
    ]
    on, off, cycles = 0.2, 0.3, 60
    swing = one_pixel([20, 170] * cycles + [20])
    events, _ = generator.convert(swing, 10_000 * torch.arange(len(swing)), contrast_on=on, contrast_off=off)
    ups, height = int(events.p.sum()), math.log(171 / 21)
    downs = len(events) - ups
    unbalanced = abs(ups * on - downs * off)
    checks.append(check_between(f"{cycles} cycles at 0.2 / 0.3: |ON 0.2 - OFF 0.3|", 0, on + off, unbalanced))
    checks.append(
        check_between("and ON + OFF per cycle, in thresholds", height / off, 2 * height / on, len(events) / cycles)
    )
    halves = [2.0 * total for total in totals[1:-1]]
    labels = [f"C = {contrast:g}" for contrast in contrasts[2:]]
    title = "events: at least twice as many as at twice the threshold"
    bars = Bars(title, "events", labels, halves, halves, [math.inf] * len(halves), [float(t) for t in totals[2:]])
    return Finding(checks, bars)
