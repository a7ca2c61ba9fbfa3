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
    return helper.CudaOnCpu(["events", "sort"], tmp_path_factory.mktemp("cuda"))


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
