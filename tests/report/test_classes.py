"""Gains per class: seed by seed, against sums by hand."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from neuroav.report import html
from neuroav.report.classes import class_gains, gain_bars
from neuroav.report.tables import Quantity


def row(model, seed, recall, test_set="test"):
    return {"model": model, "test_set": test_set, "seed": seed, "recall": recall}


def test_gains_pair_the_seeds_that_both_have():
    rows = [
        row("a", 0, {"run": 0.5, "hop": 1.0}),
        row("a", 1, {"run": 0.7, "hop": 0.0}),
        row("a", 2, {"run": 0.0}),  # a seed that b lacks
        row("b", 1, {"run": 0.4, "hop": 0.5, "fly": 1.0}),
        row("b", 0, {"run": 0.4, "hop": 0.25}),
        row("b", 0, {"run": 0.0}, test_set="shuffled"),
    ]
    found = class_gains(rows, "a", "b", "test")
    assert set(found) == {"run", "hop"}
    assert (found["run"].mean, found["run"].n) == (pytest.approx((0.1 + 0.3) / 2), 2)
    assert found["run"].sd == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert found["hop"].mean == pytest.approx((0.75 - 0.5) / 2)


def test_rows_without_recalls_have_no_gains():
    assert class_gains([row("a", 0, None), row("b", 0, {"run": 1.0})], "a", "b", "test") == {}


def test_runs_of_other_data_with_the_same_seed_are_paired_in_order():
    rows = [row("a", 0, {"run": 1.0}), row("a", 0, {"hop": 0.5}), row("b", 0, {"run": 0.5}), row("b", 0, {"hop": 0.5})]
    found = class_gains(rows, "a", "b", "test")
    assert {name: q.mean for name, q in found.items()} == {"run": 0.5, "hop": 0.0}


def test_figure_says_how_many_classes_gain_and_sorts_them():
    gains = {"c": Quantity(-0.2, None, 1), "a": Quantity(0.1, 0.05, 3), "b": Quantity(0.3, 0.05, 3)}
    plot = gain_bars(gains, [True, True, False], "m over n")
    assert "better in 2, worse in 1 of 3 classes, seen -5.0, unseen +30.0" in plot.alt
    texts = ["".join(t.itertext()) for t in ET.fromstring(plot.svg).iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in gains] == ["a", "c", "b"]  # seen first, then the largest


def test_a_run_alone_has_no_gains(make_run):
    run = html.read_run(make_run())
    alone = html.Run({"rows": [each for each in run.rows if each["model"] == "MDFT"]}, run.arrays)
    assert html.gains_section(alone) is None
    assert html.gains_section(run) is not None
