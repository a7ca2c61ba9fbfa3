"""Tables: aggregation over seeds, percent, layout, and what is said about missing figures."""

import csv
import io
import statistics

import pytest

from neuroav.checks import InputError
from neuroav.report import tables


def score(model="m", test_set="test", seed=0, **figures):
    return {"model": model, "test_set": test_set, "seed": seed, **figures}


def test_seeds_become_mean_and_sample_deviation():
    rows = [score(seed=i, hm=hm) for i, hm in enumerate((0.3, 0.4, 0.56))]
    hm = tables.quantity(rows, "m", "test", "hm")
    assert hm.mean == pytest.approx(0.42)
    assert hm.sd == pytest.approx(statistics.stdev((0.3, 0.4, 0.56)))
    assert (hm.n, hm.text()) == (3, "42.0±13.1")


def test_one_seed_has_no_spread_and_says_so():
    table = tables.results_table([score(hm=0.4)])
    assert tables.quantity([score(hm=0.4)], "m", "test", "hm").sd is None
    assert "One seed" in table.notes[0]


def test_uneven_numbers_of_seeds_are_named():
    rows = [score("a", seed=0), score("a", seed=1), score("b", seed=0)]
    assert tables.seeds_note(rows) == "Mean ± s.d. over seeds, n: a 2, b 1."


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_is_neither_zero_nor_counted(missing):
    assert tables.aggregate([missing]) is None
    assert tables.aggregate([missing, 0.5]).text() == "50.0"
    assert tables.format_text(tables.results_table([score(hm=missing)])).splitlines()[2].split()[3] == "-"


def test_results_table_takes_each_figure_from_its_own_test_set(rows):
    table = tables.results_table(rows)
    titles = [(c.group, c.title) for c in table.columns]
    assert titles[:5] == [("", "model"), *(("biased", t) for t in ("S", "U", "HM", "ZSL"))]
    first = dict(zip(titles, table.rows[0], strict=True))
    for test_set in ("biased", "shuffled"):
        own = [r["zsl"] for r in rows if r["model"] == "MDFT" and r["test_set"] == test_set]
        assert first[test_set, "ZSL"].mean == pytest.approx(statistics.fmean(own))
    assert first["follows", "scene"].text() == "30.0±0.0"
    rates = [statistics.fmean(v["rate"] for v in r["layers"]) for r in rows if r["model"] == "MDFT"][:3]
    assert first["spikes", "rate"].mean == pytest.approx(statistics.fmean(rates))
    assert first["spikes", "dead"].mean == pytest.approx(0.625)
    assert first["ops/clip", "MAC"].text() == "12.0M"
    rate = [dict(zip(titles, row, strict=True))["spikes", "rate"] for row in table.rows]
    assert rate[1] == tables.NONE  # a model without spiking layers
    assert rate[3] is None


def test_text_fits_a_wide_terminal_and_lines_up(rows):
    text = tables.format_results(rows)
    assert max(map(len, text.splitlines())) <= 160
    head, titles, *body = text.splitlines()[:6]
    bars = [i for i, letter in enumerate(titles) if letter == "|"]
    assert len(bars) == 6
    assert all([i for i, letter in enumerate(line) if letter == "|"] == bars for line in (head, *body))


def test_every_seed_has_its_row_and_its_interval(rows):
    rows = [row | {"interval95": {"hm": [row["hm"] - 0.04, row["hm"] + 0.05]}} for row in rows]
    table = tables.seeds_table(rows)
    assert len(table.rows) == len(rows)
    row = next(r for r in rows if (r["model"], r["test_set"], r["seed"]) == ("MDFT", "shuffled", 1))
    shown = next(r for r in table.rows if r[:3] == ("MDFT", "shuffled", "1"))
    assert [cell.mean for cell in shown[3:7]] == [row[key] for key in ("seen", "unseen", "hm", "zsl")]
    assert shown[7] == f"{100 * row['hm'] - 4:.1f} to {100 * row['hm'] + 5:.1f}"
    assert tables.format_text(table) in tables.format_results(rows)
    assert tables.seeds_table([{"model": "m", "test_set": "test"}]).rows[0][-1] is None


def test_text_names_sick_layers_and_estimates(rows):
    text = tables.format_results(rows)
    assert "warning: MDFT, layer audio.2: mostly dead" in text
    assert "layer video.0" not in text
    assert "estimate" in text


def test_number_of_clips_is_said():
    assert "Clips tested: 11." in tables.results_table([score(num_clips=11)]).notes


@pytest.mark.parametrize(
    ("rate", "dead", "warning"),
    [(0.1, 0.5, ""), (0.1, 0.51, "mostly dead"), (0.009, 0.0, "hardly spikes"), (0.51, 0.0, "spikes nearly always")],
)
def test_layer_warnings_start_at_their_limits(rate, dead, warning):
    rows = [score(layers=[{"name": "x", "rate": rate, "dead_share": dead}])]
    assert tables.layers_table(rows).rows[0][-1] == warning


def test_a_layer_that_is_sick_in_one_run_is_not_saved_by_the_mean():
    layers = [{"name": "x", "rate": 0.1, "dead_share": dead} for dead in (0.1, 0.9, 0.0, 0.8)]
    rows = [score(seed=seed, layers=[layer]) for seed, layer in enumerate(layers)]
    assert tables.layers_table(rows).rows[0][3].mean == pytest.approx(0.45), "below the limit"
    assert tables.layer_warnings(rows) == ["m, layer x: mostly dead (seeds 1, 3)"]
    unnamed = [{key: value for key, value in row.items() if key != "seed"} for row in rows]
    assert tables.layer_warnings(unnamed) == ["m, layer x: mostly dead (2 of 4 runs)"]


def test_csv_parts_mean_from_spread(rows):
    parsed = list(csv.DictReader(io.StringIO(tables.format_csv(tables.results_table(rows)))))
    own = [100 * r["hm"] for r in rows if r["model"] == "events only" and r["test_set"] == "shuffled"]
    assert float(parsed[2]["shuffled HM"]) == pytest.approx(statistics.fmean(own), rel=1e-3)
    assert float(parsed[2]["shuffled HM s.d."]) == pytest.approx(statistics.stdev(own), rel=1e-3)
    assert parsed[3]["spikes rate"] == ""
    assert float(parsed[0]["ops/clip MAC"]) == 1.2e7


def test_markdown_keeps_one_cell_per_column(rows):
    lines = tables.format_markdown(tables.results_table(rows)).splitlines()[:6]
    assert len({line.count("|") for line in lines}) == 1


def test_summary_ranks_by_the_shuffled_test_set():
    rows = [score("a", "biased", hm=0.9), score("b", "biased", hm=0.1)]
    rows += [score("a", "shuffled", hm=0.2), score("b", "shuffled", hm=0.3, zsl=0.4)]
    sentence = tables.summary_sentence(rows)
    assert "shuffled scenes is 30.0 %: b (ZSL 40.0 %); second: a, 20.0 %" in sentence


def test_nothing_evaluated_is_said():
    assert tables.summary_sentence([]) == "No model has been evaluated."
    assert tables.results_table([]).rows == ()
    assert tables.format_csv(tables.results_table([])).startswith("model")


def test_row_without_model_is_named():
    with pytest.raises(InputError, match=r"rows\[1\] with model and test_set, got keys hm"):
        tables.results_table([score(), {"hm": 0.1}])


def test_classes_without_clips_are_said():
    rows = [score(seed=i, classes_without_clips=[f"class {k}" for k in range(4 + i)]) for i in range(2)]
    said = "test: no clip of class 0, class 1, class 2 and 2 more (5 in all), left out of the means."
    assert said in tables.results_table(rows).notes
    assert not any("no clip" in note for note in tables.results_table([score(classes_without_clips=[])]).notes)
