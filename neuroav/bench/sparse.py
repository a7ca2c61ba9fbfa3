"""The part of ``neuroav bench neurons`` that asks from which spike rate on a dense layer is the faster one.

One sample on one thread, inference: :class:`neuroav.neurons.sparse.SparseLinearLIF`, which reads only the weights of
inputs that fired, beside the same ``Linear`` and ``DynamicLIF`` one after the other. The crossover is the spike rate at
which both take the same time, between two measured rates along a straight line in the logarithm of the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuroav.bench.timing import Runner

SIZES = ((40, 1024, 512), (1, 1024, 512))  # T, inputs, neurons: a layer of MDFT over ten steps; a single step
RATES = (0.02, 0.05, 0.1, 0.18, 0.3, 0.5, 1.0)  # MDFT's layers are at 0.17 to 0.20
SPARSE, DENSE = "neuroav", "neuroav, dense"


@dataclass(frozen=True)
class SparseCase:
    """One sample through a layer: ``size`` is ``(T, M, N)``; a share ``rate`` of the inputs fires."""

    size: tuple[int, int, int]
    rate: float
    unit: ClassVar[str] = "Msynapse-step/s"

    @property
    def layer(self) -> str:
        """The layer as it is called in rows."""
        steps, inputs, neurons = self.size
        return f"layer {inputs} to {neurons}, T={steps}, B=1"

    @property
    def name(self) -> str:
        """How the case is called in rows."""
        return f"{self.layer}, spike rate {self.rate:g}"

    @property
    def elements(self) -> int:
        """Synapses times steps, whether their input fired or not."""
        return math.prod(self.size)

    @property
    def num_spikes(self) -> int:
        """Spikes that come out at most."""
        return self.size[0] * self.size[2]

    def make(self) -> tuple[torch.nn.Linear, Any, Tensor, Tensor]:
        """Return the two layers, spikes ``(T, 1, M)`` and thresholds ``(T, 1, 1)``; by seed."""
        from neuroav.neurons import DynamicLIF

        steps, inputs, neurons = self.size
        generator = torch.Generator().manual_seed(7)
        linear = torch.nn.Linear(inputs, neurons)
        for parameter in linear.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(inputs)
        s = (torch.rand(steps, 1, inputs, generator=generator) < self.rate).float()
        return linear, DynamicLIF(neurons), s, torch.rand(steps, 1, 1, generator=generator) * 0.4 + 0.1


def start_sparse(case: SparseCase) -> Runner:
    """Both layers in one, on the inputs that fired."""
    from neuroav.neurons.sparse import SparseLinearLIF

    linear, neurons, s, theta = case.make()
    layer = SparseLinearLIF(linear, neurons)
    return _runner(lambda: layer(s, theta)[0])


def start_dense(case: SparseCase) -> Runner:
    """One layer after the other, on all inputs."""
    linear, neurons, s, theta = case.make()
    return _runner(lambda: neurons(linear(s), theta)[0])


def _runner(forward: Callable[[], Tensor]) -> Runner:
    def run() -> Tensor:
        with torch.no_grad():
            return forward()

    def describe(spikes: Tensor) -> dict[str, Any]:
        return {"spikes": np.packbits(spikes.numpy() != 0), "spike_rate": float(spikes.mean())}

    return Runner(lambda: run, describe)


def crossovers(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each layer the spike rate below which the sparse way is the faster one.

    0 where it is so at no measured rate, 1 where it is at all of them.
    """
    by = {(row["case"], row["impl"]): row["median_s"] for row in rows}
    found = []
    for size in SIZES:
        cases = [SparseCase(size, rate) for rate in RATES]
        timed = [case for case in cases if {(case.name, SPARSE), (case.name, DENSE)} <= set(by)]
        gains = [(case.rate, math.log(by[case.name, DENSE] / by[case.name, SPARSE])) for case in timed]
        if gains:
            found.append({"case": cases[0].layer, "size": list(size), "spike_rate": crossing(gains)})
    return found


def crossing(gains: Sequence[tuple[float, float]]) -> float:
    """Return where a gain, given as ``(rate, logarithm)`` by rising rate, falls through 0 for the last time.

    Example:
        >>> crossing([(0.1, 0.5), (0.3, -0.5)])
        0.2
    """
    if gains[-1][1] >= 0:
        return 1.0
    for (low, above), (high, below) in reversed(list(pairwise(gains))):
        if above >= 0:
            return low + (high - low) * above / (above - below)
    return 0.0


def markdown(rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the page about sparse layers: a table and the crossover for each."""
    by = {(row["case"], row["impl"]): row for row in rows}
    lines = []
    for one in found:
        lines += ["", f"## {one['case']}", ""]
        lines += [
            "| spike rate | sparse ms | IQR ms | dense ms | IQR ms | dense / sparse |",
            "|--:|--:|--:|--:|--:|--:|",
        ]
        for case in (SparseCase(tuple(one["size"]), rate) for rate in RATES):
            pair = [by[case.name, impl] for impl in (SPARSE, DENSE) if (case.name, impl) in by]
            if len(pair) == 2:
                cells = [f"{row['median_s'] * 1e3:.4f} | {(row['iqr_s'] or 0) * 1e3:.4f}" for row in pair]
                lines.append(
                    f"| {case.rate:g} | {' | '.join(cells)} | {pair[1]['median_s'] / pair[0]['median_s']:.2f} |"
                )
        below = f"below a spike rate of {one['spike_rate']:.2f}"
        where = {0.0: "at no spike rate", 1.0: "at every spike rate"}.get(one["spike_rate"], below)
        lines += ["", f"* crossover: sparse is faster {where}"]
    return lines
