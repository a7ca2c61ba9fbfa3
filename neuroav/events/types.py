"""What event code hands around: events, the bins they are gathered in, and the pixel state that carries a clip over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_choice, check_dtype, check_shape, fail
from neuroav.events.camera import EventCamera


@dataclass(frozen=True)
class Events:
    """Events sorted by time; at equal times by row, then column, then order of emission.

    Attributes:
        t_us: ``(E,)`` int64 microseconds, non-decreasing.
        x: ``(E,)`` int16 column.
        y: ``(E,)`` int16 row.
        p: ``(E,)`` uint8 polarity: 0 OFF (darker), 1 ON (brighter).
        sensor_size: ``(H, W)``.
        is_noise: ``(E,)`` uint8, 1 for events that the scene did not cause, where asked for (see
            ``frames_to_events``); else ``None``.

    Example:
        >>> one = torch.ones(1)
        >>> len(Events(one.long(), one.short(), one.short(), one.byte(), (2, 2)))
        1
    """

    t_us: Tensor
    x: Tensor
    y: Tensor
    p: Tensor
    sensor_size: tuple[int, int]
    is_noise: Tensor | None = None

    def __len__(self) -> int:
        return self.t_us.shape[0]

    def numpy(self) -> dict[str, np.ndarray]:
        """Return the columns as arrays, by name, without copying."""
        columns = {"t_us": self.t_us, "x": self.x, "y": self.y, "p": self.p, "is_noise": self.is_noise}
        return {name: column.numpy() for name, column in columns.items() if column is not None}

    def between(self, start_us: int, stop_us: int) -> Events:
        """Return the events with ``start_us < t <= stop_us``, as views (the rule of every time bin in this package)."""
        bounds = torch.searchsorted(self.t_us, torch.tensor([start_us, stop_us], device=self.t_us.device), right=True)
        part = slice(int(bounds[0]), int(bounds[1]))
        is_noise = None if self.is_noise is None else self.is_noise[part]
        return Events(self.t_us[part], self.x[part], self.y[part], self.p[part], self.sensor_size, is_noise)


@dataclass(frozen=True)
class EventState:
    """What each pixel remembers between calls. Passed and returned, never changed in place; ``H W`` are the region's.

    Attributes:
        reference: ``(H, W)`` int32 brightness that the pixel compares with, in units of 1 / ``units`` nat.
        last: ``(H, W)`` int32 brightness of the last frame, after the low pass, in the same units.
        t_us: Time of the last frame in microseconds.
        units: Per nat: 2^16 for an ideal camera and 8-bit frames, else 2^24.
        frame: Number of frames since the start of the clip, less one.
        stage: ``(H, W)`` int32 brightness behind the first of two low-pass stages, or ``None``.
        voltage: ``(H, W)`` int32 photoreceptor noise, or ``None``.
        next_us: ``(H, W)`` int64 time of the next candidate for a shot noise event, or ``None``.
        fired_us: ``(H, W)`` int64 time of the last event, where there is a refractory period, or ``None``.
        camera: Whose state it is; ``None`` where that is not known, and then not checked.
        sensor_size: ``(H, W)`` of the frames, or ``None`` where the state is of all of them.
        origin: Row and column of the region's first pixel.
    """

    reference: Tensor
    last: Tensor
    t_us: int
    units: int = 1 << 16
    frame: int = 0
    stage: Tensor | None = None
    voltage: Tensor | None = None
    next_us: Tensor | None = None
    fired_us: Tensor | None = None
    camera: EventCamera | None = None
    sensor_size: tuple[int, int] | None = None
    origin: tuple[int, int] = (0, 0)


KINDS = ("counts", "voxels", "latest")  # in the order of their codes in csrc/common/bins.h


@dataclass(frozen=True)
class Bins:
    """How events become integers ``(T, P, h, w)``: exactly, so that the order of summing never matters.

    The pixel ``(y, x)`` of a sensor ``(H, W)`` belongs to the cell ``(y * h // H, x * w // W)``; polarity is OFF, ON.

    ==========  ==========================  ==========================================================================
    kind        edges_us                    value at ``[k, p, row, column]``
    ==========  ==========================  ==========================================================================
    "counts"    T + 1, never decreasing     number of events with ``edges[k] < t <= edges[k + 1]``; int32
    "voxels"    T >= 2 increasing nodes     sum of the weights at node ``k`` in units of 2^-16; int64. An event between
                                            two nodes gives ``((t - left) << 16) // (right - left)`` to the right one
                                            and the rest of 65536 to the left one; outside the nodes it gives nothing
    "latest"    T + 1, never decreasing     largest ``t`` of the bin, ``-2^63`` without an event; int64 microseconds
    ==========  ==========================  ==========================================================================

    Attributes:
        kind: ``"counts"``, ``"voxels"`` or ``"latest"``.
        edges_us: Bin edges or node times, int64 microseconds, ``(T + 1,)`` or ``(T,)``; nodes less than 2^46 apart.
        grid: Rows and columns ``(h, w)``; ``None`` is the sensor's own size.

    Raises:
        InputError: If the kind is unknown, the edges don't fit it or the grid has no cell.
        TypeError: If ``edges_us`` is not int64.

    Example:
        >>> Bins("counts", torch.tensor([0, 100, 200]), grid=(4, 4)).shape((240, 320))
        (2, 2, 4, 4)
    """

    kind: str
    edges_us: Tensor
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_choice("Bins", "kind", self.kind, KINDS)
        object.__setattr__(self, "edges_us", torch.as_tensor(self.edges_us))
        check_dtype("Bins", "edges_us", self.edges_us, torch.int64)
        check_shape("Bins", "edges_us", self.edges_us, ("T",))
        left, right, is_voxels = self.edges_us[:-1], self.edges_us[1:], self.kind == "voxels"
        if len(left) == 0 or bool((left >= right if is_voxels else left > right).any()):
            rule = "that increase" if is_voxels else "that never decrease"
            raise fail("Bins", f"at least two edges_us {rule}", str(self.edges_us.tolist()[:8]))
        if is_voxels and bool(((right - left) >> 46 != 0).any()):
            raise fail("Bins", "nodes less than 2^46 us (2 years) apart", str(self.edges_us.tolist()[:8]))
        if self.grid is None:
            return
        sides = tuple(self.grid) if isinstance(self.grid, Sequence) else ()
        if len(sides) != 2 or not all(isinstance(side, Integral) and 1 <= side < 1 << 15 for side in sides):
            raise fail("Bins", "grid of two whole numbers from 1 to 32767, or None", repr(self.grid))

    @property
    def code(self) -> int:
        """The number by which kernels know the kind."""
        return KINDS.index(self.kind)

    def shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return ``(T, P, h, w)`` of the values on a sensor of ``(H, W)``."""
        steps = len(self.edges_us) - (self.kind != "voxels")
        return (steps, 2, *(self.grid or sensor_size))
