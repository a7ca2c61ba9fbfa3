"""Accuracy against energy: seeds grouped, the front by brute force, and what equal accuracy costs, by hand."""

import itertools
import json
import random

import pytest

from neuroav.energy import curve
from neuroav.energy.curve import Point, Spread


def point(name, hm, joules, spiking=False, sd=None, n=1):
    return Point(name, spiking, Spread(hm, sd, n), Spread(joules, None, 1), joules, joules)


def row(model, seed, hm, joules, spikes=None, task='{"store": "a.h5"}', **extra):
    """Rows of both rules; the second table costs ten times as much, accumulates half as much by the second rule."""
    scores = {"biased": {"hm": hm}, "shuffled": {"hm": hm / 2}}
    head = {"model": model, "seed": seed, "task": task, "spike_rate": spikes, "scores": scores, "measured": {}} | extra
    return [
        head
        | {
            "rule": rule,
            "estimates": [
                {"table": name, "low_j": joules * times / 2 / share, "high_j": joules * times / share}
                for name, times in ((curve.TABLE, 1), ("other", 10))
            ],
        }
        for rule, share in (("binary", 1), ("event", 2))
    ]


def beats(a, b):
    as_good = a.joules.mean <= b.joules.mean and a.hm.mean >= b.hm.mean
    return as_good and (a.joules.mean < b.joules.mean or a.hm.mean > b.hm.mean)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_point_beats(seed):
    draw = random.Random(seed)
    points = [point(str(i), draw.randrange(6) / 10, float(draw.randrange(1, 7))) for i in range(draw.randrange(1, 14))]
    front = curve.pareto_front(points)
    expected = [each for each in points if not any(beats(other, each) for other in points)]
    assert sorted(each.name for each in front) == sorted(each.name for each in expected)
    assert [each.joules.mean for each in front] == sorted(each.joules.mean for each in front)
    assert all(a.hm.mean <= b.hm.mean for a, b in itertools.pairwise(front))


def test_the_peer_is_the_cheapest_that_is_as_accurate():
    own = point("snn", 0.40, 4.0, spiking=True)
    peers = [point("dear", 0.50, 9.0), point("cheap", 0.41, 3.0), point("worse", 0.39, 1.0), point("equal", 0.40, 5.0)]
    other = point("other snn", 0.45, 1.0, spiking=True)
    found = {each.spiking.name: each for each in curve.at_equal_accuracy([own, *peers, other])}
    assert (found["snn"].peer.name, found["snn"].ratio) == ("cheap", pytest.approx(4 / 3))
    assert (found["other snn"].peer.name, found["other snn"].ratio) == ("dear", pytest.approx(1 / 9))
    assert curve.at_equal_accuracy([point("snn", 0.6, 1.0, spiking=True), *peers])[0] == (
        point("snn", 0.6, 1.0, spiking=True),
        None,
    )
    assert curve.at_equal_accuracy([point("snn", 0.6, 1.0, spiking=True), *peers])[0].ratio is None
    assert curve.at_equal_accuracy(peers) == []
    assert curve.at_equal_accuracy([point("untaught", 0.0, 1.0, spiking=True), *peers]) == []


def test_within_the_spread_is_one_deviation_of_the_difference_of_means():
    own = Spread(0.50, 0.03, 3)  # variance of the mean 3e-4
    peer_sd = 0.04  # with 4 seeds 4e-4: a deviation of sqrt(7e-4) = 0.0264575
    assert curve.as_accurate(Spread(0.50 - 0.02645, peer_sd, 4), own)
    assert not curve.as_accurate(Spread(0.50 - 0.02647, peer_sd, 4), own)
    assert not curve.as_accurate(Spread(0.4999, None, 1), Spread(0.50, None, 1))


def test_seeds_are_one_point_and_the_bar_spans_tables_and_rules():
    rows = [*row("snn", 0, 0.4, 2e-6, 0.1), *row("snn", 1, 0.5, 4e-6, 0.1), *row("ann", 0, 0.3, 1e-6)]
    biased, shuffled = curve.estimate_curves(rows)
    assert (biased.kind, biased.test_set, biased.data, shuffled.test_set) == ("estimate", "biased", "", "shuffled")
    assert "upper end, rule binary" in biased.axis
    assert curve.TABLE in biased.axis
    snn, ann = biased.points
    assert (snn.spiking, ann.spiking) == (True, False)
    assert snn.hm == (pytest.approx(0.45), pytest.approx(0.1 / 2**0.5), 2)
    assert snn.joules.mean == pytest.approx(3e-6)
    assert (snn.low_j, snn.high_j) == (pytest.approx(2e-6 / 4), pytest.approx(4e-5))
    assert ann.hm == (0.3, None, 1)
    assert shuffled.points[0].hm.mean == pytest.approx(0.225)
    assert [each.name for each in biased.front] == ["ann", "snn"]


def test_what_is_untrained_or_not_priced_has_no_point():
    untrained = row("new", 0, 0.4, 1e-6, scores={})
    assert curve.estimate_curves(untrained) == []
    assert curve.estimate_curves(row("ann", 0, 0.4, 1e-6), table="no such table") == []


def test_data_sets_have_curves_of_their_own():
    rows = [*row("a", 0, 0.4, 1e-6), *row("a", 0, 0.9, 1e-6, task='{"store": "runs/b.h5"}')]
    found = curve.estimate_curves(rows)
    assert [each.title for each in found] == ["a, biased", "a, shuffled", "b, biased", "b, shuffled"]
    assert [each.points[0].hm.mean for each in found] == [0.4, 0.2, 0.9, 0.45]
    twice = [{"task": '{"store": "x/a.h5"}'}, {"task": '{"store": "a.h5"}'}]
    assert list(curve.data_names(twice).values()) == ["a (1)", "a (2)"]


def test_the_range_of_ratios_is_over_tables_rules_and_ends():
    rows = [*row("snn", 0, 0.4, 2e-6, 0.1), *row("ann", 0, 0.4, 1e-6), *row("big", 0, 0.4, 8e-6)]
    for each in rows:  # the other table turns the peers round: big costs 5e-7 there, and snn 2e-5
        if each["model"] == "big":
            each["estimates"][1] |= {"low_j": 4e-6, "high_j": 5e-6}
    biased = curve.estimate_curves(rows)[0]
    low, high = curve.ratio_range(rows, biased)["snn"]
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(20 / 5)  # upper ends by rule binary, against big
    assert curve.ratio_range(row("snn", 0, 0.4, 2e-6, 0.1), biased) == {}


def measured(method, gross, batch=1):
    energy = {"meter": "NVML", "method": method, "gross_j": gross, "gross_j_trials": [gross - 1, gross + 1]}
    return {"batch": batch, "energy": [energy]}


def test_each_meter_method_and_batch_is_an_axis_of_its_own():
    def entry(gross):
        return {"device": "GPU", "batches": [measured("counter", gross), measured("power", 2 * gross, batch=64)]}

    rows = [*row("a", 0, 0.4, 1e-6, measured=entry(10.0)), *row("a", 1, 0.4, 1e-6, measured=entry(14.0))]
    rows += row("b", 0, 0.4, 1e-6, measured={"not_measured": "no meter"})
    found = [each for each in curve.measured_curves(rows) if each.test_set == "biased"]
    assert [(each.kind, each.axis) for each in found] == [
        ("measured", "GPU, NVML, counter, batch 1, gross"),
        ("measured", "GPU, NVML, power, batch 64, gross"),
    ]
    assert [[one.name for one in each.points] for each in found] == [["a"], ["a"]]
    assert found[0].points[0].joules.mean == pytest.approx(12.0)
    assert (found[0].points[0].low_j, found[0].points[0].high_j) == (9.0, 15.0)
    assert curve.measured_curves(row("b", 0, 0.4, 1e-6)) == []


def test_json_holds_points_front_and_ratios():
    rows = [*row("snn", 0, 0.4, 2e-6, 0.1), *row("snn", 1, 0.5, 4e-6, 0.1), *row("ann", 0, 0.5, 1e-6)]
    rows += row("best", 0, 0.9, 1e-5, 0.1)
    biased = json.loads(json.dumps(curve.curves_json(rows)))[0]
    assert (biased["kind"], biased["test_set"], biased["front"]) == ("estimate", "biased", ["ann", "best"])
    assert biased["points"][0]["hm"] == {"mean": pytest.approx(0.45), "sd": pytest.approx(0.1 / 2**0.5), "n": 2}
    first, second = biased["equal_accuracy"]
    assert (first["peer"], first["ratio"], first["over_tables"]) == ("ann", pytest.approx(3), pytest.approx([3, 3]))
    assert second == {"spiking": "best", "peer": None, "ratio": None, "over_tables": None}


def test_the_first_method_of_a_meter_is_on_the_axis():
    both = [measured(name, joules)["energy"][0] for name, joules in (("counter", 10.0), ("power", 20.0))]
    rows = row("a", 0, 0.4, 1e-6, measured={"device": "GPU", "batches": [{"batch": 1, "energy": both}]})
    assert {each.axis for each in curve.measured_curves(rows)} == {"GPU, NVML, counter, batch 1, gross"}
