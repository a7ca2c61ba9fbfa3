"""``neuroav bench energy``: counting and a plain pass do the same work, the ratio is of their times; joules."""

import json
from contextlib import nullcontext

import pytest
import torch

from neuroav.bench import energy as bench
from neuroav.bench.train import Case
from neuroav.cli import main
from neuroav.energy.measure import MeterError, Plan, Reading, measure

TINY = Case(3, 8, 16, features=24, motion=(2, 4, 4), classes=4, clips=12)
CASES = tuple(bench.Case(model, 4, TINY) for model in ("MDFT", "pooled events"))


class Constant:
    """A meter that always sees 6 J."""

    name = "constant"

    def __init__(self, joules=6.0):
        self.joules = joules

    def window(self):
        return nullcontext(Reading({"counter": self.joules}))


@pytest.fixture
def quick(monkeypatch, in_this_process):
    def stand_in(jobs, turns, on_turn, crew):
        timed = in_this_process(jobs, turns, id, on_turn)
        for one in timed:
            one.samples_s = [3.0 if one.job.impl == "neuroav" else 2.0] * turns
        return timed

    monkeypatch.setattr(bench, "time_side_by_side", stand_in)
    monkeypatch.setattr(bench, "CASES", CASES)
    monkeypatch.setattr(bench, "SIZES", (1, 4))
    monkeypatch.setattr(bench, "meters_for", lambda device: ([], "no meter here"))


def use_meter(monkeypatch, meter):
    short = Plan(window_s=0.01, trials=1, warm_up_s=0.0, idle_s=0.01, pause_s=0.0)
    monkeypatch.setattr(bench, "meters_for", lambda device: ([meter], ""))
    monkeypatch.setattr(bench, "measure", lambda subjects, meters, plan: measure(subjects, meters, short))


def test_counting_and_the_plain_pass_run_the_same_model():
    case = CASES[0]
    model, batch, vectors = case.make()
    plain = bench.start_plain(case).prepare()()
    assert torch.equal(plain, model.distances(batch, vectors))
    assert not plain.requires_grad
    runner = bench.start_counting(case)
    figures = runner.describe(runner.prepare()())
    assert figures["macs"] > figures["acs"] >= 0


def test_the_command_writes_rows_ratios_and_that_there_is_no_meter(quick, tmp_path, capsys):
    figures, out = tmp_path / "rows.json", tmp_path / "table.md"
    assert main(["bench", "energy", "--repeats", "2", "--json", str(figures), "--out", str(out)]) == 0
    report = json.loads(figures.read_text())
    contract = {"bench", "case", "impl", "median_s", "iqr_s", "throughput", "unit", "max_rss_bytes"}
    assert all(contract <= set(row) for row in report["rows"])
    assert [(row["bench"], row["impl"]) for row in report["rows"]] == [("energy", "neuroav"), ("energy", "floor")] * 2
    assert [one["ratio"] for one in report["ratios"]] == [1.5, 1.5]
    assert report["skipped"] == [{"case": "energy of a clip", "impl": "measured", "reason": "no meter here"}]
    table = out.read_text()
    assert capsys.readouterr().out == table
    assert "| MDFT, 4 clips, T=3, width 16 | neuroav | 3000.00 | 0.00 | 1.50 | 1 |" in table
    assert "counting adds 0.50 plain passes; bar 2: kept" in table
    assert "no meter here" in table


@pytest.mark.parametrize(
    ("clips", "seconds", "text"),
    [
        (64, 6.1, "adds 2.05 plain passes; bar 2: missed"),
        (64, 5.9, "bar 2: kept"),
        (1, 6.1, "adds 2.05 plain passes\n"),
    ],
)
def test_the_bar_is_for_the_number_of_clips_that_is_counted(clips, seconds, text):
    row = {"case": "a", "clips": clips, "iqr_s": None, "max_rss_bytes": None}
    rows = [row | {"impl": "neuroav", "median_s": seconds}, row | {"impl": "floor", "median_s": 2.0}]
    report = {"machine": {"date": "today"}, "rows": rows, "ratios": bench.ratios(rows), "skipped": []}
    assert text in bench.markdown(report)


def test_with_a_meter_there_are_joules(quick, tmp_path, monkeypatch, capsys):
    use_meter(monkeypatch, Constant())
    assert main(["bench", "energy", "--repeats", "2", "--json", str(tmp_path / "rows.json")]) == 0
    rows = [row for row in json.loads((tmp_path / "rows.json").read_text())["rows"] if row["impl"] == "measured"]
    assert [row["case"] for row in rows] == [f"{case.name}, constant, counter" for case in CASES]
    assert all(row["gross_j"] > 0 and row["median_s"] > 0 for row in rows)
    printed = capsys.readouterr().out
    assert "a clip gross" in printed
    assert "warning: 1 windows of 0.01 s" in printed


def test_a_meter_that_stands_still_is_an_error_and_no_number(quick, monkeypatch, capsys):
    use_meter(monkeypatch, Constant(0.0))
    assert main(["bench", "energy", "--repeats", "2"]) == 1
    printed = capsys.readouterr().out
    assert "a counter that moves" in printed.partition("## Left out")[2]
    assert "counting adds" in printed, "what was timed is kept"
    with pytest.raises(MeterError):
        bench.measured_rows(CASES, Plan())


def test_bad_options_are_named(quick, capsys):
    assert main(["bench", "energy", "--repeats", "0"]) == 2
    assert "--repeats in" in capsys.readouterr().err
    assert main(["bench", "energy", "--compiled"]) == 2
    assert "none of the options of other benches, got --compiled" in capsys.readouterr().err
