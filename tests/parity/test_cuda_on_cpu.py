"""The CUDA kernels, run thread by thread on a CPU, give the arrays of the PyTorch reference."""

import contextlib
import shutil
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from by_path import load
from cuda_on_cpu import CudaOnCpu, compile_with_nvrtc, find_nvrtc

from neuroav.events import generate
from neuroav.kernels import cuda, reference

HERE = Path(__file__).resolve().parent
HELPERS = HERE.parent / "helpers"


event_cases = load(HERE / "test_events.py")

BACKWARDS, SHUFFLED = 1, 2  # orders in which threads run
BINS = {
    "counts": (0, lambda t: t[::3]),
    "counts across frames": (0, lambda t: torch.linspace(int(t[0]) - 9, int(t[-1]) + 9, 6).long()),
    "counts, outside and empty bins": (0, lambda t: torch.stack([t[1], t[1], t[-2], t[-1] + 1, t[-1] + 5])),
    "voxels": (1, lambda t: torch.linspace(int(t[0]), int(t[-1]) - 7, 5).long()),
    "latest": (2, lambda t: t[::2]),
    "latest across frames": (2, lambda t: torch.linspace(int(t[0]) + 9, int(t[-1]) + 9, 4).long()),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on the PATH")
    return CudaOnCpu(["events", "sort", "bins", HELPERS / "broken.cu"], tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def gpu(machine, monkeypatch):
    machine.order, machine.launched = 0, []
    monkeypatch.setattr(cuda, "launch", machine.launch)
    return machine


def _assert_same(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def _bins(arguments, kind, grid=(16, 16)):
    code, edges = BINS[kind]
    return code, edges(arguments[1]).contiguous(), *(arguments[0].shape[1:] if grid == "sensor" else grid)


@pytest.mark.parametrize("case", event_cases.CASES)
def test_events_equal_the_reference(gpu, case):
    arguments = event_cases._op_arguments(case)
    _assert_same(cuda.contrast_events(*arguments), reference.contrast_events(*arguments))
    assert gpu.launched[:2] == ["index_greys", "count_events"]


@pytest.mark.parametrize("grid", [(2, 3), (16, 16), "sensor"])
@pytest.mark.parametrize("kind", BINS)
@pytest.mark.parametrize("case", ["random", "several tiles", "irregular times"])
def test_bins_equal_the_reference(gpu, case, kind, grid):
    arguments = event_cases._op_arguments(case)
    bins = _bins(arguments, kind, grid)
    expected = reference.contrast_bins(*arguments, *bins)
    _assert_same(cuda.contrast_bins(*arguments, *bins), expected)
    columns = reference.contrast_events(*arguments)[:4]
    _assert_same([cuda.bin_events(*columns, *arguments[0].shape[1:], *bins)], expected[:1])


@pytest.mark.parametrize("order", [BACKWARDS, SHUFFLED, 3])
@pytest.mark.parametrize("case", ["random", "several tiles"])
def test_no_order_of_threads_and_blocks_matters(gpu, case, order):
    gpu.order = order
    arguments = event_cases._op_arguments(case)
    bins = _bins(arguments, "counts across frames")
    _assert_same(cuda.contrast_events(*arguments), reference.contrast_events(*arguments))
    _assert_same(cuda.contrast_bins(*arguments, *bins), reference.contrast_bins(*arguments, *bins))


@pytest.mark.parametrize("size", [(32, 40), (24, 31), (17, 33)], ids=["16 bytes", "4 bytes", "1 byte"])
def test_a_batch_equals_its_clips(gpu, size):
    """Clips of a batch begin at places of every alignment, and some tiles are shared by none."""
    frames = torch.stack([event_cases._random(seed, 5, *size, spread=60) for seed in range(3)])
    _, _, table, on, off, _, _ = event_cases._op_arguments("random")
    edges = torch.tensor([[0, 9, 30, 31, 90], [-5, 1, 2, 3, 70_000], [7, 8, 9, 10, 11]])
    first = table[frames[:, 0].long()]
    arguments = (frames[:, 1:], edges, table, on, off, first, first)
    t_us, x, y, p, number, level, last = cuda.contrast_events_clips(*arguments)
    bin_edges = edges[:, ::2].contiguous()
    values, *state = cuda.contrast_bins_clips(*arguments, 0, bin_edges, 4, 5)
    columns = zip(*(column.split(number.tolist()) for column in (t_us, x, y, p)), strict=True)
    for clip, events in enumerate(columns):
        alone = (frames[clip, 1:], edges[clip], table, on, off, first[clip], first[clip])
        _assert_same((*events, level[clip], last[clip]), reference.contrast_events(*alone))
        expected = reference.contrast_bins(*alone, 0, bin_edges[clip], 4, 5)
        _assert_same((values[clip], state[0][clip], state[1][clip]), expected)


def test_clips_of_equal_size_share_a_launch(gpu, monkeypatch):
    """From the public function down to the kernels; what has another size or length gets a launch of its own."""
    monkeypatch.setattr(generate, "_on_gpu", lambda frames: True)
    monkeypatch.setattr(generate.batched, "contrast_events_clips", cuda.contrast_events_clips)
    monkeypatch.setattr(generate.ideal, "contrast_events", cuda.contrast_events)
    shapes = [(5, 17, 33), (4, 17, 33), (5, 17, 33), (5, 24, 31), (5, 17, 33)]
    given = [
        (event_cases._random(i, *shape, spread=60), torch.arange(shape[0]) * 997) for i, shape in enumerate(shapes)
    ]
    found, states = generate.clips_to_events(given)
    assert gpu.launched.count("count_events") == gpu.launched.count("sort_events") == 3
    later = [(frames.flip(0), t_us + 10**6) for frames, t_us in given]
    more, last = generate.clips_to_events(later, states=states)
    monkeypatch.undo()
    for clip, again, *got in zip(given, later, found, states, more, last, strict=True):
        first, state = generate.frames_to_events(*clip)
        second, end = generate.frames_to_events(*again, state=state)
        assert min(len(first), len(second)) > 0
        for one, other in zip(got, (first, state, second, end), strict=True):
            tensors = {name: value for name, value in vars(other).items() if isinstance(value, torch.Tensor)}
            _assert_same([getattr(one, name) for name in tensors], tensors.values())


def test_no_frames_leave_the_state(gpu):
    frames, edges, *rest = event_cases._op_arguments("several tiles")
    *columns, level, last = cuda.contrast_events(frames[:0], edges[:1], *rest)
    assert [len(column) for column in columns] == [0, 0, 0, 0]
    _assert_same((level, last), rest[-2:])
    bins = (0, edges[:2].contiguous(), 3, 3)
    _assert_same(cuda.contrast_bins(frames[:0], edges[:1], *rest, *bins)[1:], rest[-2:])


def test_list_bins_leave_out_what_lies_outside(gpu):
    t_us, ones = torch.tensor([1, 2, 3, 4]), torch.ones(4)
    x, y = torch.tensor([0, -1, 5, 1]).short(), torch.tensor([0, 0, 0, 4]).short()
    values = cuda.bin_events(t_us, x, y, ones.byte(), 4, 5, 0, torch.tensor([0, 9]), 1, 1)
    assert values.flatten().tolist() == [0, 1]


# ---------------------------------------------------------------------------------------------------------------- sort


@pytest.mark.parametrize("longest_us", [1, 300, 40_000, 1 << 20, (1 << 32) - 1])
def test_sort_is_stable_and_takes_the_columns_apart(gpu, longest_us):
    generator = torch.Generator().manual_seed(longest_us)
    sizes = [5000, 0, 1, 4096, 8193]
    edges = torch.tensor([[100, 100 + longest_us, *(100 + longest_us + i for i in range(1, 5))]])
    values = torch.randint(1, longest_us + 1, (40,), generator=generator)
    records = torch.empty(0, dtype=torch.int64)
    expected = []
    for size, start in zip(sizes, edges[0], strict=False):
        offset = values[torch.randint(0, 40, (size,), generator=generator)]  # few values, so that many are equal
        place = torch.arange(size) * 2 + 1
        records = torch.cat([records, offset << 32 | place])
        offset, order = offset.sort(stable=True)
        expected.append(torch.stack([start + offset, place[order] >> 1 & 0x7FFF]))
    passes = -(-longest_us.bit_length() // 9)
    bits = -(-longest_us.bit_length() // passes)
    spare, total = torch.empty_like(records), len(records)
    x, y, p = torch.empty(total).short(), torch.empty(total).short(), torch.empty(total).byte()
    t_us = spare if passes % 2 else records
    ends = torch.tensor(sizes).cumsum(0)
    gpu.launch("sort", "sort_events", 5, 512, records, spare, ends, edges, 5, 1, passes, bits, t_us, x, y, p, None)
    expected = torch.cat(expected, dim=1)
    assert torch.equal(t_us, expected[0])
    assert torch.equal(x.long(), expected[1])
    assert bool((p == 1).all())


# -------------------------------------------------------------------------------------------------- the stand-in itself


def _run_broken(machine, kernel, order=0, values=64):
    machine.order = order
    out = torch.zeros(values, dtype=torch.int64)
    machine.launch(HELPERS / "broken.cu", kernel, 1, 64, out)
    return out


def test_a_missing_barrier_shows(machine):
    expected = (torch.arange(64) + 1) % 64
    assert all(torch.equal(_run_broken(machine, "with_barrier", order), expected) for order in range(3))
    assert not all(torch.equal(_run_broken(machine, "no_barrier", order), expected) for order in range(3))


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        ("half_a_warp", "waits for a thread that has left"),
        ("two_functions", "wait for each other in different functions"),
        ("wrong_mask", "lane not in its mask"),
    ],
)
def test_misused_warp_functions_are_errors(machine, kernel, problem):
    with pytest.raises(RuntimeError, match=problem):
        _run_broken(machine, kernel)


def test_wrong_calls_are_errors(machine):
    with pytest.raises(RuntimeError, match="no such kernel"):
        machine.launch("events", "nothing", 1, 32)
    with pytest.raises(RuntimeError, match="wrong number of arguments"):
        machine.launch("events", "index_greys", 1, 32)


def test_warp_functions_return_what_cuda_says(machine):
    out = _run_broken(machine, "warp_functions", values=64 * 8).reshape(2, 32, 8)
    for lane in range(32):
        peers = sum(1 << other for other in range(32) if other // 10 == lane // 10)
        low = (lane & -lane).bit_length()
        expected = [lane - 3 if lane >= 3 else lane, lane ^ 5, 7, sum(1 << i for i in range(0, 32, 3)), 0, peers]
        expected += [sum(range(8)) if lane < 8 else sum(range(8, 32)), lane.bit_count() * 100 + low]
        assert out[0, lane].tolist() == out[1, lane].tolist() == expected


# ------------------------------------------------------------------------------------------------------ the way to CuPy


@pytest.fixture
def _fresh_choice(monkeypatch):
    monkeypatch.delenv("NEUROAV_KERNELS", raising=False)
    cuda.available.cache_clear()
    yield
    cuda.available.cache_clear()


@pytest.mark.usefixtures("_fresh_choice")
def test_missing_cupy_is_said_once_and_the_reference_answers(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.warns(UserWarning, match=r"PyTorch reference is used.*pip install 'neuroav\[cuda\]'"):
        assert not cuda.available()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not cuda.available()


@pytest.mark.usefixtures("_fresh_choice")
def test_the_reference_can_be_chosen_in_silence(monkeypatch):
    monkeypatch.setenv("NEUROAV_KERNELS", "reference")
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    assert not cuda.available()


def test_description_says_what_cuda_tensors_get(monkeypatch):
    monkeypatch.delenv("NEUROAV_KERNELS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(__version__="14.0"))
    assert cuda.describe() == "CuPy 14.0, compiled at first use"
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "pip install" in cuda.describe()
    monkeypatch.setenv("NEUROAV_KERNELS", "reference")
    assert "NEUROAV_KERNELS" in cuda.describe()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in cuda.describe()


def _fake_cupy(calls):
    class RawModule:
        def __init__(self, *, code, options):
            calls.append(("module", code, options))

        def get_function(self, name):
            calls.append(("function", name))
            return lambda grid, block, args: calls.append((name, grid, block, args))

    @contextlib.contextmanager
    def device(index):
        calls.append(("device", index))
        yield

    def from_external(stream):
        calls.append(("stream", *stream.__cuda_stream__()))
        return contextlib.nullcontext()

    names = types.SimpleNamespace(Device=device, Stream=types.SimpleNamespace(from_external=from_external))
    return types.SimpleNamespace(RawModule=RawModule, cuda=names)


@pytest.fixture
def _nothing_compiled():
    for cached in (cuda._module, cuda._kernel):
        cached.cache_clear()
    yield
    for cached in (cuda._module, cuda._kernel):
        cached.cache_clear()


@pytest.mark.usefixtures("_nothing_compiled")
def test_a_launch_goes_to_torchs_stream_with_64_bit_arguments(monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "cupy", _fake_cupy(calls))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=77))
    tensor = torch.zeros(3)
    cuda.launch("events", "count_events", 5, 256, tensor, None, 1 << 40, 0.5)
    cuda.launch("events", "write_events", 5, 256, tensor)
    cuda.launch("events", "write_events", 5, 256, tensor)
    (kind, code, options), *rest = (call for call in calls if call[0] not in ("device", "stream", "function"))
    assert kind == "module"
    assert "count_events(" in code
    folders = [Path(option[2:]) for option in options if option.startswith("-I")]
    assert (folders[0] / "contrast.h").is_file()
    assert (folders[1] / "detect.cuh").is_file()
    assert [call[:3] for call in rest] == [("count_events", (5,), (256,)), *2 * [("write_events", (5,), (256,))]]
    assert calls.count(("function", "write_events")) == 1
    values = rest[0][3]
    assert values == (tensor.data_ptr(), 0, 1 << 40, 0.5)
    assert [value.dtype.name for value in values] == ["int64", "int64", "int64", "float64"]
    assert "-fmad=false" in options
    assert ("stream", 0, 77) in calls


@pytest.mark.usefixtures("_nothing_compiled")
def test_changed_headers_are_compiled_anew(monkeypatch, tmp_path):
    """CuPy's cache on disk does not look into included files, so the options must change with them."""
    calls = []
    monkeypatch.setitem(sys.modules, "cupy", _fake_cupy(calls))
    shutil.copytree(cuda._sources(), tmp_path / "csrc")
    monkeypatch.setattr(cuda, "_sources", lambda: tmp_path / "csrc")
    for header in ("", "common/contrast.h", "cuda/detect.cuh"):
        if header:
            with (tmp_path / "csrc" / header).open("a", encoding="utf-8") as file:
                file.write("\n// changed\n")
        cuda._module.cache_clear()
        cuda._module("events", 0)
    assert len({options for _, _, options in calls}) == 3


@pytest.mark.parametrize("source", sorted(path.stem for path in (cuda._sources() / "cuda").glob("*.cu")))
def test_nvrtc_compiles(source):
    """What CuPy does, without CuPy: no host headers, and functions without a mark belong to the GPU."""
    nvrtc = find_nvrtc()
    if nvrtc is None:
        pytest.skip("no libnvrtc beside PyTorch or in the library path")
    folder = cuda._sources()
    options = [f"-I{folder / 'common'}", f"-I{folder / 'cuda'}", "-arch=sm_90", "-std=c++17"]
    options += ["--device-as-default-execution-space", "-ftz=true"]
    code = (folder / "cuda" / f"{source}.cu").read_text(encoding="utf-8")
    log = compile_with_nvrtc(nvrtc, code, options)
    assert log == ""
