"""Every model can be counted, to the product that PyTorch's own counter finds, and nothing is left out."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from neuroav.energy import count

aten = torch.ops.aten
OVERLOOKED = {  # products that PyTorch's counter does not know
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._cdist_forward: lambda a, b, *_, out_shape, **__: 2 * out_shape[-1] * out_shape[-2] * a[-1],
}


@torch.no_grad()
def test_every_product_of_every_model_is_counted(world, variant):
    model, batch = world.build(variant).eval().requires_grad_(False), world.data.batch(np.arange(8))
    kept = []
    cost = count(
        model,
        (batch, world.data.class_vectors),
        clips=8,
        call=lambda *args: kept.append(model.distances(*args)),
    )
    with FlopCounterMode(display=False, custom_mapping=OVERLOOKED) as flops:
        plain = model.distances(batch, world.data.class_vectors)
    assert torch.equal(kept[0], plain)
    assert cost.dense_ops == pytest.approx(flops.get_total_flops() / 2 / 8)
    assert 0 < cost.synops <= cost.dense_ops
    assert [row for row in cost.uncounted if row.reason != "not used in this pass"] == []
