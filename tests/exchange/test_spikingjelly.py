"""Our neurons as SpikingJelly's and SpikingJelly's as ours; the truth is SpikingJelly's LIFNode, or a plain loop."""

import pickle
import sys

import pytest
import torch
from torch import nn

from neuroav.exchange import spikingjelly
from neuroav.exchange.spikingjelly import FromSpikingJelly, teach_counters, to_spikingjelly
from neuroav.neurons import ALIF, PLIF, DynamicLIF, Triangle

SETTINGS = [
    {},
    {"v_reset": None},
    {"v_reset": 0.2},
    {"decay_input": False},
    {"detach_reset": True},
    {"v_reset": None, "detach_reset": True, "decay_input": False},
]
SURROGATES = [("ATan", 2.0), ("Sigmoid", 4.0), ("PiecewiseQuadratic", 0.5), ("SoftSign", 3.0), ("SuperSpike", 2.0)]


@pytest.fixture
def node_class(sj):
    return spikingjelly.DynamicLIFNode


def trained(call, x, weight, *others):
    """Spikes, and gradients of a weighted sum of them to x and ``others``."""
    x = x.clone().requires_grad_()
    spikes = call(x)
    return spikes.detach(), torch.autograd.grad((spikes * weight).sum(), [x, *others])


def by_hand(x, theta, tau, soft):
    """SpikingJelly's equations with a threshold for every step, one neuron at a time."""
    spikes, v = torch.zeros_like(x), torch.zeros_like(x[0])
    for t in range(len(x)):
        v = v + (x[t] - v) / tau
        spikes[t] = (v >= theta[t]).float()
        v = v - spikes[t] * theta[t] if soft else v * (1 - spikes[t])
    return spikes


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda pair: pair[0])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_spikes_and_gradients_are_those_of_lif_node(sj, node_class, noise, options, surrogate):
    x, weight = 2 * noise(12, 3, 7), noise(12, 3, 7)
    name, alpha = surrogate
    options = {"tau": 2.5, "v_threshold": 0.6, "surrogate_function": getattr(sj.surrogate, name)(alpha), **options}
    theirs, ours = (cls(step_mode="m", **options) for cls in (sj.neuron.LIFNode, node_class))
    spikes, (grad,) = trained(theirs, x, weight)
    own_spikes, (own_grad,) = trained(ours, x, weight)
    assert 0.1 < spikes.mean() < 0.6
    assert torch.equal(own_spikes, spikes)
    torch.testing.assert_close(own_grad, grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.v, theirs.v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_the_threshold_may_be_a_signal(node_class, noise, soft):
    x, theta = 2 * noise(20, 3, 7), 0.3 + noise(20, 3, 1).abs()
    node = node_class(tau=2.0, v_reset=None if soft else 0.0, step_mode="m")
    assert torch.equal(node(x, theta), by_hand(x, theta, 2.0, soft))


@pytest.mark.parametrize("options", [{}, {"strict": True}, {"v_reset": None}], ids=str)
def test_single_steps_are_the_sequence(node_class, noise, options):
    x, weight, theta = 2 * noise(9, 3, 7), noise(9, 3, 7), (0.3 + noise(9, 3, 1).abs()).requires_grad_()
    one, many = node_class(step_mode="s", **options), node_class(step_mode="m", **options)
    whole = trained(lambda x: many(x, theta), x, weight, theta)
    steps = trained(lambda x: torch.stack([one(x[t], theta[t]) for t in range(9)]), x, weight, theta)
    assert torch.equal(steps[0], whole[0])
    torch.testing.assert_close(steps[1], whole[1], rtol=1e-5, atol=1e-6)
    assert whole[1][1].abs().sum() > 0


def test_a_number_or_no_threshold_is_fixed(node_class, noise):
    x = noise(6, 2, 3)
    nodes = [node_class(v_threshold=v, step_mode="m") for v in (0.4, 1.0, 1.0)]
    spikes = [nodes[0](x), nodes[1](x, 0.4), nodes[2](x, theta=0.4)]
    assert torch.equal(spikes[0], spikes[1])
    assert torch.equal(spikes[0], spikes[2])
    assert spikes[0].sum() > 0


def test_reset_net_and_set_step_mode(sj, node_class, noise):
    net = nn.Sequential(nn.Linear(5, 4), node_class(v_threshold=0.2, v_reset=0.1))
    sj.functional.set_step_mode(net, "m")
    x = 3 * noise(8, 2, 5)
    first = net(x)
    carried = net(x)
    sj.functional.reset_net(net)
    sj.functional.reset_net(net)
    assert net[1].v == 0.1
    assert torch.equal(net(x), first)
    assert not torch.equal(carried, first)
    assert net(3 * noise(8, 3, 5)).shape == (8, 3, 4)  # another batch starts from rest


@pytest.mark.parametrize("mode", ["s", "m"])
def test_detach_net_cuts_the_graph(sj, node_class, noise, mode):
    node = node_class(step_mode=mode, store_v_seq=True)
    x = noise(2, 3).requires_grad_() if mode == "s" else noise(4, 2, 3).requires_grad_()
    node(x)
    assert node.v.requires_grad
    sj.functional.detach_net(node)
    assert not node.v.requires_grad
    node(x).sum().backward()
    assert x.grad is not None


def test_a_layer_is_shared_with_its_learnt_decay(sj, node_class, noise):
    layer = PLIF(5, tau=3.0, v_th=0.3)
    node = to_spikingjelly(layer)
    x = noise(6, 2, 5)
    spikes, _ = layer(x)
    assert isinstance(node, sj.neuron.BaseNode)
    assert torch.equal(node(x), spikes)
    assert [*node.parameters()] == [layer.decay_logit]
    node(x).sum().backward()
    assert layer.decay_logit.grad is not None


def test_a_layer_that_does_more_is_refused():
    with pytest.raises(
        ValueError, match=r"to_spikingjelly: expected a DynamicLIF, LIF or PLIF, got ALIF\. A threshold"
    ):
        to_spikingjelly(ALIF())


def test_refractory_steps_are_a_second_memory(node_class, noise):
    x = 3 * noise(12, 2, 5).abs()
    many, one = (to_spikingjelly(DynamicLIF(refractory=2), step_mode=mode) for mode in "ms")
    spikes = many(x)
    assert torch.equal(torch.stack([one(step) for step in x]), spikes)
    close = spikes[1:] * spikes[:-1]
    assert spikes.sum() > 0
    assert close.sum() == 0
    many.reset()
    assert many.refractory is None
    assert torch.equal(many(x), spikes)


@pytest.mark.parametrize("options", [{"v_reset": None}, {"v_reset": 0.2}], ids=str)
@pytest.mark.parametrize("mode", ["s", "m"])
def test_stored_membranes_are_lif_nodes(sj, node_class, noise, options, mode):
    x = 2 * noise(7, 2, 5)
    sequences = []
    for cls in (sj.neuron.LIFNode, node_class):
        node = cls(step_mode=mode, store_v_seq=True, **options)
        _ = node(x) if mode == "m" else [node(step) for step in x]
        sequences.append(node.v_seq)
    torch.testing.assert_close(sequences[1], sequences[0], rtol=1e-5, atol=1e-6)


def test_an_infinite_threshold_silences(node_class, noise):
    node = node_class(v_reset=None, step_mode="m", store_v_seq=True)
    theta = torch.tensor([0.2, torch.inf, 0.2]).reshape(3, 1, 1)
    spikes = node(3 * noise(3, 2, 5), theta)
    assert spikes.sum(dim=(1, 2)).tolist()[1] == 0 < spikes.sum()
    assert node.v_seq.isfinite().all()
    assert torch.equal(node.v_seq[-1], node.v)


def test_a_node_survives_pickling(node_class, noise):
    node, x = node_class(tau=3.0, v_threshold=0.3, step_mode="m"), 2 * noise(5, 2, 4)
    again = pickle.loads(pickle.dumps(node))  # noqa: S301 - written a moment ago
    assert type(again) is node_class
    assert torch.equal(again(x), node(x))


def test_monitors_see_spikes_and_membranes(sj, node_class, noise):
    net = nn.Sequential(nn.Linear(5, 4), node_class(v_threshold=0.2, step_mode="m", store_v_seq=True))
    spikes = sj.monitor.OutputMonitor(net, node_class)
    membranes = sj.monitor.AttributeMonitor("v_seq", pre_forward=False, net=net, instance=node_class)
    out = net(noise(6, 2, 5))
    assert torch.equal(spikes["1"][0], out)
    assert membranes["1"][0].shape == (6, 2, 4)
    spikes.close()
    membranes.close()


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_counters_count_what_a_lif_node_counts(sj, node_class, noise, v_reset):
    x, counts = noise(6, 2, 5), []
    for cls in (sj.neuron.LIFNode, node_class):
        node, counters = cls(step_mode="m", v_reset=v_reset), [sj.op_counter.ACCounter(), sj.op_counter.FlopCounter()]
        teach_counters(*counters)
        with torch.no_grad(), sj.op_counter.DispatchCounterMode(counters):
            node(x)
        counts.append([counter.get_total() for counter in counters])
    assert counts[0] == counts[1]
    assert min(counts[1]) >= 5 * x.numel()


def test_the_state_counter_counts_the_membrane(sj, node_class, noise):
    counter = sj.op_counter.NeuronStateCounter()
    teach_counters(counter)
    with torch.no_grad(), sj.op_counter.DispatchCounterMode([counter]):
        node_class(step_mode="m")(noise(6, 2, 5))
    assert counter.metric_records["Global"]["state_reads"] == 6 * 2 * 5 * 4
    assert counter.metric_records["Global"]["neuron_logical_steps"] == 6 * 2 * 5
    with pytest.raises(TypeError, match="teach_counters: expected ACCounter, FlopCounter or NeuronStateCounter, got"):
        teach_counters(sj.op_counter.MACCounter())


def test_the_functional_form_leaves_the_node_alone(sj, node_class, noise):
    node = node_class(step_mode="m")
    x, theta = noise(6, 2, 5), noise(6, 2, 1).abs()
    (spikes,), states = sj.base.to_functional_forward(node)((x, theta), (0.0,))
    assert torch.equal(spikes, node_class(step_mode="m")(x, theta))
    assert states[0].shape == (2, 5)
    assert node.v == 0.0


def test_half_precision_keeps_a_full_state(node_class, noise):
    one, many, x = node_class(v_threshold=0.3), node_class(v_threshold=0.3, step_mode="m"), noise(9, 2, 5).bfloat16()
    spikes = torch.stack([one(step) for step in x])
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(many(x), spikes)
    assert torch.equal(many.v, one.v)
    assert not torch.equal(one.v, one.v.bfloat16().float())


def test_unknown_surrogates_are_named(sj, node_class):
    assert node_class(surrogate_function=Triangle(2.0)).surrogate_function == Triangle(2.0)
    with pytest.raises(ValueError, match=r"expected a surrogate that the kernel knows .*, got Erf"):
        node_class(surrogate_function=sj.surrogate.Erf())


def test_a_lif_node_takes_our_call(sj, noise):
    x = 2 * noise(10, 2, 5)
    node = sj.neuron.LIFNode(tau=2.5, v_threshold=0.6)
    adapted = FromSpikingJelly(node)
    spikes, _ = adapted(x)
    assert torch.equal(spikes, sj.neuron.LIFNode(tau=2.5, v_threshold=0.6, step_mode="m")(x))
    first, state = adapted(x[:4], 0.6)
    second, state = adapted(x[4:], torch.full((6, 2, 1), 0.6), state)
    assert torch.equal(torch.cat([first, second]), spikes)
    assert node.v == 0.0
    assert len(state) == 1


def test_any_neuron_with_memories_takes_our_call(sj, noise):
    x = 2 * noise(6, 2, 5)
    for make in (
        lambda: sj.neuron.SimpleLIFNode(tau=2.0, decay_input=True),
        lambda: sj.neuron.ParametricLIFNode(),
        lambda: sj.neuron.IFNode(),
    ):
        theirs = make()
        theirs.step_mode = "m"
        assert torch.equal(FromSpikingJelly(make())(x, 1.0)[0], theirs(x))


def test_our_node_takes_a_signal_through_the_adapter(node_class, noise):
    x, theta = 2 * noise(6, 2, 5), 0.3 + noise(6, 2, 1).abs()
    assert torch.equal(FromSpikingJelly(node_class())(x, theta)[0], DynamicLIF()(x, theta)[0])


def test_a_threshold_signal_is_refused_with_the_reason(sj, noise):
    adapted = FromSpikingJelly(sj.neuron.LIFNode())
    with pytest.raises(ValueError, match=r"own threshold 1, as its kernels take a Python number, got 1 to 2"):
        adapted(noise(2, 1, 3), torch.tensor([1.0, 2.0]).reshape(2, 1, 1))
    with pytest.raises(ValueError, match=r"got 0\.7"):
        adapted(noise(2, 1, 3), 0.7)
    with pytest.raises(TypeError, match="FromSpikingJelly: expected a SpikingJelly neuron, got ReLU"):
        FromSpikingJelly(nn.ReLU())


def test_a_motion_stream_runs_on_lif_nodes(sj, noise):
    from neuroav.mdft.motion import SpikingLayers

    stream = SpikingLayers(layers=2, learn_tau=False).build(6).eval()
    x, theta, valid = noise(5, 3, 6), torch.full((5, 3, 1), 0.25), torch.ones(5, 3, dtype=torch.bool)
    before = [trace.output for trace in stream(x, theta, valid)]
    for index in range(2):
        stream.neuron[index] = FromSpikingJelly(sj.neuron.LIFNode(tau=2.0, v_threshold=0.25))
    after = [trace.output for trace in stream(x, theta, valid)]
    assert before[1].mean() > 0
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_without_spikingjelly_the_remedy_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "spikingjelly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "spikingjelly", None)
    with pytest.raises(ImportError, match=r"expected the package spikingjelly, got .*pip install 'spikingjelly>=2'"):
        FromSpikingJelly(nn.Identity())


def test_other_names_are_missing_as_usual():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = spikingjelly.Nothing
