"""Threshold rules: traces by hand, gradients against plain autograd, what they are for, arguments that don't fit."""

import math

import pytest
import torch

from neuroav.checks import InputError
from neuroav.mdft.motion import AnchoredThreshold, ProductThreshold
from neuroav.neurons import ALIF, ALIFState, ATan, DynamicLIF, LearnedThreshold
from neuroav.neurons.threshold import anchored, event_factor, homeostatic, product, scene_level


def smooth_inputs(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(size, generator=generator, dtype=torch.float64).requires_grad_() for size in sizes]


# ------------------------------------------------------------------------------------------------------------- Eq. 7


def test_event_factor_by_hand():
    joint = torch.tensor([0.0, math.log(9.0)]).reshape(1, 1, 2)  # mean log 3, so phi = 3 / 4
    share, magnitude = torch.tensor([0.5, 0.25]).reshape(1, 1, 2), torch.tensor([[[3.0, 0.0]]])
    expected = 0.75 + (0.5 * math.log(5) + 0.25 * math.log(4)) / 2
    assert scene_level(joint).item() == pytest.approx(0.75)
    assert event_factor(joint, magnitude, share).item() == pytest.approx(expected)
    assert event_factor(joint, magnitude[..., :1], share).shape == (1, 1, 1)


def test_anchored_takes_each_step_by_itself_and_product_carries_it_on():
    factor = torch.tensor([0.5, 3.0, 0.8, 0.8]).reshape(4, 1, 1)
    assert anchored(factor, 0.5, 0.6, 2.0).flatten().tolist() == pytest.approx([0.3, 1.0, 0.4, 0.4])
    assert product(factor, 0.5, 0.6, 2.0).flatten().tolist() == pytest.approx([0.3, 0.9, 0.72, 0.576])


def test_eq_7_passes_gradients_to_scene_events_and_share():
    joint, magnitude, share = smooth_inputs((3, 2, 4), (3, 2, 1), (3, 2, 4))

    def rules(joint, magnitude, share):
        factor = event_factor(joint, magnitude, 0.1 + share)
        return anchored(factor, 0.5, 0.1, 9.0), product(factor, 0.5, 0.1, 9.0)

    assert torch.autograd.gradcheck(rules, (joint, magnitude, share))


@pytest.mark.parametrize("kind", [AnchoredThreshold, ProductThreshold])
def test_the_motion_streams_thresholds_are_these_rules_bit_for_bit(kind):
    torch.manual_seed(0)
    joint, magnitude = torch.randn(9, 3, 16), torch.rand(9, 3, 1) * 4
    block = kind(v0=0.4, low=0.6, high=1.8).build(16)
    share = torch.sigmoid(torch.nn.functional.layer_norm(joint, (16,)))
    factor = torch.sigmoid(joint.mean(-1, keepdim=True)) + (share * torch.log(1.0 / share + magnitude)).mean(
        -1, keepdim=True
    )
    expected, theta = [], torch.full((3, 1), 0.4)
    for each in factor:
        theta = (each * theta).clamp(0.6 * 0.4, 1.8 * 0.4)
        expected.append(0.4 * each.clamp(0.6, 1.8) if kind is AnchoredThreshold else theta)
    assert torch.equal(block(joint, magnitude), torch.stack(expected))


# -------------------------------------------------------------------------------------------------------------- ALIF


def test_threshold_rises_after_a_spike_and_decays():
    # tau = 2, input 4: h = 2, 3, 3.5, ... from rest. rho = 1/2, theta = 1 + 4 a.
    # a: 0 -> theta 1, fires -> a 1/2, theta 3: h = 2 silent -> a 1/4, theta 2: h = 3 fires -> a 5/8, theta 3.5: h = 2
    # silent -> a 5/16, theta 2.25: h = 3 fires -> a 21/32.
    neurons = ALIF(1, v_th=1.0, rise=4.0, tau_a=1 / math.log(2))
    spikes, state = neurons(torch.full((5, 1, 1), 4.0))
    assert spikes.flatten().tolist() == [1, 0, 1, 0, 1]
    assert state.adaptation.item() == pytest.approx(21 / 32)
    assert state.neurons.v.item() == 0


def test_without_adaptation_it_is_the_plain_layer():
    x = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.6
    spikes, state = ALIF(3, v_th=0.6, rise=0.0, reset="soft", tau=3.0)(x)
    expected, last = DynamicLIF(3, reset="soft", tau=3.0)(x, 0.6)
    assert torch.equal(spikes, expected)
    assert torch.equal(state.neurons.v, last.v)


def test_two_calls_with_carried_state_are_one_long_call():
    layer = ALIF(3, v_th=0.4, rise=1.5, tau_a=4.0)
    x = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.8
    results = []
    for cuts in ([9], [2, 6, 1]):
        leaf, state, parts = x.clone().requires_grad_(), None, []
        for part in leaf.split(cuts):
            spikes, state = layer(part, state)
            parts.append(spikes)
        loss = (torch.cat(parts) * torch.arange(9.0).view(9, 1, 1)).sum() + state.adaptation.square().sum()
        results.append((torch.cat(parts).detach(), state.adaptation.detach(), torch.autograd.grad(loss, leaf)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-5, atol=1e-6)
    assert 0.05 < results[0][0].mean() < 0.95


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        return grad * ATan(2.0).grad(ctx.saved_tensors[0])


def test_gradient_is_autograds_through_thresholds_and_spikes():
    x = (torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.8).requires_grad_()
    weight = torch.arange(1.0, 9.0, dtype=torch.float64).view(8, 1, 1)
    rho, v, a, fired = math.exp(-1 / 4.0), 0.0, 0.0, []
    for t in range(8):
        h = v + (x[t] - v) / 2
        s = Spike.apply(h - (0.4 + 1.5 * a))
        v, a = h * (1 - s.detach()), rho * a + (1 - rho) * s
        fired.append(s)
    (expected,) = torch.autograd.grad((torch.stack(fired) * weight).sum(), x)
    spikes, _ = ALIF(3, v_th=0.4, rise=1.5, tau_a=4.0).double()(x)
    (actual,) = torch.autograd.grad((spikes * weight).sum(), x)
    assert torch.equal(spikes, torch.stack(fired))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    assert (expected.abs() > 0).all()


def test_adaptation_lowers_the_rate_of_a_strongly_driven_neuron():
    x = torch.full((200, 1, 1), 3.0)
    rates = [ALIF(1, v_th=0.5, rise=rise, tau_a=10.0)(x)[0][100:].mean().item() for rise in (0.0, 2.0, 8.0)]
    assert rates[0] == 1.0
    assert rates[0] > rates[1] > rates[2] > 0


# ------------------------------------------------------------------------------------------- rates and learnt values


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), 0.5 + 0.4 * (5 / 12 - 0.25)),
        ((3,), [0.5 + 0.4 * (rate - 0.25) for rate in (1.0, 0.25, 0.0)]),
        ((2, 1), [[0.5 + 0.4 * (rate - 0.25)] for rate in (1 / 3, 1 / 2)]),
        ((2, 1, 1), [[[0.5 + 0.4 * (rate - 0.25)]] for rate in (1 / 2, 1 / 3)]),
    ],
)
def test_homeostasis_takes_the_rate_over_all_that_share_a_threshold(shape, expected):
    spikes = torch.tensor([[[1.0, 0, 0], [1, 1, 0]], [[1, 0, 0], [1, 0, 0]]])  # (T, B, N) = (2, 2, 3)
    theta = homeostatic(torch.full(shape, 0.5), spikes, target_rate=0.25, speed=0.4)
    torch.testing.assert_close(theta, torch.tensor(expected))


def test_homeostasis_brings_every_neuron_to_its_target_rate():
    generator = torch.Generator().manual_seed(0)
    neurons, theta, drive = DynamicLIF(4), torch.full((4,), 0.5), torch.tensor([0.5, 1.0, 2.0, 4.0])
    rates = []
    for _ in range(150):
        spikes, _ = neurons(torch.randn(32, 16, 4, generator=generator) + drive, theta)
        theta = homeostatic(theta, spikes, target_rate=0.1, speed=0.2)
        rates.append(spikes.mean((0, 1)))
    torch.testing.assert_close(torch.stack(rates[100:]).mean(0), torch.full((4,), 0.1), rtol=0, atol=0.01)
    assert (theta.diff() > 0.2).all()
    assert (rates[0] - 0.1).abs().max() > 0.5


def test_homeostasis_is_bounded_and_passes_gradients_to_the_threshold_alone():
    theta, spikes = torch.tensor([0.1, 0.5], requires_grad=True), torch.zeros(3, 1, 2, requires_grad=True)
    moved = homeostatic(theta, spikes, target_rate=0.5, speed=0.3, low=0.05)
    assert moved.tolist() == pytest.approx([0.05, 0.35])
    moved.sum().backward()
    assert theta.grad.tolist() == [0, 1]
    assert spikes.grad is None


@pytest.mark.parametrize("v_th", [1e-3, 0.5, 40.0, 1e3])
def test_learnt_threshold_starts_where_asked(v_th):
    assert LearnedThreshold(v_th=v_th)().item() == pytest.approx(v_th, rel=1e-5)
    assert LearnedThreshold(3, v_th=v_th)().shape == (3,)


def test_learnt_threshold_falls_where_more_spikes_are_wanted_and_stays_above_0():
    threshold, neurons = LearnedThreshold(2, v_th=0.9), DynamicLIF(2)
    optimizer = torch.optim.SGD(threshold.parameters(), lr=0.5)
    x = torch.tensor([1.0, 0.2]).expand(6, 4, 2)
    before = neurons(x, threshold())[0].sum().item()
    for _ in range(200):
        optimizer.zero_grad()
        (-neurons(x, threshold())[0].sum() / 24).backward()
        optimizer.step()
    assert neurons(x, threshold())[0].sum().item() > before
    assert (threshold() > 0).all()
    assert (threshold() < 0.9).all()


def test_learnt_thresholds_gradient_is_softplus_times_that_of_theta():
    threshold, x = LearnedThreshold(v_th=0.5), torch.full((3, 1, 2), 0.8)
    DynamicLIF()(x, threshold())[0].sum().backward()
    theta = torch.tensor(0.5, requires_grad=True)
    DynamicLIF()(x, theta)[0].sum().backward()
    # d softplus(w) / dw = sigmoid(w) = 1 - exp(-theta)
    assert threshold.raw.grad.item() == pytest.approx(theta.grad.item() * (1 - math.exp(-0.5)), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ALIF(tau_a=0.0), "tau_a above 0 and finite, got 0"),
        (lambda: ALIF(3)(torch.ones(0, 2, 3)), r"T at least 1, got \(0, 2, 3\)"),
        (lambda: ALIF(3)(torch.ones(2, 2, 4)), r"x of shape \(T, B, 3\)"),
        (lambda: LearnedThreshold(v_th=0.0), "v_th above 0 and finite, got 0"),
        (
            lambda: homeostatic(torch.ones(3), torch.ones(2, 2, 4), target_rate=0.1, speed=1.0),
            r"theta that broadcasts to spikes \(2, 2, 4\), not empty, got \(3,\)",
        ),
        (lambda: homeostatic(torch.ones(()), torch.ones(0, 2, 4), target_rate=0.1, speed=1.0), "not empty"),
        (lambda: homeostatic(torch.ones(()), torch.ones(2, 4), target_rate=0.1, speed=1.0), r"spikes of shape \(T, B"),
        (lambda: homeostatic(torch.ones(()), torch.ones(2, 2, 4), target_rate=1.1, speed=1.0), r"in \[0, 1\], got 1.1"),
    ],
)
def test_errors_name_what_was_expected(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_alif_state_is_not_modified_and_print_shows_the_rule():
    state = ALIFState(DynamicLIF(2)(torch.ones(1, 1, 2), 0.4)[1], torch.full((1, 2), 0.3))
    ALIF(2)(torch.ones(3, 1, 2), state)
    assert state.adaptation.tolist() == [[pytest.approx(0.3)] * 2]
    assert "v_th=1, rise=2, tau_a=20" in repr(ALIF(2, rise=2.0))
    assert repr(LearnedThreshold(v_th=0.5)) == "LearnedThreshold(theta=0.5)"
