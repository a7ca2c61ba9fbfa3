"""What other tools make of a NIR graph: the share of spikes that differ, reader by reader."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_shape
from neuroav.exchange.nir_export import DT_S, nir_package
from neuroav.exchange.nir_import import from_nir, graph_dt
from neuroav.silence import silence


@dataclass(frozen=True)
class ReaderResult:
    """What one reader did.

    Attributes:
        reader: Package, such as ``"norse"``.
        version: Its version; empty if it isn't installed.
        differ: Share of output values that differ, 0 to 1; ``None`` if the graph was not run.
        left_out: Why not; empty if it was.
    """

    reader: str
    version: str
    differ: float | None
    left_out: str = ""

    def __str__(self) -> str:
        """One line."""
        found = f"left out: {self.left_out}" if self.differ is None else f"{self.differ:.3%} of spikes differ"
        return f"{self.reader} {self.version}".rstrip() + f": {found}"


@dataclass(frozen=True)
class Verification:
    """What all readers did; ``print`` it for one line each.

    Attributes:
        reference: What the readers are compared with.
        results: One for each reader.
        rate: Share of ones in the reference.
    """

    reference: str
    results: tuple[ReaderResult, ...]
    rate: float

    def __getitem__(self, reader: str) -> ReaderResult:
        """The result of one reader by name."""
        return {result.reader: result for result in self.results}[reader]

    def __str__(self) -> str:
        """One line for the reference and one for each reader."""
        return "\n".join([f"against {self.reference}, spike rate {self.rate:.3%}", *map(str, self.results)])


def verify(graph: Any, inputs: Tensor, *, spikes: Tensor | None = None, dt: float | None = None) -> Verification:
    """Run a graph in every NIR reader that is installed, and count the output values that differ.

    Left out, with the reason, are readers that would ignore or misread a part of the graph: they would run something
    else without saying so.

    Args:
        graph: A ``nir.NIRGraph``, or the path of a file.
        inputs: Input ``(T, B, N)``; for ``mode="normalised"`` already divided by theta.
        spikes: What the exported model gave for them, ``(T, B, N)``; ``None`` for what :func:`from_nir` gives. With it,
            our own reader is one of those compared.
        dt: Length of a step in seconds, as for :func:`from_nir`.
    """
    graph = nir_package().read(graph) if isinstance(graph, str | Path) else graph
    check_shape("verify", "inputs", inputs, ("T", "B", "N"))
    dt = graph_dt(graph) if dt is None else dt
    with torch.no_grad():
        ours, _ = from_nir(graph, dt=dt)(inputs)
        reference = ours if spikes is None else spikes.detach()
        check_shape("verify", "spikes", reference, tuple(ours.shape))
        results = [_compare(name, graph, inputs, reference, dt) for name in _READERS]
    if spikes is not None:
        results.insert(0, ReaderResult("neuroav", "", _share(ours, reference)))
    named = "neuroav's reading of the graph" if spikes is None else "the given spikes"
    return Verification(named, tuple(results), reference.count_nonzero().item() / max(1, reference.numel()))


def _compare(name: str, graph: Any, inputs: Tensor, reference: Tensor, dt: float) -> ReaderResult:
    if importlib.util.find_spec(name) is None:
        return ReaderResult(name, "", None, "not installed")
    version, (obstacle, run) = importlib.metadata.version(name), _READERS[name]
    reason = _unknown_nodes(graph) or _first(obstacle(node, dt) for node in _neurons(graph))
    if reason:
        return ReaderResult(name, version, None, reason)
    try:
        with silence():
            found = run(copy.deepcopy(graph), inputs, dt)
    except Exception as error:  # another package's reader may fail in any way; the report says how
        return ReaderResult(name, version, None, f"its reader failed with {type(error).__name__}: {error}")
    return ReaderResult(name, version, _share(found, reference))


def _share(found: Tensor, reference: Tensor) -> float:
    return (found.to(reference.dtype) != reference).double().mean().item()


def _neurons(graph: Any) -> list[Any]:
    return [node for node in graph.nodes.values() if type(node).__name__ == "LIF"]


def _unknown_nodes(graph: Any) -> str:
    known = ("Input", "Output", "Affine", "Linear", "LIF")
    others = sorted({type(node).__name__ for node in graph.nodes.values()} - set(known))
    return f"it has no {' and no '.join(others)} node" if others else ""


def _first(reasons: Any) -> str:
    return next((reason for reason in reasons if reason), "")


def _varies(*values: Any) -> bool:
    return any(np.unique(value).size > 1 for value in values)


def _spikingjelly_obstacle(node: Any, dt: float) -> str:
    steps = node.tau / dt
    if _varies(node.tau, node.r, node.v_threshold, node.v_leak, node.v_reset):
        return "it takes one tau, r, threshold and reset per layer"
    if not np.allclose(node.v_leak, node.v_reset):
        return "it takes v_leak = v_reset only"
    if not (np.allclose(node.r, 1) or np.allclose(node.r, steps)):
        return "it takes r = 1 or r = tau / dt only"
    return "it takes tau above dt only" if np.any(steps <= 1) else ""


def _snntorch_obstacle(node: Any, dt: float) -> str:
    if not np.isclose(dt, DT_S):
        return f"its time step is always {DT_S:g} s, not {dt:g} s"
    if np.any(node.v_leak) or np.any(node.v_reset):
        return "it takes v_leak = v_reset = 0 only"
    gain = node.r * dt / node.tau
    if _varies(node.v_threshold) or not np.allclose(gain, gain.flat[0]):
        return "it takes one threshold and one input gain r dt / tau per layer"
    return ""


def _norse_obstacle(node: Any, dt: float) -> str:
    if not np.allclose(node.r, 1):
        return "it takes no r but 1"
    return "it resets to 0 whatever v_reset says" if np.any(node.v_reset) else ""


def _run_spikingjelly(graph: Any, x: Tensor, dt: float) -> Tensor:
    exchange = importlib.import_module("spikingjelly.activation_based.nir_exchange")
    return exchange.import_from_nir(graph, dt=dt, step_mode="m")(x)[0]


def _run_snntorch(graph: Any, x: Tensor, dt: float) -> Tensor:
    instances = importlib.import_module("snntorch").SpikingNeuron.instances
    before = len(instances)
    model = importlib.import_module("snntorch.import_nir").import_from_nir(graph)
    try:
        return _in_steps(model, x)
    finally:
        del instances[before:]  # snnTorch would keep them alive


def _run_norse(graph: Any, x: Tensor, dt: float) -> Tensor:
    return _in_steps(importlib.import_module("norse.torch.utils.import_nir").from_nir(graph, dt=dt), x)


def _in_steps(model: Any, x: Tensor) -> Tensor:
    state, steps = None, []
    for value in x.unbind(0):
        out, state = model(value, state)
        steps.append(out)
    return torch.stack(steps)


_Reader = tuple[Callable[[Any, float], str], Callable[[Any, Tensor, float], Tensor]]

_READERS: dict[str, _Reader] = {
    "spikingjelly": (_spikingjelly_obstacle, _run_spikingjelly),
    "snntorch": (_snntorch_obstacle, _run_snntorch),
    "norse": (_norse_obstacle, _run_norse),
}
