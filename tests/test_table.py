"""``neuroav table``: no row of any paper rots, every key gives a table, bad input is refused before any training."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from latex import problems

from neuroav import run
from neuroav.baselines.sacma import SACMAConfig
from neuroav.baselines.tcaf import TCAFConfig
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.config import Experiment, MotionScenesData, StoreData, load_tables, to_json
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.data.store import ClipRecord, StoreWriter
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FeatureEvents, FrameEvents
from neuroav.report.published import PublishedRow, PublishedTable, published, published_keys
from neuroav.table.plan import (
    comparison,
    experiments_folder,
    experiments_of,
    makers_of,
    seconds_of,
    settings_of,
    try_out,
)
from neuroav.table.size import SIZES
from neuroav.table.source import Source, choose_sources
from neuroav.task import prepare
from neuroav.train.loop import OneStage, TrainConfig, TwoStage

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
FILES = sorted(path for path in EXPERIMENTS.glob("*.py") if re.search("^TABLES = ", path.read_text(), re.MULTILINE))
ROWS = [(f"{p.stem}.{table}", row) for p in FILES for table, rows in load_tables(p).items() for row in rows]
KEYS = list(dict.fromkeys(key for key, _ in ROWS))


@pytest.fixture(scope="module")
def scenes(tiny_store):
    """MotionScenes ``tiny`` as a source of data."""
    data = MotionScenesData(store=str(tiny_store), scenes=MotionScenesConfig(size="tiny"))
    return Source("motionscenes", "ucf", data, "MotionScenes tiny.")


@pytest.fixture(scope="module")
def tasks(scenes):
    """Open data by class vectors, so that each is prepared once."""
    found = {}

    def task(vectors):
        return found.setdefault(str(vectors), prepare(scenes.data, vectors))

    return task


@pytest.fixture(scope="module")
def tried():
    """Choices that were tried out already: the same row of several tables once."""
    return set()


@pytest.fixture
def here(tmp_path, tiny_store, monkeypatch):
    """A working directory where MotionScenes ``tiny`` is rendered, and runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "data").mkdir(parents=True)
    shutil.copy(tiny_store, tmp_path / "runs" / "data" / "motionscenes-tiny.h5")

    def run_many(experiments, workers, title=""):
        return [
            run.load_json(path / "results.json") if (path / "results.json").exists() else run.run_experiment(one, path)
            for one, path in experiments
        ]

    monkeypatch.setattr(run, "run_many", run_many)
    return tmp_path


# ------------------------------------------------------------------------------------------------- no row rots


@pytest.mark.parametrize(("key", "row"), ROWS)
def test_each_row_builds_its_model_and_takes_two_steps(key, row, scenes, tasks, tried):
    """Steps with losses that are not finite are refused by ``try_out`` itself."""
    paper, _, table = key.partition(".")
    makers = load_tables(EXPERIMENTS / f"{paper}.py")[table]
    made = makers[row]()
    assert isinstance(made, Experiment)
    small = experiments_of(makers, scenes, "tiny")[row]
    choice = json.dumps(to_json(replace(small, name="")))
    if choice not in tried:
        tried.add(choice)
        task = tasks(small.class_vectors)
        assert seconds_of(small, task, try_out(small, task)) > 0


# ------------------------------------------------------------------------------------------------- sizes and data


def row(config, model="mdft", **changes):
    return Experiment(name="x", data=StoreData(store="x"), model=model, config=config, **changes)


def test_a_budget_shrinks_all_rows_but_what_they_differ_in():
    rows = {
        "mdft": row(MDFTConfig()),
        "tcaf 1": row(TCAFConfig(layers=1), "tcaf"),
        "tcaf 5": row(TCAFConfig(layers=5), "tcaf"),
        "sacma": row(SACMAConfig(layers=5), "sacma"),
    }
    small = SIZES["small"].fit(rows)
    assert (small["mdft"].config.dim, small["mdft"].config.heads.hidden) == (128, 128)
    assert [small[name].config.layers for name in ("tcaf 1", "tcaf 5", "sacma")] == [1, 5, 2]
    assert {one.train.epochs * one.train.batches for one in small.values()} == {300}
    assert all(isinstance(one.train.protocol, OneStage) for one in small.values())
    rates = {rate: row(TCAFConfig(), "tcaf", train=TrainConfig(lr=rate, batch_size=2)) for rate in (0.1, 0.2)}
    trained = {name: one.train for name, one in SIZES["small"].fit(rates | rows).items()}
    assert [trained[name].lr for name in (0.1, 0.2, "mdft")] == [0.1, 0.2, 1e-3]
    assert {one.batch_size for one in trained.values()} == {64}
    full = SIZES["full"].fit(rows)
    assert full == rows
    assert isinstance(full["mdft"].train.protocol, TwoStage)


def test_events_come_from_where_the_data_have_them(scenes):
    makers = {"a": lambda: row(MDFTConfig(events=FeatureEvents())), "b": lambda: row(None)}
    assert all(isinstance(experiments_of(makers, scenes, "tiny")[name].config.events, FrameEvents) for name in "ab")
    printed = PublishedTable(key="k.t", paper="k", caption="", columns=("ucf.hm",), rows=(PublishedRow("a", {}),))
    (simulated,) = choose_sources(printed, "tiny")
    found = experiments_of(makers, simulated, "tiny")
    assert all(isinstance(found[name].config.events, FeatureEvents) for name in "ab")
    assert list(found) == ["a", "b"]  # no controls without scenes


SAME_ROWS = {"Attention Fusion": "AttentionFusion", "Perceiver": "Perceiver", "CJME": "CJME"}
SAME_ROWS |= {"AVGZSLNet": "AVGZSLNet", "AVCA": "AVCA", "TCAF": "TCaF"}


@pytest.mark.parametrize(("data_set", "table"), [("vggsound", 1), ("ucf", 2), ("activitynet", 3)])
def test_settings_are_those_of_the_data_set(data_set, table):
    """[ez] prints the rows of [tcaf]'s Table 1 again, a table a data set, with settings of its own in its file."""
    ours = at_full_size("tcaf.table1", data_set)
    again = at_full_size(f"ez_avgzl.table{table}", data_set)
    assert set(ours) == set(SAME_ROWS)
    for row, name in SAME_ROWS.items():
        assert to_json(replace(ours[row], name="")) == to_json(replace(again[name], name=""))


def at_full_size(key, data_set):
    printed = published(key)
    (source,) = choose_sources(printed, "full", datasets=[data_set])
    return experiments_of(makers_of(printed), source, "full", settings=settings_of(printed, data_set))


def test_controls_follow_the_rows_unless_they_are_rows(scenes):
    makers = {"MDFT": lambda: row(MDFTConfig()), "W/o MIM": lambda: row(MDFTConfig(motion=None))}
    found = experiments_of(makers, scenes, "small")
    assert list(found) == [
        "MDFT",
        "W/o MIM",
        "control: MLP twin (EGM+MLP)",
        "control: pooled events",
        "control: events only",
    ]
    assert all(one.name == name and one.data == scenes.data for name, one in found.items())
    plan = comparison("k.t", scenes, {"A b": found["MDFT"], "a-b": found["W/o MIM"]}, (0, 7), "")
    assert [folder for folder, _ in plan.runs] == ["a-b-0", "a-b-2-0", "a-b-7", "a-b-2-7"]
    assert [one.seed for _, one in plan.runs] == [0, 0, 7, 7]


def small_store(path, **settings):
    """A feature store of two clips with these settings."""
    with StoreWriter(
        path, class_names=["a", "b"], class_vectors=np.eye(2, 3, dtype=np.float32), settings=settings
    ) as w:
        for name in "ab":
            values = np.ones((2, 3), np.float32)
            t_s = np.arange(2, dtype=np.float32)
            w.write(ClipRecord(name=name, label=name, part="train", t_s=t_s, video=values, audio=values))
    return str(path)


def test_data_are_what_was_asked_for(tmp_path):
    printed = published("mdft.table1")
    ucf = small_store(tmp_path / "ucf.h5", data_set="ucf", features="main", split="main")
    names = [
        [(s.name, s.data_set) for s in choose_sources(printed, "small", **asked)]
        for asked in (
            {},
            {"datasets": ["vggsound", "activitynet"]},
            {"stores": [f"ucf={ucf}"]},
            {"stores": [f"ucf={ucf}"], "data": "simulated"},
            {"stores": [f"ucf={ucf}"], "datasets": ["vggsound"]},
            {"data": "motionscenes"},
            {"data": "motionscenes", "datasets": ["vggsound"]},
            {"data": ucf},
        )
    ]
    assert names == [
        [("simulated-ucf", "ucf")],
        [("simulated-vggsound", "vggsound"), ("simulated-activitynet", "activitynet")],
        [("ucf", "ucf")],
        [("ucf", "ucf")],
        [("ucf", "ucf"), ("simulated-vggsound", "vggsound")],
        [("motionscenes", "ucf")],
        [("motionscenes", "vggsound")],
        [("ucf", "ucf")],
    ]
    (source,) = choose_sources(printed, "small", stores=[f"ucf={ucf}"])
    assert source.sentence == "Published features of ucf: main, main split."
    assert "mean nothing" in choose_sources(printed, "small")[0].sentence
    (scenes,) = choose_sources(printed, "small", data="motionscenes")
    assert scenes.sentence.startswith("MotionScenes small, scene bias 0.5, is another data set")
    assert "scene bias 0.9, is" in replace(scenes, data=replace(scenes.data, scene_bias=0.9)).sentence


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"stores": ["ucf=none.h5"]}, "got no such file. Make one with neuroav extract"),
        ({"stores": ["ucf"]}, "NAME=FILE"),
        ({"stores": ["ufc={ucf}"]}, "Did you mean 'ucf'?"),
        ({"stores": ["vggsound={ucf}"]}, "a store of the published features of vggsound, got one of ucf"),
        ({"stores": ["ucf={own}"]}, "got one of clips of another kind"),
        ({"datasets": ["vgsound"]}, "Did you mean 'vggsound'?"),
        ({"data": "motionscene"}, "Did you mean 'motionscenes'?"),
        ({"data": "motionscenes", "datasets": ["ucf", "vggsound"]}, "one data set to print"),
    ],
)
def test_other_data_are_refused(tmp_path, asked, text):
    files = {
        name: small_store(tmp_path / f"{name}.h5", **({"data_set": name} if name == "ucf" else {}))
        for name in ("ucf", "own")
    }
    asked = {
        k: [v.format(**files) for v in values] if isinstance(values, list) else values for k, values in asked.items()
    }
    with pytest.raises(InputError, match=re.escape(text)):
        choose_sources(published("mdft.table1"), "small", **asked)


# ------------------------------------------------------------------------------------------------- the command


COMMAND = ["table", "mdft.table2", "--data", "motionscenes", "--size", "tiny", "--seeds", "3", "--workers", "1"]


@pytest.mark.skipif("mdft.table2" not in KEYS, reason="experiments/mdft.py has no TABLES")
def test_a_table_is_run_written_and_goes_on(here, monkeypatch, capfd):
    pages = []
    monkeypatch.setattr("neuroav.table.result.write_report", pages.append)  # tested by itself, and slow
    assert main([*COMMAND, "--json", "out.json"]) == 0
    shown = capfd.readouterr()
    folder = here / "runs" / "table" / "mdft.table2-motionscenes-tiny"
    assert "4 of 4 printed rows, seed 3: 7 runs in" in shown.err
    assert re.search(r"mdft.table2 on motionscenes: 7 runs to do, about \d+ s on one process", shown.err)
    assert {"table.md", "table.csv", "table.tex", "table.json", "report.html"} <= {p.name for p in folder.iterdir()}
    saved = json.loads((folder / "table.json").read_text())
    assert saved == json.loads((here / "out.json").read_text())
    assert (saved["key"], saved["size"], saved["seeds"]) == ("mdft.table2", "tiny", [3])
    assert [table["test_set"] for table in saved["tables"]] == ["biased", "shuffled"]
    results = json.loads((folder / "motionscenes" / "results.json").read_text())["rows"]
    for table in saved["tables"]:
        names = [one["row"] for one in table["rows"]]
        assert names[:4] == ["MLP", "EGM+MLP", "SNN", "EGM+SNN"]
        assert all(name.startswith("control: ") for name in names[4:])
        assert len(names) == 7
        for one in table["rows"]:
            (own,) = [r for r in results if (r["model"], r["test_set"]) == (one["row"], table["test_set"])]
            assert one["ours"]["zsl"] == {"mean": own["zsl"], "sd": None, "n": 1}
    assert "One seed has no spread" in shown.out
    assert "follows" in shown.out
    assert "another data set" in (folder / "table.md").read_text()
    assert "motionscenes/report.html" in (folder / "report.html").read_text()
    assert pages == [Path("runs", "table", folder.name, "motionscenes")]
    (said,) = re.findall(r"`(neuroav table .*?)`", (folder / "table.md").read_text())
    assert said == " ".join(["neuroav", *COMMAND[:-2]])

    before = {p: p.stat().st_mtime_ns for p in (folder / "motionscenes").glob("*/results.json")}
    shutil.rmtree(folder / "motionscenes" / "snn-3")
    assert main(COMMAND) == 0
    assert "motionscenes: 1 runs to do" in capfd.readouterr().err
    after = {p: p.stat().st_mtime_ns for p in (folder / "motionscenes").glob("*/results.json")}
    assert [p.parent.name for p in before if before[p] != after[p]] == ["snn-3"]
    assert main(COMMAND) == 0
    assert "every run is there" in capfd.readouterr().err
    assert main([*COMMAND, "--out", str(folder / "motionscenes")]) == 2
    assert "got that of a run or a comparison" in capfd.readouterr().err
    assert main(["table", "mdft.table3", *COMMAND[2:], "--out", str(folder)]) == 2
    assert "the directory of mdft.table3, got that of mdft.table2" in capfd.readouterr().err


def scored(plan):
    """Result rows as a comparison gives them, without training."""
    return [
        {
            "model": one.name,
            "test_set": "test",
            "seed": one.seed,
            **dict.fromkeys(("seen", "unseen", "hm", "zsl"), 0.1 + 0.01 * i),
            "layers": [],
        }
        for i, (_, one) in enumerate(plan.runs)
    ]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_gives_a_table(key, tmp_path, monkeypatch, capfd):
    """Rows train in the first test of this file; here their results are made up."""
    monkeypatch.chdir(tmp_path)
    plans = []

    def run_comparison(plan, out, workers):
        plans.append(plan)
        out.mkdir(parents=True)
        return {"rows": scored(plan)}

    for name, stub in (("run_comparison", run_comparison), ("expected_seconds", lambda *_: 1.0)):
        monkeypatch.setattr(f"neuroav.table.command.{name}", stub)
    monkeypatch.setattr("neuroav.table.result.write_report", id)
    assert main(["table", key, "--seeds", "0,1", "--size", "tiny", "--out", "t", "--json", "t.json"]) == 0
    printed, ours = published(key), makers_of(published(key))
    (plan,) = plans
    assert len(plan.runs) == 2 * len(ours)
    assert len({json.dumps(to_json(replace(one, name=""))) for _, one in plan.runs}) == len(plan.runs)
    (table,) = json.loads((tmp_path / "t.json").read_text())["tables"]
    assert [one["row"] for one in table["rows"]] == [one.name for one in printed.rows]
    assert {one["row"] for one in table["rows"] if one["ours"]} == set(ours)
    assert table["order"] == "Order of rows: not compared, as the clips are simulated."
    text = capfd.readouterr().out
    assert all(name in text for name in ours)
    command, latex = (tmp_path / "t" / "table.tex").read_text().split("\n", 1)
    assert command == f"% neuroav table {key} --size tiny --seeds 0,1"
    assert problems(latex) == []


def test_each_source_has_the_settings_of_its_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plans = {}

    def run_comparison(plan, out, workers):
        out.mkdir(parents=True)
        plans[out.name] = dict(plan.runs)
        return {"rows": scored(plan)}

    for name, stub in (("run_comparison", run_comparison), ("expected_seconds", lambda *_: 1.0)):
        monkeypatch.setattr(f"neuroav.table.command.{name}", stub)
    monkeypatch.setattr("neuroav.table.result.write_report", id)
    names = ("vggsound", "ucf", "activitynet")
    options = [word for name in names for word in ("--dataset", name)]
    assert main(["table", "mdft.table1", "--size", "full", "--seeds", "0", "--out", "t", *options]) == 0
    dropouts = [plans[f"simulated-{name}"]["mdft-0"].config.dropout for name in names]
    assert dropouts == [0.20, 0.25, 0.10]  # section 3.4 of [mdft]
    layers = [plans[f"simulated-{name}"]["tcaf-0"].config.layers for name in names]
    assert layers == [8, 5, 8]  # released, for SeLaVi features


def test_without_a_key_all_are_listed(capfd, tmp_path):
    assert main(["table", "--json", str(tmp_path / "all.json")]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[:-1]] == list(published_keys())
    entries = json.loads((tmp_path / "all.json").read_text())["tables"]
    assert {entry["key"] for entry in entries if entry["ours"]} == set(KEYS)
    assert all(entry["seconds"] > 0 for entry in entries if entry["ours"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--data motionscenes", "a KEY with options, got --data"),
        ("mdft.tabel2", "Did you mean 'mdft.table2'?"),
        ("mdft.table2 --seeds 0,0", "different whole numbers"),
        ("mdft.table2 --seeds 1,-1", "different whole numbers"),
        ("mdft.table2 --seeds many", "different whole numbers"),
        ("mdft.table2 --workers 0", "workers"),
        ("mdft.table2 --store ucf=none.h5", "no such file"),
        ("mdft.table2 --size tiny --set train.epoch=3", "Did you mean 'train.epochs'?"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(here, capfd, arguments, text):
    before = sorted(here.rglob("*"))
    assert main(["table", *arguments.split()]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert text in shown.err.splitlines()[-1]
    assert sorted(here.rglob("*")) == before


def test_a_row_that_cannot_read_the_data_is_named_before_training(here, capfd):
    """Sound on steps of its own, which MDFT does not read."""
    rng = np.random.default_rng(0)
    names = list("abcdefgh")
    parts = {"train": "abcd", "val_seen": "abcd", "val_unseen": "ef", "test_seen": "abcd", "test_unseen": "gh"}
    with StoreWriter("own.h5", class_names=names, class_vectors=np.eye(8, dtype=np.float32), settings={}) as writer:
        for part, labels in parts.items():
            for label in labels:
                audio, video = (rng.random((n, 3)).astype(np.float32) for n in (4, 6))
                times = [np.arange(n, dtype=np.float32) / n for n in (4, 6)]
                writer.write(
                    ClipRecord(
                        name=f"{part}-{label}",
                        label=label,
                        part=part,
                        t_s=times[1],
                        video=video,
                        audio=audio,
                        audio_t_s=times[0],
                    )
                )
    assert main(["table", "mdft.table2", "--data", "own.h5", "--size", "tiny", "--seeds", "0"]) == 2
    shown = capfd.readouterr()
    assert (
        "row 'MLP': expected a model that can read own.h5, got MDFT: expected audio and video on the same steps"
        in shown.err
    )
    assert "No row was trained." in shown.err
    assert not (here / "runs" / "table").exists()


def test_without_experiments_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert experiments_folder() == EXPERIMENTS
    monkeypatch.setattr("neuroav.table.plan.__file__", str(tmp_path / "site" / "neuroav" / "table" / "plan.py"))
    with pytest.raises(InputError, match="Run in a checkout"):
        experiments_folder()
    (tmp_path / "experiments").mkdir()
    shutil.copy(EXPERIMENTS / "mdft.py", tmp_path / "experiments")
    assert experiments_folder() == Path("experiments")


@pytest.mark.skipif("mdft.table2" not in KEYS, reason="experiments/mdft.py has no TABLES")
def test_the_heading_names_the_scene_bias_that_was_asked_for(here, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("neuroav.table.command._announce_time", stop)
    assert main([*COMMAND, "--set", "data.scene_bias=0.9"]) == 130
    said = capsys.readouterr().err
    assert "MotionScenes tiny, scene bias 0.9, is another data set" in said
    assert "Changed: data.scene_bias=0.9." in said


def test_files_that_are_not_of_a_table_stay_and_seeds_are_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("my own")
    command = ["table", "tsart.table5", "--size", "tiny", "--seeds", "0"]
    assert main([*command, "--out", "mine"]) == 2
    assert "expected an empty directory or that of a table, got report.html" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["my own"]
    assert main([*command, "--out", "mine/report.html"]) == 2
    assert "error: --out: expected a folder, got mine/report.html, where" in capsys.readouterr().err
    assert main([*command, "--out", "new", "--set", "seed=7"]) == 2
    assert "Say --seeds" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_table_stopped_while_it_is_written_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run_comparison(plan, out, workers):
        out.mkdir(parents=True, exist_ok=True)
        return {"rows": scored(plan)}

    for name, stub in (("run_comparison", run_comparison), ("expected_seconds", lambda *_: 1.0)):
        monkeypatch.setattr(f"neuroav.table.command.{name}", stub)
    monkeypatch.setattr("neuroav.table.result.write_report", id)
    command = ["table", "tsart.table5", "--size", "tiny", "--seeds", "0", "--out", "t"]

    def stop(path, text):
        (path.parent / "table.md").write_text(text)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("neuroav.table.result.save_text", stop)
        assert main(command) == 130
    assert main(command) == 0
