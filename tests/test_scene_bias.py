"""The grid of ``experiments/scene_bias.py``: which runs it makes, and what it makes of theirs."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))  # it takes its budget from the file beside it
    spec = importlib.util.spec_from_file_location("scene_bias", EXPERIMENTS / "scene_bias.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, "compare", raising=False)
    return module


def row(model: str, bias: float, hm: float, seed: int = 0, ambience: float = 0.0, test_set: str = "shuffled") -> dict:
    same = dict.fromkeys(("seen", "unseen", "zsl", "hm_oracle"), 0.5)
    where = {"ambience": ambience, "split": 0, "scene_bias": bias, "seed": seed, "test_set": test_set, "model": model}
    return {**where, **same, "hm": hm, "follows_scene": 0.125, "layers": []}


def test_every_cell_has_runs_of_its_own_for_every_control_ablation_and_baseline(grid: ModuleType, tmp_path: Path):
    cells = [(0.0, 0, 0, 0.5), (0.0, 1, 0, 0.5), (0.0, 0, 1, 0.5), (1.0, 0, 0, 0.5), (0.0, 0, 0, 0.9)]
    found = list(grid.jobs(tmp_path, cells))
    assert len({path for _, path in found}) == len(found) == 5 * 11
    names = {experiment.name for experiment, _ in found}
    assert {name for group in grid.SYSTEMS.values() for name in group} == names
    stores = {(e.data.store, e.data.scenes.split, e.data.scenes.ambience_bias) for e, _ in found}
    assert len(stores) == len({store for store, *_ in stores}) == 3, "a store holds all biases of a split and ambience"


def test_the_table_has_the_mean_and_spread_of_each_point(grid: ModuleType):
    rows = [row("MDFT (EGM+SNN)", 0.5, hm, seed) for seed, hm in enumerate((0.3, 0.4, 0.5))]
    rows.append(row("MDFT (EGM+SNN)", 0.9, 0.25))
    lines = grid.markdown(rows).splitlines()
    assert lines[-2] == (
        "| 0 | 0.5 | shuffled | MDFT (EGM+SNN) | 3 | 50.0 ± 0.0 | 50.0 ± 0.0 | 40.0 ± 10.0 | 50.0 ± 0.0 | 50.0 ± 0.0 "
        "| 12.5 ± 0.0 | - | - | - |"
    )
    assert "| 1 | 50.0 | 50.0 | 25.0 |" in lines[-1], "one run has no spread"


def test_the_figure_has_a_row_of_panels_for_each_ambience(grid: ModuleType):
    rows = [
        row(name, bias, 0.3, 0, 0.0, s) for name in grid.DRAWN for bias in (0.0, 0.9) for s in ("biased", "shuffled")
    ]
    one = grid.figure(rows)
    both = grid.figure(rows + [{**each, "ambience": 1.0} for each in rows])
    assert one.count('id="axes_') == 3
    assert both.count('id="axes_') == 6


def test_means_are_over_seeds_that_every_split_has(grid: ModuleType):
    rows = [row("TCaF", 0.5, 0.3, seed) | {"split": split} for seed, split in ((0, 0), (0, 1), (1, 0), (2, 1))]
    rows += [row("TCaF", 0.9, 0.3, 1) | {"split": split} for split in (0, 1)]
    found = [(each["scene_bias"], each["seed"], each["split"]) for each in grid.on_every_split(rows)]
    assert found == [(0.5, 0, 0), (0.5, 0, 1), (0.9, 1, 0), (0.9, 1, 1)]


def test_what_is_finished_is_collected(grid: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()

    def finish(number: int) -> set[str]:
        for experiment, path in list(grid.jobs(tmp_path, [(1.0, 2, 1, 0.75)]))[:number]:
            scores = row(experiment.name, 0.75, 0.5, seed=2) | {"recall": {"x": 1.0}}
            where = ("ambience", "split", "scene_bias")  # a run doesn't know its place in the grid
            rows = [{k: v for k, v in scores.items() if k not in where}]
            results = {"versions": {"commit": f"c{len(path.name) % 2}"}, "rows": rows}
            path.mkdir(parents=True, exist_ok=True)
            (path / "results.json").write_text(json.dumps(results))
        grid.collect(tmp_path)
        return {path.name for path in (tmp_path / "results").iterdir()}

    drawn = {"scene_bias.json", "scene_bias.md", "scene_bias.svg"}
    assert finish(2) == drawn
    assert finish(11) == drawn | {"scene_bias_ablations.svg"}
    found = json.loads((tmp_path / "results" / "scene_bias.json").read_text())
    assert set(found["versions"]["commit"].split(", ")) == {"c0", "c1"}
    assert len(found["rows"]) == 11
    for values in found["rows"]:
        one = dict(zip(found["columns"], values, strict=True))
        assert (one["ambience"], one["split"], one["scene_bias"], one["seed"]) == (1.0, 1, 0.75, 2)
        assert (one["hm"], one["beta"], one["least_rate"]) == (0.5, None, None)


def test_nothing_finished_and_values_outside_the_grid_are_refused(grid: ModuleType, tmp_path: Path):
    with pytest.raises(SystemExit, match="no finished run"):
        grid.collect(tmp_path)
    for text in ("3", "0,x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="expected some of 0,1,2, got"):
            grid.some_of(int, grid.SPLITS)(text)
