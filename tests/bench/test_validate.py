"""The validation page: what it says when all is well, when something fails, and when something was not measured."""

import json
import re

import pytest
import torch

from neuroav.bench import validate
from neuroav.checks import InputError
from neuroav.events.generate import frames_to_events
from neuroav.events.oracles import ORACLES, Generator
from neuroav.kernels import cpu


@pytest.fixture(scope="module")
def figures():
    """Figures and pictures of the first generator and the reference, as the command gathers them."""
    return validate.measure()


@pytest.fixture
def measured(figures, monkeypatch):
    monkeypatch.setattr(validate, "measure", lambda: (json.loads(json.dumps(figures[0])), figures[1]))


def test_everything_holds_here(figures):
    found, pictures = figures
    assert [row["oracle"] for row in found["rows"] if not row["passed"]] == []
    assert [row["what"] for row in found["parity"] if row["passed"] is False] == []
    assert set(pictures) == {oracle.key for oracle in ORACLES}
    impls = {row["impl"] for row in found["rows"]}
    assert impls >= ({"C++", "reference"} if cpu.available() else {"reference"})
    for impl in ("reference", "reference, full camera, terms off"):
        assert impl in impls


def test_the_page_holds_every_oracle_and_nothing_from_outside(measured, tmp_path, capsys):
    page, json_path = tmp_path / "page.html", tmp_path / "figures.json"
    assert validate.validate_command(str(page), str(json_path)) == 0
    text = page.read_text(encoding="utf-8")
    for oracle in ORACLES:
        assert f'id="oracle-{oracle.key}"' in text
    assert len(re.findall(r'<svg role="img"', text)) == len(ORACLES)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)
    assert not re.search(r"url\((?!#)", text)
    assert "FAIL" not in text
    assert set(json.loads(json_path.read_text())) == {"machine", "rows", "parity", "real_sensor"}
    assert "oracles pass" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_failure_is_said_and_is_the_exit_status(figures, monkeypatch, tmp_path, capsys):
    found = json.loads(json.dumps(figures[0]))
    row = found["rows"][0]
    row["passed"] = row["checks"][0]["passed"] = False
    monkeypatch.setattr(validate, "measure", lambda: (found, figures[1]))
    page = tmp_path / "page.html"
    assert validate.validate_command(str(page)) == 1
    assert f"FAILED: oracle {row['oracle']} ({row['impl']})" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "1 of the checks below FAILED" in text
    assert text.count("✗ FAIL") == 3  # at a glance, on its heading, on the check


def test_a_wrong_generator_fails(monkeypatch):
    def late(frames, t_us, **settings):
        events, state = frames_to_events(frames, t_us, **settings)
        object.__setattr__(events, "t_us", events.t_us + 1)
        return events, state

    rows = [row for row, _ in validate.judge(Generator("late", late), ideal_only=True)]
    assert {row["oracle"] for row in rows} == {oracle.key for oracle in ORACLES if oracle.ideal}
    assert not next(row for row in rows if row["oracle"] == "2")["passed"]


def test_lists_that_differ_are_no_parity(figures):
    digests = validate.digests()
    name = next(iter(digests))
    rows = validate.parity(digests | {name: "0" * 64})
    assert [row["what"] for row in rows if row["passed"] is False] == [f"{name}: compiled = reference"]


def test_digests_see_one_event(monkeypatch):
    before = validate.digests()
    right = validate.frames_to_events

    def wrong(*args, **settings):
        events, state = right(*args, **settings)
        events.t_us[-1] += 1
        return events, state

    monkeypatch.setattr(validate, "frames_to_events", wrong)
    after = validate.digests()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if "clip, camera" in name}


def test_a_sensor_below_the_bar_fails(measured, monkeypatch, capsys):
    published = validate.real_sensor(None)
    if "not_measured" in published:
        pytest.skip("experiments/results/real_sensor.json is not there")
    published["fitted"]["ratio"][0] = 0.94
    monkeypatch.setattr(validate, "real_sensor", lambda recording: published)
    assert validate.validate_command() == 1
    assert "FAILED: 3.8 to 38.8 ms" in capsys.readouterr().out


def test_what_was_not_measured_is_said(measured, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(validate, "REAL_SENSOR", tmp_path / "none.json")
    page = tmp_path / "page.html"
    assert validate.validate_command(str(page)) == 0
    assert "real sensor: 0 of 0 hold, 1 not measured" in capsys.readouterr().out
    assert "not measured: no recording given" in page.read_text(encoding="utf-8")


def test_files_that_cannot_be_written_or_read_are_refused_first(tmp_path):
    with pytest.raises(InputError, match="--out"):
        validate.validate_command(str(tmp_path / "no" / "page.html"))
    with pytest.raises(InputError, match=r"gone\.npz"):
        validate.validate_command(recording=str(tmp_path / "gone.npz"))


def test_threads_are_left_as_they_were(figures):
    assert torch.get_num_threads() == 1
