"""Our networks under NeuroBench's harness; its counts equal ours where they mean the same, and differ as documented."""

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from neuroav.energy import count
from neuroav.exchange import neurobench
from neuroav.neurons import LIF

T, B = 10, 4


class Spiking(nn.Module):
    """Linear 32-64, LIF, Linear 64-16, LIF."""

    def __init__(self):
        super().__init__()
        self.first, self.fire, self.second, self.last = nn.Linear(32, 64), LIF(64), nn.Linear(64, 16), LIF(16)
        with torch.no_grad():
            self.first.weight.mul_(6)
            self.second.weight.mul_(6)

    def forward(self, x):
        return self.last(self.second(self.fire(self.first(x))[0]))[0]


@pytest.fixture
def network():
    return Spiking().eval()


def inputs(kind):
    spikes = (torch.rand(T, B, 32) < 0.5).float()
    return {
        "binary": spikes,
        "signed": spikes * torch.randn(T, B, 32).sign(),
        "counts": 2 * spikes,
        "real": torch.randn(T, B, 32),
    }[kind]


@pytest.mark.parametrize("kind", ["binary", "signed", "counts", "real"])
def test_counts_of_a_plain_spiking_network_are_equal(nb, network, kind):
    x = inputs(kind)
    ours, theirs = count(network, x, clips=B), neurobench.synaptic_operations(network, x, clips=B)
    first, second = ours.products
    assert theirs["Dense"] == ours.dense_ops
    assert theirs["Effective_ACs"] + theirs["Effective_MACs"] == ours.synops
    spikes = second.synops if kind in ("counts", "real") else ours.synops
    assert theirs["Effective_ACs"] == spikes
    if kind in ("binary", "real"):
        assert theirs["Effective_ACs"] == ours.binary.acs
    if kind == "signed":  # accumulates there and by the rule "event", multiply-accumulates by "binary"
        assert theirs["Effective_ACs"] == ours.event.acs > ours.binary.acs == second.synops
    if kind == "counts":  # graded events are multiply-accumulates there
        assert theirs["Effective_MACs"] == first.synops == ours.event.acs - second.synops


def test_known_difference_zero_weights(nb, network):
    with torch.no_grad():
        network.first.weight[:32] = 0.0
    ours, theirs = count(network, inputs("binary"), clips=B), neurobench.synaptic_operations(network, inputs("real"))
    assert theirs["Dense"] / B == ours.dense_ops
    assert theirs["Effective_MACs"] == T * B * 32 * 32  # half the weights are skipped there


def test_known_difference_padding(nb):
    layer, x = nn.Conv2d(1, 1, 3, padding=1).eval(), torch.ones(1, 1, 4, 4)
    ours, theirs = count(layer, x), neurobench.synaptic_operations(layer, x)
    assert ours.synops == theirs["Effective_ACs"] == theirs["Dense"] == 4 * 4 + 8 * 6 + 4 * 9
    assert ours.dense_ops == 16 * 9


def test_known_difference_attention(nb):
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(1, 5, 8)
    assert neurobench.synaptic_operations(layer, (x, x, x))["Dense"] == 0
    assert count(layer, (x, x, x)).dense_ops > 0


def test_our_network_runs_under_the_benchmark(nb, network):
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ParameterCount
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations

    x = inputs("binary")
    loader = DataLoader(TensorDataset(x.transpose(0, 1), torch.zeros(B)), batch_size=2)
    benchmark = Benchmark(
        neurobench.to_neurobench(network), loader, [], [], [[ParameterCount], [ActivationSparsity, SynapticOperations]]
    )
    found = benchmark.run(quiet=True)
    ours = count(network, x, clips=B)
    assert found["ParameterCount"] == sum(each.numel() for each in network.parameters())
    assert found["SynapticOperations"]["Effective_ACs"] == ours.binary.acs
    assert found["ActivationSparsity"] == pytest.approx(1 - ours.spike_rate)


def test_models_run_through_a_call_of_their_own(nb, network):
    x = inputs("binary")
    model = neurobench.to_neurobench(network, lambda clips: network(x[:, clips]).mean(0))
    assert model(torch.tensor([2, 0])).shape == (2, 16)


def test_hooks_are_gone_after_an_exception(nb, network):
    with pytest.raises(RuntimeError):
        neurobench.synaptic_operations(network, torch.ones(1, 1, 5))
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in network.modules())


def test_without_the_package_there_is_a_remedy(monkeypatch, network):
    monkeypatch.setitem(sys.modules, "neurobench.hooks.layer", None)
    monkeypatch.setitem(sys.modules, "neurobench", None)
    neurobench._model_class.cache_clear()
    with pytest.raises(ImportError, match="pip install neurobench"):
        neurobench.to_neurobench(network)
