"""What layers of neurons did, as rates, figures and pages read it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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
