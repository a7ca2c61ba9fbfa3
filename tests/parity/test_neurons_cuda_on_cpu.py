"""The CUDA kernels of the neurons, run thread by thread on a CPU, give the reference's arrays and the CPU's bits."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from by_path import load
from cuda_on_cpu import CudaOnCpu
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuroav.kernels import cpu, cuda, cuda_neurons, neurons, reference

BACKWARDS, SHUFFLED = 1, 2  # orders in which threads run
needs_extension = pytest.mark.skipif(not cpu.available(), reason=cpu.describe())


cases = load(Path(__file__).with_name("test_neurons.py"))
Case, SURROGATES = cases.Case, cases.SURROGATES
TYPES = ("float32", "float64", "bfloat16", "float16")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on the PATH")
    return CudaOnCpu([f"neurons_{name}" for name in TYPES], tmp_path_factory.mktemp("neurons"))


@pytest.fixture
def gpu(machine, monkeypatch):
    machine.order, machine.launched = 0, []
    monkeypatch.setattr(cuda, "launch", machine.launch)
    return machine


def _forward(case, inputs, keep):
    return neurons._dynamic_lif_cuda(*inputs, case.left(), *case.options, keep)


def _back_arguments(case, inputs, kept, keep, grads, needs=(True, True, True)):
    grad_spikes, grad_v, grad_h = grads
    x, theta, v0, decay = inputs
    return (
        grad_spikes, grad_v, grad_h if keep == 1 else None, x, *kept, theta, v0, decay, case.left(), *case.options,
        keep, case.dtype, *needs,
    )  # fmt: skip


def _assert_same(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        assert got.is_contiguous()
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def _check(case, inputs, keep, grads):
    """Outputs equal the reference's bit for bit, and gradients closely."""
    expected = reference.lif_forward(*inputs, case.left(), *case.dynamics, keep)
    actual = _forward(case, inputs, keep)
    _assert_same(actual, expected)
    arguments = _back_arguments(case, inputs, actual[3:], keep, grads)
    _close(case, neurons._dynamic_lif_backward_cuda(*arguments), reference.lif_backward(*arguments))


def _close(case, actual, expected):
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(case.dtype, 1e-2)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.numel():
            cases.assert_close(one.double(), other.double(), tolerance if one.dtype == case.dtype else 1e-5)


# Of both kinds of kernels: 128 and 260 neurons are some for each lane of a warp, and other warps with fewer.
WIDE = [
    replace(case, size=size, dtype=dtype)
    for case, size, dtype in zip(
        cases.OPTIONS[::4],
        7 * [(3, 2, 128), (1, 9, 260), (4, 1, 132), (2, 17, 128)],
        7 * [torch.float32, torch.bfloat16, torch.float64, torch.float16],
        strict=True,
    )
]


def _name(case):
    return f"{cases.name(case)}-{str(case.dtype)[6:]}"


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize("case", [*WIDE, *cases.SIZES[:32:3]], ids=_name)
def test_kernels_are_the_reference(gpu, case, keep):
    if keep:
        _check(case, case.inputs(), keep, case.output_grads())
    else:
        inputs = case.inputs()
        _assert_same(_forward(case, inputs, 0), reference.lif_forward(*inputs, case.left(), *case.dynamics, 0))
    assert all(("wide" in kernel) == (case in WIDE) for kernel in gpu.launched)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=cases.any_case(
        st.tuples(st.integers(0, 5), st.integers(0, 10), st.sampled_from([0, 1, 2, 31, 33, 70, 128, 136]))
    ),
    layout=st.sampled_from(sorted(cases.LAYOUTS)),
    keep=st.integers(1, 4),
    order=st.integers(0, 3),
)
def test_any_options_give_the_references_bits_and_gradients(gpu, case, layout, keep, order):
    gpu.order = order
    lay_out = cases.LAYOUTS[layout]
    inputs = [lay_out(each) if each.dim() > 1 and each.numel() else each for each in case.inputs()]
    grads = [lay_out(each) if each.numel() else each for each in case.output_grads()]
    _check(case, inputs, keep, grads)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf, 1e-40])
@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("keep", [1, 2])
def test_odd_numbers_come_out_as_from_the_reference(gpu, odd, hard, keep):
    case = Case(size=(5, 3, 130), hard=hard, v_rest=0.0)
    x, theta, v0, decay = case.inputs()
    x[..., ::3] = odd
    theta[1, :, ::4] = odd
    inputs = x, theta, v0, decay
    expected = reference.lif_forward(*inputs, case.left(), *case.dynamics, keep)
    _assert_same(_forward(case, inputs, keep), expected)


# ------------------------------------------------------------------------------------------------ beside the CPU kernel


@needs_extension
@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("case", [*cases.OPTIONS[::3], *WIDE], ids=_name)
def test_no_bit_differs_from_the_cpu(gpu, case, keep):
    """Gradients that are sums differ in their order; all else is the same arithmetic."""
    case = replace(case, surrogate=SURROGATES[0]) if case.dtype == torch.float64 else case
    inputs = case.inputs()
    outputs = torch.ops.neuroav.dynamic_lif(*inputs, case.left(), *case.options, keep)
    _assert_same(_forward(case, inputs, keep), outputs)
    for needs in ((True, True, True), (False, True, False)):
        arguments = _back_arguments(case, inputs, outputs[3:], keep, case.output_grads(), needs)
        expected = torch.ops.neuroav.dynamic_lif_backward(*arguments)
        actual = neurons._dynamic_lif_backward_cuda(*arguments)
        _assert_same(actual[::2], expected[::2])  # of x and v0
        if not needs[0]:
            _assert_same(actual[1::2], expected[1::2])  # empty
        elif case.theta == "TBN":
            _assert_same(actual[1:2], expected[1:2])
        _close(case, actual, expected)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_number_is_read_and_written_as_on_the_cpu(gpu, dtype):
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 1, -1)
    generator = torch.Generator().manual_seed(0)
    grad = torch.randint(-(1 << 31), 1 << 31, x.shape, generator=generator, dtype=torch.int64).int().view(torch.float32)
    options = (0.0, True, False, True, 0, True, 0, 2.0, 1.0, 1)
    one, never = torch.ones(1), torch.full((1, 1, 1), torch.inf)
    outputs = neurons._dynamic_lif_cuda(x, never, None, one, None, *options)
    torch.testing.assert_close(outputs[3], x.float(), rtol=0, atol=0, equal_nan=True)
    none = torch.zeros(1, 1, 1, dtype=dtype).expand(x.shape)
    kept = torch.zeros_like(outputs[3]), outputs[4]
    arguments = (none, None, grad, x, *kept, never, None, one, None, *options, dtype, False, False, False)
    written, *_ = neurons._dynamic_lif_backward_cuda(*arguments)
    torch.testing.assert_close(written, grad.to(dtype), rtol=0, atol=0, equal_nan=True)


# -------------------------------------------------------------------------------------------- threads, memory, launches


@pytest.mark.parametrize("theta", ["TB", "TN", "T", "N", ""])
def test_no_order_of_threads_matters_to_any_bit(gpu, theta):
    case = Case(size=(3, 19, 300), theta=theta, hard=False, tau_per_neuron=len(theta) == 2, refractory=2)
    inputs, grads, results = case.inputs(), case.output_grads(), []
    for gpu.order in (0, BACKWARDS, SHUFFLED):
        outputs = _forward(case, inputs, 2)
        back = neurons._dynamic_lif_backward_cuda(*_back_arguments(case, inputs, outputs[3:], 2, grads))
        results.append((*outputs, *back))
    for other in results[1:]:
        _assert_same(other, results[0])


@pytest.mark.parametrize("theta", ["TB", "TN", "N", ""])
@pytest.mark.parametrize("size", [(5, 37, 132), (5, 37, 70)], ids=["wide", "scalar"])
def test_blocks_that_take_turns_give_the_same_bits(gpu, monkeypatch, theta, size):
    case = Case(size=size, theta=theta, hard=False, tau_per_neuron=theta == "N", refractory=1)
    inputs = case.inputs()
    outputs = _forward(case, inputs, 2)
    arguments = _back_arguments(case, inputs, outputs[3:], 2, case.output_grads())
    at_once = neurons._dynamic_lif_backward_cuda(*arguments)
    monkeypatch.setattr(cuda_neurons, "_TURNS", 3)
    _assert_same(neurons._dynamic_lif_backward_cuda(*arguments), at_once)
    _close(case, at_once, reference.lif_backward(*arguments))


@pytest.mark.parametrize("size", [(4, 5, 130), (4, 5, 129), (2, 9, 7)], ids=["wide", "odd", "small"])
@pytest.mark.parametrize("keep", [1, 2])
def test_nothing_is_written_beside_the_outputs(gpu, monkeypatch, size, keep):
    guarded = []

    def new(like, shape, dtype):
        size = torch.Size(shape).numel()
        whole = torch.full((size + 512,), 77, dtype=dtype, device=like.device)
        guarded.append(whole)
        return whole[256 : 256 + size].view(shape)

    monkeypatch.setattr(neurons, "_new", new)
    case = Case(size=size, theta="TB", dtype=torch.float16, refractory=1)
    inputs = case.inputs()
    outputs = _forward(case, inputs, keep)
    neurons._dynamic_lif_backward_cuda(*_back_arguments(case, inputs, outputs[3:], keep, case.output_grads()))
    assert len(guarded) == 3
    assert all((whole[:256] == 77).all() and (whole[-256:] == 77).all() for whole in guarded)


@pytest.mark.parametrize("theta", ["", "TB", "TBN"])
@pytest.mark.parametrize("shift", [0, 1])
def test_arrays_between_two_alignments_are_read_one_by_one(gpu, theta, shift):
    case = Case(size=(3, 2, 128), theta=theta)
    inputs = [torch.cat([each.new_zeros(shift), each.flatten()])[shift:].view(each.shape) for each in case.inputs()]
    _assert_same(_forward(case, inputs, 1), reference.lif_forward(*inputs, case.left(), *case.dynamics, 1))
    assert gpu.launched == ["lif_forward_float32" + ("" if shift else "_wide")]


def test_a_threshold_along_rows_of_odd_length_is_not_read_wide(gpu):
    case = Case(size=(3, 2, 128))
    x, theta, v0, decay = case.inputs()
    theta = torch.cat([theta, theta[..., :1]], -1)[..., :128]  # rows of 129
    inputs = x, theta, v0, decay
    _assert_same(_forward(case, inputs, 1), reference.lif_forward(*inputs, case.left(), *case.dynamics, 1))
    assert gpu.launched == ["lif_forward_float32"]


def test_a_threshold_is_not_expanded(gpu, monkeypatch):
    """The kernel gets the address and the strides of what came in."""
    seen = []
    monkeypatch.setattr(cuda, "launch", lambda *args: seen.append(args))
    theta = torch.rand(4, 3, 1)
    neurons._dynamic_lif_cuda(torch.rand(4, 3, 8), theta, None, torch.ones(1), None, *Case().options, 0)
    assert seen[0][8:12] == (theta.data_ptr(), 3, 1, 0)


def test_gradients_given_once_for_all_are_read_once(gpu):
    """The gradient of a sum is one number, seen everywhere."""
    case = Case(size=(3, 2, 128))
    inputs = case.inputs()
    outputs = _forward(case, inputs, 1)
    grad = torch.full((1, 1, 1), 0.5).expand(case.size)
    arguments = _back_arguments(case, inputs, outputs[3:], 1, (grad, None, None))
    whole = _back_arguments(case, inputs, outputs[3:], 1, (grad.contiguous(), None, None))
    _assert_same(neurons._dynamic_lif_backward_cuda(*arguments), neurons._dynamic_lif_backward_cuda(*whole))
    assert not any("all" not in kernel for kernel in gpu.launched[1:])


def test_the_lean_kernel_runs_where_it_can(gpu):
    case = Case(size=(3, 2, 128))
    inputs = case.inputs()
    outputs = _forward(case, inputs, 1)
    grad_spikes, grad_v, grad_h = case.output_grads()
    for grads, needs in (
        ((grad_spikes, grad_v, None), (False, True, False)),
        ((grad_spikes, grad_v, grad_h), (False, True, False)),
        ((grad_spikes, grad_v, None), (True, True, False)),
    ):
        arguments = _back_arguments(case, inputs, outputs[3:], 1, grads, needs)
        _close(case, neurons._dynamic_lif_backward_cuda(*arguments), reference.lif_backward(*arguments))
    assert gpu.launched[1:] == ["lif_backward_float32_wide"] + 2 * ["lif_backward_float32_wide_all"]


def test_blocks_are_those_of_the_kernels():
    source = (cuda._sources() / "cuda" / "neurons.cuh").read_text(encoding="utf-8")
    assert f"kWarp = {cuda_neurons._WARP}, kWarps = {cuda_neurons._WARPS}," in source


def test_no_option_of_the_compiler_changes_the_rounding_of_a_step(tmp_path):
    """CuPy compiles with -ftz=true, and fusing is nvcc's default: the forward pass has neither, and reads 16 bytes."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on the PATH")
    folder = cuda._sources()
    command = ["nvcc", "-ptx", "-arch=sm_80", "-ftz=true", "-fmad=true", "-I", folder / "common"]
    subprocess.run([*command, "-o", tmp_path / "out.ptx", folder / "cuda" / "neurons_float32.cu"], check=True)
    kernels = re.split(r"\.visible \.entry ", (tmp_path / "out.ptx").read_text(encoding="utf-8"))[1:]
    forward = {kernel.split("(")[0]: kernel for kernel in kernels if kernel.startswith("lif_forward")}
    assert sorted(forward) == ["lif_forward_float32", "lif_forward_float32_wide"]
    for kernel in forward.values():
        assert "mul.rn.f32" in kernel
        assert "setp.ge.f32" in kernel
        steps = kernel.replace("cvt.rn.ftz.f32.f64", "")  # v_rest becomes a float
        assert not re.search(r"\bfma\.|\.ftz\b", steps)
    accesses = {"ld.global.v4", "st.global.v4"}
    assert set(re.findall(r"\b(?:ld|st)\.global\.v4", forward["lif_forward_float32_wide"])) == accesses
