"""What layers of neurons share: a threshold that holds still, and what rates, figures and pages read of them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class LayerTrace(NamedTuple):
    """What one layer of a stream of steps did.

    Attributes:
        output: ``(T * R, B, N)`` spikes 0/1 at ``R`` presentations of each step, or activations with ``R = 1``.
        theta: ``(T, B, 1)``, or ``None`` without spikes.
    """

    output: Tensor
    theta: Tensor | None

    def per_step(self, steps: int) -> Tensor:
        """Mean output over the presentations of each step: ``(T, B, N)``."""
        return self.output.unflatten(0, (steps, -1)).mean(1)


class HeldThreshold(nn.Module):
    """One threshold for every clip and step, whatever is shown.

    Args:
        v_th: the threshold, dimensionless.
    """

    def __init__(self, v_th: float):
        super().__init__()
        self.v_th = v_th

    def forward(self, x: Tensor, magnitude: Tensor | None = None) -> Tensor:
        """Return ``theta (..., 1)`` for ``x (..., D)``."""
        return x.new_full((*x.shape[:-1], 1), self.v_th)
