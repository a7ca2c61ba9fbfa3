"""Where a threshold signal comes from: rules that make the ``theta`` of :class:`neuroav.neurons.dynamic.DynamicLIF`.

From what is seen and heard: :func:`event_factor` with :func:`anchored` or :func:`product`, the block of Eq. (7) of
[mdft]. From the neuron's own spikes: :class:`ALIF`, step by step. From the rate over a stretch of time:
:func:`homeostatic`. From training: :class:`LearnedThreshold`.

Differs from the paper: see :func:`event_factor`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range, check_shape, fail
from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIFState

# ------------------------------------------------------------------------------------ from events, Eq. 7 of [mdft]


def scene_level(joint: Tensor) -> Tensor:
    """``phi`` of Eq. (7) of [mdft]: ``sigmoid`` of the mean of ``S (T, B, D)``; returns ``(T, B, 1)``.

    Differs from the paper: nothing (average pooling to one number is how the printed AP is read).

    Example:
        >>> scene_level(torch.zeros(1, 1, 4)).item()
        0.5
    """
    return torch.sigmoid(joint.mean(-1, keepdim=True))


def event_factor(joint: Tensor, magnitude: Tensor, share: Tensor) -> Tensor:
    """``phi + omega``: by how much a step asks for a higher threshold, from the scene and from its events.

    ``omega = mean_d N_d log(1 / N_d + |E_d|)``. Implements Eq. (7) of [mdft]. Differs from the paper: the printed
    ``omega`` has the opposite sign of what the text asks for; ``|E|`` in place of ``E``; the mean over features is not
    printed. :class:`neuroav.mdft.motion.AnchoredThreshold` says why.

    Args:
        joint: ``S``, ``(T, B, D)``.
        magnitude: ``|E|``, how much happened, ``(T, B, 1)`` or ``(T, B, D)``, 0 or more.
        share: ``N``, ``(T, B, D)``, above 0.

    Returns:
        ``(T, B, 1)``, dimensionless, with gradients to all three.

    Example:
        >>> share = torch.full((1, 1, 4), 0.5)
        >>> calm, busy = (event_factor(torch.zeros(1, 1, 4), e, share).item() for e in torch.tensor([[0.0], [6.0]]))
        >>> round(calm, 4), round(busy, 4)  # 0.5 + 0.5 log(2 + |E|)
        (0.8466, 1.5397)
    """
    omega = (share * torch.log(1.0 / share + magnitude)).mean(-1, keepdim=True)
    return scene_level(joint) + omega


def anchored(factor: Tensor, v0: float, low: float, high: float) -> Tensor:
    """``theta = v0 * clamp(factor, low, high)``, every step by itself; any shape in, the same out.

    Example:
        >>> anchored(torch.tensor([0.1, 1.0, 9.0]), 0.5, 0.5, 2.0).tolist()
        [0.25, 0.5, 1.0]
    """
    return v0 * factor.clamp(low, high)


def product(factor: Tensor, v0: float, low: float, high: float) -> Tensor:
    """``theta^t = clamp(factor^t theta^{t-1}, low v0, high v0)`` from ``theta^0 = v0``; ``(T, ...)`` in and out.

    Example:
        >>> product(torch.tensor([2.0, 2.0, 0.25]), 0.5, 0.5, 2.0).tolist()
        [1.0, 1.0, 0.25]
    """
    theta, steps = factor.new_full(factor.shape[1:], v0), []
    for each in factor.unbind(0):
        theta = (each * theta).clamp(low * v0, high * v0)
        steps.append(theta)
    return torch.stack(steps)


# ----------------------------------------------------------------------------------------- from the neuron's spikes


class ALIFState(NamedTuple):
    """What :class:`ALIF` hands on: the neurons' state, and ``adaptation (B, *)``, a running mean of their spikes."""

    neurons: LIFState
    adaptation: Tensor


class ALIF(DynamicLIF):
    r"""Neurons whose threshold rises with each spike of their own and decays again: the adaptive LIF of [bellec2018].

    .. math::
        \theta_t = v_{th} + r a_t, \quad a_{t+1} = \rho a_t + (1 - \rho) s_t, \quad \rho = e^{-1 / \tau_a}

    ``a`` is a running mean of the spikes, so a neuron that fires at every step ends at :math:`v_{th} + r`. The
    threshold depends on the last spike, so this runs step by step. The gradient passes the threshold to earlier spikes.
    Differs from the paper: its spikes have the height 1 / step, here 1 with steps as the unit of time.

    Args:
        num_neurons: ``N``, checked against the input where given.
        v_th: Threshold of a neuron that has not fired, dimensionless.
        rise: ``r``, the rise of the threshold at a rate of 1, dimensionless.
        tau_a: Time constant of the adaptation in steps, above 0.
        **options: :class:`DynamicLIF`'s.

    Raises:
        InputError: If ``tau_a`` is not above 0, or an option is not valid.

    Example:
        >>> neurons = ALIF(1, v_th=0.5, rise=2.0, tau_a=1.0)
        >>> spikes, state = neurons(torch.full((6, 1, 1), 2.0))
        >>> spikes.flatten().tolist()
        [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self, num_neurons: int | None = None, *, v_th: float = 1.0, rise: float = 1.0, tau_a: float = 20.0, **options
    ):
        super().__init__(num_neurons, **options)
        if not 0 < tau_a < math.inf:
            raise fail("ALIF", "tau_a above 0 and finite", f"{tau_a:g}")
        self.v_th, self.rise, self.tau_a = v_th, rise, tau_a

    def forward(  # type: ignore[override]
        self, x: Tensor, state: ALIFState | None = None
    ) -> tuple[Tensor, ALIFState]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            x: Input current ``(T, B, *)``, dimensionless, with ``T`` at least 1.
            state: What an earlier call returned; ``None`` for rest and no adaptation. Not modified.

        Returns:
            Spikes ``(T, B, *)`` in {0, 1}; and the state after step T.
        """
        if x.dim() < 2 or len(x) == 0:
            raise fail("ALIF", "x of shape (T, B, *) with T at least 1", str(tuple(x.shape)))
        rho, kind = math.exp(-1 / self.tau_a), torch.promote_types(x.dtype, torch.float32)
        neurons = None if state is None else state.neurons
        a = x.new_zeros(x.shape[1:], dtype=kind) if state is None else state.adaptation
        fired = []
        for step in x.split(1):  # not x[t], whose gradient would fill a whole x at every step
            spikes, neurons, *_ = super().forward(step, self.v_th + self.rise * a, neurons)
            fired.append(spikes)
            a = rho * a + (1 - rho) * spikes[0]
        assert neurons is not None
        return torch.cat(fired), ALIFState(neurons, a)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, v_th={self.v_th:g}, rise={self.rise:g}, tau_a={self.tau_a:g}"


# ---------------------------------------------------------------------------------- from the rate, and from training


def homeostatic(theta: Tensor, spikes: Tensor, *, target_rate: float, speed: float, low: float = 0.0) -> Tensor:
    """Move a threshold so that its neurons come to fire at ``target_rate``: up where they fire more, else down.

    ``theta + speed * (rate - target_rate)``, at least ``low``, with the rate over the stretch just run and over all
    that share a threshold. The rule of the intrinsic plasticity of [sorn], there with one step as the stretch. As the
    threshold is constant within a stretch, the neurons run at full speed. Differs from the paper: ``low``.

    Args:
        theta: Threshold of the stretch, of a shape that broadcasts to ``(T, B, N)``: ``(N,)`` for one per neuron.
        spikes: What the neurons fired, ``(T, B, N)``, of at least one step and sample. No gradient passes.
        target_rate: Spikes per step aimed at, 0 to 1.
        speed: Change of the threshold where the rate is off by 1, dimensionless.
        low: The least threshold.

    Returns:
        The threshold of the next stretch, of the shape of ``theta``, with its gradient.

    Raises:
        InputError: If ``theta`` doesn't broadcast to ``spikes``, which must not be empty, or the rate is no rate.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
        >>> homeostatic(torch.tensor([0.5, 0.5]), spikes, target_rate=0.25, speed=0.25).tolist()
        [0.6875, 0.4375]
    """
    check_shape("homeostatic", "spikes", spikes, ("T", "B", "N"))
    check_range("homeostatic", "target_rate", target_rate, 0.0, 1.0)
    shape = (1,) * (3 - theta.dim()) + tuple(theta.shape)
    fits = len(shape) == 3 and all(size in (1, full) for size, full in zip(shape, spikes.shape, strict=True))
    if not fits or spikes.numel() == 0:
        raise fail(
            "homeostatic", f"theta that broadcasts to spikes {tuple(spikes.shape)}, not empty", str(tuple(theta.shape))
        )
    shared = spikes.numel() // max(math.prod(shape), 1)
    rate = spikes.detach().to(theta.dtype).sum_to_size(shape).reshape(theta.shape) / shared
    return (theta + speed * (rate - target_rate)).clamp_min(low)


class LearnedThreshold(nn.Module):
    """A threshold that training sets, ``softplus(w)`` and so above 0: one per layer, or one per neuron.

    A threshold learnt with the weights, as in [dietsnn]. Differs from the paper: there the threshold itself is the
    parameter and may turn negative; there is one per layer.

    Args:
        num_neurons: ``N`` for one per neuron, ``None`` for one in all.
        v_th: Where training starts, above 0, dimensionless.

    Raises:
        InputError: If ``v_th`` is not above 0.

    Example:
        >>> threshold, neurons = LearnedThreshold(3, v_th=0.5), DynamicLIF(3)
        >>> spikes, state = neurons(torch.ones(2, 1, 3), threshold())
        >>> spikes.sum().backward()
        >>> threshold.raw.grad.shape
        torch.Size([3])
    """

    def __init__(self, num_neurons: int | None = None, *, v_th: float = 1.0):
        super().__init__()
        if not 0 < v_th < math.inf:
            raise fail("LearnedThreshold", "v_th above 0 and finite", f"{v_th:g}")
        start = v_th + math.log(-math.expm1(-v_th))  # softplus(start) = v_th, without exp(v_th)
        self.raw = nn.Parameter(torch.full(() if num_neurons is None else (num_neurons,), start))

    def forward(self) -> Tensor:
        """Return theta, ``()`` or ``(N,)``, which broadcasts to ``(T, B, N)``."""
        return F.softplus(self.raw)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        theta = self().detach()
        return f"theta={theta.min():.3g}..{theta.max():.3g}" if theta.dim() else f"theta={theta:.3g}"
