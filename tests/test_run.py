"""Whole runs on MotionScenes ``tiny``: the protocol, the same digits again, run directories, dead layers."""

import dataclasses
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from neuroav import run
from neuroav.baselines.fvaegan_d2 import AsPublished, FVAEGAND2Config
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.checks import InputError, NeuroavError
from neuroav.config import Experiment, MotionScenesData, StoreData, read_experiment, to_json
from neuroav.data.class_vectors import Optimised
from neuroav.data.motionscenes import MotionScenesConfig, class_names
from neuroav.data.sample import AsStored, Statistics
from neuroav.data.windows import Crops
from neuroav.files import load_json, save_json
from neuroav.kernels import cpu
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FixedThreshold, LayerTrace, SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.nn.synthesis import SoftmaxConfig
from neuroav.train.checkpoint import load_tensors, save_tensors
from neuroav.train.log import Watch
from neuroav.train.loop import OneStage, TrainConfig, TwoStage
from neuroav.train.optim import Step

TRAIN = TrainConfig(epochs=3, batches=3, batch_size=16, lr=1e-2, schedule=Step(at=0.5), protocol=OneStage())
HEADS = HeadsConfig(hidden=32)
PROTOCOLS = {"one": OneStage(), "two": TwoStage()}

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from neuroav.config import read_experiment
from neuroav.run import run_experiment
from neuroav.train.log import Watch
torch.set_num_threads(1)
left = int(sys.argv[3])
class Killer(Watch):
    def epoch(self, epoch):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
run_experiment(read_experiment(Path(sys.argv[1])), Path(sys.argv[2]), [Killer()])
"""

REFUSED = """
import sys
from pathlib import Path
from neuroav.checks import OutputError
from neuroav.config import read_experiment
from neuroav.run import run_experiment
for out in sys.argv[2:]:
    try:
        run_experiment(read_experiment(Path(sys.argv[1])), Path(out))
    except OutputError as error:
        print(error)
"""


class Stop(Watch):
    """Interrupts a run after its first epoch."""

    def epoch(self, epoch):
        raise KeyboardInterrupt


def small_disk():
    """Let no file of the new process grow past 5 kB: room for settings, not for a checkpoint."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))


def obey_permissions():
    """Take from the new process what lets root write anywhere (CAP_DAC_OVERRIDE); others never had it."""
    import ctypes

    ctypes.CDLL(None).prctl(24, 1)


def refused_runs(experiment, folder, outs, limit):
    """Run in a process under ``limit``, one after the other, settings in ``folder``; what each says in the end."""
    settings = folder / "experiment.json"
    save_json(settings, to_json(experiment))
    command = [sys.executable, "-c", REFUSED, str(settings), *map(str, outs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=limit)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def make(tiny_store):
    """Build a small experiment; ``changes`` replace its fields."""
    data = MotionScenesData(store=str(tiny_store), scenes=MotionScenesConfig(size="tiny"))

    def made(protocol="one", **changes):
        train = dataclasses.replace(TRAIN, protocol=PROTOCOLS[protocol])
        config = MDFTConfig(dim=32, heads=HEADS, motion=SpikingLayers(layers=2))
        return Experiment(**{"name": protocol, "data": data, "config": config, "train": train, "seed": 0} | changes)

    return made


@pytest.fixture(scope="module")
def quick(make):
    """The cheapest experiment: pooled inputs, one epoch of one batch."""
    train = dataclasses.replace(TRAIN, epochs=1, batches=1)
    return make(name="quick", model="pooled", config=PooledMLPConfig(dim=8, heads=HeadsConfig(hidden=8)), train=train)


@pytest.fixture(scope="module")
def folders(make, tmp_path_factory):
    """One finished run of each protocol."""
    base = tmp_path_factory.mktemp("runs")
    for protocol in PROTOCOLS:
        run.run_experiment(make(protocol), base / protocol)
    return {protocol: base / protocol for protocol in PROTOCOLS}


def rows(folder):
    """Result rows without the time taken."""
    return [{k: v for k, v in row.items() if k != "train_s"} for row in load_json(folder / "results.json")["rows"]]


def arrays(folder):
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        return dict(file)


def epochs(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(a, b):
    assert rows(a) == rows(b)
    assert epochs(a) == epochs(b)
    first, second = arrays(a), arrays(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    weights = [load_tensors(folder / "model.safetensors") for folder in (a, b)]
    assert weights[0][1] == weights[1][1]
    assert all(torch.equal(weights[0][0][name], weights[1][0][name]) for name in weights[0][0])


# ------------------------------------------------------------------------------------------------ numbers


def test_a_run_directory_holds_what_the_module_says_and_no_more(folders):
    files = {"config.json", "versions.json", "metrics.jsonl", "stage1.safetensors", "model.safetensors"}
    files |= {"results.json", "arrays.npz"}
    assert {p.name for p in folders["one"].iterdir()} == files
    assert {p.name for p in folders["two"].iterdir()} == files | {"stage2.safetensors"}
    assert load_json(folders["two"] / "versions.json")["torch"] == torch.__version__


def test_the_same_seed_gives_the_same_digits_and_another_seed_others(make, folders, tmp_path):
    run.run_experiment(make(), tmp_path / "again")
    assert_same_run(tmp_path / "again", folders["one"])
    run.run_experiment(make(seed=4), tmp_path / "other")
    assert [e["loss"] for e in epochs(tmp_path / "other")] != [e["loss"] for e in epochs(folders["one"])]


def test_a_run_killed_in_each_stage_ends_with_the_same_digits(make, folders, tmp_path, capsys):
    out = tmp_path / "run"
    save_json(tmp_path / "experiment.json", to_json(make("two")))

    def killed_after(number):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "experiment.json"), str(out), str(number)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert not (out / "results.json").exists()

    killed_after(1)
    assert not (out / "stage2.safetensors").exists()
    (out / "metrics.jsonl").unlink(missing_ok=True)  # killed before the line of a saved epoch was written
    killed_after(4)  # three epochs of stage 1, the first of them told again, and one of stage 2
    assert (out / "stage2.safetensors").exists()
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"stage": 2, "ind')  # a line torn by a kill
    capsys.readouterr()
    run.run_experiment(make("two"), out)
    assert f"two: going on in {out}, where a run of the same experiment stopped" in capsys.readouterr().err
    assert_same_run(out, folders["two"])
    assert {p.name for p in out.iterdir()} == {p.name for p in folders["two"].iterdir()}


def test_two_stages_follow_the_protocol(folders, make):
    one, two = folders["one"], folders["two"]
    _, note = load_tensors(two / "model.safetensors")
    first = [e for e in epochs(two) if e["stage"] == 1]
    top = max(e["hm"] for e in first)
    assert top > 0
    best = next(e["index"] for e in first if e["hm"] == top)
    assert (note["best_epoch"], note["beta"], note["val_hm"]) == (best, first[best]["beta"], first[best]["hm"])
    assert [e["index"] for e in epochs(two) if e["stage"] == 2] == list(range(best + 1))
    assert {row["beta"] for row in rows(two)} == {first[best]["beta"]}
    assert first == epochs(one)  # the first stages are one and the same

    task = run.prepare(make().data)
    names = np.array(task.store.class_names)
    for folder, parts in ((one, ["train"]), (two, ["train", "val_seen", "val_unseen"])):
        trained = np.sort(np.concatenate([task.parts["biased"][part] for part in parts]))
        tensors, _ = load_tensors(folder / "model.safetensors")
        expected = Statistics.of(task.load(trained)).video_mean
        assert torch.equal(tensors["statistics.video_mean"], expected)  # these clips and no others
        found = arrays(folder)
        assert set(found["confusion.classes"][found["confusion.seen"]]) == set(names[task.classes(*parts)])
        assert set(found["confusion.classes"][~found["confusion.seen"]]) == set(names[task.classes("test_unseen")])
    assert [len(task.classes(part)) for part in ("train", "val_unseen", "test_unseen")] == [30, 12, 9]


def test_a_generative_model_fits_its_classifier_for_validation_and_for_the_test(make, tmp_path, capsys):
    softmax = SoftmaxConfig(synthetic=10, epochs=5, batch_size=50)
    reading = AsPublished(adversarial=0.1, critic_steps=1)
    config = FVAEGAND2Config(latent=8, hidden_encoder=32, hidden=32, hidden_critic=16, softmax=softmax, reading=reading)
    train = dataclasses.replace(TRAIN, epochs=2, batches=20, protocol=TwoStage())
    generative = make(name="generative", model="fvaegan_d2", config=config, train=train)
    run.run_experiment(generative, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run.run_experiment(generative, tmp_path / "interrupted", [Stop()])
    run.run_experiment(generative, tmp_path / "interrupted")
    assert_same_run(tmp_path / "whole", tmp_path / "interrupted")
    assert run.eval_command(str(tmp_path / "whole"), None) == 0
    assert "the same numbers as results.json" in capsys.readouterr().out

    task = run.prepare(generative.data)
    tensors, note = load_tensors(tmp_path / "whole" / "model.safetensors")
    seen, unseen = run.competing(task, two_stage=True)
    classes = torch.from_numpy(task.store.class_vectors[np.union1d(seen, unseen)])
    assert torch.equal(tensors["model.softmax.text"], classes)
    best, _ = load_tensors(tmp_path / "whole" / "stage1.safetensors")
    assert len(best["best.softmax.text"]) == 0  # epochs are chosen without it

    parts = next(iter(task.parts.values()))
    data = task.data(parts["train"], Statistics.of(task.load(parts["train"])))
    model = run.models.build("fvaegan_d2", data.spec, config).eval()
    model.load_state_dict({k.removeprefix("best."): v for k, v in best.items() if k.startswith("best.")})
    known, new = task.classes("train"), task.classes("val_unseen")
    assert run.fit_extra(model, data, known, new, (generative.seed, 1))
    val = task.data(np.concatenate([parts["val_seen"], parts["val_unseen"]]), Statistics.of(task.load(parts["train"])))
    result = run.evaluate(model, val, known, new, None).result
    assert (note["beta"], note["val_hm"]) == (result.beta, result.hm)
    assert result.hm not in {e["hm"] for e in epochs(tmp_path / "whole")}
    assert not run.fit_extra(run.models.build("pooled", data.spec), data, known, new, (0, 1))


def test_a_model_may_read_features_as_stored(quick, tmp_path):
    run.run_experiment(dataclasses.replace(quick, inputs=AsStored()), tmp_path / "run")
    assert isinstance(read_experiment(tmp_path / "run" / "config.json").inputs, AsStored)
    tensors, _ = load_tensors(tmp_path / "run" / "model.safetensors")
    assert not tensors["statistics.video_mean"].any()
    assert (tensors["statistics.audio_std"] == 1).all()


def test_a_model_may_read_crops_and_go_on_with_the_same(make, folders, tmp_path):
    cropped = make(steps=Crops(train=3, test=5))
    run.run_experiment(cropped, tmp_path / "whole")
    assert [e["loss"] for e in epochs(tmp_path / "whole")] != [e["loss"] for e in epochs(folders["one"])]
    with pytest.raises(KeyboardInterrupt):
        run.run_experiment(cropped, tmp_path / "interrupted", [Stop()])
    run.run_experiment(cropped, tmp_path / "interrupted")
    assert_same_run(tmp_path / "whole", tmp_path / "interrupted")
    assert read_experiment(tmp_path / "whole" / "config.json").steps == Crops(train=3, test=5)

    task = run.prepare(cropped.data)
    model, statistics, _ = run.load_model(cropped, task, tmp_path / "whole")
    parts = task.parts["biased"]
    test = np.concatenate([parts["test_seen"], parts["test_unseen"]])
    seen, unseen = run.competing(task, two_stage=False)
    test = test[np.isin(task.store.labels[test], np.union1d(seen, unseen))]
    data = task.data(test, statistics, Crops(test=5).evaluation())
    assert len(data.batch(np.arange(4)).video) == 5
    zsl = run.evaluate(model, data, seen, unseen, None).result.zsl
    assert zsl == rows(tmp_path / "whole")[0]["zsl"]


def test_class_vectors_are_optimised_for_training_and_evaluation_alike(quick, tmp_path):
    changed = dataclasses.replace(quick, class_vectors=Optimised(steps=5))
    results = run.run_experiment(changed, tmp_path / "run")
    assert read_experiment(tmp_path / "run" / "config.json").class_vectors == Optimised(steps=5)
    task = run.prepare(changed.data, changed.class_vectors)
    expected = Optimised(steps=5).of(task.store.class_vectors)
    assert not np.array_equal(expected, task.store.class_vectors)
    statistics = Statistics.of(task.load(np.arange(2)))
    assert np.array_equal(task.data(np.arange(2), statistics).class_vectors, expected)
    seen = np.unique(task.store.labels[task.parts["biased"]["train"]])
    trained_on = task.data(task.parts["biased"]["train"], statistics).classes
    assert np.array_equal(trained_on.text, expected[seen])
    rows, _ = run.score(changed, task, tmp_path / "run")
    assert [row["zsl"] for row in rows] == [row["zsl"] for row in results["rows"]]


@pytest.mark.parametrize("protocol", ["one", "two"])
def test_scores_are_recalls_at_the_validated_beta(folders, make, tmp_path, protocol):
    experiment, out = make(protocol), tmp_path
    tensors, note = load_tensors(folders[protocol] / "model.safetensors")
    save_tensors(out / "model.safetensors", tensors, note | {"beta": 0.3})  # one that changes predictions
    task = run.prepare(experiment.data)
    model, statistics, _ = run.load_model(experiment, task, out)
    unseen = task.classes("test_unseen")
    seen = task.classes("train", "val_seen", "val_unseen") if protocol == "two" else task.classes("train")
    classes = np.concatenate([seen, unseen])
    mean_recall = partial(recall_score, average="macro", zero_division=0)
    for row in run.score(experiment, task, out)[0]:
        chosen = np.concatenate([task.parts[row["test_set"]][part] for part in ("test_seen", "test_unseen")])
        chosen = chosen[np.isin(task.store.labels[chosen], classes)]
        label = task.store.labels[chosen]
        dist = run.distances(model, task.data(chosen, statistics), classes).astype(np.float64)
        raw = classes[dist.argmin(1)]
        dist[:, : len(seen)] += 0.3
        predicted = classes[dist.argmin(1)]
        assert (predicted != raw).any()
        expected = [mean_recall(label, predicted, labels=each) for each in (seen, unseen)]
        alone = np.isin(label, unseen)
        expected.append(mean_recall(label[alone], unseen[dist[alone, len(seen) :].argmin(1)], labels=unseen))
        assert [row["seen"], row["unseen"], row["zsl"]] == pytest.approx(expected)
        assert row["follows_scene"] == pytest.approx((task.preferred[predicted] == task.scene[chosen]).mean())
        assert (row["beta"], row["num_clips"], row["chance_zsl"]) == (0.3, len(chosen), 1 / 9)
        assert row["hm_oracle"] >= row["hm"]
        present = np.unique(label)
        recall = recall_score(label, predicted, labels=present, average=None, zero_division=0)
        assert row["recall"] == pytest.approx({task.store.class_names[c]: r for c, r in zip(present, recall)})
        assert 0 < row["ausuc"] <= row["zsl"]
        assert row["interval95"]["zsl"][0] <= row["zsl"] <= row["interval95"]["zsl"][1]


def test_evaluating_again_gives_the_same_numbers_or_says_which_differ(folders, tmp_path, capsys):
    assert run.eval_command(str(folders["two"]), str(tmp_path / "again.json")) == 0
    assert capsys.readouterr().out.endswith("the same numbers as results.json\n")
    again = load_json(tmp_path / "again.json")["rows"]
    assert again == rows(folders["two"])
    shutil.copytree(folders["one"], tmp_path / "changed")
    results = load_json(tmp_path / "changed" / "results.json")
    results["rows"][1]["unseen"] += 1e-9
    save_json(tmp_path / "changed" / "results.json", results)
    assert run.eval_command(str(tmp_path / "changed"), None) == 1
    assert capsys.readouterr().out.endswith("differs from results.json on: shuffled\n")


def test_a_run_is_evaluated_from_another_folder_by_another_version(folders, tmp_path, monkeypatch, capsys):
    shutil.copytree(folders["one"], tmp_path / "run")
    config, made_by = (load_json(tmp_path / "run" / name) for name in ("config.json", "versions.json"))
    store = Path(config["data"]["store"])
    config["data"]["store"] = store.name
    save_json(tmp_path / "run" / "config.json", config)
    save_json(tmp_path / "run" / "versions.json", made_by | {"directory": str(store.parent), "neuroav": "0.0.1"})
    monkeypatch.chdir(tmp_path)
    assert run.eval_command("run", None) == 0
    said = capsys.readouterr()
    assert said.out.endswith("the same numbers as results.json\n")
    assert "run was made by neuroav 0.0.1, this is" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no store was rendered here


def test_files_of_a_run_that_were_changed_are_named(folders, tmp_path):
    shutil.copytree(folders["one"], tmp_path / "run")
    for name, content in [
        ("versions.json", []),
        ("results.json", {}),
        ("results.json", {"rows": [{"model": "m"}]}),
        ("results.json", 3),
    ]:
        before = (tmp_path / "run" / name).read_text()
        save_json(tmp_path / "run" / name, content)
        with pytest.raises(InputError, match=name):
            run.eval_command(str(tmp_path / "run"), None)
        (tmp_path / "run" / name).write_text(before)
    shutil.copytree(tmp_path / "run", tmp_path / "of_two" / "one")
    save_json(tmp_path / "of_two" / "results.json", {})
    with pytest.raises(InputError, match=r"got that of a comparison\. Choose one of its runs: one\."):
        run.eval_command(str(tmp_path / "of_two"), None)
    with pytest.raises(InputError, match=r"got none\. Runs below it: .*of_two"):
        run.eval_command(str(tmp_path), None)
    with pytest.raises(InputError, match=r"got a file\. Make one"):
        run.eval_command(str(tmp_path / "run" / "results.json"), None)


@pytest.mark.parametrize("change", ["other weights", "other width", "truncated", "missing", "no note"])
def test_weights_that_do_not_fit_are_refused(folders, make, tmp_path, change):
    shutil.copytree(folders["one"], tmp_path / "run")
    path, experiment = tmp_path / "run" / "model.safetensors", make()
    if change == "other weights":
        shutil.copy(tmp_path / "run" / "stage1.safetensors", path)
    elif change == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif change == "missing":
        path.unlink()
    elif change == "no note":
        save_tensors(path, load_tensors(path)[0])
    else:
        experiment = make(config=dataclasses.replace(experiment.config, dim=64))
    with pytest.raises(InputError, match=r"model\.safetensors: expected"):
        run.load_model(experiment, run.prepare(experiment.data), tmp_path / "run")


# ------------------------------------------------------------------------------------------------ spikes


def test_activity_counts_valid_steps_alone():
    """Two batches of two neurons: one fires at every other presentation, one never; padding fires all the time."""
    valid = torch.tensor([[True, True], [True, False]])
    output = torch.zeros(4, 2, 2)
    output[0::2, :, 0] = 1.0
    output[2:, 1] = 1.0  # padding
    theta = torch.tensor([[[1.0], [2.0]], [[3.0], [99.0]]])
    model = SimpleNamespace(activity=lambda batch: ({"video.0": LayerTrace(output, theta)}, valid))
    (layer,) = run.layer_activity(model, [None, None])
    assert layer == {
        "name": "video.0",
        "rate": pytest.approx(0.25),
        "dead_share": 0.5,
        "theta_mean": pytest.approx(2.0),
        "theta_std": pytest.approx(np.std([1, 2, 3, 1, 2, 3], ddof=1)),
    }
    assert run.layer_activity(torch.nn.Linear(1, 1), []) == []


def test_every_evaluation_says_how_its_layers_spike(folders):
    for row in rows(folders["one"]) + rows(folders["two"]):
        assert [layer["name"] for layer in row["layers"]] == ["video.0", "video.1", "audio.0", "audio.1"]
        for layer in row["layers"]:
            assert 0 <= layer["rate"] <= 1
            assert 0 <= layer["dead_share"] <= 1
            assert layer["theta_std"] > 0


def test_a_missing_extension_is_said_unless_it_was_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(cpu, "module", None)
    for asked, said in (("", 1), ("reference", 0)):
        monkeypatch.setenv("NEUROAV_KERNELS", asked)
        run.warn_of_reference("mdft")
        assert capsys.readouterr().err.count("mdft: slower than need be: ") == said


def test_a_mostly_dead_layer_is_said_loudly(capsys):
    layers = [
        {"name": "video.0", "dead_share": 0.5, "theta_mean": 1.0},
        {"name": "video.1", "dead_share": 0.51, "theta_mean": 1.25},
    ]
    run.warn_of_silence("a run", layers)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("WARNING a run: 51% of the neurons of layer video.1 never fire (threshold 1.25).")


def test_a_silent_model_is_said_in_the_run_itself(make, tmp_path, capsys):
    config = MDFTConfig(dim=16, heads=HEADS, modalities=("video",), threshold=FixedThreshold(v_th=50.0))
    train = dataclasses.replace(TRAIN, epochs=1, batches=1)
    found = run.run_experiment(make(name="silent", config=config, train=train), tmp_path / "silent")
    assert {layer["dead_share"] for row in found["rows"] for layer in row["layers"]} == {1.0}
    assert "WARNING silent on shuffled: 100% of the neurons of layer video.2 never fire" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ run directories


def test_a_directory_in_use_is_refused(quick, tmp_path):
    with run.claimed(tmp_path / "x", quick), pytest.raises(InputError, match="in use by another process"):
        run.run_experiment(quick, tmp_path / "x")
    assert not (tmp_path / "x").exists()  # the holder did nothing, so nothing stays


def test_finished_runs_other_runs_and_other_files_are_left_alone(quick, folders, tmp_path):
    with pytest.raises(InputError, match="got a finished run"):
        run.run_experiment(quick, folders["one"])
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    save_json(tmp_path / "full" / "results.txt", {})
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    save_json(unfinished / "config.json", to_json(dataclasses.replace(quick, seed=9)))
    before = sorted(tmp_path.rglob("*"))
    for out, text in [
        ("file", "expected a directory, got a file"),
        ("file/below", "a directory that can be made, got Not a directory"),
        ("full", "got other files"),
        ("unfinished", "got one of another"),
    ]:
        with pytest.raises(NeuroavError, match=text):
            run.run_experiment(quick, tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_lock_of_a_killed_run_does_not_block(quick, tmp_path):
    (tmp_path / "run.lock").write_text("")
    run.run_experiment(quick, tmp_path)
    assert not (tmp_path / "run.lock").exists()
    assert (tmp_path / "results.json").exists()


def test_an_early_error_leaves_nothing_and_a_late_one_what_was_saved(quick, tmp_path):
    no_store = dataclasses.replace(quick, data=StoreData(store=str(tmp_path / "none.h5")))
    (tmp_path / "empty").mkdir()
    for out in ("new/deep/run", "empty"):
        with pytest.raises(InputError, match="no such file"):
            run.run_experiment(no_store, tmp_path / out)
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"]

    with pytest.raises(KeyboardInterrupt):
        run.run_experiment(quick, tmp_path / "late", [Stop()])
    assert {"config.json", "stage1.safetensors"} <= {p.name for p in (tmp_path / "late").iterdir()}
    assert not (tmp_path / "late" / "run.lock").exists()


def test_an_interrupt_before_the_first_checkpoint_takes_its_curves_along(quick, tmp_path):
    out = tmp_path / "early"

    def begin():
        with run.claimed(out, quick):
            for name in ("config.json", "tensorboard/events"):
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert not out.exists()


def test_the_commit_is_of_a_checkout_of_this_package_alone(tmp_path, monkeypatch):
    package = tmp_path / "somebody" / "site-packages" / "neuroav"
    package.mkdir(parents=True)
    git = ["git", "-C", str(tmp_path / "somebody"), "-c", "user.name=a", "-c", "user.email=a"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(run, "__file__", str(package / "run.py"))
    assert run.versions()["commit"] == "not a git checkout"


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_a_full_disk_is_said_and_loses_nothing(make, folders, tmp_path):
    experiment, out = make("two"), tmp_path / "run"

    with pytest.raises(KeyboardInterrupt):
        run.run_experiment(experiment, out, [Stop()])
    before = (out / "stage1.safetensors").read_bytes()
    said = refused_runs(experiment, tmp_path, [tmp_path / "new", out], small_disk)
    text = "{}: expected a file that can be written, got File too large. Make room"
    expected = [text.format(folder / "stage1.safetensors") for folder in (tmp_path / "new", out)]
    assert [line.partition(" or choose")[0] for line in said] == expected
    assert not (tmp_path / "new").exists()
    assert (out / "stage1.safetensors").read_bytes() == before
    assert not list(out.glob("*.tmp"))
    run.run_experiment(experiment, out)
    assert_same_run(out, folders["two"])


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are of Linux")
def test_a_read_only_folder_is_said_and_left_as_it_was(quick, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    here, below = refused_runs(quick, tmp_path, [closed, closed / "run"], obey_permissions)
    assert here.startswith(f"{closed / 'run.lock'}: expected a file that can be written, got Permission denied.")
    assert below.startswith(f"{closed / 'run'}: expected a directory that can be made, got Permission denied.")
    assert list(closed.iterdir()) == []


def test_many_runs_side_by_side_are_read_when_finished(quick, folders, make, tmp_path):
    done = run.run_many([(make(), folders["one"]), (make("two"), folders["two"])], workers=1)
    assert [result["title"] for result in done] == ["one", "two"]
    with pytest.raises(InputError, match="a finished run of the same experiment"):
        run.run_many([(make(seed=9), folders["one"])], workers=1)
    jobs = [(quick, tmp_path / "a"), (dataclasses.replace(quick, model="none"), tmp_path / "b")]
    with pytest.raises(InputError, match="name to be one of"):
        run.run_many(jobs, workers=1)
    assert (tmp_path / "a" / "results.json").exists()
    assert not (tmp_path / "b").exists()


def test_a_run_that_fails_stops_the_others(quick, tmp_path):
    endless = dataclasses.replace(quick, name="endless", train=dataclasses.replace(quick.train, epochs=100_000))
    failing = dataclasses.replace(quick, name="failing", model="none")
    jobs = [(endless, tmp_path / "endless"), (failing, tmp_path / "failing")]
    with pytest.raises(InputError, match="name to be one of"):
        run.run_many(jobs, workers=2)
    assert not multiprocessing.active_children()
    with run.claimed(tmp_path / "endless", endless):  # nobody works there any more
        pass


# ------------------------------------------------------------------------------------------------ data


def test_missing_data_of_many_runs_is_told_before_the_first(quick, tmp_path):
    missing = dataclasses.replace(quick, name="two", data=StoreData(store=str(tmp_path / "none.h5")))
    with pytest.raises(InputError, match=r"none\.h5"):
        run.run_many([(quick, tmp_path / "one"), (missing, tmp_path / "two")], workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_nan_put_into_a_store_is_found_and_its_clip_named(tiny_store, quick, tmp_path, modality):
    path = tmp_path / "nan.h5"
    shutil.copy(tiny_store, path)
    with h5py.File(path, "r+") as file:
        clip = int(np.flatnonzero(file["parts"].asstr()[:] == "train")[5])
        file[modality][file["offsets"][clip + 1] - 1, 2] = np.nan
        name = file["names"].asstr()[clip]
    data = dataclasses.replace(quick.data, store=str(path))
    with pytest.raises(InputError, match=f"got NaN or infinity in the {modality} of clip '{name}'"):
        run.run_experiment(dataclasses.replace(quick, data=data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_class_vectors_and_labels_that_were_changed_are_refused(tiny_store, quick, tmp_path):
    for key, value in [("class_vectors", np.inf), ("labels", 99)]:
        path = tmp_path / f"{key}.h5"
        shutil.copy(tiny_store, path)
        with h5py.File(path, "r+") as file:
            file[key][0] = value
        with pytest.raises(InputError, match=f"intact feature store, got .*'{key}'"):
            run.prepare(dataclasses.replace(quick.data, store=str(path)))


def test_a_store_of_other_scenes_is_refused(quick):
    other = dataclasses.replace(quick.data, scenes=MotionScenesConfig(size="tiny", seed=5))
    with pytest.raises(InputError, match=r"expected a store of MotionScenes .*Choose another data\.store"):
        run.prepare(other)
    with pytest.raises(InputError, match=r"scene_bias: expected one that is rendered \(0\.5\), got 0\.7"):
        run.prepare(dataclasses.replace(quick.data, scene_bias=0.7))


def test_what_would_be_rendered_over_the_usual_scenes_is_told_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"a file of their own for other scenes .*--set data\.store=FILE"):
        run.prepare(MotionScenesData(scenes=MotionScenesConfig(size="tiny")))
    assert not list(tmp_path.iterdir())


def test_unseen_classes_are_chosen_by_name(tiny_store):
    names = class_names()
    data = StoreData(store=str(tiny_store), val_unseen=tuple(names[:3]), test_unseen=tuple(names[3:5]))
    task = run.prepare(data)
    assert task.classes("val_unseen").tolist() == [0, 1, 2]
    assert task.classes("test_unseen").tolist() == [3, 4]
    assert not set(task.classes("train")) & {0, 1, 2, 3, 4}
    wrong = names[7].replace("e", "ee", 1)
    for change in ({"val_unseen": (wrong,)}, {"test_unseen": (wrong,)}):
        with pytest.raises(InputError, match=f"got '{wrong}'. Did you mean '{names[7]}'"):
            run.prepare(dataclasses.replace(data, **change))
    with pytest.raises(InputError, match="in both"):
        run.prepare(dataclasses.replace(data, test_unseen=data.val_unseen))
    with pytest.raises(InputError, match="got none in val_unseen"):
        run.prepare(dataclasses.replace(data, val_unseen=()))


def test_classes_without_clips_are_left_out_and_said(tiny_store, quick, tmp_path, capsys):
    """Two classes of training lose their clips of validation, one of them those of the test too."""
    path, names = tmp_path / "fewer.h5", class_names()
    shutil.copy(tiny_store, path)
    with h5py.File(path, "r+") as file:
        parts, labels = file["parts"].asstr()[:], file["labels"][:]
        seen = np.intersect1d(labels[parts == "val_seen"], labels[parts == "test_seen"])
        file["parts"][np.isin(labels, seen[:2]) & (parts == "val_seen")] = "train"
        file["parts"][(labels == seen[1]) & (parts == "test_seen")] = "train"
        file["parts"].attrs["crc32"] = zlib.crc32(file["parts"][:].tobytes())
        parts = file["parts"].asstr()[:]
    competing = np.unique(labels[np.isin(parts, ["train", "test_unseen"])])
    tested = np.unique(labels[np.isin(parts, ["test_seen", "test_unseen"])])
    (row,) = run.run_experiment(dataclasses.replace(quick, data=StoreData(store=str(path))), tmp_path / "run")["rows"]
    absent = sorted(names[k] for k in set(competing.tolist()) - set(tested.tolist()))
    assert names[seen[1]] in absent
    assert sorted(row["classes_without_clips"]) == absent
    assert not set(absent) & set(row["recall"])
    unvalidated = np.setdiff1d(labels[parts == "train"], labels[parts == "val_seen"])
    validated = len(np.unique(labels[np.isin(parts, ["train", "val_unseen"])]))
    assert set(seen[:2]) <= set(unvalidated)
    said = f"quick: no validation clip of {names[unvalidated[0]]}"
    assert said in (found := capsys.readouterr().err)
    assert f"({len(unvalidated)} of {validated} classes): left out of S." in found


def test_a_long_compilation_is_said_before_it_begins(quick, tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.setattr(torch, "compile", lambda loss: said.append(capsys.readouterr().err) or loss)
    train = dataclasses.replace(quick.train, compile=True)
    run.run_experiment(dataclasses.replace(quick, train=train), tmp_path / "run")
    assert "quick: torch.compile compiles the loss during the first batch" in said[0]


def test_a_class_both_trained_on_and_unseen_is_refused(tiny_store, tmp_path):
    for unseen, other in (("test_unseen", "val_seen"), ("val_unseen", "train")):
        path = tmp_path / f"{unseen}.h5"
        shutil.copy(tiny_store, path)
        with h5py.File(path, "r+") as file:
            parts = file["parts"].asstr()[:]
            label = file["labels"][:][parts == unseen][0]
            file["parts"][int(np.flatnonzero((parts == unseen) & (file["labels"][:] == label))[0])] = other
            file["parts"].attrs["crc32"] = zlib.crc32(file["parts"][:].tobytes())
        with pytest.raises(InputError, match=f"classes of {unseen} that .* got '{class_names()[label]}'"):
            run.prepare(StoreData(store=str(path)))


def test_a_missing_store_names_what_makes_it_or_goes_on(tmp_path):
    data = StoreData(store=str(tmp_path / "store.h5"))
    with pytest.raises(InputError, match=r"store\.h5: expected .*, got no such file\. neuroav extract makes one"):
        run.prepare(data)
    (tmp_path / "store.h5.partial").touch()
    with pytest.raises(InputError, match=r"store\.h5\.partial lies there: run the command that was writing it again"):
        run.prepare(data)
