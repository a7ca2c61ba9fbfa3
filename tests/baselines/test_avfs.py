"""AVFS: its contrast by loops, who learns from whom, whether it learns, what it makes of classes without clips."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from neuroav.baselines.avfs import AVFS, AVFSConfig, class_contrast
from neuroav.checks import InputError
from neuroav.data.types import Classes
from neuroav.nn.synthesis import SoftmaxConfig
from neuroav.train.optim import adam

SMALL = AVFSConfig(
    latent=16,
    hidden=64,
    hidden_critic=64,
    shared=32,
    critic_steps=1,
    softmax=SoftmaxConfig(synthetic=20, epochs=20, batch_size=50, lr=1e-2),
)
PARTS = {
    "generator": {"adversarial", "discriminative", "contrastive"},
    "critic": {"critic"},
    "classify": {"classifier"},
    "project": {"contrastive"},
}


@pytest.fixture
def train(scenes):
    return scenes[0]


def test_the_contrast_is_that_of_a_loop_over_clips():
    torch.manual_seed(0)
    made, real, label = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 0, 2, 1])
    total = 0.0
    for i in range(5):
        powers = [math.exp(torch.cosine_similarity(made[i], real[j], dim=0).item() / 0.2) for j in range(5)]
        total -= math.log(sum(p for p, y in zip(powers, label, strict=True) if y == label[i]) / sum(powers))
    assert class_contrast(made, real, label, 0.2).item() == pytest.approx(total / 5, rel=1e-5)


def test_each_part_learns_from_its_own_terms_alone(train):
    model = AVFS(train.spec, SMALL).train()
    terms = model.loss(train.batch(np.arange(8)), torch.empty(0))
    assert set(terms) == set().union(*PARTS.values())
    for name, term in terms.items():
        model.zero_grad()
        term.backward(retain_graph=True)
        for part, own in PARTS.items():
            moved = any(p.grad is not None and (p.grad != 0).any() for p in getattr(model, part).parameters())
            assert moved == (name in own), (name, part)


def test_terms_weigh_what_the_configuration_says(train):
    def terms(**weights):
        torch.manual_seed(0)
        model = AVFS(train.spec, dataclasses.replace(SMALL, **weights)).train()
        return model.loss(train.batch(np.arange(8)), torch.empty(0))

    once, twice = terms(), terms(adversarial=2.0, discriminative=3.0, contrastive=4.0)
    ratio = {name: (twice[name] / once[name]).item() for name in once}
    expected = {"critic": 1, "classifier": 1, "adversarial": 2, "discriminative": 3, "contrastive": 4}
    assert ratio == pytest.approx(expected, rel=1e-5)


def test_the_generator_learns_when_it_is_its_turn(train):
    model = AVFS(train.spec, dataclasses.replace(SMALL, critic_steps=3)).train()
    batch = train.batch(np.arange(8))
    assert [len(model.loss(batch, torch.empty(0))) for _ in range(7)] == [5, 2, 2, 5, 2, 2, 5]


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    assert right_share(lambda spec: AVFS(spec, SMALL), steps=60) > 0.6  # chance is 1/8
    assert right_share(lambda spec: AVFS(spec, SMALL), shuffled=True, steps=60) < 0.3


def test_after_fit_extra_it_knows_classes_by_clips_and_by_made_up_ones(scenes):
    train, held = scenes
    torch.manual_seed(0)
    model = AVFS(train.spec, SMALL)
    optimizer, rng = adam(model.train(), 2e-3, 0.0), np.random.default_rng(0)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.loss(train.batch(rng.integers(len(train), size=24)), torch.empty(0)).values()).backward()
        optimizer.step()
    model.eval()
    seen = torch.arange(8) < 6  # of the last two scenes the classifier gets made up clips alone
    clips = np.flatnonzero(seen[train.labels].numpy())
    with torch.no_grad():
        model.fit_extra([train.batch(clips)], Classes(torch.arange(8), train.class_vectors), seen)
        found = model.distances(held.batch(np.arange(len(held))), held.class_vectors)
    right = (found.argmin(1) == held.labels).float()
    assert (found >= 0).all()
    assert right[seen[held.labels]].mean() > 0.6
    assert right[~seen[held.labels]].mean() > 0.4


def test_a_batch_without_its_classes_is_refused(train):
    batch = dataclasses.replace(train.batch(np.arange(4)), classes=None)
    with pytest.raises(InputError, match=r"AVFS.loss: expected a batch with classes, got None"):
        AVFS(train.spec, SMALL).loss(batch, torch.empty(0))


@pytest.mark.parametrize("change", [{"latent": 0}, {"critic_steps": 0}, {"contrastive": -1.0}, {"temperature": 0.0}])
def test_bad_numbers_are_named(change):
    with pytest.raises(InputError, match=f"AVFSConfig: expected {next(iter(change))} in"):
        AVFSConfig(**change)
