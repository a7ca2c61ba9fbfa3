"""Time of two ways to the same result, one run of each in turns, so that load on the machine hits both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neuroav.checks import check_range
from neuroav.energy.measure import Clock

TURNS, WARM_UP = 21, 3
WALL = Clock()


@dataclass(frozen=True)
class Latency:
    """Wall time of a run.

    Attributes:
        median_s: Median over the turns.
        iqr_s: Distance of the quartiles.
        turns: How many runs were timed.
    """

    median_s: float
    iqr_s: float
    turns: int


def in_turns(
    runs: Mapping[str, Callable[[], Any]], turns: int = TURNS, warm_up: int = WARM_UP, clock: Clock = WALL
) -> dict[str, Latency]:
    """Time each of several functions ``turns`` times, one after the other in each turn.

    Args:
        runs: What is timed, by name.
        turns: At least 2.
        warm_up: Turns before anything is timed.
        clock: Where time comes from.

    Example:
        >>> found = in_turns({"a": list, "b": dict}, turns=5)
        >>> sorted(found), found["a"].turns
        (['a', 'b'], 5)
    """
    check_range("in_turns", "turns", turns, 2)
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-warm_up, turns):
        for name, run in runs.items():
            start = clock.now()
            run()
            elapsed = clock.now() - start
            if turn >= 0:
                samples[name].append(elapsed)
    return {name: _latency(each) for name, each in samples.items()}


def _latency(samples: list[float]) -> Latency:
    first, median, third = statistics.quantiles(samples, n=4, method="inclusive")
    return Latency(median, third - first, len(samples))
