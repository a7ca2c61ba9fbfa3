"""``neuroav bench energy``: what counting adds to a forward pass, and, where there is a meter, joules of a clip.

A run is one pass from features to distances, under :func:`neuroav.energy.count` as ``neuroav`` and plain as ``floor``;
the models are those of ``neuroav bench train`` at width 128, untrained, on clips of random numbers. What counting adds
has to stay under two plain passes of 64 clips, the number that ``neuroav energy`` counts; a pass of a single clip takes
hardly longer than calling its operators, and looking at each call takes several times that. With a meter the plain
passes are measured as ``neuroav energy --measure`` does it, on a GPU where there is one, and the rows have joules too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuroav import models
from neuroav.bench import train
from neuroav.bench.page import Options, figure, head, left_out, mebibytes, skipped, table, timed_row
from neuroav.bench.timing import Crew, Job, Runner, Timed, time_side_by_side
from neuroav.data.types import Batch
from neuroav.energy.count import count
from neuroav.energy.measure import MeterError, Plan, Subject, measure
from neuroav.energy.meters import meters_for
from neuroav.progress import Progress
from neuroav.report.energy import format_joules
from neuroav.train.seed import seed_torch

BAR = 2.0  # how many plain passes counting may add
MODELS = ("MDFT", "MLP twin", "pooled events")
SIZES = (1, 64)
COLUMNS = ("case", "impl", "median ms", "IQR ms", "x floor", "peak MiB")
CLIPS = train.Case(10, 64, 128)


@dataclass(frozen=True)
class Case:
    """One model on so many clips.

    Attributes:
        model: One of :data:`MODELS`.
        clips: Clips in a pass.
        data: Sizes of the clips and of the model.
    """

    model: str
    clips: int
    data: train.Case = CLIPS
    unit: ClassVar[str] = "Mclip/s"

    @property
    def name(self) -> str:
        """How rows call it."""
        return f"{self.model}, {self.clips} clips, T={self.data.steps}, width {self.data.dim}"

    def make(self) -> tuple[Any, Batch, Tensor]:
        """Return the model in evaluation mode, a batch and the class vectors; by seed."""
        name, config = train.configs(self.data.dim)[self.model]
        data = self.data.data()
        seed_torch(0)
        model = models.build(name, data.spec, config).eval()
        return model, data.batch(np.arange(self.clips)), data.class_vectors


CASES = tuple(Case(model, size) for model in MODELS for size in SIZES)


def start_counting(case: Case) -> Runner:
    """A pass that is counted."""
    model, batch, vectors = case.make()

    def run() -> dict[str, Any]:
        cost = count(model, (batch, vectors), clips=case.clips, call=model.distances)
        return {"macs": cost.binary.macs, "acs": cost.binary.acs}

    return Runner(lambda: run, dict)


def start_plain(case: Case) -> Runner:
    """The same pass, plain."""
    run = torch.no_grad()(partial(_pass, *case.make()))
    return Runner(lambda: run)


def _pass(model: Any, batch: Batch, vectors: Tensor) -> Tensor:
    return model.distances(batch, vectors)


STARTS: dict[str, Callable[[Case], Runner]] = {"neuroav": start_counting, "floor": start_plain}


# --------------------------------------------------------------------------------------------------------------- rows


def rows_of(case: Case, timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """Return one row for each way that was timed."""
    done = [one for one in timed if one.samples_s and not one.skipped]
    rows = [timed_row("energy", case.name, one, case.clips, case.unit) | one.figures for one in done]
    return [row | {"clips": case.clips} for row in rows]


def measured_rows(cases: Sequence[Case], plan: Plan) -> tuple[list[dict[str, Any]], str]:
    """Return a row with joules for each case, meter and method; or none, and why.

    Raises:
        MeterError: If a meter stops answering or stands still.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    meters, reason = meters_for(device)
    if not meters:
        return [], reason
    found = measure({case.name: _subject(case, device) for case in cases}, meters, plan)
    rows = []
    for case in cases:
        one = found[case.name]
        times = {"median_s": one.latency_s, "iqr_s": None, "throughput": one.clips_per_s / 1e6, "max_rss_bytes": None}
        for energy in one.energy:
            row = {"bench": "energy", "case": f"{case.name}, {energy.meter}, {energy.method}", "impl": "measured"}
            rows.append(row | times | {"unit": case.unit, "flags": list(one.flags)} | energy.to_json())
    return rows, ""


def _subject(case: Case, device: torch.device) -> Subject:
    model, batch, vectors = case.make()
    synchronise = torch.cuda.synchronize if device.type == "cuda" else int
    run = torch.no_grad()(partial(_pass, model.to(device), batch.to(device), vectors.to(device)))
    return Subject(run, case.clips, synchronise)


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many times a plain pass counting takes, by case."""
    plain = {row["case"]: row["median_s"] for row in rows if row["impl"] == "floor"}
    return [
        {key: row[key] for key in ("case", "clips")}
        | {"what": "neuroav / floor", "ratio": row["median_s"] / plain[row["case"]]}
        for row in rows
        if row["impl"] == "neuroav" and row["case"] in plain
    ]


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: machine, one table, ratios against the bar, joules, what was left out and why."""
    plain = {row["case"]: row["median_s"] for row in report["rows"] if row["impl"] == "floor"}
    rows = [_cells(row, plain[row["case"]]) for row in report["rows"] if row["case"] in plain]
    lines = [*head("energy", report["machine"]), "", *table(COLUMNS, rows), ""]
    for one in report["ratios"]:
        added = one["ratio"] - 1
        verdict = f"; bar {BAR:.0f}: {'kept' if added < BAR else 'missed'}" if one["clips"] >= SIZES[-1] else ""
        lines.append(f"* {one['case']}: counting adds {added:.2f} plain passes{verdict}")
    for row in (row for row in report["rows"] if row["impl"] == "measured"):
        gross, net = (format_joules(row[name]) for name in ("gross_j", "net_j"))
        lines.append(f"* {row['case']}: {gross} a clip gross, {net} net; {1e3 * row['median_s']:.2f} ms a pass")
        lines += [f"  * warning: {flag}" for flag in row["flags"]]
    notes = (
        "A pass: features to distances to every class, without gradients, under `count` (`neuroav`) and plain "
        "(`floor`); each in its own process, in turns. Untrained models on random clips: spike rates mean nothing."
    )
    return "\n".join([*lines, *left_out(report["skipped"]), "", notes, ""])


def _cells(row: dict[str, Any], plain_s: float) -> list[str]:
    times = [figure(row, key, ".2f", 1e3) for key in ("median_s", "iqr_s")]
    return [row["case"], row["impl"], *times, f"{row['median_s'] / plain_s:.2f}", mebibytes(row)]


def energy_bench_command(options: Options) -> int:
    """Time counting beside plain passes and print a table; the verb ``neuroav bench energy``. There is no peer to time.

    Returns:
        Exit status: 0, or 1 if something failed, a meter among them; that there is no meter is no failure.

    Raises:
        InputError: If an option is out of range or an output can't be written.
    """
    threads, report = options.begin("energy")
    planned = [(case, [Job(impl, start, (case,), threads) for impl, start in STARTS.items()]) for case in CASES]
    total = options.repeats * len(STARTS) * len(CASES)
    with Crew() as crew, Progress("bench energy", total=total, unit="turn") as progress:
        for case, jobs in planned:
            timed = time_side_by_side(jobs, options.repeats, on_turn=lambda one: progress.update(), crew=crew)
            report["rows"] += rows_of(case, timed)
            report["skipped"] += skipped(case.name, timed)
    failed = len(report["skipped"])
    try:
        joules, reason = measured_rows(CASES, dataclasses.replace(Plan(), trials=options.repeats))
    except MeterError as error:
        joules, reason, failed = [], str(error), failed + 1
    report["rows"] += joules
    report["skipped"] += [{"case": "energy of a clip", "impl": "measured", "reason": reason}] if reason else []
    report["ratios"] = ratios(report["rows"])
    options.finish(report, markdown(report))
    return 1 if failed else 0
