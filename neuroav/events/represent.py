"""Events to tensors: counts per time bin, polarity and cell of a coarse grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_dtype, check_shape, fail
from neuroav.events.types import Events


def events_to_counts(events: Events, edges_us: Tensor | np.ndarray, grid: tuple[int, int] = (16, 16)) -> Tensor:
    """Count events per time bin, polarity and grid cell.

    Bin ``k`` holds ``edges_us[k] < t <= edges_us[k + 1]``; the pixel ``(y, x)`` belongs to the cell
    ``(y * h // H, x * w // W)``. Every event inside the edges is counted once.

    Args:
        events: Events of a sensor of size ``(H, W)``.
        edges_us: ``(T + 1,)`` int64 bin edges in microseconds, non-decreasing.
        grid: Rows and columns ``(h, w)`` of the grid.

    Returns:
        Counts ``(T, P, h, w)`` int32, polarity in the order OFF, ON.

    Raises:
        InputError: If there is no bin, the edges decrease or the grid has no cell.

    Example:
        >>> events = Events(torch.tensor([5, 9]), *torch.zeros(2, 2).short(), torch.tensor([1, 0]).byte(), (4, 4))
        >>> events_to_counts(events, torch.tensor([0, 5, 10]), grid=(1, 1)).flatten(1).tolist()
        [[0, 1], [1, 0]]
    """
    where = "events_to_counts"
    edges = torch.as_tensor(edges_us).to(events.t_us.device)
    check_dtype(where, "edges_us", edges, torch.int64)
    check_shape(where, "edges_us", edges, ("T",))
    (rows, columns), (height, width) = grid, events.sensor_size
    if rows < 1 or columns < 1:
        raise fail(where, "grid with both sides at least 1", str(grid))
    if len(edges) < 2 or bool((edges.diff() < 0).any()):
        raise fail(where, "at least two edges_us that never decrease", str(edges.tolist()[:8]))
    bins = len(edges) - 1
    inside = events.between(int(edges[0]), int(edges[-1]))
    bin_index = torch.searchsorted(edges, inside.t_us) - 1
    row, column = inside.y.long() * rows // height, inside.x.long() * columns // width
    cell = ((bin_index * 2 + inside.p.long()) * rows + row) * columns + column
    counts = torch.bincount(cell, minlength=bins * 2 * rows * columns)
    return counts.to(torch.int32).reshape(bins, 2, rows, columns)
