"""Representations against loops over the documented formulas and against tonic, and what they conserve."""

import math

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.camera import EventCamera
from neuroav.events.generate import frames_to_events
from neuroav.events.represent import (
    events_to_binary,
    events_to_bins,
    events_to_counts,
    events_to_stack_by_number,
    events_to_stack_by_time,
    events_to_time_surface,
    events_to_voxels,
    frames_to_counts,
    frames_to_time_surface,
    frames_to_voxels,
    voxel_nodes,
)
from neuroav.events.types import Bins, Events


def _events(count=500, size=(30, 47), seed=0, start=0, stop=1000):
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(start, stop, count))
    y, x = rng.integers(0, size[0], count), rng.integers(0, size[1], count)
    p = rng.integers(0, 2, count)
    column = [torch.from_numpy(a).to(d) for a, d in [(x, torch.int16), (y, torch.int16), (p, torch.uint8)]]
    return Events(torch.from_numpy(t_us), *column, sensor_size=size)


def _rows(events):
    return zip(*(events.numpy()[k].tolist() for k in ("t_us", "x", "y", "p")), strict=True)


def _shuffled(events, seed=0):
    order = torch.randperm(len(events), generator=torch.Generator().manual_seed(seed))
    columns = (events.t_us, events.x, events.y, events.p)
    return Events(*(c[order] for c in columns), sensor_size=events.sensor_size)


# ----------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("grid", [(16, 16), (1, 1), (7, 5), (30, 47), (60, 60), None])
def test_counts_equal_a_loop(grid):
    events, edges = _events(), torch.tensor([100, 250, 250, 700, 1000])
    rows, columns = grid or (30, 47)
    expected = torch.zeros(4, 2, rows, columns, dtype=torch.int32)
    for t, x, y, p in _rows(events):
        for k in range(4):
            if edges[k] < t <= edges[k + 1]:
                expected[k, p, y * rows // 30, x * columns // 47] += 1
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


def test_binary_is_one_where_anything_happened():
    events, edges = _events(200), torch.tensor([0, 400, 1000])
    spikes = events_to_binary(events, edges, grid=(5, 5))
    assert spikes.dtype == torch.float32
    assert torch.equal(spikes.bool(), events_to_counts(events, edges, (5, 5)) > 0)
    assert spikes.unique().tolist() == [0, 1]


def test_bad_arguments_are_named():
    events = _events(3)
    with pytest.raises(InputError, match="at least two edges_us"):
        events_to_counts(events, torch.tensor([5]))
    with pytest.raises(InputError, match="never decrease"):
        events_to_counts(events, torch.tensor([5, 4]))
    for grid in ((0, 3), 16, (4, 4, 4), (2.0, 2.0)):
        with pytest.raises(InputError, match="grid of two whole numbers"):
            events_to_counts(events, torch.tensor([0, 4]), grid=grid)
    with pytest.raises(TypeError, match="edges_us of dtype"):
        events_to_counts(events, torch.tensor([0.0, 4.0]))
    with pytest.raises(InputError, match=r"that increase, got \[3, 3\]"):
        Bins("voxels", torch.tensor([3, 3]))
    with pytest.raises(InputError, match="2 years"):
        Bins("voxels", torch.tensor([-(2**63), 2**63 - 1]))
    with pytest.raises(InputError, match=r"Did you mean 'counts'\?"):
        Bins("count", torch.tensor([3, 4]))
    with pytest.raises(InputError, match=r"num_bins in \[2, inf\], got 1"):
        events_to_voxels(events, 1, start_us=0, stop_us=10)
    with pytest.raises(InputError, match="at least 4 us from start_us to stop_us, got 3"):
        events_to_voxels(events, 5, start_us=0, stop_us=3)
    with pytest.raises(InputError, match=r"tau_us above 0 and at most 2\^53, got 0"):
        events_to_time_surface(events, torch.tensor([5]), 0)
    with pytest.raises(InputError, match=r"tau_us above 0 and at most 2\^53, got nan"):
        events_to_time_surface(events, torch.tensor([5]), math.nan)
    with pytest.raises(InputError, match="never decrease"):
        events_to_time_surface(events, torch.tensor([5, 4]), 10.0)
    with pytest.raises(InputError, match=r"num_frames in \[1, inf\]"):
        events_to_stack_by_time(events, 0, start_us=0, stop_us=3)
    with pytest.raises(InputError, match=r"events_per_frame in \[1, 3\], got 4"):
        events_to_stack_by_number(events, 4)


def test_between_is_open_below_and_closed_above():
    events = Events(torch.tensor([1, 2, 2, 3]), *torch.zeros(2, 4).short(), torch.zeros(4).byte(), (1, 1))
    assert events.between(1, 2).t_us.tolist() == [2, 2]
    assert len(events.between(3, 9)) == 0


# ------------------------------------------------------------------------------------------------------- voxel grid


@pytest.mark.parametrize("grid", [None, (16, 16), (7, 5)])
@pytest.mark.parametrize("num_bins", [2, 5, 9])
def test_voxels_equal_the_formula(num_bins, grid):
    """In float64, node after node, by the distance of every event to every node."""
    events, start, stop = _events(), 40, 840
    rows, columns = grid or (30, 47)
    expected = np.zeros((num_bins, 2, rows, columns))
    gap = (stop - start) / (num_bins - 1)
    for t, x, y, p in _rows(events):
        for k in range(num_bins):
            if start <= t <= stop:
                weight = max(0.0, 1 - abs(t - (start + k * gap)) / gap)
                expected[k, p, y * rows // 30, x * columns // 47] += weight
    voxels = events_to_voxels(events, num_bins, start_us=start, stop_us=stop, grid=grid)
    assert voxels.dtype == torch.float32
    np.testing.assert_allclose(voxels.numpy(), expected, atol=len(events) / 65536)
    signed = events_to_voxels(events, num_bins, start_us=start, stop_us=stop, grid=grid, signed=True)
    torch.testing.assert_close(signed, voxels[:, 1] - voxels[:, 0])


def test_voxel_weight_is_conserved_exactly_up_to_both_ends():
    events = _events(start=100, stop=901)
    ends = torch.tensor([100, 900])
    events = Events(
        torch.cat([ends, events.t_us]), *(torch.cat([c[:2], c]) for c in (events.x, events.y, events.p)), (30, 47)
    )
    for num_bins in (2, 3, 7, 33):
        values = events_to_bins(events, Bins("voxels", voxel_nodes(num_bins, 100, 900)))
        assert values.sum() == 65536 * len(events)
        per_pixel = events_to_counts(events, torch.tensor([99, 900]), None)
        assert torch.equal(values.sum(0), 65536 * per_pixel[0])
        voxels = events_to_voxels(events, num_bins, start_us=100, stop_us=900)
        assert voxels.double().sum() == len(events)


def test_an_event_on_a_node_belongs_to_it_alone():
    events = Events(torch.tensor([0, 50, 100]), *torch.zeros(2, 3).short(), torch.ones(3).byte(), (1, 1))
    assert events_to_voxels(events, 3, start_us=0, stop_us=100, signed=True).flatten().tolist() == [1, 1, 1]
    assert events_to_voxels(events, 3, start_us=1, stop_us=99, signed=True).flatten().tolist() == [0, 1, 0]


def test_nodes_are_even_whole_microseconds():
    assert voxel_nodes(5, -10, 30).tolist() == [-10, 0, 10, 20, 30]
    assert voxel_nodes(4, 0, 3).tolist() == [0, 1, 2, 3]
    nodes = voxel_nodes(7, 5, 1_000_004)
    assert (nodes[0], nodes[-1]) == (5, 1_000_004)
    assert nodes.diff().max() - nodes.diff().min() <= 1


def test_the_order_of_events_changes_nothing():
    events = _events()
    mixed = _shuffled(events)
    for bins in (Bins("counts", torch.tensor([0, 500, 900])), Bins("voxels", voxel_nodes(4, 3, 900)),
                 Bins("latest", torch.tensor([0, 500, 900]))):  # fmt: skip
        assert torch.equal(events_to_bins(events, bins), events_to_bins(mixed, bins))


# ----------------------------------------------------------------------------------------------------- time surface


@pytest.mark.parametrize("grid", [None, (7, 5)])
def test_time_surface_equals_the_formula(grid):
    events, at, tau = _events(), [0, 100, 100, 640, 5000, 12_000], 130.0
    rows, columns = grid or (30, 47)
    expected = np.zeros((6, 2, rows, columns))
    for k, now in enumerate(at):
        for t, x, y, p in _rows(events):  # in order of time, so the last one stays
            if t <= now:
                expected[k, p, y * rows // 30, x * columns // 47] = math.exp(-(now - t) / tau)
    surface = events_to_time_surface(events, torch.tensor(at), tau, grid)
    assert surface.dtype == torch.float32
    np.testing.assert_allclose(surface.numpy(), expected, rtol=1e-5, atol=1e-37)


def test_time_surface_of_nothing_is_zero():
    for tau_us in (10.0, 9e15):
        assert events_to_time_surface(_events(0), torch.tensor([5, 6]), tau_us).abs().sum() == 0


# ----------------------------------------------------------------------------------------------------------- stacks


def test_stack_by_time_cuts_time_evenly():
    events = _events()
    stack = events_to_stack_by_time(events, 4, start_us=100, stop_us=900)
    assert torch.equal(stack, events_to_counts(events, torch.tensor([100, 300, 500, 700, 900]), None))
    signed = events_to_stack_by_time(events, 4, start_us=100, stop_us=900, signed=True)
    assert torch.equal(signed, stack[:, 1] - stack[:, 0])


@pytest.mark.parametrize("per_frame", [1, 7, 100, 500])
def test_stack_by_number_equals_a_loop(per_frame):
    events = _events(stop=30)  # many share a time
    stack = events_to_stack_by_number(events, per_frame, grid=(4, 4))
    expected = torch.zeros(500 // per_frame, 2, 4, 4, dtype=torch.int32)
    for index, (_, x, y, p) in enumerate(_rows(events)):
        if index // per_frame < len(expected):
            expected[index // per_frame, p, y * 4 // 30, x * 4 // 47] += 1
    assert torch.equal(stack, expected)
    assert (stack.sum((1, 2, 3)) == per_frame).all()
    signed = events_to_stack_by_number(events, per_frame, grid=(4, 4), signed=True)
    assert torch.equal(signed, stack[:, 1] - stack[:, 0])


# ------------------------------------------------------------------------------------------- frames, without a list


def _clip(frames=9, height=20, width=33, seed=0):
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randint(-40, 41, (frames, height, width), generator=generator)
    gaps = torch.randint(8_000, 20_000, (frames,), generator=generator)
    return (128 + moves.cumsum(0)).clamp(0, 255).byte(), gaps.cumsum(0)


CAMERAS = {
    "ideal": EventCamera(contrast_on=0.15, contrast_off=0.25),
    "noisy": EventCamera.preset("noisy").replace(refractory_us=3000, seed=3),
    "at frames": EventCamera(timestamps="frame"),
}


@pytest.mark.parametrize("roi", [None, (3, 5, 11, 20)])
@pytest.mark.parametrize("grid", [None, (16, 16), (3, 7)])
@pytest.mark.parametrize("name", CAMERAS)
def test_fused_representations_equal_those_of_the_list(name, grid, roi):
    (frames, t_us), camera = _clip(), CAMERAS[name]
    events, end = frames_to_events(frames, t_us, camera, roi=roi)
    settings = {"grid": grid, "roi": roi}
    edges = torch.tensor([int(t_us[0]), int(t_us[2]), int(t_us[2]) + 3333, int(t_us[-1])])  # at and between frames
    counts, state = frames_to_counts(frames, t_us, edges, camera, **settings)
    assert len(events) > 500
    assert torch.equal(counts, events_to_counts(events, edges, grid))
    assert torch.equal(state.reference, end.reference)
    span = {"start_us": int(edges[0]) + 1000, "stop_us": int(edges[-1]) - 77}
    for signed in (False, True):
        voxels, _ = frames_to_voxels(frames, t_us, 6, camera, **span, signed=signed, **settings)
        assert torch.equal(voxels, events_to_voxels(events, 6, **span, grid=grid, signed=signed))
    surface, _ = frames_to_time_surface(frames, t_us, edges[1:], 2e4, camera, **settings)
    assert torch.equal(surface, events_to_time_surface(events, edges[1:], 2e4, grid))


def test_fused_representations_take_changes_of_the_camera_and_float_frames():
    frames, t_us = _clip()
    brightness = torch.log(frames.double() + 1)
    events, _ = frames_to_events(brightness, t_us, contrast_on=0.4)
    edges = torch.stack([t_us[0], t_us[-1]])
    counts, _ = frames_to_counts(brightness, t_us, edges, contrast_on=0.4)
    assert torch.equal(counts, events_to_counts(events, edges))
    assert counts[0, 0].sum() > 1.5 * counts[0, 1].sum() > 0


@pytest.mark.parametrize("name", ["ideal", "noisy"])
def test_fused_pieces_of_a_clip_add_up(name):
    (frames, t_us), camera = _clip(), CAMERAS[name]
    edges, span = t_us[[0, 3, 8]], {"start_us": int(t_us[0]), "stop_us": int(t_us[-1])}
    state, counts, voxels = None, 0, 0
    for part in (slice(0, 1), slice(1, 5), slice(5, 5), slice(5, 9)):
        before = state
        more, state = frames_to_counts(frames[part], t_us[part], edges, camera, state=before)
        counts = counts + more
        voxels = voxels + frames_to_voxels(frames[part], t_us[part], 4, camera, **span, state=before)[0]
    assert torch.equal(counts, frames_to_counts(frames, t_us, edges, camera)[0])
    torch.testing.assert_close(voxels, frames_to_voxels(frames, t_us, 4, camera, **span)[0])


# ------------------------------------------------------------------------------------------------------------ tonic


@pytest.fixture(scope="module")
def tonic_functional():
    return pytest.importorskip("tonic.functional", reason="tonic is not installed (a peer, not a requirement)")


@pytest.fixture(scope="module")
def tonic_case():
    """The same events for both; tonic needs an integer polarity (a boolean one breaks its voxel grid)."""
    events = _events(3000, (20, 31), start=1001, stop=9000)
    t_us = events.t_us + (events.t_us % 1000 == 0)  # no event on the border of a tonic window
    t_us[0], t_us[-1] = 1000, 9000
    events = Events(t_us, events.x, events.y, events.p, events.sensor_size)
    table = np.zeros(len(events), dtype=[("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i8")])
    for name, column in zip("xytp", (events.x, events.y, events.t_us, events.p), strict=True):
        table[name] = column.numpy()
    return events, table, (31, 20, 2)


def test_counts_equal_tonic_frames(tonic_functional, tonic_case):
    events, table, size = tonic_case
    frames = tonic_functional.to_frame_numpy(table.copy(), size, time_window=800)  # windows [start, start + 800)
    edges = 999 + 800 * torch.arange(len(frames) + 1)
    np.testing.assert_array_equal(events_to_counts(events, edges, None).numpy(), frames)
    by_number = tonic_functional.to_frame_numpy(table.copy(), size, event_count=700)
    np.testing.assert_array_equal(events_to_stack_by_number(events, 700).numpy(), by_number)


def test_voxels_equal_tonic_but_for_the_weight_it_loses(tonic_functional, tonic_case):
    """Tonic lays T intervals, so it has no last node: what should go there is lost."""
    events, table, size = tonic_case
    theirs = tonic_functional.to_voxel_grid_numpy(table.copy(), size, n_time_bins=8)[:, 0]
    ours = events_to_voxels(events, 9, start_us=1000, stop_us=9000, signed=True).numpy()
    np.testing.assert_allclose(ours[:8], theirs, atol=1e-3)
    assert np.abs(ours[8]).sum() > 1


def test_time_surface_equals_tonic(tonic_functional, tonic_case):
    events, table, size = tonic_case
    theirs = tonic_functional.to_timesurface_numpy(table.copy(), size, dt=1000, tau=500.0)
    at_us = 1000 + 1000 * torch.arange(1, len(theirs) + 1)
    before_the_end = Events(*(c[:-1] for c in (events.t_us, events.x, events.y, events.p)), events.sensor_size)
    np.testing.assert_allclose(events_to_time_surface(before_the_end, at_us, 500.0).numpy(), theirs, atol=1e-6)
