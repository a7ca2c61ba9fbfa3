"""Twins of spiking models: what is the same, what is not, and a run of one in int8."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from neuroav import run
from neuroav.baselines.avmst import AsPublished, AsReleased, AVMSTConfig, NoSpikes, SemanticThreshold
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.config import Experiment, MotionScenesData, from_json, to_json
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.files import load_json
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FixedThreshold, MLPLayers, SpikingLayers
from neuroav.nn.activation import GELU, Levels, ReLU
from neuroav.nn.losses import HeadsConfig
from neuroav.nn.numbers import BFloat16, Float32, Int8, Int8Linear, quantised_rows
from neuroav.task import prepare
from neuroav.train.checkpoint import load_tensors
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step
from neuroav.twins import twins

TRAIN = TrainConfig(epochs=2, batches=3, batch_size=16, lr=1e-2, schedule=Step(), protocol=OneStage())
MOTION = SpikingLayers(layers=2, repeats=2, delays=(0, 2))


@pytest.fixture(scope="module")
def spiking(tiny_store):
    data = MotionScenesData(store=str(tiny_store), scenes=MotionScenesConfig(size="tiny"))
    config = MDFTConfig(dim=32, heads=HeadsConfig(hidden=16), motion=MOTION, threshold=FixedThreshold(v_th=0.3))
    return Experiment(name="spiking", data=data, config=config, train=TRAIN, seed=4)


@pytest.fixture(scope="module")
def runs(spiking, tmp_path_factory):
    """The spiking model and four of its twins, trained."""
    folder, made = tmp_path_factory.mktemp("twins"), twins(spiking)
    for name in ("relu", "relu-bfloat16", "relu-int8", "levels"):
        run.run_experiment(made[name], folder / name)
    run.run_experiment(spiking, folder / "spiking")
    return folder


def losses(folder):
    """Mean loss of each epoch."""
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_only_neurons_and_numbers_differ(spiking):
    found = twins(spiking)
    activations = {key: each.config.motion.activation for key, each in found.items()}
    assert activations == {
        **dict.fromkeys(["relu", "relu-bfloat16", "relu-int8"], ReLU()),
        "gelu": GELU(),
        **dict.fromkeys(["levels", "levels-int8"], Levels(levels=3)),  # two presentations: none, one or both answered
    }
    assert [each.numbers for each in found.values()] == [
        Float32(), Float32(), BFloat16(), Int8(), Float32(), Int8()
    ]  # fmt: skip
    for each in found.values():
        assert (each.config.motion.layers, each.config.motion.delays) == (2, (0, 2))
        same = dataclasses.replace(each, name="spiking", config=spiking.config, numbers=Float32())
        assert same == spiking
        assert from_json(to_json(each)) == each
    assert len({each.name for each in found.values()}) == len(found)


def test_settings_that_only_spikes_have_make_no_other_twin(spiking):
    config = dataclasses.replace(spiking.config, threshold=FixedThreshold(v_th=0.9))
    other = twins(dataclasses.replace(spiking, config=config))
    assert other == twins(spiking)


def test_avmst_has_twins_of_its_branches():
    config = AVMSTConfig(reading=AsPublished(hidden=32, repeats=4))
    twin = config.twin(Levels(levels=config.levels))
    assert config.levels == 5
    assert twin.reading == AsPublished(hidden=32, repeats=1, neurons=NoSpikes(activation=Levels(levels=5)),
                                       threshold=twin.reading.threshold)  # fmt: skip
    assert not isinstance(twin.reading.threshold, SemanticThreshold)
    assert twin.levels == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MDFTConfig(motion=MLPLayers()).twin(ReLU()), "SpikingLayers, got MLPLayers"),
        (lambda: MDFTConfig(motion=None).twin(ReLU()), "SpikingLayers, got NoneType"),
        (lambda: AVMSTConfig().twin(ReLU()).twin(GELU()), "spiking neurons, got NoSpikes"),
        (lambda: AVMSTConfig(reading=AsReleased()).twin(ReLU()), "not. Take those of AsPublished"),
        (lambda: AsPublished(neurons=NoSpikes()), "repeats=4, SemanticThreshold. See twin"),
    ],
)
def test_what_has_no_twin_says_so(make, text):
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize("model", ["pooled", "avca"])
def test_a_model_without_spikes_has_no_twins(spiking, model):
    with pytest.raises(InputError, match="spiking model that has twins"):
        twins(dataclasses.replace(spiking, model=model, config=None))


def test_formats_train_as_their_twin_does(runs):
    """One training, to the bit; what differs is the network that is evaluated, and so its distances."""
    assert losses(runs / "relu") == losses(runs / "relu-bfloat16") == losses(runs / "relu-int8")


def test_an_int8_run_has_the_accuracy_of_int8(runs, spiking):
    """Its HM, from weights rounded here by hand in the saved file and activations rounded by hooks."""
    experiment, folder = twins(spiking)["relu-int8"], runs / "relu-int8"
    task = prepare(experiment.data)
    plain, statistics, note = run.load_model(dataclasses.replace(experiment, numbers=Float32()), task, folder)
    for layer in plain.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data = dequantised(layer.weight.data)
            layer.register_forward_pre_hook(lambda _, args: (dequantised(args[0].flatten(0, -2)).view_as(args[0]),))
    loaded, *_ = run.load_model(experiment, task, folder)
    seen, unseen = run.competing(task, note["two_stage"])
    parts = task.parts["biased"]
    indices = np.concatenate([parts["test_seen"], parts["test_unseen"]])
    data = task.data(indices, statistics, experiment.steps.evaluation())
    by_hand, found = (run.evaluate(model, data, seen, unseen, note["beta"]) for model in (plain, loaded))
    np.testing.assert_allclose(found.distances, by_hand.distances, rtol=2e-3, atol=2e-3)
    row = next(row for row in load_json(folder / "results.json")["rows"] if row["test_set"] == "biased")
    assert row["hm"] == found.result.hm
    relu, *_ = run.load_model(twins(spiking)["relu"], task, runs / "relu")
    assert not np.allclose(run.evaluate(relu, data, seen, unseen, 0.0).distances, found.distances, rtol=0, atol=1e-6)


def test_beta_is_chosen_in_the_numbers_of_the_evaluation_and_a_finished_training_is_taken(
    runs, spiking, tmp_path, monkeypatch
):
    evaluated, evaluate = [], run.evaluate

    def watched(model, *rest):
        evaluated.append({type(layer) for layer in model.modules()} & {torch.nn.Linear, Int8Linear})
        return evaluate(model, *rest)

    def never(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "evaluate", watched)
    run.run_experiment(twins(spiking)["relu-int8"], tmp_path / "alone")
    assert evaluated == [{torch.nn.Linear}] * 2 + [{Int8Linear}] * 3  # two epochs; beta, and two test sets
    evaluated.clear()
    monkeypatch.setattr("neuroav.train.loop._Run.epoch", never)
    run.run_experiment(twins(spiking)["relu-int8"], tmp_path / "taken", trained=runs / "relu")
    assert evaluated == [{Int8Linear}] * 3
    alone, taken = (load_json(tmp_path / name / "results.json")["rows"] for name in ("alone", "taken"))
    assert [row | {"train_s": 0} for row in alone] == [row | {"train_s": 0} for row in taken]
    assert losses(tmp_path / "taken") == losses(runs / "relu")


def test_a_comparison_trains_once_for_all_numbers(runs, spiking, tmp_path):
    """Found out by a training that is not the twin's own, left where its own should be."""
    shutil.copytree(runs / "relu", tmp_path / "relu")
    shutil.copy(runs / "levels" / "stage1.safetensors", tmp_path / "relu")
    made = twins(spiking)
    results = run.run_many([(made[key], tmp_path / key) for key in ("relu-int8", "relu")], 1)
    assert [each["rows"][0]["model"] for each in results] == [made["relu-int8"].name, made["relu"].name]
    assert losses(tmp_path / "relu-int8") == losses(runs / "levels") != losses(runs / "relu")


def dequantised(x):
    values, scale = quantised_rows(x)
    return values * scale


def test_weights_are_saved_as_trained_and_evaluated_again_to_the_digit(runs, capsys):
    tensors, _ = load_tensors(runs / "relu-int8" / "model.safetensors")
    assert {each.dtype for name, each in tensors.items() if name.endswith("linear.0.weight")} == {torch.float32}
    assert main(["eval", str(runs / "relu-int8")]) == 0
    assert "the same numbers" in capsys.readouterr().out


def test_the_report_knows_twins_and_their_numbers(runs, tmp_path):
    def checked(*names):
        out = tmp_path / "-".join(names)
        folders = [str(runs / name) for name in names]
        assert main(["energy", *folders, "--out", str(out), "--clips", "8"]) == 0
        report = load_json(out / "energy.json")
        (one,) = (each for each in report["checklist"] if "twins" in each["condition"])
        return one, {row["model"]: row for row in report["rows"]}

    one, rows = checked("spiking", "relu", "relu-bfloat16", "relu-int8", "levels")
    assert (one["holds"], one["note"]) == (False, "no gelu of spiking; no levels-int8 of spiking")
    assert [row["numbers"] for row in rows.values()] == ["float32", "float32", "bfloat16", "int8", "float32"]
    assert rows["spiking, ReLU twin"]["twins"] is None
    narrow = {name: rows[name]["by_number"] for name in rows}
    relu, bfloat16, int8 = (narrow[f"spiking, ReLU twin{end}"] for end in ("", ", bfloat16", ", int8"))
    between = {key: bfloat16[key]["macs"] for key in ("float32", "float64")}  # attention, and distances
    assert bfloat16["bfloat16"]["macs"] == int8["int8"]["macs"] == relu["float32"]["macs"] - between["float32"]
    assert {key: int8[key]["macs"] for key in ("float32", "float64")} == between
    assert relu["float32"]["weight_bytes"] == 2 * bfloat16["bfloat16"]["weight_bytes"]
    assert relu["float32"]["weight_bytes"] == 4 * int8["int8"]["weight_bytes"]
    assert checked("relu")[0]["note"] == "no spiking model"
