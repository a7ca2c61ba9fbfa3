"""Each compiled op in plain PyTorch: these functions define what the kernels compute."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuroav.kernels import reference_bins

# ------------------------------------------------------------------------------------------------------------- events


def contrast_events(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, level: Tensor, last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Turn grey frames into sorted events; see ``neuroav.events.generate.frames_to_events`` for the model.

    Args:
        frames: ``(F, H, W)`` uint8.
        edges_us: ``(F + 1,)`` int64 times; frame ``k`` closes the interval from edge ``k`` to edge ``k + 1``.
        table: ``(256,)`` int32 brightness of each grey level, never decreasing.
        on: ON threshold in units of ``table``.
        off: OFF threshold in units of ``table``.
        level: ``(H, W)`` int32 reference level of each pixel.
        last: ``(H, W)`` int32 log intensity of the frame before the first.

    Returns:
        ``t_us`` int64, ``x`` int16, ``y`` int16, ``p`` uint8, each ``(E,)``; the new ``level``; the new ``last``.
    """
    parts = [torch.empty(4, 0, dtype=torch.int64, device=frames.device)]
    edges, level, last = edges_us.tolist(), level.clone(), last.clone()
    for index, frame in enumerate(frames):
        brightness = table[frame.long()]
        parts.append(_interval_events(last, brightness, level, on, off, edges[index], edges[index + 1]))
        level += _crossings(brightness, level, on, off) * torch.where(brightness >= level, on, off)
        last = brightness
    t_us, x, y, p = torch.cat(parts, dim=1)
    return t_us.clone(), x.to(torch.int16), y.to(torch.int16), p.to(torch.uint8), level, last


def contrast_bins(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, level: Tensor, last: Tensor, kind: int,
    bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gather the events of :func:`contrast_events` in bins; returns bins, new ``level``, new ``last``."""
    t_us, x, y, p, level, last = contrast_events(frames, edges_us, table, on, off, level, last)
    height, width = frames.shape[1:]
    bins = reference_bins.bin_events(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns)
    return bins, level, last


def _crossings(brightness: Tensor, level: Tensor, on: int, off: int) -> Tensor:
    """Return the signed number of thresholds between reference level and brightness; a tie counts."""
    change = brightness - level
    return change.clamp(min=0) // on - (-change).clamp(min=0) // off


def _interval_events(
    before: Tensor, after: Tensor, level: Tensor, on: int, off: int, start_us: int, stop_us: int
) -> Tensor:
    """Return rows ``t, x, y, p`` ``(4, E)`` int64 of one interval, in raster order sorted stably by time."""
    crossings = _crossings(after, level, on, off)
    y, x = crossings.nonzero(as_tuple=True)
    count = crossings[y, x].abs().long()
    source = torch.arange(len(count), device=level.device).repeat_interleave(count)  # which pixel fires event e
    nth = torch.arange(len(source), device=level.device) - (count.cumsum(0) - count)[source] + 1
    y, x = y[source], x[source]
    l0, l1, p = before[y, x].long(), after[y, x].long(), (crossings[y, x] > 0).long()
    crossed = level[y, x] + nth * torch.where(p == 1, on, -off)
    way, span = (crossed - l0).abs(), (l1 - l0).abs()
    t_us = start_us + (way * (stop_us - start_us) + span - 1) // span  # rounded up, as csrc/common/contrast.h says
    t_us, order = t_us.sort(stable=True)
    return torch.stack([t_us, x[order], y[order], p[order]])


# ------------------------------------------------------------------------------------------------------------- neurons
# Shapes: x (T,B,N); theta 3-D and broadcastable to x; v0 (B,N); decay (N,) or (1,).

ATAN, SIGMOID, FAST_SIGMOID, TRIANGLE = range(4)


def surrogate_grad(u: Tensor, code: int, alpha: float) -> Tensor:
    """Derivative used in place of the spike's at ``u = v - theta``; see :mod:`neuroav.neurons.surrogate`."""
    if code == ATAN:
        return (0.5 * alpha) / (1 + (0.5 * math.pi * alpha * u).square())
    if code == SIGMOID:
        decayed = torch.exp(-alpha * u.abs())
        return alpha * decayed / (1 + decayed).square()
    if code == FAST_SIGMOID:
        return 1 / (1 + alpha * u.abs()).square()
    return (1 - u.abs() / alpha).clamp_min(0) / alpha


def lif_forward(
    x: Tensor, theta: Tensor, v0: Tensor, decay: Tensor, v_rest: float, hard_reset: bool, keep_membrane: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Charge, fire, reset, step by step; returns spikes, last membrane, and the membrane before reset (or empty)."""
    theta = theta.expand(x.shape)
    spikes = x.new_empty(x.shape)
    membrane = x.new_empty(x.shape if keep_membrane else 0)
    v = v0
    for t in range(x.shape[0]):
        v = v + (x[t] - (v - v_rest)) * decay
        spikes[t] = v >= theta[t]
        if keep_membrane:
            membrane[t] = v
        v = _after_reset(v, theta[t], v_rest, hard_reset)
    return spikes, v, membrane


def _after_reset(v: Tensor, theta: Tensor, v_rest: float, hard_reset: bool) -> Tensor:
    return torch.where(v >= theta, v_rest if hard_reset else v - theta, v)


def lif_backward(
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    grad_membrane: Tensor | None,
    x: Tensor | None,
    membrane: Tensor,
    theta: Tensor,
    v0: Tensor,
    decay: Tensor,
    v_rest: float,
    hard_reset: bool,
    detach_reset: bool,
    surrogate: int,
    alpha: float,
    need_theta: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Back-propagation through time; returns gradients of x, theta, v0 and decay.

    ``carry`` is the gradient of the membrane after reset, ``through_spike`` what reaches ``v - theta`` by the spike.
    The gradient of theta is empty unless ``need_theta``, that of decay unless ``x`` is given.
    """
    wide = theta.expand(membrane.shape)
    grad_x = torch.empty_like(membrane)
    grad_theta = theta.new_zeros(theta.shape if need_theta else 0)
    grad_decay = decay.new_zeros(decay.shape if x is not None else 0)
    carry = torch.zeros_like(v0) if grad_v is None else grad_v
    for t in reversed(range(membrane.shape[0])):
        v, th = membrane[t], wide[t]
        fired = v >= th
        slope = surrogate_grad(v - th, surrogate, alpha)
        through_spike = torch.zeros_like(v) if grad_spikes is None else grad_spikes[t] * slope
        if not detach_reset:  # an infinite threshold has slope 0, and 0 * inf must stay 0
            step = v_rest - v if hard_reset else -th
            through_spike = through_spike + carry * torch.where(slope > 0, step * slope, 0.0)
        if need_theta:
            subtracted = 0.0 if hard_reset else torch.where(fired, carry, 0.0)
            row = grad_theta[t if theta.shape[0] > 1 else 0]
            row -= (through_spike + subtracted).sum_to_size(row.shape)
        if hard_reset:
            carry = torch.where(fired, 0.0, carry)
        total = through_spike + carry
        if grad_membrane is not None:
            total = total + grad_membrane[t]
        grad_x[t] = total * decay
        if x is not None:
            before = _after_reset(membrane[t - 1], wide[t - 1], v_rest, hard_reset) if t > 0 else v0
            grad_decay += (total * (x[t] - (before - v_rest))).sum_to_size(1, *decay.shape).squeeze(0)
        carry = total * (1 - decay)
    return grad_x, grad_theta, carry, grad_decay
