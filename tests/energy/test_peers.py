"""Counts beside SpikingJelly's operation counters, and the neurons of SpikingJelly and snnTorch counted as neurons.

Known differences, each shown by a test: SpikingJelly's ``ACCounter`` also counts the additions within neurons, which
are neuron updates here; it bills signed and graded events as multiply-accumulates, as the rule ``binary`` does here;
its simple energy model also reads a bias for each output.
"""

import pytest
import torch
from torch import nn

from neuroav.energy import count
from neuroav.energy.cost import FP32, TABLES

T, B = 10, 4


@pytest.fixture
def sj():
    return pytest.importorskip("spikingjelly.activation_based", reason="SpikingJelly is not installed")


@pytest.fixture
def snn():
    return pytest.importorskip("snntorch", reason="snnTorch is not installed")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def network(sj):
    from spikingjelly.activation_based import neuron

    torch.manual_seed(0)
    parts = [nn.Linear(32, 64), neuron.LIFNode(step_mode="m"), nn.Linear(64, 16), neuron.LIFNode(step_mode="m")]
    with torch.no_grad():
        parts[0].weight.mul_(6)
        parts[2].weight.mul_(6)
    return nn.Sequential(*parts).eval()


def inputs(kind, generator):
    spikes = (torch.rand(T, B, 32, generator=generator) < 0.5).float()
    return {
        "binary": spikes,
        "signed": spikes * torch.randn(T, B, 32, generator=generator).sign(),
        "counts": torch.poisson(spikes, generator=generator) + 2 * spikes,
        "real": torch.randn(T, B, 32, generator=generator),
    }[kind]


@pytest.mark.parametrize("kind", ["binary", "signed", "counts", "real"])
def test_products_are_those_of_spikingjelly(network, generator, kind):
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, MACCounter, SynOpCounter

    x = inputs(kind, generator)
    cost = count(network, x, clips=B)
    functional.reset_net(network)
    macs, synops, acs = MACCounter(), SynOpCounter(), ACCounter()
    with torch.no_grad(), DispatchCounterMode([macs, synops, acs]):
        network(x)
    assert cost.binary.acs * B == pytest.approx(synops.get_total())
    assert 0 < cost.neurons[0].rate < 1
    # SpikingJelly's MACCounter has no MAC for what it calls AC, and no other here.
    assert cost.binary.macs * B == pytest.approx(macs.get_total())
    # Its ACCounter adds what its neurons add: 6 at each step of a neuron that resets to a value.
    assert acs.get_total() - synops.get_total() == 6 * T * B * (64 + 16)


@pytest.mark.parametrize("kind", ["binary", "signed", "counts", "real"])
def test_energy_is_that_of_spikingjelly_but_for_biases_and_additions_within_neurons(network, generator, kind):
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.op_counter import SimpleEnergyProfiler

    x = inputs(kind, generator)
    cost = count(network, x, clips=B)
    functional.reset_net(network)
    profiler = SimpleEnergyProfiler()
    profiler.bind_model(network)
    with torch.no_grad(), profiler:
        network(x)
    (table,) = (each for each in TABLES if each.name == "45 nm, float32, 24.96 pJ per byte")
    steps, moved = T * (64 + 16), cost.binary.weight_bytes + cost.state_bytes
    ours = FP32.products_pj(cost.binary.macs, cost.binary.acs + 6 * steps) + (moved + 4 * steps) * table.byte.value_pj
    assert profiler.get_total() / B == pytest.approx(ours)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_spikingjelly_neurons_are_neurons_in_both_step_modes(network, generator, step_mode):
    from spikingjelly.activation_based import functional

    x = inputs("real", generator)
    functional.set_step_mode(network, step_mode)

    def steps(x):
        return network(x) if step_mode == "m" else torch.stack([network(each) for each in x])

    kept = []
    cost = count(network, x, clips=B, call=lambda x: kept.append(steps(x)))
    assert [(row.name, row.kind, row.updates) for row in cost.neurons] == [
        ("1", "LIFNode", T * 64),
        ("3", "LIFNode", T * 16),
    ]
    assert cost.neurons[1].spikes * B == kept[0].sum().item()
    assert cost.neurons[1].rate_per_step == pytest.approx(kept[0].mean((1, 2)).tolist())
    assert cost.state_bytes == 2 * 4 * T * (64 + 16)
    assert not any(name in ("1", "3") for name, _ in cost.elementwise)
    assert cost.uncounted == ()


def test_our_neurons_within_spikingjelly_are_counted_once(sj, generator):
    from neuroav.exchange.spikingjelly import to_spikingjelly
    from neuroav.neurons import LIF

    node = to_spikingjelly(LIF(32, v_th=0.3)).eval()
    cost = count(nn.Sequential(node).eval(), inputs("real", generator), clips=B)
    assert [(row.name, row.updates) for row in cost.neurons] == [("0", T * 32)]
    assert cost.state_bytes == 2 * 4 * T * 32


@pytest.mark.parametrize("hidden", [True, False])
def test_snntorch_neurons_are_neurons(snn, generator, hidden):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.fire = nn.Linear(32, 8), snn.Leaky(beta=0.9, threshold=0.2, init_hidden=hidden)

        def forward(self, x):
            out, mem = [], None if hidden else self.fire.init_leaky()
            for each in x:
                current = self.linear(each)
                spikes, mem = (self.fire(current), None) if hidden else self.fire(current, mem)
                out.append(spikes)
            return torch.stack(out)

    network, kept = Loop().eval(), []
    cost = count(network, inputs("binary", generator), clips=B, call=lambda x: kept.append(network(x)))
    (row,) = cost.neurons
    assert (row.name, row.kind, row.updates) == ("fire", "Leaky", T * 8)
    assert row.spikes * B == kept[0].sum().item() > 0
    assert row.state_bytes == 2 * 4 * T * 8
    assert cost.binary.macs == 0
    assert cost.uncounted == ()


def test_recurrent_weights_of_snntorch_read_spikes(snn, generator):
    network = snn.RLeaky(beta=0.9, threshold=0.2, all_to_all=True, linear_features=32).eval()

    def loop(x):
        spikes, mem = network.init_rleaky()
        total = 0.0
        for each in x:
            total += (spikes != 0).sum().item() * 32
            spikes, mem = network(each, spikes, mem)
        return kept.append(total)

    kept = []
    cost = count(network, inputs("real", generator), clips=B, call=loop)
    assert cost.binary.acs * B == kept[0] > 0
    assert cost.neuron_updates == T * 32


def test_neurons_of_others_within_our_networks_are_neurons(sj, snn, generator):
    from spikingjelly.activation_based import neuron

    from neuroav.exchange.snntorch import FromSnnTorch
    from neuroav.exchange.spikingjelly import FromSpikingJelly, to_spikingjelly
    from neuroav.neurons import LIF

    x = 2 * torch.rand(T, B, 32, generator=generator)
    theirs = [neuron.LIFNode(), to_spikingjelly(LIF(32))]
    for layer in (*map(FromSpikingJelly, theirs), FromSnnTorch(snn.Leaky(beta=0.9))):
        (row,) = count(layer.eval(), x, clips=B).neurons
        assert (row.updates, row.spikes * B) == (T * 32, layer(x)[0].sum().item())
        assert len(row.rate_per_step) == T
        assert row.state_bytes == 2 * 4 * T * 32
