"""The C++ kernel, the PyTorch reference and a scalar loop give identical event arrays."""

import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from neuroav.events.camera import Log
from neuroav.events.generate import frames_to_events
from neuroav.kernels import cpu, reference

ROOT = Path(__file__).resolve().parents[2]
needs_extension = pytest.mark.skipif(not cpu.available(), reason="the C++ extension was not built")


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


def _scalar_events(case):
    """Sorted ``(t, y, x, nth, p)`` by a loop over pixels, from the documented formula alone."""
    frames, gap, contrast_on, contrast_off, log_eps = CASES[case]
    times = _times(frames, gap).tolist()
    on, off = round(65536 * contrast_on), round(65536 * contrast_off)
    events = []
    for y in range(frames.shape[1]):
        for x in range(frames.shape[2]):
            levels = [round(65536 * math.log(grey + log_eps)) for grey in frames[:, y, x].tolist()]
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


@pytest.mark.parametrize("case", CASES)
def test_events_equal_a_scalar_loop(case):
    truth = _scalar_events(case)
    events, _ = _run(case)
    expected = torch.tensor([[t, x, y, p] for t, y, x, _, p in truth], dtype=torch.int64).reshape(-1, 4).T
    torch.testing.assert_close(_columns(events), expected, rtol=0, atol=0)


def test_the_cases_fire():
    counts = {case: len(_run(case)[0]) for case in CASES}
    assert {case for case, count in counts.items() if count == 0} == {"static", "one frame"}


@needs_extension
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_compiled_equals_reference(case, threads):
    arguments = _op_arguments(case)
    expected = reference.contrast_events(*arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = torch.ops.neuroav.contrast_events(*arguments)
    finally:
        torch.set_num_threads(before)
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@needs_extension
def test_compiled_takes_any_layout():
    frames, *rest = _op_arguments("random")
    strided = frames.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    expected = reference.contrast_events(frames, *rest)
    for got, want in zip(torch.ops.neuroav.contrast_events(strided, *rest), expected, strict=True):
        assert torch.equal(got, want)


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
    torch.library.opcheck(torch.ops.neuroav.contrast_events.default, _op_arguments("random"))


def test_inputs_are_left_alone():
    arguments = _op_arguments("random")
    copies = [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]
    outputs = torch.ops.neuroav.contrast_events(*arguments)
    for argument, copy in zip(arguments, copies, strict=True):
        assert torch.equal(argument, copy) if isinstance(argument, torch.Tensor) else argument == copy
    pointers = {a.data_ptr() for a in arguments if isinstance(a, torch.Tensor)}
    assert not pointers & {out.data_ptr() for out in outputs}


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_cuda_source_compiles(arch, tmp_path):
    command = ["nvcc", "-cubin", f"-arch={arch}", "-I", ROOT / "csrc/common", ROOT / "csrc/cuda/events.cu"]
    subprocess.run([*command, "-o", tmp_path / "events.cubin"], check=True)
