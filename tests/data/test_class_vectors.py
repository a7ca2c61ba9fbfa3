"""Optimised class vectors: each term against loops, its optima where geometry knows them, and what must not matter."""

import itertools

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.data.class_vectors import (
    AsGiven,
    CosineDistance,
    EuclideanDistance,
    ManhattanDistance,
    Optimised,
    Proximity,
    Ranking,
)
from neuroav.data.motionscenes import class_vectors

RNG = torch.Generator()
DISTANCES = {
    CosineDistance(): lambda x, y: 1 - float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)),
    EuclideanDistance(): lambda x, y: float(np.sqrt(((x - y) ** 2).sum())),
    ManhattanDistance(): lambda x, y: float(np.abs(x - y).sum()),
}


@pytest.fixture(params=DISTANCES, ids=lambda distance: type(distance).__name__)
def distance(request):
    return request.param


def unit(rows, width, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def nearest(vectors):
    """Cosine distance of each row to the nearest other."""
    apart = 1 - vectors @ vectors.T
    np.fill_diagonal(apart, np.inf)
    return apart.min(1)


def order_kept(vectors, given):
    """Share of triples whose order of cosine distances is that of ``given``."""
    after, before = (1 - x @ x.T for x in (vectors, given))
    triples = list(itertools.permutations(range(len(given)), 3))
    return np.mean([(after[c, i] < after[c, j]) == (before[c, i] < before[c, j]) for c, i, j in triples])


# ------------------------------------------------------------------------------------------------------- the objective


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_the_objective_is_that_of_loops(distance, margin):
    given, moved = unit(6, 5), unit(6, 5, seed=1)
    d, classes = DISTANCES[distance], range(6)
    hinges = [
        max(
            0.0,
            margin
            - np.sign(d(given[c], given[i]) - d(given[c], given[j])) * (d(moved[c], moved[i]) - d(moved[c], moved[j])),
        )
        for c, i, j in itertools.permutations(classes, 3)
    ]
    separated = np.mean([min(d(moved[c], moved[k]) for k in classes if k != c) for c in classes])
    near = np.mean([d(moved[c], given[c]) for c in classes])
    for preservation, kept in ((Ranking(margin), np.mean(hinges)), (Proximity(), near)):
        optimised = Optimised(preservation=preservation, separation=0.3, distance=distance)
        found = optimised.objective(torch.from_numpy(moved), torch.from_numpy(given), RNG)
        assert found.item() == pytest.approx(0.7 * kept - 0.3 * separated, rel=1e-9)


def test_drawn_pairs_have_the_mean_of_all():
    given, moved = (torch.from_numpy(unit(40, 8, seed)) for seed in (0, 1))
    every, some = Ranking(pairs=10**6), Ranking(pairs=200)
    whole = every.loss(moved, given, CosineDistance(), RNG).item()
    rng = torch.Generator().manual_seed(0)
    drawn = [some.loss(moved, given, CosineDistance(), rng).item() for _ in range(200)]
    assert np.std(drawn) > 0
    assert np.mean(drawn) == pytest.approx(whole, abs=4 * np.std(drawn) / np.sqrt(200))


# ---------------------------------------------------------------------------------------------------------- the optimum


def test_separation_alone_ends_in_the_simplex():
    """No more classes than dimensions and one: all at the same distance, whose cosine is ``-1 / (K - 1)``."""
    found = Optimised(separation=1.0, steps=500, lr=0.01).of(unit(5, 8)).astype(np.float64)
    cosines = (found @ found.T)[~np.eye(5, dtype=bool)]
    np.testing.assert_allclose(cosines, -1 / 4, atol=0.02)


def test_proximity_alone_stays_where_it_began(distance):
    given = unit(7, 5)
    found = Optimised(preservation=Proximity(), separation=0.0, distance=distance, steps=200).of(3 * given)
    atol = 1e-6 if isinstance(distance, CosineDistance) else 0.005  # the others have a kink there
    np.testing.assert_allclose(found, given, atol=atol)


def test_by_default_distances_grow_as_in_table_8():
    """There nearest classes get farther, by some tens of percent, and stay much the same."""
    given = class_vectors()
    before, after = nearest(given), nearest(Optimised().of(given))
    assert (after > before).all()
    assert 1.2 < after.mean() / before.mean() < 1.5
    assert order_kept(Optimised().of(given)[:24], given[:24]) > 0.9


@pytest.mark.parametrize("preservation", [Proximity(), Ranking()], ids=["proximity", "ranking"])
def test_classes_move_apart_and_keep_their_order(preservation):
    given = class_vectors()[:24]
    found, alone = (
        Optimised(preservation=preservation, separation=separation, steps=200, lr=0.01).of(given)
        for separation in (0.5, 1.0)
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert nearest(found).mean() > nearest(given).mean() + 0.05
    assert order_kept(found, given) > order_kept(alone, given) + 0.05


# ------------------------------------------------------------------------------------------------ what must not matter


def test_the_order_of_classes_does_not_matter():
    given, order = unit(8, 6), np.random.default_rng(2).permutation(8)
    optimised = Optimised(steps=60)
    np.testing.assert_allclose(optimised.of(given[order]), optimised.of(given)[order], atol=1e-6)


def test_it_repeats_to_the_digit_and_the_length_of_what_is_given_does_not_matter():
    given = unit(70, 10).astype(np.float32)  # 2,415 pairs, some of them drawn
    optimised = Optimised(steps=10)
    first = optimised.of(given)
    assert first.dtype == np.float32
    assert np.array_equal(first, optimised.of(given))
    assert not np.array_equal(first, Optimised(steps=10, seed=1).of(given))
    np.testing.assert_allclose(optimised.of(5 * given), first, atol=1e-6)
    assert AsGiven().of(given) is given


@pytest.mark.parametrize(
    ("vectors", "text"),
    [(np.eye(2), "at least 3 classes, got 2"), (np.diag([1.0, 1.0, 0.0]), "a length, got a vector of zeros")],
)
def test_vectors_that_cannot_be_moved_are_refused(vectors, text):
    with pytest.raises(InputError, match=text):
        Optimised().of(vectors)


@pytest.mark.parametrize(
    ("change", "text"), [({"separation": 1.5}, "separation in"), ({"steps": 0}, "steps in"), ({"lr": -1.0}, "lr in")]
)
def test_bad_settings_are_named(change, text):
    with pytest.raises(InputError, match=text):
        Optimised(**change)
    with pytest.raises(InputError, match="margin in"):
        Ranking(margin=-1.0)
