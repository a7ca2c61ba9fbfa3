"""Figures: one theme-following SVG each, with figures that match the arrays."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.report import plots
from neuroav.report.tables import Quantity

CLASSES = ["a <b>", "c & d", 'e "f"', "$x^2$"]
SEEN = np.array([True, False, True, True])
COUNTS = np.array([[3, 1, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0], [0, 0, 1, 4]])


def curve():
    beta = np.linspace(0, 2, 5)
    return plots.BetaCurve(beta, 0.6 - 0.2 * beta, 0.2 * beta, np.array([0.0, 0.1, 0.3, 0.2, 0.0]), chosen=0.5)


DRAWINGS = {
    "overview": lambda: plots.overview({"m": {"biased": Quantity(0.4, 0.1, 3), "shuffled": None}}, "HM", 0.1),
    "raster": lambda: plots.spike_raster(np.eye(4, 6), np.linspace(0.5, 0.7, 4), np.arange(4) * 0.2, "video.0"),
    "spectrogram": lambda: plots.spectrogram(np.sin(np.arange(8_000) / 5), 16_000),
    "bars": lambda: plots.class_bars(COUNTS, CLASSES, SEEN, "m on test"),
    "confusion": lambda: plots.confusion_matrix(COUNTS, CLASSES, SEEN, "m on test"),
    "beta": lambda: plots.beta_curves({"biased": curve(), "shuffled": curve()}, "m"),
    "training": lambda: plots.training_curves({"m": (np.arange(60), np.linspace(1, 0, 60))}, "loss"),
}


@pytest.fixture(scope="module")
def drawn():
    return {name: make() for name, make in DRAWINGS.items()}


@pytest.mark.filterwarnings("error")
def test_the_legend_of_many_models_leaves_their_curves_room():
    curves = {f"a model with a long name {i}": (np.arange(9), np.arange(9.0) + i) for i in range(28)}
    assert "model with a long name 27" in plots.training_curves(curves, "loss").alt


@pytest.mark.parametrize("name", DRAWINGS)
def test_svg_is_well_formed_and_follows_the_page(drawn, name):
    plot = drawn[name]
    root = ET.fromstring(plot.svg)
    assert root.get("aria-label") == plot.alt
    assert root.get("viewBox")
    assert root.get("width") is None
    assert "var(--ink" in plot.svg
    stand_ins = "|".join(ink[1:] for ink in plots.INKS.values())
    left = re.findall(rf"(?<!, )#(?:{stand_ins})\b", plot.svg)
    assert not left, "a stand-in colour was not replaced"
    assert "<text" in plot.svg


def test_ids_are_unique_over_a_page_and_every_reference_resolves(drawn):
    again = plots.spike_raster(np.eye(4, 6), np.linspace(0.5, 0.7, 4), np.arange(4) * 0.2, "video.1")
    page = "".join(plot.svg for plot in (*drawn.values(), again))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)


def test_class_names_are_text_and_not_markup(drawn):
    texts = ["".join(t.itertext()) for t in ET.fromstring(drawn["bars"].svg).iter("{http://www.w3.org/2000/svg}text")]
    assert set(CLASSES) <= set(texts)


def test_long_class_names_are_shortened_and_leave_the_figure_its_size():
    names = ["short", *(f"somebody {i} is " + "very " * 20 + f"slowly playing {i}" for i in range(3))]
    for draw in (plots.class_bars, plots.confusion_matrix):
        svg = draw(COUNTS, names, SEEN, "m on test").svg
        _, _, width, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
        assert height >= 0.8 * 72 * (1.9 + 0.07 * plots.LABEL)  # the names are a part of it, not all
        assert width < 500
        assert "somebody 1 is v…" in svg
        assert "very very very very" not in svg


def test_no_error_bar_of_a_score_goes_below_zero():
    low = plots.overview({"m": {"biased": Quantity(0.1, 0.3, 3)}}, "HM")
    ends = plots.overview({"m": {"biased": Quantity(0.1, 0.1, 3)}}, "HM")
    bars = [re.search(r'id="[^"]*LineCollection_1".*?d="M ([0-9.]+)', one.svg, re.S)[1] for one in (low, ends)]
    axis = [re.search(r'id="[^"]*patch_2".*?d="M ([0-9.]+)', one.svg, re.S)[1] for one in (low, ends)]
    assert bars == axis


def test_recall_and_group_means(drawn):
    recall = plots.class_recall(COUNTS)
    np.testing.assert_allclose(recall, [0.75, 0.5, np.nan, 0.8])
    assert "seen 77.5, unseen 50.0" in drawn["bars"].alt


def test_seen_classes_come_first():
    assert plots.class_order(SEEN).tolist() == [0, 2, 3, 1]


def test_raster_counts_spikes_and_knows_its_time_axis(drawn):
    plot = drawn["raster"]
    assert "rate 16.7 percent; threshold from 0.5 to 0.7" in plot.alt
    assert (plot.time.start_s, plot.time.end_s) == (0.0, pytest.approx(0.8))
    assert "2 of 6 silent" in plot.svg


def test_raster_without_a_dynamic_threshold_has_no_second_axis():
    plot = plots.spike_raster(np.eye(4, 6), None, np.arange(4) * 0.2, "video.0")
    assert "threshold" not in plot.svg


def test_constant_threshold_can_be_drawn():
    assert plots.spike_raster(np.eye(1, 6), np.zeros(1), np.zeros(1), "x").svg


def test_silence_can_be_drawn():
    assert plots.spectrogram(np.zeros(2_000), 16_000).svg


def test_best_beta_is_named(drawn):
    assert "biased 30.0, shuffled 30.0" in drawn["beta"].alt


def test_wrong_lengths_are_named():
    with pytest.raises(InputError, match="spike_raster: expected theta"):
        plots.spike_raster(np.eye(4, 6), np.zeros(3), np.arange(4), "x")
