"""Each compiled op in plain PyTorch: these functions define what the kernels compute."""

from __future__ import annotations

import math
from typing import NamedTuple

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
# Shapes: x (T,B,N); theta 3-D and broadcastable to x; v0 and left (B,N); decay (N,) or (1,). The state, theta and decay
# are float32 where x is bfloat16 or float16, else of x's type.

ATAN, SIGMOID, FAST_SIGMOID, TRIANGLE = range(4)


def surrogate_grad(u: Tensor, code: int, alpha: float, scale: float = 1.0) -> Tensor:
    """Derivative used in place of the spike's at ``u = v - theta``; see :mod:`neuroav.neurons.surrogate`."""
    if code == ATAN:
        return (0.5 * alpha * scale) / (1 + (0.5 * math.pi * alpha * u).square())
    if code == SIGMOID:
        decayed = torch.exp(-alpha * u.abs())
        return (alpha * scale) * decayed / (1 + decayed).square()
    if code == FAST_SIGMOID:
        return scale / (1 + alpha * u.abs()).square()
    return (1 - u.abs() / alpha).clamp_min(0) * (scale / alpha)


def lif_forward(
    x: Tensor,
    theta: Tensor,
    v0: Tensor | None,
    decay: Tensor,
    left: Tensor | None,
    v_rest: float,
    hard_reset: bool,
    strict: bool,
    unit_gain: bool,
    refractory: int,
    keep: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Charge, fire, reset, step by step; returns spikes, last membrane, refractory steps left, what is kept of both.

    ``keep`` = 1 keeps the membrane before reset of every step, ``keep`` = k > 1 the membrane after reset of the steps
    k, 2k, ... before the last, flat; 0 keeps nothing. The refractory steps are kept as they are before those steps.
    """
    wide = theta.expand(x.shape)
    spikes, kept, kept_left = torch.empty_like(x, memory_format=torch.contiguous_format), [], []
    v = theta.new_full(x.shape[1:], v_rest) if v0 is None else v0.clone()
    rests = _steps_left(x, left, refractory)
    for t in range(x.shape[0]):
        if keep > 1 and t > 0 and t % keep == 0:
            kept.append(v)
            kept_left.append(rests)
        h = _charge(v, x[t].to(v.dtype), decay, v_rest, unit_gain)
        fired = h > wide[t] if strict else h >= wide[t]
        if keep == 1:
            kept_left.append(rests)
        if refractory:
            h, fired = torch.where(rests > 0, v, h), fired & (rests == 0)
            rests = torch.where(fired, refractory, (rests - 1).clamp_min(0))
        if keep == 1:
            kept.append(h)
        spikes[t] = fired
        v = torch.where(fired, v_rest if hard_reset else h - wide[t], h)
    return spikes, v, rests, _stack(kept, v, keep), _stack(kept_left, rests, keep)


def _stack(rows: list[Tensor], like: Tensor, keep: int) -> Tensor:
    """Return rows as one tensor, flat if they are not all steps; zeros in place of none of them."""
    if keep <= 1:
        return torch.stack(rows) if rows else like.new_empty(0, *like.shape if keep else ())
    return torch.cat([row.flatten() for row in rows or [torch.zeros_like(like)]])


def _steps_left(x: Tensor, left: Tensor | None, refractory: int) -> Tensor:
    size = x.shape[1:] if refractory else (0, x.shape[2])
    return torch.zeros(size, dtype=torch.int32, device=x.device) if left is None else left.clone()


def _charge(v: Tensor, x: Tensor, decay: Tensor, v_rest: float, unit_gain: bool) -> Tensor:
    return (v - (v - v_rest) * decay) + x if unit_gain else v + (x - (v - v_rest)) * decay


class _Trace(NamedTuple):
    """What the backward pass needs of every step, ``(T, B, N)``: membranes at its start and before reset, flags."""

    before: Tensor
    h: Tensor
    fired: Tensor
    resting: Tensor


def _trace(
    x, kept, kept_left, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, keep
) -> _Trace:
    if keep != 1:
        *_, kept, kept_left = lif_forward(
            x, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, 1
        )
    fired = kept > theta if strict else kept >= theta
    resting = kept_left > 0 if refractory else torch.zeros_like(fired)
    fired = fired & ~resting
    after = torch.where(fired, v_rest if hard_reset else kept - theta, kept)
    start = kept.new_full((1, *kept.shape[1:]), v_rest) if v0 is None else v0[None]
    return _Trace(torch.cat([start, after])[:-1], kept, fired, resting)


def lif_backward(
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    grad_membrane: Tensor | None,
    x: Tensor | None,
    kept: Tensor,
    kept_left: Tensor,
    theta: Tensor,
    v0: Tensor | None,
    decay: Tensor,
    left: Tensor | None,
    v_rest: float,
    hard_reset: bool,
    strict: bool,
    unit_gain: bool,
    refractory: int,
    detach_reset: bool,
    surrogate: int,
    alpha: float,
    scale: float,
    keep: int,
    dtype: torch.dtype,
    need_theta: bool,
    need_v0: bool,
    need_decay: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Back-propagation through time; returns gradients of x (in ``dtype``), theta, v0 and decay, empty if not needed.

    ``carry`` is the gradient of the membrane after reset, ``through_spike`` what reaches ``v - theta`` by the spike.
    ``x`` may be ``None`` where ``keep`` is 1 and decay needs no gradient.
    """
    trace = _trace(x, kept, kept_left, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, keep)
    wide = theta.expand(trace.h.shape)
    grad_x = torch.empty_like(trace.h, dtype=dtype)
    grad_theta = theta.new_zeros(theta.shape if need_theta else 0)
    grad_decay = decay.new_zeros(decay.shape if need_decay else 0)
    carry = theta.new_zeros(trace.h.shape[1:]) if grad_v is None else grad_v.clone()
    for t in reversed(range(len(trace.h))):
        before, h, fired, resting = (each[t] for each in trace)
        slope = torch.where(resting, 0.0, surrogate_grad(h - wide[t], surrogate, alpha, scale))
        through_spike = torch.zeros_like(h) if grad_spikes is None else grad_spikes[t].to(h.dtype) * slope
        if not detach_reset:  # an infinite threshold has slope 0, and 0 * inf must stay 0
            jump = v_rest - h if hard_reset else -wide[t]
            through_spike = through_spike + carry * torch.where(slope > 0, jump * slope, 0.0)
        if need_theta:
            subtracted = 0.0 if hard_reset else torch.where(fired, carry, 0.0)
            row = grad_theta[t if theta.shape[0] > 1 else 0]
            row -= (through_spike + subtracted).sum_to_size(row.shape)
        if hard_reset:
            carry = torch.where(fired, 0.0, carry)
        total = through_spike + carry
        if grad_membrane is not None:
            total = total + grad_membrane[t]
        grad_x[t] = torch.where(resting, 0.0, total if unit_gain else total * decay)
        if need_decay:
            force = v_rest - before if x is None or unit_gain else x[t].to(h.dtype) - (before - v_rest)
            grad_decay += torch.where(resting, 0.0, total * force).sum_to_size(1, *decay.shape).squeeze(0)
        carry = torch.where(resting, total, total * (1 - decay))
    return grad_x, grad_theta, carry if need_v0 else carry.new_empty(0), grad_decay
