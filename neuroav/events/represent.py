"""Events to tensors ``(T, P, h, w)``, from an event list or straight from frames.

Every function comes twice: ``events_to_*`` gathers a list, ``frames_to_*`` goes from frames to the same numbers without
ever making the list. Both fill :class:`~neuroav.events.types.Bins` with integers, so they agree exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_dtype, check_range, check_shape, fail
from neuroav.events.camera import EventCamera
from neuroav.events.generate import IDEAL, Region, bin_frames
from neuroav.events.types import Bins, Events, EventState
from neuroav.kernels.bins import bin_events
from neuroav.kernels.reference_bins import NEVER, WEIGHT_BITS

LONGEST_TAU_US = 1 << 53  # above it, a cell without an event would not decay to 0

Times = Tensor | np.ndarray
Grid = tuple[int, int] | None


def events_to_bins(events: Events, bins: Bins) -> Tensor:
    """Gather events in bins: the exact integers that every other representation here is made of.

    Args:
        events: Events of a sensor of size ``(H, W)``, in any order.
        bins: What to gather.

    Returns:
        ``(T, P, h, w)``, int32 for counts, else int64; :class:`~neuroav.events.types.Bins` says what they mean.

    Raises:
        InputError: If an event lies outside the sensor.

    Example:
        >>> events = Events(torch.tensor([5, 9]), *torch.zeros(2, 2).short(), torch.tensor([1, 0]).byte(), (4, 4))
        >>> events_to_bins(events, Bins("latest", torch.tensor([0, 10]), grid=(1, 1))).flatten().tolist()
        [9, 5]
    """
    return _gather(events, events.t_us, bins)


def _gather(events: Events, t_us: Tensor, bins: Bins) -> Tensor:
    _, _, rows, columns = bins.shape(events.sensor_size)
    edges = bins.edges_us.to(t_us.device)
    return bin_events(t_us, events.x, events.y, events.p, *events.sensor_size, bins.code, edges, rows, columns)


# -------------------------------------------------------------------------------------------------- counts and spikes


def events_to_counts(events: Events, edges_us: Times, grid: Grid = (16, 16)) -> Tensor:
    """Count events per time bin, polarity and grid cell.

    Bin ``k`` holds ``edges_us[k] < t <= edges_us[k + 1]``; the pixel ``(y, x)`` belongs to the cell
    ``(y * h // H, x * w // W)``. Every event inside the edges is counted once.

    Args:
        events: Events of a sensor of size ``(H, W)``.
        edges_us: ``(T + 1,)`` int64 bin edges in microseconds, non-decreasing.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.

    Returns:
        Counts ``(T, P, h, w)`` int32, polarity in the order OFF, ON.

    Raises:
        InputError: If there is no bin, the edges decrease or the grid has no cell.

    Example:
        >>> events = Events(torch.tensor([5, 9]), *torch.zeros(2, 2).short(), torch.tensor([1, 0]).byte(), (4, 4))
        >>> events_to_counts(events, torch.tensor([0, 5, 10]), grid=(1, 1)).flatten(1).tolist()
        [[0, 1], [1, 0]]
    """
    return events_to_bins(events, Bins("counts", torch.as_tensor(edges_us), grid))


def frames_to_counts(
    frames: Times,
    t_us: Times,
    edges_us: Times,
    camera: EventCamera = IDEAL,
    *,
    grid: Grid = (16, 16),
    state: EventState | None = None,
    roi: Region | None = None,
    **changes: Any,
) -> tuple[Tensor, EventState]:
    """Count the events of frames, without making them: :func:`events_to_counts` of ``frames_to_events``, exactly.

    Args:
        frames: ``(F, H, W)`` uint8 or float, as for :func:`~neuroav.events.generate.frames_to_events`.
        t_us: ``(F,)`` int64 frame times in microseconds.
        edges_us: ``(T + 1,)`` int64 bin edges in microseconds, non-decreasing.
        camera: The simulated sensor.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        state: What an earlier call returned. The counts are those of this call's frames.
        roi: Region to simulate; cells stay those of the whole sensor.
        **changes: Parameters of ``camera`` to replace.

    Returns:
        Counts ``(T, P, h, w)`` int32, polarity in the order OFF, ON; and the state after the last frame.

    Raises:
        InputError: If the frames or times are not what the generator takes, or the bins are not valid.

    Example:
        >>> frames = torch.tensor([10, 20, 40], dtype=torch.uint8).reshape(3, 1, 1)
        >>> counts, _ = frames_to_counts(frames, torch.tensor([0, 500, 1000]), torch.tensor([0, 500, 1000]), grid=None)
        >>> counts.flatten(1).tolist()
        [[0, 3], [0, 3]]
    """
    bins = Bins("counts", torch.as_tensor(edges_us), grid)
    return bin_frames(frames, t_us, bins, camera, state=state, roi=roi, **changes)


def events_to_binary(events: Events, edges_us: Times, grid: Grid = None) -> Tensor:
    """Return 1 where a bin holds any event and 0 elsewhere: spikes for a spiking network.

    Args:
        events: Events of a sensor of size ``(H, W)``.
        edges_us: ``(T + 1,)`` int64 bin edges in microseconds, non-decreasing; the bins of :func:`events_to_counts`.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.

    Returns:
        Spikes ``(T, P, h, w)`` float32, time first.

    Raises:
        InputError: As :func:`events_to_counts`.

    Example:
        >>> events = Events(torch.tensor([5, 9]), *torch.zeros(2, 2).short(), torch.ones(2).byte(), (1, 1))
        >>> events_to_binary(events, torch.tensor([0, 10, 20])).flatten(1).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    return (events_to_counts(events, edges_us, grid) > 0).float()


# --------------------------------------------------------------------------------------------------------- voxel grid


def voxel_nodes(num_bins: int, start_us: int, stop_us: int) -> Tensor:
    """Return the ``(T,)`` int64 times of the nodes of a voxel grid: even, rounded down, both ends included.

    Raises:
        InputError: If there are fewer than two nodes, or not a microsecond for each.

    Example:
        >>> voxel_nodes(4, 0, 100).tolist()
        [0, 33, 66, 100]
    """
    check_range("voxel_nodes", "num_bins", num_bins, 2)
    if stop_us - start_us < num_bins - 1:
        raise fail("voxel_nodes", f"at least {num_bins - 1} us from start_us to stop_us", f"{stop_us - start_us}")
    return start_us + torch.arange(num_bins) * (stop_us - start_us) // (num_bins - 1)


def events_to_voxels(
    events: Events, num_bins: int, *, start_us: int, stop_us: int, grid: Grid = None, signed: bool = False
) -> Tensor:
    r"""Spread each event over the two nodes of time around it, in proportion to nearness.

    .. math:: V_k = \sum_i \max\left(0,\ 1 - \frac{|t_i - \tau_k|}{\tau_{k+1} - \tau_k}\right), \quad
        \tau_k = t_{start} + \frac{k (t_{stop} - t_{start})}{T - 1}

    Nodes lie at both ends, so that every event in ``[start_us, stop_us]``, the ends included, has a total weight of
    exactly 1; others have none. Weights are summed in units of 2^-16 and are exact in float32 while a cell holds fewer
    than 256 events. The voxel grid of [zhu2019]. Differs from the paper: the time range is an argument instead of the
    first and last event; nodes are whole microseconds; polarities are apart unless ``signed``.

    Args:
        events: Events of a sensor of size ``(H, W)``, in any order.
        num_bins: Number of nodes ``T``, at least 2.
        start_us: Time of the first node in microseconds.
        stop_us: Time of the last node in microseconds.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        signed: Subtract OFF from ON.

    Returns:
        Weights ``(T, P, h, w)`` float32, polarity in the order OFF, ON; or ``(T, h, w)`` if ``signed``.

    Raises:
        InputError: If there are fewer than two nodes, not a microsecond for each, or the grid has no cell.

    Example:
        >>> events = Events(torch.tensor([25]), *torch.zeros(2, 1).short(), torch.ones(1).byte(), (1, 1))
        >>> events_to_voxels(events, 2, start_us=0, stop_us=100, signed=True).flatten().tolist()
        [0.75, 0.25]
    """
    bins = Bins("voxels", voxel_nodes(num_bins, start_us, stop_us), grid)
    return _weights(events_to_bins(events, bins), signed)


def frames_to_voxels(
    frames: Times,
    t_us: Times,
    num_bins: int,
    camera: EventCamera = IDEAL,
    *,
    start_us: int,
    stop_us: int,
    grid: Grid = None,
    signed: bool = False,
    state: EventState | None = None,
    roi: Region | None = None,
    **changes: Any,
) -> tuple[Tensor, EventState]:
    """Return the voxel grid of frames: :func:`events_to_voxels` of ``frames_to_events``, exactly, without the list.

    The grids of the pieces of a clip add up to that of the clip. :mod:`neuroav.events.soft` has the same with a
    gradient.

    Args:
        frames: ``(F, H, W)`` uint8 or float, as for :func:`~neuroav.events.generate.frames_to_events`.
        t_us: ``(F,)`` int64 frame times in microseconds.
        num_bins: Number of nodes ``T``, at least 2.
        camera: The simulated sensor.
        start_us: Time of the first node in microseconds.
        stop_us: Time of the last node in microseconds.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        signed: Subtract OFF from ON.
        state: What an earlier call returned.
        roi: Region to simulate; cells stay those of the whole sensor.
        **changes: Parameters of ``camera`` to replace.

    Returns:
        Weights ``(T, P, h, w)`` float32, or ``(T, h, w)`` if ``signed``; and the state after the last frame.

    Raises:
        InputError: If the frames or times are not what the generator takes, or the bins are not valid.

    Example:
        >>> frames = torch.tensor([10, 20], dtype=torch.uint8).reshape(2, 1, 1)
        >>> voxels, _ = frames_to_voxels(frames, torch.tensor([0, 1000]), 2, start_us=0, stop_us=1000, signed=True)
        >>> voxels.flatten().sum().item()  # ln(21 / 11) = 0.647 holds three thresholds of 0.2
        3.0
    """
    bins = Bins("voxels", voxel_nodes(num_bins, start_us, stop_us), grid)
    values, state = bin_frames(frames, t_us, bins, camera, state=state, roi=roi, **changes)
    return _weights(values, signed), state


def _weights(values: Tensor, signed: bool) -> Tensor:
    values = values[:, 1] - values[:, 0] if signed else values
    return values.to(torch.float32).mul_(2.0**-WEIGHT_BITS)


# ------------------------------------------------------------------------------------------------------- time surface


def events_to_time_surface(events: Events, at_us: Times, tau_us: float, grid: Grid = None) -> Tensor:
    r"""Return how recent each cell's last event is, at one or more times.

    .. math:: S_k = \exp\left(-\frac{t_k - t_{last}}{\tau}\right)

    where ``t_last`` is the cell's last event of that polarity with ``t <= t_k``; 0 if there is none. The time surface
    of [hots]. Differs from the paper: whole surfaces at given times instead of the neighbourhood of each event.

    Args:
        events: Events of a sensor of size ``(H, W)``, in any order.
        at_us: ``(T,)`` int64 times ``t_k`` in microseconds, non-decreasing.
        tau_us: Decay time in microseconds, above 0.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.

    Returns:
        Surface ``(T, P, h, w)`` float32 in [0, 1], polarity in the order OFF, ON; values below 2e-38 are 0.

    Raises:
        InputError: If there is no time, times decrease, ``tau_us`` is not above 0 or the grid has no cell.

    Example:
        >>> events = Events(torch.tensor([90]), *torch.zeros(2, 1).short(), torch.ones(1).byte(), (1, 1))
        >>> events_to_time_surface(events, torch.tensor([80, 100]), tau_us=10)[:, 1].flatten()
        tensor([0.0000, 0.3679])
    """
    bins, at = _latest_bins("events_to_time_surface", at_us, tau_us, grid)
    return _surface(events_to_bins(events, bins), at, tau_us)


def frames_to_time_surface(
    frames: Times,
    t_us: Times,
    at_us: Times,
    tau_us: float,
    camera: EventCamera = IDEAL,
    *,
    grid: Grid = None,
    state: EventState | None = None,
    roi: Region | None = None,
    **changes: Any,
) -> tuple[Tensor, EventState]:
    """Return the time surface of frames: :func:`events_to_time_surface` of ``frames_to_events``, without the list.

    Only the events of this call's frames count. For a clip in pieces, gather ``Bins("latest", ...)`` with
    :func:`~neuroav.events.generate.bin_frames` and take the maximum over the pieces.

    Args:
        frames: ``(F, H, W)`` uint8 or float, as for :func:`~neuroav.events.generate.frames_to_events`.
        t_us: ``(F,)`` int64 frame times in microseconds.
        at_us: ``(T,)`` int64 times of the surfaces in microseconds, non-decreasing.
        tau_us: Decay time in microseconds, above 0.
        camera: The simulated sensor.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        state: What an earlier call returned.
        roi: Region to simulate; cells stay those of the whole sensor.
        **changes: Parameters of ``camera`` to replace.

    Returns:
        Surface ``(T, P, h, w)`` float32 in [0, 1]; and the state after the last frame.

    Raises:
        InputError: If the frames or times are not what the generator takes, or the bins are not valid.

    Example:
        >>> frames = torch.tensor([10, 13], dtype=torch.uint8).reshape(2, 1, 1)
        >>> surface, _ = frames_to_time_surface(frames, torch.tensor([0, 1000]), torch.tensor([1000]), tau_us=1e4)
        >>> surface.flatten()  # one ON event at 830 us
        tensor([0.0000, 0.9831])
    """
    bins, at = _latest_bins("frames_to_time_surface", at_us, tau_us, grid)
    latest, state = bin_frames(frames, t_us, bins, camera, state=state, roi=roi, **changes)
    return _surface(latest, at, tau_us), state


def _latest_bins(where: str, at_us: Times, tau_us: float, grid: Grid) -> tuple[Bins, Tensor]:
    at = torch.as_tensor(at_us)
    check_dtype(where, "at_us", at, torch.int64)
    check_shape(where, "at_us", at, ("T",))
    if not 0 < tau_us <= LONGEST_TAU_US:
        raise fail(where, "tau_us above 0 and at most 2^53", f"{tau_us:g}")
    return Bins("latest", torch.cat([at.new_tensor([NEVER]), at]), grid), at


def _surface(latest: Tensor, at: Tensor, tau_us: float) -> Tensor:
    exponent, last = latest.new_empty(latest.shape, dtype=torch.float32), latest[0]
    for k, (now, newest) in enumerate(zip(at.tolist(), latest, strict=True)):
        last = torch.maximum(last, newest)
        longest_ago = max(now - (1 << 62), NEVER)  # long enough to decay to 0, and no overflow
        exponent[k] = now - last.clamp(min=longest_ago)
    decayed = exponent.mul_(-1 / tau_us).clamp_(min=-87.0).exp_()  # numbers too small for float32 would cost a lot
    return torch.threshold_(decayed, 2e-38, 0.0)


# ------------------------------------------------------------------------------------------------------------- stacks


def events_to_stack_by_time(
    events: Events, num_frames: int, *, start_us: int, stop_us: int, grid: Grid = None, signed: bool = False
) -> Tensor:
    """Merge the events of equal spans of time into frames (SBT).

    Frame ``k`` counts the events after node ``k`` and up to node ``k + 1`` of ``num_frames + 1`` even nodes from
    ``start_us`` to ``stop_us``; an event at ``start_us`` itself belongs to the time before. Stacking based on time of
    [wang2019]. Differs from the paper: polarities are apart unless ``signed``; values are counts, not grey levels.

    Args:
        events: Events of a sensor of size ``(H, W)``, in any order.
        num_frames: Frames ``T``, at least 1.
        start_us: Start of the first span in microseconds, excluded.
        stop_us: End of the last span in microseconds, included.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        signed: Subtract OFF from ON, as the paper does.

    Returns:
        Counts ``(T, P, h, w)`` int32, polarity in the order OFF, ON; or ``(T, h, w)`` if ``signed``.

    Raises:
        InputError: If there is no frame, not a microsecond for each, or the grid has no cell.

    Example:
        >>> events = Events(torch.tensor([5, 9]), *torch.zeros(2, 2).short(), torch.ones(2).byte(), (1, 1))
        >>> events_to_stack_by_time(events, 2, start_us=0, stop_us=10, signed=True).flatten().tolist()
        [1, 1]
    """
    check_range("events_to_stack_by_time", "num_frames", num_frames, 1)
    counts = events_to_counts(events, voxel_nodes(num_frames + 1, start_us, stop_us), grid)
    return counts[:, 1] - counts[:, 0] if signed else counts


def events_to_stack_by_number(
    events: Events, events_per_frame: int, *, grid: Grid = None, signed: bool = False
) -> Tensor:
    """Merge equal numbers of consecutive events into frames (SBN).

    Frame ``k`` counts events ``k * events_per_frame`` up to the next multiple; what is left at the end is dropped.
    Stacking based on the number of events of [wang2019]. Differs from the paper: polarities are apart unless
    ``signed``; values are counts, not grey levels.

    Args:
        events: Events of a sensor of size ``(H, W)``, in their order.
        events_per_frame: Events in each frame, at least 1.
        grid: Rows and columns ``(h, w)`` of the grid; ``None`` is the whole sensor.
        signed: Subtract OFF from ON, as the paper does.

    Returns:
        Counts ``(T, P, h, w)`` int32, each frame with a sum of ``events_per_frame``; or ``(T, h, w)`` if ``signed``.

    Raises:
        InputError: If ``events_per_frame`` is below 1 or above the number of events, there is none, or the grid has no
            cell.

    Example:
        >>> events = Events(torch.tensor([1, 2, 99]), *torch.zeros(2, 3).short(), torch.ones(3).byte(), (1, 1))
        >>> events_to_stack_by_number(events, 2).flatten().tolist()
        [0, 2]
    """
    if not len(events):
        raise fail("events_to_stack_by_number", "events", "none")
    check_range("events_to_stack_by_number", "events_per_frame", events_per_frame, 1, len(events))
    nth = torch.arange(len(events), device=events.t_us.device)
    edges = torch.arange(-1, len(events), events_per_frame)  # the place of an event in the list instead of its time
    counts = _gather(events, nth, Bins("counts", edges, grid))
    return counts[:, 1] - counts[:, 0] if signed else counts
