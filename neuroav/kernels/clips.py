"""The ops of the ideal camera for a batch of clips of equal size, in one launch on a GPU.

``neuroav::contrast_events_clips`` makes the lists, ``neuroav::contrast_bins_clips`` the bins.
Shapes: as in :mod:`neuroav.kernels.events` with a leading axis ``B``: frames ``(B, F, H, W)``, edges ``(B, F + 1)``,
state two ``(B, H, W)``, bin edges ``(B, T + 1)`` or ``(B, T)``, bins ``(B, T, P, rows, columns)``.
Layout: contiguous row-major (other layouts are copied). Determinism: exact, for any device.
Parity tolerance: none; equal to one call per clip of the ops without a batch, which is also how a CPU does it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroav.kernels import cuda, events, reference_bins

torch.library.define(
    "neuroav::contrast_events_clips",
    "(Tensor frames, Tensor edges_us, Tensor table, int on, int off, Tensor reference_level, Tensor last)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

torch.library.define(
    "neuroav::contrast_bins_clips",
    "(Tensor frames, Tensor edges_us, Tensor table, int on, int off, Tensor reference_level, Tensor last, int kind,"
    " Tensor bin_edges_us, int rows, int columns) -> (Tensor, Tensor, Tensor)",
)


def contrast_events_clips(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, reference_level: Tensor, last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return ``t_us, x, y, p`` of all clips' events, clip after clip, their number per clip and the new state.

    The number ``(B,)`` int64 is on the CPU, so ``t_us.split(number.tolist())`` gives each clip's part at no cost. The
    arguments are those of :func:`neuroav.kernels.events.contrast_events` with a leading axis of clips, and as valid.
    """
    return torch.ops.neuroav.contrast_events_clips(frames, edges_us, table, on, off, reference_level, last)


def contrast_bins_clips(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, reference_level: Tensor, last: Tensor,
    kind: int, bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the bins ``(B, T, P, rows, columns)`` of all clips and the new state; each clip has its own bin edges."""
    return torch.ops.neuroav.contrast_bins_clips(
        frames, edges_us, table, on, off, reference_level, last, kind, bin_edges_us, rows, columns
    )


def _list_one_by_one(frames, edges_us, table, on, off, reference_level, last):
    parts = [
        events.contrast_events(clip, edges, table, on, off, level, before)
        for clip, edges, level, before in zip(frames, edges_us, reference_level, last, strict=True)
    ]
    *columns, levels, lasts = zip(*parts, strict=True)
    number = torch.tensor([len(t_us) for t_us in columns[0]])
    return *(torch.cat(column) for column in columns), number, torch.stack(levels), torch.stack(lasts)


def _bin_one_by_one(frames, edges_us, table, on, off, reference_level, last, kind, bin_edges_us, rows, columns):
    parts = [
        events.contrast_bins(clip, edges, table, on, off, level, before, kind, bins, rows, columns)
        for clip, edges, level, before, bins in zip(frames, edges_us, reference_level, last, bin_edges_us, strict=True)
    ]
    return tuple(torch.stack(tensors) for tensors in zip(*parts, strict=True))


@torch.library.register_fake("neuroav::contrast_events_clips")
def _(frames, edges_us, table, on, off, reference_level, last):
    count = torch.library.get_ctx().new_dynamic_size()
    t_us = frames.new_empty(count, dtype=torch.int64)
    x, y = (frames.new_empty(count, dtype=torch.int16) for _ in range(2))
    number = torch.empty(frames.shape[0], dtype=torch.int64, device="cpu")
    return t_us, x, y, frames.new_empty(count), number, torch.empty_like(reference_level), torch.empty_like(last)


@torch.library.register_fake("neuroav::contrast_bins_clips")
def _(frames, edges_us, table, on, off, reference_level, last, kind, bin_edges_us, rows, columns):
    values = reference_bins.no_values(frames, kind, bin_edges_us, rows, columns)
    return values, torch.empty_like(reference_level), torch.empty_like(last)


torch.library.impl("neuroav::contrast_events_clips", "default", _list_one_by_one)
torch.library.impl("neuroav::contrast_bins_clips", "default", _bin_one_by_one)
cuda.register("neuroav::contrast_events_clips", cuda.contrast_events_clips, _list_one_by_one)
cuda.register("neuroav::contrast_bins_clips", cuda.contrast_bins_clips, _bin_one_by_one)
