"""f-VAEGAN-D2: its laws against torch's, whose turn it is, who learns from whom, what it makes of unseen classes."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from neuroav.baselines.fvaegan_d2 import FVAEGAND2, AsPublished, AsReleased, Encoded, FVAEGAND2Config, divergence
from neuroav.checks import InputError
from neuroav.data.types import Classes
from neuroav.nn.synthesis import SoftmaxConfig
from neuroav.train.optim import adam

SMALL = FVAEGAND2Config(
    latent=16,
    hidden_encoder=64,
    hidden=64,
    hidden_critic=64,
    softmax=SoftmaxConfig(synthetic=20, epochs=20, batch_size=50, lr=1e-2),
)
CRITICS, GENERATOR = {"critic", "marginal_critic"}, {"vae", "adversarial"}


@pytest.fixture
def train(scenes):
    return scenes[0]


def encoded():
    torch.manual_seed(0)
    mean, log_variance, rebuilt = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 5)
    return Encoded(mean, log_variance, rebuilt)


def test_the_divergence_is_that_of_torchs_laws():
    mean, log_variance, _ = encoded()
    law = Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(divergence(encoded()), kl_divergence(law, Normal(0, 1)).sum(1))


def test_evidence_bounds_are_those_of_a_normal_law_and_of_probabilities():
    x, given = torch.rand(3, 5), encoded()
    law = Normal(given.rebuilt, 1.0)
    missing = -(law.log_prob(x) - law.log_prob(given.rebuilt)).sum(1)
    torch.testing.assert_close(AsPublished().vae(x, given), (missing + divergence(given)).mean())
    crossed = F.binary_cross_entropy(given.rebuilt, x, reduction="sum")
    torch.testing.assert_close(AsReleased().vae(x, given), crossed + divergence(given).sum())
    certain = given._replace(rebuilt=torch.ones(3, 5))
    torch.testing.assert_close(
        AsReleased().vae(x, certain),
        F.binary_cross_entropy(torch.ones(3, 5), x, reduction="sum") + divergence(given).sum(),
    )


@pytest.mark.parametrize(("reading", "every"), [(AsPublished(critic_steps=3), 3), (AsReleased(), 1)])
def test_the_generator_learns_when_it_is_its_turn(train, reading, every):
    model = FVAEGAND2(train.spec, dataclasses.replace(SMALL, reading=reading)).train()
    batch = train.batch(np.arange(8))
    for step in range(7):
        terms = set(model.loss(batch, torch.empty(0)))
        assert terms == (CRITICS | GENERATOR if step % every == 0 else CRITICS)
    model.eval()
    model.loss(batch, torch.empty(0))
    assert model.steps == 7  # saved with the model, so that a resumed run knows whose turn it is


def test_critics_and_generator_learn_from_their_own_terms_alone(train):
    model = FVAEGAND2(train.spec, SMALL).train()
    terms = model.loss(train.batch(np.arange(8)), torch.empty(0))
    parts = {"generator": GENERATOR, "encoder": GENERATOR, "critic": {"critic"}, "marginal_critic": {"marginal_critic"}}
    for name, term in terms.items():
        model.zero_grad()
        term.backward(retain_graph=True)
        for part, own in parts.items():
            moved = any(p.grad is not None and (p.grad != 0).any() for p in getattr(model, part).parameters())
            assert moved == (name in own), (name, part)


@pytest.mark.parametrize(("reading", "listens"), [(AsPublished(), True), (AsReleased(), False)])
def test_the_unconditional_critic_trains_the_generator_unless_as_released(train, reading, listens):
    model = FVAEGAND2(train.spec, dataclasses.replace(SMALL, reading=reading)).train()
    batch, gradients = train.batch(np.arange(8)), []
    for scale in (1.0, 3.0):
        torch.manual_seed(0)
        with torch.no_grad():
            model.marginal_critic.output.weight.mul_(scale)
        model.zero_grad()
        model.steps.zero_()
        model.loss(batch, torch.empty(0))["adversarial"].backward()
        gradients.append(model.generator.layers[2].bias.grad.clone())
    assert torch.equal(*gradients) != listens


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    def make(spec):
        return FVAEGAND2(spec, dataclasses.replace(SMALL, reading=AsPublished(adversarial=0.1, critic_steps=1)))

    assert right_share(make, steps=60, lr=5e-3) > 0.6  # chance is 1/8
    assert right_share(make, shuffled=True, steps=60, lr=5e-3) < 0.3


def test_after_fit_extra_it_knows_classes_by_clips_and_by_made_up_ones(scenes):
    train, held = scenes
    torch.manual_seed(0)
    model = FVAEGAND2(train.spec, dataclasses.replace(SMALL, reading=AsPublished(adversarial=0.1, critic_steps=1)))
    optimizer, rng = adam(model.train(), 5e-3, 0.0), np.random.default_rng(0)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.loss(train.batch(rng.integers(len(train), size=24)), torch.empty(0)).values()).backward()
        optimizer.step()
    model.eval()
    seen = torch.arange(8) < 6  # of the last two scenes the classifier gets made up clips alone
    clips = np.flatnonzero(seen[train.labels].numpy())
    classes = Classes(torch.arange(8), train.class_vectors)
    with torch.no_grad():
        model.fit_extra([train.batch(clips[:20]), train.batch(clips[20:])], classes, seen)
        found = model.distances(held.batch(np.arange(len(held))), held.class_vectors)
    right = (found.argmin(1) == held.labels).float()
    assert (found >= 0).all()
    assert right[seen[held.labels]].mean() > 0.6
    assert right[~seen[held.labels]].mean() > 0.4
    with pytest.raises(InputError, match="classes that fit_extra was given, got 1 others"):
        model.distances(held.batch([0]), torch.zeros(1, 20))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"latent": 0}, "latent in"),
        ({"penalty": -1.0}, "penalty in"),
        ({"reading": AsPublished(adversarial=-1.0)}, "reading.adversarial in"),
        ({"reading": AsReleased(critic_steps=0)}, "reading.critic_steps in"),
    ],
)
def test_bad_sizes_are_named(change, text):
    with pytest.raises(InputError, match=f"FVAEGAND2Config: expected {text}"):
        FVAEGAND2Config(**change)
