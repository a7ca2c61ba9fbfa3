"""NIR graphs as our networks: each node runs over the whole sequence, so a LIF node is one call of the kernel."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.checks import check_shape, fail
from neuroav.exchange.nir_export import DT_S, nir_package
from neuroav.exchange.peers import span
from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIFState

_WHERE = "from_nir"


def from_nir(graph: Any, *, dt: float | None = None) -> NIRNetwork:
    """Read a NIR graph of linear layers, delays and LIF neurons.

    A LIF node becomes a :class:`neuroav.neurons.dynamic.DynamicLIF` with ``strict=True`` (NIR fires above the
    threshold). Several edges into a node are summed, as NIR says.

    Args:
        graph: A ``nir.NIRGraph``, or the path of a file.
        dt: Length of a step in seconds; ``None`` for what :func:`~neuroav.exchange.nir.to_nir` left in the graph, or
            1e-4.

    Raises:
        InputError: If the graph has a cycle, a node of another kind, or neurons that we don't have.
        ImportError: Without the package ``nir``.
    """
    if isinstance(graph, str | Path):
        graph = nir_package().read(graph)
    if not isinstance(graph, nir_package().NIRGraph):
        raise fail(_WHERE, "a nir.NIRGraph or the path of one", type(graph).__name__, kind=TypeError)
    return NIRNetwork(graph, graph_dt(graph) if dt is None else dt)


def graph_dt(graph: Any) -> float:
    """The step in seconds that :func:`~neuroav.exchange.nir.to_nir` noted in the graph, or 1e-4."""
    return float(graph.metadata.get("dt", DT_S))


class NIRNetwork(nn.Module):
    """A NIR graph that runs over sequences; made by :func:`from_nir`.

    Attributes:
        names: Names of the nodes in the order in which they run.
        steps: Their modules, in the same order.
    """

    def __init__(self, graph: Any, dt: float):
        super().__init__()
        self.names = _order(graph)
        self.sources = {name: [a for a, b in graph.edges if b == name] for name in self.names}
        kinds = nir_package()
        self.outputs = [name for name in self.names if isinstance(graph.nodes[name], kinds.Output)]
        inputs = [name for name in self.names if isinstance(graph.nodes[name], kinds.Input)]
        if len(inputs) != 1 or len(self.outputs) != 1:
            raise fail(_WHERE, "one input and one output", f"{len(inputs)} and {len(self.outputs)}")
        self.width = int(np.prod(next(iter(graph.nodes[inputs[0]].input_type.values()))))
        self.steps = nn.ModuleList(_module(name, graph.nodes[name], dt) for name in self.names)

    def forward(self, x: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            x: Input ``(T, B, N)``.
            state: What the last call returned; ``None`` to start from rest. Not modified.

        Returns:
            What arrives at the output, ``(T, B, N)``; and the states of neurons and delays by name.
        """
        check_shape("NIRNetwork", "x", x, ("T", "B", self.width))
        values: dict[str, Tensor] = {}
        new: dict[str, Any] = {}
        for name, step in zip(self.names, self.steps):
            sources = self.sources[name]
            value = sum((values[source] for source in sources[1:]), values[sources[0]]) if sources else x
            if isinstance(step, _Neurons | _Delay):
                value, new[name] = step(value, None if state is None else state[name])
            else:
                value = step(value)
            values[name] = value
        return values[self.outputs[0]], new


def _order(graph: Any) -> list[str]:
    before: dict[str, set[str]] = {name: set() for name in graph.nodes}
    for source, target in graph.edges:
        before[target].add(source)
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise fail(_WHERE, "a graph without cycles", " - ".join(error.args[1])) from error


def _module(name: str, node: Any, dt: float) -> nn.Module:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return nn.Identity()
    if kind in ("Affine", "Linear"):
        return _linear(node)
    if kind == "Delay":
        return _Delay(_whole_steps(name, node, dt))
    if kind == "LIF":
        return _Neurons(name, node, dt)
    raise fail(_WHERE, "nodes Input, Output, Affine, Linear, Delay and LIF", f"{kind} ({name})")


def _linear(node: Any) -> nn.Linear:
    weight = torch.as_tensor(np.asarray(node.weight))
    bias = getattr(node, "bias", None)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(torch.as_tensor(np.asarray(bias)))
    return layer


def _whole_steps(name: str, node: Any, dt: float) -> int:
    steps = np.unique(np.asarray(node.delay) / dt)
    if len(steps) != 1 or abs(steps[0] - round(steps[0])) > 1e-6 or steps[0] < 0:
        raise fail(_WHERE, f"one delay of whole steps of {dt:g} s in {name}", f"{steps.min():g} to {steps.max():g}")
    return round(steps[0])


class _Delay(nn.Module):
    """Holds its input for some steps; its state are the last inputs."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor, held: Tensor | None) -> tuple[Tensor, Tensor]:
        held = x.new_zeros(self.steps, *x.shape[1:]) if held is None else held
        both = torch.cat([held, x])
        return both[: len(x)], both[len(x) :]


class _Neurons(nn.Module):
    """A ``DynamicLIF`` with the node's threshold and, where it is neither of our two gains, a factor on its input."""

    theta: Tensor
    factor: Tensor | None

    def __init__(self, name: str, node: Any, dt: float):
        super().__init__()
        decay, gain, leak, reset, theta = (
            torch.as_tensor(np.asarray(each), dtype=torch.float64).reshape(-1)
            for each in (dt / node.tau, node.r * dt / node.tau, node.v_leak, node.v_reset, node.v_threshold)
        )
        if not bool(((decay > 0) & (decay <= 1)).all()):
            raise fail(_WHERE, f"tau of {name} of at least a step of {dt:g} s", f"{span(dt / decay)} s")
        if not bool((leak == leak[0]).all()) or not bool((reset == leak[0]).all()):
            what = f"v_leak and v_reset of {name} to be one number"
            raise fail(_WHERE, what, f"{span(leak)} and {span(reset)}", "Our neurons leak and reset to v_rest.")
        unit = bool(torch.isclose(gain, torch.ones_like(gain)).all())
        self.layer = DynamicLIF(
            len(decay) if len(decay) > 1 else None,
            tau=_one_or_all(1 / decay),
            gain="unit" if unit else "decay",
            v_rest=leak[0].item(),
            strict=True,
        )
        factor = _one_or_all(gain / decay).float()
        self.register_buffer(
            "factor", None if unit or bool(torch.isclose(factor, factor.new_ones(())).all()) else factor
        )
        self.register_buffer("theta", _one_or_all(theta).float())

    def forward(self, x: Tensor, state: LIFState | None) -> tuple[Tensor, LIFState]:
        return self.layer(x if self.factor is None else x * self.factor, self.theta, state)


def _one_or_all(values: Tensor) -> Tensor:
    return values[0] if bool((values == values[0]).all()) else values
