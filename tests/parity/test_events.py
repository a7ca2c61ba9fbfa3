"""The C++ kernels (both of them), the PyTorch reference and a scalar loop give identical event arrays and bins."""

import gc
import math
import shutil
import subprocess
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from neuroav.events.camera import Log
from neuroav.events.generate import frames_to_events
from neuroav.kernels import cpu, reference
from neuroav.kernels.events import contrast_bins, contrast_events

ROOT = Path(__file__).resolve().parents[2]
needs_extension = pytest.mark.skipif(not cpu.available(), reason="the C++ extension was not built")
COUNTS, VOXELS, LATEST = range(3)


@pytest.fixture(params=["the fastest", "portable"])
def simd(request, monkeypatch):
    """Run the test with each of the compiled detectors; where there is no AVX-512 both are the same."""
    monkeypatch.setenv("NEUROAV_SIMD", request.param)


@contextmanager
def _threads(number):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _random(seed, frames, height, width, spread=255):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 256, (1, height, width), generator=generator)
    moves = torch.randint(-spread, spread + 1, (frames - 1, height, width), generator=generator)
    return torch.cat([start, start + moves.cumsum(0)]).clamp(0, 255).to(torch.uint8)


def _flips(frames, height, width):
    return (torch.arange(frames) % 2 * 255).to(torch.uint8)[:, None, None].repeat(1, height, width)


def _ramp(frames, height, width):
    return torch.arange(frames).clamp(max=255).to(torch.uint8)[:, None, None].repeat(1, height, width)


REGULAR = 40_000
CASES = {
    "random": (_random(0, 12, 24, 31), REGULAR, 0.2, 0.2, 1.0),
    "small moves": (_random(1, 40, 17, 65, spread=6), REGULAR, 0.2, 0.2, 1.0),
    "several tiles": (_random(2, 4, 67, 131, spread=40), REGULAR, 0.3, 0.1, 1.0),
    "static": (_random(3, 1, 20, 20).repeat(8, 1, 1), REGULAR, 0.05, 0.05, 1.0),
    "ramp": (_ramp(300, 3, 3), REGULAR, 0.07, 0.07, 1.0),
    "flips, most events": (_flips(4, 2, 3), REGULAR, 0.01, 0.013, 1e-3),
    "one frame": (_random(4, 1, 6, 7), REGULAR, 0.2, 0.2, 1.0),
    "two frames": (_random(5, 2, 6, 7), REGULAR, 0.2, 0.2, 1.0),
    "one pixel": (_random(6, 50, 1, 1), REGULAR, 0.2, 0.15, 1.0),
    "one row": (_random(7, 9, 1, 129), REGULAR, 0.2, 0.2, 1.0),
    "one column": (_random(8, 9, 129, 1), REGULAR, 0.2, 0.2, 1.0),
    "shortest interval": (_random(9, 9, 8, 8), 1, 0.1, 0.1, 1.0),
    "longest interval": (_random(10, 3, 8, 8), (1 << 32) - 1, 0.02, 0.02, 1.0),
    "great offset": (_random(11, 5, 8, 64), REGULAR, 0.2, 0.2, 255.0),
    "longest estimated in float": (_random(13, 4, 5, 20), (1 << 21) - 1, 0.03, 0.03, 1e-6),
    "shortest that is not": (_random(14, 4, 5, 20), 1 << 21, 0.03, 0.03, 1e-6),
    "far beyond float": (_random(15, 4, 5, 20), 1 << 24, 0.03, 0.03, 1e-6),
    "irregular times": (_random(12, 20, 10, 10, spread=30), None, 0.2, 0.2, 1.0),
}


def _times(frames, gap):
    if gap is not None:
        return torch.arange(len(frames)) * gap - 70_000
    return torch.randint(1, 900_000, (len(frames),), generator=torch.Generator().manual_seed(1)).cumsum(0)


def _op_arguments(case):
    frames, gap, contrast_on, contrast_off, log_eps = CASES[case]
    table = Log(log_eps).table()
    first = table[frames[0].long()]
    on, off = round(65536 * contrast_on), round(65536 * contrast_off)
    return frames[1:], _times(frames, gap), table, on, off, first, first


def _run(case, **changes):
    frames, gap, contrast_on, contrast_off, log_eps = CASES[case]
    settings = {"contrast_on": contrast_on, "contrast_off": contrast_off, "brightness": Log(log_eps)} | changes
    return frames_to_events(frames, _times(frames, gap), **settings)


def _columns(events):
    return torch.stack([events.t_us, events.x.long(), events.y.long(), events.p.long()])


@cache
def _scalar_events(case):
    """Sorted ``(t, y, x, nth, p)`` by a loop over pixels, from the documented formula alone."""
    frames, gap, contrast_on, contrast_off, log_eps = CASES[case]
    table = [round(65536 * math.log(grey + log_eps)) for grey in range(256)]
    on, off = round(65536 * contrast_on), round(65536 * contrast_off)
    return _scalar_loop(frames, _times(frames, gap).tolist(), table, on, off)


def _scalar_loop(frames, times, table, on, off):
    events = []
    for y in range(frames.shape[1]):
        for x in range(frames.shape[2]):
            levels = [table[grey] for grey in frames[:, y, x].tolist()]
            reference_level, nth = levels[0], 0
            for k in range(1, len(levels)):
                l0, l1, dt = levels[k - 1], levels[k], times[k] - times[k - 1]
                while l1 >= reference_level + on or l1 <= reference_level - off:
                    p = int(l1 >= reference_level + on)
                    reference_level += on if p else -off
                    late = -(-abs(reference_level - l0) * dt // abs(l1 - l0))
                    events.append((times[k - 1] + late, y, x, nth, p))
                    nth += 1
    return sorted(events)


def _expected_columns(truth):
    return torch.tensor([[t, x, y, p] for t, y, x, _, p in truth], dtype=torch.int64).reshape(-1, 4).T


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("simd")
def test_events_equal_a_scalar_loop(case):
    events, _ = _run(case)
    torch.testing.assert_close(_columns(events), _expected_columns(_scalar_events(case)), rtol=0, atol=0)


def test_the_cases_fire():
    counts = {case: len(_run(case)[0]) for case in CASES}
    assert {case for case, count in counts.items() if count == 0} == {"static", "one frame"}


def _assert_equal(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@needs_extension
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("simd")
def test_compiled_equals_reference(case, threads):
    arguments = _op_arguments(case)
    with _threads(threads):
        actual = torch.ops.neuroav.contrast_events(*arguments)
    _assert_equal(actual, _reference_of(case))


@cache
def _reference_of(case):
    return reference.contrast_events(*_op_arguments(case))


# Brightness laws with equal neighbours, as op arguments: table, ON and OFF threshold.
PLATEAUS = {
    "video luma at full range": (((torch.arange(256) - 16).clamp(0, 219) * 1000), 9000, 11_000),
    "few levels": (torch.arange(256) // 37 * 5000, 5000, 4999),
    "two levels": ((torch.arange(256) >= 128) * 100_000, 30_000, 30_000),
    "no contrast": (torch.full((256,), 77), 655, 655),
    "dark": (torch.arange(256) - 200_000, 655, 655),
    "one step of 2^21": ((torch.arange(256) == 255) * ((1 << 21) - 1), 655_360, 4000),
}


@pytest.mark.parametrize("law", PLATEAUS)
@pytest.mark.usefixtures("simd")
def test_brightness_may_stay_equal_from_grey_to_grey(law):
    table, on, off = PLATEAUS[law]
    frames, times = _random(20, 12, 11, 23, spread=90), torch.arange(12) * REGULAR
    table = table.to(torch.int32)
    first = table[frames[0].long()]
    t, x, y, p, level, last = contrast_events(frames[1:], times, table, on, off, first, first)
    truth = _scalar_loop(frames, times.tolist(), table.tolist(), on, off)
    torch.testing.assert_close(torch.stack([t, x.long(), y.long(), p.long()]), _expected_columns(truth))
    assert torch.equal(last, table[frames[-1].long()])
    assert (level - last < off).all()
    assert (last - level < on).all()
    assert (len(truth) == 0) == (law in ("no contrast", "dark"))


def _quiet_then_flash():
    frames = _random(30, 1, 250, 400, spread=0).repeat(16, 1, 1)
    frames[10:] = 255 - frames[10:]
    frames[12:] = frames[12:] // 3
    return frames, torch.arange(16) * REGULAR


@needs_extension
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("clip", ["dense", "quiet, then a flash"])
@pytest.mark.usefixtures("simd")
def test_large_clips_equal_the_reference(clip, threads):
    """Enough pixels for slices of time, several tiles and groups of them, and lists that outgrow their room."""
    frames, times = _quiet_then_flash()
    if clip == "dense":
        frames, times = _random(31, 4, 520, 517, spread=60), torch.tensor([0, 33_333, 33_340, 66_667])
    table = Log().table()
    first = table[frames[0].long()]
    arguments = (frames[1:], times, table, 13_107, 13_107, first, first)
    with _threads(threads):
        actual = torch.ops.neuroav.contrast_events(*arguments)
    assert len(actual[0]) > 1 << 18
    _assert_equal(actual, _reference_events(clip, arguments))


_large = {}


def _reference_events(clip, arguments):
    if clip not in _large:
        _large[clip] = reference.contrast_events(*arguments)
    return _large[clip]


@needs_extension
def test_memory_is_used_again_only_when_it_is_free():
    frames, times = _random(32, 8, 200, 300, spread=80), torch.arange(8) * REGULAR
    kept, _ = frames_to_events(frames, times)
    copy = _columns(kept).clone()
    for _ in range(3):
        frames_to_events(frames.flip(0), times)  # freed at once: its memory is free to use again
    x = kept.x
    del kept
    gc.collect()
    others = [frames_to_events(frames.flip(2), times)[0] for _ in range(3)]
    assert torch.equal(x.long(), copy[1])
    assert torch.equal(frames_to_events(frames, times)[0].t_us, copy[0])
    assert all(torch.equal(_columns(other), _columns(others[0])) for other in others)


GRIDS = [(1, 1), (3, 5), None]


def _bin_edges(case, kind):
    """Bins that begin and end at frames, bins that don't (some empty), and bins far finer than frames."""
    frames, gap, *_ = CASES[case]
    times = _times(frames, gap)
    begin, end = int(times[0]), int(times[-1])
    span = max(end - begin, 3)
    uneven = torch.tensor([begin + span // 7, begin + span // 3, begin + span // 3, begin + span - span // 5, end + 9])
    fine = begin + (torch.arange(40) * span) // 90
    aligned = times[:: max(len(times) // 3, 1)] if len(times) > 1 else torch.tensor([begin, begin + 5])
    edges = [aligned.contiguous(), uneven, fine]
    return [e.unique() for e in edges if len(e.unique()) > 1] if kind == VOXELS else edges


def _scalar_bins(events, kind, edges, size, grid):
    """Value after value, from the rules in ``Bins``."""
    edges = edges.tolist()
    steps = len(edges) - (kind != VOXELS)
    values = torch.full((steps, 2, *grid), -(2**63) if kind == LATEST else 0, dtype=torch.int64)
    for t, y, x, _, p in events:
        cell = (p, y * grid[0] // size[0], x * grid[1] // size[1])
        if kind == VOXELS:
            left = max((b for b in range(steps - 1) if edges[b] <= t <= edges[b + 1]), default=None)
            if left is not None:
                weight = ((t - edges[left]) << 16) // (edges[left + 1] - edges[left])
                values[(left + 1, *cell)] += weight
                values[(left, *cell)] += 65536 - weight
            continue
        for k, (start, stop) in enumerate(pairwise(edges)):
            if start < t <= stop:
                values[(k, *cell)] = max(int(values[(k, *cell)]), t) if kind == LATEST else values[(k, *cell)] + 1
    return values


@pytest.mark.parametrize("kind", [COUNTS, VOXELS, LATEST])
@pytest.mark.parametrize("case", ["one pixel", "one row", "irregular times", "shortest interval", "two frames"])
@pytest.mark.usefixtures("simd")
def test_bins_equal_a_scalar_loop(case, kind):
    arguments = _op_arguments(case)
    height, width = arguments[0].shape[1:]
    for edges in _bin_edges(case, kind):
        actual, level, last = contrast_bins(*arguments, kind, edges, 2, 3)
        expected = _scalar_bins(_scalar_events(case), kind, edges, (height, width), (2, 3))
        assert actual.dtype == (torch.int32 if kind == COUNTS else torch.int64)
        assert torch.equal(actual.long(), expected)
        _assert_equal((level, last), contrast_events(*arguments)[-2:])


@needs_extension
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", [COUNTS, VOXELS, LATEST])
@pytest.mark.usefixtures("simd")
def test_compiled_bins_equal_reference(kind, grid, threads):
    for case in CASES:
        arguments = _op_arguments(case)
        rows, columns = grid or arguments[0].shape[1:]
        for index, edges in enumerate(_bin_edges(case, kind)):
            with _threads(threads):
                actual = torch.ops.neuroav.contrast_bins(*arguments, kind, edges, rows, columns)
            _assert_equal(actual, _reference_bins(case, kind, index, rows, columns))


@cache
def _reference_bins(case, kind, index, rows, columns):
    return reference.contrast_bins(*_op_arguments(case), kind, _bin_edges(case, kind)[index], rows, columns)


@needs_extension
@pytest.mark.parametrize("grid", [(16, 16), (1, 4), (250, 400)])
def test_bins_of_a_large_clip_are_the_same_for_any_number_of_threads(grid):
    frames, times = _quiet_then_flash()
    table = Log().table()
    first = table[frames[0].long()]
    arguments = (frames[1:], times, table, 13_107, 13_107, first, first)
    edges = torch.tensor([0, 2, 7, 11, 13]) * REGULAR + torch.tensor([0, 0, 5, 0, 0])
    expected = reference.contrast_bins(*arguments, COUNTS, edges, *grid)
    for threads in (1, 2, 5):
        with _threads(threads):
            _assert_equal(contrast_bins(*arguments, COUNTS, edges, *grid), expected)


@needs_extension
def test_compiled_takes_any_layout():
    frames, *rest = _op_arguments("random")
    strided = frames.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    _assert_equal(contrast_events(strided, *rest), reference.contrast_events(frames, *rest))


@pytest.mark.parametrize("case", ["small moves", "irregular times", "one pixel"])
@pytest.mark.parametrize("pieces", [[1, 1, 5], [2, 3], [0, 4]])
def test_any_chunking_gives_the_same_events(case, pieces):
    frames, gap, contrast_on, contrast_off, log_eps = CASES[case]
    settings = {"contrast_on": contrast_on, "contrast_off": contrast_off, "brightness": Log(log_eps)}
    t_us = _times(frames, gap)
    whole, last = frames_to_events(frames, t_us, **settings)
    cuts = [1, *pieces, len(frames) - 1 - sum(pieces)]
    state, parts = None, []
    for part, times in zip(frames.split(cuts), t_us.split(cuts), strict=True):
        events, state = frames_to_events(part, times, state=state, **settings)
        parts.append(_columns(events))
    assert torch.equal(torch.cat(parts, dim=1), _columns(whole))
    assert torch.equal(state.reference, last.reference)
    assert torch.equal(state.last, last.last)
    assert state.t_us == last.t_us


def test_op_passes_torch_checks():
    arguments, edges = _op_arguments("random"), torch.tensor([0, 100_000, 300_000])
    torch.library.opcheck(torch.ops.neuroav.contrast_events.default, arguments)
    torch.library.opcheck(torch.ops.neuroav.contrast_bins.default, (*arguments, VOXELS, edges, 4, 4))


def test_inputs_are_left_alone():
    arguments = _op_arguments("random")
    copies = [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]
    outputs = [*contrast_events(*arguments), *contrast_bins(*arguments, COUNTS, arguments[1], 4, 4)]
    for argument, copy in zip(arguments, copies, strict=True):
        assert torch.equal(argument, copy) if isinstance(argument, torch.Tensor) else argument == copy
    pointers = {a.data_ptr() for a in arguments if isinstance(a, torch.Tensor)}
    assert not pointers & {out.data_ptr() for out in outputs}


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_cuda_source_compiles(arch, tmp_path):
    command = ["nvcc", "-cubin", f"-arch={arch}", "-I", ROOT / "csrc/common", ROOT / "csrc/cuda/events.cu"]
    subprocess.run([*command, "-o", tmp_path / "events.cubin"], check=True)
