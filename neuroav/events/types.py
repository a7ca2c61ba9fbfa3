"""What event code hands around: a list of events, and the pixel state that lets a clip be converted in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Events:
    """Events sorted by time; at equal times by row, then column, then order of emission.

    Attributes:
        t_us: ``(E,)`` int64 microseconds, non-decreasing.
        x: ``(E,)`` int16 column.
        y: ``(E,)`` int16 row.
        p: ``(E,)`` uint8 polarity: 0 OFF (darker), 1 ON (brighter).
        sensor_size: ``(H, W)``.

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

    def __len__(self) -> int:
        return self.t_us.shape[0]

    def numpy(self) -> dict[str, np.ndarray]:
        """Return the four columns as arrays, by name, without copying."""
        return {"t_us": self.t_us.numpy(), "x": self.x.numpy(), "y": self.y.numpy(), "p": self.p.numpy()}

    def between(self, start_us: int, stop_us: int) -> Events:
        """Return the events with ``start_us < t <= stop_us``, as views (the rule of every time bin in this package)."""
        bounds = torch.searchsorted(self.t_us, torch.tensor([start_us, stop_us], device=self.t_us.device), right=True)
        part = slice(int(bounds[0]), int(bounds[1]))
        return Events(self.t_us[part], self.x[part], self.y[part], self.p[part], self.sensor_size)


@dataclass(frozen=True)
class EventState:
    """What each pixel remembers between calls, in units of 2^-16 nat of log intensity. Never changed in place.

    Attributes:
        reference: ``(H, W)`` int32 level of the last event.
        last: ``(H, W)`` int32 log intensity of the last frame.
        t_us: Time of the last frame in microseconds.
    """

    reference: Tensor
    last: Tensor
    t_us: int
