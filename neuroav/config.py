"""Experiments as frozen objects: what data, which model, how trained; typed overrides; saved as JSON with each run."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from neuroav.checks import NeuroavError, check_range, fail, nearest
from neuroav.data.class_vectors import AsGiven, Optimised
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.data.sample import AsStored, Standardised
from neuroav.data.synthetic import SyntheticConfig
from neuroav.data.windows import Crops, WholeClips
from neuroav.files import load_json
from neuroav.nn.numbers import Float32, Numbers
from neuroav.train.loop import TrainConfig


@dataclass(frozen=True, kw_only=True)
class MotionScenesData:
    """MotionScenes, rendered into ``store`` unless that file is there already.

    Attributes:
        store: path of the feature store.
        scenes: what is rendered.
        scene_bias: how strongly a training class prefers its scene, 0 to 1; must be among ``scenes.scene_biases``.
    """

    store: str = "runs/data/motionscenes-small.h5"
    scenes: MotionScenesConfig = field(default_factory=MotionScenesConfig)
    scene_bias: float = 0.5


@dataclass(frozen=True, kw_only=True)
class StoreData:
    """A feature store made by ``neuroav extract``.

    Attributes:
        store: path of the feature store.
        val_unseen: classes unseen in stage 1; empty: the parts written in the store are used.
        test_unseen: classes unseen until the test.
        seed: draws which clips of seen classes are held out.
    """

    store: str
    val_unseen: tuple[str, ...] = ()
    test_unseen: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulatedData:
    """A published benchmark simulated at its size, drawn into ``store`` unless that file is there already.

    Attributes:
        store: path of the feature store.
        simulate: which benchmark, and how.
    """

    store: str = "runs/data/simulated-ucf-main.h5"
    simulate: SyntheticConfig = field(default_factory=SyntheticConfig)


Data = MotionScenesData | StoreData | SimulatedData
Settings = Mapping[str, Mapping[str, Mapping[str, Any]]]  # data set, model, path in an experiment -> value


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One trained and evaluated model.

    Attributes:
        name: names the run directory.
        data: where clips come from.
        model: entry of ``neuroav.models.MODELS``.
        config: that model's configuration; ``None`` takes its default.
        train: how it is trained.
        seed: fixes initial weights, batches and dropout.
        inputs: what becomes of features before a model sees them.
        steps: which steps of a clip a model sees.
        class_vectors: what becomes of class vectors before a model sees them.
        numbers: in which numbers a model multiplies when it is evaluated.
    """

    name: str
    data: Data
    model: str = "mdft"
    config: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    inputs: Standardised | AsStored = field(default_factory=Standardised)
    steps: WholeClips | Crops = field(default_factory=WholeClips)
    class_vectors: AsGiven | Optimised = field(default_factory=AsGiven)
    numbers: Numbers = field(default_factory=Float32)

    def __post_init__(self) -> None:
        if not isinstance(self.data, Data):
            raise fail("Experiment", "data as MotionScenesData, StoreData or SimulatedData", type(self.data).__name__)
        check_range("Experiment", "seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Experiments whose results make one table and one page.

    Attributes:
        name: names the directory.
        title: of the page.
        note: what a reader of the table has to know.
        runs: folder of each run within the directory, and its experiment; those of one name are one row (mean and
            spread over seeds), or a part of it (other data).
    """

    name: str
    title: str
    note: str = ""
    runs: tuple[tuple[str, Experiment], ...]

    def __post_init__(self) -> None:
        folders = [folder for folder, _ in self.runs]
        if not folders or len(set(folders)) < len(folders):
            raise fail("Comparison", "runs, each in a folder of its own", repr(folders))
        first: dict[str, str] = {}
        for folder, experiment in self.runs:
            twin = first.setdefault(json.dumps(to_json(experiment)), folder)
            if twin != folder:
                remedy = "A run made twice has no spread; does --set give all of them one seed?"
                raise fail("Comparison", "runs that differ", f"{twin} and {folder} alike", remedy)


def load_experiment(reference: str, overrides: Sequence[str] = ()) -> Experiment | Comparison:
    """Call the function named by ``FILE.py:NAME`` and apply ``a.b=value`` overrides, to each run of a comparison.

    Raises:
        InputError: If file, function or an override's path does not exist, a value does not parse, or the file's own
            code raises.
    """
    file, _, name = reference.partition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py" or not name:
        found = "no file of that name" if name and not path.is_file() else "something else"
        raise fail(reference, "FILE.py:NAME with an existing file", found, "Example: experiments/mdft.py:mdft")
    makers = _makers(path)
    if name not in makers:
        what = f"a function of {file} without arguments ({', '.join(makers)})"
        raise fail(reference, what, repr(name), nearest(name, makers))
    with _blaming(reference):
        experiment = makers[name]()
    if isinstance(experiment, Comparison):
        runs = tuple((folder, override(each, overrides)) for folder, each in experiment.runs)
        return dataclasses.replace(experiment, runs=runs)
    if not isinstance(experiment, Experiment):
        raise fail(reference, "a function that returns an Experiment or a Comparison", type(experiment).__name__)
    return override(experiment, overrides)


def load_tables(path: Path) -> dict[str, dict[str, Callable[[], Experiment]]]:
    """``TABLES`` of an experiment file: table, then printed name of a row -> function that makes its experiment.

    Raises:
        InputError: If the file's own code raises, or has no ``TABLES``.
    """
    tables = getattr(_module(path), "TABLES", None)
    if not isinstance(tables, dict):
        raise fail(str(path), "TABLES, a dictionary of tables and their rows", "none")
    return tables


def load_settings(path: Path) -> Settings:
    """``SETTINGS`` of an experiment file: data set, then model -> what :func:`changed` puts into its rows there."""
    return getattr(_module(path), "SETTINGS", {})


def _makers(path: Path) -> dict[str, Any]:
    """Functions defined in a file that need no argument, by name."""
    module = _module(path)
    functions = inspect.getmembers(module, inspect.isfunction)
    return {
        name: function
        for name, function in functions
        if function.__module__ == module.__name__ and not _required(function)
    }


def _module(path: Path) -> ModuleType:
    """Run an experiment file."""
    spec = importlib.util.spec_from_file_location(f"neuroav_experiment_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _blaming(str(path)):
        spec.loader.exec_module(module)
    return module


def _required(function: Any) -> list[str]:
    """Names of the parameters that a call must give."""
    gathering = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in gathering]


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Turn whatever the user's file raises into one line that names the file."""
    try:
        yield
    except NeuroavError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise fail(where, "a file that runs", text, "Mend it there.") from error


def override(experiment: Experiment, assignments: Sequence[str]) -> Experiment:
    """Return a copy with ``a.b=value`` applied; values are parsed by the type of what they replace.

    A list is written ``a.b=one,two``; a text that itself holds a comma is quoted, as in a CSV file.

    Example:
        >>> e = Experiment(name="x", data=StoreData(store="s.h5"))
        >>> override(e, ['data.test_unseen=dog barking,"playing violin, fiddle"']).data.test_unseen
        ('dog barking', 'playing violin, fiddle')
        >>> override(e, ["train.epochs=3", "data.seed=7"]).train.epochs
        3
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise fail("--set", "a.b=value", repr(assignment))
        known = list(_paths(experiment))
        if path not in known:
            raise fail("--set", "the path of a value in the experiment", repr(path), nearest(path, known))
        experiment = _replace(experiment, path.split("."), partial(_parse, text, path))
    return experiment


def changed(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """Return a copy with whole values at dotted paths, objects among them.

    Example:
        >>> from neuroav.train.optim import Step
        >>> e = Experiment(name="x", data=StoreData(store="s.h5"))
        >>> changed(e, {"train.lr": 6e-5, "train.schedule": Step(factor=1.0)}).train.schedule.factor
        1.0
    """
    for path, value in values.items():
        experiment = _replace(experiment, path.split("."), partial(_instead, value))
    return experiment


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted paths of everything inside a configuration."""
    if dataclasses.is_dataclass(node):
        for entry in dataclasses.fields(node):
            yield prefix + entry.name
            yield from _paths(getattr(node, entry.name), f"{prefix}{entry.name}.")


def _instead(value: Any, current: Any) -> Any:
    """The value, whatever was there."""
    return value


def _replace(node: Any, keys: list[str], make: Callable[[Any], Any]) -> Any:
    """A copy of a configuration in which the value at ``keys`` is what ``make`` makes of it."""
    current = getattr(node, keys[0])
    value = _replace(current, keys[1:], make) if len(keys) > 1 else make(current)
    return dataclasses.replace(node, **{keys[0]: value})


def _parse(text: str, path: str, current: Any) -> Any:
    try:
        if isinstance(current, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(current, int | float):
            return type(current)(text)
        if isinstance(current, str):
            return text
        if isinstance(current, tuple):
            parts = [p for p in next(csv.reader([text], skipinitialspace=True, strict=True)) if p]
            return tuple(type(current[0])(p) for p in parts) if current else tuple(parts)
    except (ValueError, KeyError, csv.Error):
        what = f"a value of type {type(current).__name__} such as {current!r}"
        raise fail(f"--set {path}", what, repr(text)) from None
    found = f"a whole object ({type(current).__name__})"
    raise fail(f"--set {path}", "a number, text or list", found, "Choose it in the experiment file.")


def to_json(value: Any) -> Any:
    """Turn a configuration into JSON values; objects carry their type as ``module:Class``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": f"{type(value).__module__}:{type(value).__qualname__}", **fields}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"configuration values are objects, numbers, text and tuples, not {type(value).__name__}")


def from_json(value: Any) -> Any:
    """Undo :func:`to_json`; only dataclasses of this package are made.

    Raises:
        InputError: If a type is none of this package, or its fields are others.
    """
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if not isinstance(value, dict):
        return value
    written = str(value.get("type"))
    module, _, name = written.partition(":")
    if not module.startswith("neuroav."):
        raise fail("configuration", "types of neuroav", repr(module))
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ImportError:
        kind = None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise fail("configuration", "a configuration class", written, "It was saved by another version.")
    try:
        return kind(**{k: from_json(v) for k, v in value.items() if k != "type"})
    except TypeError as error:  # an unknown one, or one that is missing
        raise fail("configuration", f"the fields of {name}", str(error), "It was saved by another version.") from error


def read_experiment(path: Path) -> Experiment:
    """The experiment saved as ``config.json``."""
    experiment = from_json(load_json(path))
    if not isinstance(experiment, Experiment):
        raise fail(str(path), "a saved Experiment", type(experiment).__name__)
    return experiment


def same(a: Experiment, b: Experiment) -> bool:
    """Whether two experiments are the same choice throughout."""
    return json.dumps(to_json(a)) == json.dumps(to_json(b))
