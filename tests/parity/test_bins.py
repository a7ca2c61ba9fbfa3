"""Event lists to bins: the C++ kernel, the PyTorch reference and a scalar loop give identical integers."""

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.kernels import bins, cpu, reference_bins

needs_extension = pytest.mark.skipif(not cpu.available(), reason="the C++ extension was not built")
COUNTS, VOXELS, LATEST = range(3)
NEVER = -(2**63)
SIZE = (30, 47)


def _columns(count, seed=0, size=SIZE, start=0, stop=1000, in_order=True):
    rng = np.random.default_rng(seed)
    t = rng.integers(start, stop, count)
    t = np.sort(t) if in_order else t
    y, x, p = rng.integers(0, size[0], count), rng.integers(0, size[1], count), rng.integers(0, 2, count)
    return tuple(
        torch.from_numpy(a).to(d) for a, d in ((t, torch.int64), (x, torch.int16), (y, torch.int16), (p, torch.uint8))
    )


CENTURY = 100 * 365 * 86_400 * 10**6
LISTS = {
    "sorted": _columns(500),
    "unsorted": _columns(500, seed=1, in_order=False),
    "no event": _columns(0),
    "one event": _columns(1),
    "same time": _columns(200, start=250, stop=251),
    "before 0": _columns(300, seed=2, start=-600, stop=600),
    "epoch time": _columns(300, seed=3, start=CENTURY, stop=CENTURY + 1000),
    "years apart": _columns(300, seed=4, start=0, stop=2**46),
}
EDGES = {
    "inside": [100, 250, 700],
    "everything": [-(10**6), 0, 10**3, 2**47],
    "at events": [250, 251, 252],
    "epoch": [CENTURY, CENTURY + 1, CENTURY + 333, CENTURY + 999],
    "far nodes": [0, 3, 2**46 - 1],
}
GRIDS = [(16, 16), (1, 1), (7, 5), SIZE, (60, 61)]


def _loop(columns, kind, edges, grid):
    """Value after value in Python integers, from the documented rules alone."""
    steps = len(edges) - (kind != VOXELS)
    values = np.full((steps, 2, *grid), NEVER if kind == LATEST else 0, dtype=object)
    for t, x, y, p in zip(*(c.tolist() for c in columns), strict=True):
        cell = (p, y * grid[0] // SIZE[0], x * grid[1] // SIZE[1])
        if kind == VOXELS:
            between = [b for b in range(steps - 1) if edges[b] <= t <= edges[b + 1]]
            if between:
                b = between[-1]
                to_right = 65536 * (t - edges[b]) // (edges[b + 1] - edges[b])
                values[(b + 1, *cell)] += to_right
                values[(b, *cell)] += 65536 - to_right
            continue
        for k in range(steps):
            if edges[k] < t <= edges[k + 1]:
                values[(k, *cell)] = values[(k, *cell)] + 1 if kind == COUNTS else max(values[(k, *cell)], t)
    return torch.from_numpy(values.astype(np.int64)).to(torch.int32 if kind == COUNTS else torch.int64)


def _same(got, want):
    assert got.dtype == want.dtype
    assert torch.equal(got, want)


@pytest.mark.parametrize("kind", [COUNTS, VOXELS, LATEST])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("name", LISTS)
def test_op_and_reference_equal_a_loop(name, edges, kind):
    for grid in GRIDS[:3] if name in ("sorted", "unsorted") else GRIDS[3:4]:
        arguments = (*LISTS[name], *SIZE, kind, torch.tensor(EDGES[edges]), *grid)
        want = _loop(LISTS[name], kind, EDGES[edges], grid)
        _same(reference_bins.bin_events(*arguments), want)
        _same(bins.bin_events(*arguments), want)


@pytest.mark.parametrize("kind", [COUNTS, LATEST])
def test_bins_of_no_width_stay_empty(kind):
    edges = [100, 250, 250, 250, 700, 700]
    for run in (reference_bins.bin_events, bins.bin_events):
        _same(
            run(*LISTS["sorted"], *SIZE, kind, torch.tensor(edges), 4, 4), _loop(LISTS["sorted"], kind, edges, (4, 4))
        )


@pytest.mark.parametrize("kind", [COUNTS, LATEST])
def test_edges_may_be_the_ends_of_time(kind):
    edges = [-(2**63), 500, 2**63 - 1]
    for run in (reference_bins.bin_events, bins.bin_events):
        _same(
            run(*LISTS["sorted"], *SIZE, kind, torch.tensor(edges), 4, 4), _loop(LISTS["sorted"], kind, edges, (4, 4))
        )


@pytest.mark.parametrize("gap", [1, 2, 3, 7, 65536, 99_999, 2**31 + 11, 2**46 - 1])
def test_voxel_weights_are_exact_at_every_gap(gap):
    """One pixel per event, so every weight can be read off; times lie where a rounded quotient would go wrong."""
    steps = np.unique(np.linspace(0, 65536, 400).astype(np.int64))
    t = np.unique(np.concatenate([-(-steps * gap // 65536) + d for d in (-1, 0, 1)]))  # ceil(k gap / 2^16) and around
    t = t[(t >= 0) & (t <= gap)]
    zeros = torch.zeros(len(t), dtype=torch.int16)
    columns = (torch.from_numpy(t), torch.arange(len(t)).short(), zeros, zeros.byte())
    for run in (reference_bins.bin_events, bins.bin_events):
        values = run(*columns, 1, len(t), VOXELS, torch.tensor([0, gap]), 1, len(t))
        assert values[1, 0, 0].tolist() == [65536 * int(time) // gap for time in t]
        assert (values.sum((0, 1, 2)) == 65536).all()


@needs_extension
@pytest.mark.parametrize("kind", [COUNTS, VOXELS, LATEST])
@pytest.mark.parametrize("in_order", [True, False])
def test_threads_change_nothing(kind, in_order):
    columns = _columns(400_000, size=(8, 9), stop=10**6, in_order=in_order)  # enough for several threads
    arguments = (*columns, 8, 9, kind, torch.tensor([10, 300_000, 600_000, 900_000]), 4, 9)
    want, before = reference_bins.bin_events(*arguments), torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            _same(bins.bin_events(*arguments), want)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [COUNTS, VOXELS, LATEST])
def test_pieces_of_a_list_join_to_the_whole(kind):
    rest = (*SIZE, kind, torch.tensor([100, 400, 900]), 5, 5)
    parts = [bins.bin_events(*(c[part] for c in LISTS["sorted"]), *rest) for part in (slice(0, 123), slice(123, None))]
    joined = torch.maximum(*parts) if kind == LATEST else parts[0] + parts[1]
    _same(joined, bins.bin_events(*LISTS["sorted"], *rest))


def test_any_layout_is_taken_and_inputs_are_left_alone():
    wide = torch.stack([LISTS["sorted"][0], LISTS["sorted"][0] * 0], dim=1)
    columns = (wide[:, 0], *LISTS["sorted"][1:])
    rest = (*SIZE, COUNTS, torch.tensor([0, 500, 1000]), 4, 4)
    copies = [c.clone() for c in columns]
    _same(bins.bin_events(*columns, *rest), reference_bins.bin_events(*LISTS["sorted"], *rest))
    assert all(torch.equal(a, b) for a, b in zip(columns, copies, strict=True))


@pytest.mark.parametrize(
    ("column", "value", "said"), [(1, 47, "x = 47"), (1, -1, "x = -1"), (2, 30, "y = 30"), (3, 2, "p = 2")]
)
@pytest.mark.parametrize("time", [500, 5000])  # inside the bins, and outside
def test_an_event_outside_the_sensor_is_named(column, value, said, time):
    columns = [c.clone() for c in LISTS["sorted"]]
    columns[column][400], columns[0][400] = value, time
    with pytest.raises(InputError, match=f"got event 400 at .*{said}"):
        bins.bin_events(*columns, *SIZE, COUNTS, torch.tensor([0, 1000]), 4, 4)


def test_op_passes_torch_checks():
    arguments = (*LISTS["sorted"], *SIZE, VOXELS, torch.tensor([0, 500, 1000]), 4, 4)
    torch.library.opcheck(torch.ops.neuroav.bin_events.default, arguments)
