"""Energy measured: windows of repeated runs, interleaved, between two looks at the idle machine.

Meters are slow and partial: NVML's counter moves every 20 to 100 ms, its power reading is an average of up to a second,
and on A100 and H100 the sensor looks at a quarter of the time. So a run is repeated for a window of at least 5 s, there
are at least 5 trials, what is compared takes turns (ABAB), every window begins and ends with the device synchronised,
and idle power is measured before and after. A meter that stops answering or stands still is an error, never a number.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any, Protocol

from neuroav.checks import NeuroavError, check_range, fail

LEAST_WINDOW_S, LEAST_TRIALS = 5.0, 5
MOST_SPREAD, MOST_DISAGREEMENT, MOST_DRIFT = 0.05, 0.05, 0.1
BLOCK_S = 0.5  # runs between two looks at the clock


class MeterError(NeuroavError, RuntimeError):
    """A meter that stopped answering, or gave what can't be energy."""


@dataclass
class Reading:
    """What a meter found in one window.

    Attributes:
        joules: Energy by method, such as ``counter`` and ``power``.
        state: Clocks, temperature and whatever else the meter reads at the end.
    """

    joules: dict[str, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Meter(Protocol):
    """Something that reads energy.

    Attributes:
        name: What it is called in a report.
    """

    name: str

    def window(self) -> AbstractContextManager[Reading]:
        """Measure while the context lasts; the reading is filled in at its end."""
        ...

    def describe(self) -> dict[str, Any]:
        """Device, driver, limits: what stays the same."""
        ...


@dataclass(frozen=True)
class Clock:
    """Where time comes from.

    Attributes:
        now: Seconds that only grow.
        wait: Lets seconds pass.
    """

    now: Callable[[], float] = time.perf_counter
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        run: One pass.
        clips: Clips in it.
        synchronise: Waits until the device has done what it was told.
    """

    run: Callable[[], Any]
    clips: int
    synchronise: Callable[[], Any] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How it is measured; less than 5 s or 5 trials is marked in the result.

    Attributes:
        window_s: Length of a window in s.
        trials: Windows for each subject.
        warm_up_s: Runs of each subject before anything is measured, in s.
        idle_s: Length of the idle windows in s.
        pause_s: Rest before each window in s.
    """

    window_s: float = LEAST_WINDOW_S
    trials: int = LEAST_TRIALS
    warm_up_s: float = 2.0
    idle_s: float = 5.0
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        check_range("Plan", "window_s", self.window_s, 1e-6)
        check_range("Plan", "idle_s", self.idle_s, 1e-6)
        check_range("Plan", "trials", self.trials, 1)


@dataclass(frozen=True)
class Energy:
    """What one method of one meter found for one subject, per clip.

    Attributes:
        meter: Its name.
        method: ``counter`` or ``power``.
        gross_j: Joules by trial.
        net_j: The same without idle power.
        idle_w: Idle power in W, mean of before and after.
    """

    meter: str
    method: str
    gross_j: tuple[float, ...]
    net_j: tuple[float, ...]
    idle_w: float

    def to_json(self) -> dict[str, Any]:
        """Mean, sample standard deviation and trials."""
        entry: dict[str, Any] = {"meter": self.meter, "method": self.method, "idle_w": self.idle_w}
        for name in ("gross_j", "net_j"):
            values = getattr(self, name)
            entry[name] = statistics.fmean(values)
            entry[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            entry[f"{name}_trials"] = list(values)
        return entry


@dataclass(frozen=True)
class Measured:
    """What was measured for one subject.

    Attributes:
        clips: Clips in a pass.
        latency_s: Median over the trials of seconds a pass, back to back.
        energy: By meter and method; empty without a meter.
        flags: What makes the figures doubtful.
        state: State of the meters at the end of each window.
    """

    clips: int
    latency_s: float
    energy: tuple[Energy, ...]
    flags: tuple[str, ...]
    state: tuple[dict[str, Any], ...]

    @property
    def clips_per_s(self) -> float:
        """Throughput."""
        return self.clips / self.latency_s

    def to_json(self) -> dict[str, Any]:
        """As the entry ``measured`` of a row."""
        return {
            "batch": self.clips,
            "latency_s": self.latency_s,
            "clips_per_s": self.clips_per_s,
            "energy": [each.to_json() for each in self.energy],
            "flags": list(self.flags),
            "state": list(self.state),
        }


@dataclass(frozen=True)
class _Window:
    """One window: joules by meter and method, seconds, passes."""

    joules: dict[tuple[str, str], float]
    seconds: float
    runs: int
    state: dict[str, Any]


def measure(
    subjects: Mapping[str, Subject],
    meters: Sequence[Meter],
    plan: Plan = Plan(),
    clock: Clock = Clock(),
) -> dict[str, Measured]:
    """Measure subjects in turns.

    Args:
        subjects: What is compared, by name.
        meters: What reads energy meanwhile; without any there are only times.
        plan: How long and how often.
        clock: Where time comes from.

    Returns:
        One result for each subject.

    Raises:
        MeterError: If a meter stops answering, stands still or runs backwards.
    """
    for subject in subjects.values():
        _run_for(subject, plan.warm_up_s, clock)
    idle = [_idle(meters, plan, clock)]
    windows: dict[str, list[_Window]] = {name: [] for name in subjects}
    for _ in range(plan.trials):
        for name, subject in subjects.items():
            clock.wait(plan.pause_s)
            windows[name].append(_window(meters, partial(_run_for, subject, plan.window_s, clock), clock))
    idle.append(_idle(meters, plan, clock))
    return {name: _result(subjects[name].clips, found, idle, plan) for name, found in windows.items()}


def _run_for(subject: Subject, seconds: float, clock: Clock) -> int:
    """Repeat a subject for at least so many seconds; returns the number of passes."""
    start, runs, block = clock.now(), 0, 1
    while True:
        for _ in range(block):
            subject.run()
        subject.synchronise()
        runs += block
        elapsed = clock.now() - start
        if elapsed >= seconds:
            return runs
        block = max(1, math.ceil(min(BLOCK_S, seconds - elapsed) / max(elapsed / runs, 1e-9)))


def _idle(meters: Sequence[Meter], plan: Plan, clock: Clock) -> _Window:
    def rest() -> int:
        clock.wait(plan.idle_s)
        return 0

    clock.wait(plan.pause_s)
    return _window(meters, rest, clock)


def _window(meters: Sequence[Meter], work: Callable[[], int], clock: Clock) -> _Window:
    with ExitStack() as stack:
        readings = [stack.enter_context(meter.window()) for meter in meters]
        start = clock.now()
        runs = work()
        seconds = clock.now() - start
    joules = {
        (meter.name, method): _plausible(meter.name, method, value, seconds)
        for meter, reading in zip(meters, readings, strict=True)
        for method, value in reading.joules.items()
    }
    state = {meter.name: reading.state for meter, reading in zip(meters, readings, strict=True) if reading.state}
    return _Window(joules, seconds, runs, state)


def _plausible(meter: str, method: str, joules: float, seconds: float) -> float:
    if not 0 < joules < math.inf:
        remedy = "Some virtual and older devices answer without measuring; use another meter, or a longer window."
        raise fail(meter, f"a {method} that moves within {seconds:.1f} s", f"{joules:g} J", remedy, MeterError)
    return joules


def _result(clips: int, windows: Sequence[_Window], idle: Sequence[_Window], plan: Plan) -> Measured:
    energy: list[Energy] = []
    flags: list[str] = []
    for meter, method in windows[0].joules:
        watts = [each.joules[meter, method] / each.seconds for each in idle]
        idle_w = statistics.fmean(watts)
        gross = [each.joules[meter, method] / (each.runs * clips) for each in windows]
        net = [(each.joules[meter, method] - idle_w * each.seconds) / (each.runs * clips) for each in windows]
        energy.append(Energy(meter, method, tuple(gross), tuple(net), idle_w))
        flags += _doubts(f"{meter}, {method}", gross, net, watts)
    flags += _disagreements(energy)
    if plan.window_s < LEAST_WINDOW_S or plan.trials < LEAST_TRIALS:
        flags.append(f"{plan.trials} windows of {plan.window_s:g} s; 5 of 5 s are the least that can be trusted")
    latency = statistics.median(each.seconds / each.runs for each in windows)
    return Measured(clips, latency, tuple(energy), tuple(flags), tuple(each.state for each in windows))


def _doubts(name: str, gross: Sequence[float], net: Sequence[float], idle_w: Sequence[float]) -> Iterator[str]:
    mean = statistics.fmean(gross)
    if len(gross) > 1 and statistics.stdev(gross) > MOST_SPREAD * mean:
        yield f"{name}: spread of the trials {statistics.stdev(gross) / mean:.1%}, above {MOST_SPREAD:.0%}"
    drift = abs(idle_w[1] - idle_w[0]) / statistics.fmean(idle_w)
    if drift > MOST_DRIFT:
        yield f"{name}: idle power moved by {drift:.0%}, from {idle_w[0]:.3g} to {idle_w[1]:.3g} W"
    if min(net) <= 0:
        yield f"{name}: not told from the idle machine in every trial"


def _disagreements(energy: Sequence[Energy]) -> Iterator[str]:
    """Methods of one meter that differ."""
    for a, b in combinations(energy, 2):
        means = statistics.fmean(a.gross_j), statistics.fmean(b.gross_j)
        apart = abs(means[0] - means[1]) / statistics.fmean(means)
        if a.meter == b.meter and apart > MOST_DISAGREEMENT:
            yield f"{a.meter}: {a.method} and {b.method} differ by {apart:.0%}"
