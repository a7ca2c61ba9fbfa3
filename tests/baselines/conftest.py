"""What every baseline's own test shares: clips that 30 steps are enough to learn from, and how many come out right."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from neuroav.data.motionscenes import view
from neuroav.data.sample import ClipData, Statistics, in_batch_negatives
from neuroav.data.store import Store
from neuroav.train.optim import adam
from neuroav.train.seed import seed_torch


@pytest.fixture(scope="session")
def scenes(tiny_store):
    """Clips of MotionScenes, labelled by the scene that they show: what 90 clips are enough to learn."""
    store = Store(tiny_store)
    parts = view(store, 0.5, "biased")
    train, held = parts["train"], np.concatenate([parts["val_seen"], parts["test_seen"]])
    statistics = Statistics.of(store.load(train))
    vectors = np.random.default_rng(0).standard_normal((8, 20)).astype(np.float32)

    def data(indices):
        clips = dataclasses.replace(store.load(indices), labels=np.asarray(store.extras["scene"])[indices])
        return ClipData(clips, statistics, vectors)

    return data(train), data(held)


@pytest.fixture(scope="session")
def right_share(scenes):
    """``right_share(make, shuffled, steps, lr)``: share of held-out clips given their scene after training.

    ``make(spec)`` builds the model; ``shuffled`` trains it on labels in another order.
    """
    train, held = scenes

    def share(make, shuffled=False, steps=30, lr=2e-3):
        data = copy.copy(train)
        if shuffled:
            data.labels = train.labels[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
        seed_torch(0)
        model = make(train.spec).train()
        optimizer = adam(model, lr, 1e-5)
        rng = np.random.default_rng(0)
        for _ in range(steps):
            drawn = rng.integers(len(data), size=24)
            negatives = in_batch_negatives(data.labels.numpy()[drawn], rng)
            terms = model.loss(data.batch(drawn), torch.from_numpy(negatives))
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
        with torch.no_grad():
            nearest = model.eval().distances(held.batch(np.arange(len(held))), held.class_vectors).argmin(1)
        return float((nearest == held.labels).float().mean())

    return share
