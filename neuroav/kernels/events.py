"""The ops of the ideal camera: grey frames and pixel state in; sorted events, or bins, and new state out.

``neuroav::contrast_events`` makes the list, ``neuroav::contrast_bins`` fills bins without ever making it.
Shapes: frames ``(F, H, W)`` uint8; edges ``(F + 1,)`` int64; table ``(256,)`` int32; state two ``(H, W)`` int32;
bin edges ``(T + 1,)`` or ``(T,)`` int64; bins ``(T, P, rows, columns)``, int32 for counts, else int64.
Layout: contiguous row-major (other layouts are copied). Determinism: exact, for any thread count and device.
Parity tolerance: none; every implementation gives identical arrays. Memory: the events or bins, and a little;
up to 512 MiB that lists of events gave back are kept for the next ones (the system may still take them).
On a CPU the environment variable NEUROAV_SIMD=portable forgoes AVX-512, for comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroav.kernels import cpu, cuda, reference, reference_bins

MAX_SIDE = 1 << 15  # rows and columns are int16
MAX_INTERVAL_US = (1 << 32) - 1  # a time within an interval is 32 bits; see csrc/common/contrast.h


# Defined through torch.library's lower layer: `custom_op` would import torch's compiler (a second) at the first call.
torch.library.define(
    "neuroav::contrast_events",
    "(Tensor frames, Tensor edges_us, Tensor table, int on, int off, Tensor reference_level, Tensor last)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

torch.library.define(
    "neuroav::contrast_bins",
    "(Tensor frames, Tensor edges_us, Tensor table, int on, int off, Tensor reference_level, Tensor last, int kind,"
    " Tensor bin_edges_us, int rows, int columns) -> (Tensor, Tensor, Tensor)",
)


def brightness(grey: Tensor, table: Tensor) -> Tensor:
    """Return ``table[grey]`` for grey levels of any shape: what a first frame becomes."""
    if grey.device.type != "cpu" or not cpu.available():
        return table[grey.long()]
    grey, table = grey.contiguous(), table.contiguous()
    levels = torch.empty_like(grey, dtype=torch.int32)
    cpu.module.brightness(grey.data_ptr(), grey.numel(), table.data_ptr(), levels.data_ptr(), torch.get_num_threads())
    return levels


def contrast_events(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, reference_level: Tensor, last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return ``t_us, x, y, p`` of the events and the new ``reference_level, last``.

    The arguments must be valid: ``neuroav.events.generate.frames_to_events`` is the checked way in and says what they
    mean. Frame ``k`` spans ``(edges_us[k], edges_us[k + 1]]``; ``on`` and ``off`` are thresholds in units of ``table``.
    """
    return torch.ops.neuroav.contrast_events(frames, edges_us, table, on, off, reference_level, last)


def contrast_bins(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, reference_level: Tensor, last: Tensor,
    kind: int, bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the bins ``(T, P, rows, columns)`` of the same events, and the new ``reference_level, last``.

    Arguments as for :func:`contrast_events`; the last four as in ``neuroav.events.types.Bins``.
    """
    return torch.ops.neuroav.contrast_bins(
        frames, edges_us, table, on, off, reference_level, last, kind, bin_edges_us, rows, columns
    )


@torch.library.register_fake("neuroav::contrast_events")
def _(frames, edges_us, table, on, off, reference_level, last):
    count = torch.library.get_ctx().new_dynamic_size()
    t_us = edges_us.new_empty(count)
    x, y = (frames.new_empty(count, dtype=torch.int16) for _ in range(2))
    p = frames.new_empty(count)
    return t_us, x, y, p, torch.empty_like(reference_level), torch.empty_like(last)


@torch.library.register_fake("neuroav::contrast_bins")
def _(frames, edges_us, table, on, off, reference_level, last, kind, bin_edges_us, rows, columns):
    values = reference_bins.no_values(frames, kind, bin_edges_us, rows, columns)
    return values, torch.empty_like(reference_level), torch.empty_like(last)


def _contrast_events_cpu(frames, edges_us, table, on, off, reference_level, last):
    clip, kept = _clip(frames, edges_us, table, on, off, reference_level, last)
    columns = cpu.module.contrast_events(clip, torch.get_num_threads())
    return *(torch.from_numpy(column) for column in columns), *kept[-2:]


def _contrast_bins_cpu(frames, edges_us, table, on, off, reference_level, last, kind, bin_edges_us, rows, columns):
    clip, kept = _clip(frames, edges_us, table, on, off, reference_level, last)
    edges = bin_edges_us.contiguous()
    values = cpu.module.contrast_bins(
        clip, kind, edges.data_ptr(), len(edges), rows, columns, torch.get_num_threads()
    )  # fmt: skip
    return torch.from_numpy(values).view(-1, 2, rows, columns), *kept[-2:]


def _clip(frames, edges_us, table, on, off, *state):
    """Return the extension's view of a clip, and the tensors whose memory it uses: the last two are the new state."""
    kept = [*(a.contiguous() for a in (frames, edges_us, table))]
    kept += [a.clone(memory_format=torch.contiguous_format) for a in state]
    addresses = [a.data_ptr() for a in kept]
    clip = cpu.module.Clip(addresses[0], *frames.shape, *addresses[1:3], on, off, *addresses[3:])
    return clip, kept


torch.library.impl("neuroav::contrast_events", "default", reference.contrast_events)
torch.library.impl("neuroav::contrast_bins", "default", reference.contrast_bins)
if cpu.available():
    torch.library.impl("neuroav::contrast_events", "cpu", _contrast_events_cpu)
    torch.library.impl("neuroav::contrast_bins", "cpu", _contrast_bins_cpu)
cuda.register("neuroav::contrast_events", cuda.contrast_events, reference.contrast_events)
cuda.register("neuroav::contrast_bins", cuda.contrast_bins, reference.contrast_bins)
