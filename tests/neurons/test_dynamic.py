"""DynamicLIF: hand traces, carried state, gradients that arrive, arguments that don't fit."""

import math

import pytest
import torch

from neuroav.checks import InputError
from neuroav.neurons import LIF, PLIF, ATan, DynamicLIF, LIFState, lif_step


def constant(value, steps, neurons=1):
    return torch.full((steps, 1, neurons), value)


def test_constant_input_reaches_the_threshold_on_schedule():
    # v: 0.5, 0.75 -> spike -> 0, 0.5, 0.75 -> spike
    spikes, state = DynamicLIF(1, tau=2.0)(constant(1.0, 4), 0.75)
    assert spikes.flatten().tolist() == [0, 1, 0, 1]
    assert state.v.item() == 0


def test_soft_reset_keeps_what_is_above_the_threshold():
    # v: 2 -> spike, 1.25; 0.625 + 0.5 * 4 = 2.625 -> spike, 1.875
    spikes, state, membrane = DynamicLIF(1, reset="soft")(constant(4.0, 2), 0.75, return_membrane=True)
    assert spikes.flatten().tolist() == [1, 1]
    assert membrane.flatten().tolist() == [2.0, 2.625]
    assert state.v.item() == 1.875


def test_membrane_decays_to_rest_in_closed_form():
    tau, rest, start = torch.tensor([2.0, 5.0]), 0.3, 1.7
    _, state, membrane = DynamicLIF(tau=tau, v_rest=rest)(
        constant(0.0, 6, 2), math.inf, LIFState(torch.full((1, 2), start)), return_membrane=True
    )
    steps = torch.arange(1, 7).view(6, 1, 1)
    torch.testing.assert_close(membrane, rest + (start - rest) * (1 - 1 / tau) ** steps)
    assert torch.equal(state.v, membrane[-1])


def test_threshold_is_taken_step_by_step_and_sample_by_sample():
    theta = torch.tensor([[0.4, 0.6], [0.6, 0.4]]).unsqueeze(-1)
    spikes, _ = DynamicLIF(3)(torch.full((2, 2, 3), 1.0), theta)
    # Sample 0: 0.5 >= 0.4, then 0.5 < 0.6. Sample 1: 0.5 < 0.6, then 0.75 >= 0.4.
    assert spikes[..., 0].tolist() == [[1, 0], [0, 1]]
    assert torch.equal(spikes, spikes[..., :1].expand(2, 2, 3))


def test_a_neuron_fires_exactly_at_its_threshold():
    assert DynamicLIF(1)(constant(1.0, 1), 0.5)[0].item() == 1
    assert DynamicLIF(1)(constant(1.0, 1), math.nextafter(0.5, 1) + 1e-7)[0].item() == 0


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("detach", [True, False])
def test_an_infinite_threshold_silences_and_its_gradients_are_finite(reset, detach):
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    spikes, state = DynamicLIF(3, reset=reset, detach_reset=detach)(x, math.inf)
    assert spikes.sum() == 0
    (spikes.sum() + state.v.sum()).backward()
    assert x.grad.isfinite().all()
    assert (x.grad > 0).all()


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_two_calls_with_carried_state_are_one_long_call(reset):
    generator = torch.Generator().manual_seed(0)
    layer = DynamicLIF(4, tau=torch.tensor([1.5, 2, 3, 4]), learn_tau=True, reset=reset, detach_reset=False)
    x = torch.randn(9, 3, 4, generator=generator) + 0.6
    theta = torch.rand(9, 3, 1, generator=generator) * 0.5 + 0.3
    results = []
    for cuts in ([9], [1, 5, 3]):
        leaves = [x.clone().requires_grad_(), theta.clone().requires_grad_()]
        state, parts = None, []
        for x_part, theta_part in zip(leaves[0].split(cuts), leaves[1].split(cuts), strict=True):
            spikes, state = layer(x_part, theta_part, state)
            parts.append(spikes)
        spikes = torch.cat(parts)
        loss = (spikes * torch.arange(9.0).view(9, 1, 1)).sum() + state.v.square().sum()
        results.append((spikes.detach(), state.v.detach(), torch.autograd.grad(loss, [*leaves, layer.decay_logit])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    for one, other in zip(results[0][2], results[1][2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (4, 3, 1), (4, 1, 5), (4, 3, 5), (3, 1), (5,)])
def test_threshold_gradient_has_the_thresholds_own_shape(shape):
    theta = torch.full(shape, 0.5, requires_grad=True)
    spikes, _ = DynamicLIF(5)(torch.ones(4, 3, 5), theta)
    spikes.sum().backward()
    assert theta.grad.shape == shape
    assert (theta.grad < 0).all()


def test_detached_reset_makes_the_first_steps_gradient_independent_of_later_spikes():
    def grad(detach):
        x = torch.tensor([0.9, 0.3]).view(2, 1, 1).requires_grad_()
        spikes, _ = DynamicLIF(1, surrogate=ATan(2.0), detach_reset=detach)(x, 0.5)
        spikes.sum().backward()
        return x.grad.flatten().tolist()

    def slope(u):
        return 1 / (1 + (math.pi * u) ** 2)

    # h = 0.45, then 0.225 + 0.15 = 0.375: no spikes, so one formula of each by hand.
    first, second = slope(0.45 - 0.5), slope(0.375 - 0.5)
    assert grad(True) == pytest.approx([0.5 * (first + 0.5 * second), 0.5 * second])
    assert grad(False) == pytest.approx([0.5 * (first + 0.5 * second * (1 - 0.45 * first)), 0.5 * second])


def test_no_gradient_no_membrane_kept():
    layer = DynamicLIF(2)
    spikes, state = layer(torch.ones(3, 1, 2), 0.6)
    assert not spikes.requires_grad
    assert not state.v.requires_grad


def test_step_is_one_step_of_the_layer():
    x = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.6
    expected, last = LIF(3, v_th=0.6, tau=3.0, reset="soft")(x)
    state, spikes = None, []
    for each in x:
        s, state = lif_step(each, state, 0.6, tau=3.0, reset="soft")
        spikes.append(s)
    assert torch.equal(torch.stack(spikes), expected)
    assert torch.equal(state.v, last.v)


def test_fixed_threshold_layer_is_the_dynamic_one():
    x = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.6
    assert torch.equal(LIF(3, v_th=0.6)(x)[0], DynamicLIF(3)(x, torch.full((6, 2, 1), 0.6))[0])


@pytest.mark.parametrize("tau", [2.0, torch.tensor([1.5, 4.0])])
def test_learnt_time_constants_start_where_asked_stay_above_one_and_move(tau):
    layer = PLIF(2, tau=tau)
    torch.testing.assert_close(layer.tau.detach(), torch.as_tensor(tau))
    spikes, _ = layer(torch.ones(4, 3, 2))
    spikes.sum().backward()
    assert layer.decay_logit.grad.shape == torch.as_tensor(tau).shape
    assert (layer.decay_logit.grad > 0).all()
    with torch.no_grad():
        layer.decay_logit.fill_(10.0)
    assert (layer.tau > 1).all()


def test_fixed_time_constants_are_saved_but_not_trained():
    layer = DynamicLIF(tau=torch.tensor([2.0, 4.0]))
    assert list(layer.parameters()) == []
    assert layer.state_dict()["fixed_decay"].tolist() == [0.5, 0.25]
    other = DynamicLIF(tau=torch.tensor([3.0, 3.0]))
    other.load_state_dict(layer.state_dict())
    assert other.tau.tolist() == [2.0, 4.0]


def test_layer_in_double_runs_in_double():
    layer = DynamicLIF(2, tau=3.0).double()
    spikes, state = layer(torch.ones(2, 1, 2, dtype=torch.float64), 0.5)
    assert spikes.dtype == state.v.dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: DynamicLIF(3)(torch.ones(2, 3), 0.5), r"x of shape \(T, B, 3\), got \(2, 3\)"),
        (lambda: DynamicLIF(3)(torch.ones(2, 1, 4), 0.5), r"x of shape \(T, B, 3\), got \(2, 1, 4\)"),
        (lambda: DynamicLIF()(torch.ones(2), 0.5), r"x of shape \(T, B, \*\), got \(2,\)"),
        (lambda: DynamicLIF(tau=torch.ones(3, 1))(torch.ones(2, 3, 4), 0.5), r"decay that broadcasts .* got \(3, 1\)"),
        (
            lambda: DynamicLIF()(torch.ones(2, 3, 4), torch.ones(3)),
            r"theta that broadcasts to x \(2, 3, 4\), got \(3,\)",
        ),
        (lambda: DynamicLIF()(torch.ones(2, 3, 4), torch.ones(1, 2, 3, 4)), r"theta that broadcasts .* \(1, 2, 3, 4\)"),
        (lambda: DynamicLIF()(torch.ones(2, 3, 4), 0.5, LIFState(torch.ones(4))), r"v0 of shape \(3, 4\), got \(4,\)"),
        (lambda: DynamicLIF(tau=torch.ones(3))(torch.ones(2, 3, 4), 0.5), r"x of shape \(T, B, 3\)"),
        (lambda: DynamicLIF(4, tau=torch.ones(3)), r"tau of shape \(\) or \(4,\), got \(3,\)"),
        (lambda: DynamicLIF(tau=0.5), "tau of at least 1 step, got 0.5 to 0.5"),
        (lambda: DynamicLIF(tau=1.0, learn_tau=True), "tau above 1"),
        (lambda: DynamicLIF(tau=math.nan), "finite tau"),
        (lambda: DynamicLIF(reset="sofd"), "Did you mean 'soft'"),
        (lambda: lif_step(torch.tensor(1.0), None, 1.0), r"x of shape \(T, B, \*\), got \(1,\)"),
        (lambda: lif_step(torch.ones(2, 2), None, 1.0, tau=0.5), r"tau in \[1, inf\], got 0.5"),
        (lambda: ATan(0.0), "alpha above 0"),
    ],
)
def test_errors_name_what_was_expected(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_integers_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"float32, .* got torch.int64. Call x.float\(\) first"):
        DynamicLIF()(torch.ones(2, 1, 1, dtype=torch.int64), 0.5)


def test_print_shows_the_options():
    assert repr(LIF(4, tau=3.0, v_th=0.5, reset="soft")) == (
        "LIF(4, tau=3, reset=soft, surrogate=ATan(alpha=2.0, scale=1.0), v_th=0.5)"
    )
    assert "tau=2..4 (learnt)" in repr(DynamicLIF(tau=torch.tensor([2.0, 4.0]), learn_tau=True))


def test_a_second_derivative_is_refused_and_never_zero():
    x, neurons = torch.rand(4, 3, 5, requires_grad=True), DynamicLIF(5)
    spikes, _ = neurons(2 * x, 0.4)
    (once,) = torch.autograd.grad(spikes.square().sum(), x, retain_graph=True)
    (grad,) = torch.autograd.grad(spikes.square().sum(), x, create_graph=True)
    assert torch.equal(grad, once)
    with pytest.raises(InputError, match="one of second order"):
        grad.square().sum().backward()


def test_a_time_constant_of_one_entry_is_for_any_number_of_neurons():
    x = torch.rand(6, 2, 5)
    whole, _ = DynamicLIF(tau=3.0)(x, 0.3)
    assert torch.equal(DynamicLIF(tau=torch.tensor([3.0]))(x, 0.3)[0], whole)
    assert torch.equal(DynamicLIF(5, tau=torch.tensor([3.0]))(x, 0.3)[0], whole)
    with pytest.raises(InputError, match="tau of shape"):
        DynamicLIF(5, tau=torch.tensor([3.0, 2.0]))
