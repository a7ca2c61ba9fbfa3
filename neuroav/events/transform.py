"""Event lists cut and turned in space; in time, see :meth:`neuroav.events.types.Events.between`.

Every result is in the documented order again (time, row, column, emission), so turning the events of a clip gives the
very list that the turned clip gives.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.events.types import Events


def crop(events: Events, top: int, left: int, height: int, width: int) -> Events:
    """Keep the events of a rectangle, which becomes the sensor.

    Args:
        events: Events of a sensor of size ``(H, W)``.
        top: First row kept.
        left: First column kept.
        height: Rows kept, at least 1.
        width: Columns kept, at least 1.

    Raises:
        InputError: If the rectangle is empty or not inside the sensor.

    Example:
        >>> one = torch.ones(1)
        >>> cut = crop(Events(one.long(), one.short() * 3, one.short(), one.byte(), (4, 4)), 1, 2, 2, 2)
        >>> cut.x.tolist(), cut.y.tolist(), cut.sensor_size
        ([1], [0], (2, 2))
    """
    rows, columns = events.sensor_size
    if not (0 <= top < top + height <= rows and 0 <= left < left + width <= columns):
        actual = f"rows {top} to {top + height}, columns {left} to {left + width}"
        raise fail("crop", f"a rectangle inside the sensor {events.sensor_size}", actual)
    y, x = events.y - top, events.x - left
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return _taken(replace(events, x=x, y=y, sensor_size=(height, width)), inside)


def mirror(events: Events) -> Events:
    """Exchange left and right.

    Example:
        >>> one = torch.ones(1)
        >>> mirror(Events(one.long(), one.short(), one.short(), one.byte(), (4, 4))).x.tolist()
        [2]
    """
    return _in_order(replace(events, x=events.sensor_size[1] - 1 - events.x))


def flip(events: Events) -> Events:
    """Exchange top and bottom.

    Example:
        >>> one = torch.ones(1)
        >>> flip(Events(one.long(), one.short(), one.short(), one.byte(), (3, 4))).y.tolist()
        [1]
    """
    return _in_order(replace(events, y=events.sensor_size[0] - 1 - events.y))


def transpose(events: Events) -> Events:
    """Exchange rows and columns, ``(H, W)`` to ``(W, H)``.

    Example:
        >>> one = torch.ones(1)
        >>> turned = transpose(Events(one.long(), one.short() * 2, one.short(), one.byte(), (3, 4)))
        >>> turned.x.tolist(), turned.y.tolist(), turned.sensor_size
        ([1], [2], (4, 3))
    """
    height, width = events.sensor_size
    return _in_order(replace(events, x=events.y, y=events.x, sensor_size=(width, height)))


def _in_order(events: Events) -> Events:
    place = events.y.int() * events.sensor_size[1] + events.x
    by_place = place.argsort(stable=True)
    return _taken(events, by_place[events.t_us[by_place].argsort(stable=True)])


def _taken(events: Events, index: Tensor) -> Events:
    """Return the events at ``index``, all columns alike."""
    columns = {field.name: getattr(events, field.name) for field in fields(events)}
    taken: dict[str, Any] = {name: c[index] for name, c in columns.items() if isinstance(c, torch.Tensor)}
    return replace(events, **taken)
