"""One neuron on one input, by plain torch and by other libraries: what ``neuroav bench neurons`` times beside ours.

The neuron is ``h = v / 2 + x``, a spike where ``h >= theta``, ``v = h - s theta``, the surrogate ATan(2), no gradient
through the reset's spike. Each ``start`` function takes a :class:`Case` and returns its Runner; what is timed is the
forward pass of the whole sequence, in training with the gradient to x for a given gradient of the spikes, from one
``(T, B, N)`` tensor to one of spikes.

====================  ================================================================================================
peer                  what runs, and where it is not quite the same neuron
====================  ================================================================================================
``torch loop``        steps over ``x.unbind(0)``, autograd as it comes; the spike is an ``autograd.Function``
``torch function``    the sequence as one ``autograd.Function``, backward by hand, in-place ops, keeps only h
``torch compiled``    ``torch loop`` through ``torch.compile``
``SpikingJelly``      ``LIFNode``, ``step_mode="m"``; for a threshold per step a ``SimpleBaseNode``, whose threshold is
                      set at each step
``SpikingJelly,       its ``functional.lif_multi_step`` through ``torch.compile``; fixed threshold only
compiled``
``snnTorch``          ``Leaky`` step by step, ``reset_delay=False``; fires at ``h > theta``; a membrane that is still
                      above threshold after its reset doesn't fire again there, and a threshold that changes is
                      compared with the membrane of the step before: a few percent of the spikes are others
``norse``             ``LIFBoxCell`` step by step, soft reset, x doubled beforehand as it is decayed there; fires at
                      ``h > theta``; surrogate SuperSpike; fixed threshold only
====================  ================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuroav.bench.peers import load, missing_package
from neuroav.bench.timing import Runner
from neuroav.checks import fail

PACKAGES = {
    "SpikingJelly": "spikingjelly",
    "SpikingJelly, compiled": "spikingjelly",
    "snnTorch": "snntorch",
    "norse": "norse",
}
SAMPLED = 4096  # gradients compared, evenly spread
Forward = Callable[[Tensor, Tensor | float], Tensor]


@dataclass(frozen=True)
class Case:
    """What everybody computes: ``shape`` is ``(T, B, N)``; ``dynamic``: a threshold ``(T, B, 1)`` instead of 1."""

    shape: tuple[int, int, int]
    training: bool
    dynamic: bool = False
    unit: ClassVar[str] = "Mneuron-step/s"

    @property
    def name(self) -> str:
        """How the case is called in rows."""
        what = "training" if self.training else "inference"
        return f"{what} {'x'.join(map(str, self.shape))}, theta {'(T,B,1)' if self.dynamic else 'fixed'}"

    @property
    def elements(self) -> int:
        """Neurons times steps."""
        return math.prod(self.shape)

    @property
    def num_spikes(self) -> int:
        """Spikes that come out at most."""
        return self.elements

    def inputs(self) -> tuple[Tensor, Tensor | float, Tensor]:
        """Return x about N(0.5, 1), theta (1, or uniform from 0.5 to 1.5) and the gradient of the spikes; by seed."""
        generator = torch.Generator().manual_seed(7)
        x = torch.randn(self.shape, generator=generator) + 0.5
        grad = torch.randn(self.shape, generator=generator)
        theta = torch.rand(*self.shape[:2], 1, generator=generator) + 0.5 if self.dynamic else 1.0
        return x, theta, grad


def missing(impl: str) -> str:
    """Return why a peer can't be timed here, with the remedy; an empty string if its package is installed.

    Example:
        >>> missing("torch loop")
        ''
    """
    return missing_package(PACKAGES.get(impl))


def runner_of(case: Case, forward: Forward, gain: float = 1.0) -> Runner:
    """Return what to time of ``forward(x, theta) -> spikes``; who scales the input down gets it times ``gain``."""
    x, theta, grad = case.inputs()
    x = (x * gain).requires_grad_(case.training)

    def infer() -> tuple[Tensor, None]:
        with torch.no_grad():
            return forward(x, theta), None

    def train() -> tuple[Tensor, Tensor]:
        spikes = forward(x, theta)
        return spikes.detach(), torch.autograd.grad(spikes, x, grad)[0]

    run = train if case.training else infer

    def describe(result: tuple[Tensor, Tensor | None]) -> dict[str, Any]:
        spikes, gradient = result
        if spikes.shape != x.shape:
            raise fail("bench", f"spikes of shape {tuple(x.shape)}", str(tuple(spikes.shape)))
        figures: dict[str, Any] = {"spikes": np.packbits(spikes.numpy() != 0), "spike_rate": float(spikes.mean())}
        if gradient is not None:
            figures["gradient"] = gain * gradient.flatten()[:: max(1, gradient.numel() // SAMPLED)].numpy()
        return figures

    return Runner(lambda: run, describe)


# -------------------------------------------------------------------------------------------------------- plain torch


def _slope(u: Tensor) -> Tensor:
    return 1 / (1 + (math.pi * u).square())


class Spike(torch.autograd.Function):
    """A step with the derivative of ATan(2)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * _slope(ctx.saved_tensors[0])


def _thresholds(theta: Tensor | float, num_steps: int) -> Any:
    return theta.unbind(0) if isinstance(theta, Tensor) else [theta] * num_steps


def loop(x: Tensor, theta: Tensor | float) -> Tensor:
    """The neuron as one writes it."""
    v, spikes = torch.zeros_like(x[0]), []
    for current, threshold in zip(x.unbind(0), _thresholds(theta, len(x)), strict=True):
        h = 0.5 * v + current
        spike = Spike.apply(h - threshold)
        v = h - spike.detach() * threshold
        spikes.append(spike)
    return torch.stack(spikes)


class _Sequence(torch.autograd.Function):
    """The whole sequence, with back-propagation through time by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor | float) -> Tensor:
        training = ctx.needs_input_grad[0]
        spikes, v = torch.empty_like(x), torch.zeros_like(x[0])
        membrane = torch.empty_like(x) if training else None
        for t, threshold in enumerate(_thresholds(theta, len(x))):
            h = torch.add(x[t], v, alpha=0.5, out=v if membrane is None else membrane[t])
            spikes[t] = h >= threshold
            torch.sub(h, spikes[t] * threshold, out=v)
        if membrane is not None:
            ctx.save_for_backward(membrane)
            ctx.theta = theta
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (membrane,) = ctx.saved_tensors
        thresholds = _thresholds(ctx.theta, len(membrane))
        grad_x = torch.empty_like(membrane)
        for t in reversed(range(len(membrane))):
            slope = (membrane[t] - thresholds[t]).mul_(math.pi).square_().add_(1).reciprocal_()
            torch.mul(grads[0][t], slope, out=grad_x[t])
            if t + 1 < len(membrane):
                grad_x[t].add_(grad_x[t + 1], alpha=0.5)
        return grad_x, None


def torch_loop(case: Case) -> Runner:
    """Plain torch, step by step."""
    return runner_of(case, loop)


def torch_function(case: Case) -> Runner:
    """Plain torch, one autograd function."""
    return runner_of(case, _Sequence.apply)


def torch_compiled(case: Case) -> Runner:
    """Plain torch, step by step, compiled for this shape."""
    torch._dynamo.reset()
    return runner_of(case, torch.compile(loop, dynamic=False))


# ---------------------------------------------------------------------------------------------------- other libraries


def spikingjelly(case: Case) -> Runner:
    """SpikingJelly without compilation."""
    neuron, surrogate = (load(f"spikingjelly.activation_based.{name}") for name in ("neuron", "surrogate"))
    if case.dynamic:
        return runner_of(case, _spikingjelly_dynamic(neuron, surrogate))
    options = {"tau": 2.0, "decay_input": False, "v_threshold": 1.0, "v_reset": None, "detach_reset": True}
    node = neuron.LIFNode(surrogate_function=surrogate.ATan(alpha=2.0), step_mode="m", **options)

    def forward(x: Tensor, theta: Tensor | float) -> Tensor:
        node.reset()
        return node(x)

    return runner_of(case, forward)


def _spikingjelly_dynamic(neuron: Any, surrogate: Any) -> Forward:
    class Node(neuron.SimpleBaseNode):
        def neuronal_charge(self, x: Tensor) -> None:
            self.v: Tensor = 0.5 * self.v + x

    node = Node(v_reset=None, detach_reset=True, surrogate_function=surrogate.ATan(alpha=2.0))

    def forward(x: Tensor, theta: Tensor | float) -> Tensor:
        node.reset()
        spikes = []
        for current, node.v_threshold in zip(x.unbind(0), _thresholds(theta, len(x)), strict=True):
            spikes.append(node(current))
        return torch.stack(spikes)

    return forward


def spikingjelly_compiled(case: Case) -> Runner:
    """SpikingJelly's operator, compiled for this shape."""
    functional, surrogate = (load(f"spikingjelly.activation_based.{name}") for name in ("functional", "surrogate"))
    torch._dynamo.reset()
    atan = surrogate.ATan(alpha=2.0)

    @torch.compile(dynamic=False)
    def compiled(x: Tensor, v: Tensor) -> Tensor:
        return functional.lif_multi_step(x, v, 2.0, False, 1.0, None, atan, True)[0]

    return runner_of(case, lambda x, theta: compiled(x, torch.zeros_like(x[0])))


def snntorch(case: Case) -> Runner:
    """snnTorch's Leaky."""
    atan = load("snntorch.surrogate").atan(alpha=2.0)
    leaky = load("snntorch").Leaky(beta=0.5, threshold=1.0, spike_grad=atan, reset_delay=False)

    def forward(x: Tensor, theta: Tensor | float) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for current, threshold in zip(x.unbind(0), _thresholds(theta, len(x)), strict=True):
            if case.dynamic:
                leaky.threshold = threshold
            spike, membrane = leaky(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return runner_of(case, forward)


def norse(case: Case) -> Runner:
    """norse's LIF box neuron."""
    box, reset = load("norse.torch.functional.lif_box"), load("norse.torch.functional.reset")
    cell = load("norse.torch.module.lif_box").LIFBoxCell(
        p=box.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), reset_method=reset.reset_subtract), dt=0.001
    )

    def forward(x: Tensor, theta: Tensor | float) -> Tensor:
        state, spikes = box.LIFBoxFeedForwardState(v=torch.zeros_like(x[0])), []
        for current in x.unbind(0):
            spike, state = cell(current, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return runner_of(case, forward, gain=2.0)
