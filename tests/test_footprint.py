"""``neuroav energy``: rows of a trained run and of an experiment, the files, the checklist, and bad input."""

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from neuroav import footprint, run
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.config import Comparison, Experiment, MotionScenesData, to_json
from neuroav.data.class_vectors import Optimised
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.data.windows import Crops
from neuroav.energy.measure import MeterError, Plan
from neuroav.files import load_json
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FeatureEvents, MLPLayers, SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

TRAIN = TrainConfig(epochs=1, batches=2, batch_size=16, lr=1e-2, schedule=Step(), protocol=OneStage())
HEADS = HeadsConfig(hidden=16)
CONFIGS = {
    "spiking": ("mdft", MDFTConfig(dim=32, heads=HEADS, motion=SpikingLayers(layers=2))),
    "twin": ("mdft", MDFTConfig(dim=32, heads=HEADS, motion=MLPLayers(layers=2))),
    "inside": ("mdft", MDFTConfig(dim=32, heads=HEADS, events=FeatureEvents())),
    "pooled": ("pooled", PooledMLPConfig(dim=8, heads=HEADS, inputs=("audio", "video"))),
}


@pytest.fixture(scope="module")
def make(tiny_store):
    data = MotionScenesData(store=str(tiny_store), scenes=MotionScenesConfig(size="tiny"))

    def made(name):
        model, config = CONFIGS[name]
        return Experiment(name=name, data=data, model=model, config=config, train=TRAIN)

    return made


@pytest.fixture(scope="module")
def folder(make, tmp_path_factory):
    """A finished run of the spiking model."""
    folder = tmp_path_factory.mktemp("energy") / "spiking"
    run.run_experiment(make("spiking"), folder)
    return folder


@pytest.fixture
def experiments(make, tmp_path, monkeypatch):
    """Names that can be given to the command, one for each experiment."""
    monkeypatch.setattr(footprint, "load_experiment", lambda name: make(name.removeprefix("x.py:")))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    """Files of one trained run."""
    out = tmp_path_factory.mktemp("written")
    assert main(["energy", str(folder), "--out", str(out), "--clips", "8"]) == 0
    return out


def rows_of(out):
    return json.loads((out / "energy.json").read_text())["rows"]


def test_a_run_has_a_row_for_each_rule_with_its_accuracy(report, folder):
    binary, event = rows_of(report)
    assert (binary["rule"], event["rule"]) == ("binary", "event")
    results = json.loads((folder / "results.json").read_text())["rows"]
    for row in (binary, event):
        assert (row["model"], row["seed"], row["trained"], row["clips_counted"]) == ("spiking", 0, True, 8)
        assert row["scores"]["biased"]["hm"] == results[0]["hm"]
        assert row["parameters"] == results[0]["parameters"]
        assert row["macs"] + row["acs"] <= row["dense_ops"]
        assert row["macs"] == pytest.approx(sum(each["macs"] for each in row["layers"]))
        assert row["neuron_updates"] == sum(each["updates"] for each in row["neurons"])
        assert len(row["estimates"]) > 10
        assert row["measured"] == {"not_measured": "not asked for: add --measure"}
    assert binary["acs"] > 0
    assert 0 < binary["spike_rate"] < 1


def test_counts_are_those_of_the_model_itself(report, folder, make):
    from neuroav.energy import count
    from neuroav.task import prepare

    task = prepare(make("spiking").data)
    model, _, _ = run.load_model(make("spiking"), task, folder)
    (one,) = footprint.candidates(str(folder), {})
    cost = count(model, (one.batch(8), one.class_vectors), clips=8, call=model.distances)
    row = rows_of(report)[0]
    assert (row["macs"], row["acs"]) == (cost.binary.macs, cost.binary.acs)
    assert len(one.class_vectors) > 9  # every competing class, seen ones among them


def test_everything_is_written_and_an_estimate_is_called_one(report):
    text = (report / "energy.md").read_text()
    for heading in ("## Counted", "## Estimated", "## Measured", "## Which conditions of a fair claim hold"):
        assert heading in text
    counted, rest = text.partition("## Counted")[2].split("## Estimated")
    estimated, measured = rest.split("## Measured")
    assert "stimate" in estimated
    assert "J" not in counted.replace("JSON", "")
    assert "not measured (not asked for: add --measure)" in measured
    assert "pJ" in estimated or "µJ" in estimated
    assert " 0 J" not in measured
    lines = list(csv.DictReader(io.StringIO((report / "energy.csv").read_text())))
    assert {line["kind"] for line in lines} == {"count", "estimate"}
    macs = next(line for line in lines if line["figure"] == "macs")
    assert float(macs["value"]) == pytest.approx(rows_of(report)[0]["macs"])


def test_the_checklist_says_what_does_not_hold(report):
    checks = {one["condition"]: one for one in json.loads((report / "energy.json").read_text())["checklist"]}
    assert checks["the rule for MAC and AC is named"]["holds"]
    assert checks["nothing that runs is left out"]["holds"]
    assert checks["accuracy stands beside energy, on the same task"]["holds"]
    assert not checks["at least 3 seeds of each model"]["holds"]
    assert not checks["energy was measured, idle power apart"]["holds"]
    assert "features of audio and video" in checks["the front end is included"]["note"]
    text = (report / "energy.md").read_text()
    assert "- [x] the rule for MAC and AC is named" in text
    assert "- [ ] at least 3 seeds of each model" in text


def test_experiments_are_counted_untrained_and_say_so(experiments, capsys):
    assert main(["energy", "x.py:twin", "x.py:pooled", "--clips", "4", "--json", "e.json"]) == 0
    rows = load_json(Path("e.json"))["rows"]
    assert [(row["model"], row["trained"], row["spike_rate"]) for row in rows[::2]] == [
        ("twin", False, None),
        ("pooled", False, None),
    ]
    text = Path("neuroav-energy/energy.md").read_text()
    assert "| twin, seed 0, untrained | spikes per synapse | none | 0.15 to 1.38 | no spikes |" in text
    assert "untrained: pooled, twin" in text
    out = capsys.readouterr().out
    assert "estimate, twin, seed 0, untrained, rule binary: " in out
    assert "report: neuroav-energy/energy.html" in out
    assert "No curve" in Path("neuroav-energy/energy.html").read_text()


def test_the_front_end_is_named(experiments):
    assert main(["energy", "x.py:twin", "x.py:inside", "x.py:pooled", "--clips", "4", "--json", "e.json"]) == 0
    fronts = {row["model"]: row["front_end"] for row in load_json(Path("e.json"))["rows"]}
    (stored, twin) = fronts["twin"]
    assert "when the clips were stored" in stored["not_counted"]
    assert twin["pixel_updates"] == 60 * 64 * 64
    assert "within the model" in fronts["inside"][1]["figure"]
    assert len(fronts["pooled"]) == 1  # it reads no events


def test_an_experiment_with_a_finished_run_is_counted_trained(experiments, folder, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "spiking").symlink_to(folder)
    assert main(["energy", "x.py:spiking", "--clips", "4", "--json", "e.json"]) == 0
    assert all(row["trained"] for row in load_json(Path("e.json"))["rows"])


def test_a_folder_of_runs_is_all_of_them(folder, tmp_path):
    for seed in (0, 1):
        other = shutil.copytree(folder, tmp_path / "comparison" / f"seed{seed}")
        config = load_json(folder / "config.json")
        (other / "config.json").write_text(json.dumps(config | {"seed": seed}))
    found = footprint.candidates(str(tmp_path), {})
    assert [one.experiment.seed for one in found] == [0, 1]


def test_a_finished_run_of_a_comparison_is_found_in_its_folder(make, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "runs" / "both" / "first")
    both = Comparison(name="both", title="Both", runs=(("first", make("spiking")), ("second", make("twin"))))
    monkeypatch.setattr(footprint, "load_experiment", lambda name: both)
    assert [bool(one.scores) for one in footprint.candidates("x.py:both", {})] == [True, False]


def test_clips_and_class_vectors_are_those_of_the_evaluation(make, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    changed = dataclasses.replace(make("pooled"), steps=Crops(train=4, test=5), class_vectors=Optimised())
    monkeypatch.setattr(
        footprint, "load_experiment", lambda name: changed if name == "x.py:changed" else make("pooled")
    )
    tasks = {}
    (one,), (plain,) = (footprint.candidates(name, tasks) for name in ("x.py:changed", "x.py:plain"))
    assert (len(one.batch(2).video), len(plain.batch(2).video)) == (5, 12)
    assert not torch.allclose(one.class_vectors, plain.class_vectors)


def test_a_comparison_is_each_of_its_experiments(make, monkeypatch, tmp_path):
    runs = tuple((name, make(name)) for name in ("twin", "pooled"))
    monkeypatch.setattr(footprint, "load_experiment", lambda name: Comparison(name="both", title="", runs=runs))
    monkeypatch.chdir(tmp_path)
    tasks = {}
    assert [one.name for one in footprint.candidates("any.py:both", tasks)] == ["twin, seed 0", "pooled, seed 0"]
    assert len(tasks) == 1


SHORT = Plan(window_s=0.02, trials=2, warm_up_s=0.0, idle_s=0.01, pause_s=0.0)


def test_without_a_meter_times_are_measured_and_energy_is_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "meters_for", lambda device: ([], "no meter here"))
    options = ["--measure", "--batch", "1", "--batch", "3", "--device", "cpu", "--window", "0.02", "--trials", "2"]
    monkeypatch.setattr(footprint, "measure", lambda subjects, meters, plan: run_short(subjects, meters))
    assert main(["energy", str(folder), "--out", str(tmp_path), "--clips", "4", *options]) == 0
    measured = rows_of(tmp_path)[0]["measured"]
    assert measured["not_measured"] == "no meter here"
    assert [batch["batch"] for batch in measured["batches"]] == [1, 3]
    assert all(batch["latency_s"] > 0 and batch["energy"] == [] for batch in measured["batches"])
    text = (tmp_path / "energy.md").read_text()
    assert "not measured (no meter here)" in text
    assert "Warning: spiking, seed 0, batch 1: 2 windows of 0.02 s" in text


@pytest.fixture
def measured_report(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "meters_for", lambda device: ([], "no meter here"))
    monkeypatch.setattr(footprint, "measure", lambda subjects, meters, plan: run_short(subjects, meters))
    assert main(["energy", str(folder), "--out", str(tmp_path), "--measure", "--batch", "2", "--device", "cpu"]) == 0
    return tmp_path


def test_spike_driven_and_dense_stand_in_a_section_of_their_own(measured_report):
    driven = rows_of(measured_report)[0]["spike_driven"]
    assert [case["part"] for case in driven["cases"]] == ["video.1", "audio.1", "whole model"]
    for case in driven["cases"]:
        assert (case["batch"], case["turns"]) == (2, 21)
        assert case["dense_over_sparse"] == pytest.approx(case["dense_s"] / case["sparse_s"])
    assert all(case["spikes_differ"] < 1e-3 and 0 < case["input_rate"] < 1 for case in driven["cases"][:2])
    assert driven["cases"][2]["nearest_differ"] == 0
    text = (measured_report / "energy.md").read_text()
    assert "| spiking, seed 0 | whole model | 2 |" in text.partition("## Latency, spike-driven against dense")[2]


def test_a_model_without_spikes_is_not_driven_by_them(make, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(footprint, "load_experiment", lambda name: make(name.removeprefix("x.py:")))
    tasks = {}
    for name in ("twin", "pooled"):
        (one,) = footprint.candidates(f"x.py:{name}", tasks)
        assert "no spiking layers" in footprint.spike_driven_rows(one, (1,))["not_measured"]


def run_short(subjects, meters):
    from neuroav.energy.measure import measure

    return measure(subjects, meters, SHORT)


class Constant:
    """A meter that always sees 100 J."""

    name = "constant"

    def window(self):
        from contextlib import nullcontext

        from neuroav.energy.measure import Reading

        return nullcontext(Reading({"counter": 100.0, "power": 150.0}))

    def describe(self):
        return {"meter": "constant"}


def test_with_a_meter_energy_stands_in_the_table_with_its_doubts(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "meters_for", lambda device: ([Constant()], ""))
    monkeypatch.setattr(footprint, "measure", lambda subjects, meters, plan: run_short(subjects, meters))
    arguments = ["energy", str(folder), "--out", str(tmp_path), "--clips", "4", "--measure", "--batch", "2"]
    assert main([*arguments, "--device", "cpu"]) == 0
    measured = rows_of(tmp_path)[0]["measured"]
    assert "not_measured" not in measured
    (batch,) = measured["batches"]
    assert [energy["method"] for energy in batch["energy"]] == ["counter", "power"]
    assert any("differ by 40%" in flag for flag in batch["flags"])
    text = (tmp_path / "energy.md").read_text()
    assert "Warning: spiking, seed 0, batch 2: constant: counter and power differ by 40%." in text
    kinds = {line["kind"] for line in csv.DictReader(io.StringIO((tmp_path / "energy.csv").read_text()))}
    assert kinds == {"count", "estimate", "measured"}


def test_a_meter_that_fails_is_one_line_and_status_2(folder, monkeypatch, tmp_path, capsys):
    def failing(*args):
        raise MeterError("NVML: expected an answer, got GPU is lost.")

    monkeypatch.setattr(footprint, "measure", failing)
    out = tmp_path / "energy"
    assert main(["energy", str(folder), "--clips", "4", "--measure", "--device", "cpu", "--out", str(out)]) == 2
    assert "GPU is lost" in capsys.readouterr().err
    rows = json.loads((out / "energy.json").read_text())["rows"]
    assert rows, "what was counted is kept"
    assert all("GPU is lost" in row["measured"]["not_measured"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--clips", "0"], "--clips in"),
        (["--measure", "--batch", "0"], "--batch in"),
        (["--window", "5"], "got --window"),
        (["--out", __file__], "--out: expected a folder"),
        (["--out", f"{__file__}/below"], "--out: expected a folder"),
    ],
)
def test_bad_options_are_named(folder, arguments, text, capsys):
    assert main(["energy", str(folder), *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_run_on_its_own_gets_the_report_and_a_section_in_its_page(folder, tmp_path, capsys):
    run_dir = shutil.copytree(folder, tmp_path / "run")
    assert main(["energy", str(run_dir), "--clips", "4"]) == 0
    printed = capsys.readouterr().out
    assert f"section on energy: {run_dir / 'report.html'}" in printed
    assert "By estimate, biased: No model without spikes is among the points, so none are compared." in printed
    curves = load_json(run_dir / "energy.json")["curves"]
    assert [(each["test_set"], each["points"][0]["name"]) for each in curves] == [
        ("biased", "spiking"),
        ("shuffled", "spiking"),
    ]
    assert {path.suffix for path in run_dir.glob("energy.*")} == {".md", ".csv", ".json", ".html"}
    assert '<section id="energy"' in (run_dir / "report.html").read_text()
    assert "By estimate, biased" in (run_dir / "report.html").read_text()


def test_one_name_for_two_settings_is_an_error(folder):
    (one,) = footprint.candidates(str(folder), {})

    def with_changes(**changes):
        return dataclasses.replace(one, experiment=dataclasses.replace(one.experiment, seed=1, **changes))

    footprint._check_settings([one, with_changes()])
    with pytest.raises(InputError, match="one setting for each name, got 'spiking' with several"):
        footprint._check_settings([one, with_changes(config=CONFIGS["twin"][1])])


def test_a_folder_without_runs_and_a_model_named_twice_are_errors(folder, tmp_path):
    (shutil.copytree(folder, tmp_path / "unfinished") / "results.json").unlink()
    with pytest.raises(InputError, match="a finished run, or a folder of them"):
        footprint.energy_command([str(tmp_path)])
    with pytest.raises(InputError, match=r"the directory of a run, or FILE\.py:NAME, got no such directory"):
        footprint.energy_command([str(tmp_path / "nothing")])
    with pytest.raises(InputError, match="each model and seed once, got 'spiking, seed 0' twice"):
        footprint.energy_command([str(folder), str(folder)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there_is_an_error(folder):
    with pytest.raises(InputError, match="a CUDA device that PyTorch sees"):
        footprint.energy_command([str(folder)], measuring=True, device="cuda", clips=4)


def test_the_configuration_is_the_task(make):
    assert to_json(make("twin").data) == to_json(dataclasses.replace(make("pooled"), seed=3).data)
