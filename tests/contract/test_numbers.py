"""Every system with linear layers can be evaluated in narrower numbers, and is then nearly what it was."""

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.models import build
from neuroav.nn.numbers import BFloat16, BFloat16Linear, Int8, Int8Linear
from neuroav.train.seed import seed_torch


@torch.no_grad()
@pytest.mark.parametrize(("numbers", "layer"), [(BFloat16(), BFloat16Linear), (Int8(), Int8Linear)])
def test_distances_move_a_little(world, system, numbers, layer):
    name, config = system
    seed_torch(0)
    model, batch = build(name, world.data.spec, config).eval(), world.data.batch(np.arange(8))
    if name == "apn":  # its weights are in no linear layer
        with pytest.raises(InputError, match="linear layers, got APN"):
            numbers.of(model)
        return
    narrow = numbers.of(model)
    assert any(isinstance(each, layer) for each in narrow.modules())
    before, after = (each.distances(batch, world.data.class_vectors) for each in (model, narrow))
    assert not torch.equal(before, after)
    assert (after - before).abs().max() < 0.05 * before.max()
