"""Experiments as objects: loaded from files, overridden by typed text, saved and read again."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest
from by_path import load

from neuroav.baselines.ez_avgzl import CosineSimilarity
from neuroav.checks import InputError
from neuroav.config import (
    Comparison,
    Experiment,
    MotionScenesData,
    SimulatedData,
    StoreData,
    from_json,
    load_experiment,
    override,
    read_experiment,
    same,
    to_json,
)
from neuroav.data.types import DataSpec
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import SpikingLayers
from neuroav.models import MODELS, build
from neuroav.neurons.surrogate import ATan
from neuroav.nn.losses import HeadsConfig

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
SPEC = DataSpec(audio_dim=6, video_dim=5, text_dim=300, motion_shape=(2, 4, 4), events_per_step=3.0)
BASE = Experiment(name="base", data=StoreData(store="s.h5"), config=MDFTConfig())


def published():
    """``FILE.py:NAME`` of every function of the experiments folder that makes an experiment."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "-> Experiment:" not in source:
            continue
        found += [
            f"{path}:{name}"
            for name, function in inspect.getmembers(load(path), inspect.isfunction)
            if function.__annotations__.get("return") is Experiment and not inspect.signature(function).parameters
        ]
    return found


PUBLISHED = published()


def narrow(experiment):
    """The experiment's model at width 32, so that building it takes no time."""
    config = experiment.config
    cosine = isinstance(getattr(config, "similarity", None), CosineSimilarity)  # which is as wide as class vectors
    if hasattr(config, "dim") and not cosine:
        config = dataclasses.replace(config, dim=32)
    if isinstance(getattr(config, "heads", None), HeadsConfig):  # not a number of attention heads
        heads = dataclasses.replace(config.heads, hidden=32, shared=min(config.heads.shared, 300))
        config = dataclasses.replace(config, heads=heads)
    return build(experiment.model, SPEC, config)


def test_every_table_row_has_its_function():
    names = {reference.rpartition(":")[2] for reference in PUBLISHED}
    assert {"mdft", "quick", "table2_snn", "table3_without_crm", "table4_without_triplet", "fig5_audio_only"} <= names


@pytest.mark.parametrize("reference", PUBLISHED, ids=[Path(r).name for r in PUBLISHED])
def test_every_experiment_is_saved_read_again_and_built(reference, tmp_path):
    experiment = load_experiment(reference)
    (tmp_path / "config.json").write_text(json.dumps(to_json(experiment)), encoding="utf-8")
    again = read_experiment(tmp_path / "config.json")
    assert again == experiment
    assert same(again, experiment)
    assert not same(again, dataclasses.replace(experiment, seed=experiment.seed + 1))
    assert sum(p.numel() for p in narrow(experiment).parameters()) > 0


def test_every_system_is_compared_on_both_data_sets():
    compared = load_experiment(f"{FOLDER / 'compare.py'}:all")
    for kind in (MotionScenesData, SimulatedData):
        runs = [experiment for _, experiment in compared.runs if isinstance(experiment.data, kind)]
        assert {experiment.model for experiment in runs} == set(MODELS)
        for experiment in runs:
            if experiment.seed == 0:
                build(experiment.model, SPEC, experiment.config)
    again = load_experiment(f"{FOLDER / 'compare.py'}:motionscenes", ["train.epochs=3"])
    assert {experiment.train.epochs for _, experiment in again.runs} == {3}


@pytest.mark.parametrize("folders", [(), ("a", "a")])
def test_a_comparison_needs_a_folder_for_each_run(folders):
    with pytest.raises(InputError, match="runs, each in a folder of its own"):
        Comparison(name="c", title="C", runs=tuple((folder, BASE) for folder in folders))


def test_a_comparison_makes_no_run_twice(tmp_path):
    """Three runs of one seed would have a spread of 0."""
    seeds = tuple((f"seed-{seed}", dataclasses.replace(BASE, seed=seed)) for seed in range(3))
    assert len(Comparison(name="c", title="C", runs=seeds).runs) == 3
    with pytest.raises(InputError, match=r"runs that differ, got seed-1 and again alike"):
        Comparison(name="c", title="C", runs=(*seeds, ("again", seeds[1][1])))
    with pytest.raises(InputError, match="does --set give all of them one seed"):
        load_experiment(f"{FOLDER / 'compare.py'}:motionscenes", ["seed=5"])


@pytest.mark.parametrize("name", ["pooled", "tcaf"])
def test_published_features_have_their_runs_of_three_seeds(name):
    reference, data = f"{FOLDER / 'published.py'}:{name}", ["data.store=mine.h5"]
    runs = load_experiment(f"{reference}_seeds", data).runs
    assert [experiment.seed for _, experiment in runs] == [0, 1, 2]
    assert {dataclasses.replace(experiment, seed=0) for _, experiment in runs} == {load_experiment(reference, data)}


def test_names_of_experiments_are_folders_of_their_own():
    names = [load_experiment(reference).name for reference in PUBLISHED]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("seed=3", "seed", 3),
        ("name=a=b", "name", "a=b"),
        ("train.lr=1e-3", "train.lr", 1e-3),
        ("train.lr=1", "train.lr", 1.0),
        ("train.schedule.patience=7", "train.schedule.patience", 7),
        ("config.heads.loss.margin=0.5", "config.heads.loss.margin", 0.5),
        ("config.motion.learn_tau=false", "config.motion.learn_tau", False),
        ("config.motion.delays=0,2,5", "config.motion.delays", (0, 2, 5)),
        ("config.modalities=audio", "config.modalities", ("audio",)),
        ("config.motion.reset=soft", "config.motion.reset", "soft"),
        ("data.val_unseen=long jump,dog", "data.val_unseen", ("long jump", "dog")),
        ("data.val_unseen=", "data.val_unseen", ()),
    ],
)
def test_a_value_is_parsed_by_the_type_of_what_it_replaces(assignment, path, value):
    found = override(BASE, [assignment])
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value
    assert type(found) is type(value)


def test_later_assignments_win_and_nothing_else_moves():
    changed = override(BASE, ["train.epochs=3", "config.dim=64", "train.epochs=4"])
    train = dataclasses.replace(BASE.train, epochs=4)
    assert changed == dataclasses.replace(BASE, train=train, config=MDFTConfig(dim=64))
    assert BASE.train.epochs == 50


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("train.epoch=3", r"got 'train.epoch'. Did you mean 'train.epochs'\?"),
        ("trian.epochs=3", r"Did you mean 'train.epochs'\?"),
        ("lr=3", r"path of a value in the experiment, got 'lr'"),
        ("train.epochs.x=3", r"Did you mean 'train.epochs'\?"),
        ("train..epochs=3", r"Did you mean 'train.epochs'\?"),
        ("train.epochs", "expected a.b=value"),
        ("=3", "got ''"),
        ("train.epochs=3.5", "a value of type int such as 50, got '3.5'"),
        ("train.lr=fast", "a value of type float such as 0.0001, got 'fast'"),
        ("config.motion.learn_tau=1", "a value of type bool such as True, got '1'"),
        ("config.motion.delays=0,x", r"a value of type tuple such as \(0, 1\)"),
        ("train.protocol=OneStage", r"got a whole object \(TwoStage\). Choose it in the experiment file"),
        ("train.epochs=0", r"TrainConfig: expected epochs in \[1, inf\], got 0"),
        ("config.dim=0", r"MDFTConfig: expected dim in \[1, inf\], got 0"),
        ("config.motion.delays=0,-1", "SpikingLayers: expected delays of 0 or more steps"),
        ("seed=-1", r"Experiment: expected seed in \[0, inf\], got -1"),
    ],
)
def test_a_wrong_assignment_says_what_is_wrong(assignment, text):
    with pytest.raises(InputError, match=text) as caught:
        override(BASE, [assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("def a():\n    return 3", "a", "expected a function that returns an Experiment or a Comparison, got int"),
        (
            "def mdft():\n    pass\ndef needs(x):\n    pass",
            "mdtf",
            r"without arguments \(mdft\).*Did you mean 'mdft'\?",
        ),
        ("from os import getcwd", "getcwd", "expected a function of .* got 'getcwd'"),
        (
            "def a():\n    return 1 / 0",
            "a",
            r"py:a: expected a file that runs, got ZeroDivisionError: division by zero",
        ),
        ("raise RuntimeError('two\\nlines')", "a", r"e\.py: expected a file that runs, got RuntimeError: two lines"),
        ("def a(:", "a", r"expected a file that runs, got SyntaxError: .*line 1"),
        ("import no_such_module", "a", "got ModuleNotFoundError: No module named 'no_such_module'"),
        ("from neuroav.checks import fail\nraise fail('here', 'x', 'y')", "a", "^here: expected x, got y"),
    ],
)
def test_trouble_in_an_experiment_file_is_one_line_that_names_it(tmp_path, source, name, text):
    (tmp_path / "e.py").write_text(source + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=text) as caught:
        load_experiment(f"{tmp_path / 'e.py'}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["none.py:mdft", "{}/e.py", "{}/e.py:", "{}:mdft", "{}/e.txt:mdft"])
def test_a_reference_that_names_no_function_is_refused(tmp_path, reference):
    for name in ("e.py", "e.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"expected FILE\.py:NAME with an existing file"):
        load_experiment(reference.format(tmp_path))


def test_only_configurations_of_this_package_are_read():
    saved = to_json(BASE)
    for module in ("os:path", "subprocess:Popen", "neuroav_evil:X", "", 3):
        with pytest.raises(InputError, match=r"^configuration: expected types of neuroav, got"):
            from_json(saved | {"train": {"type": module}})
    for module in ("neuroav.nothing:X", "neuroav.cli:main", "neuroav.cli:"):
        with pytest.raises(InputError, match=r"^configuration: expected a configuration class, got"):
            from_json(saved | {"train": {"type": module}})
    with pytest.raises(InputError, match=r"^configuration: expected"):
        from_json({"no": "type"})
    for other in ({"type": saved["type"], "name": "x"}, saved | {"colour": "blue"}):
        with pytest.raises(InputError, match="the fields of Experiment"):
            from_json(other)


def test_a_saved_file_must_hold_an_experiment(tmp_path):
    (tmp_path / "c.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(InputError, match="expected a file of one JSON object, got JSON of another kind"):
        read_experiment(tmp_path / "c.json")


def test_nested_choices_survive_saving():
    motion = SpikingLayers(delays=(0, 3), surrogate=ATan(5.0), reset="soft")
    config = MDFTConfig(modalities=("video",), motion=motion, scene=None, heads=HeadsConfig(shared=9))
    experiment = Experiment(name="x", data=MotionScenesData(scene_bias=0.1), config=config)
    assert from_json(json.loads(json.dumps(to_json(experiment)))) == experiment


def test_what_is_no_configuration_is_not_saved():
    with pytest.raises(TypeError, match="not set"):
        to_json(dataclasses.replace(BASE, config={1, 2}))


@pytest.mark.parametrize("data", [None, "store.h5"])
def test_an_experiment_needs_data(data):
    with pytest.raises(InputError, match="Experiment: expected data as MotionScenesData, StoreData or SimulatedData"):
        Experiment(name="x", data=data)
