"""The stretch of limited-range luma: the formula in fractions, every implementation, any layout."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from neuroav.kernels import cpu
from neuroav.kernels.luma import STRETCH, stretch_luma

EXPECTED = [min(max(floor(Fraction((y - 16) * 255, 219) + Fraction(1, 2)), 0), 255) for y in range(256)]


def stretched(luma):
    grey = np.full(luma.shape, 7, dtype=np.uint8)
    stretch_luma(luma, grey)
    return grey


@pytest.mark.parametrize("compiled", [False, True])
def test_every_level_is_that_of_the_formula(compiled, monkeypatch):
    if compiled and not cpu.available():
        pytest.skip("the C++ extension is not in use")
    monkeypatch.setattr(cpu, "available", lambda: compiled)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert stretched(levels).ravel().tolist() == EXPECTED
    padded = np.random.default_rng(0).integers(0, 256, (13, 128)).astype(np.uint8)
    for view in (padded[:, :101], padded[::2, 3:4], padded[:, ::3], padded.T, padded[:0], padded[:, :0]):
        assert np.array_equal(stretched(view), STRETCH[view])


def test_neighbours_are_not_touched():
    memory = np.full((3, 40), 9, dtype=np.uint8)
    stretch_luma(np.full((1, 40), 235, dtype=np.uint8), memory[1:2])
    assert memory[[0, 2]].tolist() == [[9] * 40] * 2
    assert memory[1].tolist() == [255] * 40
