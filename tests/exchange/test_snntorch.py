"""Our neurons as snnTorch's and snnTorch's as ours; the truth is Leaky where its reset is sound, or a plain loop."""

import sys

import pytest
import torch
from torch import nn

from neuroav.exchange import snntorch
from neuroav.exchange.snntorch import FromSnnTorch
from neuroav.neurons import DynamicLIF, FastSigmoid, Sigmoid


@pytest.fixture
def leaky_class(snn):
    return snntorch.DynamicLeaky


@pytest.fixture
def current(noise):
    """``(12, 3, 7)`` between 0 and 0.9: below twice the threshold the subtraction of Leaky is sound."""
    return 0.9 * torch.sigmoid(2 * noise(12, 3, 7))


def stepped(leaky, x, **thetas):
    mem, spikes = torch.zeros_like(x[0]), []
    for t, step in enumerate(x.unbind(0)):
        out, mem = leaky(step, mem, **{name: theta[t] for name, theta in thetas.items()})
        spikes.append(out)
    return torch.stack(spikes), mem


def gradients(leaky, x, weight):
    x = x.clone().requires_grad_()
    spikes, _ = stepped(leaky, x)
    named = dict(leaky.named_parameters())
    grads = torch.autograd.grad((spikes * weight).sum(), [x, named["beta"], named["threshold"]])
    return spikes.detach(), grads


def by_hand(x, theta, beta, zero):
    spikes, mem = torch.zeros_like(x), torch.zeros_like(x[0])
    for t in range(len(x)):
        mem = beta * mem + x[t]
        spikes[t] = (mem > theta[t]).float()
        mem = mem * (1 - spikes[t]) if zero else mem - spikes[t] * theta[t]
    return spikes


@pytest.mark.parametrize(
    ("mechanism", "delay"),
    [("zero", True), ("zero", False), ("subtract", False)],
    ids=["zero-late", "zero", "subtract"],
)
def test_spikes_and_gradients_are_those_of_leaky(snn, leaky_class, current, noise, mechanism, delay):
    """A late reset to zero is the same neuron seen before its reset; a late subtraction takes away another amount."""
    options = {"reset_mechanism": mechanism, "learn_beta": True, "learn_threshold": True}
    theirs = snn.Leaky(0.8, reset_delay=delay, **options)
    ours = leaky_class(0.8, detach_reset=delay, **options)
    weight = noise(12, 3, 7)
    spikes, grads = gradients(theirs, current, weight)
    own_spikes, own_grads = gradients(ours, current, weight)
    assert 0.1 < spikes.mean() < 0.5
    assert torch.equal(own_spikes, spikes)
    torch.testing.assert_close(own_grads, grads, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["fast_sigmoid", "sigmoid"])
def test_surrogates_are_those_of_leaky(snn, leaky_class, current, noise, name):
    ours = {"fast_sigmoid": FastSigmoid(25.0), "sigmoid": Sigmoid(25.0)}[name]
    options = {"reset_mechanism": "zero", "learn_beta": True, "learn_threshold": True}
    weight = noise(12, 3, 7)
    theirs = snn.Leaky(0.8, spike_grad=getattr(snn.surrogate, name)(slope=25), **options)
    _, grads = gradients(theirs, current, weight)
    _, own_grads = gradients(leaky_class(0.8, spike_grad=ours, **options), current, weight)
    torch.testing.assert_close(own_grads, grads, rtol=1e-4, atol=1e-4)


def test_subtraction_keeps_firing_where_leaky_falls_silent(snn, leaky_class):
    x = torch.tensor([3.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1)
    theirs, _ = stepped(snn.Leaky(1.0, reset_delay=False), x)
    ours, mem = stepped(leaky_class(1.0), x)
    assert ours.flatten().tolist() == [1, 1, 0, 0]  # 3, 2, then 1, which is not above 1
    assert mem.item() == 1.0
    assert theirs.flatten().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("mechanism", ["zero", "subtract"])
def test_the_threshold_may_be_a_signal(snn, leaky_class, noise, mechanism):
    x, theta = noise(20, 3, 7), 0.3 + noise(20, 3, 1).abs()
    leaky = leaky_class(0.75, reset_mechanism=mechanism)
    truth = by_hand(x, theta, 0.75, mechanism == "zero")
    assert torch.equal(stepped(leaky, x, theta=theta)[0], truth)
    assert torch.equal(leaky.sequence(x, theta=theta)[0], truth)

    rebound, mem, spikes = snn.Leaky(0.75, reset_mechanism=mechanism), torch.zeros_like(x[0]), []
    for t in range(20):
        rebound.threshold = theta[t]
        out, mem = rebound(x[t], mem)
        spikes.append(out)
    assert (torch.stack(spikes) != truth).float().mean() > 0.02  # the trap that the signal avoids


def test_steps_are_the_sequence_with_gradients(leaky_class, noise):
    x, weight, theta = noise(9, 3, 7), noise(9, 3, 7), (0.3 + noise(9, 3, 1).abs()).requires_grad_()
    leaky = leaky_class(torch.linspace(0.5, 0.9, 7), learn_beta=True)
    results = []
    for spikes, mem in (stepped(leaky, x, theta=theta), leaky.sequence(x, theta=theta)):
        results.append((spikes, mem, *torch.autograd.grad((spikes * weight).sum(), [theta, leaky.beta])))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_hidden_state_and_utils_reset(snn, leaky_class, noise):
    net = nn.Sequential(nn.Linear(5, 4), leaky_class(0.9, threshold=0.2, init_hidden=True))
    x = noise(2, 5)
    with torch.no_grad():
        first = net(x)
        mem = net[1].mem.clone()
        net(x)
        assert not torch.equal(net[1].mem, mem)
        snn.utils.reset(net)
        assert not net[1].mem.any()
        assert torch.equal(net(x), first)
        assert torch.equal(net[1].mem, mem)
        assert net(noise(3, 5)).shape == (3, 4)  # another batch starts from 0
    with pytest.raises(TypeError, match="expected no mem, which init_hidden=True keeps itself"):
        net[1](x[:, :4], x[:, :4])


def test_output_returns_the_membrane_too(leaky_class, noise):
    leaky = leaky_class(0.9, init_hidden=True, output=True)
    spikes, mem = leaky(noise(2, 4))
    assert spikes.shape == mem.shape == (2, 4)
    assert torch.equal(leaky.mem, mem)


def test_detach_hidden_cuts_the_graph(snn, leaky_class, noise):
    leaky = leaky_class(0.9, init_hidden=True)
    x = noise(2, 4).requires_grad_()
    leaky(x)
    assert leaky.mem.requires_grad
    snn.Leaky.detach_hidden()
    assert not leaky.mem.requires_grad
    leaky(x).sum().backward()


def test_parameters_are_leakys(snn, leaky_class):
    theirs = snn.Leaky(0.7, threshold=0.4, learn_beta=True)
    ours = leaky_class(0.1, learn_beta=True)
    ours.load_state_dict(theirs.state_dict())
    assert ours.beta.item() == pytest.approx(0.7)
    assert ours.threshold.item() == pytest.approx(0.4)
    assert isinstance(ours, snn.Leaky)


def test_foreign_surrogates_and_resets_are_refused(snn, leaky_class):
    with pytest.raises(ValueError, match=r"expected spike_grad out of neuroav.neurons.surrogate, got <function"):
        leaky_class(0.9, spike_grad=snn.surrogate.atan())
    with pytest.raises(ValueError, match="reset_mechanism 'subtract' or 'zero', got 'none'"):
        leaky_class(0.9, reset_mechanism="none")


def test_leaky_takes_our_call(snn, current):
    adapted = FromSnnTorch(snn.Leaky(0.8, reset_mechanism="zero"))
    spikes, _ = adapted(current)
    same = DynamicLIF(beta=0.8, gain="unit", strict=True)
    assert torch.equal(spikes, same(current, 1.0)[0])
    first, state = adapted(current[:5], 1.0)
    second, state = adapted(current[5:], torch.ones(7, 3, 1), state)
    assert torch.equal(torch.cat([first, second]), spikes)
    with pytest.raises(ValueError, match="own threshold 1, as it resets one step later, by the threshold of that step"):
        adapted(current, torch.linspace(0.5, 2, 12).reshape(12, 1, 1))


def test_our_neuron_takes_a_signal_through_the_adapter(leaky_class, noise):
    x, theta = noise(6, 2, 5), 0.3 + noise(6, 2, 1).abs()
    same = DynamicLIF(beta=0.8, gain="unit", strict=True, reset="soft")
    assert torch.equal(FromSnnTorch(leaky_class(0.8))(x, theta)[0], same(x, theta)[0])


def test_what_can_not_be_adapted_is_said(snn):
    with pytest.raises(TypeError, match=r"FromSnnTorch: expected a snntorch.Leaky, got ReLU"):
        FromSnnTorch(nn.ReLU())
    with pytest.raises(ValueError, match="expected init_hidden=False"):
        FromSnnTorch(snn.Leaky(0.9, init_hidden=True))
    with pytest.warns(UserWarning, match="never fire again"):
        FromSnnTorch(snn.Leaky(0.9, reset_delay=False))


def test_a_motion_stream_runs_on_leaky(snn, noise):
    from neuroav.mdft.motion import SpikingLayers

    stream = SpikingLayers(layers=1, learn_tau=False).build(6).eval()
    x, theta, valid = noise(5, 3, 6), torch.full((5, 3, 1), 0.25), torch.ones(5, 3, dtype=torch.bool)
    before = stream(x, theta, valid)[0].output
    stream.neuron[0] = FromSnnTorch(snn.Leaky(0.5, threshold=0.5, reset_mechanism="zero"))  # the gain is in theta
    after = stream(x, 2 * theta, valid)[0].output
    assert 0 < before.mean() < 1
    assert torch.equal(before, after)


def test_without_snntorch_the_remedy_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "snntorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(ImportError, match=r"expected the package snntorch, got .*pip install 'snntorch>=1'"):
        FromSnnTorch(nn.Identity())
