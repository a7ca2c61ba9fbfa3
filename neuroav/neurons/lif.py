"""Leaky integrate-and-fire neurons: the state, one pure step, and the layer with a fixed threshold."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from neuroav.checks import check_choice, check_range, check_shape, fail
from neuroav.kernels.neurons import dynamic_lif
from neuroav.neurons.surrogate import ATan, Surrogate

Reset = Literal["hard", "soft"]


class LIFState(NamedTuple):
    """What a layer hands from one stretch of a sequence to the next: the membrane after reset, ``v (B, N)``."""

    v: Tensor


def lif_step(
    x: Tensor,
    state: LIFState | None = None,
    theta: Tensor | float = 1.0,
    *,
    tau: float = 2.0,
    v_rest: float = 0.0,
    reset: Reset = "hard",
    detach_reset: bool = True,
    surrogate: Surrogate = ATan(2.0),  # noqa: B008 - frozen
) -> tuple[Tensor, LIFState]:
    """One step of :func:`neuroav.kernels.neurons.dynamic_lif`, for loops whose input depends on the last spikes.

    Args:
        x: Input current ``(B, N)``, dimensionless.
        state: Membrane ``v (B, N)``; ``None`` for ``v_rest``. Not modified.
        theta: Threshold, a number or a tensor that broadcasts to ``(B, N)``.
        tau: Membrane time constant in steps, at least 1.
        v_rest: Resting potential.
        reset: ``"hard"`` (to ``v_rest``) or ``"soft"`` (minus theta).
        detach_reset: Whether the reset treats the spike as a constant in the backward pass.
        surrogate: Derivative used for the spike.

    Returns:
        Spikes ``(B, N)`` in {0, 1}, and the new state.

    Example:
        >>> spikes, state = lif_step(torch.ones(1, 2), theta=torch.tensor([0.5, 0.6]))
        >>> spikes.tolist(), state.v.tolist()
        ([[1.0, 0.0]], [[0.0, 0.5]])
    """
    check_shape("lif_step", "x", x, ("B", "N"))
    check_choice("lif_step", "reset", reset, ("hard", "soft"))
    check_range("lif_step", "tau", tau, 1.0)
    spikes, v, _ = dynamic_lif(
        x.unsqueeze(0),
        theta,
        None if state is None else state.v,
        1.0 / tau,
        v_rest=v_rest,
        hard_reset=reset == "hard",
        detach_reset=detach_reset,
        surrogate=surrogate.code,
        alpha=surrogate.alpha,
    )
    return spikes.squeeze(0), LIFState(v)


class LIFLayer(nn.Module):
    """What all layers share: time constant, rest, reset and surrogate. Use a subclass; the threshold is theirs.

    Args:
        num_neurons: ``N``, checked against the input where given.
        tau: Membrane time constant in steps, at least 1: a number, or ``(N,)`` for one per neuron.
        learn_tau: Whether ``tau`` is trained, as ``1 / tau = sigmoid(w)`` [plif], so that it stays above 1.
        v_rest: Resting potential.
        reset: ``"hard"`` (to ``v_rest``) or ``"soft"`` (minus the threshold).
        detach_reset: Whether the reset treats the spike as a constant in the backward pass.
        surrogate: Derivative used for the spike.

    Raises:
        InputError: If ``tau`` is out of range or doesn't fit ``num_neurons``, or ``reset`` is unknown.
    """

    fixed_decay: Tensor

    def __init__(
        self,
        num_neurons: int | None = None,
        *,
        tau: float | Tensor = 2.0,
        learn_tau: bool = False,
        v_rest: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(2.0),  # noqa: B008 - frozen
    ):
        super().__init__()
        where = type(self).__name__
        check_choice(where, "reset", reset, ("hard", "soft"))
        time = torch.as_tensor(tau, dtype=torch.get_default_dtype())
        _check_tau(where, time, strictly=learn_tau)
        if time.dim() > 1 or (time.dim() == 1 and num_neurons not in (None, time.shape[0])):
            raise fail(where, f"tau of shape () or ({num_neurons or 'N'},)", str(tuple(time.shape)))
        self.num_neurons = time.shape[0] if time.dim() == 1 else num_neurons
        self.v_rest, self.hard_reset, self.detach_reset = v_rest, reset == "hard", detach_reset
        self.surrogate, self.learn_tau = surrogate, learn_tau
        if learn_tau:
            self.decay_logit = nn.Parameter(-torch.log(time - 1))
        else:
            self.register_buffer("fixed_decay", 1 / time)

    @property
    def decay(self) -> Tensor:
        """Share of the membrane lost per step, ``1 / tau``: ``()`` or ``(N,)``."""
        return torch.sigmoid(self.decay_logit) if self.learn_tau else self.fixed_decay

    @property
    def tau(self) -> Tensor:
        """Membrane time constant in steps: ``()`` or ``(N,)``."""
        return 1 / self.decay

    def integrate(
        self, x: Tensor, theta: Tensor | float, state: LIFState | None, return_membrane: bool
    ) -> tuple[Tensor, LIFState] | tuple[Tensor, LIFState, Tensor]:
        """Run ``x (T, B, N)`` under ``theta``; see :func:`neuroav.kernels.neurons.dynamic_lif`."""
        if self.num_neurons is not None:
            check_shape(type(self).__name__, "x", x, ("T", "B", self.num_neurons))
        spikes, v, membrane = dynamic_lif(
            x,
            theta,
            None if state is None else state.v,
            self.decay,
            v_rest=self.v_rest,
            hard_reset=self.hard_reset,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate.code,
            alpha=self.surrogate.alpha,
            return_membrane=return_membrane,
        )
        return (spikes, LIFState(v), membrane) if return_membrane else (spikes, LIFState(v))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        tau = self.tau.detach()
        span = f"{tau.min():.3g}..{tau.max():.3g}" if tau.dim() else f"{tau:.3g}"
        learnt = " (learnt)" if self.learn_tau else ""
        reset = "hard" if self.hard_reset else "soft"
        return f"{self.num_neurons or 'N'}, tau={span}{learnt}, reset={reset}, surrogate={self.surrogate}"


class LIF(LIFLayer):
    """Leaky integrate-and-fire neurons with one fixed threshold; the other arguments are :class:`LIFLayer`'s.

    Args:
        num_neurons: ``N``, checked against the input where given.
        v_th: Threshold, dimensionless.
        **options: ``tau``, ``learn_tau``, ``v_rest``, ``reset``, ``detach_reset``, ``surrogate``.

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
            x: Input current ``(T, B, N)``, dimensionless.
            state: Membrane to start from; ``None`` for ``v_rest``. Not modified.
            return_membrane: Whether to return the membrane before reset as well.

        Returns:
            Spikes ``(T, B, N)`` in {0, 1}; the state after step T; with ``return_membrane`` also ``(T, B, N)``.
        """
        return self.integrate(x, self.v_th, state, return_membrane)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, v_th={self.v_th:g}"


def _check_tau(where: str, tau: Tensor, strictly: bool = False) -> None:
    fits = (tau > 1 if strictly else tau >= 1) & tau.isfinite()
    if not bool(fits.all()):
        rule = "above 1 (it is learnt)" if strictly else "of at least 1"
        raise fail(where, f"a finite tau {rule} step", f"{tau.min():g} to {tau.max():g}")
