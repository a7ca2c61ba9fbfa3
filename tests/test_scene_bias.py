"""The grid of ``experiments/scene_bias.py``: which runs it makes, and what it makes of theirs."""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load
from matplotlib.figure import Figure

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))  # it takes its budget from the file beside it
    module = load(EXPERIMENTS / "scene_bias.py")
    monkeypatch.delitem(sys.modules, "compare", raising=False)
    return module


def row(model: str, bias: float, hm: float, seed: int = 0, ambience: float = 0.0, test_set: str = "shuffled") -> dict:
    same = dict.fromkeys(("seen", "unseen", "zsl", "hm_oracle"), 0.5)
    where = {"ambience": ambience, "split": 0, "scene_bias": bias, "seed": seed, "test_set": test_set, "model": model}
    layers = dict.fromkeys(("least_rate", "most_rate", "dead_share", "least_theta_sd", "most_theta_sd"))
    return {**where, **same, **layers, "hm": hm, "follows_scene": 0.125}


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
    assert not [line for line in lines if line.startswith("At scene bias")], "nothing to set biased beside"
    pair = [row("events only", 0.9, hm, 0, 1.0, test_set) for test_set, hm in (("biased", 0.5), ("shuffled", 0.4))]
    lines = grid.markdown(pair).splitlines()
    at = lines.index("At scene bias 0.9, ambience: the scene's:")
    assert lines[at + 4] == "| events only | 50.0 | - | 40.0 | - | 10.0 | 12.5 | 1 |"
    assert [line for line in lines if line.startswith("At scene bias")] == [lines[at]]


def test_differences_are_of_each_runs_own(grid: ModuleType):
    def both(model: str, hm: list[float]) -> list[dict]:
        shuffled = [row(model, 0.9, each, seed) for seed, each in enumerate(hm)]
        return shuffled + [row(model, 0.9, each + 0.1, seed, test_set="biased") for seed, each in enumerate(hm)]

    rows = both("MDFT (EGM+SNN)", [0.3, 0.4, 0.5]) + both("events only", [0.35, 0.45]) + both("SACMA", [0.2])
    assert grid.summary(rows, 0.9)[2:] == [
        "| MDFT (EGM+SNN) | 50.0 ± 10.0 | - | 40.0 ± 10.0 | - | 10.0 ± 0.0 | 12.5 ± 0.0 | 3 |",
        "| events only | 50.0 ± 7.1 | +5.0 ± 0.0 | 40.0 ± 7.1 | +5.0 ± 0.0 | 10.0 ± 0.0 | 12.5 ± 0.0 | 2 |",
        "| SACMA | 30.0 | -10.0 | 20.0 | -10.0 | 10.0 | 12.5 | 1 |",
    ]
    assert grid.summary(both("TCaF", [0.2]), 0.9)[2:] == ["| TCaF | 30.0 | - | 20.0 | - | 10.0 | 12.5 | 1 |"]


def test_the_readme_has_the_numbers_of_the_results(grid: ModuleType):
    recorded, _ = grid.read_results()
    lines = grid.summary(grid.on_every_split([row for rows in recorded.values() for row in rows]), 0.5)
    assert len(lines) == 2 + 11
    assert len(recorded) == 2 * 3 * 5 * 5 * 11, "every run of the grid, as README says"
    readme = (EXPERIMENTS.parent / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line not in readme] == []


def test_the_figure_has_a_row_of_panels_for_each_ambience(grid: ModuleType):
    rows = [
        row(name, bias, 0.3, 0, 0.0, s) for name in grid.DRAWN for bias in (0.0, 0.9) for s in ("biased", "shuffled")
    ]
    one = grid.figure(rows)
    both = grid.figure(rows + [{**each, "ambience": 1.0} for each in rows])
    assert one.count('id="axes_') == 3
    assert both.count('id="axes_') == 6


def test_nothing_that_is_drawn_is_cut_off(grid: ModuleType, monkeypatch: pytest.MonkeyPatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self) or save(self, *args, **kwargs)
    )
    rows = [row("SACMA", bias, 0.3, 0, 0.0, s) for bias in (0.0, 0.9) for s in ("biased", "shuffled")]
    rows += [{**each, "ambience": 1.0, "hm": 0.6, "hm_oracle": 0.8, "follows_scene": 0.5} for each in rows]
    grid.figure(rows)
    (figure,) = drawn
    assert len(figure.axes) == 6
    for ax in figure.axes:
        assert 0 == ax.get_ylim()[0] < ax.dataLim.y0
        assert ax.dataLim.y1 < ax.get_ylim()[1]


def test_means_are_over_seeds_that_every_split_has(grid: ModuleType):
    rows = [row("TCaF", 0.5, 0.3, seed) | {"split": split} for seed, split in ((0, 0), (0, 1), (1, 0), (2, 1))]
    rows += [row("TCaF", 0.9, 0.3, 1) | {"split": split} for split in (0, 1)]
    found = [(each["scene_bias"], each["seed"], each["split"]) for each in grid.on_every_split(rows)]
    assert found == [(0.5, 0, 0), (0.5, 0, 1), (0.9, 1, 0), (0.9, 1, 1)]


def finish(grid: ModuleType, folder: Path, cell: tuple[float, int, int, float], number: int, commit: str, hm: float):
    """The results of the first ``number`` runs of a cell, as a run writes them: it doesn't know its place."""
    for experiment, path in list(grid.jobs(folder, [cell]))[:number]:
        scores = row(experiment.name, cell[3], hm, cell[1]) | {"recall": {"x": 1.0}}
        rates = [{"rate": rate, "dead_share": rate / 2, "theta_std": rate / 10} for rate in (0.2, 0.1)]
        layers = {"layers": rates if experiment.name == grid.DRAWN[0] else []}
        rows = [{k: v for k, v in scores.items() if k not in ("ambience", "split", "scene_bias")} | layers]
        path.mkdir(parents=True, exist_ok=True)
        (path / "results.json").write_text(json.dumps({"versions": {"commit": commit}, "rows": rows}))


def test_what_is_finished_is_collected(grid: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid, "RESULTS", tmp_path / "committed")  # which stay as they are
    drawn = {"scene_bias_seed2.json", "scene_bias.md", "scene_bias.svg"}
    for number, written in ((2, drawn), (11, drawn | {"scene_bias_ablations.svg"})):
        finish(grid, tmp_path, (1.0, 2, 1, 0.75), number, f"c{number}", 0.5)
        grid.collect(tmp_path)
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == written
    found = json.loads((tmp_path / "scene_bias_seed2.json").read_text())
    assert found["versions"]["commit"] == "c11"
    assert len(found["rows"]) == 11
    for values in found["rows"]:
        one = dict(zip(found["columns"], values, strict=True))
        assert (one["ambience"], one["split"], one["scene_bias"], one["seed"]) == (1.0, 1, 0.75, 2)
        assert (one["hm"], one["beta"]) == (0.5, None)
        ranges = (0.1, 0.2, 0.1, 0.01, 0.02) if one["model"] == grid.DRAWN[0] else (None,) * 5
        assert tuple(one[name] for name in grid.LAYERS) == ranges


def test_a_grid_grows_in_several_places(grid: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid, "RESULTS", tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    finish(grid, here, (0.0, 0, 0, 0.5), 11, "c1", 0.3)
    grid.collect(here)
    for _ in range(2):
        grid.collect(here, add=True)
        both = [((here / path.name).read_bytes(), path.read_bytes()) for path in tmp_path.glob("scene_bias*")]
        assert [alone == added for alone, added in both] == 4 * [True]
    finish(grid, there, (0.0, 0, 0, 0.5), 1, "c2", 0.9)
    finish(grid, there, (0.0, 1, 0, 0.5), 11, "c2", 0.5)
    grid.collect(there, add=True)
    found, versions = grid.read_results()
    assert {seed: made["commit"] for seed, made in versions.items()} == {0: "c1, c2", 1: "c2"}
    assert sorted(rows[0]["hm"] for rows in found.values()) == [0.3] * 10 + [0.5] * 11 + [0.9], "a new run replaces"

    ran = []
    monkeypatch.setattr(grid, "run_many", lambda jobs, *_, **__: ran.extend(jobs))
    axes = {"seeds": [0, 1, 2], "ambience": [0.0], "splits": [0], "biases": [0.5], "systems": ["baselines"]}
    grid.main(argparse.Namespace(folder=there, add=True, collect=False, workers=1, **axes))
    assert [experiment.seed for experiment, _ in ran] == [2, 2], "only what no place has"


def test_nothing_finished_and_values_outside_the_grid_are_refused(grid: ModuleType, tmp_path: Path):
    with pytest.raises(SystemExit, match="no finished run"):
        grid.collect(tmp_path)
    for text in ("3", "0,x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="expected some of 0,1,2, got"):
            grid.some_of(int, grid.SPLITS)(text)
