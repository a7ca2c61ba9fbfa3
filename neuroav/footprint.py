"""``neuroav energy``: what runs and experiments cost: counted on test clips, estimated, and measured if asked for."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroav import models, run
from neuroav.checks import NeuroavError, check_range, fail
from neuroav.config import Comparison, Experiment, load_experiment, to_json
from neuroav.data.render import NUM_FRAMES, SIZE
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.types import Batch
from neuroav.energy.count import OpCount, count
from neuroav.energy.curve import curves_json
from neuroav.energy.latency import in_turns
from neuroav.energy.measure import Measured, Meter, MeterError, Plan, Subject, measure
from neuroav.energy.meters import meters_for
from neuroav.energy.report import Row, checklist, count_rows
from neuroav.files import check_folder, save_json, save_text
from neuroav.mdft.model import MDFT
from neuroav.mdft.motion import SpikingLayers
from neuroav.mdft.sparse import layer_pairs, spike_driven
from neuroav.nn.numbers import Float32
from neuroav.progress import Progress
from neuroav.report.saved import read_results
from neuroav.task import Task, prepare
from neuroav.train.seed import seed_torch
from neuroav.twins import twins

WHERE = "neuroav energy"
NOT_ASKED = "not asked for: add --measure"
SCORES = ("seen", "unseen", "hm", "zsl")
STORED = "computed when the clips were stored"
MOTIONSCENES = "motionscenes"
OUT = "neuroav-energy"


@dataclass(frozen=True)
class Candidate:
    """A model whose cost is asked for.

    Attributes:
        source: What the user named.
        experiment: Its choices.
        model: On the CPU, in evaluation mode.
        data: Test clips.
        class_vectors: ``(K, D_text)`` of the competing classes.
        task: Where the clips come from.
        scores: By test set, of a finished run; empty for an untrained model.
    """

    source: str
    experiment: Experiment
    model: nn.Module
    data: ClipData
    class_vectors: Tensor
    task: Task
    scores: dict[str, dict[str, float]]

    @property
    def name(self) -> str:
        """Its name and seed."""
        return f"{self.experiment.name}, seed {self.experiment.seed}"

    def batch(self, clips: int) -> Batch:
        """So many test clips, spread over all of them."""
        return self.data.batch(np.linspace(0, len(self.data) - 1, clips).astype(int))


# ------------------------------------------------------------------------------------------------------------- loading


def candidates(source: str, tasks: dict[str, Task]) -> list[Candidate]:
    """Models behind a run directory, the directory of a comparison, or ``FILE.py:NAME``.

    An experiment whose finished run lies where ``neuroav run`` puts it is taken from there; any other has its initial
    weights.

    Args:
        source: What the user named.
        tasks: Data that is open already; more is added.

    Raises:
        InputError: If there is no finished run in a directory, or an experiment can't be loaded.
    """
    folder = Path(source)
    if folder.is_dir():
        folders = _runs_in(folder)
        return [_trained(source, each, tasks) for each in folders]
    if ":" not in source:
        raise fail(source, "the directory of a run, or FILE.py:NAME", "no such directory", "Make one with neuroav run.")
    asked = load_experiment(source)
    folder = Path("runs") / asked.name
    if isinstance(asked, Comparison):
        return [_of_experiment(source, each, folder / below, tasks) for below, each in asked.runs]
    return [_of_experiment(source, asked, folder, tasks)]


def _runs_in(folder: Path) -> list[Path]:
    """Finished runs: the folder itself, or those below it."""
    found = sorted(
        each.parent for each in folder.glob("**/model.safetensors") if (each.parent / "results.json").exists()
    )
    if not found:
        raise fail(str(folder), "a finished run, or a folder of them", "none", "Make one with neuroav run.")
    return found


def _of_experiment(source: str, experiment: Experiment, folder: Path, tasks: dict[str, Task]) -> Candidate:
    if run.finished(folder, experiment):
        return _trained(source, folder, tasks)
    task = _task(experiment, tasks)
    parts = next(iter(task.parts.values()))
    statistics = experiment.inputs.statistics(task.load(np.sort(parts["train"])))
    spec = task.data(parts["train"][:1], statistics).spec
    seed_torch(experiment.seed, 1)
    model = experiment.numbers.of(models.build(experiment.model, spec, experiment.config)).eval()
    return _candidate(source, experiment, model, statistics, task, False, {})


def _trained(source: str, folder: Path, tasks: dict[str, Task]) -> Candidate:
    experiment = run.finished_experiment(folder)
    task = _task(experiment, tasks)
    model, statistics, note = run.load_model(experiment, task, folder)
    rows = read_results(folder, SCORES)["rows"]
    scores = {row["test_set"]: {name: row[name] for name in SCORES} for row in rows}
    return _candidate(source, experiment, model, statistics, task, note["two_stage"], scores)


def _task(experiment: Experiment, tasks: dict[str, Task]) -> Task:
    key = json.dumps([to_json(experiment.data), to_json(experiment.class_vectors)])
    if key not in tasks:
        tasks[key] = prepare(experiment.data, experiment.class_vectors)
    return tasks[key]


def _candidate(
    source: str,
    experiment: Experiment,
    model: nn.Module,
    statistics: Statistics,
    task: Task,
    two_stage: bool,
    scores: dict[str, dict[str, float]],
) -> Candidate:
    parts = next(iter(task.parts.values()))
    test = np.concatenate([parts["test_seen"], parts["test_unseen"]])
    data = task.data(test, statistics, experiment.steps.evaluation())
    classes = np.union1d(*run.competing(task, two_stage))
    return Candidate(source, experiment, model, data, data.class_vectors[torch.from_numpy(classes)], task, scores)


# ---------------------------------------------------------------------------------------------------- what is in a row


def counted(candidate: Candidate, clips: int) -> OpCount:
    """Count a pass over test clips, from features to distances to every competing class."""
    batch = candidate.batch(min(clips, len(candidate.data)))
    call = getattr(candidate.model, "distances")  # noqa: B009 - a protocol that nn.Module does not know
    return count(candidate.model, (batch, candidate.class_vectors), clips=batch.size, call=call)


def front_end(candidate: Candidate, cost: OpCount) -> list[Row]:
    """What happens to a clip before the model: counted where it is known, named where it is not."""
    found: list[Row] = [{"part": "features of audio and video", "not_counted": STORED}]
    part = "event generation"
    if cost.pixel_updates:
        found.append({"part": part, "figure": f"{cost.pixel_updates:.0f} values compared a clip, within the model"})
    elif _reads_motion(candidate):
        if candidate.task.store.settings.get("data_set") == MOTIONSCENES:
            pixels = NUM_FRAMES * SIZE**2
            figure = f"{pixels} pixel values compared a clip, when the clips were stored; in no sum above"
            found.append({"part": part, "figure": figure, "pixel_updates": pixels})
        else:
            found.append({"part": part, "not_counted": f"{STORED}; the store does not say from how many pixels"})
    return found


@torch.no_grad()
def _reads_motion(candidate: Candidate) -> bool:
    """Whether the model misses event counts that are taken away."""
    model: Any = candidate.model
    batch = candidate.batch(1)
    if batch.motion is None:
        return False
    before = model.distances(batch, candidate.class_vectors)
    try:
        return not torch.equal(before, model.distances(replace(batch, motion=None), candidate.class_vectors))
    except (NeuroavError, AttributeError):
        return True


def measured_rows(
    found: Sequence[Candidate], batches: Sequence[int], device: torch.device, plan: Plan
) -> dict[str, Row]:
    """Measure every candidate at every batch size in turns; returns the entry ``measured`` of each.

    Raises:
        MeterError: If a meter stops answering or stands still.
    """
    meters, reason = meters_for(device)
    subjects = {
        (one.name, size): _subject(one, size, device) for one in found for size in batches if size <= len(one.data)
    }
    named = {f"{name}, batch {size}": subject for (name, size), subject in subjects.items()}
    seconds = (plan.warm_up_s + plan.trials * (plan.pause_s + plan.window_s)) * len(named) + 2 * plan.idle_s
    sys.stderr.write(f"{WHERE}: measuring {len(named)} cases on {device}, about {seconds:.0f} s\n")
    results = measure(named, meters, plan)
    entries: dict[str, Row] = {}
    for one in found:
        mine = [results[f"{one.name}, batch {size}"] for size in batches if (one.name, size) in subjects]
        entries[one.name] = _measured_entry(mine, meters, reason, device, plan)
    return entries


def _measured_entry(
    mine: Sequence[Measured], meters: Sequence[Meter], reason: str, device: torch.device, plan: Plan
) -> Row:
    entry: Row = {"device": _device_name(device), "plan": vars(plan), "batches": [each.to_json() for each in mine]}
    if meters:
        return entry | {"meters": [meter.describe() for meter in meters]}
    return entry | {"not_measured": reason}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else run.versions()["machine"]


def _subject(candidate: Candidate, clips: int, device: torch.device) -> Subject:
    model: Any = candidate.model.to(device)
    batch, vectors = candidate.batch(clips).to(device), candidate.class_vectors.to(device)
    synchronise: Callable[[], Any] = partial(torch.cuda.synchronize, device) if device.type == "cuda" else _nothing

    @torch.no_grad()
    def once() -> None:
        model.distances(batch, vectors)

    return Subject(once, clips, synchronise)


@torch.no_grad()
def spike_driven_rows(one: Candidate, batches: Sequence[int]) -> Row:
    """Time MDFT's spiking layers, and all of it, driven by spikes against dense, on a CPU, on test clips in turns.

    Returns:
        The entry ``spike_driven`` of a row: ``cases``, each layer that reads spikes and the whole model at each batch
        size; or ``not_measured``.
    """
    if not (isinstance(one.model, MDFT) and isinstance(one.model.config.motion, SpikingLayers)):
        return {"not_measured": "no spiking layers that can be driven by their spikes"}
    if not isinstance(one.experiment.numbers, Float32):
        return {"not_measured": "the spike-driven path is in float32"}
    model = one.model.cpu()
    fast, vectors = spike_driven(model), one.class_vectors
    cases: list[Row] = []
    for size in (size for size in batches if size <= len(one.data)):
        batch = one.batch(size)
        for pair in layer_pairs(model, fast, batch):
            differ = (pair.dense() != pair.sparse()).float().mean()
            figures = {"input_rate": float(pair.spikes.mean()), "spikes_differ": float(differ)}
            cases.append(_both_ways(pair.name, size, pair.dense, pair.sparse) | figures)
        ways = [partial(each.distances, batch, vectors) for each in (model, fast)]
        dense, sparse = (way() for way in ways)
        figures = {"nearest_differ": float((dense.argmin(1) != sparse.argmin(1)).float().mean())}
        cases.append(_both_ways("whole model", size, *ways) | figures)
    return {"device": run.versions()["machine"], "threads": torch.get_num_threads(), "cases": cases}


def _both_ways(part: str, clips: int, dense: Callable[[], Any], sparse: Callable[[], Any]) -> Row:
    times = in_turns({"dense": dense, "sparse": sparse})
    found: Row = {"part": part, "batch": clips, "turns": times["dense"].turns}
    for name, each in times.items():
        found |= {f"{name}_s": each.median_s, f"{name}_iqr_s": each.iqr_s}
    return found | {"dense_over_sparse": times["dense"].median_s / times["sparse"].median_s}


def _nothing() -> None:
    """A CPU has done what it was told."""


# ------------------------------------------------------------------------------------------------------------- the verb


def energy_command(
    sources: Sequence[str],
    out: str | None = None,
    json_path: str | None = None,
    clips: int = 64,
    measuring: bool = False,
    batches: Sequence[int] = (1, 64),
    device: str | None = None,
    plan: Plan | None = None,
) -> int:
    """``neuroav energy``: count, estimate and, where asked for, measure; write the report and print its sums.

    Args:
        sources: Run directories, directories of comparisons, and experiments as ``FILE.py:NAME``.
        out: Folder for ``energy.html``, ``.md``, ``.csv`` and ``.json``; what is there of these is replaced. ``None``
            for the run or comparison that is the only source, else ``neuroav-energy``. The ``report.html`` of a run
            that lies there gets a section on energy.
        json_path: Also write the JSON here.
        clips: Test clips that are counted in one pass.
        measuring: Whether to measure energy and time as well.
        batches: Clips in a pass, for each of which is measured.
        device: Where it is measured, ``cpu`` or ``cuda``; ``None`` for a GPU where there is one.
        plan: How it is measured; ``None`` for 5 windows of 5 s.

    Returns:
        Exit status 0.

    Raises:
        InputError: If a source can't be loaded, or an option is out of range.
        MeterError: If a meter stops answering or stands still; what was counted is written all the same.
    """
    check_range(WHERE, "--clips", clips, 1)
    for size in batches:
        check_range(WHERE, "--batch", size, 1)
    folder, chosen = _folder(sources, out), _device(device) if measuring else None
    tasks: dict[str, Task] = {}
    found = [one for source in sources for one in candidates(source, tasks)]
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise fail(WHERE, "each model and seed once", f"{twice!r} twice", "Give one of them another name or seed.")
    _check_settings(found)
    costs = {}
    with Progress("counting", total=len(found), unit="model") as progress:
        for one in found:
            costs[one.name] = counted(one, clips)
            progress.update()
    entries: dict[str, Row] = {one.name: {"not_measured": NOT_ASKED} for one in found}
    driven: dict[str, Row] = dict(entries)
    fronts = {one.name: front_end(one, costs[one.name]) for one in found}
    stopped = None
    if chosen is not None:
        try:
            entries = measured_rows(found, batches, chosen, plan or Plan())
        except MeterError as error:  # what was counted is kept
            stopped = error
            entries = {one.name: {"not_measured": str(error)} for one in found}
        driven = {one.name: spike_driven_rows(one, batches) for one in found}
    apart = {one.name: {"measured": entries[one.name], "spike_driven": driven[one.name]} for one in found}
    known = {_choices(one.experiment) for one in found}
    rows = [row for one in found for row in _rows(one, known, costs[one.name], fronts[one.name], apart[one.name])]
    report = {"rows": rows, "curves": curves_json(rows), "checklist": checklist(rows), "versions": run.versions()}
    status = _show(report, folder, json_path)
    if stopped is not None:
        raise stopped
    return status


def _folder(sources: Sequence[str], out: str | None) -> Path:
    """Where the report goes: where asked for, else beside the results that all of it is about."""
    if out is None:
        alone = len(sources) == 1 and (Path(sources[0]) / "results.json").is_file()
        return Path(sources[0] if alone else OUT)
    check_folder("--out", out)
    return Path(out)


def _check_settings(found: Sequence[Candidate]) -> None:
    """Refuse one name for different settings, which would become the seeds of one point."""
    first: dict[tuple[str, str], Experiment] = {}
    for one in found:
        known = first.setdefault((one.experiment.name, json.dumps(to_json(one.experiment.data))), one.experiment)
        if to_json(replace(one.experiment, seed=known.seed)) != to_json(known):
            remedy = "Give one of them another name."
            raise fail(WHERE, "one setting for each name", f"{known.name!r} with several", remedy)


def _device(name: str | None) -> torch.device:
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise fail("--device", "a CUDA device that PyTorch sees", "none", "Use --device cpu.")
    return device


def _rows(one: Candidate, known: set[str], cost: OpCount, front: list[Row], measurements: Row) -> list[Row]:
    head: Row = {
        "model": one.experiment.name,
        "seed": one.experiment.seed,
        "source": one.source,
        "trained": bool(one.scores),
        "task": json.dumps(to_json(one.experiment.data)),
        "scores": one.scores,
        "parameters": sum(each.numel() for each in one.model.parameters()),
        "numbers": type(one.experiment.numbers).__name__.lower(),
        "twins": _twins_there(one.experiment, known) if cost.neurons else None,
    }
    return [head | row | {"front_end": front} | measurements for row in count_rows(cost)]


def _choices(experiment: Experiment) -> str:
    """Everything chosen in an experiment but its name."""
    config = experiment.config or models.model_class(experiment.model).Config()
    return json.dumps(to_json(replace(experiment, name="", config=config)))


def _twins_there(experiment: Experiment, known: set[str]) -> dict[str, bool]:
    """Which twins of a spiking model are among the models compared; empty if none can be made of it."""
    try:
        return {key: _choices(each) in known for key, each in twins(experiment).items()}
    except NeuroavError:
        return {}


def _show(report: dict[str, Any], folder: Path, json_path: str | None) -> int:
    from neuroav.report.energy import summary
    from neuroav.report.energy_page import energy_page, headlines, markdown
    from neuroav.report.html import write_report

    folder.mkdir(parents=True, exist_ok=True)
    save_json(folder / "energy.json", report)
    contents = {"md": markdown(report), "csv": _csv(report["rows"]), "html": energy_page(report)}
    for suffix, content in contents.items():
        save_text(folder / f"energy.{suffix}", content)
    if json_path is not None:
        save_json(Path(json_path), report)
    lines = [summary(report["rows"]), *headlines(report["rows"]), f"report: {folder / 'energy.html'}"]
    sys.stdout.write("\n".join(lines) + "\n")
    if (folder / "results.json").is_file():
        sys.stdout.write(f"section on energy: {write_report(folder)}\n")
    return 0


def _csv(rows: Sequence[Row]) -> str:
    """One line for each model, rule and figure that is one number, estimates among them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("model", "seed", "rule", "kind", "figure", "value"))
    for row in rows:
        key = (row["model"], row["seed"], row["rule"])
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "seed":
                writer.writerow((*key, "count", name, f"{value:.9g}"))
        for each in row["estimates"]:
            for end in ("low_j", "high_j"):
                writer.writerow((*key, "estimate", f"{each['table']}, {end}", f"{each[end]:.9g}"))
        for batch in row["measured"].get("batches", ()):
            for energy in batch.get("energy", ()):
                name = f"{energy['meter']}, {energy['method']}, batch {batch['batch']}"
                for end in ("gross_j", "net_j"):
                    writer.writerow((*key, "measured", f"{name}, {end}", f"{energy[end]:.9g}"))
    return file.getvalue()
