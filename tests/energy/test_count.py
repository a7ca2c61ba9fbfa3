"""Operation counts against closed forms on networks small enough to count by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuroav.checks import InputError
from neuroav.energy.count import count
from neuroav.neurons import LIF, DynamicLIF


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


class SpikingNetwork(nn.Module):
    """Linear 6-8 (real input), neurons, Linear 8-4 (spikes), neurons."""

    def __init__(self):
        super().__init__()
        self.first, self.fire, self.second, self.last = nn.Linear(6, 8), DynamicLIF(8), nn.Linear(8, 4), LIF(4)

    def forward(self, x, theta):
        self.spikes, _ = self.fire(self.first(x), theta)
        out, _ = self.last(self.second(self.spikes))
        return out


def test_spikes_turn_products_into_accumulates(generator):
    T, B = 10, 3
    network = SpikingNetwork().eval()
    x = torch.randn(T, B, 6, generator=generator)
    cost = count(network, network, B, x, torch.full((T, B, 1), 0.1))
    spikes = network.spikes.sum().item()
    assert 0 < spikes < network.spikes.numel()
    assert cost.dense_ops == pytest.approx(T * (6 * 8 + 8 * 4))
    assert cost.macs == pytest.approx(T * 6 * 8)
    assert cost.acs == pytest.approx(spikes * 4 / B)
    assert cost.neuron_updates == T * (8 + 4)
    assert [row.name for row in cost.products] == ["first", "second"]
    assert cost.products[1].density == pytest.approx(spikes / network.spikes.numel())
    assert [(row.name, row.updates) for row in cost.neurons] == [("fire", T * 8), ("last", T * 4)]
    assert cost.neurons[0].rate == pytest.approx(spikes / (T * B * 8))
    total = sum(row.spikes for row in cost.neurons)
    assert cost.spike_rate == pytest.approx(total / (T * 12))


@pytest.mark.parametrize(
    ("values", "binary", "event"),
    [
        ([[0.0, 1.0, 1.0, 0.0]], (0, 6), (0, 6)),
        ([[0.0, -1.0, 1.0, 0.0]], (12, 0), (0, 6)),
        ([[0.0, 3.0, 0.0, 0.0]], (12, 0), (0, 3)),
        ([[0.0, 0.5, 0.0, 0.0]], (12, 0), (12, 0)),
        ([[0.0, 0.0, 0.0, 0.0]], (0, 0), (0, 0)),
        ([[1.0, 1.0, 1.0, 1.0]], (0, 12), (0, 12)),
    ],
    ids=["spikes", "polarities", "event counts", "real", "silence", "all ones"],
)
def test_the_rule_decides_what_signed_and_graded_events_cost(values, binary, event):
    layer = nn.Linear(4, 3).eval()
    for rule, expected in (("binary", binary), ("event", event)):
        cost = count(layer, layer, 1, torch.tensor(values), rule=rule)
        assert (cost.macs, cost.acs, cost.dense_ops, cost.rule) == (*expected, 12, rule)


def test_a_layer_used_twice_is_judged_call_by_call():
    layer = nn.Linear(4, 3).eval()

    def twice(spikes, values):
        return layer(spikes) + layer(input=values)

    cost = count(layer, twice, 1, torch.tensor([[0.0, 1, 1, 0]]), torch.full((1, 4), 0.5))
    assert (cost.macs, cost.acs, cost.dense_ops) == (12, 6, 24)
    assert len(cost.products) == 1


B, L, D, HEADS = 3, 5, 8, 2
PROJECTIONS, PRODUCTS = L * D * 3 * D + L * D * D, 2 * L * L * D


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_counts_projections_and_both_products(need_weights, masked, generator):
    attention = nn.MultiheadAttention(D, HEADS, batch_first=True).eval()
    x = torch.randn(B, L, D, generator=generator)
    mask = torch.zeros(B, L, dtype=torch.bool) if masked else None
    cost = count(attention, lambda: attention(x, x, x, key_padding_mask=mask, need_weights=need_weights), B)
    assert cost.dense_ops == cost.macs == PROJECTIONS + PRODUCTS
    assert torch.backends.mha.get_fastpath_enabled()


def test_transformer_layer_is_not_hidden_by_its_fast_path(generator):
    layer = nn.TransformerEncoderLayer(D, HEADS, 16, batch_first=True).eval()
    cost = count(layer, layer, B, torch.randn(B, L, D, generator=generator))
    assert cost.dense_ops == PROJECTIONS + PRODUCTS + 2 * L * D * 16


def test_functional_attention_counts_both_products(generator):
    q, k, v = (torch.randn(B, HEADS, size, 4, generator=generator) for size in (L, 7, 7))
    cost = count(nn.Identity().eval(), F.scaled_dot_product_attention, B, q, k, v)
    assert cost.dense_ops == 2 * HEADS * L * 7 * 4


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_cells_count_input_and_state(cell, gates):
    T = 6
    network = cell(4, 5, num_layers=2).eval()
    cost = count(network, network, B, torch.ones(T, B, 4))
    assert cost.dense_ops == T * gates * 5 * ((4 + 5) + (5 + 5))


@pytest.mark.parametrize("size", [4, 40])
def test_distances_count_one_product_per_dimension(size):
    a, b = torch.ones(size, 3), torch.ones(50, 3)
    mode = "donot_use_mm_for_euclid_dist"
    cost = count(nn.Identity().eval(), lambda: torch.cdist(a, b, compute_mode=mode), size)
    assert cost.dense_ops == 50 * 3


def test_vector_products_and_convolutions_are_counted():
    identity = nn.Identity().eval()
    assert count(identity, lambda: torch.ones(3, 4) @ torch.ones(4), 1).dense_ops == 12
    assert count(identity, lambda: torch.ones(4) @ torch.ones(4), 1).dense_ops == 4
    convolution = nn.Conv2d(2, 3, 3, padding=1).eval()
    assert count(convolution, convolution, 2, torch.ones(2, 2, 5, 5)).dense_ops == 5 * 5 * 3 * 2 * 9


def test_elementwise_networks_cost_no_products():
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)).eval()
    cost = count(network, network, 2, torch.ones(2, 4))
    assert (cost.dense_ops, cost.macs, cost.acs, cost.neuron_updates, cost.spike_rate) == (0, 0, 0, 0, None)


def test_counting_leaves_nothing_behind():
    layer = nn.Linear(4, 3).eval()
    with pytest.raises(RuntimeError, match="stop"):
        count(layer, lambda: (_ for _ in ()).throw(RuntimeError("stop")), 1)
    count(layer, layer, 1, torch.ones(1, 4))
    assert not layer._forward_pre_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("prepare", "options", "text"),
    [
        (nn.Module.train, {"clips": 1}, r"evaluation mode, got training mode. Call module.eval\(\)"),
        (nn.Module.eval, {"clips": 0}, r"clips in \[1, inf\], got 0"),
        (nn.Module.eval, {"clips": 1, "rule": "events"}, "Did you mean 'event'"),
    ],
)
def test_errors_name_what_was_expected(prepare, options, text):
    layer = prepare(nn.Linear(4, 3))
    with pytest.raises(InputError, match=text):
        count(layer, lambda: layer(torch.ones(1, 4)), **options)
