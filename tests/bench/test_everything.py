"""``neuroav bench`` without a name: every bench runs, its rows are kept, and the ratios are of their times."""

import inspect
import json
import math

import numpy as np
import pytest

from neuroav.bench import everything as bench
from neuroav.bench.page import Options
from neuroav.checks import fail
from neuroav.cli import BENCHES, main
from neuroav.files import save_json


def rows(name, case, **times):
    return [{"bench": name, "case": case, "impl": impl, "median_s": seconds} for impl, seconds in times.items()]


ROWS = {
    "events": [*rows("events", "a", neuroav=1.0, v2e=8.0, floor=0.5), *rows("events", "b", neuroav=1.0, v2e=2.0)],
    "train": rows("train", "a step", MDFT=4.0, twin=3.0, floor=0.5),
    "energy": rows("energy", "count", neuroav=3.0, floor=2.0),
}


FILE = {"neuroav": 4.0, "PyAV, decoding only": 2.0}


@pytest.fixture
def calls(monkeypatch):
    """Stands in for every bench: writes its rows and remembers how it was called."""
    found = {"own": {}}

    def stand_in(name, status=0):
        def command(options, **own):
            found[name] = options
            found["own"][name] = own
            skipped = [{"case": "all", "impl": "peer", "reason": "not installed"}]
            report = {"rows": ROWS.get(name, []), "skipped": skipped, "settings": {"repeats": options.repeats}}
            save_json(bench.Path(options.json_path), report)
            return status

        return command

    monkeypatch.setattr(bench, "COMMANDS", {name: stand_in(name) for name in bench.COMMANDS})
    found["stand_in"] = stand_in
    return found


def test_every_bench_of_the_command_line_is_run():
    assert list(bench.COMMANDS) == list(BENCHES)


@pytest.mark.parametrize("command", bench.COMMANDS.values(), ids=bench.COMMANDS)
def test_every_bench_takes_what_it_is_given(command):
    inspect.signature(command).bind(Options())


def test_ratios_are_of_median_times_against_ours_and_the_floor():
    rows = [row for of_bench in ROWS.values() for row in of_bench]
    rows += [{"bench": "events", "case": "file", "impl": impl, "median_s": s} for impl, s in FILE.items()]
    found = {(one["bench"], one["case"], one["what"]): one["ratio"] for one in bench.ratios(rows)}
    assert found == {
        ("events", "a", "v2e / neuroav"): 8.0,
        ("events", "a", "neuroav / floor"): 2.0,
        ("events", "b", "v2e / neuroav"): 2.0,
        ("train", "a step", "twin / MDFT"): 0.75,
        ("energy", "count", "neuroav / floor"): 1.5,
        ("events", "file", "neuroav / PyAV, decoding only"): 2.0,
    }


def test_the_page_holds_machine_pairs_cases_and_what_was_left_out(calls, tmp_path, capsys):
    out, figures = tmp_path / "bench.md", tmp_path / "bench.json"
    assert main(["bench", "--repeats", "2", "--peers", "--json", str(figures), "--out", str(out)]) == 0
    for name in bench.COMMANDS:
        assert calls[name] == Options(with_peers=True, repeats=2, json_path=calls[name].json_path)
        assert calls[name].json_path != str(figures)
    report = json.loads(figures.read_text())
    assert len(report["rows"]) == sum(map(len, ROWS.values()))
    assert {"machine", "rows", "ratios", "skipped", "settings"} <= set(report)
    assert report["settings"]["train"] == {"repeats": 2}
    page = out.read_text()
    assert page in capsys.readouterr().out
    assert page.startswith("# neuroav bench, 20")
    assert "* torch: " in page
    assert "* peers: " in page
    assert f"| events | v2e / neuroav | 2 | {math.sqrt(16):.2f} | 2.00 | 8.00 |" in page
    assert "| train | a step | twin / MDFT | 0.75 |" in page
    assert "* peer: not installed (events, all; neurons, all; train, all; protocol, all; energy, all)" in page
    assert "Failed" not in page


def test_versions_of_peers_are_those_installed():
    assert bench.versions_of(["numpy", "absent", "numpy"]) == f"numpy {np.__version__}"


def test_what_fails_is_said_and_the_rest_is_kept(calls, monkeypatch, capsys):
    def refuses(options):
        raise fail("neuroav bench protocol", "a quiet machine", "none")

    monkeypatch.setitem(bench.COMMANDS, "protocol", refuses)
    monkeypatch.setitem(bench.COMMANDS, "neurons", calls["stand_in"]("neurons", status=1))
    assert main(["bench"]) == 1
    printed = capsys.readouterr().out
    assert "**Failed: neurons.**" in printed
    assert "**Failed: protocol.**" in printed
    assert "a quiet machine" in printed
    assert "v2e / neuroav" in printed


def test_each_bench_gets_the_options_that_are_its_own(calls):
    assert main(["bench", "--clip", "a.mp4", "--frames", "20", "--compiled", "--store", "ucf.h5"]) == 0
    assert calls["own"] == {
        "events": {"clips": ["a.mp4"], "num_frames": 20},
        "neurons": {"compiled": True},
        "train": {"store": "ucf.h5"},
        "protocol": {},
        "energy": {},
    }


def test_a_clip_that_is_not_there_ends_it_before_anything_is_timed(capsys, tmp_path):
    out = tmp_path / "bench.md"
    assert main(["bench", "--clip", str(tmp_path / "no.mp4"), "--out", str(out)]) == 2
    assert "no.mp4" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--repeats", "0"], "--repeats in"),
        (["--threads", "0"], "--threads in"),
        (["--validate"], "expected events, as in neuroav bench events --validate, got no bench"),
        (["--out", "no/such/folder.md"], "a file in an existing folder"),
        (["--json", "no/such/folder.json"], "a file in an existing folder"),
    ],
)
def test_bad_options_are_named_before_anything_runs(calls, arguments, text, capsys):
    assert main(["bench", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert not calls["own"]
