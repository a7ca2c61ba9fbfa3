"""``neuroav bench train``: how many clips a second a model trains on, by the loop of ``neuroav run`` itself.

A run is one step: batch put together, loss, gradients, Adam. Clips are random numbers of the sizes in the case's name,
in memory; ``T`` steps each, all alike. The models are those of ``experiments/mdft.py``: MDFT at the paper's widths and
at width 128, the non-spiking twin, and the pooled baseline. ``floor`` is the time of reading a batch's features once,
by copying as many bytes in the same turns: what a step can't avoid. With ``--peers`` an epoch of TCaF is timed beside
the released code's (:mod:`neuroav.bench.epochs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from neuroav import models
from neuroav.bench import epochs
from neuroav.bench.machine import memory_copy
from neuroav.bench.page import Options, figure, head, left_out, mebibytes, skipped, table, timed_row
from neuroav.bench.timing import Crew, Job, Runner, Timed, time_side_by_side
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.store import LoadedClips
from neuroav.progress import Progress
from neuroav.train.group import ALONE
from neuroav.train.loop import TrainConfig
from neuroav.train.optim import adam
from neuroav.train.seed import Streams, generator, seed_torch
from neuroav.train.step import Stepper, draw

COLUMNS = ("case", "impl", "clips/s", "median ms", "IQR ms", "best ms", "x MDFT", "peak MiB")
FLOOR = "floor"


@dataclass(frozen=True)
class Case:
    """Sizes of the clips and of a batch.

    Attributes:
        steps: ``T`` of every clip.
        batch: clips in a batch.
        dim: width of the models.
        features: width of the audio and of the video features.
        motion: ``(P, H, W)`` of the event counts.
        classes: number of classes.
        clips: clips to draw from.
    """

    steps: int
    batch: int
    dim: int
    features: int = 512
    motion: tuple[int, int, int] = (2, 16, 16)
    classes: int = 30
    clips: int = 512
    unit: ClassVar[str] = "Mclip/s"

    @property
    def name(self) -> str:
        """How rows call it."""
        return f"a step on {self.batch} clips, T={self.steps}, features {self.features}, width {self.dim}"

    @property
    def batch_bytes(self) -> int:
        """Bytes of a batch's features and counts in float32."""
        return 4 * self.batch * self.steps * (2 * self.features + int(np.prod(self.motion)))

    def data(self) -> ClipData:
        """Random clips."""
        rng = np.random.default_rng(0)
        rows = self.clips * self.steps
        clips = LoadedClips(
            t_s=np.tile(0.2 * np.arange(self.steps, dtype=np.float32), self.clips),
            video=rng.standard_normal((rows, self.features), np.float32),
            audio=rng.standard_normal((rows, self.features), np.float32),
            motion=rng.poisson(2.0, (rows, *self.motion)).astype(np.uint16),
            offsets=self.steps * np.arange(self.clips + 1),
            labels=np.arange(self.clips) % self.classes,
        )
        return ClipData(clips, Statistics.of(clips), rng.standard_normal((self.classes, 300), np.float32))


CASES = (Case(10, 64, 128), Case(25, 64, 128), Case(10, 64, 512))


def configs(dim: int) -> dict[str, tuple[str, Any]]:
    """Models that are timed, by the name of their row: entry of the table of models, and configuration."""
    from neuroav.baselines.pooled import PooledMLPConfig
    from neuroav.mdft.model import MDFTConfig
    from neuroav.mdft.motion import MLPLayers
    from neuroav.nn.losses import HeadsConfig

    heads = HeadsConfig(hidden=dim)
    return {
        "MDFT": ("mdft", MDFTConfig(dim=dim, heads=heads)),
        "MLP twin": ("mdft", MDFTConfig(dim=dim, heads=heads, motion=MLPLayers())),
        "without motion stream": ("mdft", MDFTConfig(dim=dim, heads=heads, motion=None)),
        "pooled events": ("pooled", PooledMLPConfig(dim=dim, heads=heads)),
    }


# -------------------------------------------------------------------------------------------- what each process does


def start_model(case: Case, impl: str) -> Runner:
    """Steps of one model, each on a batch drawn anew."""
    name, config = configs(case.dim)[impl]
    data, train = case.data(), TrainConfig(batch_size=case.batch)
    seed_torch(0)
    model = models.build(name, data.spec, config).train()
    stepper = Stepper(model, adam(model, train.lr, train.weight_decay), Streams((0,), 1, ALONE), ALONE)
    rng, labels = generator(0), data.labels.numpy()

    def prepare() -> Any:
        shards = draw(labels, case.batch, 1, rng)
        return lambda: stepper.step(data, shards)

    def describe(terms: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"loss": float(sum(terms.values())), "parameters": sum(p.numel() for p in model.parameters())}

    return Runner(prepare, describe)


def start_floor(case: Case) -> Runner:
    """Copy as many bytes as a batch has."""
    run = memory_copy(case.batch_bytes)
    return Runner(lambda: run, lambda moved: {"bytes": moved})


def jobs_of(case: Case, threads: int) -> list[Job]:
    """What is timed side by side."""
    ours = [Job(impl, start_model, (case, impl), threads) for impl in configs(case.dim)]
    return [*ours, Job(FLOOR, start_floor, (case,), threads)]


# --------------------------------------------------------------------------------------------------------------- rows


def rows_of(case: Case, timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """One row for each model that was timed, and the floor."""
    rows = []
    for one in timed:
        if one.samples_s and not one.skipped:
            row = timed_row("train", case.name, one, case.batch, case.unit)
            row |= {"best_s": min(one.samples_s), "clips_per_s": case.batch / one.median_s}
            rows.append(row | one.figures)
    return rows


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: machine, one table, what was left out and why."""
    mdft = {row["case"]: row["median_s"] for row in report["rows"] if row["impl"] == "MDFT"}
    rows = [_cells(row, mdft.get(row["case"])) for row in report["rows"] if "epoch_s" not in row]
    lines = [*head("train", report["machine"]), "", *table(COLUMNS, rows)]
    lines += epochs.markdown(report)
    notes = (
        "A step: batch put together, loss, gradients, Adam, by the loop of `neuroav run`; every model in its own "
        "process, in turns. `floor`: copying as many bytes as the batch's features have. Clips are random numbers."
    )
    return "\n".join([*lines, *left_out(report["skipped"]), "", notes, ""])


def _cells(row: dict[str, Any], mdft: float | None) -> list[str]:
    speed = figure(row, "clips_per_s", ".1f" if row["clips_per_s"] < 1e4 else ".3g")
    times = [figure(row, key, ".2f", 1e3) for key in ("median_s", "iqr_s", "best_s")]
    return [
        row["case"],
        row["impl"],
        speed,
        *times,
        "" if mdft is None else f"{row['median_s'] / mdft:.3f}",
        mebibytes(row),
    ]


def train_bench_command(options: Options, store: str | None = None) -> int:
    """Time training steps and print a table; the verb ``neuroav bench train``.

    With peers it also times batches of an epoch of TCaF, ours and, where its checkout is on PYTHONPATH, the released.

    Args:
        options: What every bench takes.
        store: With peers: simulated clips of UCF, made there if missing (default: made, and removed in the end).

    Returns:
        Exit status: 0, or 1 if something of ours failed; a peer that fails is left out with its reason.

    Raises:
        InputError: If an option is out of range or an output can't be written.
    """
    threads, report = options.begin("train")
    planned = [(case, jobs_of(case, threads)) for case in CASES]
    total = options.repeats * sum(len(jobs) for _, jobs in planned)
    with Crew() as crew, Progress("bench train", total=total, unit="turn") as progress:
        for case, jobs in planned:
            timed = time_side_by_side(jobs, options.repeats, on_turn=lambda one: progress.update(), crew=crew)
            report["rows"] += rows_of(case, timed)
            report["skipped"] += skipped(case.name, timed)
    if options.with_peers:
        with epochs.simulated(store) as path, Progress("bench train, TCaF", unit="turn") as progress:
            for epoch in epochs.cases(path):
                beside = epochs.jobs_of(epoch, threads)
                timed = time_side_by_side(beside, options.repeats, epochs.verify, lambda one: progress.update())
                report["rows"] += epochs.rows_of(epoch, timed)
                report["skipped"] += skipped(epoch.name, timed)
        report["ratios"] = epochs.ratios(report["rows"])
    options.finish(report, markdown(report))
    return 1 if any(one["impl"] != epochs.RELEASED for one in report["skipped"]) else 0
