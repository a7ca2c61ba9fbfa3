"""The CUDA kernels, run thread by thread on a CPU, give the arrays of the PyTorch reference."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from neuroav.kernels import cuda, reference

HERE = Path(__file__).resolve().parent
ORDERS = [0, 1, 2, 3]


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


helper = _load(HERE.parent / "helpers" / "cuda_on_cpu.py")
event_cases = _load(HERE / "test_events.py")
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on the PATH")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return helper.CudaOnCpu(["events", "sort", "bins"], tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def gpu(machine, monkeypatch):
    machine.order, machine.launched = 0, []
    monkeypatch.setattr(cuda, "launch", machine.launch)
    return machine


def _assert_same(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@pytest.mark.parametrize("case", event_cases.CASES)
def test_events_equal_the_reference(gpu, case):
    arguments = event_cases._op_arguments(case)
    _assert_same(cuda.contrast_events(*arguments), reference.contrast_events(*arguments))


BINS = {
    "counts": (0, lambda t: t[::3]),
    "counts across frames": (0, lambda t: torch.linspace(int(t[0]) - 9, int(t[-1]) + 9, 6).long()),
    "counts, outside and empty bins": (0, lambda t: torch.stack([t[1], t[1], t[-2], t[-1] + 1, t[-1] + 5])),
    "voxels": (1, lambda t: torch.linspace(int(t[0]), int(t[-1]) - 7, 5).long()),
    "latest": (2, lambda t: t[::2]),
    "latest across frames": (2, lambda t: torch.linspace(int(t[0]) + 9, int(t[-1]) + 9, 4).long()),
}


@pytest.mark.parametrize("grid", [(2, 3), (16, 16), "sensor"])
@pytest.mark.parametrize("kind", BINS)
@pytest.mark.parametrize("case", ["random", "several tiles", "irregular times"])
def test_bins_equal_the_reference(gpu, case, kind, grid):
    arguments = event_cases._op_arguments(case)
    rows, columns = arguments[0].shape[1:] if grid == "sensor" else grid
    code, edges = BINS[kind]
    bins = (code, edges(arguments[1]).contiguous(), rows, columns)
    expected = reference.contrast_bins(*arguments, *bins)
    _assert_same(cuda.contrast_bins(*arguments, *bins), expected)
    columns_of_list = reference.contrast_events(*arguments)[:4]
    _assert_same([cuda.bin_events(*columns_of_list, *arguments[0].shape[1:], *bins)], expected[:1])
