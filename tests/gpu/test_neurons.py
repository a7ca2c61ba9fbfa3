"""Neurons on a CUDA device: the CPU's spikes and membranes bit for bit, in CUDA graphs, compiled, beyond 2^31."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from by_path import load

from neuroav.kernels import cuda, neurons
from neuroav.neurons import DynamicLIF

PARITY = Path(__file__).resolve().parents[1] / "parity"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning"),  # of CuPy and what it imports
]


kernel_cases = load(PARITY / "test_neurons_cuda_on_cpu.py")
cases = kernel_cases.cases


def _cuda(arguments):
    return tuple(each.cuda() if isinstance(each, torch.Tensor) else each for each in arguments)


def _assert_same(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(got.cpu(), want.cpu(), rtol=0, atol=0, equal_nan=True)


def _both(case, inputs, keep):
    """Return what the op gives here and there, and checks gradients, as far as they can be the same bit for bit."""
    arguments = (*inputs, case.left(), *case.options, keep)
    here, there = torch.ops.neuroav.dynamic_lif(*arguments), torch.ops.neuroav.dynamic_lif(*_cuda(arguments))
    _assert_same(there, here)
    back = kernel_cases._back_arguments(case, inputs, here[3:], keep, case.output_grads())
    expected = torch.ops.neuroav.dynamic_lif_backward(*back)
    actual = [each.cpu() for each in torch.ops.neuroav.dynamic_lif_backward(*_cuda(back))]
    kernel_cases._close(case, actual, expected)
    if case.dtype != torch.float64:
        _assert_same(actual[::2], expected[::2])  # of x and v0


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("case", [*cases.OPTIONS, *cases.SIZES, *kernel_cases.WIDE], ids=kernel_cases._name)
def test_kernels_equal_the_cpu(case, keep):
    _both(case, case.inputs(), keep)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("theta", ["TBN", "TB", "TN", "N", ""])
def test_large_sequences_equal_the_cpu(theta, dtype):
    case = cases.Case(size=(33, 21, 1028), theta=theta, dtype=dtype, hard=False, refractory=2, tau_per_neuron=True)
    _both(case, case.inputs(), 1)
    _both(case, case.inputs(), 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_membranes_that_decay_below_the_normal_numbers_equal_the_cpus(dtype):
    x = torch.zeros(300, 2, 128, dtype=dtype)
    x[0] = torch.linspace(-1, 1, 128)
    x[200] = 1e-40
    options = (0.0, True, False, False, 0, True, 0, 2.0, 1.0, 1)
    arguments = (x, torch.full((1, 1, 1), 2e-41), None, torch.full((1,), 0.5), None, *options)
    expected = torch.ops.neuroav.dynamic_lif(*arguments)
    assert 0 < expected[3][expected[3] > 0].min() < 1e-38
    _assert_same(torch.ops.neuroav.dynamic_lif(*_cuda(arguments)), expected)


def test_any_number_equals_the_cpus():
    for odd in (torch.nan, torch.inf, -torch.inf):
        case = cases.Case(size=(5, 3, 130), hard=False)
        x, theta, v0, decay = case.inputs()
        x[..., ::3] = odd
        theta[1, :, ::4] = odd
        arguments = (x, theta, v0, decay, None, *case.options, 1)
        expected = torch.ops.neuroav.dynamic_lif(*arguments)
        _assert_same(torch.ops.neuroav.dynamic_lif(*_cuda(arguments)), expected)


@pytest.mark.parametrize("theta", ["TB", "TN", "", "TBN"])
def test_every_run_gives_the_same_bits(theta):
    case = replace(cases.Case(theta=theta, tau_per_neuron=True, hard=False), size=(16, 64, 1000))
    inputs, grads = _cuda(case.inputs()), _cuda(case.output_grads())
    first = cases.run_with_grads(cases.op(case), inputs, grads)
    for _ in range(3):
        again = cases.run_with_grads(cases.op(case), inputs, grads)
        _assert_same((*again[0], *again[1]), (*first[0], *first[1]))


def test_more_than_two_to_the_31_neurons_and_steps():
    """Only the last step has input, beyond 32-bit indices."""
    steps, batch, size = 3, 1, (1 << 30) - 8
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    x = torch.zeros(steps, batch, size, dtype=torch.float16, device="cuda")
    x[-1, :, -5:] = 4
    spikes, *_ = neurons.dynamic_lif(x, 1.0)
    assert spikes[-1, :, -6:].flatten().tolist() == [0, 1, 1, 1, 1, 1]
    assert not spikes[:-1].any()
    assert not spikes[-1, :, :-5].any()


@pytest.mark.parametrize("every", [1, 4])
def test_training_in_a_cuda_graph(every):
    x = torch.randn(12, 8, 256, device="cuda").requires_grad_()
    theta = torch.full((12, 8, 1), 0.6, device="cuda").requires_grad_()

    def train():
        x.grad = theta.grad = None
        spikes, *_ = neurons.dynamic_lif(x, theta, refractory=1, hard_reset=False, every=every)
        (spikes * spikes.detach().cumsum(0)).sum().backward()
        return spikes, x.grad, theta.grad

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train()  # compiles
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = train()
    with torch.no_grad():
        x.copy_(torch.randn_like(x))
        theta.fill_(0.4)
    graph.replay()
    got = [each.clone() for each in captured]
    _assert_same(train(), got)


def test_work_goes_to_the_current_stream():
    """x appears on a side stream after a long wait: an op on any other stream would read it too early."""
    x = torch.randn(5, 4, 256, device="cuda")
    expected, *_ = neurons.dynamic_lif(x, 0.5)
    late, stream = torch.zeros_like(x), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # cycles, about 0.1 s
        late.copy_(x)
        actual, *_ = neurons.dynamic_lif(late, 0.5)
    stream.synchronize()
    _assert_same([actual], [expected])


def test_memory_is_what_the_backward_pass_needs():
    x = torch.randn(64, 256, 4096, device="cuda").requires_grad_()
    for every, tensors in ((1, 3.1), (8, 2.2)):

        def train(every=every):
            x.grad = None
            spikes, *_ = neurons.dynamic_lif(x, 0.6, every=every)
            spikes.backward(torch.ones((), device="cuda").expand(x.shape))

        train()
        x.grad = None
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        train()
        assert torch.cuda.max_memory_allocated() - before < tensors * 4 * x.numel()


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_op_passes_torchs_checks(keep):
    case = cases.Case(size=(5, 2, 132), theta="TB", refractory=2)
    tensors = [each.cuda().requires_grad_(keep > 0) for each in case.inputs()]
    torch.library.opcheck(torch.ops.neuroav.dynamic_lif, (*tensors, case.left().cuda(), *case.options, keep))


def test_layers_compile_without_a_break_and_for_any_number_of_steps():
    layer = DynamicLIF(2).cuda()
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, theta: layer(x, theta)[0] * 2, fullgraph=True, dynamic=True)
    for steps in (4, 7, 9):
        x, theta = torch.randn(steps, 3, 128, device="cuda"), torch.rand(steps, 3, 1, device="cuda")
        _assert_same([compiled(x, theta)], [layer(x, theta)[0] * 2])


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_a_fixed_threshold_gives_the_spikes_and_gradients_of_spikingjelly(hard):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason="SpikingJelly is not installed")
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    peer = neuron.LIFNode(
        tau=2.0, v_threshold=0.75, v_reset=0.0 if hard else None, surrogate_function=surrogate.ATan(alpha=2.0),
        detach_reset=True, step_mode="m",
    ).cuda()  # fmt: skip
    x = torch.randn(16, 8, 256, device="cuda").add_(0.5).requires_grad_()
    weights = torch.randn_like(x)
    ours, *_ = neurons.dynamic_lif(x, 0.75, decay=0.5, hard_reset=hard)
    (grad,) = torch.autograd.grad((ours * weights).sum(), x)
    theirs = peer(x)
    (peer_grad,) = torch.autograd.grad((theirs * weights).sum(), x)
    same = ours == theirs
    assert same.float().mean() > 0.9999  # their rounding differs: spikes at the threshold may
    rows = same.all(0)
    torch.testing.assert_close(grad[:, rows], peer_grad[:, rows], rtol=1e-4, atol=1e-5)


def test_cupy_is_in_use():
    assert cuda.available()
