"""The full camera model, and the public functions, on a CUDA device: the results of the CPU, bit for bit."""

import importlib.util
from pathlib import Path

import pytest
import torch

from neuroav.events.camera import EventCamera
from neuroav.events.generate import bin_frames, frames_to_events
from neuroav.events.types import Bins
from neuroav.kernels import camera as full

PARITY = Path(__file__).resolve().parents[1] / "parity"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning"),  # of CuPy and what it imports
]


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _load(PARITY / "test_camera_cuda_on_cpu.py")
CAMERAS = {
    "ideal": EventCamera(),
    "clean": EventCamera.preset("clean"),
    "noisy, hold": EventCamera.preset("noisy").replace(refractory_us=3000, refractory="hold"),
    "v2e, blind": EventCamera.preset("v2e").replace(refractory="blind", leak_hz=5.0, shot_hz=9.0),
    "photoreceptor": EventCamera(photoreceptor_hz=5.0, cutoff_hz=200.0, poles=2, hot_fraction=0.01, dead_fraction=0.01),
    "at frames": EventCamera(timestamps="frame"),
    "on v2e's grid": EventCamera(timestamps="v2e"),
}


@pytest.fixture(autouse=True)
def _cupy():
    pytest.importorskip("cupy", reason="CuPy is not installed")


def _cuda(tensors):
    return [tensor.cuda() for tensor in tensors]


def _frames(is_float=False, size=(83, 121)):
    generator = torch.Generator().manual_seed(5)
    moves = torch.randint(-15, 16, (20, *size), generator=generator).cumsum(0)
    greys = (torch.randint(0, 256, size, generator=generator) + moves).clamp(0, 255)
    return (greys + 1.0).log() if is_float else greys.to(torch.uint8)


T_US = torch.arange(20) * 33_367 + 5


@pytest.mark.parametrize("is_float", [False, True], ids=["grey", "float"])
@pytest.mark.parametrize("case", cases.CASES)
def test_ops_equal_the_cpu(case, is_float):
    clip, sensor, numbers, state = cases._arguments(*cases.CASES[case], size=(45, 71), is_float=is_float)
    op = torch.ops.neuroav.camera_events
    *columns, moved = op(list(clip), list(sensor), numbers, list(state), True)
    *columns_cuda, moved_cuda = op(_cuda(clip), _cuda(sensor), numbers, _cuda(state), True)
    for got, want in zip([*columns_cuda, *moved_cuda], [*columns, *moved], strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize("is_float", [False, True], ids=["grey", "float"])
@pytest.mark.parametrize("camera", CAMERAS)
def test_frames_on_the_gpu_give_the_events_of_the_cpu(camera, is_float):
    frames = _frames(is_float)
    want, end = frames_to_events(frames, T_US, CAMERAS[camera], labels=True)
    state, parts = None, []
    for part, t_us in zip(frames.cuda().split(7), T_US.split(7), strict=True):
        events, state = frames_to_events(part, t_us, CAMERAS[camera], state=state, labels=True)
        parts.append(events)
    assert len(want) > 0
    for name in ("t_us", "x", "y", "p", "is_noise"):
        got = torch.cat([getattr(events, name) for events in parts])
        assert got.is_cuda
        assert torch.equal(got.cpu(), getattr(want, name))
    assert torch.equal(state.reference.cpu(), end.reference)


@pytest.mark.parametrize("kind", ["counts", "voxels", "latest"])
@pytest.mark.parametrize("camera", ["ideal", "noisy, hold"])
def test_fused_bins_equal_the_cpu(camera, kind):
    bins = Bins(kind, torch.linspace(int(T_US[0]), int(T_US[-1]), 6).long(), (8, 12))
    want, _ = bin_frames(_frames(), T_US, bins, CAMERAS[camera])
    got, _ = bin_frames(_frames().cuda(), T_US, bins, CAMERAS[camera])
    assert torch.equal(got.cpu(), want)


def test_bins_of_the_full_model_in_a_cuda_graph():
    clip, sensor, numbers, state = cases._arguments(*cases.CASES["everything, advance"], size=(45, 71))
    numbers = [*numbers[:-2], 0, 0]
    bins = (0, clip[2][[0, 2, 5]].contiguous(), 9, 9)
    want, _ = full.camera_bins(
        full.Clip(*clip), full.Sensor(*sensor), full.Numbers(*numbers), full.State(*state), *bins
    )
    arguments = (_cuda(clip), _cuda(sensor), numbers, _cuda(state), bins[0], bins[1].cuda(), *bins[2:])
    torch.ops.neuroav.camera_bins(*arguments)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        values, _ = torch.ops.neuroav.camera_bins(*arguments)
    graph.replay()
    assert torch.equal(values.cpu(), want)
