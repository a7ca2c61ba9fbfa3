"""The op ``neuroav::bin_events``: columns of an event list in, integer bins out.

Shapes: t_us ``(E,)`` int64; x, y ``(E,)`` int16; p ``(E,)`` uint8; edges ``(T + 1,)`` or ``(T,)`` int64; values
``(T, 2, rows, columns)``, int32 for counts, else int64. Layout: contiguous (other layouts are copied). Determinism:
exact for any order of the events, thread count and device. Parity tolerance: none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.kernels import cpu, cuda, reference_bins

torch.library.define(
    "neuroav::bin_events",
    "(Tensor t_us, Tensor x, Tensor y, Tensor p, int height, int width, int kind, Tensor bin_edges_us, int rows,"
    " int columns) -> Tensor",
)


def bin_events(
    t_us: Tensor, x: Tensor, y: Tensor, p: Tensor, height: int, width: int, kind: int, edges_us: Tensor,
    rows: int, columns: int,
) -> Tensor:  # fmt: skip
    """Return the bins; ``neuroav.events.represent`` is the checked way in, ``Bins`` says what the numbers mean.

    Raises:
        InputError: If an event lies outside the sensor or its polarity is neither 0 nor 1.
    """
    return torch.ops.neuroav.bin_events(t_us, x, y, p, height, width, kind, edges_us, rows, columns)


@torch.library.register_fake("neuroav::bin_events")
def _(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns):
    return reference_bins.no_values(t_us, kind, bin_edges_us, rows, columns)


def _check_events(x, y, p, height, width):
    if len(x) == 0:
        return
    bad = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p > 1)
    if bool(bad.any()):
        _fail(x, y, p, height, width, int(bad.nonzero()[0]))


def _fail(x, y, p, height, width, index):
    actual = f"event {index} at x = {int(x[index])}, y = {int(y[index])}, p = {int(p[index])}"
    raise fail("events", f"x in [0, {width - 1}], y in [0, {height - 1}] and p in (0, 1)", actual)


def _bin_events_reference(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns):
    _check_events(x, y, p, height, width)
    return reference_bins.bin_events(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns)


def _bin_events_cpu(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns):
    t_us, x, y, p, edges_us = (a.contiguous() for a in (t_us, x, y, p, bin_edges_us))
    values, bad = cpu.module.bin_events(
        t_us.data_ptr(), x.data_ptr(), y.data_ptr(), p.data_ptr(), len(t_us), height, width, kind,
        edges_us.data_ptr(), len(edges_us), rows, columns, torch.get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        _fail(x, y, p, height, width, bad)
    return torch.from_numpy(values).view(-1, 2, rows, columns)


def _bin_events_cuda(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns):
    _check_events(x, y, p, height, width)  # which the kernel would leave out
    return cuda.bin_events(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns)


torch.library.impl("neuroav::bin_events", "default", _bin_events_reference)
if cpu.available():
    torch.library.impl("neuroav::bin_events", "cpu", _bin_events_cpu)
cuda.register("neuroav::bin_events", _bin_events_cuda, _bin_events_reference)
