"""The report of ``neuroav energy``: curves drawn with their figures, estimates called so, a page that is whole."""

import json
import re
import xml.etree.ElementTree as ET

import pytest
import torch

from neuroav.checks import InputError
from neuroav.energy import count
from neuroav.energy.curve import estimate_curves, measured_curves
from neuroav.energy.report import checklist, count_rows
from neuroav.neurons import DynamicLIF
from neuroav.report import html, tradeoff
from neuroav.report.energy_page import energy_page, markdown
from neuroav.report.html import write_report

MODELS = {"SNN <T 4>": (8, 0.42), "SNN & small": (4, 0.36), "ReLU twin": (0, 0.41), "pooled": (0, 0.30)}


class Spiking(torch.nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.steps, self.linear, self.neurons = steps, torch.nn.Linear(6, 5), DynamicLIF(5)
        self.readout = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.readout(self.neurons(self.linear(x.expand(self.steps, *x.shape)), 0.1)[0])


def rows_of(measured):
    torch.manual_seed(0)
    rows = []
    for model, (steps, hm) in MODELS.items():
        network = (Spiking(steps) if steps else torch.nn.Linear(6, 5)).eval()
        cost = count(network, torch.rand(2, 6), clips=2)
        for seed in range(3):
            scores = {"biased": {"hm": hm + 0.01 * seed}, "shuffled": {"hm": hm / 2}}
            head = {"model": model, "seed": seed, "trained": True, "task": '{"store": "a.h5"}', "scores": scores}
            entry = measurement(1e-3 * (1 + steps)) if measured else {"not_measured": "no meter"}
            rows += [head | row | {"front_end": [], "measured": entry} for row in count_rows(cost)]
    return rows


def measurement(joules):
    energy = {"meter": "NVML", "method": "counter", "idle_w": 50.0}
    for name in ("gross_j", "net_j"):
        energy |= {name: joules, f"{name}_sd": joules / 50, f"{name}_trials": [0.98 * joules, 1.02 * joules]}
    batch = {"batch": 1, "latency_s": 1e-3, "clips_per_s": 1e3, "energy": [energy], "flags": []}
    return {"device": "a GPU", "batches": [batch]}


@pytest.fixture(scope="module")
def report():
    rows = rows_of(measured=True)
    return {"rows": rows, "checklist": checklist(rows), "versions": {"neuroav": "0.1.0"}}


@pytest.fixture(scope="module")
def page(report):
    return energy_page(report)


def test_the_page_is_whole_and_asks_for_nothing(page):
    assert re.findall(r'<section id="(\w+)"', page) == ["curve", "counted", "estimated", "measured", "conditions"]
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "SNN <T 4>" not in page
    assert "SNN &lt;T 4&gt;" in page
    drawings = re.findall(r"<svg role.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2 + 2 + 1  # estimated and measured on two test sets, and break-even
    for drawing in drawings:
        ET.fromstring(drawing)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_an_estimate_and_a_measurement_share_no_axis(report):
    estimated, measured = estimate_curves(report["rows"])[0], measured_curves(report["rows"])[0]
    plots = [tradeoff.curve_plot(each, "c") for each in (estimated, measured)]
    words = ["".join(ET.fromstring(plot.svg).itertext()) for plot in plots]
    assert "estimated energy of a clip" in words[0]
    assert "measured" not in words[0]
    assert "measured energy of a clip" in words[1]
    assert "estimate" not in words[1]
    assert "45 nm, int32, SRAM by size, upper end, rule binary" in words[0]
    assert "bars: all tables and both rules" in words[0]
    assert "on the Pareto front: ReLU twin, SNN <T 4>." in plots[0].alt


def test_the_table_says_what_equal_accuracy_costs(report):
    curve = measured_curves(report["rows"])[0]
    table = tradeoff.equal_table(curve, {})
    first, second = table.rows
    assert first[:2] == ("SNN <T 4>", "9.00 mJ")
    assert first[3:5] == ("none", "none")  # 41.0 +- 1.0 is below 42.0 less 0.8
    assert second[3:5] == ("ReLU twin", "1.00 mJ")
    assert second[6] == "5"
    sentences = tradeoff.verdicts(curve)
    assert sentences == [
        "SNN <T 4>: no model without spikes is as accurate.",
        "SNN & small: 5 times the energy of ReLU twin, the cheapest without spikes as accurate (measured).",
    ]


def test_the_range_over_tables_stands_beside_an_estimate(report):
    curve = estimate_curves(report["rows"])[0]
    table = tradeoff.equal_table(curve, tradeoff.ranges_of(report["rows"], curve))
    low, _, high = table.rows[1][-1].split()
    assert float(low) <= float(table.rows[1][6]) <= float(high)
    assert tradeoff.ranges_of(report["rows"], measured_curves(report["rows"])[0]) == {}


def test_markdown_begins_with_the_curves(report):
    text = markdown(report)
    assert re.findall("^## (.*)$", text, re.MULTILINE)[0] == "Accuracy against energy"
    assert "### By estimate, biased" in text
    assert "### As measured, shuffled" in text
    assert "- SNN & small: 5 times the energy of ReLU twin, the cheapest without spikes as accurate (measured)." in text


def test_layers_and_estimates_are_of_the_first_seed_and_what_is_missing_shows(report, page):
    text = markdown(report)
    assert re.findall("^### Layers of (.*)$", text, re.MULTILINE) == [f"{model}, seed 0" for model in MODELS]
    assert text.count("### Estimate for ") == len(MODELS)
    assert text.count("all weights from DRAM once at the upper price") == 1  # what the ends contain, once
    rows = [dict(row) for row in report["rows"]]
    for row in rows:
        entry = {"name": "odd", "kind": "Odd", "reason": "aten::odd", "parameters": 3, "share": 0.125}
        row["uncounted"] = [entry] if row["model"] == "pooled" else []
    missing = energy_page(report | {"rows": rows}).partition("These are in none of the figures:")[2]
    assert "`odd` (Odd): aten::odd; 12.5% of the parameters (pooled)" in missing
    assert "These are in none of the figures" not in page


def test_a_price_of_other_numbers_is_said():
    rows = rows_of(measured=False)[:2]
    for row in rows:
        row["estimates"][0]["note"] = "int8 products at float32 prices"
    assert "int8 products at float32 prices" in markdown({"rows": rows, "versions": {}})


def test_without_a_trained_model_there_is_no_curve_and_no_number():
    rows = [row | {"scores": {}, "trained": False} for row in rows_of(measured=False)]
    report = {"rows": rows, "versions": {}}
    assert "No curve: it needs at least one trained model" in markdown(report)
    assert "No curve" in energy_page(report)


def test_without_spikes_there_are_no_limits_to_draw(report):
    rows = [row for row in report["rows"] if row["spike_rate"] is None]
    assert tradeoff.break_even_plot(rows, "b") is None
    assert tradeoff.verdicts(estimate_curves(rows)[0]) == [
        "No spiking model is among the points, so none are compared."
    ]
    plot = tradeoff.break_even_plot(report["rows"], "b")
    assert "the limits of the literature are 0.15 to 1.38" in plot.alt


def test_the_page_of_a_run_has_a_section_on_energy(make_run, report):
    folder = make_run(keep=lambda name: False)
    assert 'id="energy"' not in write_report(folder).read_text()
    (folder / "energy.json").write_text(json.dumps(report))
    text = write_report(folder).read_text()
    assert re.findall(r'<section id="(\w+)"', text)[-2:] == ["energy", "settings"]
    assert "the cheapest without spikes as accurate (estimate)" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("content", "text"), [("{", "one JSON object"), ("{}", "rows of neuroav energy")])
def test_a_damaged_energy_file_is_named(make_run, content, text):
    folder = make_run(keep=lambda name: False)
    (folder / "energy.json").write_text(content)
    with pytest.raises(InputError, match=f"energy.json: expected .*{text}"):
        html.write_report(folder)
