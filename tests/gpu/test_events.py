"""Events and bins on a CUDA device: the arrays of the CPU, bit for bit, on any stream, in CUDA graphs, beyond 2^31."""

from pathlib import Path

import pytest
import torch
from by_path import load

from neuroav.kernels import bins as list_bins
from neuroav.kernels import clips, events

PARITY = Path(__file__).resolve().parents[1] / "parity"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning"),  # of CuPy and what it imports
]


cases = load(PARITY / "test_events.py")
bin_cases = load(PARITY / "test_cuda_on_cpu.py")


def _cuda(arguments):
    return tuple(a.cuda() if isinstance(a, torch.Tensor) else a for a in arguments)


def _assert_same(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got.cpu(), want.cpu())


@pytest.mark.parametrize("case", cases.CASES)
def test_events_equal_the_cpu(case):
    arguments = cases._op_arguments(case)
    _assert_same(events.contrast_events(*_cuda(arguments)), events.contrast_events(*arguments))


@pytest.mark.parametrize("grid", [(2, 3), (16, 16), "sensor"])
@pytest.mark.parametrize("kind", bin_cases.BINS)
@pytest.mark.parametrize("case", ["random", "several tiles", "irregular times"])
def test_bins_equal_the_cpu(case, kind, grid):
    arguments = cases._op_arguments(case)
    bins = bin_cases._bins(arguments, kind, grid)
    expected = events.contrast_bins(*arguments, *bins)
    _assert_same(events.contrast_bins(*_cuda((*arguments, *bins))), expected)
    columns = events.contrast_events(*arguments)[:4]
    list_arguments = (*columns, *arguments[0].shape[1:], *bins)
    _assert_same([list_bins.bin_events(*_cuda(list_arguments))], expected[:1])


@pytest.mark.parametrize("size", [(180, 240), (260, 346), (61, 83)])
def test_a_batch_equals_its_clips(size):
    arguments = _batch(4, 30, *size)
    *columns, number, level, last = clips.contrast_events_clips(*_cuda(arguments))
    want = clips.contrast_events_clips(*arguments)
    _assert_same((*columns, number, level, last), want)
    bins = (0, arguments[1][:, ::7].contiguous(), 16, 16)
    expected = clips.contrast_bins_clips(*arguments, *bins)
    _assert_same(clips.contrast_bins_clips(*_cuda((*arguments, *bins))), expected)


def _batch(count, num_frames, height, width, spread=12):
    frames = torch.stack([cases._random(seed, num_frames, height, width, spread) for seed in range(count)])
    edges = torch.stack([torch.arange(num_frames) * gap for gap in range(20_000, 20_000 + count)])
    _, _, table, on, off, _, _ = cases._op_arguments("random")
    first = table[frames[:, 0].long()]
    return frames[:, 1:].contiguous(), edges, table, on, off, first, first


def test_many_events_in_one_frame():
    """Every pixel fires about 30 times at once: the sort of one frame takes hundreds of batches."""
    frames = (torch.arange(3) % 2 * 255).to(torch.uint8)[:, None, None].repeat(1, 500, 700)
    table = cases._op_arguments("random")[2]
    first = table[frames[0].long()]
    arguments = (frames[1:], torch.tensor([0, 40_000, 90_000]), table, 12_000, 11_000, first, first)
    _assert_same(events.contrast_events(*_cuda(arguments)), events.contrast_events(*arguments))


def test_more_than_two_to_the_31_pixels():
    """A step in the last frame alone: its time, place and number are known, and lie beyond 32-bit indices."""
    height, width, num_frames = 720, 1280, 2340
    assert height * width * num_frames > 1 << 31
    free, _ = torch.cuda.mem_get_info()
    if free < 4 << 30:
        pytest.skip("needs 4 GiB of free GPU memory")
    _, _, table, *_ = cases._op_arguments("random")
    frames = torch.full((num_frames, height, width), 10, dtype=torch.uint8, device="cuda")
    frames[-1, 719, 1270:] = 20
    edges = torch.arange(num_frames + 1, device="cuda") * 1000
    first = table.cuda()[torch.full((height, width), 10, device="cuda")]
    step = int(table[20] - table[10])
    arguments = (frames, edges, table.cuda(), step // 3, step // 3, first, first)
    t_us, x, y, p, level, _ = events.contrast_events(*arguments)
    assert len(t_us) == 30
    assert int(t_us.min()) > (num_frames - 1) * 1000
    assert sorted(set(x.tolist())) == list(range(1270, 1280))
    assert set(y.tolist()) == {719}
    assert bool((p == 1).all())
    assert int((level != first).sum()) == 10
    counts, *_ = events.contrast_bins(*arguments, 0, edges[[0, -2, -1]], 720, 1280)
    assert int(counts[0].sum()) == 0
    assert counts[1, 1, 719, 1270:].tolist() == [3] * 10


def test_fused_bins_in_a_cuda_graph():
    arguments, others = _batch(2, 20, 120, 160), _batch(2, 20, 120, 160, spread=40)
    bins = (0, arguments[1][:, ::4].contiguous(), 16, 16)
    static = _cuda((*arguments, *bins))
    clips.contrast_bins_clips(*static)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = clips.contrast_bins_clips(*static)
    for batch in (arguments, others):
        static[0].copy_(batch[0])
        static[5].copy_(batch[5])
        static[6].copy_(batch[6])
        graph.replay()
        _assert_same(captured, clips.contrast_bins_clips(*batch, *bins))


def test_work_goes_to_the_current_stream():
    """Frames appear on a side stream after a long wait: an op on any other stream would read them too early."""
    arguments = _batch(1, 10, 100, 100)
    bins = (0, arguments[1][:, ::3].contiguous(), 4, 4)
    expected = clips.contrast_bins_clips(*arguments, *bins), clips.contrast_events_clips(*arguments)
    static = _cuda((*arguments, *bins))
    late = torch.zeros_like(static[0])
    clips.contrast_bins_clips(*static)  # compiles
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # cycles, about 0.1 s
        late.copy_(static[0])
        actual = clips.contrast_bins_clips(late, *static[1:]), clips.contrast_events_clips(late, *static[1:7])
    stream.synchronize()
    for got, want in zip(actual, expected, strict=True):
        _assert_same(got, want)


def test_memory_is_that_of_the_events():
    arguments = _cuda(_batch(2, 20, 240, 320))
    clips.contrast_events_clips(*arguments)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    t_us, *_ = clips.contrast_events_clips(*arguments)
    state_bytes = 2 * 4 * arguments[5].numel()
    assert torch.cuda.max_memory_allocated() - before < 21 * len(t_us) + state_bytes + (4 << 20)


def test_ops_pass_torch_checks():
    arguments = _cuda(cases._op_arguments("random"))
    torch.library.opcheck(torch.ops.neuroav.contrast_events.default, arguments)
    bins = (0, arguments[1][::3].contiguous(), 4, 4)
    torch.library.opcheck(torch.ops.neuroav.contrast_bins.default, (*arguments, *bins))
