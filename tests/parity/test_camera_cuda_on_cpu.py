"""The CUDA kernels of the full camera model, run thread by thread on a CPU, give the reference's arrays."""

import math
import shutil
import statistics

import pytest
import torch
from cuda_on_cpu import CudaOnCpu

from neuroav.kernels import cuda, reference_camera

FINE = 1 << 24
NOTHING = torch.empty(0, dtype=torch.int32)
BACKWARDS, SHUFFLED = 1, 2
PARTS = ("low pass", "two poles", "voltage", "leak", "jitter", "shot", "refractory", "dead")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on the PATH")
    return CudaOnCpu(["camera", "sort"], tmp_path_factory.mktemp("camera"))


@pytest.fixture
def gpu(machine, monkeypatch):
    machine.order = 0
    monkeypatch.setattr(cuda, "launch", machine.launch)
    return machine


def _normal_table():
    quantiles = [statistics.NormalDist(0, math.sqrt(0.5)).inv_cdf((i + 0.5) / 1024) for i in range(1024)]
    return torch.tensor([round(65536 * quantile) for quantile in quantiles], dtype=torch.int32)


def _arguments(parts, rule=0, size=(7, 11), num_frames=6, is_float=False):
    """Clip, sensor, numbers and state of a camera with these parts, all values drawn at random."""
    generator = torch.Generator().manual_seed(len(parts) + rule)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)

    table = torch.tensor([round(FINE * math.log(grey + 1)) for grey in range(256)], dtype=torch.int32)
    start = draw(0, 256, 1, *size)
    greys = torch.cat([start, start + draw(-25, 26, num_frames, *size).cumsum(0)]).clamp(0, 255)
    levels = table[greys.long()] + draw(-5000, 5000, num_frames + 1, *size)
    edges_us = torch.tensor([0, 30_000, 31_000, 90_000, 140_000, 200_000, 201_001])[: num_frames + 1] + 7
    shares = draw(FINE // 5, FINE, num_frames, 256) if "low pass" in parts else NOTHING
    steps = torch.stack([draw(FINE // 9, FINE, num_frames), draw(0, FINE // 9, num_frames)], 1)
    clip = (greys[1:].to(torch.uint8), levels[1:].contiguous() if is_float else NOTHING, edges_us, shares)
    on, off = draw(FINE // 7, FINE // 4, *size), draw(FINE // 7, FINE // 4, *size)
    if "dead" in parts:
        on[::3, ::4] = reference_camera.DEAD
    leak = draw(0, 1 << 24, *size) if "leak" in parts else NOTHING
    accept = draw(1 << 18, 1 << 20, 256) if "shot" in parts else NOTHING
    period = draw(64 * 10_000, 64 * 40_000, *size).long() if "shot" in parts else NOTHING.long()
    exponential = [round((1 << 20) * (math.log(2) - math.log(1 + i / 1024))) for i in range(1025)]
    sensor = (table, on, off, leak, period, accept, _normal_table(), torch.tensor(exponential, dtype=torch.int32))
    first = levels[0] if is_float else table[greys[0].long()]
    state = (
        first + draw(-FINE // 8, FINE // 8, *size), first, first.clone() if "two poles" in parts else NOTHING,
        draw(-9999, 9999, *size) if "voltage" in parts else NOTHING,
        draw(1, 90_000, *size).long() if "shot" in parts else NOTHING.long(),
        draw(-90_000, 0, *size).long() if "refractory" in parts else NOTHING.long(),
    )  # fmt: skip
    refractory_us = 12_345 if "refractory" in parts else 0
    numbers = [
        FINE // 5,
        FINE // 5,
        rule,
        refractory_us,
        6554 if "jitter" in parts else 0,
        0x1234567_89ABCDEF,
    ]
    return (*clip, steps if "voltage" in parts else NOTHING), sensor, [*numbers, 3, 2, 5], state


CASES = {
    "ideal": ((), 0),
    "low pass": (("low pass",), 0),
    "two poles": (("low pass", "two poles"), 0),
    "voltage": (("voltage",), 0),
    "leak": (("leak", "dead"), 0),
    "jittered leak": (("leak", "jitter"), 0),
    "shot": (("shot",), 0),
    "advance": (("refractory",), 0),
    "hold": (("refractory",), 1),
    "blind": (("refractory",), 2),
    "everything, advance": (PARTS, 0),
    "everything, hold": (PARTS, 1),
    "everything, blind": (PARTS, 2),
}


def _assert_same(actual, expected):
    *columns, state = actual
    *wanted, state_wanted = expected
    for got, want in zip([*columns, *state], [*wanted, *state_wanted], strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@pytest.mark.parametrize("is_float", [False, True], ids=["grey", "float"])
@pytest.mark.parametrize("case", CASES)
def test_events_equal_the_reference(gpu, case, is_float):
    arguments = _arguments(*CASES[case], is_float=is_float)
    expected = reference_camera.camera_events(*arguments, True)
    assert len(expected[0]) > 20
    _assert_same(cuda.camera_events(*arguments, True), expected)


def test_cases_differ():
    """Every part changes the events, so that a kernel without it would be seen."""
    lists = [reference_camera.camera_events(*_arguments(*case), True)[:5] for case in CASES.values()]
    same = [
        (i, j) for i, one in enumerate(lists) for j, other in enumerate(lists[:i])
        if all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    ]  # fmt: skip
    assert same == []


@pytest.mark.parametrize("order", [BACKWARDS, SHUFFLED])
def test_no_order_of_threads_matters(gpu, order):
    gpu.order = order
    arguments = _arguments(*CASES["everything, blind"], size=(17, 21))
    _assert_same(cuda.camera_events(*arguments, False), reference_camera.camera_events(*arguments, False))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_bins_equal_the_reference(gpu, kind):
    clip, sensor, numbers, state = _arguments(*CASES["everything, hold"])
    arguments = (clip, sensor, [*numbers[:-2], 0, 0], state)
    bins = (kind, torch.tensor([0, 30_007, 99_999, 150_000]), 3, 4)
    _assert_same(cuda.camera_bins(*arguments, *bins), reference_camera.camera_bins(*arguments, *bins))
    arguments = _arguments((), size=(4, 4))
    arguments = (*arguments[:2], [*arguments[2][:-2], 0, 0], arguments[3])
    _assert_same(cuda.camera_bins(*arguments, *bins), reference_camera.camera_bins(*arguments, *bins))
