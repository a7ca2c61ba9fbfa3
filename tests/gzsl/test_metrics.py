"""Metrics against loops and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import recall_score

from neuroav.checks import InputError
from neuroav.gzsl.metrics import confusion_matrix, follows_scene_share, harmonic_mean, per_class_recall

K = 4
pairs = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=30).map(np.array)
fraction = st.floats(0, 1)


def recall_by_loop(prediction, label):
    recall = []
    for column in range(K):
        clips = [p for p, truth in zip(prediction, label, strict=True) if truth == column]
        recall.append(sum(p == column for p in clips) / len(clips) if clips else math.nan)
    return recall


@given(pairs)
def test_recall_equals_a_loop_and_sklearn(pair):
    prediction, label = pair.T
    recall = per_class_recall(prediction, label, K)
    np.testing.assert_allclose(recall, recall_by_loop(prediction, label))
    present = np.unique(label)
    expected = recall_score(label, prediction, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(recall[present], expected)


@given(pairs)
def test_confusion_equals_sklearn_and_its_diagonal_is_the_recall(pair):
    prediction, label = pair.T
    confusion = confusion_matrix(label, prediction, K)
    np.testing.assert_array_equal(confusion, sklearn_confusion(label, prediction, labels=range(K)))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(np.diag(confusion) / confusion.sum(axis=1), per_class_recall(prediction, label, K))


@given(fraction, fraction)
def test_harmonic_mean_is_symmetric_and_held_by_the_smaller(seen, unseen):
    hm = float(harmonic_mean(seen, unseen))
    assert hm == float(harmonic_mean(unseen, seen))
    assert min(seen, unseen) - 1e-12 <= hm <= max(seen, unseen) + 1e-12
    assert hm <= 2 * min(seen, unseen) + 1e-12


@pytest.mark.parametrize(
    ("seen", "unseen", "expected"),
    [(0.5142, 0.1843, 0.27134), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (math.nan, 0.5, math.nan)],
)
def test_harmonic_mean_of_known_values(seen, unseen, expected):
    assert float(harmonic_mean(seen, unseen)) == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_follows_scene_counts_clips_sent_to_the_scene_they_show():
    preferred = np.array([7, 1, -1])
    prediction, shown = np.array([0, 0, 1, 2, 2]), np.array([7, 0, 1, 2, 7])
    assert follows_scene_share(prediction, shown, preferred) == pytest.approx(2 / 5)
    assert follows_scene_share(np.array([2, 2]), np.array([0, 1]), preferred) == 0.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: per_class_recall(np.array([0]), np.array([0, 1]), 2), r"prediction of shape \(2\), got \(1,\)"),
        (
            lambda: per_class_recall(np.array([0]), np.array([2]), 2),
            r"label in 0 .. 1, got 2 at index 0. Number classes",
        ),
        (lambda: per_class_recall(np.array([-1]), np.array([0]), 2), r"prediction in 0 .. 1, got -1"),
        (lambda: per_class_recall(np.array([0.0]), np.array([0]), 2), "prediction of an integer dtype, got float64"),
        (lambda: confusion_matrix(np.array([[0]]), np.array([0]), 2), r"label of shape \(B\), got \(1, 1\)"),
        (lambda: follows_scene_share(np.array([3]), np.array([0]), np.zeros(3, int)), r"prediction in 0 .. 2, got 3"),
        (
            lambda: follows_scene_share(np.array([0]), np.array([-1]), np.zeros(3, int)),
            "shown_scene of 0 or more, got -1",
        ),
        (lambda: follows_scene_share(np.array([], int), np.array([], int), np.zeros(3, int)), "at least one clip"),
        (lambda: follows_scene_share(np.array([0]), np.array([0, 1]), np.zeros(3, int)), r"shown_scene of shape \(1\)"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(InputError, match=text):
        call()
