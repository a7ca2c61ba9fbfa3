"""SpikingJelly 2: our neurons as one of its own (:class:`DynamicLIFNode`), and its neurons in our networks.

SpikingJelly is imported when a name is first used; it is no requirement of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuroav.checks import check_choice, fail
from neuroav.exchange.peers import check_fixed, check_plain, peer
from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIF, LIFLayer, LIFState
from neuroav.neurons.surrogate import ATan, FastSigmoid, Sigmoid, SuperSpike, Surrogate, Triangle

if TYPE_CHECKING:
    DynamicLIFNode: Any
    _Peer: Any  # the peer's class, which joins in when it is first asked for
else:
    _Peer = nn.Module


def _spikingjelly(module: str) -> ModuleType:
    remedy = "Install it: python -m pip install 'spikingjelly>=2' (Python 3.11, torch 2.6 or newer)."
    return peer("exchange.spikingjelly", f"spikingjelly.activation_based.{module}", remedy)


def __getattr__(name: str) -> Any:
    if name == "DynamicLIFNode":
        return _node_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _node_class() -> type:
    body = {"__module__": __name__, "__qualname__": "DynamicLIFNode", "__doc__": _Node.__doc__}
    return type("DynamicLIFNode", (_Node, _spikingjelly("neuron").BaseNode), body)


class _Node(_Peer):
    """Our fused LIF neurons as a SpikingJelly ``BaseNode``, with the threshold as an optional second input.

    ``node(x)`` is a ``LIFNode`` with the threshold ``v_threshold``; ``node(x, theta)`` takes a threshold signal: a
    number or a tensor that broadcasts to ``x``, which is ``(B, *)`` in step mode ``'s'`` and ``(T, B, *)`` in ``'m'``,
    where the whole sequence is one call of the kernel. ``functional.reset_net``, ``set_step_mode``, ``detach_net``,
    ``base.to_functional_forward``, monitors and ``store_v_seq`` (membranes after reset) work as for any other node.
    The operation counters need :func:`teach_counters`.

    Arguments are those of ``LIFNode``, with its defaults but one: ``surrogate_function`` is one of
    :mod:`neuroav.neurons.surrogate`, by default ``ATan(2.0)``, or SpikingJelly's ``ATan``, ``Sigmoid``,
    ``PiecewiseQuadratic``, ``SoftSign`` or ``SuperSpike``. ``strict`` fires at v > threshold instead of v >= threshold.

    Example (needs SpikingJelly)::

        node = DynamicLIFNode(tau=2.0, v_reset=None, step_mode="m")
        spikes = node(x, theta)  # (T, B, N), (T, B, 1)
    """

    v_seq: Any

    def __init__(
        self,
        tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Any = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        *,
        strict: bool = False,
    ):
        layer = DynamicLIF(
            tau=tau,
            gain="decay" if decay_input else "unit",
            v_rest=v_reset or 0.0,
            reset="soft" if v_reset is None else "hard",
            detach_reset=detach_reset,
            surrogate=_surrogate(surrogate_function),
            strict=strict,
        )
        self._adopt(layer, v_threshold, step_mode, store_v_seq)

    def _adopt(self, layer: LIFLayer, v_threshold: float, step_mode: str, store_v_seq: bool) -> None:
        super().__init__(
            v_threshold=float(v_threshold),
            v_reset=float(layer.v_rest) if layer.hard_reset else None,
            surrogate_function=layer.surrogate,
            detach_reset=layer.detach_reset,
            step_mode=step_mode,
            store_v_seq=store_v_seq,
        )
        self.layer = layer
        if layer.refractory:
            self.register_memory("refractory", None)

    def extra_repr(self) -> str:
        """What ``print`` shows; the rest is in ``layer``."""
        return f"v_threshold={self.v_threshold:g}, step_mode={self.step_mode}"

    def materialize_states(self, inputs: tuple[Any, ...], states: tuple[Any, ...], step_mode: str) -> tuple[Any, ...]:
        """Membranes at rest where there are none of this shape yet; float32 for inputs of 16 bits."""
        x = inputs[0]
        shape = x.shape[1:] if step_mode == "m" else x.shape
        kind = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
        v, *others = states
        if not isinstance(v, Tensor) or v.shape != shape:
            rest = torch.full_like(x.new_empty(shape), self.layer.v_rest, **kind)  # an operation that counters know
            return rest, *(None for _ in others)
        return v.to(**kind), *others

    def detach(self) -> None:
        """Cut the graph behind the membranes; not in place, which tensors that are views refuse."""
        for name, value in self._memories.items():
            self._memories[name] = value.detach() if isinstance(value, Tensor) else value
        if isinstance(self.v_seq, Tensor):
            self.v_seq = self.v_seq.detach()

    def single_step_functional_forward(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], theta: Any = None
    ) -> tuple[tuple[Tensor], tuple[Any, ...]]:
        """One step of ``(x,)`` or ``(x, theta)``, x ``(B, *)``; returns ``(spikes,)`` and the new states."""
        x, *second = inputs
        (spikes,), states = self.multi_step_functional_forward((x.unsqueeze(0), *second), states, theta)
        return (spikes.squeeze(0),), states

    def multi_step_functional_forward(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], theta: Any = None
    ) -> tuple[tuple[Tensor], tuple[Any, ...]]:
        """All steps of ``(x,)`` or ``(x, theta)``, x ``(T, B, *)``; returns ``(spikes,)`` and the new states."""
        x, *second = inputs
        spikes, state, *_ = self.layer.integrate(x, self._threshold(theta, *second), LIFState(*states), False)
        return (spikes,), tuple(state)[: len(states)]

    def multi_step_forward(self, x_seq: Tensor, theta: Any = None) -> Tensor:
        """As SpikingJelly's; ``v_seq``, where it is stored, comes from the same call of the kernel."""
        if not self.store_v_seq:
            return super().multi_step_forward(x_seq, theta=theta)
        states = self.materialize_states((x_seq,), tuple(self._memories.values()), "m")
        theta = self._threshold(theta)
        spikes, state, *membranes = self.layer.integrate(x_seq, theta, LIFState(*states), True)
        self._memories.update(zip(self._memories, state))
        self.v_seq = self._after_reset(spikes.detach() if self.detach_reset else spikes, membranes[0], theta)
        return spikes

    def _after_reset(self, fired: Tensor, membrane: Tensor, theta: Tensor | float) -> Tensor:
        if self.layer.hard_reset:
            return membrane + fired * (self.layer.v_rest - membrane)
        theta = torch.as_tensor(theta).to(membrane)
        return membrane - fired * torch.where(
            theta.isinf(), 0.0, theta
        )  # nothing fires at infinity; 0 inf is no number

    def _threshold(self, *given: Any) -> Any:
        return next((theta for theta in given if theta is not None), self.v_threshold)


def _surrogate(function: Any) -> Surrogate:
    """Our name for a SpikingJelly surrogate."""
    if function is None or isinstance(function, Surrogate):
        return function or ATan(2.0)
    known: dict[str, Callable[[float], Surrogate]] = {
        "ATan": ATan,
        "Sigmoid": Sigmoid,
        "PiecewiseQuadratic": lambda alpha: Triangle(1 / alpha),
        "SoftSign": lambda alpha: FastSigmoid(alpha, scale=alpha / 2),
        "SuperSpike": SuperSpike,
    }
    name, alpha = type(function).__name__, getattr(function, "alpha", None)
    if name not in known or not isinstance(alpha, float | int):
        what = f"a surrogate that the kernel knows ({', '.join(known)}, or one of neuroav.neurons.surrogate)"
        raise fail("DynamicLIFNode", what, name)
    return known[name](float(alpha))


def to_spikingjelly(layer: LIFLayer, *, v_threshold: float | None = None, step_mode: str = "m") -> Any:
    """Make a :class:`DynamicLIFNode` of one of our layers, which it holds and shares, learnt time constants and all.

    Args:
        layer: A ``DynamicLIF``, ``LIF`` or ``PLIF``.
        v_threshold: Threshold of calls without one; ``None`` for the layer's own, or 1.
        step_mode: ``'s'`` or ``'m'``.

    Raises:
        InputError: If ``layer`` does more than these, such as ``ALIF``.
    """
    check_plain("to_spikingjelly", layer)
    check_choice("to_spikingjelly", "step_mode", step_mode, ("s", "m"))
    if v_threshold is None:
        v_threshold = layer.v_th if isinstance(layer, LIF) else 1.0
    cls: Any = _node_class()
    node = cls.__new__(cls)
    node._adopt(layer, v_threshold, step_mode, store_v_seq=False)
    return node


def teach_counters(*counters: Any) -> None:
    """Make SpikingJelly's operation counters see our kernel, which is one operation to them.

    A ``DynamicLIFNode`` then counts what SpikingJelly counts for a ``LIFNode``: per neuron and step 6 additions with
    hard reset and 5 with soft in an ``ACCounter``, 10 and 8 operations in a ``FlopCounter`` (spikingjelly 2.0); in a
    ``NeuronStateCounter`` one read and one write of the membrane, as for SpikingJelly's own fused kernels. Its other
    counters, and the neuron memory of its energy models, need no lesson. For ``SimpleEnergyProfiler`` teach its
    ``ac_counter``.

    Raises:
        TypeError: If a counter is of another kind.
    """
    op = torch.ops.neuroav.dynamic_lif.default
    for counter in counters:
        kind = type(counter).__name__
        if kind == "NeuronStateCounter":
            counter.extra_state_rules[_node_class()] = _state_traffic
        elif kind in _PER_STEP:
            counter.rules[op] = partial(_per_step, *_PER_STEP[kind])
        else:
            raise fail("teach_counters", f"{', '.join(_PER_STEP)} or NeuronStateCounter", kind, kind=TypeError)


_PER_STEP = {"ACCounter": (6, 5), "FlopCounter": (10, 8)}  # hard, soft reset


def _per_step(hard: int, soft: int, args: tuple, kwargs: dict, out: tuple) -> int:
    hard_reset = args[6]
    return out[0].numel() * (hard if hard_reset else soft)


def _state_traffic(module: Any, op: Any, args: tuple, kwargs: dict, out: tuple, states: set) -> dict[str, int]:
    if op is not torch.ops.neuroav.dynamic_lif.default:
        return {}
    spikes, v = out[:2]
    moved = spikes.shape[0] * v.numel() * v.element_size()
    return {"state_reads": moved, "state_writes": moved, "neuron_logical_steps": spikes.numel()}


class FromSpikingJelly(nn.Module):
    """A SpikingJelly neuron with our calling convention, for any place that takes a ``DynamicLIF``.

    The node is put in step mode ``'m'`` and used through its functional form: its own memories stay as they are, and
    the state is a tuple that the call returns. A ``DynamicLIFNode`` gets ``theta``; for any other node theta must be
    the node's own fixed threshold, since SpikingJelly's kernels take a Python number only.

    Args:
        node: Any SpikingJelly neuron with memories, such as ``neuron.LIFNode``.

    Raises:
        TypeError: If ``node`` is no SpikingJelly memory module.
    """

    def __init__(self, node: nn.Module):
        super().__init__()
        base = _spikingjelly("base")
        if not isinstance(node, base.MemoryModule):
            raise fail("FromSpikingJelly", "a SpikingJelly neuron", type(node).__name__, kind=TypeError)
        node.step_mode = "m"
        self.node = node

    def forward(
        self, x: Tensor, theta: Tensor | float | None = None, state: tuple[Any, ...] | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            x: Input current ``(T, B, *)``, dimensionless.
            theta: Threshold; ``None`` for the node's own.
            state: What the last call returned; ``None`` to start from rest. Not modified.

        Returns:
            Spikes ``(T, B, *)``, and the state after step T.

        Raises:
            InputError: If ``theta`` is another threshold than the node's, or a signal.
        """
        base = _spikingjelly("base")
        inputs: tuple[Any, ...] = (x,)
        if isinstance(self.node, _Node):
            inputs = (x,) if theta is None else (x, theta)
        elif theta is not None:
            check_fixed("FromSpikingJelly", theta, self.node.v_threshold, "its kernels take a Python number")
        if state is None:
            state = tuple(module.get_reset_value(name) for module, name in self._memories_of())
        spikes, state = base.to_functional_forward(self.node)(inputs, state)
        return spikes[0], state

    def _memories_of(self) -> list[tuple[Any, str]]:
        modules = [m for m in self.node.modules() if hasattr(m, "_memories_rv")]
        return [(module, name) for module in modules for name in module._memories_rv]
