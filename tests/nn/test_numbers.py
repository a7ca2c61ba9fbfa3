"""Networks in bfloat16 and int8 against the same arithmetic in exact integers and by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from neuroav.nn.numbers import BFloat16, Float32, Int8, integer_product, quantised_rows


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Sequential(nn.Linear(5, 3, bias=False)))


def by_hand(x, weight, bias):
    """An int8 layer in NumPy: int64 sums of integers, float64 scales."""
    x, weight = x.numpy().astype(np.float64), weight.detach().numpy().astype(np.float64)
    rows = [np.abs(values).max(1, keepdims=True) / 127 for values in (x, weight)]
    q, w = (np.rint(values / scale).astype(np.int64) for values, scale in zip((x, weight), rows))
    return (q @ w.T) * rows[0] * rows[1].T + bias.detach().numpy()


def test_int8_is_integer_arithmetic(generator):
    layer, x = nn.Linear(40, 6), torch.randn(9, 40, generator=generator)
    found = Int8().of(layer)(x).detach()
    torch.testing.assert_close(
        found.double(), torch.from_numpy(by_hand(x, layer.weight, layer.bias)), rtol=0, atol=2e-6
    )
    error = (found - layer(x).detach()).abs()
    assert 0 < error.max() < 0.02 * layer(x).detach().abs().max()


def test_rounding_stays_within_half_a_scale(generator):
    x = torch.randn(50, 30, generator=generator) * torch.logspace(-8, 8, 50)[:, None]
    values, scale = quantised_rows(x)
    assert values.dtype == torch.int8
    assert values.abs().amax(1).eq(127).all()
    assert ((values * scale - x).abs() <= 0.5001 * scale).all()


def test_spikes_are_not_rounded(generator):
    layer, spikes = nn.Linear(64, 8), (torch.rand(20, 64, generator=generator) < 0.2).float()
    values, _ = quantised_rows(spikes)
    assert torch.equal(values, (127 * spikes).to(torch.int8))
    weight, scale = quantised_rows(layer.weight.detach())
    exact = (spikes.double() @ weight.double().t()) * scale.double().t() + layer.bias.double()
    torch.testing.assert_close(Int8().of(layer)(spikes).double(), exact, rtol=1e-6, atol=1e-6)


def test_silence_stays_silence():
    values, scale = quantised_rows(torch.zeros(2, 4))
    assert not values.any()
    assert torch.isfinite(scale).all()
    layer = nn.Linear(4, 3)
    assert torch.equal(Int8().of(layer)(torch.zeros(2, 4)), layer.bias.expand(2, 3))


def test_the_integer_product_is_exact_at_its_largest():
    a = torch.full((2, 1500), 127, dtype=torch.int8)
    assert integer_product(a, a.t()).tolist() == [[127 * 127 * 1500] * 2] * 2


def test_bfloat16_rounds_weights_inputs_and_outputs(generator):
    layer, x = nn.Linear(40, 6), torch.randn(9, 40, generator=generator)
    found = BFloat16().of(layer)(x).detach()
    rounded = [each.detach().bfloat16().double() for each in (x, layer.weight, layer.bias)]
    exact = rounded[0] @ rounded[1].t() + rounded[2]
    assert found.dtype == torch.float32
    assert torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(("numbers", "item_bytes"), [(BFloat16(), 2), (Int8(), 1)])
def test_a_copy_changes_linear_layers_only_and_leaves_the_model(network, numbers, item_bytes, generator):
    x = torch.randn(4, 7, generator=generator)
    before = network.eval()(x)
    copy = numbers.of(network)
    assert torch.equal(network(x), before)
    assert not copy.training
    weights = [copy[0].weight, copy[3][0].weight]
    assert [each.element_size() for each in weights] == [item_bytes] * 2
    assert copy[1].weight.dtype == torch.float32
    assert sum(p.numel() for p in copy.parameters()) == sum(p.numel() for p in network.parameters())
    torch.testing.assert_close(copy(x), before, rtol=0.05, atol=0.05)
    assert not torch.equal(copy(x), before)


def test_float32_is_the_model_itself(network):
    assert Float32().of(network) is network


@pytest.mark.parametrize("numbers", [BFloat16(), Int8()])
def test_no_rows_give_no_rows(numbers):
    assert numbers.of(nn.Linear(4, 3))(torch.zeros(0, 2, 4)).shape == (0, 2, 3)


@pytest.mark.parametrize("numbers", [BFloat16(), Int8()])
def test_a_layer_that_stands_in_two_places_is_replaced_in_both(numbers):
    shared = nn.Linear(4, 4)
    made = numbers.of(nn.Sequential(shared, nn.ReLU(), shared))
    assert made[0] is made[2]
    assert type(made[0]) is not nn.Linear
