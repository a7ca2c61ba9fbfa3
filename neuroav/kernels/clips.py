"""The op ``neuroav::contrast_events_clips``: a batch of clips of equal size to events, in one launch on a GPU.

Shapes: frames ``(B, F, H, W)`` uint8; edges ``(B, F + 1)`` int64; table ``(256,)`` int32; state twice ``(B, H, W)``
int32.
Layout: contiguous row-major (other layouts are copied). Determinism: exact, for any device.
Parity tolerance: none; equal to one call of ``neuroav::contrast_events`` per clip, which is also how a CPU does it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroav.kernels import cuda, events

torch.library.define(
    "neuroav::contrast_events_clips",
    "(Tensor frames, Tensor edges_us, Tensor table, int on, int off, Tensor reference_level, Tensor last)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def contrast_events_clips(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, reference_level: Tensor, last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return ``t_us, x, y, p`` of all clips' events, clip after clip, their number per clip and the new state.

    The number ``(B,)`` int64 is on the CPU, so ``t_us.split(number.tolist())`` gives each clip's part at no cost. The
    arguments are those of :func:`neuroav.kernels.events.contrast_events` with a leading axis of clips, and as valid.
    """
    return torch.ops.neuroav.contrast_events_clips(frames, edges_us, table, on, off, reference_level, last)


def _one_by_one(frames, edges_us, table, on, off, reference_level, last):
    parts = [
        events.contrast_events(clip, edges, table, on, off, level, before)
        for clip, edges, level, before in zip(frames, edges_us, reference_level, last, strict=True)
    ]
    *columns, levels, lasts = zip(*parts, strict=True)
    number = torch.tensor([len(t_us) for t_us in columns[0]])
    return *(torch.cat(column) for column in columns), number, torch.stack(levels), torch.stack(lasts)


@torch.library.register_fake("neuroav::contrast_events_clips")
def _(frames, edges_us, table, on, off, reference_level, last):
    count = torch.library.get_ctx().new_dynamic_size()
    t_us = frames.new_empty(count, dtype=torch.int64)
    x, y = (frames.new_empty(count, dtype=torch.int16) for _ in range(2))
    number = torch.empty(frames.shape[0], dtype=torch.int64, device="cpu")
    return t_us, x, y, frames.new_empty(count), number, torch.empty_like(reference_level), torch.empty_like(last)


torch.library.impl("neuroav::contrast_events_clips", "default", _one_by_one)
cuda.register("neuroav::contrast_events_clips", cuda.contrast_events_clips, _one_by_one)
