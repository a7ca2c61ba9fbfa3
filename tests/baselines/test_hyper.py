"""Distances in the Poincare ball against geoopt and textbook forms, what curvature reaches, and learning."""

import warnings

import numpy as np
import pytest
import torch

from neuroav.baselines.hyper import (
    AsPublished,
    AsReleased,
    HyperAlignment,
    HyperAlignmentConfig,
    HyperMultiple,
    HyperMultipleConfig,
    HyperSingle,
    HyperSingleConfig,
    ball_distances,
    clipped,
    logarithm,
)
from neuroav.checks import InputError
from neuroav.data.types import DataSpec
from neuroav.nn.negatives import Trio

SIZES = {"dim": 12, "encoder_hidden": 10, "hidden": 9, "shared": 5, "heads": 2, "head_dim": 3, "feed_forward": 7}
SPEC = DataSpec(audio_dim=6, video_dim=8, text_dim=11)
KINDS = [(HyperAlignment, HyperAlignmentConfig), (HyperSingle, HyperSingleConfig), (HyperMultiple, HyperMultipleConfig)]


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(*curvatures):
    return torch.tensor(curvatures, dtype=torch.float64)[:, None]


def clips(size=6):
    return Trio(*(rand(size, width, seed=i) for i, width in enumerate((6, 8, 11))))


def model(kind=HyperAlignment, config=HyperAlignmentConfig, **changes):
    torch.manual_seed(0)
    return kind(SPEC, config(**SIZES, **changes)).double().eval()


# --------------------------------------------------------------------------------------------------------- the ball


@pytest.fixture(scope="module")
def geoopt():
    """The library, which clips points near the edge; importing it warns of ``torch.jit``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import geoopt

    return geoopt


@pytest.mark.parametrize("curvature", [0.01, 0.3, 1.0])
def test_distances_are_those_of_geoopt(geoopt, curvature):
    x = rand(7, 5)
    ball = geoopt.PoincareBall(c=torch.tensor(curvature, dtype=torch.float64))
    points = ball.expmap0(x)
    expected = ball.dist(points[:, None], points[None])
    torch.testing.assert_close(ball_distances(x, column(curvature)), expected, rtol=1e-6, atol=1e-6)


def textbook(x, c):
    """Moebius addition and the distance by its norm, point by point, with coordinates in the ball."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    points = np.tanh(np.sqrt(c) * norm) * x / (np.sqrt(c) * norm)
    table = np.zeros((len(x), len(x)))
    for i, a in enumerate(-points):
        for j, b in enumerate(points):
            ab, aa, bb = c * a @ b, c * a @ a, c * b @ b
            moved = ((1 + 2 * ab + bb) * a + (1 - aa) * b) / (1 + 2 * ab + aa * bb)
            table[i, j] = 2 / np.sqrt(c) * np.arctanh(np.sqrt(c) * np.linalg.norm(moved))
    return table


def test_each_row_is_measured_in_its_own_ball():
    x, curvatures = rand(4, 3), (0.05, 0.5, 1.0, 2.0)
    expected = np.stack([textbook(x.numpy(), c)[i] for i, c in enumerate(curvatures)])
    np.testing.assert_allclose(ball_distances(x, column(*curvatures)).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_without_curvature_distances_are_twice_the_euclidean_ones():
    x = rand(6, 5)
    torch.testing.assert_close(ball_distances(x, column(1e-10)), 2 * torch.cdist(x, x), rtol=1e-6, atol=1e-9)


def test_far_points_are_finite_and_keep_their_distance():
    """Coordinates in the ball would be 1 to the last digit."""
    line = torch.tensor([[30.0, 0.0], [31.0, 0.0], [-30.0, 0.0]])
    found = ball_distances(line, torch.ones(1, 1))
    torch.testing.assert_close(found[0], torch.tensor([0.0, 2.0, 120.0]), rtol=1e-5, atol=1e-6)
    far = (1e4 * line).requires_grad_()
    table = ball_distances(far, torch.ones(1, 1))
    table.sum().backward()
    assert torch.isfinite(table).all()
    assert torch.isfinite(far.grad).all()


def test_distances_are_never_rounded_to_half_types():
    x, curvature = rand(6, 5).float(), torch.full((1, 1), 0.3)
    with torch.autocast("cpu", torch.bfloat16):
        found = ball_distances(x, curvature)
    assert torch.equal(found, ball_distances(x, curvature))
    assert ball_distances(x.bfloat16(), curvature).dtype == torch.float32


def test_gradients_are_those_of_finite_differences_and_equal_rows_have_none():
    x, curvature = rand(4, 3).requires_grad_(), column(0.1, 0.4, 1.0, 2.0).requires_grad_()
    apart = ~torch.eye(4, dtype=torch.bool)
    torch.autograd.gradcheck(lambda *given: ball_distances(*given)[apart], (x, curvature))
    same = torch.cat([rand(1, 3), rand(1, 3), torch.zeros(2, 3).double()]).requires_grad_()
    ball_distances(same, column(0.3)).sum().backward()
    assert torch.isfinite(same.grad).all()


def test_the_released_maps_shorten_and_stretch_rows():
    x = torch.tensor([[0.3, 0.4], [30.0, 40.0]], dtype=torch.float64)
    ball = clipped(x, column(1.0))
    torch.testing.assert_close(ball.norm(dim=1), torch.tensor([0.5, 0.999]).double())
    tangent = logarithm(ball, column(1.0))
    torch.testing.assert_close(tangent.norm(dim=1), ball.norm(dim=1).atanh())
    torch.testing.assert_close(tangent[1] / tangent[1].norm(), torch.tensor([0.6, 0.8]).double())


# ------------------------------------------------------------------------------------------------------- the models


def alignment(hyper, trio=None):
    (embedded,) = hyper.embed([clips() if trio is None else trio])
    return hyper.terms(embedded, embedded)["alignment"]


def test_alignment_is_the_mean_squared_difference_of_two_tables():
    hyper = model(curvature=0.5, weight=0.25)
    (embedded,) = hyper.embed([clips()])
    audio, video = (textbook(x.detach().numpy(), 0.5) for x in (embedded.encoded_audio, embedded.encoded_video))
    assert alignment(hyper).item() == pytest.approx(0.25 * ((audio - video) ** 2).mean(), rel=1e-6)


def test_curvature_matters_as_published_and_not_as_released():
    for reading, matters in ((AsPublished(), True), (AsReleased(), False)):
        found = [alignment(model(curvature=c, reading=reading)).item() for c in (0.01, 0.5)]
        assert (abs(found[0] - found[1]) > 0.01 * found[0]) == matters
        assert matters or found[0] == pytest.approx(found[1], rel=1e-12)


def test_a_learnt_curvature_has_a_gradient_as_published_and_none_as_released():
    for reading, low, high in ((AsPublished(), 1e-9, np.inf), (AsReleased(), 0, 1e-15)):
        hyper = model(HyperSingle, HyperSingleConfig, reading=reading)
        alignment(hyper).backward()
        assert low <= hyper.curvature.linear.weight.grad.abs().max() < high


def test_curvatures_lie_below_the_scale_and_start_around_half_of_it():
    hyper = model(HyperMultiple, HyperMultipleConfig, scale=3.0, balls=4)
    found = hyper.curvature(rand(50, 12), rand(50, 12, seed=1))
    assert found.shape == (4, 50, 1)
    assert ((found > 0) & (found < 3)).all()
    assert abs(found.mean() - 1.5) < 0.3


def test_several_balls_are_averaged():
    several = model(HyperMultiple, HyperMultipleConfig, balls=2)
    losses = []
    for ball in range(2):
        single = model(HyperSingle, HyperSingleConfig)
        state = several.state_dict()
        linear = {name: state[name][ball : ball + 1] for name in state if name.startswith("curvature")}
        single.load_state_dict(state | linear)
        losses.append(alignment(single).item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)
    assert alignment(several).item() == pytest.approx(np.mean(losses), rel=1e-9)


@pytest.mark.parametrize(("kind", "config"), KINDS)
def test_it_learns_what_shuffled_labels_do_not_teach(right_share, kind, config):
    def make(spec):
        return kind(spec, config(dim=32, encoder_hidden=32, hidden=32, heads=2, head_dim=16))

    assert right_share(make, steps=60) > 0.6  # chance is 1/8
    assert right_share(make, shuffled=True, steps=40) < 0.3


@pytest.mark.parametrize(
    ("config", "change", "text"),
    [
        (HyperAlignmentConfig, {"curvature": 0.0}, "HyperAlignmentConfig: expected curvature in"),
        (HyperSingleConfig, {"scale": -1.0}, "scale in"),
        (HyperMultipleConfig, {"balls": 0}, "balls in"),
        (HyperAlignmentConfig, {"weight": -1.0}, "weight in"),
        (HyperMultipleConfig, {"dim": 0}, "HyperMultipleConfig: expected dim in"),
    ],
)
def test_bad_values_are_named(config, change, text):
    with pytest.raises(InputError, match=text):
        config(**change)
