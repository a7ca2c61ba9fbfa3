"""Events to bins in plain PyTorch: this function defines what the kernels compute."""

from __future__ import annotations

import torch
from torch import Tensor

COUNTS, VOXELS, LATEST = range(3)  # codes of the kinds, as in csrc/common/bins.h
NEVER = torch.iinfo(torch.int64).min  # LATEST of a cell without an event
WEIGHT_BITS = 16  # a voxel weight of 1 is 2^16


def no_values(like: Tensor, kind: int, edges_us: Tensor, rows: int, columns: int) -> Tensor:
    """Return memory for bins, not yet filled, on the device of ``like``; leading axes of the edges come first."""
    *clips, edges = edges_us.shape
    shape = (*clips, edges - (kind != VOXELS), 2, rows, columns)
    return like.new_empty(shape, dtype=torch.int32 if kind == COUNTS else torch.int64)


def bin_events(
    t_us: Tensor, x: Tensor, y: Tensor, p: Tensor, height: int, width: int, kind: int, edges_us: Tensor,
    rows: int, columns: int,
) -> Tensor:  # fmt: skip
    """Gather events in bins.

    Args:
        t_us: ``(E,)`` int64, in any order.
        x: ``(E,)`` int16 column in [0, ``width``).
        y: ``(E,)`` int16 row in [0, ``height``).
        p: ``(E,)`` uint8 polarity.
        height: Rows of the sensor.
        width: Columns of the sensor.
        kind: COUNTS, VOXELS or LATEST.
        edges_us: ``(T + 1,)`` bin edges, or for VOXELS ``(T,)`` node times.
        rows: Rows of the grid.
        columns: Columns of the grid.

    Returns:
        ``(T, 2, rows, columns)``, int32 for COUNTS, else int64.
    """
    edges_us, t_us, steps = edges_us.contiguous(), t_us.contiguous(), len(edges_us) - (kind != VOXELS)
    index = torch.searchsorted(edges_us, t_us, right=False) - 1  # edges[index] < t <= edges[index + 1]
    if kind == VOXELS:
        index = (torch.searchsorted(edges_us, t_us, right=True) - 1).clamp(max=steps - 2)
        inside = (index >= 0) & (t_us <= edges_us[-1])
    else:
        inside = (index >= 0) & (index < steps)
    index, t_us = index[inside], t_us[inside]
    row, column = y[inside].long() * rows // height, x[inside].long() * columns // width
    plane, size = 2 * rows * columns, steps * 2 * rows * columns
    cell = index * plane + (p[inside].long() * rows + row) * columns + column
    if kind == COUNTS:
        return torch.bincount(cell, minlength=size).to(torch.int32).reshape(steps, 2, rows, columns)
    values = t_us.new_full((size,), NEVER if kind == LATEST else 0)
    if kind == LATEST:
        values.scatter_reduce_(0, cell, t_us, "amax")
    else:
        left, right = edges_us[index], edges_us[index + 1]
        to_right = ((t_us - left) << WEIGHT_BITS) // (right - left)
        values.scatter_add_(0, cell, (1 << WEIGHT_BITS) - to_right).scatter_add_(0, cell + plane, to_right)
    return values.reshape(steps, 2, rows, columns)
