"""The seen-unseen curve against every beta tried one by one, and intervals against clips drawn one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroav.checks import InputError
from neuroav.gzsl.curve import Interval, bootstrap_intervals, seen_unseen_curve
from neuroav.gzsl.metrics import harmonic_mean, per_class_recall
from neuroav.gzsl.protocol import evaluate_gzsl
from neuroav.gzsl.scores import calibrated_prediction, zsl_prediction

SEEN = np.array([True, False, True, False, True])


def clips(seed, count=25, lattice=False):
    rng = np.random.default_rng(seed)
    label = np.concatenate([[0, 1], rng.integers(0, 5, count - 2)])
    # Multiples of 1/4 add up exactly, so that ties are ties for the loop as well.
    distances = rng.integers(0, 9, (count, 5)) / 4 if lattice else rng.normal(2.0, 0.6, (count, 5))
    distances[np.arange(count), label] -= 0.5
    return distances, label


def means_at(distances, label, beta):
    recall = per_class_recall(calibrated_prediction(distances, SEEN, beta), label, 5)
    return float(np.nanmean(recall[SEEN])), float(np.nanmean(recall[~SEEN]))


def attainable(distances, label):
    """Figures at every beta where two sums are equal, and between any two of these, in order of beta."""
    ties = (distances[:, ~SEEN][:, :, None] - distances[:, SEEN][:, None, :]).ravel()
    ties = np.unique(ties[np.isfinite(ties)])
    tried = np.sort(np.concatenate([ties, (ties[1:] + ties[:-1]) / 2, [ties[0] - 1, ties[-1] + 1]]))
    points = [means_at(distances, label, beta) for beta in tried]
    return np.array([p for p, before in zip(points, [None, *points]) if p != before]).T


@given(st.integers(0, 10_000))
def test_ties_included_the_curve_has_exactly_the_points_that_betas_give(seed):
    distances, label = clips(seed, lattice=True)
    curve = seen_unseen_curve(distances, label, SEEN)
    np.testing.assert_allclose(np.array([curve.seen, curve.unseen]), attainable(distances, label), atol=1e-12)


@given(st.integers(0, 10_000), st.floats(-2, 2))
def test_a_point_holds_from_its_beta_to_the_next(seed, beta):
    distances, label = clips(seed)
    distances[3, ~SEEN] = np.inf
    distances[4, SEEN] = np.inf
    curve = seen_unseen_curve(distances, label, SEEN)
    at = np.searchsorted(curve.beta, beta, side="right") - 1
    np.testing.assert_allclose([curve.seen[at], curve.unseen[at]], means_at(distances, label, beta), atol=1e-12)
    assert curve.best_hm >= evaluate_gzsl(distances, label, SEEN).hm - 1e-12


@given(st.integers(0, 10_000))
def test_the_area_is_that_of_the_staircase(seed):
    distances, label = clips(seed)
    curve = seen_unseen_curve(distances, label, SEEN)
    seen, unseen = attainable(distances, label)
    area = sum(seen[i] * (unseen[i] - unseen[i - 1]) for i in range(1, len(seen)))  # one clip a step: no ties
    assert curve.area == pytest.approx(area, abs=1e-12)
    zsl = evaluate_gzsl(distances, label, SEEN).zsl
    assert (curve.unseen[0], curve.seen[-1]) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert curve.unseen[-1] == pytest.approx(zsl)
    assert 0 <= curve.area <= zsl + 1e-12


def test_an_area_by_hand_with_a_tie():
    # Both clips go over at 1: a seen one wrong, an unseen one right, together; the column decides which is first.
    distances, kinds = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([True, False])
    curve = seen_unseen_curve(distances, np.array([0, 1]), kinds)
    assert (curve.beta.tolist(), curve.seen.tolist(), curve.unseen.tolist()) == ([-np.inf, 1.0], [1.0, 0.0], [0.0, 1.0])
    assert curve.area == 0.5


def test_a_perfect_and_a_hopeless_model():
    label = np.arange(5)
    assert seen_unseen_curve(1.0 - np.eye(5), label, SEEN).area == pytest.approx(1.0)
    hopeless = seen_unseen_curve(np.eye(5), label, SEEN)
    assert (hopeless.area, hopeless.best_hm) == (0.0, 0.0)


def test_clips_of_one_kind_have_no_curve():
    with pytest.raises(InputError, match="clips of seen and of unseen classes, got one kind only"):
        seen_unseen_curve(np.zeros((1, 2)), np.array([0]), np.array([True, False]))


# ---------------------------------------------------------------------------------------------------------- intervals


def resampled_by_hand(distances, label, beta, draws, rng):
    """Clips drawn again within each class, one resample at a time: rows of S, U, HM, ZSL."""
    groups = [np.flatnonzero(label == c) for c in np.unique(label)]
    rows = []
    for _ in range(draws):
        again = np.concatenate([rng.choice(group, len(group)) for group in groups])
        d, y = distances[again], label[again]
        s, u = means_at(d, y, beta)
        zsl = per_class_recall(zsl_prediction(d, SEEN), y, 5)[~SEEN]
        rows.append([s, u, harmonic_mean(s, u), np.nanmean(zsl)])
    return np.array(rows)


def test_intervals_are_those_of_clips_drawn_again():
    distances, label = clips(11, count=120)
    found = bootstrap_intervals(distances, label, SEEN, beta=0.1, draws=4000, level=0.8)
    by_hand = resampled_by_hand(distances, label, 0.1, 1500, np.random.default_rng(1))
    for (name, interval), values in zip(found.items(), by_hand.T, strict=True):
        np.testing.assert_allclose(interval.low, np.quantile(values, 0.1), atol=0.012, err_msg=name)
        np.testing.assert_allclose(interval.high, np.quantile(values, 0.9), atol=0.012, err_msg=name)


def test_intervals_hold_the_figures_follow_the_seed_and_grow_with_the_level():
    distances, label = clips(12, count=200)
    result = evaluate_gzsl(distances, label, SEEN, beta=0.1)
    wide, narrow = (bootstrap_intervals(distances, label, SEEN, beta=0.1, level=level) for level in (0.95, 0.5))
    for name in ("seen", "unseen", "hm", "zsl"):
        assert wide[name].low < narrow[name].low < getattr(result, name) < narrow[name].high < wide[name].high
    assert wide == bootstrap_intervals(distances, label, SEEN, beta=0.1)
    assert wide != bootstrap_intervals(distances, label, SEEN, beta=0.1, seed=1)


def test_classes_without_clips_are_left_out_and_a_kind_without_clips_is_nan():
    distances, label = clips(13)
    seen_only = SEEN[label]
    found = bootstrap_intervals(distances[seen_only], label[seen_only], SEEN, beta=0.0)
    assert 0 <= found["seen"].low <= found["seen"].high <= 1
    assert np.isnan(found["hm"].low)
    assert np.isnan(found["zsl"].high)


def test_what_is_always_right_has_no_spread():
    found = bootstrap_intervals(1.0 - np.eye(5), np.arange(5), SEEN, beta=0.0)
    assert set(found.values()) == {Interval(1.0, 1.0)}


@pytest.mark.parametrize(("options", "text"), [({"draws": 0}, "draws in"), ({"level": 1.5}, r"level in \[0, 1\]")])
def test_bad_options_are_named(options, text):
    with pytest.raises(InputError, match=text):
        bootstrap_intervals(*clips(1), SEEN, beta=0.0, **options)
