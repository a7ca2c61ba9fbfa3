"""The command line as a user meets it: it runs and evaluates; bad input ends in one line and leaves nothing behind."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from neuroav import __version__, cli
from neuroav.cli import main
from neuroav.config import from_json, override

EXPERIMENTS = """
from dataclasses import replace
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.config import Comparison, Experiment, MotionScenesData, StoreData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.train.loop import OneStage, TrainConfig, TwoStage
from neuroav.train.optim import Step

DATA = MotionScenesData(store={store!r}, scenes=MotionScenesConfig(size="tiny"))
CONFIG = MDFTConfig(dim=32, heads=HeadsConfig(hidden=32), motion=SpikingLayers(layers=1))
SHORT = dict(epochs=2, batches=3, batch_size=16, schedule=Step())

def one():
    return Experiment(name="one", data=DATA, config=CONFIG, train=TrainConfig(**SHORT, protocol=OneStage()))

def two():
    return Experiment(name="two", data=DATA, config=CONFIG, train=TrainConfig(**SHORT, protocol=TwoStage()))

def other_config():
    return Experiment(name="other", data=DATA, model="pooled", config=CONFIG)

def other_model():
    return Experiment(name="other", data=DATA, model="poled")

def own_store():
    return Experiment(name="own", data=StoreData(store={store!r}), config=CONFIG)

def broken():
    return {{}}["key"]

def nothing():
    return None

def unmade():
    data = MotionScenesData(store="data/tiny.h5", scenes=MotionScenesConfig(size="tiny"))
    runs = tuple((folder, replace(run, data=data)) for folder, run in both().runs[:2])
    return Comparison(name="unmade", title="Unmade", runs=runs)

def both():
    train = TrainConfig(epochs=1, batches=2, batch_size=16, protocol=OneStage())
    config = PooledMLPConfig(dim=8, heads=HeadsConfig(hidden=8))
    runs = tuple(
        (f"{{name}}-{{seed}}", Experiment(name=name, data=DATA, model="pooled", config=config, train=train, seed=seed))
        for name in "ab" for seed in (0, 1)
    )
    return Comparison(name="both", title="A and B", note="Tiny.", runs=runs)
"""


@pytest.fixture
def here(tmp_path, tiny_store, monkeypatch):
    """A working directory with ``exp.py``; the tiny store is its data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp.py").write_text(EXPERIMENTS.format(store=str(tiny_store)), encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_run_trains_evaluates_and_reports_and_eval_agrees(here, capfd):
    assert main(["run", "exp.py:one", "--set", "seed=2", "--set", "train.lr=5e-3", "--json", "out.json"]) == 0
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    folder = here / "runs" / "one"
    assert shown.out.splitlines()[-1] == "report: " + str((folder / "report.html").relative_to(here))
    results = json.loads((folder / "results.json").read_text())
    assert json.loads((here / "out.json").read_text()) == results
    assert [row["test_set"] for row in results["rows"]] == ["biased", "shuffled"]
    assert all(row["model"] == "one" and row["seed"] == 2 and row["layers"] for row in results["rows"])
    saved = from_json(json.loads((folder / "config.json").read_text()))
    assert saved == override(saved, ["seed=2", "train.lr=5e-3"])

    before = {path: (folder / path).read_bytes() for path in listing(folder)}
    assert main(["eval", str(folder), "--json", "again.json"]) == 0
    assert capfd.readouterr().out.endswith("the same numbers as results.json\n")
    figures = [{k: v for k, v in row.items() if k != "train_s"} for row in results["rows"]]
    assert json.loads((here / "again.json").read_text())["rows"] == figures
    assert {path: (folder / path).read_bytes() for path in listing(folder)} == before

    assert main(["run", "exp.py:one", "--set", "seed=2", "--set", "train.lr=5e-3"]) == 0
    assert "holds this experiment's finished run; nothing was trained" in capfd.readouterr().err
    assert {path: (folder / path).read_bytes() for path in listing(folder)} == before
    assert main(["run", "exp.py:one", "--set", "seed=3"]) == 2
    assert "got a finished run" in capfd.readouterr().err


def test_a_comparison_fills_one_table_and_goes_on_with_what_is_missing(here, capfd):
    command = ["run", "exp.py:both", "--set", "data.scene_bias=0.5", "--workers", "1"]
    assert main(command) == 0
    folder, shown = here / "runs" / "both", capfd.readouterr()
    assert shown.out.splitlines()[-1] == "report: " + str((folder / "report.html").relative_to(here))
    assert "n = 2 seeds (0, 1)" in (folder / "report.html").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert [(row["model"], row["seed"]) for row in results["rows"][::2]] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert results["note"] == "Tiny."
    kept = {name: (folder / name / "results.json").stat().st_mtime_ns for name in ("a-0", "b-0", "b-1")}
    shutil.rmtree(folder / "a-1")
    assert main(command) == 0
    assert {name: (folder / name / "results.json").stat().st_mtime_ns for name in kept} == kept
    again = json.loads((folder / "results.json").read_text())
    assert [without_time(row) for row in again["rows"]] == [without_time(row) for row in results["rows"]]
    capfd.readouterr()
    for wrong, text in (
        (["exp.py:both", "--set", "train.lr=0.5"], "a finished run of the same experiment, got one of another"),
        (["exp.py:both", "--tensorboard"], "a single experiment, got a comparison"),
        (["exp.py:both", "--workers", "0"], "workers"),
        (["exp.py:one", "--workers", "2"], "a comparison, got a single experiment. torchrun"),
        (["exp.py:both", "--out", str(folder / "a-0")], "the directory of a comparison, got that of one run"),
    ):
        assert main(["run", *wrong]) == 2
        assert text in capfd.readouterr().err


def test_data_of_a_comparison_are_made_before_its_runs_begin(here, tiny_store, monkeypatch):
    made = []

    def generate(scenes, path, **options):
        made.append(options)
        shutil.copy(tiny_store, path)

    monkeypatch.setattr("neuroav.data.motionscenes.generate", generate)
    assert main(["run", "exp.py:unmade", "--workers", "2"]) == 0
    assert len(made) == 1
    assert made == [{"workers": 2}]


def without_time(row):
    return {key: value for key, value in row.items() if key != "train_s"}


def test_a_killed_command_goes_on_when_it_is_given_again(here, capfd):
    command = [sys.executable, "-m", "neuroav.cli", "run", "exp.py:two", "--set", "train.epochs=8"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = here / "runs" / "two" / "stage1.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert main(["run", "exp.py:two"]) == 2  # not with other settings
    assert "got one of another" in capfd.readouterr().err
    assert main(["run", "exp.py:two", "--set", "train.epochs=8", "--tensorboard"]) == 0
    assert len(list((here / "runs" / "two" / "tensorboard").iterdir())) == 1
    lines = (here / "runs" / "two" / "metrics.jsonl").read_text().splitlines()
    first = [epoch["index"] for epoch in map(json.loads, lines) if epoch["stage"] == 1]
    assert first == list(range(8))
    assert len(lines) > len(first)


def damaged(tiny_store, here, kind):
    """Put something that is no intact store at ``store.h5``."""
    path = here / "store.h5"
    if kind == "folder":
        path.mkdir()
    elif kind == "partial":
        (here / "store.h5.partial").write_bytes(b"")
    elif kind != "missing":
        whole = tiny_store.read_bytes()
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"a,b\n" * 99}[kind])


def refused(arguments, capfd, text):
    """Run a command that must end in status 2 and one line on stderr that holds ``text``."""
    assert main(arguments) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith(f"neuroav {arguments[0]}: error: ")
    assert text in line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("nofile.py:one", "expected FILE.py:NAME with an existing file, got no file of that name"),
        ("exp.py", "expected FILE.py:NAME"),
        ("exp.py:oen", "Did you mean 'one'?"),
        ("exp.py:broken", "exp.py:broken: expected a file that runs, got KeyError: 'key'"),
        ("exp.py:nothing", "expected a function that returns an Experiment or a Comparison, got NoneType"),
        ("exp.py:other_config", "expected config of type PooledMLPConfig, got MDFTConfig"),
        ("exp.py:other_model", "Did you mean 'pooled'?"),
        ("exp.py:one --set train.epoch=3", "Did you mean 'train.epochs'?"),
        ("exp.py:one --set train.epochs=many", "a value of type int such as 2, got 'many'"),
        ("exp.py:one --set train.epochs", "expected a.b=value"),
        ("exp.py:one --set config.dim=7", "a width divisible by tokens=8, got 7"),
        ("exp.py:one --set train.lr=1e9", "expected a finite loss"),
        ("exp.py:one --set data.scene_bias=0.7", "one that is rendered (0.5), got 0.7"),
        ("exp.py:one --set data.scenes.split=1", "expected a store of MotionScenes"),
        (
            "exp.py:own_store --set data.val_unseen=x --set data.test_unseen=y",
            "unseen classes that have clips, got 'x'",
        ),
        ("exp.py:one --json no/folder.json", "--json: expected a file in an existing folder"),
        ("exp.py:one --out .", "got other files"),
        ("exp.py:one --out exp.py", "expected a directory, got a file"),
        ("exp.py:one --out exp.py/below", "a directory that can be made"),
    ],
)
def test_run_refuses_bad_input_and_leaves_nothing(here, capfd, arguments, text):
    before = listing(here)
    refused(["run", *arguments.split()], capfd, text)
    assert listing(here) == before


@pytest.mark.parametrize("kind", ["missing", "partial", "empty", "truncated", "text", "folder"])
@pytest.mark.parametrize("name", ["one", "own_store"])
def test_run_refuses_a_store_that_is_none(here, tiny_store, capfd, kind, name):
    if name == "one" and kind in ("missing", "partial"):
        pytest.skip("MotionScenes is rendered where it is missing")
    damaged(tiny_store, here, kind)
    before = listing(here)
    refused(["run", f"exp.py:{name}", "--set", "data.store=store.h5", "--out", "deep/run"], capfd, "store.h5: expected")
    assert listing(here) == before


@pytest.mark.parametrize("content", [None, "{", "[]", '{"type": "os:system"}', '{"type": "neuroav.no:such"}'])
def test_eval_refuses_what_is_no_run(here, capfd, content):
    (here / "run").mkdir()
    if content is not None:
        for name in ("config.json", "results.json"):
            (here / "run" / name).write_text(content)
    refused(["eval", "run"], capfd, "expected")


def write_clips(folder, tiny_vectors=("dog", "rain")):
    """A folder with a text file called ``clip.mp4``, its labels and class vectors."""
    folder.mkdir()
    (folder / "clip.mp4").write_text("no film")
    np.savez(folder / "vectors.npz", names=np.array(tiny_vectors), vectors=np.eye(len(tiny_vectors)))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ("file,label\nabsent.mp4,dog\n", "absent.mp4"),
        ("file,label\nclip.mp4,dgo\n", "Did you mean 'dog'?"),
        ("name,class\nclip.mp4,dog\n", "file"),
        ("", "labels.csv"),
        (None, "labels.csv"),
    ],
)
def test_extract_refuses_bad_labels_and_leaves_nothing(here, capfd, labels, text):
    write_clips(here / "clips")
    if labels is not None:
        (here / "labels.csv").write_text(labels)
    before = listing(here)
    arguments = ["extract", "clips", "--labels", "labels.csv", "--vectors", "clips/vectors.npz", "-o", "store.h5"]
    refused([*arguments, "--workers", "1"], capfd, text)
    assert listing(here) == before


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_events_refuses_what_is_no_film_and_leaves_nothing(here, capfd, kind):
    if kind != "missing":
        (here / "clip.mp4").write_bytes({"empty": b"", "text": b"no film"}[kind])
    before = listing(here)
    refused(["events", "clip.mp4", "-o", "events.h5"], capfd, "clip.mp4")
    assert listing(here) == before


def test_a_demo_interrupted_at_once_leaves_nothing(here, monkeypatch, capfd):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("neuroav.data.motionscenes.generate", interrupted)
    before = listing(here)
    assert main(["demo", "--out", "deep/demo"]) == 130
    assert listing(here) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [("--seed -1", "seed"), ("--workers 0", "workers"), ("--out exp.py", "empty directory")],
)
def test_demo_refuses_bad_input_and_leaves_nothing(here, capfd, arguments, text):
    before = listing(here)
    refused(["demo", *arguments.split()], capfd, text)
    assert listing(here) == before


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            PermissionError(13, "Permission denied"),
            1,
            "failed: PermissionError: [Errno 13] Permission denied",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("Unable to allocate 74.5 GiB"), 1, "failed: too little memory: Unable to allocate 74.5 GiB"),
    ],
)
def test_what_the_system_or_the_user_stops_is_one_line_too(monkeypatch, capfd, error, status, line):
    def stop(args):
        raise error

    monkeypatch.setattr(cli, "_eval", stop)
    assert main(["eval", "x"]) == status
    assert capfd.readouterr().err == f"neuroav eval: {line}\n"


def test_an_interrupt_of_what_can_go_on_says_so(monkeypatch, capfd):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", stop)
    assert main(["run", "x"]) == 130
    assert capfd.readouterr().err == "neuroav run: interrupted; the same command goes on from here\n"


@pytest.mark.skipif(shutil.which("head") is None, reason="no head to stop reading")
def test_a_reader_that_stops_is_no_error():
    command = f"'{sys.executable}' -m neuroav.cli table | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout
    assert not done.stderr


def test_json_takes_the_place_of_nothing_but_json(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("clip.mp4", b"film"), ("labels.csv", b"file,label"), ("results.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    before = listing(tmp_path)
    for arguments, text in (
        ("classify clip.mp4 --run run --json clip.mp4", "which is named twice"),
        ("classify clip.mp4 --run run --draw new.mp4 --json ./new.mp4", "which is named twice"),
        ("extract clips --labels labels.csv --vectors v.npz -o new.h5 --json new.h5", "which is named twice"),
        ("eval run --json labels.csv", "a new file, or one of JSON to replace, got labels.csv"),
        ("eval run --json results.json", "which a run or a table holds"),
    ):
        refused(arguments.split(), capfd, text)
        assert listing(tmp_path) == before
    (tmp_path / "mine.json").write_text("{}")
    assert main(["table", "--json", "mine.json"]) == 0
    assert json.loads((tmp_path / "mine.json").read_text())["tables"]


def test_a_bug_keeps_its_traceback(monkeypatch):
    def stop(args):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_eval", stop)
    with pytest.raises(ZeroDivisionError):
        main(["eval", "x"])


def test_version_names_the_kernels(capsys):
    assert main(["--version"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"neuroav {__version__}"
    assert "cpu" in " ".join(rest).lower()
