"""From an experiment to numbers: prepare data, train by the protocol, evaluate, write the run directory.

A run directory holds ``config.json``, ``versions.json``, ``metrics.jsonl`` (a line per epoch), ``stage1.safetensors``
(and ``stage2``: model, optimiser and random state, to go on from after a kill), ``model.safetensors`` (the evaluated
weights), ``results.json``, ``arrays.npz`` (what the report draws), ``report.html`` and, if asked for, ``tensorboard``.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from neuroav import __version__, interrupts, models
from neuroav.checks import OutputError, check_range, fail, some
from neuroav.config import Comparison, Experiment, load_experiment, read_experiment, same, to_json
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.types import Batch, Classes
from neuroav.example import Competing, embedding_arrays, example_arrays
from neuroav.files import TEMPORARY, load_json, replacing, save_json, writing
from neuroav.gzsl.curve import bootstrap_intervals, seen_unseen_curve
from neuroav.gzsl.metrics import confusion_matrix, follows_scene_share
from neuroav.gzsl.protocol import GZSLResult, evaluate_gzsl
from neuroav.gzsl.scores import calibrated_prediction
from neuroav.kernels import cpu
from neuroav.nn.numbers import Float32
from neuroav.processes import num_cores, process_pool, took_lock
from neuroav.progress import Progress
from neuroav.report.saved import join, read_arrays, read_results
from neuroav.report.tables import DEAD_LIMIT, format_results
from neuroav.task import Task, prepare
from neuroav.train.checkpoint import load_tensors, save_tensors
from neuroav.train.display import watching
from neuroav.train.group import ALONE, Group, is_first, joined
from neuroav.train.log import JsonLines, TensorBoard, Watch
from neuroav.train.loop import TwoStage, Validated, fit
from neuroav.train.seed import seed_torch

EVAL_BATCH = 256
EXTRA_STREAM = 2  # of random numbers, beside those of weights and of batches
LOCK = "run.lock"
OTHER = "Choose another --out."
COMPILING = (
    "{name}: torch.compile compiles the loss during the first batch of a stage: about half a minute, or many minutes "
    "where a model loops over steps, as MDFT does; train.compile=false does without.\n"
)


# ------------------------------------------------------------------------------------------------------ evaluation


@dataclass(frozen=True)
class Evaluation:
    """Distances of some clips to the competing classes, and what follows from them.

    Attributes:
        result: S, U, HM, ZSL and beta.
        oracle: the same at the beta that is best on these very clips.
        label: ``(B,)`` column of each clip's class.
        prediction: ``(B,)`` predicted column at ``result.beta``.
        classes: ``(K,)`` the store's label of each column.
        seen: ``(K,)`` bool.
        distances: ``(B, K)`` of clips to columns.
    """

    result: GZSLResult
    oracle: GZSLResult
    label: np.ndarray
    prediction: np.ndarray
    classes: np.ndarray
    seen: np.ndarray
    distances: np.ndarray


@torch.no_grad()
def distances(model: Any, data: ClipData, classes: np.ndarray) -> np.ndarray:
    """``(B, K)`` distances of every clip to ``classes (K,)``, float32."""
    device = device_of(model)
    vectors = data.class_vectors[torch.from_numpy(classes)].to(device)
    return torch.cat([model.distances(batch, vectors) for batch in batches_on(device, data)]).cpu().numpy()


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def evaluate(
    model: nn.Module, data: ClipData, seen_classes: np.ndarray, unseen_classes: np.ndarray, beta: float | None
) -> Evaluation:
    """Evaluate clips against seen and unseen classes; ``beta=None`` searches it on these clips."""
    classes = np.union1d(seen_classes, unseen_classes)
    seen = np.isin(classes, seen_classes)
    label = np.searchsorted(classes, data.labels.numpy())
    dist = distances(model, data, classes)
    oracle = evaluate_gzsl(dist, label, seen)
    result = oracle if beta is None else evaluate_gzsl(dist, label, seen, beta=beta)
    return Evaluation(result, oracle, label, calibrated_prediction(dist, seen, result.beta), classes, seen, dist)


@torch.no_grad()
def layer_activity(model: Any, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Spike rate, dead share and threshold spread of every spiking layer over all valid steps of ``batches``."""
    if not hasattr(model, "activity"):
        return []
    spikes: dict[str, torch.Tensor] = {}
    theta: dict[str, list[torch.Tensor]] = {}
    steps = 0
    for batch in batches:
        traces, valid = model.activity(batch)
        steps += int(valid.sum())
        for name, trace in traces.items():
            spikes[name] = spikes.get(name, 0) + trace.per_step(len(valid))[valid].sum(0, dtype=torch.float64)
            theta.setdefault(name, []).append(trace.theta[valid])
    rows = []
    for name, total in spikes.items():
        rate, threshold = total / steps, torch.cat(theta[name])
        rows.append(
            {
                "name": name,
                "rate": float(rate.mean()),
                "dead_share": float((total == 0).double().mean()),
                "theta_mean": float(threshold.mean()),
                "theta_std": float(threshold.std()),
            }
        )
    return rows


def batches_on(device: torch.device, data: ClipData) -> Iterator[Batch]:
    """All clips in order, on ``device``."""
    return (batch.to(device) for batch in data.in_order(EVAL_BATCH))


def warn_of_silence(where: str, layers: list[dict[str, Any]]) -> None:
    """Say loudly which layers are mostly dead; their silence shows in no score."""
    for layer in layers:
        if layer["dead_share"] > DEAD_LIMIT:
            sys.stderr.write(
                f"WARNING {where}: {layer['dead_share']:.0%} of the neurons of layer {layer['name']} never fire "
                f"(threshold {layer['theta_mean']:.3g}). Lower the threshold's v0 or check the inputs.\n"
            )


def warn_of_reference(where: str) -> None:
    """Say on stderr that neurons run without their compiled kernels, which nobody asked for."""
    if cpu.missing():
        sys.stderr.write(f"{where}: slower than need be: {cpu.describe()}\n")


def warn_of_no_choice(where: str, clips: int) -> None:
    """Say that validation on so many clips chose nothing."""
    sys.stderr.write(
        f"WARNING {where}: HM on the {clips} validation clips is 0 after every epoch, so neither the epoch "
        "(the last) nor beta (0) is a choice. Train for longer, or validate on more clips or fewer classes.\n"
    )


def warn_of_no_clips(where: str, names: Sequence[str], of: int) -> None:
    """Say which of so many classes have no clip to validate on, and are left out of the means."""
    if names:
        sys.stderr.write(
            f"{where}: no validation clip of {some(names)} ({len(names)} of {of} classes): left out of S.\n"
        )


# -------------------------------------------------------------------------------------------------------- training


class _Stage(NamedTuple):
    """A trained model: its data, the epoch chosen, and HM and beta on validation."""

    model: nn.Module
    data: ClipData
    statistics: Statistics
    best: int
    hm: float
    beta: float


def competing(task: Task, two_stage: bool) -> tuple[np.ndarray, np.ndarray]:
    """Seen and unseen classes of the test."""
    seen = ("train", "val_seen", "val_unseen") if two_stage else ("train",)
    return task.classes(*seen), task.classes("test_unseen")


@torch.no_grad()
def fit_extra(model: Any, data: ClipData, seen: np.ndarray, unseen: np.ndarray, key: tuple[int, int]) -> bool:
    """Let a model that has more to fit after training do so, seeded by ``key``; returns whether it has.

    Args:
        model: trained.
        data: its training clips.
        seen: classes that have clips among them.
        unseen: classes that have none.
        key: fixes what is drawn.
    """
    if not hasattr(model, "fit_extra"):
        return False
    seed_torch(*key, EXTRA_STREAM)
    device, labels = device_of(model), np.union1d(seen, unseen)
    classes = Classes(torch.from_numpy(labels), data.class_vectors[torch.from_numpy(labels)]).to(device)
    model.fit_extra(batches_on(device, data), classes, torch.from_numpy(np.isin(labels, seen)).to(device))
    return True


def train(
    experiment: Experiment, task: Task, out: Path, group: Group = ALONE, watches: Sequence[Watch] = ()
) -> dict[str, Any]:
    """Train by the experiment's protocol and save the evaluated model; returns what ``model.safetensors`` notes."""
    config, parts = experiment.train, next(iter(task.parts.values()))
    two_stage = isinstance(config.protocol, TwoStage)

    def stage(number: int, names: Sequence[str], stop_after: int | None = None) -> _Stage:
        indices = np.sort(np.concatenate([parts[name] for name in names]))
        statistics = experiment.inputs.statistics(task.load(indices))
        data = task.data(indices, statistics, experiment.steps.training(experiment.seed))
        validation = np.concatenate([parts["val_seen"], parts["val_unseen"]])
        val = task.data(validation, statistics, experiment.steps.evaluation())
        seen, unseen = task.classes("train"), task.classes("val_unseen")
        if number == 1 and group.first:
            empty = np.setdiff1d(seen, val.labels)
            warn_of_no_clips(experiment.name, [task.store.class_names[c] for c in empty], len(seen) + len(unseen))
            if config.compile:
                sys.stderr.write(COMPILING.format(name=experiment.name))
        seed_torch(experiment.seed, number)
        model = models.build(experiment.model, data.spec, experiment.config).to(group.device)

        def validate(model: nn.Module) -> Validated:
            result = evaluate(model, val, seen, unseen, None).result
            layers = layer_activity(model, [val.batch(np.arange(min(EVAL_BATCH, len(val)))).to(group.device)])
            return Validated(result.hm, result.beta, {layer["name"]: layer["rate"] for layer in layers})

        fitted = fit(
            model,
            data,
            config,
            seed=experiment.seed,
            stage=number,
            validate=validate,
            stop_after=stop_after,
            checkpoint=out / f"stage{number}.safetensors",
            group=group,
            watches=watches,
        )
        best = fitted.history[fitted.best]
        hm, beta = best.hm, best.beta
        if number == 1:
            if hm == 0 and group.first:
                warn_of_no_choice(experiment.name, len(val))
            fitted_more = fit_extra(model, data, seen, unseen, (experiment.seed, number))
            if fitted_more or experiment.numbers != Float32():
                result = evaluate(experiment.numbers.of(model), val, seen, unseen, None).result
                hm, beta = result.hm, result.beta
        return _Stage(model, data, statistics, fitted.best, hm, beta)

    done = stage(1, ["train"])
    note = {"beta": done.beta, "best_epoch": done.best, "val_hm": done.hm, "two_stage": two_stage}
    if two_stage:
        done = stage(2, ["train", "val_seen", "val_unseen"], stop_after=done.best + 1)
    fit_extra(done.model, done.data, *competing(task, two_stage), (experiment.seed, 3))
    tensors = {f"model.{k}": v for k, v in done.model.state_dict().items()}
    tensors |= {f"statistics.{k}": torch.as_tensor(v, dtype=torch.float32) for k, v in vars(done.statistics).items()}
    if group.first:
        save_tensors(out / "model.safetensors", tensors, note)
    return note


def load_model(
    experiment: Experiment, task: Task, out: Path, device: torch.device = ALONE.device
) -> tuple[nn.Module, Statistics, dict[str, Any]]:
    """Rebuild the evaluated model of a run directory on ``device``, in the numbers of the experiment.

    Raises:
        InputError: If its weights are missing, damaged, or of another model or other data.
    """
    path = out / "model.safetensors"
    tensors, note = load_tensors(path)
    parts = next(iter(task.parts.values()))
    try:
        note = {key: note[key] for key in ("two_stage", "beta", "val_hm")}
        values: dict[str, Any] = {
            key.split(".", 1)[1]: value.float() for key, value in tensors.items() if key.startswith("statistics.")
        }
        statistics = Statistics(**values | {"events_per_step": float(values["events_per_step"])})
        spec = task.data(parts["train"][:1], statistics).spec
        model = models.build(experiment.model, spec, experiment.config)
        model.load_state_dict({k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith("model.")})
    except (KeyError, TypeError, RuntimeError) as error:
        what = " ".join(str(error).split()[:12])
        raise fail(str(path), "the weights of this experiment's model", what, "Run it again elsewhere.") from error
    return experiment.numbers.of(model).to(device).eval(), statistics, note


def score(
    experiment: Experiment, task: Task, out: Path, group: Group = ALONE
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Evaluate the saved model on every test set; returns result rows and the arrays that the report draws."""
    model, statistics, note = load_model(experiment, task, out, group.device)
    on_cpu = load_model(experiment, task, out)[0]  # counts operations and draws spikes, on a few clips
    seen, unseen = competing(task, note["two_stage"])
    rows, arrays = [], {}
    for test_set, parts in task.parts.items():
        indices = np.concatenate([parts["test_seen"], parts["test_unseen"]])
        indices = indices[np.isin(task.store.labels[indices], np.union1d(seen, unseen))]
        data = task.data(indices, statistics, experiment.steps.evaluation())
        found = evaluate(model, data, seen, unseen, note["beta"])
        layers = layer_activity(model, batches_on(group.device, data))
        warn_of_silence(f"{experiment.name} on {test_set}", layers)
        follows = None
        if task.scene is not None and task.preferred is not None:
            follows = follows_scene_share(found.prediction, task.scene[indices], task.preferred[found.classes])
        rows.append(
            {
                "model": experiment.name,
                "test_set": test_set,
                "text_order": task.store.settings.get("text_order", "by_name"),
                "seed": experiment.seed,
                "device": group.device_name,
                **{k: getattr(found.result, k) for k in ("seen", "unseen", "hm", "zsl", "beta")},
                "hm_oracle": found.oracle.hm,
                "beta_oracle": found.oracle.beta,
                **beyond_one_beta(found, [task.store.class_names[i] for i in found.classes]),
                "follows_scene": follows,
                "chance_zsl": 1.0 / len(unseen),
                "num_clips": len(indices),
                "classes_without_clips": [task.store.class_names[found.classes[i]] for i in found.result.empty_classes],
                "layers": layers,
                **operations(on_cpu, data),
                "parameters": sum(p.numel() for p in on_cpu.parameters()),
            }
        )
        key = f"{experiment.name}|{test_set}"
        arrays[f"confusion.{key}"] = confusion_matrix(found.label, found.prediction, len(found.classes))
        for name, values in found.oracle.table.items():
            if name != "zsl":
                arrays[f"curve.{key}.{name}"] = np.asarray(values)
        if "confusion.classes" not in arrays:  # the first test set
            index = int(parts["test_unseen"][0])
            shown = task.data(np.array([index]), statistics)
            arrays |= example_arrays(task.source, task.store, index, shown, on_cpu)
            arrays["raster.model"] = np.array(experiment.name)
            known = Competing(found.classes, found.seen)
            names = [task.store.names[i] for i in indices]
            arrays |= embedding_arrays(on_cpu, experiment.name, data, names, known, task.store.class_names)
        arrays["confusion.classes"] = np.array([task.store.class_names[i] for i in found.classes])
        arrays["confusion.seen"] = found.seen
    return rows, arrays


def beyond_one_beta(found: Evaluation, class_names: Sequence[str]) -> dict[str, Any]:
    """Area under the seen-unseen curve, 95 % intervals over the choice of clips, recall of each class with clips."""
    clips = found.distances, found.label, found.seen
    intervals = bootstrap_intervals(*clips, beta=found.result.beta)
    recall = zip(class_names, found.result.recall.tolist(), strict=True)
    return {
        "ausuc": seen_unseen_curve(*clips).area,
        "interval95": {name: [one.low, one.high] for name, one in intervals.items()},
        "recall": {name: value for name, value in recall if value == value},
    }


def operations(model: Any, data: ClipData) -> dict[str, float]:
    """Operations per clip, counted on up to 64 clips; binary inputs count as accumulates, everything else as MACs."""
    from neuroav.energy.count import count

    batch = data.batch(np.arange(min(64, len(data))))
    counted = count(model, (batch, batch.text[:1]), clips=batch.size, call=model.distances)
    return {"macs": counted.binary.macs, "acs": counted.binary.acs, "neuron_updates": counted.neuron_updates}


# --------------------------------------------------------------------------------------------------- run directories


@contextmanager
def claimed(out: Path, experiment: Experiment) -> Iterator[None]:
    """Hold a run directory: nobody else's, nothing else's, resumable only by the same experiment.

    After an error before the first checkpoint, what was made here goes again.

    Raises:
        InputError: If another process works there, or the directory holds other files, another experiment, or a
            finished run.
    """
    _check_free(out, experiment)
    with made(out), _locked(out):
        _check_free(out, experiment)  # again, now that nobody else can change it
        try:
            yield
        except BaseException:
            if not (out / "stage1.safetensors").exists():
                for name in ("config.json", "versions.json"):
                    (out / name).unlink(missing_ok=True)
                shutil.rmtree(out / "tensorboard", ignore_errors=True)
            raise


@contextmanager
def made(out: Path) -> Iterator[None]:
    """Make a directory with its parents; what is still empty at the end goes again.

    Raises:
        OutputError: If it can't be made.
    """
    new = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fail(str(out), "a directory that can be made", str(error.strerror), OTHER, OutputError) from error
    try:
        yield
    finally:
        for path in new:
            with suppress(OSError):  # it holds something
                path.rmdir()


def _check_free(out: Path, experiment: Experiment) -> None:
    if out.exists() and not out.is_dir():
        raise fail(str(out), "a directory", "a file", OTHER)
    if not out.is_dir() or {path.name for path in out.iterdir()} <= {LOCK, f"config.json{TEMPORARY}"}:
        return
    what = "an empty directory or an unfinished run"
    if (out / "results.json").exists():
        raise fail(str(out), what, "a finished run", OTHER)
    if not (out / "config.json").exists():
        raise fail(str(out), what, "other files", OTHER)
    if not same(read_experiment(out / "config.json"), experiment):
        raise fail(str(out), "an unfinished run of the same experiment", "one of another", OTHER)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock file of ``out`` under an exclusive lock (POSIX; elsewhere there is no lock)."""
    path = out / LOCK
    with writing(path):
        opened = path.open("w")
    with opened as file:
        if not took_lock(file, path):
            raise fail(str(out), "a free directory", "one in use by another process", OTHER)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def run_experiment(
    experiment: Experiment, out: Path, watches: Sequence[Watch] = (), trained: Path | None = None
) -> dict[str, Any]:
    """Train, evaluate and write a run directory (without the page); goes on where a killed run stopped.

    Started by torchrun, the first process writes and returns the results; the others train with it, and return nothing.

    Args:
        experiment: What to run.
        out: The run directory.
        watches: Told of batches and epochs.
        trained: Directory of a run that differs in name and numbers only: once it has finished, its training is taken.
    """
    with joined(experiment.train.device) as group:
        if not group.first:
            group.share(0.0)  # until the first holds the directory and has made the data
            train(experiment, prepare(experiment.data, experiment.class_vectors), out, group)
            return {}
        with claimed(out, experiment):
            if (out / "stage1.safetensors").exists():
                sys.stderr.write(f"{experiment.name}: going on in {out}, where a run of the same experiment stopped\n")
                _warn_of_version(str(out), "was begun", _made_by(out))
            save_json(out / "config.json", to_json(experiment))
            here = {"device": group.device_name, "processes": str(group.size), "directory": os.getcwd()}
            save_json(out / "versions.json", versions() | here)
            if trained is not None and (trained / "results.json").exists():
                _take_training(trained, out)
            task = prepare(experiment.data, experiment.class_vectors)
            group.share(0.0)
            start = time.perf_counter()
            train(experiment, task, out, group, [JsonLines(out / "metrics.jsonl"), *watches])
            seconds = time.perf_counter() - start
            rows, arrays = score(experiment, task, out, group)
            for row in rows:
                row["train_s"] = seconds
            arrays |= training_curves(experiment, out)
            return write_results(out, experiment.name, "", rows, arrays, {"experiment": to_json(experiment)})


def _take_training(trained: Path, out: Path) -> None:
    """Copy the checkpoints of a finished run, unless there are some: training then has nothing left to do."""
    for name in ("stage1.safetensors", "stage2.safetensors"):
        if (trained / name).exists() and not (out / name).exists():
            with replacing(out / name) as temporary:
                shutil.copyfile(trained / name, temporary)


def write_results(
    out: Path,
    title: str,
    note: str,
    rows: list[dict[str, Any]],
    arrays: dict[str, np.ndarray],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Write ``arrays.npz`` and then ``results.json``, whose presence marks a finished run."""
    with replacing(out / "arrays.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    results = {"title": title, "note": note, "settings": settings, "versions": versions(), "rows": rows}
    save_json(out / "results.json", results)
    return results


def training_curves(experiment: Experiment, out: Path) -> dict[str, np.ndarray]:
    """Loss and validation HM of the first stage against training steps."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    by_epoch = {e["index"]: e for e in map(json.loads, lines) if e["stage"] == 1}
    epochs = [by_epoch[i] for i in sorted(by_epoch)]
    curves = {"loss": np.array([e["loss"] for e in epochs]), "val_hm": np.array([e["hm"] for e in epochs])}
    curves["step"] = (1 + np.array([e["index"] for e in epochs])) * experiment.train.batches
    return {f"log.{experiment.name}.{key}": values for key, values in curves.items()}


def versions() -> dict[str, str]:
    """Versions, commit and machine, as saved with each run."""
    root = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = "not a git checkout"
    if (root / ".git").exists():  # or git would look further up, and find somebody else's
        with suppress(OSError, subprocess.CalledProcessError):
            commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "neuroav": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "cpu_kernels": cpu.describe(),
    }


def run_many(
    experiments: Sequence[tuple[Experiment, Path]], workers: int, title: str = "training"
) -> list[dict[str, Any]]:
    """Run experiments side by side in single-threaded processes; finished ones are read, not repeated.

    Data that is missing is made first. Runs in narrower numbers come last, and take the training of the same experiment
    in float32 if it is among them and has finished.

    Raises:
        InputError: If a directory holds the finished run of another experiment; and whatever a run raises, which stops
            the others.
    """
    total = sum(e.train.epochs for e, _ in experiments)
    pending = [(e, p) for e, p in experiments if not (p / "results.json").exists()]
    for experiment, path in experiments:
        if (experiment, path) not in pending and not same(read_experiment(path / "config.json"), experiment):
            raise fail(str(path), "a finished run of the same experiment", "one of another", OTHER)
    if pending:
        warn_of_reference(title)
    for data in dict.fromkeys(experiment.data for experiment, _ in pending):
        prepare(data, workers=max(1, workers)).store.close()
    trained = {_training(e): p for e, p in experiments if e.numbers == Float32()}
    pending.sort(key=lambda job: job[0].numbers != Float32())
    before = _finished_epochs([p for _, p in experiments])
    bar = Progress(title, total=total, unit="epoch", done=before)
    with bar, process_pool(max(1, workers), [__name__]) as pool:
        with interrupts.held():  # the first call starts the processes
            futures: list[Future[dict[str, Any]]] = [
                pool.submit(run_experiment, e, p, trained=trained.get(_training(e))) for e, p in pending
            ]
        try:
            unfinished = set(futures)
            while unfinished:
                done, unfinished = wait(unfinished, timeout=0.5)
                now = _finished_epochs([p for _, p in experiments])
                bar.update(max(0, now - bar.done))  # a run that goes on tells its epochs again
                for future in done:
                    future.result()
        except BaseException:
            for worker in active_children():
                worker.terminate()  # their runs go on where they were stopped
            raise
    return [read_results(path) for _, path in experiments]


def run_comparison(comparison: Comparison, out: Path, workers: int) -> dict[str, Any]:
    """Run what is missing of a comparison, then write ``results.json`` and ``arrays.npz`` of all (without the page).

    What the page draws of several seeds is joined by :func:`~neuroav.report.saved.join`.

    Raises:
        InputError: If the directory is that of a single run; and what :func:`run_many` raises.
    """
    if (out / "config.json").exists():
        raise fail(str(out), "the directory of a comparison", "that of one run", OTHER)
    with made(out):
        jobs = [(experiment, out / folder) for folder, experiment in comparison.runs]
        results = run_many(jobs, workers, comparison.name)
        arrays = join(read_arrays(path / "arrays.npz") for _, path in jobs)
        rows = [row for result in results for row in result["rows"]]
        settings = {"experiment": load_json(jobs[0][1] / "config.json")}
        return write_results(out, comparison.title, comparison.note, rows, arrays, settings)


def _training(experiment: Experiment) -> str:
    """Everything that training depends on."""
    return json.dumps(to_json(replace(experiment, name="", numbers=Float32())))


def _finished_epochs(folders: Sequence[Path]) -> int:
    count = 0
    for folder in folders:
        with suppress(FileNotFoundError):  # not begun, or just begun anew
            lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            count += sum(1 for line in lines if '"stage": 1' in line)
    return count


# ------------------------------------------------------------------------------------------------------ the commands


def run_command(
    reference: str,
    overrides: Sequence[str],
    out: str | None,
    json_path: str | None,
    tensorboard: bool = False,
    workers: int | None = None,
) -> int:
    """``neuroav run``: train and evaluate an experiment or a comparison, write its report, print its table.

    A finished run of the same experiment is shown again, its page written if a kill came before that.
    """
    experiment = load_experiment(reference, overrides)
    folder = Path(out) if out else Path("runs") / experiment.name
    if isinstance(experiment, Comparison):
        if tensorboard:
            raise fail("--tensorboard", "a single experiment", "a comparison")
        results = run_comparison(experiment, folder, checked_workers("run", workers))
        return _show(results, folder, json_path, again=True)
    if workers is not None:
        raise fail("--workers", "a comparison", "a single experiment", "torchrun trains one on several processes.")
    if finished(folder, experiment):
        if not is_first():
            return 0
        sys.stderr.write(f"{folder} holds this experiment's finished run; nothing was trained.\n")
        return _show(read_results(folder), folder, json_path)
    if is_first():
        warn_of_reference(experiment.name)
    with ExitStack() as stack:
        watches = [stack.enter_context(watching(experiment.name, quiet=not is_first()))]
        if tensorboard and is_first():
            watches.append(TensorBoard(folder / "tensorboard"))
            stack.callback(watches[-1].close)
        results = run_experiment(experiment, folder, watches)
    return _show(results, folder, json_path) if is_first() else 0


def finished_experiment(folder: Path) -> Experiment:
    """Read what a finished run was; its store is found from where it was run too.

    Raises:
        InputError: If there is no finished run, or a file is not what was written there.
    """
    where, what = str(folder), "the directory of a finished run"
    if not (folder / "config.json").is_file() and (folder / "results.json").is_file():
        runs = sorted(path.parent.name for path in folder.glob("*/config.json"))
        raise fail(where, what, "that of a comparison", f"Choose one of its runs: {', '.join(runs)}.")
    if not (folder / "results.json").is_file():
        unfinished, below = (folder / "config.json").is_file(), sorted(folder.glob("*/results.json"))
        actual = "an unfinished one" if unfinished else "a file" if folder.is_file() else "none"
        remedy = (
            f"Runs below it: {some([str(path.parent) for path in below])}." if below else "Make one with neuroav run."
        )
        raise fail(where, what, actual, remedy)
    experiment = read_experiment(folder / "config.json")
    made_by = _made_by(folder)
    there = Path(str(made_by.get("directory", ".")), experiment.data.store)  # a relative name is relative to that
    if there.is_file():
        experiment = replace(experiment, data=replace(experiment.data, store=str(there)))
    _warn_of_version(where, "was made", made_by)
    return experiment


def _made_by(folder: Path) -> dict[str, Any]:
    path = folder / "versions.json"
    return load_json(path, "Remove it: it says what made the run.") if path.is_file() else {}


def _warn_of_version(where: str, what: str, made_by: dict[str, Any]) -> None:
    if (other := made_by.get("neuroav", __version__)) != __version__:
        sys.stderr.write(
            f"{where} {what} by neuroav {other}, this is {__version__}: what it computes may have changed since; "
            "CHANGELOG.md says so.\n"
        )


def finished(out: Path, experiment: Experiment) -> bool:
    """Whether a directory holds the finished run of just this experiment."""
    there = (out / "results.json").exists() and (out / "config.json").exists()
    return there and same(read_experiment(out / "config.json"), experiment)


def eval_command(run_dir: str, json_path: str | None) -> int:
    """``neuroav eval``: evaluate a finished run again and say whether the numbers are the same."""
    folder = Path(run_dir)
    figures = ("seen", "unseen", "hm", "zsl", "beta")
    experiment, before = finished_experiment(folder), read_results(folder, figures)
    with joined(experiment.train.device) as group:
        rows, _ = score(experiment, prepare(experiment.data, experiment.class_vectors), folder, group)
    old = {r["test_set"]: [r[k] for k in figures] for r in before["rows"]}
    changed = [r["test_set"] for r in rows if old.get(r["test_set"]) != [r[k] for k in figures]]
    _print_table(rows, json_path, before | {"rows": rows})
    verdict = f"differs from results.json on: {', '.join(changed)}" if changed else "the same numbers as results.json"
    sys.stdout.write(f"{verdict}\n")
    return 1 if changed else 0


def checked_workers(where: str, workers: int | None) -> int:
    """Return how many runs go side by side; ``None`` is one a core."""
    workers = num_cores() if workers is None else workers
    check_range(where, "workers", workers, low=1)
    return workers


def _show(results: dict[str, Any], folder: Path, json_path: str | None, again: bool = False) -> int:
    from neuroav.report.html import write_report

    kept = not again and (folder / "report.html").exists()
    page = folder / "report.html" if kept else write_report(folder)
    _print_table(results["rows"], json_path, results)
    sys.stdout.write(f"report: {page}\n")
    return 0


def _print_table(rows: list[dict[str, Any]], json_path: str | None, results: dict[str, Any]) -> None:
    sys.stdout.write(format_results(rows) + "\n")
    if json_path is not None:
        save_json(Path(json_path), results)
