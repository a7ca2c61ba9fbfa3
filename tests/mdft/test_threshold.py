"""The dynamic threshold is dynamic, positive and finite; the printed forms do what the docstrings say."""

import pytest
import torch

from neuroav.mdft.motion import AnchoredThreshold, FixedThreshold, PrintedThreshold, ProductThreshold

T, B, D = 12, 64, 128


@pytest.fixture
def joint():
    return torch.randn(T, B, D, generator=torch.Generator().manual_seed(0))


def busyness(low=0.02, high=6.0):
    """Clips from calm to busy: a constant event activity each, log-spaced."""
    return torch.logspace(torch.tensor(low).log10(), torch.tensor(high).log10(), B).expand(T, B).unsqueeze(-1)


@pytest.mark.parametrize("config", [AnchoredThreshold(), ProductThreshold()])
def test_busy_clip_has_a_higher_threshold_than_a_calm_one(config, joint):
    theta = config.build(D)(joint, busyness())
    assert theta.shape == (T, B, 1)
    per_clip = theta.mean((0, 2))
    assert per_clip[-1] > 1.2 * per_clip[0]


def test_threshold_follows_the_event_count(joint):
    magnitude = torch.rand(T, B, 1, generator=torch.Generator().manual_seed(1)) * 4
    theta = AnchoredThreshold().build(D)(joint, magnitude)
    stacked = torch.stack([theta.detach().flatten(), magnitude.flatten()])
    assert torch.corrcoef(stacked)[0, 1] > 0.85


@pytest.mark.parametrize("config", [AnchoredThreshold(), ProductThreshold(), FixedThreshold()])
@pytest.mark.parametrize("magnitude", [0.0, 1.0, 1e4])
def test_threshold_stays_positive_and_finite_over_300_steps(config, magnitude):
    joint = 3 * torch.randn(300, 4, D, generator=torch.Generator().manual_seed(2))
    theta = config.build(D)(joint, torch.full((300, 4, 1), magnitude))
    assert torch.isfinite(theta).all()
    assert (theta > 0).all()


def test_softmax_normalisation_would_make_the_entropy_a_constant(joint):
    """Why the default departs from a softmax N: 1/N is about D and drowns the events."""
    share = torch.softmax(joint, -1)
    omega = (share * torch.log(1 / share + busyness())).sum(-1)
    sigmoid = torch.sigmoid(joint)
    ours = (sigmoid * torch.log(1 / sigmoid + busyness())).mean(-1)
    spread = lambda x: (x.mean(0).std() / x.mean()).item()  # noqa: E731
    assert spread(omega) < 0.01 < 0.2 < spread(ours)


def test_printed_product_vanishes_or_explodes(joint):
    long = joint.repeat(3, 1, 1)
    vanishing = PrintedThreshold(v0=1.0).build(D)(long, torch.zeros(3 * T, B, 1))
    assert vanishing[11].max() < 0.01
    exploding = PrintedThreshold(v0=1.0, reduction="sum").build(D)(long, torch.zeros(3 * T, B, 1))
    assert exploding[0].max() < 0
    assert exploding[11].abs().min() > 1e3


def test_fixed_threshold_is_the_number_given(joint):
    assert (FixedThreshold(v_th=0.3).build(D)(joint, busyness()) == 0.3).all()


@pytest.mark.parametrize("config", [AnchoredThreshold(v0=0.0), ProductThreshold(v0=-1.0), FixedThreshold(v_th=0.0)])
def test_thresholds_that_are_not_positive_are_refused(config):
    with pytest.raises(ValueError, match="expected v"):
        config.build(D)
