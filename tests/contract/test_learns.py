"""Every system learns what carries over to classes without clips, and a run on shuffled labels does not.

Clips of MotionScenes ``tiny``, whose class is the scene they show and how loud they are: 8 x 3 classes with a vector
each, scene's plus loudness's. One loudness of each scene has no clips in training; among these 8 classes, to name the
scene is to name the class.
"""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from neuroav.data.sample import ClipData, Statistics
from neuroav.data.store import Store
from neuroav.data.types import Classes
from neuroav.models import build
from neuroav.train.optim import adam
from neuroav.train.seed import seed_torch
from neuroav.train.step import draw

SCENES, LEVELS = 8, 3
CHANCE, MARGIN = 1 / SCENES, 0.15
STEPS, LR = 100, 1e-3
# Steps and learning rate of systems that can do with fewer.
SETTINGS = {"mdft": (40, 2e-3), "sacma": (60, 2e-3)}


@pytest.fixture(scope="module")
def task(tiny_store):
    """Clips with a class each in training and those of the eight classes left out."""
    store = Store(tiny_store)
    clips = store.load(np.arange(len(store)))
    loudness = np.add.reduceat(clips.audio.mean(1), clips.offsets[:-1]) / np.diff(clips.offsets)
    level = np.searchsorted(np.quantile(loudness, [1 / 3, 2 / 3]), loudness)
    scene = np.asarray(store.extras["scene"])
    parts = np.random.default_rng(0).standard_normal((SCENES + LEVELS, 300))
    vectors = (parts[:SCENES, None] + parts[SCENES:]).reshape(SCENES * LEVELS, 300)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    left_out = level == scene % LEVELS
    statistics = Statistics.of(store.load(np.flatnonzero(~left_out)))

    def data(indices):
        labelled = dataclasses.replace(store.load(indices), labels=(LEVELS * scene + level)[indices])
        return ClipData(labelled, statistics, vectors)

    return data(np.flatnonzero(~left_out)), data(np.flatnonzero(left_out))


def named(task, system, shuffled):
    """Share of the left-out clips given their class among the eight."""
    train, held = task
    name, config = system
    steps, lr = SETTINGS.get(name, (STEPS, LR))
    if shuffled:
        train = copy.copy(train)
        train.labels = train.labels[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
    seed_torch(0)
    model = build(name, train.spec, config).train()
    optimizer, rng = adam(model, lr, 1e-5), np.random.default_rng(0)
    for _ in range(steps):
        [(clips, negatives)] = draw(train.labels.numpy(), 32, 1, rng)
        terms = model.loss(train.batch(clips), torch.from_numpy(negatives))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    left_out = held.classes
    with torch.no_grad():
        if hasattr(model.eval(), "fit_extra"):
            every = torch.cat([train.classes.label, left_out.label]).sort().values
            classes = Classes(every, train.class_vectors[every])
            model.fit_extra(train.in_order(64), classes, ~torch.isin(every, left_out.label))
        nearest = model.distances(held.batch(np.arange(len(held))), left_out.text).argmin(1)
    return float((left_out.label[nearest] == held.labels).float().mean())


def test_it_learns_what_shuffled_labels_do_not_teach(task, system):
    learnt, shuffled = named(task, system, shuffled=False), named(task, system, shuffled=True)
    assert learnt > CHANCE + MARGIN
    assert learnt > shuffled + MARGIN
