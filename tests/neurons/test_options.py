"""The neurons' options, each against a trace by hand, a closed form, or the same thing done another way."""

import math
import subprocess
import sys

import pytest
import torch

from neuroav.checks import InputError
from neuroav.neurons import LIF, PLIF, ATan, DynamicLIF, Full, LIFState, Recompute, SuperSpike, lif_step


def sequence(*values):
    return torch.tensor(values).view(-1, 1, 1)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_unit_gain_adds_the_input_as_it_is():
    # h: 0.5, 0.25 + 0.5, 0.375 + 0.5 = 0.875 -> spike -> 0, 0.5
    spikes, _, membrane = DynamicLIF(1, gain="unit")(sequence(0.5, 0.5, 0.5, 0.5), 0.8, return_membrane=True)
    assert membrane.flatten().tolist() == [0.5, 0.75, 0.875, 0.5]
    assert spikes.flatten().tolist() == [0, 0, 1, 0]


def test_unit_gain_decays_to_rest_and_resets_to_it():
    _, state, membrane = DynamicLIF(1, gain="unit", v_rest=1.0)(sequence(1.0, 0.0), 1.75, return_membrane=True)
    assert membrane.flatten().tolist() == [2.0, 1.0]
    assert state.v.item() == 1.0


@pytest.mark.parametrize(("strict", "fires"), [(False, 1), (True, 0)])
def test_strict_neurons_do_not_fire_at_their_threshold(strict, fires):
    spikes, state = DynamicLIF(1, strict=strict)(sequence(1.0), 0.5)
    assert spikes.item() == fires
    assert state.v.item() == (0.0 if fires else 0.5)
    assert DynamicLIF(1, strict=strict)(sequence(1.0), 0.49)[0].item() == 1


def test_refractory_neurons_neither_charge_nor_fire():
    # 0.5 -> spike, two steps at rest, 0.5 -> spike, one step at rest
    layer = DynamicLIF(1, refractory=2)
    spikes, state, membrane = layer(sequence(1.0, 9.0, 9.0, 1.0, 9.0), 0.5, return_membrane=True)
    assert spikes.flatten().tolist() == [1, 0, 0, 1, 0]
    assert membrane.flatten().tolist() == [0.5, 0, 0, 0.5, 0]
    assert state.refractory.tolist() == [[1]]
    assert state.refractory.dtype == torch.int32
    later, state = layer(sequence(9.0, 1.0), 0.5, state)
    assert later.flatten().tolist() == [0, 1]


def test_refractory_membrane_stays_where_a_soft_reset_put_it():
    # 2 -> spike, 1.25 although above the threshold, then 0.625 + 0 < 0.75
    spikes, _, membrane = DynamicLIF(1, reset="soft", refractory=1)(sequence(4.0, 4.0, 0.0), 0.75, return_membrane=True)
    assert spikes.flatten().tolist() == [1, 0, 0]
    assert membrane.flatten().tolist() == [2.0, 1.25, 0.625]


def test_no_gradient_enters_a_resting_neuron():
    x = sequence(1.0, 0.9, 0.8).requires_grad_()
    spikes, _ = DynamicLIF(1, refractory=1, reset="soft")(x, 0.5)
    spikes[1:].sum().backward()
    # The last step's spike sees the first input through the membrane that rested, 0.5^2, and the last, 0.5.
    slope = 1 / (1 + (math.pi * (0.4 - 0.5)) ** 2)
    assert x.grad.flatten().tolist() == pytest.approx([0.25 * slope, 0, 0.5 * slope])


@pytest.mark.parametrize("memory", [Full(), Recompute(2), Recompute(3)])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_carried_state_is_one_long_call_with_every_option(memory, reset):
    layer = PLIF(
        3, v_th=0.4, reset=reset, refractory=2, strict=True, gain="unit", v_rest=0.1, detach_reset=False, memory=memory
    )
    x, results = noise(8, 2, 3) * 0.6, []
    for cuts in ([8], [1, 4, 3]):
        leaf, state, parts = x.clone().requires_grad_(), None, []
        for part in leaf.split(cuts):
            spikes, state = layer(part, state)
            parts.append(spikes)
        loss = (torch.cat(parts) * torch.arange(8.0).view(8, 1, 1)).sum() + state.v.square().sum()
        results.append((torch.cat(parts), state, torch.autograd.grad(loss, [leaf, layer.decay_logit])))
    (one, one_state, one_grads), (other, other_state, other_grads) = results
    assert torch.equal(one, other)
    assert one.sum() > 3
    assert torch.equal(one_state.v, other_state.v)
    assert torch.equal(one_state.refractory, other_state.refractory)
    for a, b in zip(one_grads, other_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_beta_is_what_a_step_leaves():
    assert LIF(beta=0.75).tau.item() == 4.0
    assert LIF(tau=4.0).beta.item() == 0.75
    assert DynamicLIF(beta=torch.tensor([0.5, 0.9])).num_neurons == 2
    _, state = DynamicLIF(1, beta=1.0, gain="unit")(sequence(0.25, 0.25, 0.25), 1.0)
    assert state.v.item() == 0.75
    torch.testing.assert_close(PLIF(beta=0.9).beta.item(), 0.9)


@pytest.mark.parametrize("memory", [Full(), Recompute(2)])
def test_any_axes_after_the_samples_are_neurons(memory):
    x, theta = noise(5, 2, 3, 4, 6) + 0.5, noise(5, 1, 3, 1, 1).abs()
    tau = torch.tensor([1.5, 2.0, 4.0]).view(3, 1, 1)
    results = []
    for flatten in (False, True):
        leaves = [x.clone().requires_grad_(), theta.clone().requires_grad_()]
        values, thresholds, time = leaves[0], leaves[1], tau
        if flatten:
            values, thresholds = values.flatten(2), thresholds.expand(5, 1, 3, 4, 6).flatten(2)
            time = tau.expand(3, 4, 6).flatten()
        spikes, state = DynamicLIF(tau=time, memory=memory)(values, thresholds)
        spikes.mul(noise(5, 2, 3, 4, 6).view_as(spikes)).sum().backward()
        results.append((spikes.flatten(2), state.v.flatten(1), *(leaf.grad for leaf in leaves)))
    assert all(map(torch.equal, *results))
    assert DynamicLIF()(x[:, :, 0, 0, 0], 0.5)[0].shape == (5, 2)


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (4, 2, 0, 5), (0, 0, 0)])
@pytest.mark.parametrize("options", [{}, {"refractory": 2}, {"memory": Recompute(2)}])
def test_nothing_in_nothing_out(shape, options):
    x = torch.ones(shape, requires_grad=True)
    theta = torch.full((shape[0], shape[1], *[1] * (len(shape) - 2)), 0.5, requires_grad=True)
    spikes, state = PLIF(**options).integrate(x, theta, None, False)
    assert spikes.shape == x.shape
    assert state.v.shape == x.shape[1:]
    assert torch.equal(state.v, torch.zeros(shape[1:]))
    (spikes.sum() + state.v.sum()).backward()
    assert x.grad.shape == x.shape
    assert torch.equal(theta.grad, torch.zeros_like(theta))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", [Full(), Recompute(4)])
def test_half_inputs_have_a_float_state_and_half_gradients(dtype, memory):
    x, theta = (noise(9, 3, 70) + 0.5).to(dtype), noise(9, 3, 1).abs().to(dtype)
    layer = DynamicLIF(70, tau=3.0, reset="soft", memory=memory)
    results = []
    for inputs in ((x, theta), (x.float(), theta.float())):
        leaves = [each.clone().requires_grad_() for each in inputs]
        spikes, state = layer(*leaves)
        (spikes * (noise(9, 3, 70, seed=1).to(dtype))).sum().backward()
        results.append((spikes, state.v, *(leaf.grad for leaf in leaves)))
    (spikes, v, x_grad, theta_grad), truth = results
    assert (spikes.dtype, v.dtype, x_grad.dtype, theta_grad.dtype) == (dtype, torch.float32, dtype, dtype)
    assert torch.equal(spikes.float(), truth[0])
    assert torch.equal(v, truth[1])
    assert torch.equal(x_grad, truth[2].to(dtype))
    torch.testing.assert_close(theta_grad.float(), truth[3], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("gain", ["decay", "unit"])
def test_what_is_no_number_stays_and_reaches_no_neighbour(reset, gain):
    x = torch.full((4, 1, 4), 0.3)
    x[1] = torch.tensor([math.nan, math.inf, -math.inf, 0.3])
    spikes, state, membrane = DynamicLIF(4, reset=reset, gain=gain)(x, 0.9, return_membrane=True)
    assert spikes[:, 0, 0].tolist() == [0, 0, 0, 0]
    assert state.v[0, 0].isnan()
    assert spikes[:2, 0, 1].tolist() == [0, 1]
    assert spikes[:, 0, 2].sum() == 0
    assert membrane[1, 0, 2] == -math.inf
    assert state.v[0, 3].isfinite()


def test_a_threshold_that_is_no_number_silences():
    spikes, state = DynamicLIF(1)(sequence(5.0, 5.0), sequence(math.nan, 1.0))
    assert spikes.flatten().tolist() == [0, 1]
    assert state.v.item() == 0


@pytest.mark.parametrize("options", [{}, {"refractory": 2}, {"reset": "soft", "detach_reset": False}])
def test_gradients_of_a_smooth_run_are_finite_differences(options):
    # Below an infinite threshold nothing fires, so membranes are smooth in everything.
    layer = DynamicLIF(memory=Recompute(2), **options).double()
    left = torch.tensor([[0, 1, 2], [0, 0, 3]], dtype=torch.int32) if "refractory" in options else None

    def membrane(x, v0, decay):
        layer.fixed_decay = decay
        return layer(x, math.inf, LIFState(v0, left))[1].v

    x, v0 = noise(5, 2, 3, dtype=torch.float64), noise(2, 3, seed=1, dtype=torch.float64)
    decay = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(membrane, [each.requires_grad_() for each in (x, v0, decay)])


@pytest.mark.parametrize("spread", [lambda s: s.sum(), lambda s: s.mean(0).square().sum(), lambda s: s[..., :1].sum()])
def test_gradients_that_were_expanded_are_those_written_out(spread):
    grads = []
    for copy in (False, True):
        x = (noise(6, 2, 40) + 0.5).requires_grad_()
        spikes, _ = DynamicLIF(40)(x, 0.5)
        if copy:
            spikes.register_hook(lambda grad: grad.clone(memory_format=torch.contiguous_format))
        spread(spikes).backward()
        grads.append(x.grad)
    assert torch.equal(*grads)
    assert grads[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("memory", "share"), [(Full(), 1.0), (Recompute(8), 1 / 8), (Recompute(16), 1 / 16), (Recompute(100), 1 / 64)]
)
def test_memory_is_what_was_asked_for(memory, share):
    kept, x = [], noise(64, 2, 50).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        DynamicLIF(50, memory=memory)(x, 0.5)
    own = [each for each in kept if each.data_ptr() != x.data_ptr()]
    assert sum(each.numel() for each in own) <= x.numel() * share + 2


def test_memory_needs_two_steps_or_more():
    with pytest.raises(InputError, match=r"every in \[2, inf\], got 1"):
        Recompute(1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: LIF(tau=2.0, beta=0.5), r"tau or beta, got both. Leave one out: beta = 1 - 1 / tau"),
        (lambda: LIF(beta=1.5), "beta from 0 to 1, got 1.5 to 1.5"),
        (lambda: PLIF(beta=1.0), r"beta between 0 and 1 \(it is learnt\)"),
        (lambda: LIF(gain="units"), "Did you mean 'unit'"),
        (lambda: LIF(refractory=-1), r"refractory in \[0, inf\], got -1"),
        (lambda: SuperSpike(-1.0), "height above 0 and finite, got -1"),
        (lambda: ATan(scale=0.0), "scale above 0 and finite, got 0"),
        (
            lambda: LIF(refractory=1)(torch.ones(2, 3, 4), LIFState(torch.ones(3, 4), torch.ones(4))),
            r"left of shape \(3, 4\), got \(4,\)",
        ),
    ],
)
def test_errors_name_what_was_expected(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_print_shows_what_is_unusual():
    text = repr(LIF(gain="unit", strict=True, refractory=2, v_rest=0.5, detach_reset=False, memory=Recompute(4)))
    assert "v_rest=0.5, detach_reset=False, gain=unit, strict=True, refractory=2, memory=Recompute(every=4)" in text


def test_step_takes_the_options():
    x = noise(7, 2, 3) * 0.7
    layer = LIF(3, v_th=0.6, tau=3.0, refractory=1, strict=True, gain="unit", reset="soft")
    expected, last = layer(x)
    state, spikes = None, []
    for each in x:
        s, state = lif_step(each, state, 0.6, tau=3.0, refractory=1, strict=True, gain="unit", reset="soft")
        spikes.append(s)
    assert torch.equal(torch.stack(spikes), expected)
    assert torch.equal(state.v, last.v)
    assert torch.equal(state.refractory, last.refractory)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("options", [{}, {"refractory": 1, "memory": Recompute(3)}])
def test_compiled_whole_and_once_for_every_number_of_steps(backend, options):
    layer, graphs, after_first = DynamicLIF(5, reset="soft", **options), [], 0

    def count(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend(backend)(graph, inputs)

    torch._dynamo.reset()
    compiled = torch.compile(layer, backend=count, fullgraph=True, dynamic=True)
    for steps in (4, 7, 12, 2):
        x, theta = noise(steps, 3, 5) + 0.5, noise(steps, 3, 1).abs()
        leaves = [[each.clone().requires_grad_() for each in (x, theta)] for _ in range(2)]
        (spikes, state), (truth, last) = compiled(*leaves[0]), layer(*leaves[1])
        assert torch.equal(spikes, truth)
        assert torch.equal(state.v, last.v)
        for output in (spikes, truth):
            output.sum().backward()
        for compiled_leaf, leaf in zip(*leaves, strict=True):
            assert torch.equal(compiled_leaf.grad, leaf.grad)
        after_first = after_first or len(graphs)
    assert len(graphs) == after_first > 0


def test_neurons_run_and_train_without_the_compiler_being_imported():
    code = (
        "import sys, torch\nfrom neuroav.neurons import DynamicLIF\n"
        "x = torch.ones(3, 1, 2, requires_grad=True)\nDynamicLIF(2)(x, 0.5)[0].sum().backward()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
