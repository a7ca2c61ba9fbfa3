"""The quantised activation in closed form, and its gradient."""

import math

import pytest
import torch

from neuroav.checks import InputError
from neuroav.nn.activation import GELU, Levels, ReLU, quantised


@pytest.mark.parametrize("levels", [2, 3, 5, 9])
def test_values_are_the_rates_of_as_many_presentations(levels):
    """Every value of a fine grid goes to the nearest of 0, 1/R, ..., 1, found by trying all of them."""
    x = torch.linspace(-0.7, 1.7, 2413, dtype=torch.float64)
    rates = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    found = quantised(x, levels)
    assert sorted(set(found.tolist())) == rates.tolist()
    distance = (x.clamp(0, 1)[:, None] - rates).abs()
    torch.testing.assert_close((found - x.clamp(0, 1)).abs(), distance.min(1).values)
    assert (found - x.clamp(0, 1)).abs().max() <= 0.5 / (levels - 1) + 1e-12


def test_a_half_goes_to_the_even_step():
    assert quantised(torch.tensor([0.125, 0.375, 0.625]), 5).tolist() == [0.0, 0.5, 0.5]
    assert quantised(torch.tensor([0.5, 0.51]), 2).tolist() == [0.0, 1.0]


def test_the_gradient_passes_straight_between_0_and_1():
    x = torch.tensor([-0.5, 0.1, 0.6, 0.99, 1.5], requires_grad=True)
    y = quantised(x, 3)
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]
    assert torch.equal(y.detach(), quantised(x.detach(), 3))  # training sees the very values of evaluation


def test_two_levels_are_spikes():
    found = quantised(torch.rand(1000, generator=torch.Generator().manual_seed(0)).requires_grad_(), 2)
    assert set(found.tolist()) == {0.0, 1.0}


def test_modules_are_the_functions():
    x = torch.tensor([-1.0, 0.3, 2.0])
    assert ReLU().build()(x).tolist() == [0.0, x[1].item(), 2.0]
    torch.testing.assert_close(GELU().build()(x), x * 0.5 * (1 + torch.erf(x / math.sqrt(2))))
    assert Levels(levels=3).build()(x).tolist() == [0.0, 0.5, 1.0]


def test_one_level_says_nothing():
    with pytest.raises(InputError, match="levels"):
        Levels(levels=1)
