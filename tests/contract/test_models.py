"""What every model promises, whatever it is made of."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from neuroav.baselines.base import AVModel
from neuroav.train.optim import adam
from neuroav.train.seed import seed_torch

EMBEDDING = {"mdft", "pooled", "avca", "avmst", "hyper-single", "tcaf", "perceiver", "attention", "sacma"}
NEGATIVES = torch.tensor([2, 3, 4, 5, 6, 7, 0, 1])


def whole(world):
    return world.data.batch(np.arange(8))


def total_loss(model, world):
    return torch.stack(list(model.loss(whole(world), NEGATIVES).values())).sum()


def test_keeps_the_protocol_and_its_shapes(world, variant):
    model = world.build(variant).eval()
    assert isinstance(model, AVModel)
    with torch.no_grad():
        terms = model.loss(whole(world), NEGATIVES)
        found = model.distances(whole(world), world.data.class_vectors)
    assert terms
    assert all(t.shape == () and torch.isfinite(t) for t in terms.values())
    assert found.shape == (8, 4)
    assert (found >= 0).all()
    assert torch.isfinite(found).all()


def test_gradient_reaches_every_parameter_at_default_initial_weights(world, variant):
    model = world.build(variant).train()
    total_loss(model, world).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert silent == []


def test_optimiser_moves_every_parameter(world, variant):
    model = world.build(variant).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = adam(model, 1e-3, 0.0)
    for _ in range(2):
        optimizer.zero_grad()
        total_loss(model, world).backward()
        optimizer.step()
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert still == []


def test_padding_changes_no_score(world, variant):
    model = world.build(variant).eval()
    with torch.no_grad():
        together = model.distances(whole(world), world.data.class_vectors)
        alone = torch.cat([model.distances(world.data.batch([i]), world.data.class_vectors) for i in range(8)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_padding_changes_no_training_loss(world, variant):
    """Ragged clips padded by hand with extra garbage steps give the loss of the untouched batch."""
    batch = whole(world)
    longer = {name: pad(getattr(batch, name)) for name in ("audio", "video", "motion")}
    padded = dataclasses.replace(batch, **longer)
    losses = []
    for each in (batch, padded):
        model = world.build(variant).train()
        for module in model.modules():
            if hasattr(module, "p_drop"):
                module.p_drop = 0.0
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(torch.stack(list(model.loss(each, NEGATIVES).values())))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def pad(sequence, steps=3):
    values = torch.cat([sequence.values, torch.full_like(sequence.values[:steps], 7.0)])
    valid = torch.cat([sequence.valid, torch.zeros_like(sequence.valid[:steps])])
    return type(sequence)(values, torch.cat([sequence.t_s, sequence.t_s[:steps]]), valid)


def test_permuting_classes_permutes_distances(world, variant):
    model = world.build(variant).eval()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        straight = model.distances(whole(world), world.data.class_vectors)
        permuted = model.distances(whole(world), world.data.class_vectors[order])
    torch.testing.assert_close(straight[:, order], permuted)


def test_embeddings_lie_as_far_apart_as_the_distances_say(world, variant):
    model = world.build(variant).eval()
    if not hasattr(model, "embeddings"):
        assert variant.split()[0] not in EMBEDDING
        return
    with torch.no_grad():
        found = model.distances(whole(world), world.data.class_vectors)
        clips, classes = model.embeddings(whole(world), world.data.class_vectors)
    apart = [[(clip.double() - one.double()).norm().item() for one in classes] for clip in clips]
    torch.testing.assert_close(found, torch.tensor(apart, dtype=found.dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 12])
def test_one_step_and_one_clip_work(world, variant, steps):
    batch = world.data.batch([0])
    cut = [
        None if s is None else type(s)(s.values[:steps], s.t_s[:steps], s.valid[:steps])
        for s in (batch.audio, batch.video, batch.motion)
    ]
    model = world.build(variant).eval()
    with torch.no_grad():
        found = model.distances(type(batch)(*cut, batch.label, batch.text), world.data.class_vectors)
    assert found.shape == (1, 4)
    assert torch.isfinite(found).all()


def test_state_is_pure_and_evaluation_repeats_to_the_digit(world, variant):
    model = world.build(variant).eval()
    with torch.no_grad():
        first = model.distances(whole(world), world.data.class_vectors)
        model.distances(world.data.batch([3, 1]), world.data.class_vectors)
        second = model.distances(whole(world), world.data.class_vectors)
    assert torch.equal(first, second)


def test_same_seed_same_weights_and_losses(world, variant):
    losses = []
    for _ in range(2):
        model = world.build(variant, seed=3).train()
        seed_torch(5)
        losses.append(total_loss(model, world))
    assert torch.equal(*losses)


def test_saves_and_loads_without_loss(world, variant):
    model, other = world.build(variant, seed=0), world.build(variant, seed=1)
    other.load_state_dict(load(save(model.state_dict())))
    with torch.no_grad():
        a, b = (m.eval().distances(whole(world), world.data.class_vectors) for m in (model, other))
    assert torch.equal(a, b)
