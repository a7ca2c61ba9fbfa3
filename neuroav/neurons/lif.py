"""Leaky integrate-and-fire neurons: the state, one pure step, and the layer with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from neuroav.checks import check_choice, check_range, check_shape, fail
from neuroav.kernels.neurons import dynamic_lif
from neuroav.neurons.surrogate import ATan, Surrogate

Reset = Literal["hard", "soft"]
Gain = Literal["decay", "unit"]


class LIFState(NamedTuple):
    """What a layer hands from one stretch of a sequence to the next.

    Attributes:
        v: Membrane after reset, ``(B, *)``; float32 where the input is bfloat16 or float16.
        refractory: Steps for which the neuron still rests, ``(B, *)`` int32; ``None`` without a refractory time.
    """

    v: Tensor
    refractory: Tensor | None = None


@dataclass(frozen=True)
class Full:
    """Keep the membrane of every step for the backward pass: a tensor of the input's size, float32 or float64."""


@dataclass(frozen=True)
class Recompute:
    """Keep the membrane of every k-th step; the backward pass computes those between again, from the input.

    The gradients are the same bits as with :class:`Full`. The input is kept, which costs nothing where it is kept
    anyway.

    Attributes:
        every: ``k``, at least 2: 1 / k of a tensor of the input's size is kept.
    """

    every: int = 8

    def __post_init__(self) -> None:
        check_range("Recompute", "every", self.every, 2)


Memory = Full | Recompute


def lif_step(
    x: Tensor,
    state: LIFState | None = None,
    theta: Tensor | float = 1.0,
    *,
    tau: float = 2.0,
    v_rest: float = 0.0,
    reset: Reset = "hard",
    detach_reset: bool = True,
    gain: Gain = "decay",
    strict: bool = False,
    refractory: int = 0,
    surrogate: Surrogate = ATan(2.0),  # noqa: B008 - frozen
) -> tuple[Tensor, LIFState]:
    """One step of :func:`neuroav.kernels.neurons.dynamic_lif`, for loops whose input depends on the last spikes.

    Args:
        x: Input current ``(B, *)``, dimensionless.
        state: Membrane ``v (B, *)``; ``None`` for ``v_rest``. Not modified.
        theta: Threshold, a number or a tensor that broadcasts to x.
        tau: Membrane time constant in steps, at least 1.
        v_rest: Resting potential.
        reset: ``"hard"`` (to ``v_rest``) or ``"soft"`` (minus theta).
        detach_reset: Whether the reset treats the spike as a constant in the backward pass.
        gain: ``"decay"`` (the input times 1 / tau) or ``"unit"`` (the input as it is).
        strict: Fire above theta only, otherwise at theta as well.
        refractory: Steps after a spike in which a neuron neither charges nor fires.
        surrogate: Derivative used for the spike.

    Returns:
        Spikes like x in {0, 1}, and the new state.

    Raises:
        InputError: If reset or gain is none of theirs, tau is below 1, or shapes, dtypes or devices don't go together.

    Example:
        >>> spikes, state = lif_step(torch.ones(1, 2), theta=torch.tensor([0.5, 0.6]))
        >>> spikes.tolist(), state.v.tolist()
        ([[1.0, 0.0]], [[0.0, 0.5]])
    """
    check_choice("lif_step", "reset", reset, ("hard", "soft"))
    check_choice("lif_step", "gain", gain, ("decay", "unit"))
    check_range("lif_step", "tau", tau, 1.0)
    state = state or LIFState(None)  # type: ignore[arg-type]
    spikes, v, left, _ = dynamic_lif(
        x.unsqueeze(0),
        theta,
        state.v,
        1.0 / tau,
        state.refractory,
        v_rest=v_rest,
        hard_reset=reset == "hard",
        strict=strict,
        unit_gain=gain == "unit",
        refractory=refractory,
        detach_reset=detach_reset,
        surrogate=surrogate.code,
        alpha=surrogate.alpha,
        scale=surrogate.scale,
    )
    return spikes.squeeze(0), LIFState(v, left)


class LIFLayer(nn.Module):
    """What all layers share: time constant, rest, reset and surrogate. Use a subclass; the threshold is theirs.

    Args:
        num_neurons: ``N``, checked against an input ``(T, B, N)``; ``None`` for inputs ``(T, B, *)``.
        tau: Membrane time constant in steps, at least 1: a number, ``(N,)`` for one per neuron, or a tensor that
            broadcasts to ``*``; 2 unless ``beta`` is given.
        beta: What a step leaves of the membrane, ``1 - 1 / tau``, in its place; 1 is a neuron without leak.
        learn_tau: Whether ``tau`` is trained, as ``1 / tau = sigmoid(w)`` [plif], so that it stays above 1.
        v_rest: Resting potential.
        reset: ``"hard"`` (to ``v_rest``) or ``"soft"`` (minus the threshold).
        detach_reset: Whether the reset treats the spike as a constant in the backward pass.
        gain: ``"decay"``: the input is multiplied by ``1 / tau`` (SpikingJelly's ``decay_input=True``); ``"unit"``: it
            is added as it is (``decay_input=False``, snnTorch).
        strict: Fire above the threshold only (snnTorch, NIR), otherwise at the threshold as well (SpikingJelly).
        refractory: Steps after a spike in which a neuron neither charges nor fires.
        surrogate: Derivative used for the spike.
        memory: What the backward pass keeps, :class:`Full` or :class:`Recompute`.

    Raises:
        InputError: If ``tau`` or ``beta`` is out of range or doesn't fit ``num_neurons``, or an option is unknown.
    """

    fixed_decay: Tensor

    def __init__(
        self,
        num_neurons: int | None = None,
        *,
        tau: float | Tensor | None = None,
        beta: float | Tensor | None = None,
        learn_tau: bool = False,
        v_rest: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        gain: Gain = "decay",
        strict: bool = False,
        refractory: int = 0,
        surrogate: Surrogate = ATan(2.0),  # noqa: B008 - frozen
        memory: Memory = Full(),
    ):
        super().__init__()
        where = type(self).__name__
        check_choice(where, "reset", reset, ("hard", "soft"))
        check_choice(where, "gain", gain, ("decay", "unit"))
        check_range(where, "refractory", refractory, 0)
        decay = _decay(where, tau, beta, strictly=learn_tau)
        if decay.dim() == 1 and len(decay) > 1:
            if num_neurons not in (None, len(decay)):
                raise fail(where, f"tau of shape () or ({num_neurons},)", str(tuple(decay.shape)))
            num_neurons = len(decay)
        self.num_neurons = num_neurons
        self.v_rest, self.hard_reset, self.detach_reset = v_rest, reset == "hard", detach_reset
        self.unit_gain, self.strict, self.refractory = gain == "unit", strict, refractory
        self.surrogate, self.memory, self.learn_tau = surrogate, memory, learn_tau
        dtype = torch.get_default_dtype()
        if learn_tau:
            self.decay_logit = nn.Parameter(torch.logit(decay).to(dtype))
        else:
            self.register_buffer("fixed_decay", decay.to(dtype))

    @property
    def decay(self) -> Tensor:
        """Share of the membrane lost per step, ``1 / tau``: ``()``, ``(N,)`` or what broadcasts to ``*``."""
        return torch.sigmoid(self.decay_logit) if self.learn_tau else self.fixed_decay

    @property
    def tau(self) -> Tensor:
        """Membrane time constant in steps, shaped like :attr:`decay`."""
        return 1 / self.decay

    @property
    def beta(self) -> Tensor:
        """What a step leaves of the membrane, ``1 - 1 / tau``, shaped like :attr:`decay`."""
        return 1 - self.decay

    def integrate(
        self, x: Tensor, theta: Tensor | float, state: LIFState | None, return_membrane: bool
    ) -> tuple[Tensor, LIFState] | tuple[Tensor, LIFState, Tensor]:
        """Run ``x (T, B, *)`` under ``theta``; see :func:`neuroav.kernels.neurons.dynamic_lif`."""
        if self.num_neurons is not None:
            check_shape(type(self).__name__, "x", x, ("T", "B", self.num_neurons))
        spikes, v, left, membrane = dynamic_lif(
            x,
            theta,
            None if state is None else state.v,
            self.decay,
            None if state is None else state.refractory,
            v_rest=self.v_rest,
            hard_reset=self.hard_reset,
            strict=self.strict,
            unit_gain=self.unit_gain,
            refractory=self.refractory,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate.code,
            alpha=self.surrogate.alpha,
            scale=self.surrogate.scale,
            every=self.memory.every if isinstance(self.memory, Recompute) else 1,
            return_membrane=return_membrane,
        )
        return (spikes, LIFState(v, left)) if membrane is None else (spikes, LIFState(v, left), membrane)

    def extra_repr(self) -> str:
        """What ``print`` shows: what is always of interest, and every other option that is not the usual."""
        tau = self.tau.detach()
        span = f"{tau.min():.3g}..{tau.max():.3g}" if tau.dim() else f"{tau:.3g}"
        learnt = " (learnt)" if self.learn_tau else ""
        reset = "hard" if self.hard_reset else "soft"
        text = f"{self.num_neurons or 'N'}, tau={span}{learnt}, reset={reset}, surrogate={self.surrogate}"
        unusual = {
            f"v_rest={self.v_rest:g}": self.v_rest != 0,
            "detach_reset=False": not self.detach_reset,
            "gain=unit": self.unit_gain,
            "strict=True": self.strict,
            f"refractory={self.refractory}": self.refractory > 0,
            f"memory={self.memory}": self.memory != Full(),
        }
        return ", ".join([text, *(option for option, shown in unusual.items() if shown)])


class LIF(LIFLayer):
    """Leaky integrate-and-fire neurons with one fixed threshold; the other arguments are :class:`LIFLayer`'s.

    Args:
        num_neurons: ``N``, checked against the input where given.
        v_th: Threshold, dimensionless.
        **options: :class:`LIFLayer`'s other arguments.

    Example:
        >>> spikes, state = LIF(v_th=0.7)(torch.ones(3, 1, 1))
        >>> spikes.flatten().tolist(), state.v.item()
        ([0.0, 1.0, 0.0], 0.5)
    """

    def __init__(self, num_neurons: int | None = None, *, v_th: float = 1.0, **options):
        super().__init__(num_neurons, **options)
        self.v_th = v_th

    def forward(
        self, x: Tensor, state: LIFState | None = None, *, return_membrane: bool = False
    ) -> tuple[Tensor, LIFState] | tuple[Tensor, LIFState, Tensor]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            x: Input current ``(T, B, *)``, float32, float64, bfloat16 or float16, dimensionless.
            state: State to start from; ``None`` for ``v_rest``. Not modified.
            return_membrane: Whether to return the membrane before reset as well.

        Returns:
            Spikes like x in {0, 1}; the state after step T; with ``return_membrane`` also the membrane ``(T, B, *)``.
        """
        return self.integrate(x, self.v_th, state, return_membrane)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, v_th={self.v_th:g}"


def _decay(where: str, tau: float | Tensor | None, beta: float | Tensor | None, strictly: bool) -> Tensor:
    """Return 1 / tau in double, checked; ``strictly`` below 1 and above 0, as what is learnt must be."""
    if tau is not None and beta is not None:
        raise fail(where, "tau or beta", "both", "Leave one out: beta = 1 - 1 / tau.")
    if beta is not None:
        share = torch.as_tensor(beta, dtype=torch.float64)
        fits = (share > 0) & (share < 1) if strictly else (share >= 0) & (share <= 1)
        if not bool(fits.all()):
            rule = "between 0 and 1 (it is learnt)" if strictly else "from 0 to 1"
            raise fail(where, f"beta {rule}", f"{share.min():g} to {share.max():g}")
        return 1 - share
    time = torch.as_tensor(2.0 if tau is None else tau, dtype=torch.float64)
    fits = (time > 1 if strictly else time >= 1) & time.isfinite()
    if not bool(fits.all()):
        rule = "above 1 step (it is learnt)" if strictly else "of at least 1 step"
        raise fail(where, f"a finite tau {rule}", f"{time.min():g} to {time.max():g}")
    return 1 / time
