"""Counts per bin and cell against a loop, and what they conserve."""

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.represent import events_to_counts
from neuroav.events.types import Events


def _events(count=500, size=(30, 47), seed=0):
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, 1000, count))
    y, x = rng.integers(0, size[0], count), rng.integers(0, size[1], count)
    p = rng.integers(0, 2, count)
    column = [torch.from_numpy(a).to(d) for a, d in [(x, torch.int16), (y, torch.int16), (p, torch.uint8)]]
    return Events(torch.from_numpy(t_us), *column, sensor_size=size)


@pytest.mark.parametrize("grid", [(16, 16), (1, 1), (7, 5), (30, 47), (60, 60)])
def test_counts_equal_a_loop(grid):
    events, edges = _events(), torch.tensor([100, 250, 250, 700, 1000])
    expected = torch.zeros(4, 2, *grid, dtype=torch.int32)
    for t, x, y, p in zip(*(events.numpy()[k].tolist() for k in ("t_us", "x", "y", "p")), strict=True):
        for k in range(4):
            if edges[k] < t <= edges[k + 1]:
                expected[k, p, y * grid[0] // 30, x * grid[1] // 47] += 1
    assert torch.equal(events_to_counts(events, edges, grid), expected)


def test_every_event_inside_the_edges_is_counted_once():
    events = _events()
    edges = np.array([0, 333, 1000])
    inside = (events.t_us > 0).sum()
    assert events_to_counts(events, edges).sum() == inside
    assert events_to_counts(events, edges).dtype == torch.int32


def test_no_events_give_zeros():
    none = _events(0)
    counts = events_to_counts(none, torch.tensor([0, 10, 20]))
    assert counts.shape == (2, 2, 16, 16)
    assert counts.sum() == 0


def test_bad_arguments_are_named():
    events = _events(3)
    with pytest.raises(InputError, match="at least two edges_us"):
        events_to_counts(events, torch.tensor([5]))
    with pytest.raises(InputError, match="never decrease"):
        events_to_counts(events, torch.tensor([5, 4]))
    with pytest.raises(InputError, match="grid with both sides"):
        events_to_counts(events, torch.tensor([0, 4]), grid=(0, 3))
    with pytest.raises(TypeError, match="edges_us of dtype"):
        events_to_counts(events, torch.tensor([0.0, 4.0]))


def test_between_is_open_below_and_closed_above():
    events = Events(torch.tensor([1, 2, 2, 3]), *torch.zeros(2, 4).short(), torch.zeros(4).byte(), (1, 1))
    assert events.between(1, 2).t_us.tolist() == [2, 2]
    assert len(events.between(3, 9)) == 0
