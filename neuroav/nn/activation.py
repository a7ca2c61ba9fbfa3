"""What a layer without spikes does to its current, as objects: :class:`ReLU`, :class:`GELU`, :class:`Levels`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from neuroav.checks import check_range


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """``max(x, 0)``."""

    def build(self) -> nn.Module:
        """Make the module."""
        return nn.ReLU()


@dataclass(frozen=True, kw_only=True)
class GELU:
    """``x * P(z < x)`` of a standard normal ``z``."""

    def build(self) -> nn.Module:
        """Make the module."""
        return nn.GELU()


@dataclass(frozen=True, kw_only=True)
class Levels:
    """As many values as a rate of spikes can have: 0, ``1 / (n - 1)``, ..., 1, and whatever lies beyond is cut.

    A neuron that is shown a step ``R`` times answers it by one of the rates ``0, 1/R, ..., 1``: ``n = R + 1`` levels,
    ``ceil(log2 n)`` bits. The network to compare it with [yan2024] therefore has ``n`` levels a step, however many
    steps a clip has, since each of these brings another input to both.

    Attributes:
        levels: how many, ``n``.
    """

    levels: int = 5

    def __post_init__(self) -> None:
        check_range("Levels", "levels", self.levels, 2)

    def build(self) -> nn.Module:
        """Make the module."""
        return _Levels(self.levels)


class _Levels(nn.Module):
    def __init__(self, levels: int):
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return quantised(x, self.levels)


def quantised(x: Tensor, levels: int) -> Tensor:
    """Nearest of ``levels`` equal steps from 0 to 1; a half goes to the even step.

    The gradient is straight-through: 1 between 0 and 1, and 0 outside. There is no scale to learn: the normalisation
    before has one, and so have the weights after.

    Args:
        x: ``(...)``, dimensionless.
        levels: At least 2.

    Returns:
        ``(...)``, multiples of ``1 / (levels - 1)``.

    Example:
        >>> import torch
        >>> quantised(torch.tensor([-3.0, 0.1, 0.13, 0.6, 7.0]), 5).tolist()
        [0.0, 0.0, 0.25, 0.5, 1.0]
    """
    inside = x.clamp(0.0, 1.0)
    level = (inside.detach() * (levels - 1)).round() / (levels - 1)
    return level + (inside - inside.detach()) if inside.requires_grad else level
