"""The runs of a table: each row's experiment on other data, tried out before anything is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from neuroav import models
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.checks import NeuroavError, fail
from neuroav.config import (
    Comparison,
    Data,
    Experiment,
    MotionScenesData,
    StoreData,
    changed,
    load_settings,
    load_tables,
    override,
    to_json,
)
from neuroav.data.store import Store
from neuroav.demo import slug
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FeatureEvents, FrameEvents
from neuroav.report.published import PublishedTable
from neuroav.run import finished
from neuroav.table.size import SIZES
from neuroav.table.source import Source
from neuroav.task import Task, prepare
from neuroav.train.group import joined
from neuroav.train.loop import TwoStage
from neuroav.train.optim import adam
from neuroav.train.seed import Streams, generator, seed_torch
from neuroav.train.step import Stepper, draw

CONTROL = "control: "


def experiments_folder() -> Path:
    """``experiments/`` beside the package, or in the working directory.

    Raises:
        InputError: If it is in neither place.
    """
    places = (Path(__file__).resolve().parents[2] / "experiments", Path("experiments"))
    for place in places:
        if (place / "mdft.py").is_file():
            return place
    remedy = "Run in a checkout of neuroav's repository, which has it; an installed package has not."
    raise fail("neuroav table", "the folder experiments", "none here", remedy)


def makers_of(printed: PublishedTable) -> dict[str, Any]:
    """Printed name of a row -> function that makes its experiment, for the rows we have."""
    path, name = _file_of(printed)
    found = load_tables(path).get(name)
    if not found:
        raise fail(str(path), f"rows of {name} in TABLES", "none")
    return found


def settings_of(printed: PublishedTable, data_set: str) -> Mapping[str, Mapping[str, Any]]:
    """What a data set's settings have of their own, by model: paths in an experiment, and values."""
    path, _ = _file_of(printed)
    return load_settings(path).get(data_set, {})


def _file_of(printed: PublishedTable) -> tuple[Path, str]:
    """The file with a table's experiments, and the table's name there."""
    paper, _, name = printed.key.partition(".")
    path = experiments_folder() / f"{paper}.py"
    if not path.is_file():
        raise fail(printed.key, f"its experiments in {path}", "no such file")
    return path, name


def experiments_of(
    makers: dict[str, Any],
    source: Source,
    size: str,
    overrides: Sequence[str] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Experiment]:
    """Each row's experiment on ``source``, at ``size``, by name; with MotionScenes also its controls.

    ``settings`` are those of :func:`settings_of`, put into the rows of each model.
    """
    budget, motion = SIZES[size], _has_motion(source.data)
    rows = {name: _on(name, maker(), source, motion) for name, maker in makers.items()}
    rows = {name: changed(row, (settings or {}).get(row.model, {})) for name, row in rows.items()}
    rows = budget.fit(rows)
    if isinstance(source.data, MotionScenesData):
        there = [_choice(row) for row in rows.values()]
        for name, control in budget.controls(source.data).items():
            if _choice(control) not in there:
                rows[CONTROL + name] = replace(control, name=CONTROL + name)
    return {name: override(row, overrides) for name, row in rows.items()}


def _on(name: str, row: Experiment, source: Source, motion: bool) -> Experiment:
    """The row's experiment on other data, with events from where these have them."""
    if not isinstance(row, Experiment):
        raise fail(f"row {name!r}", "a function that returns an Experiment", type(row).__name__)
    config = models.model_class(row.model).Config() if row.config is None else row.config
    if isinstance(config, MDFTConfig) and isinstance(config.events, FrameEvents | FeatureEvents):
        config = replace(config, events=_events(config.events, motion))
    elif isinstance(config, PooledMLPConfig) and not motion:
        config = replace(config, inputs=tuple(each for each in config.inputs if each != "motion"))
    return replace(row, name=name, data=source.data, config=config)


def _events(events: FrameEvents | FeatureEvents, motion: bool) -> FrameEvents | FeatureEvents:
    if motion:
        return FrameEvents()
    return events if isinstance(events, FeatureEvents) else FeatureEvents()


def _has_motion(data: Data) -> bool:
    if not isinstance(data, StoreData):
        return isinstance(data, MotionScenesData)
    with closing(Store(data.store)) as store:
        return store.load(np.arange(1)).motion is not None


def _choice(row: Experiment) -> Any:
    """All that an experiment chooses, but its name and seed."""
    return to_json(replace(row, name="row", seed=0))


def comparison(key: str, source: Source, rows: dict[str, Experiment], seeds: Sequence[int], note: str) -> Comparison:
    """All runs of a table on one source, a folder for each row and seed; seed by seed, so that all rows grow alike."""
    folders: dict[str, str] = {}
    for name in rows:
        folder = plain = slug(name) or "row"
        number = 1
        while folder in folders.values():
            number += 1
            folder = f"{plain}-{number}"
        folders[name] = folder
    runs = tuple((f"{folders[name]}-{s}", replace(row, seed=s)) for s in seeds for name, row in rows.items())
    return Comparison(name=f"{key} on {source.name}", title=f"{key} on {source.name}", note=note, runs=runs)


# ------------------------------------------------------------------------------------------------ before training


class Pace(NamedTuple):
    """Seconds of a training step, and of the evaluation of a clip."""

    step_s: float
    clip_s: float


def try_out(experiment: Experiment, task: Task) -> Pace:
    """Build a row's model, take two training steps, evaluate the batch; returns how long they took in this process.

    Raises:
        InputError: If the model can't read these data.
    """
    config, labels = experiment.train, task.store.labels
    parts = next(iter(task.parts.values()))
    some = np.sort(parts["train"][np.linspace(0, len(parts["train"]) - 1, min(256, len(parts["train"]))).astype(int)])
    statistics = experiment.inputs.statistics(task.load(some))
    data = task.data(some, statistics, experiment.steps.training(experiment.seed))
    with joined(config.device) as group:
        seed_torch(experiment.seed, 1)
        model: Any = models.build(experiment.model, data.spec, experiment.config).to(group.device)
        optimizer = adam(model, config.lr, config.weight_decay, config.betas)
        stepper = Stepper(model, optimizer, Streams((experiment.seed, 1, 1), config.shards, group), group)
        shards = draw(labels[some], config.batch_size, config.shards, generator(experiment.seed, 1, 0))
        for _ in range(2):
            start = time.perf_counter()
            terms = stepper.step(data, shards)
            step_s = time.perf_counter() - start
        if not all(math.isfinite(float(term)) for term in terms.values()):
            raise fail("training", "a finite loss", str({k: float(v) for k, v in terms.items()}))
        model.eval()
        start = time.perf_counter()
        with torch.no_grad():
            model.distances(data.batch(shards[0][0]).to(group.device), data.class_vectors.to(group.device))
        return Pace(step_s, (time.perf_counter() - start) / len(shards[0][0]))


def seconds_of(experiment: Experiment, task: Task, pace: Pace) -> float:
    """About how long a run takes by itself; two stages as if the last epoch were chosen."""
    config, parts = experiment.train, next(iter(task.parts.values()))
    stages = 2 if isinstance(config.protocol, TwoStage) else 1
    validated = len(parts["val_seen"]) + len(parts["val_unseen"])
    tested = sum(len(each["test_seen"]) + len(each["test_unseen"]) for each in task.parts.values())
    epoch = config.batches * pace.step_s + validated * pace.clip_s
    return 5.0 + stages * config.epochs * epoch + 2 * tested * pace.clip_s


def expected_seconds(plan: Comparison, out: Path, workers: int) -> float:
    """About how long what is missing of a comparison takes; refuses what a model can't read, before any training.

    Raises:
        InputError: If the model of a row can't read the data.
    """
    missing = [run for folder, run in plan.runs if not finished(out / folder, run)]
    if not missing:
        return 0.0
    tasks: dict[str, Task] = {}
    paces: dict[str, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a run
    try:
        for run in missing:
            if run.name not in paces:
                vectors = str(run.class_vectors)
                if vectors not in tasks:
                    tasks[vectors] = prepare(run.data, run.class_vectors)
                try:
                    paces[run.name] = seconds_of(run, tasks[vectors], try_out(run, tasks[vectors]))
                except NeuroavError as error:
                    remedy = "No row was trained."
                    what = str(error).removesuffix(".")
                    raise fail(f"row {run.name!r}", f"a model that can read {run.data.store}", what, remedy) from error
    finally:
        torch.set_num_threads(threads)
        for task in tasks.values():
            task.store.close()
    return sum(paces[run.name] for run in missing) / min(workers, len(missing))
