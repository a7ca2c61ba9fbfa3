"""What an oracle is made of: the generator it judges, its checks and its picture; and the small tools to build them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from neuroav.events.types import Events, EventState

UNITS = 1 << 16  # of brightness per nat
LADDER = tuple(2**k - 1 for k in range(9))  # greys whose brightness ln(I + 1) is k ln 2: a straight line in k
CHUNKS = ([1, 1, 5, 0], [7], [3, 9])  # frames per call before the rest


class Convert(Protocol):
    """A generator of events; called as ``frames_to_events``, with the camera's parameters by name."""

    def __call__(
        self, frames: Tensor, t_us: Tensor, *, state: EventState | None = None, **camera: Any
    ) -> tuple[Events, EventState]:
        """Return the events of ``frames (F, H, W)`` at ``t_us (F,)`` and the state after them."""


@dataclass(frozen=True)
class Generator:
    """What is judged: its name, and how it converts one clip and (if it can) several of them."""

    name: str
    convert: Convert
    convert_clips: Callable[..., tuple[list[Events], list[EventState]]] | None = None


@dataclass(frozen=True)
class Check:
    """One line of a verdict: what was looked at, what the formula says, what came out."""

    what: str
    expected: str
    got: str
    passed: bool


@dataclass(frozen=True)
class Trace:
    """Brightness of one pixel over time ``(S,)``, the levels at which it fires, events expected and got ``(t, p)``."""

    title: str
    t_us: np.ndarray
    brightness: np.ndarray
    levels: Sequence[float] | np.ndarray
    expected: np.ndarray
    got: np.ndarray


@dataclass(frozen=True)
class Bars:
    """Figures beside their expectation and the band in which they may lie, one per label."""

    title: str
    unit: str
    labels: Sequence[str]
    expected: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    got: Sequence[float]


@dataclass(frozen=True)
class Maps:
    """Signed counts per pixel ``(H, W)``, one map per title."""

    titles: Sequence[str]
    images: Sequence[np.ndarray]


@dataclass(frozen=True)
class Finding:
    """What an oracle found: its checks, and a picture of the case."""

    checks: Sequence[Check]
    picture: Trace | Bars | Maps

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Oracle:
    """A case with a known answer.

    Attributes:
        key: Its number in the list, with a letter where a number has parts.
        name: A few words.
        says: What must hold, in one sentence.
        judge: Runs a generator on the case.
        ideal: Whether the ideal camera on 8-bit frames is enough; the others need float frames or a noise term.
    """

    key: str
    name: str
    says: str
    judge: Callable[[Generator], Finding] = field(repr=False)
    ideal: bool = True


# ------------------------------------------------------------------------------------------------------------- tools


def rows(events: Events) -> Tensor:
    """Return the events as rows ``t, y, x, p`` ``(E, 4)`` int64, in their order."""
    return torch.stack([events.t_us, events.y.long(), events.x.long(), events.p.long()], dim=1)


def signed_map(events: Events) -> np.ndarray:
    """Return ON minus OFF events of every pixel, ``(H, W)`` int64."""
    height, width = events.sensor_size
    place, sign = events.y.long() * width + events.x.long(), events.p.long() * 2 - 1
    return torch.zeros(height * width, dtype=torch.int64).index_add(0, place, sign).reshape(height, width).numpy()


def moving_clip(frames: int = 20, height: int = 17, width: int = 23, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a textured random walk in grey values ``(F, H, W)`` uint8 and irregular frame times ``(F,)``."""
    random = np.random.default_rng(seed)
    start = random.integers(0, 256, (1, height, width))
    moves = random.integers(-60, 61, (frames - 1, height, width)) * (random.random((frames - 1, height, width)) < 0.5)
    greys = np.clip(np.concatenate([start, start + moves.cumsum(axis=0)]), 0, 255).astype(np.uint8)
    gaps = random.integers(20_000, 50_000, frames)
    return torch.from_numpy(greys), torch.from_numpy(gaps.cumsum())


def one_pixel(values: Sequence[float] | Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Frames ``(F, 1, 1)`` of one pixel."""
    return torch.as_tensor(values).to(dtype).reshape(-1, 1, 1)


def check_equal(what: str, expected: object, got: object) -> Check:
    """Whether two values are equal."""
    return Check(what, _text(expected), _text(got), bool(expected == got))


def check_between(what: str, low: float, high: float, got: float) -> Check:
    """Whether a value lies in a range, ends included; a high end of infinity leaves it open."""
    expected = f"at least {_text(low)}" if math.isinf(high) else f"{_text(low)} to {_text(high)}"
    return Check(what, expected, _text(got), bool(low <= got <= high))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    return str(value)


def check_same(what: str, expected: Tensor, got: Tensor) -> Check:
    """Whether two lists of rows are identical, order included."""
    if expected.shape == got.shape:
        differ = int((expected != got).any(dim=1).sum()) if len(got) else 0
        return Check(what, f"{len(expected):,} events", f"{len(got):,} events, {differ} differ", differ == 0)
    return Check(what, f"{len(expected):,} events", f"{len(got):,} events", False)


def sort_rows(table: Tensor) -> Tensor:
    """Rows in lexicographic order."""
    order = torch.arange(len(table))
    for column in reversed(range(table.shape[1])):
        order = order[table[order, column].sort(stable=True).indices]
    return table[order]


def pixel_events(events: Events, y: int = 0, x: int = 0) -> np.ndarray:
    """Times and polarities ``(2, E)`` of one pixel."""
    here = (events.y == y) & (events.x == x)
    return torch.stack([events.t_us[here], events.p[here].long()]).numpy()


def check_times(what: str, expected_us: Sequence[float], p: int, events: Events, low: float = -0.2) -> Check:
    """Whether the events have polarity ``p`` and each is the first whole microsecond at its time (rounding of 0.2)."""
    got = events.t_us.double()
    if len(got) != len(expected_us) or bool((events.p != p).any()):
        wrong = int((events.p != p).sum())
        return Check(what, f"{len(expected_us)} events", f"{len(got)} events, {wrong} of the other polarity", False)
    late = got - torch.tensor(expected_us, dtype=torch.float64)
    text = (
        f"{len(got)} events, {float(late.min()):+.2f} to {float(late.max()):+.2f} us late" if len(got) else "0 events"
    )
    passed = bool(((late > low) & (late < 1 - low)).all())
    return Check(what, f"{len(expected_us)} events, 0 to 1 us late (rounding 0.2)", text, passed)


def ramp_times(contrast: float, height: float, span_us: float) -> list[float]:
    """Times at which a straight path of this height crosses its thresholds."""
    return [k * contrast / height * span_us for k in range(1, math.floor(height / contrast) + 1)]


def by_pixel(table: Tensor) -> Tensor:
    """Rows ordered by pixel, each pixel's events in the order of the list."""
    order = (table[:, 1] * (1 << 16) + table[:, 2]).sort(stable=True).indices
    return table[order]


def same_state(one: EventState, other: EventState) -> bool:
    same = torch.equal(one.reference, other.reference) and torch.equal(one.last, other.last)
    return same and one.t_us == other.t_us
