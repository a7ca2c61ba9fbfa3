"""The full camera model, and the public functions, on a CUDA device: the results of the CPU, bit for bit."""

from pathlib import Path

import pytest
import torch
from by_path import load

from neuroav.events.camera import EventCamera
from neuroav.events.generate import bin_frames, clips_to_events, frames_to_events
from neuroav.events.types import Bins
from neuroav.kernels import camera as full

PARITY = Path(__file__).resolve().parents[1] / "parity"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning"),  # of CuPy and what it imports
]


cases = load(PARITY / "test_camera_cuda_on_cpu.py")
CAMERAS = {
    "ideal": EventCamera(),
    "clean": EventCamera.preset("clean"),
    "noisy, hold": EventCamera.preset("noisy").replace(refractory_us=3000, refractory="hold"),
    "v2e, blind": EventCamera.preset("v2e").replace(refractory="blind", leak_hz=5.0, shot_hz=9.0),
    "photoreceptor": EventCamera(photoreceptor_hz=5.0, cutoff_hz=200.0, poles=2, hot_fraction=0.01, dead_fraction=0.01),
    "at frames": EventCamera(timestamps="frame"),
    "on v2e's grid": EventCamera(timestamps="v2e"),
}


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


@pytest.mark.parametrize("camera", ["ideal", "at frames", "on v2e's grid", "noisy, hold"])
def test_clips_on_the_gpu_give_the_events_of_the_cpu(camera):
    """In the callers' order, the state carried over; the work goes to the caller's stream, where frames appear late."""
    shapes = [(9, 0), (7, 40), (9, 3), (9, 0), (7, 40), (1, 0)]  # frames, first column
    clips = [(_frames()[:count, :, column:].contiguous(), T_US[:count] + count) for count, column in shapes]
    later = [(frames.flip(0), t_us + 10**6) for frames, t_us in clips]
    want = clips_to_events(clips, CAMERAS[camera], labels=True)
    want_later = clips_to_events(later, CAMERAS[camera], states=want[1], labels=True)
    on_gpu = [(frames.cuda(), t_us) for frames, t_us in clips]
    clips_to_events(on_gpu, CAMERAS[camera])  # compiles
    late = [(torch.zeros_like(frames), t_us) for frames, t_us in on_gpu]
    torch.cuda.synchronize()
    threads, stream = torch.get_num_threads(), torch.cuda.Stream()
    torch.set_num_threads(2)
    try:
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)  # cycles, about 0.1 s
            for (frames, _), (source, _) in zip(late, on_gpu, strict=True):
                frames.copy_(source)
            got = clips_to_events(late, CAMERAS[camera], labels=True)
            again = [(frames.cuda(), t_us) for frames, t_us in later]
            got_later = clips_to_events(again, CAMERAS[camera], states=got[1], labels=True)
        stream.synchronize()
    finally:
        torch.set_num_threads(threads)
    for events, expected in zip([*got[0], *got_later[0]], [*want[0], *want_later[0]], strict=True):
        for name in ("t_us", "x", "y", "p", "is_noise"):
            column = getattr(events, name)
            assert column.is_cuda
            assert torch.equal(column.cpu(), getattr(expected, name))
    for state, expected in zip(got_later[1], want_later[1], strict=True):
        assert torch.equal(state.reference.cpu(), expected.reference)
        assert torch.equal(state.last.cpu(), expected.last)


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
