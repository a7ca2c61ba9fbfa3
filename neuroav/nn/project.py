"""Projections over ragged sequences: batch normalisation that ignores padding, and the field's small MLPs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class StepBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis whose statistics come from valid steps only.

    Padding therefore never changes a result. Padded positions of the output hold finite values without meaning.
    A training batch with a single valid row has no variance; it is normalised by the running statistics.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise ``x (..., N)``; ``valid (...)`` bool marks the rows that count (``None``: all)."""
        rows = x.reshape(-1, x.shape[-1])
        counted = rows if valid is None else rows[valid.reshape(-1)]
        if not self.training or counted.shape[0] < 2:
            out = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        elif valid is None or counted.shape[0] == rows.shape[0]:
            out = super().forward(rows)
        else:
            out = rows.new_zeros(rows.shape).masked_scatter(valid.reshape(-1, 1), super().forward(counted))
        return out.reshape(x.shape)


class MLP(nn.Module):
    """``(Linear - BN - ReLU - Dropout)`` per layer, over ``(..., N)`` with an optional validity mask.

    Two layers are the ``MLP2`` of [avca] and [mdft], one layer is ``MLP1``.

    Args:
        widths: input width, then the output width of each layer.
        dropout: probability after each activation.
        linear_output: leave the last layer linear (no normalisation, activation or dropout).
    """

    def __init__(self, *widths: int, dropout: float, linear_output: bool = False):
        super().__init__()
        pairs = list(pairwise(widths))
        activated = len(pairs) - linear_output
        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.norm = nn.ModuleList(StepBatchNorm(b) for _, b in pairs[:activated])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor | None = None, filled: Tensor | None = None) -> Tensor:
        """Map ``(..., N_in)`` to ``(..., N_out)``.

        Args:
            x: ``(..., N_in)``.
            valid: ``(...)`` bool, the rows that normalisation counts; ``None``: all.
            filled: ``(...)`` bool, the rows of ``x`` that are not all zeros; the first layer multiplies no others.
        """
        for i, linear in enumerate(self.linear):
            x = linear(x) if i or filled is None else _sparse(linear, x, filled)
            if i < len(self.norm):
                x = self.dropout(F.relu(self.norm[i](x, valid)))
        return x


def _sparse(linear: Any, x: Tensor, filled: Tensor) -> Tensor:
    """``linear(x)`` for an ``x`` whose other rows than ``filled`` are zeros."""
    out = linear(x[filled])
    rows = linear.bias.to(out.dtype).expand(*x.shape[:-1], -1)
    return rows.masked_scatter(filled.unsqueeze(-1), out)
