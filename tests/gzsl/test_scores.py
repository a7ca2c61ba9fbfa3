"""Predictions against loops over clips and classes, and what holds for any distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuroav.checks import InputError
from neuroav.gzsl.scores import calibrated_prediction, euclidean_distances, zsl_prediction

SEEN = np.array([True, False, True, False, False])
# Multiples of 1/8 make exact ties common and every sum exact.
distances_of = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.just(5)), elements=st.integers(0, 16).map(lambda n: n / 8)
)
beta_of = st.integers(0, 24).map(lambda n: n / 8)


def nearest_by_loop(row, seen, beta, candidates):
    best, best_distance = None, None
    for column in candidates:
        distance = row[column] + (beta if seen[column] else 0.0)
        if best is None or distance < best_distance:
            best, best_distance = column, distance
    return best


@given(distances_of, beta_of)
def test_prediction_is_the_first_nearest_class(distances, beta):
    expected = [nearest_by_loop(row, SEEN, beta, range(5)) for row in distances]
    assert calibrated_prediction(distances, SEEN, beta).tolist() == expected


@given(distances_of)
def test_zsl_prediction_is_the_first_nearest_unseen_class(distances):
    expected = [nearest_by_loop(row, SEEN, 0.0, [1, 3, 4]) for row in distances]
    assert zsl_prediction(distances, SEEN).tolist() == expected


@given(distances_of)
def test_a_large_beta_makes_gzsl_the_same_as_zsl(distances):
    np.testing.assert_array_equal(calibrated_prediction(distances, SEEN, 100.0), zsl_prediction(distances, SEEN))


@given(st.permutations(range(5)))
def test_permuting_classes_permutes_predictions(order):
    distances = np.random.default_rng(3).random((20, 5))
    order = np.array(order)
    moved = calibrated_prediction(distances[:, order], SEEN[order], 0.25)
    np.testing.assert_array_equal(order[moved], calibrated_prediction(distances, SEEN, 0.25))


def test_beta_is_added_in_the_precision_of_the_distances():
    beta, seen = 0.2, np.array([True, False])
    single = np.array([[1.0, 1.2]], np.float32)
    assert calibrated_prediction(single, seen, beta).tolist() == [int(single[0, 0] + np.float32(beta) > single[0, 1])]
    above = np.array([[1.0, 1.2 - 1e-12]])
    assert calibrated_prediction(above, seen, beta).tolist() == [1]
    assert calibrated_prediction(above.astype(np.float32), seen, beta).tolist() == [0]


def test_integer_distances_and_a_fractional_beta():
    assert calibrated_prediction(np.array([[1, 1]]), np.array([True, False]), 0.5).tolist() == [1]


def test_infinite_distances_never_win_and_a_seen_class_never_wins_zsl():
    distances = np.array([[np.inf, 1.0, 0.0, np.inf, 2.0], [0.0, np.inf, 0.0, np.inf, np.inf]])
    assert calibrated_prediction(distances, SEEN, 0.0).tolist() == [2, 0]
    assert zsl_prediction(distances, SEEN).tolist() == [1, 1]


@given(
    arrays(np.float64, (3, 2), elements=st.floats(-1e3, 1e3)), arrays(np.float64, (4, 2), elements=st.floats(-1e3, 1e3))
)
def test_distances_equal_a_loop(x, prototypes):
    expected = [[float(np.linalg.norm(row - prototype)) for prototype in prototypes] for row in x]
    np.testing.assert_allclose(euclidean_distances(x, prototypes), expected, rtol=1e-12)


def test_distances_to_no_class_are_an_empty_table():
    assert euclidean_distances(np.zeros((3, 2)), np.zeros((0, 2))).shape == (3, 0)


@pytest.mark.parametrize(
    ("distances", "seen", "beta", "text"),
    [
        (np.zeros(5), SEEN, 0.0, r"distances of shape \(B, K\), got \(5,\)"),
        (np.zeros((2, 4)), SEEN, 0.0, r"seen of shape \(4\), got \(5,\)"),
        (np.zeros((2, 0)), np.zeros(0, bool), 0.0, "at least one class"),
        (np.zeros((2, 5)), SEEN.astype(int), 0.0, "seen of dtype bool, got int64. Pass a mask"),
        (
            np.array([[0.0] * 5, [np.nan] + [0.0] * 4]),
            SEEN,
            0.0,
            "nan distances in 1 of 2 clips, first in row 1. The model div",
        ),
        (np.zeros((2, 5)), SEEN, float("nan"), "a finite beta, got nan"),
        (np.zeros((2, 5)), SEEN, float("inf"), "a finite beta, got inf"),
    ],
)
def test_bad_input_is_named(distances, seen, beta, text):
    with pytest.raises(InputError, match=text):
        calibrated_prediction(distances, seen, beta)


def test_zsl_needs_an_unseen_class():
    with pytest.raises(InputError, match="at least one unseen class, got 2 seen classes only"):
        zsl_prediction(np.zeros((1, 2)), np.array([True, True]))


def test_widths_must_agree():
    with pytest.raises(InputError, match=r"prototypes of shape \(K, 3\), got \(4, 2\)"):
        euclidean_distances(np.zeros((1, 3)), np.zeros((4, 2)))
