"""No experiment rots: whatever a function of ``experiments/`` returns builds its model and takes two training steps.

Rows of the papers' tables are in ``test_table.py``; here are all others, single runs and comparisons.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from by_path import load

from neuroav.config import Comparison, Experiment, MotionScenesData, to_json
from neuroav.data import render
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.demo import controls
from neuroav.table.plan import experiments_of, try_out
from neuroav.table.source import Source
from neuroav.task import prepare
from neuroav.train.loop import TrainConfig

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
MAKING = re.compile(r"^def (\w+)\(\) -> (?:Experiment|Comparison):", re.MULTILINE)
ROWS = re.compile(r"^TABLES = .*", re.MULTILINE | re.DOTALL)


def makers():
    """File and name of every function without arguments that returns experiments and is no row of a table."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        rows = "".join(ROWS.findall(text))
        found += [(path.name, name) for name in MAKING.findall(text) if not re.search(rf"\b{name}\b", rows)]
    return found


@pytest.fixture(scope="module")
def two_steps(tiny_store):
    """Train each choice once, on MotionScenes ``tiny``, narrow."""
    data = MotionScenesData(store=str(tiny_store), scenes=MotionScenesConfig(size="tiny"))
    source = Source("motionscenes", "", data, "")
    tasks, tried = {}, set()

    def steps(experiment):
        small = experiments_of({"it": lambda: experiment}, source, "tiny")["it"]
        choice = json.dumps(to_json(replace(small, name="", seed=0)))
        if choice in tried:
            return
        tried.add(choice)
        task = tasks.setdefault(str(small.class_vectors), prepare(small.data, small.class_vectors))
        assert try_out(small, task).step_s > 0

    return steps


def test_functions_are_found():
    found = list(makers())
    assert {("mdft.py", "quick"), ("compare.py", "all"), ("energy.py", "width_128"), ("own_clips.py", "mdft")} <= set(
        found
    )
    assert ("mdft.py", "table2_snn") not in found, "a row of a table"


@pytest.mark.parametrize(("file", "name"), makers())
def test_what_a_function_returns_takes_two_steps(file, name, two_steps):
    made = getattr(load(FOLDER / file), name)()
    for experiment in [made] if isinstance(made, Experiment) else [each for _, each in made.runs]:
        assert isinstance(experiment, Experiment)
        two_steps(experiment)
    assert isinstance(made, Experiment | Comparison)


def test_every_system_of_the_scene_bias_grid_takes_two_steps(two_steps, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for experiment in load(FOLDER / "scene_bias.py").systems(MotionScenesData(), seed=0).values():
        two_steps(experiment)


def test_every_control_takes_two_steps(two_steps):
    found = controls(MotionScenesData(), TrainConfig(), dim=32, seed=0)
    assert len(found) == 5
    for experiment in found.values():
        two_steps(experiment)


TABLED = {
    "motion_readings.py": ("markdown", lambda report: (report["rows"],), "motion_readings"),
    "training_length.py": ("markdown", lambda report: (report["rows"],), "training_length"),
    "data_scale.py": ("table", lambda report: (report,), "data_scale_2026-11-21"),
    "growth.py": ("table", lambda report: (report,), "growth_2026-11-21"),
}


@pytest.mark.parametrize("file", TABLED)
def test_a_table_is_made_of_its_recorded_results(file, monkeypatch):
    """What is drawn only after hours of training must not fail then."""
    monkeypatch.syspath_prepend(str(FOLDER))
    make, arguments, stem = TABLED[file]
    report = json.loads((FOLDER / "results" / f"{stem}.json").read_text(encoding="utf-8"))
    page = (FOLDER / "results" / f"{stem}.md").read_text(encoding="utf-8")
    assert getattr(load(FOLDER / file), make)(*arguments(report)) == page


def test_the_audit_renders_clips_with_and_without_noise(monkeypatch):
    audit = load(FOLDER / "motionscenes_audit.py")
    monkeypatch.setattr(audit, "pixel_counts", lambda k, scene: np.array([3, 1 + k % 2]) + 2 * render.NOISE_LEVELS)
    assert render.NOISE_LEVELS == 1.5
    assert audit.noise_share() == pytest.approx(6 / (6 + 4 + 25 / 51))
    assert render.NOISE_LEVELS == 1.5


def test_experiments_are_listed_where_a_reader_looks():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FOLDER.glob("*.py") if f"`{path.name}`" not in page] == []
    links = re.findall(r"\]\(([^)#]+)", page)
    assert [link for link in links if not (FOLDER / link).exists()] == []
