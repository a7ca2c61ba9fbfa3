"""Operation counts against closed forms on networks small enough to count by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import neuroav.energy
from neuroav.checks import InputError
from neuroav.energy.count import count
from neuroav.energy.products import EVENTS, REAL, SPIKES, grade, matrix_product
from neuroav.neurons import ALIF, LIF, DynamicLIF, SparseLinearLIF
from neuroav.nn.numbers import BFloat16, Int8


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


T, B = 10, 3


@pytest.fixture
def spiking(generator):
    network = SpikingNetwork().eval()
    inputs = torch.randn(T, B, 6, generator=generator), torch.full((T, B, 1), 0.1)
    return network, inputs, count(network, inputs, clips=B)


def test_the_package_offers_the_function():
    assert neuroav.energy.count is count


def test_spikes_turn_products_into_accumulates(spiking):
    network, (x, _), cost = spiking
    spikes = network.spikes.sum().item()
    assert 0 < spikes < network.spikes.numel()
    assert cost.dense_ops == pytest.approx(T * (6 * 8 + 8 * 4))
    assert cost.binary.macs == pytest.approx(T * 6 * 8)
    assert cost.binary.acs == pytest.approx(spikes * 4 / B)
    assert cost.synops == pytest.approx((x.numel() * 8 + spikes * 4) / B)
    assert cost.event == cost.binary
    assert [(row.name, row.kind, row.weights) for row in cost.products] == [
        ("first", "Linear", True),
        ("second", "Linear", True),
    ]
    assert cost.products[1].density == pytest.approx(spikes / network.spikes.numel())
    assert cost.products[1].spikes_per_synapse == pytest.approx(spikes / B / 8)
    assert cost.spikes_per_synapse == pytest.approx(spikes / B / 8)
    assert cost.uncounted == ()


def test_neurons_are_counted_step_by_step(spiking):
    network, _, cost = spiking
    assert cost.neuron_updates == T * (8 + 4)
    assert [(row.name, row.kind, row.updates) for row in cost.neurons] == [
        ("fire", "DynamicLIF", T * 8),
        ("last", "LIF", T * 4),
    ]
    spikes = network.spikes
    assert cost.neurons[0].rate == pytest.approx(spikes.mean().item())
    assert cost.neurons[0].rate_per_step == pytest.approx(spikes.mean((1, 2)).tolist())
    assert cost.spike_rate == pytest.approx(sum(row.spikes for row in cost.neurons) / (T * 12))


def test_bytes_moved(spiking):
    network, (x, _), cost = spiking
    spikes = network.spikes.sum().item()
    first, second = cost.products
    assert first.binary.weight_bytes == pytest.approx(4 * T * 6 * 8)
    assert first.binary.input_bytes == pytest.approx(4 * x.numel() / B)
    assert second.binary.weight_bytes == pytest.approx(4 * spikes * 4 / B)
    assert second.binary.input_bytes == pytest.approx(4 * spikes / B)  # an address each
    assert cost.state_bytes == pytest.approx(2 * 4 * T * (8 + 4))  # one float32 read and written at each update
    assert cost.stored_bytes == 4 * (6 * 8 + 8 + 8 * 4 + 4 + 2)  # weights, biases, a time constant per layer


@pytest.mark.parametrize(
    ("values", "binary", "event", "read"),
    [
        ([[0.0, 1.0, 1.0, 0.0]], (0, 6), (0, 6), (8, 8)),
        ([[0.0, -1.0, 1.0, 0.0]], (12, 0), (0, 6), (16, 16)),
        ([[0.0, 3.0, 0.0, 0.0]], (12, 0), (0, 3), (16, 8)),
        ([[0.0, 0.5, 0.0, 0.0]], (12, 0), (12, 0), (16, 16)),
        ([[0.0, 0.0, 0.0, 0.0]], (0, 0), (0, 0), (0, 0)),
        ([[1.0, 1.0, 1.0, 1.0]], (0, 12), (0, 12), (16, 16)),
    ],
    ids=["spikes", "polarities", "event counts", "real", "silence", "all ones"],
)
def test_the_rule_decides_what_signed_and_graded_events_cost(values, binary, event, read):
    layer, x = nn.Linear(4, 3).eval(), torch.tensor(values)
    cost = count(layer, x)
    assert (cost.binary.macs, cost.binary.acs) == binary
    assert (cost.event.macs, cost.event.acs) == event
    assert (cost.binary.input_bytes, cost.event.input_bytes) == read
    assert (cost.dense_ops, cost.synops) == (12, 3 * int((x != 0).sum()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool])
@pytest.mark.parametrize(
    "values", [[0, 1], [1, 1], [0, -1], [2, 0], [16, 1], [0.5, 1], [1e-4, 0], ["inf", 1], ["-inf", 0]]
)
def test_what_a_tensor_holds_is_told_from_every_value(values, dtype):
    last, *rest = map(float, values)
    if not (dtype.is_floating_point or last.is_integer()):
        return
    x = torch.tensor([*rest, 0.0, 1.0] * 40 + [last]).to(dtype)  # the odd one comes long after the first ones
    found = x.double().tolist()
    spikes = all(value in (0.0, 1.0) for value in found)
    whole = all(value in (float("inf"), float("-inf")) or value.is_integer() for value in found)
    assert grade(x) == (SPIKES if spikes else EVENTS if whole else REAL)
    assert grade(x[:0]) == SPIKES


def test_zeros_of_one_operand_alone_are_skipped(generator):
    dense, holes = torch.rand(2, 3, 4, generator=generator) + 1, torch.rand(2, 4, 5, generator=generator).round()
    for a, b in ((dense, holes), (holes.transpose(1, 2), dense.transpose(1, 2)), (dense, dense.transpose(1, 2))):
        product = matrix_product(a, b, (False, False))
        pairs = ((a[..., None] != 0) & (b[:, None] != 0)).sum()
        assert (product.dense, product.synops) == (a.numel() * b.shape[2], int(pairs))
        assert product.each == (int((a != 0).sum()) * b.shape[2], int((b != 0).sum()) * a.shape[1])


def test_a_layer_used_twice_is_judged_call_by_call():
    layer = nn.Linear(4, 3).eval()

    def twice(spikes, values):
        return layer(spikes) + layer(input=values)

    cost = count(layer, (torch.tensor([[0.0, 1, 1, 0]]), torch.full((1, 4), 0.5)), call=twice)
    assert (cost.binary.macs, cost.binary.acs, cost.dense_ops, cost.synops) == (12, 6, 24, 18)
    assert len(cost.products) == 1


L, D, HEADS = 5, 8, 2
PROJECTIONS, PRODUCTS = L * D * 3 * D + L * D * D, 2 * L * L * D


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_counts_projections_and_both_products(need_weights, masked, generator):
    attention = nn.MultiheadAttention(D, HEADS, batch_first=True).eval()
    x = torch.randn(B, L, D, generator=generator)
    mask = torch.zeros(B, L, dtype=torch.bool) if masked else None
    call = lambda: attention(x, x, x, key_padding_mask=mask, need_weights=need_weights)  # noqa: E731
    cost = count(attention, (), clips=B, call=call)
    assert cost.dense_ops == cost.binary.macs == PROJECTIONS + PRODUCTS
    weights, activations = (
        sum(row.dense_ops for row in cost.products if row.weights is which) for which in (True, False)
    )
    assert (weights, activations) == (PROJECTIONS, PRODUCTS)
    assert cost.binary.weight_bytes == 4 * PROJECTIONS
    assert torch.backends.mha.get_fastpath_enabled()


def test_transformer_layer_is_not_hidden_by_its_fast_path(generator):
    layer = nn.TransformerEncoderLayer(D, HEADS, 16, batch_first=True).eval()
    cost = count(layer, torch.randn(B, L, D, generator=generator), clips=B)
    assert cost.dense_ops == PROJECTIONS + PRODUCTS + 2 * L * D * 16
    assert cost.uncounted == ()


def attention_by_loops(q, k, v):
    """Accumulates of ``q k'`` and of the probabilities times ``v``, position by position."""
    reached = 0
    for head in range(len(q)):
        for row in q[head]:
            reached += sum(int(((row != 0) & (key != 0)).sum()) for key in k[head])
        reached += len(q[head]) * int((v[head] != 0).sum())
    return reached


@pytest.mark.parametrize("masked", [True, False])
def test_attention_of_spikes_accumulates_where_both_fire(masked, generator):
    q, k, v = ((torch.rand(1, HEADS, size, 4, generator=generator) < 0.4).float() for size in (L, 7, 7))
    mask = torch.zeros(L, 7, dtype=torch.bool).fill_(True) if masked else None
    cost = count(nn.Identity().eval(), (q, k, v, mask), call=F.scaled_dot_product_attention)
    assert cost.dense_ops == 2 * HEADS * L * 7 * 4
    assert cost.binary.macs == 0
    assert cost.binary.acs == cost.synops == attention_by_loops(q[0], k[0], v[0])
    real = count(nn.Identity().eval(), (q / 2, k / 2, v / 2, mask), call=F.scaled_dot_product_attention)
    assert (real.binary.acs, real.synops) == (0, cost.synops)


def test_queries_may_share_keys_and_values(generator):
    q, kv = torch.randn(1, 4, L, 4, generator=generator), torch.randn(2, 1, 2, 7, 4, generator=generator)
    call = lambda: F.scaled_dot_product_attention(q, *kv, enable_gqa=True)  # noqa: E731
    assert count(nn.Identity().eval(), call=call).dense_ops == 2 * 4 * L * 7 * 4


def test_a_product_of_spikes_and_real_numbers_accumulates_once_per_spike_and_column(generator):
    spikes = (torch.rand(B, L, 7, generator=generator) < 0.4).float()
    values = torch.randn(B, 7, 4, generator=generator)
    values[:, 0] = 0.0
    for a, b, fan_out in ((spikes, values, 4), (values.mT, spikes.mT, 4)):
        cost = count(nn.Identity().eval(), (a, b), call=torch.matmul)
        assert cost.binary.acs == spikes.sum().item() * fan_out
        assert cost.synops == spikes[..., 1:].sum().item() * fan_out


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_cells_count_input_and_state(cell, gates):
    steps = 6
    network = cell(4, 5, num_layers=2).eval()
    cost = count(network, torch.ones(steps, B, 4), clips=B)
    assert cost.dense_ops == steps * gates * 5 * ((4 + 5) + (5 + 5))
    assert cost.uncounted == ()


@pytest.mark.parametrize("size", [4, 40])
def test_distances_count_one_product_per_dimension(size):
    a, b = torch.ones(size, 3), torch.ones(50, 3)
    mode = "donot_use_mm_for_euclid_dist"
    cost = count(nn.Identity().eval(), clips=size, call=lambda: torch.cdist(a, b, compute_mode=mode))
    assert cost.dense_ops == cost.binary.macs == 50 * 3


def test_vector_products_are_counted():
    identity = nn.Identity().eval()
    assert count(identity, (torch.ones(3, 4), torch.ones(4)), call=torch.matmul).dense_ops == 12
    assert count(identity, (torch.ones(4), torch.ones(4)), call=torch.matmul).dense_ops == 4


def reached_by_loops(layer, x):
    """Weights that the non-zero values of ``x (B, C, H, W)`` meet, found one value at a time."""
    flat = type(layer)(*layer.args, bias=False)
    nn.init.ones_(flat.weight)
    reached = 0.0
    for index in x.nonzero():
        one = torch.zeros_like(x)
        one[tuple(index)] = 1.0
        reached += flat(one).sum().item()
    return reached


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (nn.Conv2d, (2, 3, 3, 1, 1)),
        (nn.Conv2d, (2, 4, 3, 2, 1, 1, 2)),
        (nn.Conv2d, (2, 3, 3, 1, 0, 2)),
        (nn.ConvTranspose2d, (2, 3, 3, 2, 1)),
    ],
    ids=["padded", "strided groups", "dilated", "transposed"],
)
@torch.no_grad()
def test_convolutions_count_the_outputs_that_an_event_reaches(kind, args, generator):
    layer = kind(*args).eval()
    layer.args = args[:5] if kind is nn.ConvTranspose2d else args
    x = (torch.rand(2, 2, 6, 6, generator=generator) < 0.3).float()
    cost = count(layer, x, clips=2)
    assert cost.binary.acs == cost.synops == reached_by_loops(layer, x) / 2
    assert cost.binary.macs == 0
    assert count(layer, x + 0.5, clips=2).binary.macs == cost.dense_ops


def test_convolutions_are_dense_by_their_output():
    convolution = nn.Conv2d(2, 3, 3, padding=1).eval()
    cost = count(convolution, torch.ones(2, 2, 5, 5), clips=2)
    assert cost.dense_ops == 5 * 5 * 3 * 2 * 9
    half = count(convolution, torch.ones(2, 2, 5, 5), clips=1)
    assert half.products[0].spikes_per_synapse == pytest.approx(2 * cost.products[0].spikes_per_synapse)


def test_elementwise_networks_cost_no_products():
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)).eval()
    cost = count(network, torch.ones(2, 4), clips=2)
    assert (cost.dense_ops, cost.binary.macs, cost.neuron_updates, cost.spike_rate) == (0, 0, 0, None)
    assert dict(cost.elementwise) == {"0": 4, "1": 4}
    assert cost.uncounted == ()


def test_the_sparse_layer_counts_as_what_it_replaces(generator):
    linear, neurons = nn.Linear(6, 8), DynamicLIF(8)
    spikes = (torch.rand(T, B, 6, generator=generator) < 0.3).float()
    dense = count(nn.Sequential(linear).eval(), (spikes,), clips=B, call=lambda s: neurons(linear(s), 0.4))
    sparse = count(SparseLinearLIF(linear, neurons).eval(), (spikes, 0.4), clips=B)
    for name in ("dense_ops", "synops", "binary", "neuron_updates", "spike_rate"):
        assert getattr(sparse, name) == pytest.approx(getattr(dense, name)) if name != "binary" else True
    assert sparse.binary == dense.binary


def test_neurons_that_run_step_by_step_are_neurons(generator):
    neurons = ALIF(5).eval()
    cost = count(neurons, torch.rand(T, B, 5, generator=generator), clips=B)
    assert cost.neuron_updates == T * 5
    assert len(cost.neurons[0].rate_per_step) == T


class Odd(nn.Module):
    """A product that no rule knows, a layer that is not used, a weight that is cast first."""

    def __init__(self):
        super().__init__()
        self.bilinear, self.unused = nn.Bilinear(2, 3, 4), nn.Linear(5, 1)
        self.weight = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))

    def forward(self, x):
        return self.bilinear(x, F.linear(x, self.weight.float()))


def test_what_is_not_counted_is_listed_with_its_share():
    network = Odd().eval()
    cost = count(network, torch.ones(1, 2))
    total = 24 + 4 + 6 + 6
    found = {row.name: (row.kind, row.reason, row.parameters, row.share) for row in cost.uncounted}
    assert found == {
        "bilinear": ("Bilinear", "operator aten._trilinear", 24, 24 / total),
        "unused": ("Linear", "not used in this pass", 6, 6 / total),
    }
    (row,) = cost.products
    assert (row.name, row.weights, row.dense_ops) == ("", True, 6)


def test_counting_changes_no_output_and_leaves_nothing_behind(generator):
    network = SpikingNetwork().eval()
    inputs = torch.randn(T, B, 6, generator=generator), torch.full((T, B, 1), 0.1)
    kept = []
    count(network, inputs, call=lambda *args: kept.append(network(*args)))
    assert torch.equal(kept[0], network(*inputs))
    with pytest.raises(RuntimeError, match="stop"):
        count(network, (), call=lambda: (_ for _ in ()).throw(RuntimeError("stop")))
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in network.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_an_exception_that_the_network_catches_leaves_the_names_right():
    class Trying(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = nn.Linear(3, 2), nn.Linear(4, 2)
            self.weight = nn.Parameter(torch.ones(2, 2))

        def forward(self, x):
            try:
                x = self.wrong(x)
            except RuntimeError:
                x = self.right(x)
            return x @ self.weight

    assert [row.name for row in count(Trying().eval(), torch.ones(1, 4)).products] == ["right", ""]


def test_counting_works_in_inference_mode():
    layer = nn.Linear(4, 3).eval()
    with torch.inference_mode():
        assert count(layer, torch.ones(2, 5, 4), clips=2).dense_ops == 5 * 12


def test_counting_takes_one_pass():
    passes = []
    layer = nn.Linear(4, 3).eval()
    layer.register_forward_hook(lambda *_: passes.append(layer))
    count(layer, torch.ones(2, 4))
    assert len(passes) == 1


@pytest.mark.parametrize(
    ("prepare", "clips", "text"),
    [
        (nn.Module.train, 1, r"evaluation mode, got training mode. Call module.eval\(\)"),
        (nn.Module.eval, 0, r"clips in \[1, inf\], got 0"),
    ],
)
def test_errors_name_what_was_expected(prepare, clips, text):
    layer = prepare(nn.Linear(4, 3))
    with pytest.raises(InputError, match=text):
        count(layer, torch.ones(1, 4), clips=clips)


@pytest.mark.parametrize(("numbers", "name", "item_bytes"), [(BFloat16(), "bfloat16", 2), (Int8(), "int8", 1)])
def test_narrower_numbers_are_counted_as_such(numbers, name, item_bytes, generator):
    network = numbers.of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval())
    x = torch.randn(B, 6, generator=generator)
    cost = count(network, x, clips=B)
    active = sum(network[1](network[0](x)).flatten() != 0).item()
    assert [row.number for row in cost.products] == [name, name]
    assert cost.by_number("binary") == {name: cost.binary}
    assert cost.by_number("event") == {name: cost.binary}  # int8 stands for real numbers
    assert cost.binary.macs == cost.dense_ops == 6 * 8 + 8 * 4
    assert cost.binary.weight_bytes == item_bytes * (6 * 8 + 8 * 4)
    assert cost.binary.input_bytes == item_bytes * (6 + 8)
    assert [row.stored_bytes for row in cost.products] == [item_bytes * 6 * 8, item_bytes * 8 * 4]
    assert cost.synops == pytest.approx((B * 6 * 8 + active * 4) / B, rel=0.02)  # what rounds to 0 is 0
    assert cost.uncounted == ()


def test_spikes_stay_spikes_in_int8(generator):
    layer, spikes = Int8().of(nn.Linear(9, 5).eval()), (torch.rand(B, 9, generator=generator) < 0.3).float()
    cost = count(layer, spikes, clips=B)
    assert (cost.binary.macs, cost.binary.acs) == (0, pytest.approx(spikes.sum().item() * 5 / B))
    assert cost.binary.weight_bytes == pytest.approx(spikes.sum().item() * 5 / B)
    assert cost.by_number("binary") == {"int8": cost.binary}


def test_a_layer_that_is_fed_two_kinds_of_number_has_two_rows():
    layer = nn.Linear(4, 3).eval()

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x) + torch.mm(x.half(), self.layer.weight.t().half())

    cost = count(Both().eval(), torch.full((1, 4), 0.5))
    assert {number: work.macs for number, work in cost.by_number("binary").items()} == {"float32": 12, "float16": 12}
