"""SparseLinearLIF against a loop written out here (exact where sums are exact) and against its two layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroav.checks import InputError
from neuroav.kernels import cpu
from neuroav.mdft.motion import SpikingLayers
from neuroav.neurons import LIF, DynamicLIF, LIFState, SparseLinearLIF

needs_extension = pytest.mark.skipif(not cpu.available(), reason=cpu.describe())


def whole_layer(inputs, neurons, bias=True, seed=0, **options):
    """A Linear whose weights and biases are eighths of small whole numbers, so that sums are exact, and its neurons."""
    generator = torch.Generator().manual_seed(seed)
    linear = torch.nn.Linear(inputs, neurons, bias=bias)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randint(-8, 9, parameter.shape, generator=generator) / 8)
    return linear, DynamicLIF(neurons, **options)


def random_spikes(*size, rate=0.3, seed=1):
    return (torch.rand(size, generator=torch.Generator().manual_seed(seed)) < rate).float()


def loop(linear, neurons, s, theta, v, left=0):
    """What the layer means, step by step in numpy; exact for eighths, tau = 2 and few steps."""
    weight = linear.weight.detach().double().numpy()
    bias = 0 if linear.bias is None else linear.bias.detach().double().numpy()
    theta, v, out = np.broadcast_to(theta, (*s.shape[:2], len(weight))), v.double().numpy(), []
    for t, active in enumerate(s.double().numpy()):
        gain = 1 if neurons.unit_gain else 0.5
        h = v - (v - neurons.v_rest) / 2 + gain * (active @ weight.T + bias)
        h = np.where(left, v, h)
        fired = ((h > theta[t]) if neurons.strict else (h >= theta[t])) & (left == 0)
        v = np.where(fired, neurons.v_rest if neurons.hard_reset else h - theta[t], h)
        left = np.where(fired, neurons.refractory, np.maximum(left - np.ones_like(v), 0))
        out.append(fired)
    return np.array(out, dtype=float).reshape(theta.shape), v, left


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
@pytest.mark.parametrize("axes", ["", "N", "TB", "TN", "B", "TBN"])
def test_sums_that_are_exact_give_the_loops_spikes_and_membranes(reset, bias, dtype, axes):
    linear, neurons = whole_layer(75, 70, bias, reset=reset, v_rest=0.25)
    s = random_spikes(6, 3, 75)
    size = [size if axis in axes else 1 for axis, size in zip("TBN", (6, 3, 70), strict=True)]
    theta = torch.randint(1, 16, size, generator=torch.Generator().manual_seed(2)) / 8
    v0 = torch.randint(-8, 9, (3, 70), generator=torch.Generator().manual_seed(3)) / 8
    spikes, state = SparseLinearLIF(linear, neurons)(s.to(dtype), theta, LIFState(v0))
    expected_spikes, expected_v, _ = loop(linear, neurons, s, theta.numpy(), v0)
    assert np.array_equal(spikes.numpy(), expected_spikes)
    assert np.array_equal(state.v.numpy(), expected_v)
    assert 0.1 < spikes.mean() < 0.9


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("gain", ["decay", "unit"])
@pytest.mark.parametrize("refractory", [0, 1, 3])
def test_every_option_gives_the_loops_spikes_and_state(reset, strict, gain, refractory):
    options = {"reset": reset, "strict": strict, "gain": gain, "refractory": refractory, "v_rest": -0.5}
    linear, neurons = whole_layer(40, 37, **options)
    s, v0 = random_spikes(7, 2, 40), torch.zeros(2, 37)
    theta = torch.randint(1, 8, (7, 2, 1), generator=torch.Generator().manual_seed(2)) / 4
    left = torch.randint(0, 3, (2, 37), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    spikes, state = SparseLinearLIF(linear, neurons)(s, theta, LIFState(v0, left))
    expected = loop(linear, neurons, s, theta.numpy(), v0, left.numpy() if refractory else 0)
    assert np.array_equal(spikes.numpy(), expected[0])
    assert np.array_equal(state.v.numpy(), expected[1])
    if refractory:
        assert np.array_equal(state.refractory.numpy(), expected[2])
        assert state.refractory.dtype == torch.int32
    else:
        assert state.refractory is None


@given(
    size=st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 150), st.integers(1, 70)),
    rate=st.sampled_from([0.0, 0.02, 0.2, 0.9, 1.0]),
    seed=st.integers(0, 99),
)
def test_every_size_and_rate(size, rate, seed):
    T, B, M, N = size
    linear, neurons = whole_layer(M, N, seed=seed) if M else (torch.nn.Linear(1, N), DynamicLIF(N))
    if M == 0:
        linear.weight = torch.nn.Parameter(torch.empty(N, 0))
        linear.bias = torch.nn.Parameter(torch.full((N,), 1.0))
    s = random_spikes(T, B, M, rate=rate, seed=seed)
    spikes, state = SparseLinearLIF(linear, neurons)(s, 0.5)
    expected_spikes, expected_v, _ = loop(linear, neurons, s, 0.5, torch.zeros(B, N))
    assert np.array_equal(spikes.numpy(), expected_spikes)
    assert np.array_equal(state.v.numpy(), expected_v)


def test_spikes_differ_from_the_two_layers_only_within_rounding_of_the_threshold():
    torch.manual_seed(0)
    linear, neurons = torch.nn.Linear(300, 200), DynamicLIF(tau=torch.linspace(1.5, 4, 200), reset="soft")
    s = random_spikes(30, 2, 300, rate=0.2)
    theta = torch.rand(30, 2, 1) * 0.2 + 0.05
    with torch.no_grad():
        expected, last, membrane = neurons(linear(s), theta, return_membrane=True)
        spikes, state = SparseLinearLIF(linear, neurons)(s, theta)
    rounding = 4e-7 * (linear.weight.abs().sum(1) + linear.bias.abs())
    near = ((membrane - theta).abs() < rounding).any(0)
    assert near.float().mean() < 0.01
    assert torch.equal(spikes[:, ~near], expected[:, ~near])
    assert ((state.v - last.v).abs() < rounding)[~near].all()
    assert 0.05 < spikes.mean() < 0.6


def test_two_calls_with_carried_state_are_one_long_call():
    layer = SparseLinearLIF(*whole_layer(40, 33, tau=3.0, refractory=2))
    s, theta = random_spikes(9, 2, 40), torch.rand(9, 2, 1) * 2
    expected, last = layer(s, theta)
    first, state = layer(s[:4], theta[:4])
    second, state = layer(s[4:], theta[4:], state)
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(state.v, last.v)
    assert torch.equal(state.refractory, last.refractory)


@needs_extension
def test_number_of_threads_and_strides_do_not_change_a_bit():
    torch.manual_seed(0)
    linear, neurons = torch.nn.Linear(1000, 700), DynamicLIF(700)
    layer = SparseLinearLIF(linear, neurons)
    s, theta = random_spikes(20, 19, 1000), torch.rand(20, 19, 1) * 0.2  # two groups of samples, and work for threads
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(layer(s, theta))
    finally:
        torch.set_num_threads(before)
    results.append(layer(s.transpose(0, 2).contiguous().transpose(0, 2), theta.expand(20, 19, 700)))
    for spikes, state in results[1:]:
        assert torch.equal(spikes, results[0][0])
        assert torch.equal(state.v, results[0][1].v)


def test_infinite_thresholds_silence_and_states_are_not_modified():
    layer = SparseLinearLIF(*whole_layer(40, 33))
    state = LIFState(torch.ones(2, 33))
    spikes, _ = layer(random_spikes(5, 2, 40), math.inf, state)
    assert spikes.sum() == 0
    assert torch.equal(state.v, torch.ones(2, 33))


def test_the_weights_are_a_copy():
    linear, neurons = whole_layer(40, 33)
    layer, s = SparseLinearLIF(linear, neurons), random_spikes(5, 2, 40)
    before = layer(s, 0.5)[0]
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
    assert torch.equal(layer(s, 0.5)[0], before)
    assert list(layer.parameters()) == []


def test_a_motion_layer_with_its_normalisation_folded_in():
    """MDFT's second layer: Linear - BN - DynamicLIF over spikes now and one step ago."""
    torch.manual_seed(0)
    layers = SpikingLayers().build(24).eval()
    linear, norm, neurons = layers.linear[1], layers.norm[1], layers.neuron[1]
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 1)
    s, theta = random_spikes(48, 1, 48, rate=0.18), torch.full((48, 1, 1), 0.5)
    with torch.no_grad():
        expected, _, membrane = neurons(norm(linear(s)), theta, return_membrane=True)
        folded = torch.nn.utils.fusion.fuse_linear_bn_eval(linear, norm)
        spikes, _ = SparseLinearLIF(folded, neurons)(s, theta)
    sure = ((membrane - theta).abs() > 1e-5).all(0)
    assert sure.float().mean() > 0.9
    assert torch.equal(spikes[:, sure], expected[:, sure])


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 99])
def test_other_values_than_spikes_are_refused(value, place):
    s = random_spikes(3, 2, 100)
    s[1, 1, place] = value
    with pytest.raises(InputError, match="spikes of 0 and 1"):
        SparseLinearLIF(*whole_layer(100, 8))(s, 0.5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: SparseLinearLIF(torch.nn.Linear(3, 4), DynamicLIF(5)), "4 neurons, as linear has outputs, got 5"),
        (lambda: SparseLinearLIF(*whole_layer(3, 4))(torch.ones(2, 1, 4), 1), r"s of shape \(T, B, 3\), got"),
        (lambda: SparseLinearLIF(*whole_layer(3, 4))(torch.ones(2, 3), 1), r"s of shape \(T, B, 3\), got \(2, 3\)"),
        (
            lambda: SparseLinearLIF(*whole_layer(3, 4))(torch.ones(2, 1, 3), torch.ones(3)),
            r"theta that broadcasts to \(2, 1, 4\), got \(3,\)",
        ),
        (
            lambda: SparseLinearLIF(*whole_layer(3, 4))(torch.ones(2, 1, 3), 1, LIFState(torch.ones(2, 4))),
            r"state.v of shape \(1, 4\), got \(2, 4\)",
        ),
        (
            lambda: SparseLinearLIF(*whole_layer(3, 4))(
                torch.ones(2, 1, 3), 1, LIFState(torch.ones(1, 4), torch.ones(4, dtype=torch.int32))
            ),
            r"state.refractory of shape \(1, 4\), got \(4,\)",
        ),
        (
            lambda: SparseLinearLIF(torch.nn.Linear(3, 4), DynamicLIF(tau=torch.full((3, 1), 2.0))),
            "tau of one value or 4, got 3",
        ),
        (
            lambda: SparseLinearLIF(*whole_layer(3, 4))(torch.ones(2, 1, 3), torch.ones(1, requires_grad=True)),
            "inputs without gradient",
        ),
    ],
)
def test_errors_name_what_was_expected(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_other_types_are_refused():
    with pytest.raises(TypeError, match=r"linear.weight of dtype torch.float32, got torch.float64"):
        SparseLinearLIF(torch.nn.Linear(3, 4).double(), DynamicLIF(4))
    with pytest.raises(TypeError, match=r"s of dtype torch.float32 or torch.bool, got torch.int64"):
        SparseLinearLIF(*whole_layer(3, 4))(torch.ones(2, 1, 3).long(), 1)


def test_any_layer_of_neurons_fits_and_its_own_threshold_is_not_used():
    linear, _ = whole_layer(40, 33)
    s = random_spikes(5, 2, 40)
    spikes, _ = SparseLinearLIF(linear, LIF(v_th=9.0))(s, 0.5)
    assert torch.equal(spikes, DynamicLIF()(linear(s), 0.5)[0])


def test_op_is_registered_soundly():
    layer = SparseLinearLIF(*whole_layer(40, 33))
    s, theta = random_spikes(5, 2, 40), torch.rand(5, 2, 1)
    for left, refractory in ((None, 0), (None, 2), (torch.ones(2, 33, dtype=torch.int32), 2)):
        arguments = s, layer.columns, layer.bias, theta, torch.zeros(2, 33), layer.decay, left
        torch.library.opcheck(torch.ops.neuroav.sparse_linear_lif, (*arguments, 0.0, True, False, True, refractory))


def test_print_shows_sizes_and_reset():
    assert repr(SparseLinearLIF(*whole_layer(3, 4, reset="soft"))) == "SparseLinearLIF(3, 4, reset=soft)"
