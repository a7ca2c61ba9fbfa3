"""The op ``neuroav::contrast_events``: grey frames and pixel state in, sorted events and new state out.

Shapes: frames ``(F, H, W)`` uint8; edges ``(F + 1,)`` int64; table ``(256,)`` int32; state two ``(H, W)`` int32.
Layout: contiguous row-major (other layouts are copied). Determinism: exact, for any thread count and device.
Parity tolerance: none; every implementation gives identical arrays. Memory: the events, about three times over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroav.kernels import cpu, cuda, reference

MAX_SIDE = 1 << 15  # rows and columns are int16
MAX_INTERVAL_US = (1 << 32) - 1  # a time within an interval is 32 bits; see csrc/common/contrast.h


# Defined through torch.library's lower layer: `custom_op` would import torch's compiler (a second) at the first call.
torch.library.define(
    "neuroav::contrast_events",
    "(Tensor frames, Tensor edges_us, Tensor table, int on, int off, Tensor reference_level, Tensor last)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def contrast_events(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, reference_level: Tensor, last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return ``t_us, x, y, p`` of the events and the new ``reference_level, last``.

    The arguments must be valid: ``neuroav.events.generate.frames_to_events`` is the checked way in and says what they
    mean. Frame ``k`` spans ``(edges_us[k], edges_us[k + 1]]``; ``on`` and ``off`` are thresholds in units of ``table``.
    """
    return torch.ops.neuroav.contrast_events(frames, edges_us, table, on, off, reference_level, last)


@torch.library.register_fake("neuroav::contrast_events")
def _(frames, edges_us, table, on, off, reference_level, last):
    count = torch.library.get_ctx().new_dynamic_size()
    t_us = edges_us.new_empty(count)
    x, y = (frames.new_empty(count, dtype=torch.int16) for _ in range(2))
    p = frames.new_empty(count)
    return t_us, x, y, p, torch.empty_like(reference_level), torch.empty_like(last)


def _contrast_events_cpu(frames, edges_us, table, on, off, reference_level, last):
    frames, edges_us, table = frames.contiguous(), edges_us.contiguous(), table.contiguous()
    last = last.contiguous()
    reference_level = reference_level.clone(memory_format=torch.contiguous_format)
    detected = cpu.module.detect_events(
        frames.data_ptr(), *frames.shape, edges_us.data_ptr(), table.data_ptr(), on, off,
        reference_level.data_ptr(), last.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    t_us = torch.empty(detected.count, dtype=torch.int64)
    x, y = (torch.empty(detected.count, dtype=torch.int16) for _ in range(2))
    p = torch.empty(detected.count, dtype=torch.uint8)
    detected.write(t_us.data_ptr(), x.data_ptr(), y.data_ptr(), p.data_ptr())
    last = table[frames[-1].long()] if len(frames) else last.clone()
    return t_us, x, y, p, reference_level, last


torch.library.impl("neuroav::contrast_events", "default", reference.contrast_events)
if cpu.available():
    torch.library.impl("neuroav::contrast_events", "cpu", _contrast_events_cpu)
cuda.register("neuroav::contrast_events", cuda.contrast_events, reference.contrast_events)
