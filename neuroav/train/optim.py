"""Optimiser and learning-rate schedules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, ReduceLROnPlateau

from neuroav.checks import check_range, fail


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Scale the rate by ``factor`` when validation HM has not risen for ``patience`` epochs (the released schedule)."""

    factor: float = 0.1
    patience: int = 3

    def __post_init__(self) -> None:
        check_range("Plateau", "factor", self.factor, 0, 0.999)
        check_range("Plateau", "patience", self.patience, 0)

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> ReduceLROnPlateau | LRScheduler:
        """Make the scheduler."""
        return ReduceLROnPlateau(optimizer, mode="max", factor=self.factor, patience=self.patience)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Scale the rate by ``factor`` once, after the share ``at`` of the epochs."""

    factor: float = 0.1
    at: float = 0.75

    def __post_init__(self) -> None:
        check_range("Step", "factor", self.factor, 0, 1)
        check_range("Step", "at", self.at, 0, 1)

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> ReduceLROnPlateau | LRScheduler:
        """Make the scheduler."""
        return MultiStepLR(optimizer, [max(1, round(self.at * epochs))], gamma=self.factor)


def adam(
    model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Adam over every parameter of ``model``.

    Raises:
        InputError: If a parameter is frozen, so that nothing stays untrained unnoticed.
    """
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise fail("adam", "every parameter to be trainable", f"{frozen[0]} frozen", "Register constants as buffers.")
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, betas=betas)
