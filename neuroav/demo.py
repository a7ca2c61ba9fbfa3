"""``neuroav demo``: the whole path on embedded data, from rendered pixels and sound to a table and a page."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import check_range, fail
from neuroav.config import Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig, generate
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import MLPLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.run import made, run_many, write_results
from neuroav.train.checkpoint import load_json, save_json
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

NOTE = (
    "Demo: one stage, one seed, width {dim} and {steps} training steps, to fit the time. "
    "neuroav run has the two-stage protocol and the paper's widths; several seeds are in experiments/results."
)
LENGTH = {"tiny": (4, 10), "small": (12, 25)}  # epochs, batches per epoch
DIM = 128


def controls(data: MotionScenesData, train: TrainConfig, *, dim: int, seed: int) -> dict[str, Experiment]:
    """MDFT and what every MotionScenes table compares it with, by row name.

    ``EGM+MLP`` is the non-spiking twin, ``events only`` has no scene features, ``pooled events`` no time.
    """
    from neuroav.baselines.pooled import PooledMLPConfig

    heads = HeadsConfig(hidden=dim)
    models: dict[str, tuple[str, Any]] = {
        "MDFT (EGM+SNN)": ("mdft", MDFTConfig(dim=dim, heads=heads)),
        "MLP twin (EGM+MLP)": ("mdft", MDFTConfig(dim=dim, heads=heads, motion=MLPLayers())),
        "without motion stream": ("mdft", MDFTConfig(dim=dim, heads=heads, motion=None)),
        "pooled events": ("pooled", PooledMLPConfig(dim=dim, heads=heads)),
        "events only": ("mdft", MDFTConfig(dim=dim, heads=heads, modalities=("video",), context=False, scene=None)),
    }
    return {
        name: Experiment(name=name, data=data, model=model, config=config, train=train, seed=seed)
        for name, (model, config) in models.items()
    }


def demo_command(size: str, out: str | None, seed: int, workers: int | None, json_path: str | None) -> int:
    """Render, describe, train four models, evaluate, write the page, print the table."""
    start = time.perf_counter()
    workers = (os.cpu_count() or 1) if workers is None else workers
    check_range("demo", "workers", workers, low=1)
    check_range("demo", "seed", seed, low=0)
    folder = _free_folder(out)
    epochs, batches = LENGTH[size]
    train = TrainConfig(epochs=epochs, batches=batches, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
    data = MotionScenesData(
        store=str(folder / "motionscenes.h5"), scenes=MotionScenesConfig(size=size, seed=seed), scene_bias=0.5
    )
    with made(folder):
        generate(data.scenes, data.store, workers=workers)
    experiments = controls(data, train, dim=DIM, seed=seed)
    del experiments["events only"]  # in experiments/motionscenes.py; left out here to fit the time
    jobs = [(e, folder / _slug(name)) for name, e in experiments.items()]
    results = run_many(jobs, workers)

    rows = [row for result in results for row in result["rows"]]
    arrays: dict[str, np.ndarray] = {}
    for _, path in reversed(jobs):  # MDFT last: the example clip's spikes are its own
        with np.load(path / "arrays.npz", allow_pickle=False) as file:
            arrays |= dict(file)
    note = NOTE.format(dim=DIM, steps=epochs * batches)
    title = f"MotionScenes {size}, scene bias {data.scene_bias:g}"
    settings = load_json(jobs[0][1] / "config.json")
    write_results(folder, title, note, rows, arrays, {"experiment": settings})
    return _finish(folder, rows, note, json_path, time.perf_counter() - start)


def _finish(folder: Path, rows: list[dict[str, Any]], note: str, json_path: str | None, seconds: float) -> int:
    from neuroav.report.html import write_report
    from neuroav.report.tables import format_results

    page = write_report(folder)
    if json_path is not None:
        save_json(Path(json_path), load_json(folder / "results.json"))
    sys.stdout.write(f"\n{format_results(rows)}\n{note}\nreport: {page} ({seconds:.0f} s in all)\n")
    return 0


def _free_folder(out: str | None) -> Path:
    """``out`` if it is empty; by default the first free one of neuroav-demo, neuroav-demo-2, ..."""
    if out is None:
        number = 1
        while (folder := Path("neuroav-demo" if number == 1 else f"neuroav-demo-{number}")).exists():
            number += 1
        return folder
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise fail(out, "a new or empty directory", "one in use", "Choose another --out.")
    return folder


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
