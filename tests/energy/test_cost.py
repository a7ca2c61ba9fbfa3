"""Estimates against sums by hand; every price has a source; a range never hides which table it is of."""

import pytest
import torch
from torch import nn

from neuroav.energy import cost as module
from neuroav.energy.cost import BREAK_EVEN, FP32, INT8, TABLES, estimates
from neuroav.energy.count import NeuronCount, OpCount, ProductCount, Work, count

KIB = 1024


@pytest.fixture
def counted():
    """A network small enough to price by hand: 1000 MACs, 500 ACs, 100 neuron updates, 40 element-wise operations."""
    dense = Work(macs=1000, acs=0, weight_bytes=4000, input_bytes=400)
    spikes = Work(macs=0, acs=500, weight_bytes=2000, input_bytes=80)
    first = ProductCount("a", "Linear", True, 1000, 900, dense, dense, 0.9, 9.0, 8 * KIB)
    second = ProductCount("b", "Linear", True, 5000, 500, spikes, spikes, 0.1, 0.5, 32 * KIB)
    neurons = NeuronCount("n", "LIF", 100, 10, 0.1, (0.1,) * 10, 800)
    return OpCount(4, 0.0, 40 * KIB, (first, second), (neurons,), (("a", 40.0),), ())


def named(name):
    return next(table for table in TABLES if table.name == name)


def test_arithmetic_by_hand(counted):
    found = FP32.estimate(counted, "binary")
    products = 1000 * (3.7 + 0.9) + 500 * 0.9
    assert found.low_j == pytest.approx(products * 1e-12)
    assert found.high_j == pytest.approx((products + 100 * (4.6 + 0.9) + 40 * 0.9) * 1e-12)
    assert INT8.estimate(counted, "binary").low_j == pytest.approx((1000 * 0.23 + 500 * 0.03) * 1e-12)


def test_the_price_of_a_byte_by_hand(counted):
    found = named("45 nm, float32, 24.96 pJ per byte").estimate(counted, "binary")
    sums = FP32.estimate(counted, "binary")
    assert found.low_j == pytest.approx(sums.low_j + (6000 + 800) * 24.96e-12)  # fewer bytes read than stored
    assert found.high_j == pytest.approx(sums.high_j + (6000 + 800 + 480) * 24.96e-12)


def test_memory_by_size_by_hand(counted):
    table = named("45 nm, int32, SRAM by size")
    assert [4 * table.byte_pj(size) for size in (0, 4 * KIB, 8 * KIB, 20 * KIB, 32 * KIB, 2**20, 2**30)] == (
        pytest.approx([0, 5, 10, 15, 20, 100, 100])
    )
    found = table.estimate(counted, "binary")
    sums = module.INT32.estimate(counted, "binary")
    state = 40 / (8 * KIB) * 10 / 4
    inputs = (400 + 80) * 10 / 4
    low = inputs + 4000 * 10 / 4 + 2000 * 20 / 4 + 800 * state
    assert found.low_j == pytest.approx(sums.low_j + low * 1e-12)
    assert found.high_j == pytest.approx(sums.high_j + (low + 2 * 500 * 10) * 1e-12)


def test_weights_from_dram_by_hand(counted):
    found = named("45 nm, float32, weights in DRAM").estimate(counted, "binary")
    sums = FP32.estimate(counted, "binary")
    assert found.low_j == pytest.approx(sums.low_j + 40 * KIB / 8 * 1300e-12)
    assert found.high_j == pytest.approx(sums.high_j + 40 * KIB / 8 * 2600e-12)


def test_chips_by_hand(counted):
    loihi, tianjic = (named(name).estimate(counted, "binary") for name in ("Loihi", "Tianjic"))
    assert (loihi.low_j, loihi.high_j) == pytest.approx(((1400 * 23.6 + 8100) * 1e-12, (1500 * 23.6 + 8100) * 1e-12))
    assert (tianjic.low_j, tianjic.high_j) == pytest.approx((1400 * 1.54e-12, 1500 * 1.54e-12))


def test_estimates_follow_the_rule():
    layer = nn.Linear(10, 10).eval()
    cost = count(layer, torch.full((1, 10), -1.0))
    binary, event = (FP32.estimate(cost, rule).low_j for rule in ("binary", "event"))
    assert (binary, event) == pytest.approx((100 * 4.6e-12, 100 * 0.9e-12))


def test_memory_is_most_of_what_spikes_cost(counted):
    """As in SpikingJelly's own model: 0.9 pJ an accumulate leaves nearly all of it out."""
    with_bytes = named("45 nm, float32, 24.96 pJ per byte").estimate(counted, "binary").low_j
    assert FP32.estimate(counted, "binary").low_j < 0.05 * with_bytes


def test_every_estimate_says_what_it_is(counted):
    for each in estimates(counted, "event"):
        row = each.to_json()
        assert row["kind"] == "estimate"
        assert 0 < row["low_j"] <= row["high_j"]
        assert row["table"]
        assert row["node"]
        assert "10." in row["source"] or "arXiv:" in row["source"]


def test_no_estimate_of_a_network_without_spikes_is_zero():
    cost = count(nn.Linear(3, 3).eval(), torch.full((1, 3), 0.5))
    assert min(each.low_j for each in estimates(cost, "binary")) >= 9 * 0.23e-12


def test_every_price_has_a_source():
    prices = [price for table in TABLES for price in table.prices]
    assert len(prices) > 25
    for price in prices:
        assert price.value_pj > 0
        assert price.node
        assert price.definition
        assert price.source.doi.startswith(("10.", "arXiv:"))
    assert len({table.name for table in TABLES}) == len(TABLES)


@pytest.mark.parametrize(("spikes_per_synapse", "verdict"), [(0.1, "below"), (0.5, "between"), (2.0, "above")])
def test_break_even_stands_beside_the_own_figure(counted, spikes_per_synapse, verdict):
    import dataclasses

    second = dataclasses.replace(counted.products[1], spikes_per_synapse=spikes_per_synapse)
    found = BREAK_EVEN[0].against(dataclasses.replace(counted, products=(counted.products[0], second)))
    assert (found["own"], found["verdict"]) == (pytest.approx(spikes_per_synapse), verdict)
    assert (found["low"], found["high"]) == (0.15, 1.38)


def test_break_even_of_a_network_without_spikes():
    cost = count(nn.Linear(3, 3).eval(), torch.full((1, 3), 0.5))
    assert {each.against(cost)["verdict"] for each in BREAK_EVEN} == {"no spikes"}


def test_a_product_has_the_price_of_its_numbers(counted):
    import dataclasses

    first, second = counted.products
    mixed = dataclasses.replace(
        counted,
        products=(dataclasses.replace(first, number="int8"), dataclasses.replace(second, number="bfloat16")),
    )
    between = 100 * (4.6 + 0.9) + 40 * 0.9
    products = 1000 * (0.03 + 0.2) + 500 * 0.4
    found = named("45 nm, float32").estimate(mixed, "binary")
    assert (found.low_j, found.high_j) == pytest.approx((products * 1e-12, (products + between) * 1e-12))
    assert found.note == "bfloat16 products at float16 prices"
    by_size = named("45 nm, int32, SRAM by size")
    saved = by_size.estimate(counted, "binary").low_j - by_size.estimate(mixed, "binary").low_j
    assert saved == pytest.approx(1000 * (3.2 - 0.23) * 1e-12)
    assert by_size.estimate(mixed, "binary").note == "bfloat16 products at int32 prices"
    moved = named("45 nm, float32, 24.96 pJ per byte").estimate(mixed, "binary")
    assert moved.low_j == pytest.approx((products + (6000 + 800) * 24.96) * 1e-12)


def test_an_estimate_says_where_a_table_has_no_price_for_the_numbers(counted):
    assert named("45 nm, float32").estimate(counted, "binary").note == ""
    assert named("45 nm, int32, SRAM by size").estimate(counted, "binary").note == "float32 products at int32 prices"
    chip = named("Tianjic").estimate(counted, "binary").note
    assert chip == "float32 products at the price of the chip's own numbers"


def test_an_int8_network_costs_less_than_the_same_in_float32_by_every_table_with_a_price_for_it():
    from neuroav.nn.numbers import Int8

    layer, x = nn.Linear(64, 64).eval(), torch.rand(1, 64)
    plain, narrow = (estimates(count(each, x), "binary") for each in (layer, Int8().of(layer)))
    for a, b in zip(plain, narrow, strict=True):
        if a.table.startswith("45 nm"):
            assert b.low_j < 0.5 * a.low_j, a.table
        else:
            assert b.low_j == a.low_j
    assert narrow[0].low_j == pytest.approx(64 * 64 * 0.23e-12)
