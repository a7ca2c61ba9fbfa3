"""The protocol against a loop that follows its description word by word, and what holds for any data."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neuroav.checks import InputError
from neuroav.gzsl.margins import margins_of
from neuroav.gzsl.metrics import per_class_recall
from neuroav.gzsl.protocol import BETA_GRID, RELEASED, GZSLResult, Quirks, calibrate, evaluate_gzsl, released_beta
from neuroav.gzsl.scores import calibrated_prediction

SEEN = np.array([True, True, False, True, False])


def clips(seed, count=40):
    """Noisy distances to 5 classes, seen ones nearer, every class with clips."""
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.arange(5), rng.integers(0, 5, count - 5)])
    distances = rng.normal(2.0, 0.6, (count, 5)) + 0.5 * ~SEEN
    distances[np.arange(count), label] -= 0.9
    return distances, label


def evaluate_by_loop(distances, label, seen, betas):
    """S, U, HM, ZSL and beta, with nothing but loops."""
    classes = range(len(seen))

    def mean_recall(predict, kind):
        recalls = []
        for column in classes:
            if seen[column] == kind and (label == column).any():
                rows = [row for row, truth in zip(distances, label, strict=True) if truth == column]
                recalls.append(sum(predict(row) == column for row in rows) / len(rows))
        return sum(recalls) / len(recalls)

    best = None
    for beta in betas:

        def gzsl(row, beta=beta):
            return min(classes, key=lambda column: row[column] + (float(beta) if seen[column] else 0.0))

        s, u = mean_recall(gzsl, True), mean_recall(gzsl, False)
        hm = 2 * s * u / (s + u) if s + u else 0.0
        if best is None or hm > best[2] + 1e-12:
            best = (s, u, hm, float(beta))

    def zsl(row):
        return min((column for column in classes if not seen[column]), key=lambda column: row[column])

    return (*best[:3], mean_recall(zsl, False), best[3])


@given(st.integers(0, 10_000))
def test_figures_equal_a_loop(seed):
    distances, label = clips(seed)
    result = evaluate_gzsl(distances, label, SEEN)
    expected = evaluate_by_loop(distances, label, SEEN, BETA_GRID)
    np.testing.assert_allclose([result.seen, result.unseen, result.hm, result.zsl], expected[:4], atol=1e-12)
    near_best = np.abs(result.table["hm"] - result.hm) < 1e-12
    assert result.beta in result.table["beta"][near_best]


def tied_clips(seed, dtype):
    """Distances on a coarse lattice, so that all kinds of ties occur, some of them off by the last digits."""
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 6, (30, 5)) * 0.2 + rng.choice([0.0, 1e-16, 3e-8, 1e-7], (30, 5))
    distances[rng.random(30) < 0.1] += 70.0
    return distances.astype(dtype), rng.integers(0, 5, 30)


@given(st.integers(0, 100_000), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_one_pass_equals_a_loop_over_betas_to_the_last_tie(seed, dtype, infinite):
    distances, label = tied_clips(seed, dtype)
    if infinite:
        distances[np.random.default_rng(seed + 1).random(distances.shape) < 0.3] = np.inf
    grid = np.concatenate([BETA_GRID, [-0.2, 0.4, 1e-8, 0.4, 50.0]]).astype(dtype)  # repeated, and not in order
    table = evaluate_gzsl(distances, label, SEEN, grid=grid, quirks=Quirks(empty_class_is_nan=True)).table
    for i, beta in enumerate(grid):
        recall = per_class_recall(calibrated_prediction(distances, SEEN, float(beta)), label, 5)
        np.testing.assert_allclose(table["seen"][i], recall[SEEN].mean(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(table["unseen"][i], recall[~SEEN].mean(), rtol=0, atol=1e-12)


def test_margins_are_where_clips_go_over():
    distances = np.array([[1.0, 3.0, 2.5, 1.0, 2.5], [2.0, 2.0, 1.0, 2.0, 1.0], [np.inf] * 5])
    margins = margins_of(distances, SEEN)
    assert margins.seen_class.tolist() == [0, 0, 0]
    assert margins.unseen_class.tolist() == [2, 2, 2]
    assert margins.beta.tolist() == [1.5, -1.0, np.inf]
    assert margins.above.all()  # column 0 wins a tie with column 2
    assert not margins_of(distances[:, ::-1], SEEN[::-1]).above.any()


def test_recalls_of_the_chosen_beta_are_given():
    distances, label = clips(7)
    result = evaluate_gzsl(distances, label, SEEN)
    recall = per_class_recall(calibrated_prediction(distances, SEEN, result.beta), label, 5)
    np.testing.assert_array_equal(result.recall, recall)
    assert result.zsl_recall[~SEEN].mean() == result.zsl
    assert np.isnan(result.zsl_recall[SEEN]).all()


@pytest.mark.parametrize(
    ("recall", "classes", "quirks", "expected"),
    [
        ([0.2, 0.4, 0.9], [True, True, False], Quirks(), 0.3),
        ([0.2, math.nan, 0.9], [True, True, False], Quirks(), 0.2),
        ([0.2, math.nan, 0.9], [True, True, False], Quirks(empty_class_is_nan=True), math.nan),
        ([0.2, math.nan, 0.9], [True, False, True], Quirks(empty_class_is_nan=True), 0.55),
        ([math.nan, 0.9], [True, False], Quirks(), math.nan),
        ([0.5, 0.9], [False, False], Quirks(), math.nan),
        ([1 / 3, 0.9], [True, False], Quirks(float32_means=True), float(np.float32(1 / 3))),
    ],
)
def test_means_and_classes_without_clips(recall, classes, quirks, expected):
    mean = quirks.mean(np.array([recall, recall]), np.array(classes))
    np.testing.assert_allclose(mean, [expected, expected], rtol=1e-15)


def test_every_class_weighs_the_same_whatever_its_clips():
    distances = np.array([[0.0, 1.0, 9.0]] * 10 + [[9.0, 9.0, 0.0]])
    result = evaluate_gzsl(distances, np.array([0] * 9 + [1, 2]), np.array([True, True, False]), beta=0.0)
    assert result.seen == 0.5


def test_a_released_beta_of_zero_searches():
    distances, label = clips(5)
    assert evaluate_gzsl(distances, label, SEEN, beta=0.0, quirks=RELEASED).beta > 0
    assert evaluate_gzsl(distances, label, SEEN, beta=0.0).beta == 0


@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_permuting_classes_changes_no_figure(seed, order):
    distances, label = clips(seed)
    order = np.array(order)
    place = np.argsort(order)
    moved = evaluate_gzsl(distances[:, order], place[label], SEEN[order], beta=0.4)
    still = evaluate_gzsl(distances, label, SEEN, beta=0.4)
    np.testing.assert_allclose(
        [moved.seen, moved.unseen, moved.hm, moved.zsl], [still.seen, still.unseen, still.hm, still.zsl], atol=1e-12
    )


@given(st.integers(0, 10_000))
def test_more_beta_gives_seen_away_for_unseen(seed):
    table = evaluate_gzsl(*clips(seed), SEEN).table
    assert (np.diff(table["seen"]) <= 1e-12).all()
    assert (np.diff(table["unseen"]) >= -1e-12).all()
    assert (table["hm"] <= 2 * np.minimum(table["seen"], table["unseen"]) + 1e-12).all()
    assert (table["unseen"] <= table["zsl"] + 1e-12).all()


def test_extreme_betas_leave_one_kind_of_class():
    distances, label = clips(1)
    high, low = (evaluate_gzsl(distances, label, SEEN, beta=beta) for beta in (1e6, -1e6))
    assert (high.seen, high.unseen, high.hm) == (0.0, high.zsl, 0.0)
    assert (low.unseen, low.hm) == (0.0, 0.0)


def test_the_first_of_equally_good_betas_is_taken():
    distances = np.array([[1.0, 1.5], [1.0, 9.0]])
    result = evaluate_gzsl(distances, np.array([1, 0]), np.array([True, False]), grid=np.array([0.0, 1.0, 2.0, 3.0]))
    assert (result.beta, result.hm) == (1.0, 1.0)


@pytest.mark.parametrize("beta", [0.0, 0.73])
def test_a_given_beta_is_used_as_it_is(beta):
    distances, label = clips(2)
    result = evaluate_gzsl(distances, label, SEEN, beta=beta)
    assert result.beta == beta
    assert result.table["beta"].tolist() == [beta]
    expected = evaluate_by_loop(distances, label, SEEN, [beta])
    assert (result.seen, result.unseen) == pytest.approx(expected[:2])


def test_the_test_stage_does_not_look_for_its_own_beta():
    val, test = clips(5), clips(6)
    beta = calibrate(*val, SEEN)
    assert beta == evaluate_gzsl(*val, SEEN).beta > 0
    assert evaluate_gzsl(*test, SEEN, beta=beta).hm <= evaluate_gzsl(*test, SEEN).hm


@given(st.integers(0, 10_000), st.integers(0, 4))
def test_a_class_without_clips_is_left_out(seed, empty):
    distances, label = clips(seed)
    keep = label != empty
    assume(keep.sum() > 5)
    result = evaluate_gzsl(distances[keep], label[keep], SEEN, beta=0.2)
    expected = evaluate_by_loop(distances[keep], label[keep], SEEN, [0.2])
    np.testing.assert_allclose([result.seen, result.unseen, result.hm, result.zsl], expected[:4], atol=1e-12)
    assert result.empty_classes == (empty,)
    assert result.note == "1 class has no clip to recall."


def test_a_class_without_clips_spreads_when_asked():
    distances, label = clips(3)
    keep = label != 2
    result = evaluate_gzsl(distances[keep], label[keep], SEEN, quirks=Quirks(empty_class_is_nan=True))
    assert np.isnan([result.unseen, result.hm, result.zsl]).all()
    assert result.seen > 0
    assert result.beta == 0.0


def test_clips_of_one_kind_can_be_evaluated_but_not_searched():
    distances, label = clips(4)
    seen_only = SEEN[label]
    result = evaluate_gzsl(distances[seen_only], label[seen_only], SEEN, beta=0.2)
    assert result.seen > 0
    assert np.isnan([result.unseen, result.hm, result.zsl]).all()
    assert result.note == "2 classes have no clip to recall."
    with pytest.raises(InputError, match="clips of seen and of unseen classes to search beta, got one kind only"):
        evaluate_gzsl(distances[seen_only], label[seen_only], SEEN)


def test_results_compare_by_their_figures():
    distances, label = clips(4)
    assert evaluate_gzsl(distances, label, SEEN) == evaluate_gzsl(distances, label, SEEN)
    assert GZSLResult(0.5, 0.5, 0.5, 0.5, 0.0).note == ""


def test_inputs_are_not_changed():
    distances, label = clips(4)
    before = distances.copy(), label.copy(), SEEN.copy()
    evaluate_gzsl(distances, label, SEEN)
    for now, then in zip((distances, label, SEEN), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("code", "betas", "expected"),
    [
        ("avca", (0.2, 0.4, 0.6), 0.4),
        ("avca", (0.0, 0.0, 0.0), 1e-10),
        ("tcaf", (9.0, 9.0, 0.6), 0.6 + 1e-10 / 3),
        ("tcaf", (0.0, 0.0, 0.0), 1e-10 / 3),
    ],
)
def test_released_combination_of_betas(code, betas, expected):
    assert released_beta(*betas, code=code) == pytest.approx(expected, rel=1e-12)


ROWS, LABEL = np.zeros((2, 3)), np.array([0, 2])
KINDS = np.array([True, True, False])


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((np.full((2, 3), np.nan), LABEL, KINDS), {}, "evaluate_gzsl: .* nan distances in 2 of 2 .* diverged"),
        ((ROWS, np.array([0, 3]), KINDS), {}, r"label in 0 .. 2, got 3 at index 1"),
        ((ROWS, np.array([0]), KINDS), {}, "one label for each row of distances, and at least one, got 1 and 2"),
        ((np.zeros((0, 3)), np.zeros(0, int), KINDS), {}, "at least one, got 0 and 0"),
        ((ROWS, LABEL, np.ones(3, bool)), {}, "at least one unseen class, got none. Pass the distances"),
        ((ROWS, LABEL, np.zeros(3, bool)), {}, "at least one seen class, got none"),
        ((ROWS, LABEL, KINDS[:2]), {}, r"seen of shape \(3\), got \(2,\)"),
        ((ROWS, LABEL, KINDS), {"grid": np.zeros(0)}, "grid of at least one beta"),
        ((ROWS, LABEL, KINDS), {"beta": float("nan")}, "a finite beta"),
        ((ROWS, LABEL, KINDS), {"grid": np.array([0, np.inf])}, "a finite beta, got inf"),
    ],
)
def test_bad_input_is_named(arguments, options, text):
    with pytest.raises(InputError, match=text):
        evaluate_gzsl(*arguments, **options)


def test_an_unknown_released_code_is_named():
    with pytest.raises(InputError, match="code to be one of avca, tcaf"):
        released_beta(0, 0, 0, code="tcfa")
