"""Dynamic-threshold neurons three ways: a plain autograd loop (the truth), the reference, the C++ kernel."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroav.kernels import cpu, neurons, reference
from neuroav.neurons import ATan, FastSigmoid, Sigmoid, Surrogate, Triangle

SURROGATES = (ATan(2.0), Sigmoid(4.0), FastSigmoid(5.0, scale=0.5), Triangle(0.7))
needs_extension = pytest.mark.skipif(not cpu.available(), reason=cpu.describe())


@dataclass(frozen=True)
class Case:
    """One set of options; ``theta`` names the axes along which the threshold varies."""

    size: tuple[int, int, int] = (5, 3, 7)
    theta: str = "TBN"
    hard: bool = True
    detach: bool = True
    surrogate: Surrogate = SURROGATES[0]
    tau_per_neuron: bool = False
    v_rest: float = 0.1
    dtype: torch.dtype = torch.float32
    strict: bool = False
    unit_gain: bool = False
    refractory: int = 0

    def inputs(self):
        """Return x, theta, v0, decay that make about a third of the neurons fire."""
        generator = torch.Generator().manual_seed(0)
        (T, B, N), options = self.size, {"generator": generator, "dtype": self.state_type}
        x = ((torch.randn(T, B, N, **options) + 0.6) * (0.5 if self.unit_gain else 1.0)).to(self.dtype)
        theta_size = [size if axis in self.theta else 1 for axis, size in zip("TBN", self.size, strict=True)]
        theta = torch.rand(theta_size, **options) * 0.6 + 0.3
        v0 = torch.randn(B, N, **options) * 0.3
        decay = torch.rand(N if self.tau_per_neuron else 1, **options) * 0.6 + 0.2
        return x, theta, v0, decay

    @property
    def state_type(self):
        """The type of membranes, thresholds and decay."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def dynamics(self):
        """What the forward pass takes after its tensors."""
        return self.v_rest, self.hard, self.strict, self.unit_gain, self.refractory

    @property
    def options(self):
        """What the op takes after its tensors, but for what is kept."""
        return *self.dynamics, self.detach, self.surrogate.code, self.surrogate.alpha, self.surrogate.scale

    def left(self):
        """Return the refractory steps left at the start, ``None`` without a refractory time."""
        if not self.refractory:
            return None
        generator = torch.Generator().manual_seed(2)
        return torch.randint(0, self.refractory + 1, self.size[1:], generator=generator, dtype=torch.int32)

    def output_grads(self):
        """Return gradients for spikes, last membrane, and membrane before reset."""
        generator = torch.Generator().manual_seed(1)
        sizes = self.size, self.size[1:], self.size
        types = self.dtype, self.state_type, self.state_type
        return tuple(
            torch.randn(size, generator=generator, dtype=self.state_type).to(dtype)
            for size, dtype in zip(sizes, types, strict=True)
        )


OPTIONS = [
    Case(
        hard=hard,
        detach=detach,
        surrogate=surrogate,
        tau_per_neuron=bool(i % 2),
        theta=theta,
        strict=i % 3 == 1,
        unit_gain=i % 4 > 1,
        refractory=(0, 0, 0, 1, 3)[i % 5],
    )
    for i, (hard, detach, surrogate, theta) in enumerate(
        itertools.product((True, False), (True, False), SURROGATES, ("TBN", "TB", "TN", "T", "N", "B", ""))
    )
]
SIZES = [
    Case(size=size, theta=theta, hard=False, detach=False, tau_per_neuron=tau)
    for size, theta, tau in itertools.product(
        [(1, 2, 33), (6, 1, 1), (1, 1, 1), (3, 37, 1), (2, 17, 2053)], ("TBN", "TB", "TN", ""), (True, False)
    )
]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, surrogate, strict):
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u > 0 if strict else u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.surrogate.grad(ctx.saved_tensors[0]), None, None


def plain_loop(case, x, theta, v0, decay):
    """Return spikes, last membrane and membranes before reset, by the textbook formulas and autograd."""
    theta = theta.expand(x.shape)
    v, spikes, membranes = v0, [], []
    rests = torch.zeros(case.size[1:]) if case.left() is None else case.left().clone()
    for t in range(x.shape[0]):
        awake = (rests <= 0).to(x.dtype)
        drive = x[t] - (v - case.v_rest) * decay if case.unit_gain else (x[t] - (v - case.v_rest)) * decay
        h = v + awake * drive
        s = awake * Spike.apply(h - theta[t], case.surrogate, case.strict)
        reset = s.detach() if case.detach else s
        v = h * (1 - reset) + case.v_rest * reset if case.hard else h - reset * theta[t]
        rests = torch.where(s > 0, case.refractory, rests - 1)
        spikes.append(s)
        membranes.append(h)
    return torch.stack(spikes), v, torch.stack(membranes)


def op(case, keep=1):
    """Return the op as a function of x, theta, v0 and decay that gives spikes, last membrane and what is kept."""

    def run(x, theta, v0, decay):
        spikes, v, _, kept, _ = torch.ops.neuroav.dynamic_lif(x, theta, v0, decay, case.left(), *case.options, keep)
        return spikes, v, kept

    return run


def reference_forward(case, x, theta, v0, decay, keep=1):
    """Return spikes, last membrane, what is kept, and of the refractory steps."""
    spikes, v, _, *kept = reference.lif_forward(x, theta, v0, decay, case.left(), *case.dynamics, keep)
    return spikes, v, *kept


def run_with_grads(function, inputs, output_grads):
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    outputs = function(*leaves)
    torch.autograd.backward(outputs, output_grads)
    return [each.detach() for each in outputs], [leaf.grad for leaf in leaves]


def reference_backward(case, dtype, inputs, kept, output_grads):
    x, theta, v0, decay = (each.to(dtype) for each in inputs)
    grads = [each.to(dtype) for each in output_grads]
    tensors = x, kept[0].to(dtype), kept[1], theta, v0, decay, case.left()
    return reference.lif_backward(*grads, *tensors, *case.options, 1, dtype, True, True, True)


def assert_close(actual, expected, tolerance, summands=1):
    """Equal to within ``tolerance`` of the largest value; the rounding errors of a sum add up like a random walk's."""
    assert actual.shape == expected.shape
    tolerance *= summands**0.5
    error = (actual - expected).abs().max().item()
    assert error <= tolerance * max(expected.abs().max().item(), 1e-3)


def name(case):
    flags = ("hard" if case.hard else "soft") + ("-detach" if case.detach else "")
    tau = "tauN" if case.tau_per_neuron else "tau1"
    return f"{'x'.join(map(str, case.size))}-{case.theta or 'scalar'}-{flags}-{type(case.surrogate).__name__}-{tau}"


@pytest.mark.parametrize("case", OPTIONS, ids=name)
def test_reference_is_the_plain_loop(case):
    case = replace(case, dtype=torch.float64)
    inputs, output_grads = case.inputs(), case.output_grads()
    outputs, grads = run_with_grads(lambda *leaves: plain_loop(case, *leaves), inputs, output_grads)
    spikes, v, *kept = reference_forward(case, *inputs)
    assert torch.equal(spikes, outputs[0])
    for actual, expected in zip((v, kept[0]), outputs[1:], strict=True):
        assert_close(actual, expected, 1e-14)
    actual_grads = reference_backward(case, torch.float64, inputs, kept, output_grads)
    for actual, expected in zip(actual_grads, grads, strict=True):
        assert_close(actual, expected, 1e-12)
    assert 0.05 < spikes.mean() < 0.95


@needs_extension
@pytest.mark.parametrize("case", OPTIONS + SIZES, ids=name)
def test_cpu_kernel_is_the_reference(case):
    inputs, output_grads = case.inputs(), case.output_grads()
    expected = reference_forward(case, *inputs)
    actual, grads = run_with_grads(op(case), inputs, output_grads)
    for actual_output, expected_output in zip(actual, expected[:3], strict=True):
        assert torch.equal(actual_output, expected_output)
    # In double, so that the reference's own rounding over long sums doesn't count; the spikes are the same.
    truths = reference_backward(case, torch.float64, inputs, expected[2:], output_grads)
    for grad, truth in zip(grads, truths, strict=True):
        assert_close(grad.double(), truth, 1e-6, summands=inputs[0].numel() / grad.numel())


@needs_extension
@pytest.mark.parametrize("case", OPTIONS[::5] + SIZES[::3], ids=name)
def test_cpu_kernel_is_the_reference_in_double(case):
    case = replace(case, dtype=torch.float64)
    inputs, output_grads = case.inputs(), case.output_grads()
    expected = reference_forward(case, *inputs)
    actual, grads = run_with_grads(op(case), inputs, output_grads)
    for actual_output, expected_output in zip(actual, expected[:3], strict=True):
        assert torch.equal(actual_output, expected_output)
    truths = reference_backward(case, torch.float64, inputs, expected[2:], output_grads)
    for grad, truth in zip(grads, truths, strict=True):
        assert_close(grad, truth, 1e-12)


@needs_extension
@pytest.mark.parametrize("theta", ["TBN", "TB", "TN", ""])
def test_thread_count_does_not_change_a_bit(theta):
    case = Case(size=(4, 19, 2100), theta=theta, hard=False, tau_per_neuron=theta == "TN", refractory=len(theta) % 2)
    inputs, output_grads = case.inputs(), case.output_grads()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run_with_grads(op(case), inputs, output_grads))
    finally:
        torch.set_num_threads(before)
    for outputs, grads in results[1:]:
        assert all(map(torch.equal, outputs, results[0][0]))
        assert all(map(torch.equal, grads, results[0][1]))


def test_strided_inputs_and_gradients_give_the_same():
    case = Case(size=(4, 6, 8))
    x, theta, v0, decay = case.inputs()
    spread = [each.transpose(0, -1).contiguous().transpose(0, -1) for each in (x, theta, v0)]
    assert not any(each.is_contiguous() for each in spread)
    output_grads = case.output_grads()
    strided_grads = [each.transpose(0, -1).contiguous().transpose(0, -1) for each in output_grads]

    def strided(x, theta, v0, decay):
        views = [each.transpose(0, -1).contiguous().transpose(0, -1) for each in (x, theta, v0)]
        return op(case)(*views, decay)

    expected = run_with_grads(op(case), (x, theta, v0, decay), output_grads)
    actual = run_with_grads(strided, (x, theta, v0, decay), strided_grads)
    assert all(map(torch.equal, actual[0], expected[0]))
    for grad, truth in zip(actual[1], expected[1], strict=True):
        assert_close(grad, truth, 1e-6, summands=x.numel() / grad.numel())


def test_an_expanded_threshold_is_the_broadcast_one():
    case = Case(theta="TB", hard=False)
    x, theta, v0, decay = case.inputs()
    wide = neurons.dynamic_lif(x, theta.expand(x.shape), v0, decay, hard_reset=False)
    narrow = neurons.dynamic_lif(x, theta, v0, decay, hard_reset=False)
    assert torch.equal(wide[0], narrow[0])
    assert torch.equal(wide[1], narrow[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("keep", [0, 1, 2])
@pytest.mark.parametrize("refractory", [0, 2])
def test_op_is_registered_soundly(dtype, keep, refractory):
    case = Case(size=(5, 2, 5), theta="TB", dtype=dtype, tau_per_neuron=True, refractory=refractory)
    x, theta, v0, decay = (each.requires_grad_(keep > 0) for each in case.inputs())
    torch.library.opcheck(torch.ops.neuroav.dynamic_lif, (x, theta, v0, decay, case.left(), *case.options, keep))
    torch.library.opcheck(torch.ops.neuroav.dynamic_lif, (x, theta, None, decay, None, *case.options, keep))


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("refractory", [0, 2])
def test_backward_op_is_registered_soundly(keep, refractory):
    case = Case(size=(5, 2, 5), theta="TB", dtype=torch.float64, refractory=refractory)
    x, theta, v0, decay = case.inputs()
    _, _, *kept = reference_forward(case, x, theta, v0, decay, keep)
    shared = *kept, theta, v0, decay, case.left(), *case.options, keep, x.dtype
    for x_given, needs in ((x, (True, True, True)), (x if keep > 1 else None, 3 * (False,))):
        torch.library.opcheck(
            torch.ops.neuroav.dynamic_lif_backward, (torch.ones_like(x), None, None, x_given, *shared, *needs)
        )


LAYOUTS = {
    "contiguous": lambda each: each,
    "transposed": lambda each: each.transpose(0, -1).contiguous().transpose(0, -1),
    "every second": lambda each: each.repeat_interleave(2, -1)[..., ::2],
    "offset": lambda each: torch.cat([each[:1], each])[1:],
}


def any_case(size):
    """A case of any options, its size drawn from ``size``."""
    return st.builds(
        Case,
        size=size,
        theta=st.sampled_from(["TBN", "TB", "TN", "BN", "T", "B", "N", ""]),
        hard=st.booleans(),
        detach=st.booleans(),
        surrogate=st.sampled_from(SURROGATES),
        tau_per_neuron=st.booleans(),
        v_rest=st.sampled_from([0.0, 0.1, -0.5]),
        dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
        strict=st.booleans(),
        unit_gain=st.booleans(),
        refractory=st.integers(0, 3),
    )


@needs_extension
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    case=any_case(st.tuples(st.integers(0, 7), st.integers(0, 5), st.sampled_from([0, 1, 2, 15, 16, 17, 33, 70]))),
    layout=st.sampled_from(sorted(LAYOUTS)),
    keep=st.integers(1, 5),
    odd=st.sampled_from([None, torch.nan, torch.inf, -torch.inf]),
)
def test_any_options_give_the_references_bits_and_gradients(case, layout, keep, odd):
    inputs = [LAYOUTS[layout](each) if each.dim() > 1 and each.numel() else each for each in case.inputs()]
    if odd is not None and inputs[0].numel():
        inputs[0] = inputs[0].clone()
        inputs[0][..., ::3] = odd
    arguments = *inputs, case.left(), *case.options, keep
    actual = torch.ops.neuroav.dynamic_lif(*arguments)
    expected = reference.lif_forward(*inputs, case.left(), *case.dynamics, keep)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    if odd is not None:
        return
    grad_spikes, grad_v, grad_h = case.output_grads()
    back = (grad_spikes, grad_v, grad_h if keep == 1 else None, inputs[0], *actual[3:], *inputs[1:], case.left())
    needs = *case.options, keep, case.dtype, True, True, True
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(case.dtype, 1e-2)
    for one, other in zip(
        torch.ops.neuroav.dynamic_lif_backward(*back, *needs), reference.lif_backward(*back, *needs), strict=True
    ):
        assert one.dtype == other.dtype
        if one.numel():
            assert_close(one.double(), other.double(), tolerance if one.dtype == case.dtype else 1e-5)


@needs_extension
@pytest.mark.parametrize("case", OPTIONS[::3], ids=name)
@pytest.mark.parametrize("keep", [2, 3, 5, 9])
def test_membranes_computed_again_give_the_same_bits(case, keep):
    inputs, (grad_spikes, grad_v, grad_h) = case.inputs(), case.output_grads()
    full, full_grads = run_with_grads(op(case), inputs, (grad_spikes, grad_v, torch.zeros_like(grad_h)))
    again, grads = run_with_grads(lambda *leaves: op(case, keep)(*leaves)[:2], inputs, (grad_spikes, grad_v))
    assert torch.equal(again[0], full[0])
    assert torch.equal(again[1], full[1])
    for one, other in zip(grads, full_grads, strict=True):
        assert torch.equal(one, other)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_number_is_read_and_every_kind_written(dtype):
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype).view(1, 1, -1)
    one = torch.ones(1)  # with a unit gain and this decay, the membrane is the input
    options = (0.0, True, False, True, 0, True, 0, 2.0, 1.0, 1)
    *_, kept, kept_left = torch.ops.neuroav.dynamic_lif(x, torch.full((1, 1, 1), torch.inf), None, one, None, *options)
    torch.testing.assert_close(kept, x.float(), rtol=0, atol=0, equal_nan=True)
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(-(1 << 31), 1 << 31, (1, 1, 1 << 16), generator=generator, dtype=torch.int64).int()
    small = torch.randn(1, 1, 1 << 16, generator=generator) * 2.0 ** torch.linspace(-30, 20, 1 << 16)
    # Halfway between two numbers, and a bit to either side.
    halfway = (x.float().view(torch.int32) + (1 << (15 if dtype == torch.bfloat16 else 12))).view(torch.float32)
    beside = torch.cat([halfway.view(torch.int32) + 1, halfway.view(torch.int32) - 1], -1).view(torch.float32)
    for grad in (random.view(torch.float32), small, halfway, beside[..., : 1 << 16], beside[..., 1 << 16 :]):
        none = torch.zeros(1, 1, 1, dtype=dtype).expand(x.shape)
        written, *_ = torch.ops.neuroav.dynamic_lif_backward(
            none, None, grad, x, torch.zeros_like(kept), kept_left, torch.ones(1, 1, 1), None, one, None, *options,
            dtype, False, False, False,
        )  # fmt: skip
        torch.testing.assert_close(written, grad.to(dtype), rtol=0, atol=0, equal_nan=True)
