r"""The gradient path: event bins as a differentiable function of log brightness and thresholds.

A pixel with reference ``R`` and brightness ``L`` has crossed :math:`n(u)` thresholds, :math:`u = (L - R) / C^+` for ON
and :math:`u = (R - L) / C^-` for OFF. The sensor's ``n`` is the floor, at least 0, whose derivative is no use.
Here every step of the floor is widened to a cubic ramp of half width ``T`` (the temperature, in thresholds) around it:

.. math:: n_T(u) = \sum_{j \ge 1} s\left(\frac{u - j}{T}\right), \quad
    s(z) = \frac{2 + 3z - z^3}{4} \text{ on } [-1, 1], \text{ else 0 or 1}

so ``n_T`` equals the floor wherever ``u`` is at least ``T`` away from every threshold, and tends to it as ``T`` goes to
0. Everything else is the ideal camera's rule:

* brightness is linear in time from one frame to the next, so the number of crossings is known at every instant;
* after a frame the reference has moved by what was counted, :math:`R' = R + C^+ n(u^+) - C^- n(u^-)`, so that
  counts times thresholds always add up to ``R`` (conservation), and :math:`\partial R' / \partial R = 1 - n_T'(u)`;
* a bin with weight :math:`h(t)` over time (a voxel's hat, or 1 inside a counting bin) receives, per interval, the
  Stieltjes integral of its weight, which integration by parts makes smooth in everything:

.. math:: \int h\,dn = \left[h\,n\right] - \int h'(t)\,n(u(t))\,dt
    \quad\text{with}\quad \int n(u)\,dt = \Delta t\,\frac{N(u_b) - N(u_a)}{u_b - u_a}, \quad N' = n.

No division by a change of brightness is left over (the quotient tends to ``n``), so gradients stay finite where nothing
moves. At ``T = 0.5``, the widest, :math:`|1 - n_T'| \le 1`: what an earlier frame did to the reference never grows on
its way back. Smaller temperatures follow the sensor more closely and may amplify over many frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_dtype, check_shape, fail
from neuroav.events.represent import voxel_nodes
from neuroav.events.types import Bins


class SoftState(NamedTuple):
    """What a pixel remembers between calls; it carries the gradient across them (``detach`` it to cut that).

    Attributes:
        reference: ``(H, W)`` reference level ``R`` in nats.
        last: ``(H, W)`` log brightness of the last frame in nats.
        t_us: Time of the last frame in microseconds.
    """

    reference: Tensor
    last: Tensor
    t_us: int

    def detach(self) -> SoftState:
        """Return the same values without their history."""
        return SoftState(self.reference.detach(), self.last.detach(), self.t_us)


# ----------------------------------------------------------------------------------------------- counts of crossings


@dataclass(frozen=True)
class CrossingCount(ABC):
    """How many thresholds have been crossed at ``u`` thresholds from the reference: what forward and backward use.

    Attributes:
        temperature: Half width of the ramp around each threshold, in thresholds, in (0, 0.5].
    """

    temperature: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 0.5:
            raise fail(type(self).__name__, "temperature in (0, 0.5]", f"{self.temperature:g}")

    @abstractmethod
    def at(self, u: Tensor) -> Tensor:
        """Return the count at ``u``; any shape."""

    @abstractmethod
    def mean(self, start: Tensor, stop: Tensor) -> Tensor:
        """Return the mean count while ``u`` runs evenly from ``start`` to ``stop``; any shape."""


@dataclass(frozen=True)
class Soft(CrossingCount):
    """Soft forward and its true gradient: finite differences agree with it, and so do events where ``T`` is small.

    Example:
        >>> Soft(0.25).at(torch.tensor([0.7, 1.0, 1.5, 2.25]))
        tensor([0.0000, 0.5000, 1.0000, 2.0000])
    """

    def at(self, u: Tensor) -> Tensor:
        """Return the soft count."""
        return _soft_count(u, self.temperature)

    def mean(self, start: Tensor, stop: Tensor) -> Tensor:
        """Return the mean soft count."""
        return _soft_mean(start, stop, self.temperature)


@dataclass(frozen=True)
class StraightThrough(CrossingCount):
    """The sensor's own count forward, the soft count's derivative backward.

    Example:
        >>> u = torch.tensor([0.7, 1.0, 1.5], requires_grad=True)
        >>> count = StraightThrough(0.5).at(u)
        >>> count.detach(), torch.autograd.grad(count.sum(), u)[0]
        (tensor([0., 1., 1.]), tensor([0.9600, 1.5000, 0.0000]))
    """

    def at(self, u: Tensor) -> Tensor:
        """Return the whole number of thresholds crossed, a tie included."""
        return _with_gradient_of(_hard_count(u.detach()), _soft_count(u, self.temperature))

    def mean(self, start: Tensor, stop: Tensor) -> Tensor:
        """Return the mean of the whole number of thresholds crossed."""
        hard = _hard_mean(start.detach(), stop.detach())
        return _with_gradient_of(hard, _soft_mean(start, stop, self.temperature))


def _with_gradient_of(value: Tensor, soft: Tensor) -> Tensor:
    return value + (soft - soft.detach())


def _soft_count(u: Tensor, temperature: float, lowest: Tensor | float = 1.0) -> Tensor:
    """Count soft thresholds at ``lowest`` and every integer above; below them all the count is ``lowest - 1``."""
    nearest = u.detach().round().clamp(min=lowest)
    z = ((u - nearest) / temperature).clamp(-1, 1)
    return nearest - 1 + (2 + 3 * z - z**3) / 4


def _soft_area(u: Tensor, temperature: float, lowest: Tensor) -> Tensor:
    """Integrate :func:`_soft_count` from 0 to ``u``, up to a constant."""
    nearest = u.detach().round().clamp(min=lowest)
    z = (u - nearest) / temperature
    inside = z.clamp(-1, 1)
    ramp = temperature * ((0.75 + 2 * inside + 1.5 * inside**2 - inside**4 / 4) / 4 + (z - 1).clamp(min=0))
    return (nearest - 1) * u - nearest * (nearest - 1) / 2 + ramp


def _soft_mean(start: Tensor, stop: Tensor, temperature: float) -> Tensor:
    base = start.detach().floor()  # areas are taken from here, so that they stay small numbers
    lowest = 1 - base
    a, b = start - base, stop - base
    change = b - a
    is_short = change.abs() < 0.02 * temperature
    divisor = torch.where(is_short, 1.0, change)
    quotient = (_soft_area(b, temperature, lowest) - _soft_area(a, temperature, lowest)) / divisor
    count_a, middle, count_b = (_soft_count(u, temperature, lowest) for u in (a, (a + b) / 2, b))
    simpson = (count_a + 4 * middle + count_b) / 6
    return base + torch.where(is_short, simpson, quotient)


def _hard_count(u: Tensor) -> Tensor:
    return u.floor().clamp(min=0)


def _hard_mean(start: Tensor, stop: Tensor) -> Tensor:
    base = _hard_count(start)
    a, b = start - base, stop - base
    floor_a, floor_b = (torch.maximum(u.floor(), -base) for u in (a, b))
    area_a, area_b = (n * u - n * (n + 1) / 2 for u, n in ((a, floor_a), (b, floor_b)))
    change = torch.where(floor_a == floor_b, 1.0, b - a)
    mean = torch.where(floor_a == floor_b, floor_a, (area_b - area_a) / change)
    return base + mean.clamp(torch.minimum(floor_a, floor_b), torch.maximum(floor_a, floor_b))


# ------------------------------------------------------------------------------------------------------------- bins


def soft_bins(
    brightness: Tensor,
    t_us: Tensor | np.ndarray,
    bins: Bins,
    *,
    contrast_on: float | Tensor = 0.2,
    contrast_off: float | Tensor = 0.2,
    count: CrossingCount = Soft(),
    state: SoftState | None = None,
) -> tuple[Tensor, SoftState]:
    r"""Gather the events of log-brightness frames in bins, with a gradient to brightness and thresholds.

    The formula is in the module's docstring. With ``StraightThrough`` the values are those of the ideal event camera:
    counts are its own wherever float arithmetic decides a tie as integers do, and a voxel weight differs by at most
    1 us over the gap of its nodes per event, because times are not rounded up to whole microseconds here (so an event
    less than 1 us before the first node is left out). ``Soft`` values may be a little below 0 where brightness turns
    back within a ramp. A pixel that stays within ``1 - T`` thresholds of its reference has no gradient: start from a
    guess that fires.

    The first frame of a clip sets the reference, so it has a gradient as well. The backward pass recomputes each
    interval from its reference: memory is that of the frames, not of the graph. There is no second derivative.

    Args:
        brightness: ``(F, H, W)`` log brightness in nats, float32 or float64; ``F`` may be 0 with a ``state``.
        t_us: ``(F,)`` int64 frame times in microseconds, strictly increasing, also past ``state.t_us``.
        bins: Counts or voxels. Their values are in events here, not in units of 2^-16.
        contrast_on: Threshold ``C+`` in nats: a number, or a tensor of shape ``()`` or ``(H, W)``; above 0.
        contrast_off: Threshold ``C-``, likewise.
        count: ``Soft(temperature)`` or ``StraightThrough(temperature)``.
        state: What an earlier call returned; ``None`` at the start of a clip.

    Returns:
        Values ``(T, P, h, w)`` of the dtype of ``brightness``, polarity in the order OFF, ON; and the state after the
        last frame, part of the same graph.

    Raises:
        InputError: If shapes don't fit, a value is not finite, a threshold is not above 0, times don't increase or the
            bins are of the kind "latest".
        TypeError: If ``brightness`` is not a float tensor or ``t_us`` not int64.

    Example:
        >>> brightness = torch.tensor([0.0, 0.62]).reshape(2, 1, 1).requires_grad_()
        >>> bins = Bins("counts", torch.tensor([0, 1000]))
        >>> values, _ = soft_bins(brightness, torch.tensor([0, 1000]), bins, count=StraightThrough())
        >>> values.flatten().tolist()  # 0.62 holds three thresholds of 0.2
        [0.0, 3.0]
        >>> values.sum().backward()
        >>> brightness.grad.flatten()  # the third threshold is a tenth of a threshold behind: s'(0.2) / (T C)
        tensor([-7.2000,  7.2000])
    """
    t_us = torch.as_tensor(t_us)
    _check_frames(brightness, t_us, bins, state)
    contrast = _contrast(brightness, contrast_off, contrast_on)
    if state is None:
        state, brightness, t_us = SoftState(brightness[0], brightness[0], int(t_us[0])), brightness[1:], t_us[1:]
    edges_us = [state.t_us, *t_us.tolist()]
    if any(a >= b for a, b in pairwise(edges_us)):
        raise fail("soft_bins", "t_us strictly increasing, also past state.t_us", str(edges_us[:8]))
    shape = bins.shape((brightness.shape[1], brightness.shape[2]))
    plan = [_pieces(start, stop, bins) for start, stop in pairwise(edges_us)]
    frames = torch.cat([state.last[None], brightness])
    values, reference = _SoftBins.apply(frames, contrast, state.reference, plan, shape[0], count)
    return _pool(values, shape[2:]), SoftState(reference, frames[-1], edges_us[-1])


def soft_voxels(
    brightness: Tensor,
    t_us: Tensor | np.ndarray,
    num_bins: int,
    *,
    start_us: int,
    stop_us: int,
    grid: tuple[int, int] | None = None,
    contrast_on: float | Tensor = 0.2,
    contrast_off: float | Tensor = 0.2,
    count: CrossingCount = Soft(),
    state: SoftState | None = None,
) -> tuple[Tensor, SoftState]:
    """Return the voxel grid of log-brightness frames with a gradient: ``frames_to_voxels``, differentiable.

    Args:
        brightness: ``(F, H, W)`` log brightness in nats, float32 or float64.
        t_us: ``(F,)`` int64 frame times in microseconds, strictly increasing.
        num_bins: Number of nodes ``T``, at least 2.
        start_us: Time of the first node in microseconds.
        stop_us: Time of the last node in microseconds.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        contrast_on: Threshold ``C+`` in nats: a number, or a tensor of shape ``()`` or ``(H, W)``; above 0.
        contrast_off: Threshold ``C-``, likewise.
        count: ``Soft(temperature)`` or ``StraightThrough(temperature)``; see :func:`soft_bins`.
        state: What an earlier call returned; ``None`` at the start of a clip.

    Returns:
        Weights ``(T, P, h, w)`` of the dtype of ``brightness``; and the state after the last frame.

    Raises:
        InputError: As :func:`soft_bins` and :func:`~neuroav.events.represent.voxel_nodes`.
        TypeError: As :func:`soft_bins`.

    Example:
        >>> contrast = torch.tensor(0.2, requires_grad=True)
        >>> ramp = torch.linspace(0, 1.05, 4).reshape(4, 1, 1)
        >>> voxels, _ = soft_voxels(ramp, torch.arange(4) * 100, 2, start_us=0, stop_us=300, contrast_on=contrast)
        >>> voxels.sum().backward()
        >>> bool(contrast.grad < 0)  # a higher threshold gives fewer events
        True
    """
    bins = Bins("voxels", voxel_nodes(num_bins, start_us, stop_us), grid)
    contrasts = {"contrast_on": contrast_on, "contrast_off": contrast_off}
    return soft_bins(brightness, t_us, bins, **contrasts, count=count, state=state)


def _check_frames(brightness: Tensor, t_us: Tensor, bins: Bins, state: SoftState | None) -> None:
    where = "soft_bins"
    check_dtype(where, "brightness", brightness, torch.float32, torch.float64)
    check_shape(where, "brightness", brightness, ("F", "H", "W"))
    check_dtype(where, "t_us", t_us, torch.int64)
    check_shape(where, "t_us", t_us, (brightness.shape[0],))
    if bins.kind == "latest":
        raise fail(where, 'bins of kind "counts" or "voxels"', repr(bins.kind), "The latest time has no gradient.")
    if not bool(brightness.detach().isfinite().all()):
        raise fail(where, "finite brightness", "NaN or infinity", "Take the logarithm of a positive intensity.")
    if state is None and brightness.shape[0] == 0:
        raise fail(where, "at least one frame to start a clip", "none")
    if state is not None:
        check_shape(where, "state.reference", state.reference, tuple(brightness.shape[1:]))


def _contrast(brightness: Tensor, off: float | Tensor, on: float | Tensor) -> Tensor:
    """Return OFF and ON thresholds as ``(2, 1, 1)``, or ``(2, H, W)`` if either is a map."""
    size = tuple(brightness.shape[1:])
    tensors = [torch.as_tensor(value, dtype=brightness.dtype, device=brightness.device) for value in (off, on)]
    for name, value in zip(("contrast_off", "contrast_on"), tensors, strict=True):
        if tuple(value.shape) not in ((), size):
            raise fail("soft_bins", f"{name} a number or a map of shape {size}", f"shape {tuple(value.shape)}")
        if not bool(((value > 0) & value.isfinite()).all()):
            raise fail("soft_bins", f"{name} above 0", f"{float(value.min()):g}")
    shape = size if any(value.ndim for value in tensors) else (1, 1)
    return torch.stack([value.expand(shape) for value in tensors])


class _Piece(NamedTuple):
    """A part of one frame interval inside one bin, or between two nodes; times are fractions of the interval."""

    bin: int
    start: float
    stop: float
    weight_start: float  # of the right node, at either end; counts have none
    weight_stop: float


def _pieces(start_us: int, stop_us: int, bins: Bins) -> list[_Piece]:
    edges, pieces = bins.edges_us.tolist(), []
    for index, (left, right) in enumerate(pairwise(edges)):
        a, b = max(start_us, left), min(stop_us, right)
        if a < b:
            at = [(t - start_us) / (stop_us - start_us) for t in (a, b)]
            weights = [(t - left) / (right - left) for t in (a, b)] if bins.kind == "voxels" else [0.0, 0.0]
            pieces.append(_Piece(index, *at, *weights))
    return pieces


def _interval(
    before: Tensor, after: Tensor, reference: Tensor, contrast: Tensor, pieces: list[_Piece], count: CrossingCount
) -> tuple[Tensor, ...]:
    """Return the reference after one interval, then for each piece what its bin receives and what the next one does."""
    sign = contrast.new_tensor([-1.0, 1.0])[:, None, None]
    start, stop = (sign * (level - reference) / contrast for level in (before, after))
    total = count.at(stop)
    outputs = [reference + (sign * contrast * total).sum(0)]
    for piece in pieces:
        a = start + piece.start * (stop - start)
        b = start + piece.stop * (stop - start) if piece.stop < 1 else stop
        at_a = count.at(a) if piece.start > 0 else torch.zeros_like(a)  # nothing has been emitted before the interval
        at_b = count.at(b) if piece.stop < 1 else total
        to_right = piece.weight_stop * at_b - piece.weight_start * at_a
        if piece.weight_stop > piece.weight_start:
            to_right = to_right - (piece.weight_stop - piece.weight_start) * count.mean(a, b)
        outputs += [at_b - at_a - to_right, to_right]
    return tuple(outputs)


class _SoftBins(torch.autograd.Function):
    """The recurrence over frames; backward runs :func:`_interval` again, so only references are kept."""

    @staticmethod
    def forward(
        ctx: Any, frames: Tensor, contrast: Tensor, reference: Tensor, plan: list[list[_Piece]], steps: int,
        count: CrossingCount,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        values = frames.new_zeros((steps + 1, 2, *frames.shape[1:]))  # the last takes what falls right of the last bin
        references = [reference]
        for index, pieces in enumerate(plan):
            level, *parts = _interval(frames[index], frames[index + 1], references[-1], contrast, pieces, count)
            references.append(level)
            for piece, left, right in zip(pieces, parts[::2], parts[1::2], strict=True):
                values[piece.bin] += left
                values[piece.bin + 1] += right
        ctx.save_for_backward(frames, contrast, torch.stack(references[:-1] or [reference]))
        ctx.plan, ctx.count = plan, count
        return values[:steps], references[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_values: Tensor, grad_reference: Tensor) -> tuple[Tensor | None, ...]:
        frames, contrast, references = ctx.saved_tensors
        grad_values = torch.cat([grad_values, torch.zeros_like(grad_values[:1])])
        grad_frames, grad_contrast = torch.zeros_like(frames), torch.zeros_like(contrast)
        carry = grad_reference
        for index in reversed(range(len(ctx.plan))):
            pieces = ctx.plan[index]
            inputs = [frames[index], frames[index + 1], references[index], contrast]
            before, after, level, thresholds = inputs = [value.detach().requires_grad_() for value in inputs]
            with torch.enable_grad():
                outputs = _interval(before, after, level, thresholds, pieces, ctx.count)
            wanted = [carry] + [grad_values[piece.bin + side] for piece in pieces for side in (0, 1)]
            on_before, on_after, carry, on_contrast = torch.autograd.grad(
                outputs, inputs, wanted, materialize_grads=True
            )
            grad_frames[index] += on_before
            grad_frames[index + 1] += on_after
            grad_contrast += on_contrast
        return grad_frames, grad_contrast, carry, None, None, None


def _pool(values: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Sum pixels ``(T, P, H, W)`` into the cells of a grid."""
    for axis, cells in ((2, grid[0]), (3, grid[1])):
        pixels = values.shape[axis]
        if cells != pixels:
            shape = list(values.shape)
            shape[axis] = cells
            cell = torch.arange(pixels, device=values.device) * cells // pixels
            values = values.new_zeros(shape).index_add(axis, cell, values)
    return values
