"""snnTorch 1: our neurons as one of its own (:class:`DynamicLeaky`), and its ``Leaky`` in our networks.

snnTorch is imported when a name is first used; it is no requirement of this package.
"""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuroav.checks import fail
from neuroav.exchange.peers import check_fixed, peer
from neuroav.kernels.neurons import dynamic_lif
from neuroav.neurons.lif import LIFState
from neuroav.neurons.surrogate import ATan, Surrogate

if TYPE_CHECKING:
    DynamicLeaky: Any
    _Peer: Any  # the peer's class, which joins in when it is first asked for
else:
    _Peer = nn.Module


def _snntorch() -> ModuleType:
    return peer("exchange.snntorch", "snntorch", "Install it: python -m pip install 'snntorch>=1'.")


def __getattr__(name: str) -> Any:
    if name == "DynamicLeaky":
        return _leaky_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _leaky_class() -> type:
    body = {"__module__": __name__, "__qualname__": "DynamicLeaky", "__doc__": _Leaky.__doc__}
    return type("DynamicLeaky", (_Leaky, _snntorch().Leaky), body)


class _Leaky(_Peer):
    """Our fused LIF neurons as an snnTorch ``Leaky``, with the threshold as an optional input.

    ``spk, mem = leaky(cur, mem)`` is one step of ``cur (B, *)`` under ``threshold``; ``leaky(cur, mem, theta=theta)``
    takes another threshold for the step, a number or a tensor that broadcasts to ``cur``; :meth:`sequence` runs all
    steps in one call of the kernel. ``init_hidden``, ``output``, ``utils.reset``, ``backprop`` and the state dictionary
    (``beta``, ``threshold``) are ``Leaky``'s.

    Spikes come at mem > threshold and reset the membrane in the same step: ``reset_delay`` is False and can't be set,
    since a reset that is computed one step late from another threshold is wrong. Unlike ``Leaky``'s with
    ``reset_delay=False``, subtraction keeps firing while the membrane stays above the threshold. ``spike_grad`` is one
    of :mod:`neuroav.neurons.surrogate`, because snnTorch's are functions that hide their parameters; the default
    ``ATan(2.0)`` is snnTorch's ``atan()``. With ``detach_reset=False`` the gradient passes the reset, as it does in
    ``Leaky(reset_delay=False)``; by default it doesn't, as in ``Leaky()``.

    Example (needs snnTorch)::

        leaky = DynamicLeaky(beta=0.9)
        spk, mem = leaky(cur, mem, theta=theta)  # (B, N), (B, N), (B, 1)
        spk, mem = leaky.sequence(x, theta=theta)  # (T, B, N), (T, B, 1)
    """

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        spike_grad: Surrogate | None = None,
        init_hidden: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        reset_mechanism: str = "subtract",
        output: bool = False,
        *,
        detach_reset: bool = True,
    ):
        if not isinstance(spike_grad, Surrogate | None):
            raise fail(
                "DynamicLeaky", "spike_grad out of neuroav.neurons.surrogate", repr(spike_grad), "Such as ATan(2.0)."
            )
        if reset_mechanism not in ("subtract", "zero"):
            raise fail("DynamicLeaky", "reset_mechanism 'subtract' or 'zero'", repr(reset_mechanism))
        super().__init__(
            beta,
            threshold=threshold,
            init_hidden=init_hidden,
            learn_beta=learn_beta,
            learn_threshold=learn_threshold,
            reset_mechanism=reset_mechanism,
            output=output,
            reset_delay=False,
        )
        self.surrogate, self.detach_reset = spike_grad or ATan(2.0), detach_reset

    def forward(self, input_: Tensor, mem: Tensor | None = None, theta: Tensor | float | None = None) -> Any:
        """One step; the arguments and results of ``Leaky``.

        Args:
            input_: Input current ``(B, *)``, dimensionless.
            mem: Membrane ``(B, *)``; ``None`` for the one kept, or 0.
            theta: Threshold of this step; ``None`` for ``threshold``.

        Returns:
            Spikes and membrane after reset, both ``(B, *)``; with ``init_hidden`` and not ``output`` the spikes only.
        """
        spikes, mem = self.sequence(input_.unsqueeze(0), self._start(input_, mem), theta)
        self.mem = mem = mem.clone()  # what snnTorch detaches in place must not be a view
        return spikes.squeeze(0) if self.init_hidden and not self.output else (spikes.squeeze(0), mem)

    def sequence(
        self, x: Tensor, mem: Tensor | None = None, theta: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor]:
        """All steps of ``x (T, B, *)`` at once; kept membranes are neither used nor changed.

        Args:
            x: Input current ``(T, B, *)``, dimensionless.
            mem: Membrane before the first step, ``(B, *)``; ``None`` for 0.
            theta: Threshold, a number or a tensor that broadcasts to ``x``; ``None`` for ``threshold``.

        Returns:
            Spikes ``(T, B, *)``, and the membrane after the last step, ``(B, *)``.
        """
        spikes, mem, *_ = dynamic_lif(
            x,
            self.threshold if theta is None else theta,
            mem,
            1 - self.beta.clamp(0, 1),
            hard_reset=self.reset_mechanism == "zero",
            strict=True,
            unit_gain=True,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate.code,
            alpha=self.surrogate.alpha,
            scale=self.surrogate.scale,
        )
        return spikes, mem

    def _start(self, input_: Tensor, mem: Tensor | None) -> Tensor | None:
        if self.init_hidden and mem is not None:
            raise fail("DynamicLeaky", "no mem, which init_hidden=True keeps itself", "mem", kind=TypeError)
        mem = self.mem if mem is None else mem
        return mem if mem.shape == input_.shape else None


class FromSnnTorch(nn.Module):
    """A ``Leaky`` with our calling convention, for any place that takes a ``DynamicLIF``.

    A :class:`DynamicLeaky` gets ``theta`` and runs all steps at once. Any other ``Leaky`` runs in a loop under its own
    threshold: rebinding ``threshold`` every step would decide the spike by one threshold and the reset, one step later,
    by another. ``Leaky(reset_delay=False, reset_mechanism="subtract")`` is warned about: a membrane that is still above
    the threshold after the subtraction never fires again (snnTorch 1.0).

    Args:
        leaky: An ``snntorch.Leaky`` with ``init_hidden=False``.

    Raises:
        TypeError: If ``leaky`` is something else.
        InputError: If it keeps its own state.
    """

    def __init__(self, leaky: nn.Module):
        super().__init__()
        if not isinstance(leaky, _snntorch().Leaky):
            raise fail("FromSnnTorch", "a snntorch.Leaky", type(leaky).__name__, kind=TypeError)
        if leaky.init_hidden:
            raise fail("FromSnnTorch", "init_hidden=False, since the state is passed", "init_hidden=True")
        if not isinstance(leaky, _Leaky) and not leaky.reset_delay and leaky.reset_mechanism == "subtract":
            text = "neurons whose membrane stays above the threshold after subtraction never fire again"
            warnings.warn(f"snntorch.Leaky(reset_delay=False): {text}; DynamicLeaky has no such limit", stacklevel=2)
        self.leaky = leaky

    def forward(
        self, x: Tensor, theta: Tensor | float | None = None, state: LIFState | None = None
    ) -> tuple[Tensor, LIFState]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            x: Input current ``(T, B, *)``, dimensionless.
            theta: Threshold; ``None`` for the neuron's own.
            state: Membrane to start from, as snnTorch returns it; ``None`` for 0. Not modified.

        Returns:
            Spikes ``(T, B, *)``, and the state after step T.

        Raises:
            InputError: If ``theta`` is another threshold than the neuron's, or a signal.
        """
        mem = x.new_zeros(x.shape[1:]) if state is None else state.v
        if isinstance(self.leaky, _Leaky):
            spikes, mem = self.leaky.sequence(x, mem, theta)
            return spikes, LIFState(mem)
        if theta is not None:
            why = "it resets one step later, by the threshold of that step"
            check_fixed("FromSnnTorch", theta, self.leaky.threshold, why)
        steps = []
        for current in x.unbind(0):  # x[t] would make the backward pass of every step as long as the sequence
            spikes, mem = self.leaky(current, mem)
            steps.append(spikes)
        return torch.stack(steps), LIFState(mem)
