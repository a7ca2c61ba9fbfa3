"""Random frames, sizes, cameras, chunkings, threads, bins, reused memory and mistakes: what must always hold, does.

    python tests/fuzz/fuzz_events.py --cases 10000 --seed 0

A case depends on the seed and its number alone: repeat one with ``--first N --cases 1``. Where the compiled code may
crash, ``--trace`` names every case before it runs. The exit status is 1 at the first broken promise.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from itertools import pairwise

import numpy as np
import rounds
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuroav.checks import InputError
from neuroav.events.camera import EventCamera, Linear, LinLog, Log
from neuroav.events.generate import bin_frames, clips_to_events, frames_to_events
from neuroav.events.represent import events_to_bins
from neuroav.events.types import Bins, Events, EventState
from neuroav.kernels import cpu, neurons, reference

MOST_EVENTS = 10_000  # of a case, roughly: what keeps ten thousand of them to minutes
UNITS = 1 << 16


class Reference(TorchDispatchMode):
    """Inside, every op of ours runs its reference in PyTorch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "neuroav":
            return func._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class Draw:
    """Draws the parts of a case from one generator of random numbers."""

    def __init__(self, seed: int, case: int):
        self.random = np.random.default_rng([seed, case])

    def one(self, *options):
        return options[self.random.integers(len(options))]

    def whole(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def log(self, low: float, high: float) -> float:
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))))

    def size(self) -> tuple[int, int]:
        """Mostly small; sometimes more than one tile of a kernel, sometimes one row or column."""
        if self.chance(0.05):
            return self.one((1, 1), (1, 4097), (4097, 1), (65, 66), (2, 2049), (1, 129))
        return self.whole(1, self.one(4, 20)), self.whole(1, self.one(5, 40))

    def frames(self, count: int, size: tuple[int, int]) -> torch.Tensor:
        """Grey frames ``(count, H, W)`` uint8: noise, walks, flips, plateaus or none of it."""
        shape, kind = (count, *size), self.whole(0, 5)
        values = self.random.integers(0, 256, shape)
        if kind == 1:
            values = 128 + self.random.integers(-9, 10, shape).cumsum(axis=0)
        elif kind == 2:
            values = self.random.integers(0, 2, shape) * 255
        elif kind == 3:
            values = np.repeat(values[:1], count, axis=0) if count else values
        elif kind == 4:
            values = self.random.choice([0, 1, 20, 21, 254, 255], shape)
        elif kind == 5:
            values = values * (self.random.random(shape) < 0.05)
        return torch.from_numpy(values.clip(0, 255).astype(np.uint8))

    def bursts(self) -> torch.Tensor:
        """Grey frames of which each may fire from none to tens of thousands of events, often ever more."""
        frames = [self.random.integers(0, 256, (self.whole(20, 160), self.whole(20, 160)))]
        shares = [self.log(1e-3, 1) for _ in range(self.whole(2, 5))]
        for share in sorted(shares) if self.chance(0.6) else shares:
            changed = self.random.random(frames[0].shape) < share
            frames.append(np.where(changed, self.random.integers(0, 256, frames[0].shape), frames[-1]))
        return torch.from_numpy(np.stack(frames).astype(np.uint8))

    def gaps(self, count: int, longest: int) -> np.ndarray:
        """Times from frame to frame in microseconds, each at least 1."""
        scale = self.one(1, 10, 1_000, 40_000, 1_000_000, longest)
        return self.random.integers(1, min(scale, longest) + 1, count)

    def times(self, count: int, longest: int = (1 << 32) - 1) -> torch.Tensor:
        start = self.one(0, 0, -5_000_000, 1 << 40, -(1 << 40))
        gaps = self.gaps(count, longest)
        return torch.from_numpy(start + gaps.cumsum())

    def law(self) -> Log | LinLog | Linear:
        return self.one(Log(), Log(self.log(1e-6, 255)), LinLog(), LinLog(self.whole(2, 255)), Linear())

    def contrasts(self, law, cells: int) -> dict[str, float]:
        """Both thresholds; often a difference of two grey levels, so that brightness meets them exactly."""
        table = law.table().long()
        span = float(table[-1] - table[0]) / UNITS
        low = max(0.01, min(9.0, span * cells / MOST_EVENTS))
        found = {}
        for name in ("contrast_on", "contrast_off"):
            found[name] = self.log(low, min(10.0, max(20 * low, 1.0)))
            if self.chance(0.3):
                step = abs(int(table[self.whole(0, 255)] - table[self.whole(0, 255)])) / UNITS
                found[name] = step if low <= step <= 10 else found[name]
        return found

    def cuts(self, count: int) -> list[int]:
        """Sizes of the pieces of ``count`` frames, empty ones among them; the first holds a frame."""
        inner = sorted(self.whole(1, count) for _ in range(self.whole(1, 4)))
        return [b - a for a, b in pairwise([0, *inner, count])]

    def bins(self, first_us: int, last_us: int, size: tuple[int, int]) -> Bins:
        """Bins that cover the time, part of it, more than it, or none of it."""
        kind, steps = self.one("counts", "voxels", "latest"), self.whole(1, 6)
        span = max(last_us - first_us, 1)
        edges = np.sort(first_us + (self.random.uniform(-0.3, 1.3, steps + 1) * span).astype(np.int64))
        if self.chance(0.3):
            edges = np.sort(np.concatenate([edges[1:-1], [first_us, last_us]]))
        if kind == "voxels":
            edges = np.unique(edges)
            edges = edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1])
        grid = self.one(None, (1, 1), (self.whole(1, 2 * size[0]), self.whole(1, 2 * size[1])))
        return Bins(kind, torch.from_numpy(edges), grid)

    def camera(self, law, cells: int, seconds: float) -> EventCamera:
        """Any mixture of the terms of the model, at rates that the time allows."""
        mismatch = self.one(0.0, 0.0, 0.03, 0.3)  # which makes some thresholds 0.01
        contrasts = self.contrasts(law, cells * (10 if mismatch == 0.3 else 1))
        most = min(100.0, 99 / contrasts["contrast_on"], MOST_EVENTS / cells / max(seconds, 1e-3))
        terms = {
            "timestamps": self.one("crossing", "crossing", "v2e", "frame"),
            "mismatch": mismatch,
            "refractory_us": self.one(0, 0, 1, 700, 30_000, 1 << 31),
            "refractory": self.one("advance", "hold", "blind"),
            "cutoff_hz": self.one(0.0, 0.5, 30.0, 300.0, 1e6),
            "poles": self.whole(1, 2),
            "leak_hz": self.one(0.0, min(0.1, most), most * self.random.random()),
            "leak_jitter": self.one(0.0, 0.1, 1.0),
            "leak_spread": self.one(0.0, 0.1, 0.5),
            "shot_hz": self.one(0.0, max(0.001, most * self.random.random())),
            "shot_slope": self.one(0.0, 0.75, 1.0),
            "hot_fraction": self.one(0.0, 0.0, 0.05, 1.0),
            "hot_hz": min(most, 25.0),
            "dead_fraction": self.one(0.0, 0.0, 1e-12, 0.05, 1.0),
            "seed": self.one(0, self.whole(0, (1 << 62))),
        }
        if terms["cutoff_hz"] and self.chance(0.5):
            terms["photoreceptor_hz"] = min(terms["cutoff_hz"], 5.0)
        kept = {name: value for name, value in terms.items() if self.chance(0.5)}
        for name, needs in (("photoreceptor_hz", "cutoff_hz"), ("hot_fraction", "hot_hz")):
            if name in kept:
                kept[needs] = terms[needs]
        return EventCamera(brightness=law, **contrasts, **kept)


# ------------------------------------------------------------------------------------------------------ what must hold


def require(promise: bool, words: str) -> None:
    """Raise with ``words`` unless the promise is kept."""
    if not promise:
        raise AssertionError(words)


def columns(events: Events) -> list[torch.Tensor]:
    found = [events.t_us, events.x, events.y, events.p]
    return found if events.is_noise is None else [*found, events.is_noise]


def require_equal(one: Events, other: Events, words: str) -> None:
    lengths = f"{len(one)} and {len(other)} events"
    same = len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(columns(one), columns(other), strict=True))
    require(same, f"{words}: {lengths} that are not the same")


def state_tensors(state: EventState) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(state).items() if isinstance(value, torch.Tensor)}


def require_equal_states(one: EventState, other: EventState, words: str) -> None:
    a, b = state_tensors(one), state_tensors(other)
    require(a.keys() == b.keys() and one.t_us == other.t_us, f"{words}: other parts or times of the state")
    for name in a:
        require(torch.equal(a[name], b[name]), f"{words}: state.{name} differs")


def require_list(events: Events, size: tuple[int, int], first_us: int, last_us: int) -> None:
    """Types, ranges and order."""
    t, y, x = events.t_us, events.y.long(), events.x.long()
    kinds = (events.t_us.dtype, events.x.dtype, events.y.dtype, events.p.dtype)
    require(kinds == (torch.int64, torch.int16, torch.int16, torch.uint8), f"types {kinds}")
    require(events.sensor_size == size, "sensor_size")
    if len(events) == 0:
        return
    require(int(y.min()) >= 0 and int(y.max()) < size[0] and int(x.min()) >= 0 and int(x.max()) < size[1], "a place")
    require(int(events.p.max()) <= 1, "a polarity")
    require(first_us < int(t[0]) and int(t[-1]) <= last_us, f"a time outside ({first_us}, {last_us}]")
    dt, dy, dx = t.diff(), y.diff(), x.diff()
    require(bool(((dt > 0) | ((dt == 0) & ((dy > 0) | ((dy == 0) & (dx >= 0))))).all()), "the order (t, y, x)")


def require_conserved(events: Events, frames: torch.Tensor, t_us: torch.Tensor, camera: EventCamera) -> None:
    """At every frame brightness lies strictly between the thresholds around what the events say."""
    table = camera.brightness.table().long()
    on, off = round(UNITS * camera.contrast_on), round(UNITS * camera.contrast_off)
    said = table[frames[0].long()].flatten()
    place, frame = events.y.long() * frames.shape[2] + events.x.long(), torch.searchsorted(t_us, events.t_us)
    for index in range(1, len(frames)):
        now = frame == index
        said = said.index_add(0, place[now], torch.where(events.p[now] == 1, on, -off))
        rest = table[frames[index].long()].flatten() - said
        require(bool(((rest > -off) & (rest < on)).all()), f"conservation at frame {index}")


def in_pieces(frames, t_us, cuts, camera, **options) -> tuple[Events, EventState]:
    """Convert piece by piece, the state carried over."""
    state, parts = None, []
    for part, times in zip(frames.split(cuts), t_us.split(cuts), strict=True):
        events, state = frames_to_events(part, times, camera, state=state, **options)
        parts.append(columns(events))
    joined = [torch.cat(column) for column in zip(*parts, strict=True)]
    return Events(*joined[:4], events.sensor_size, *joined[4:]), state


# ---------------------------------------------------------------------------------------------------------- the cases


def ideal_case(draw: Draw) -> int:
    """The ideal camera: list, reference, chunks, threads, conservation, fused bins."""
    size, count = draw.size(), draw.whole(1, 9)
    frames, t_us, law = draw.frames(count, size), draw.times(count), draw.law()
    camera = EventCamera(brightness=law, **draw.contrasts(law, frames.numel()))
    events = check_clip(draw, frames, t_us, camera)
    require_conserved(events, frames, t_us, camera)
    return len(events)


def camera_case(draw: Draw) -> int:
    """The full camera on 8-bit or float frames; -1 if it leaks more between two frames than it may."""
    size, count = draw.size(), draw.whole(1, 9)
    frames, t_us, law = draw.frames(count, size), draw.times(count, longest=100_000_000), draw.law()
    seconds = float(t_us[-1] - t_us[0]) * 1e-6
    camera = draw.camera(law, frames.numel(), seconds / count)
    if draw.chance(0.3):
        noise = torch.from_numpy(draw.random.normal(0, 0.3, frames.shape))
        levels = law.table().double() / UNITS
        frames = (levels[frames.long()] + noise).clamp(-30, 30).to(draw.one(torch.float32, torch.float64))
    labels = draw.chance(0.3)
    if leaks_too_much(frames, t_us, camera):
        return -1
    events = check_clip(draw, frames, t_us, camera, labels=labels)
    if camera.dead_fraction == 1:
        require(len(events) == 0, "a dead pixel fires")
    check_region(draw, frames, t_us, camera, events, labels)
    if draw.chance(0.2):
        check_terms_off(frames, t_us, camera)
    return len(events)


def leaks_too_much(frames, t_us, camera) -> bool:
    """Whether the camera refuses the clip for the one reason that it may have."""
    try:
        frames_to_events(frames, t_us, camera)
    except InputError as error:
        require("of leak between two frames" in str(error), str(error))
        return True
    return False


def check_clip(draw: Draw, frames, t_us, camera, **options) -> Events:
    """Everything that holds for any camera; returns the events."""
    before = [frames.clone(), t_us.clone()]
    events, state = frames_to_events(frames, t_us, camera, **options)
    require(torch.equal(frames, before[0]) and torch.equal(t_us, before[1]), "the input was changed")
    size = (frames.shape[1], frames.shape[2])
    require_list(events, size, int(t_us[0]), int(t_us[-1]))
    if frames.numel() < 3000 and (camera.is_ideal or len(events) + frames.numel() < 1500):
        with Reference():
            slow, slow_state = frames_to_events(frames, t_us, camera, **options)
        require_equal(events, slow, "kernel and reference")
        require_equal_states(state, slow_state, "kernel and reference")
    pieces, last = in_pieces(frames, t_us, draw.cuts(len(frames)), camera, **options)
    require_equal(events, pieces, "one call and several")
    require_equal_states(state, last, "one call and several")
    torch.set_num_threads(draw.whole(2, 3))
    try:
        again, again_state = frames_to_events(frames, t_us, camera, **options)
    finally:
        torch.set_num_threads(1)
    require_equal(events, again, "one thread and several")
    require_equal_states(state, again_state, "one thread and several")
    bins = draw.bins(int(t_us[0]), int(t_us[-1]), size)
    values, fused_state = bin_frames(frames, t_us, bins, camera)
    require(torch.equal(values, events_to_bins(events, bins)), f"fused {bins.kind} and bins of the list")
    require_equal_states(state, fused_state, f"fused {bins.kind} and the list")
    return events


def check_region(draw: Draw, frames, t_us, camera, whole: Events, labels: bool) -> None:
    """A region of interest sees what the whole sensor sees there."""
    if camera.timestamps == "v2e":
        return  # its grid depends on the busiest pixel of all
    height, width = frames.shape[1:]
    top, left = draw.whole(0, height - 1), draw.whole(0, width - 1)
    roi = (top, left, draw.whole(1, height - top), draw.whole(1, width - left))
    events, _ = frames_to_events(frames, t_us, camera, roi=roi, labels=labels)
    y, x = whole.y.long(), whole.x.long()
    inside = (y >= top) & (y < top + roi[2]) & (x >= left) & (x < left + roi[3])
    expected = [column[inside] for column in columns(whole)]
    same = len(events) == len(expected[0])
    same = same and all(torch.equal(a, b) for a, b in zip(columns(events), expected, strict=True))
    require(same, f"region {roi} and the same part of the whole")


def check_terms_off(frames, t_us, camera) -> None:
    """The full camera with every term off is the ideal camera."""
    plain = EventCamera(
        brightness=camera.brightness, contrast_on=camera.contrast_on, contrast_off=camera.contrast_off,
        timestamps=camera.timestamps,
    )  # fmt: skip
    ideal, _ = frames_to_events(frames, t_us, plain)
    full, _ = frames_to_events(frames, t_us, plain.replace(dead_fraction=1e-12))
    require_equal(ideal, full, "the ideal camera and the full one with every term off")


def batch_case(draw: Draw) -> int:
    """Clips of different lengths and sizes in one call and one by one, twice with the state carried over."""
    law = draw.law()
    sizes = [(draw.whole(1, 12), draw.whole(1, 12)) for _ in range(draw.whole(1, 4))]
    counts = [draw.whole(1, 6) for _ in sizes]
    clips = [(draw.frames(n, size), draw.times(n, 300_000)) for n, size in zip(counts, sizes, strict=True)]
    cells = sum(frames.numel() for frames, _ in clips)
    camera = draw.one(EventCamera(brightness=law, **draw.contrasts(law, cells)), draw.camera(law, cells, 5.0))
    if any(leaks_too_much(*clip, camera) for clip in clips):
        return -1
    together, states = clips_to_events(clips, camera)
    later = [(frames, t_us + int(t_us[-1] - t_us[0]) + 1_000) for frames, t_us in clips]
    then, _ = clips_to_events(later, camera, states=states)
    for index, (frames, t_us) in enumerate(clips):
        events, state = frames_to_events(frames, t_us, camera)
        require_equal(events, together[index], "a batch and single clips")
        require_equal_states(state, states[index], "a batch and single clips")
        events, _ = frames_to_events(*later[index], camera, state=state)
        require_equal(events, then[index], "a batch and single clips, second call")
    return sum(map(len, together))


def reuse_case(draw: Draw) -> int:
    """Lists of very different lengths one after another, some kept and some freed: their memory is used again."""
    kept, total = [], 0
    for _ in range(draw.whole(4, 8)):
        frames, labels = draw.bursts(), draw.chance(0.5)
        t_us = draw.times(len(frames), 300_000)
        noise = draw.one({}, {"dead_fraction": 1e-12}, {"leak_hz": 0.3, "mismatch": 0.03, "refractory_us": 200})
        camera = EventCamera(contrast_on=draw.log(0.05, 0.5), contrast_off=draw.log(0.05, 0.5), **noise)
        torch.set_num_threads(draw.whole(1, 3))
        try:
            events, _ = frames_to_events(frames, t_us, camera, labels=labels)
        finally:
            torch.set_num_threads(1)
        with Reference():
            expected, _ = frames_to_events(frames, t_us, camera, labels=labels)
        require_equal(events, expected, "kernel and reference, in memory that is used again")
        total += len(events)
        kept.append((events, expected))
        del events
        for _ in range(draw.whole(0, 2)):
            if kept:
                del kept[draw.whole(0, len(kept) - 1)]
        for one, other in kept:
            require_equal(one, other, "a list that was kept, before and after other calls")
    return total


def list_case(draw: Draw) -> int:
    """Lists of events in any order, some of them impossible, to bins."""
    size, count = draw.size(), draw.one(0, 1, draw.whole(2, 3000))
    first = draw.one(0, 1 << 40, -(1 << 40))
    t_us = first + draw.random.integers(0, draw.one(1, 1000, 1 << 33), count)
    y, x = (draw.random.integers(0, side, count).astype(np.int16) for side in size)
    p = draw.random.integers(0, 2, count).astype(np.uint8)
    spoiled = count > 0 and draw.chance(0.2)
    if spoiled:
        column, values = draw.one((y, (-1, -32768, size[0])), (x, (-1, -32768, size[1])), (p, (2, 255)))
        column[draw.whole(0, count - 1)] = draw.one(*values)
    events = Events(*map(torch.from_numpy, (t_us, x, y, p)), size)
    bins = draw.bins(int(t_us.min()) if count else 0, int(t_us.max()) if count else 10, size)
    try:
        torch.set_num_threads(draw.whole(1, 3))
        values = events_to_bins(events, bins)
    except InputError:
        require(spoiled, "a good list was refused")
        return 0
    finally:
        torch.set_num_threads(1)
    require(not spoiled, "an event outside the sensor was taken")
    with Reference():
        require(torch.equal(values, events_to_bins(events, bins)), f"{bins.kind}: kernel and reference")
    edges = bins.edges_us
    inside = int(((events.t_us > edges[0]) & (events.t_us <= edges[-1])).sum())
    if bins.kind == "counts":
        require(int(values.sum()) == inside, "counts: every event once")
    if bins.kind == "voxels":
        ends = int(((events.t_us >= edges[0]) & (events.t_us <= edges[-1])).sum())
        require(int(values.sum()) == ends << 16, "voxels: every event with a weight of 1")
    return count


def bad_case(draw: Draw) -> int:
    """One mistake in the arguments: an error that says so, or a result, but nothing else."""
    size, count = (draw.whole(1, 9), draw.whole(1, 9)), draw.whole(2, 6)
    frames, t_us = draw.frames(count, size), draw.times(count, 1_000_000)
    _, state = frames_to_events(frames, t_us, brightness=Log())
    later, far = t_us + int(t_us[-1] - t_us[0]) + 1, torch.iinfo(torch.int64).max
    nan = frames.double()
    nan[-1, 0, 0] = draw.one(np.nan, np.inf, -np.inf, 33.0, -1e300)
    odd = draw.one(np.nan, np.inf, -1, -1e-9, 0, 1e9, 11, "0.2", None, 1 << 70)
    mistakes = {
        "repeated time": {"t_us": t_us[[0, *range(count - 1)]]},
        "times backwards": {"t_us": t_us.flip(0)},
        "too few times": {"t_us": t_us[:-1]},
        "float times": {"t_us": t_us.double()},
        "times at the end of the range": {"t_us": far - count + torch.arange(count)},
        "an interval too long": {"t_us": t_us + torch.arange(count) * (1 << 40)},
        "times across the whole range": {"t_us": torch.tensor([-far, *range(count - 2), far])},
        "a frame too few axes": {"frames": frames[0]},
        "colour": {"frames": frames[..., None].expand(*frames.shape, 3)},
        "no pixel": {"frames": frames[:, :0]},
        "no frame": {"frames": frames[:0], "t_us": t_us[:0]},
        "other type": {"frames": frames.to(draw.one(torch.int16, torch.int64, torch.bool, torch.float16))},
        "impossible brightness": {"frames": nan},
        "state of another size": {"frames": frames[:, :, :1].repeat(1, 1, size[1] + 1), "t_us": later, "state": state},
        "state from the future": {"state": state},
        "state of other thresholds": {"t_us": later, "state": state, "contrast_on": 0.01, "contrast_off": 0.013},
        "state of another camera": {"t_us": later, "state": state, "leak_hz": 1.0},
        "region outside": {"roi": draw.one((0, 0, size[0] + 1, 1), (-1, 0, 1, 1), (0, 0, 0, 1), (size[0], 0, 1, 1))},
        "odd threshold": {draw.one("contrast_on", "contrast_off"): odd},
        "odd noise": {draw.one("mismatch", "leak_hz", "shot_hz", "cutoff_hz", "refractory_us", "poles", "seed"): odd},
        "unknown word": {draw.one("timestamps", "refractory", "brightness", "backend"): draw.one("crossin", 3, None)},
        "unknown name": {"contrst": 0.2},
    }
    name = draw.one(*mistakes)
    try:
        frames_to_events(**{"frames": frames, "t_us": t_us} | mistakes[name])
    except (InputError, TypeError) as error:
        require(len(str(error)) > 10, f"{name}: an error without words")
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__} instead of InputError or TypeError") from error
    return 0


def neuron_case(draw: Draw) -> int:
    """Dynamic-threshold neurons: spikes and membranes bit for bit, gradients to 1e-6 of the largest."""
    dtype, sizes = draw.one(torch.float32, torch.float64), (draw.whole(1, 7), draw.whole(1, 5), draw.one(1, 7, 33, 300))
    make = torch.Generator().manual_seed(draw.whole(0, 1 << 30))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=make, dtype=dtype)

    x, v0, decay = normal(*sizes) + 0.5, normal(*sizes[1:]), normal(draw.one(1, sizes[2])).abs().clamp(0.01, 1)
    theta = normal(*(draw.one(1, side) for side in sizes)).abs() + 0.2
    rests = draw.whole(0, 3)
    left = torch.randint(0, rests + 1, sizes[1:], generator=make, dtype=torch.int32) if rests else None
    dynamics = (draw.random.normal() * 0.1, draw.chance(0.5), draw.chance(0.5), draw.chance(0.5), rests)
    options = (*dynamics, draw.chance(0.5), draw.whole(0, 3), 2.0, 0.7)
    keep = draw.whole(1, 4)
    assert neurons.cpu is cpu  # it is what registers the ops
    torch.set_num_threads(draw.whole(1, 3))
    try:
        got = torch.ops.neuroav.dynamic_lif(x, theta, v0, decay, left, *options, keep)
        grads = (normal(*sizes), normal(*sizes[1:]), normal(*sizes) if keep == 1 else None)
        tensors = (*grads, x, *got[3:], theta, v0, decay, left)
        back = (*tensors, *options, keep, dtype, True, True, True)
        got_back = torch.ops.neuroav.dynamic_lif_backward(*back)
    finally:
        torch.set_num_threads(1)
    for a, b in zip(got, reference.lif_forward(x, theta, v0, decay, left, *dynamics, keep), strict=True):
        require(torch.equal(a, b), "neurons forward: kernel and reference")
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for a, b in zip(got_back, reference.lif_backward(*back), strict=True):
        near = float((a - b).abs().max()) <= tolerance * max(float(b.abs().max()), 1e-6)
        require(near, "neurons backward: kernel and reference")
    return int(got[0].sum())


CASES = (
    (ideal_case, 0.3),
    (camera_case, 0.32),
    (batch_case, 0.05),
    (reuse_case, 0.03),
    (list_case, 0.15),
    (bad_case, 0.1),
    (neuron_case, 0.05),
)


def run_case(seed: int, number: int) -> tuple[str, int]:
    """Run one case; returns its kind and how many events it made."""
    draw = Draw(seed, number)
    kinds, shares = zip(*CASES, strict=True)
    kind = kinds[int(draw.random.choice(len(kinds), p=shares))]
    return kind.__name__, kind(draw)


def fuzz(seed: int, first: int, cases: int, trace: bool = False) -> Counter[str]:
    """Run cases; returns how many of each kind and how many events.

    Raises:
        AssertionError: If a promise is broken; the text holds the case's number.
    """
    done: Counter[str] = Counter()
    for kind, events in rounds.run(run_case, seed, range(first, first + cases), trace):
        done[kind] += 1
        done["events"] += max(events, 0)
        done["refused"] += events < 0
    return done


def main() -> int:
    """Command line; returns the exit status."""
    args = rounds.arguments("Fuzz the event code.")
    torch.set_num_threads(1)
    sys.stdout.write(f"cpu kernels: {cpu.describe()}\n")
    begin = time.monotonic()
    try:
        done = fuzz(args.seed, args.first, args.cases, args.trace)
    except AssertionError:
        traceback.print_exc()
        return 1
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(done.items()))
    sys.stdout.write(f"{args.cases} cases of seed {args.seed} in {time.monotonic() - begin:.0f} s: {counts}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
