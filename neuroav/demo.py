"""``neuroav demo``: the whole path on embedded data, from rendered pixels and sound to a table and a page."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from neuroav.checks import check_range, fail
from neuroav.config import Comparison, Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.files import load_json, save_json
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import MLPLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.run import checked_workers, run_comparison
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
    workers = checked_workers("demo", workers)
    check_range("demo", "seed", seed, low=0)
    folder = _free_folder(out)
    epochs, batches = LENGTH[size]
    train = TrainConfig(epochs=epochs, batches=batches, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
    data = MotionScenesData(
        store=str(folder / "motionscenes.h5"), scenes=MotionScenesConfig(size=size, seed=seed), scene_bias=0.5
    )
    experiments = controls(data, train, dim=DIM, seed=seed)
    del experiments["events only"]  # in experiments/scene_bias.py; left out here to fit the time
    comparison = Comparison(
        name="training",
        title=f"MotionScenes {size}, scene bias {data.scene_bias:g}",
        note=NOTE.format(dim=DIM, steps=epochs * batches),
        runs=tuple((slug(name), each) for name, each in experiments.items()),
    )
    rows = run_comparison(comparison, folder, workers)["rows"]
    return _finish(folder, rows, comparison.note, json_path, start)


def _finish(folder: Path, rows: list[dict[str, Any]], note: str, json_path: str | None, start: float) -> int:
    from neuroav.report.html import write_report
    from neuroav.report.tables import format_results

    page = write_report(folder)
    if json_path is not None:
        save_json(Path(json_path), load_json(folder / "results.json"))
    seconds = time.perf_counter() - start
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


def slug(name: str) -> str:
    """Return the letters and digits of a name in lower case, joined by hyphens.

    Example:
        >>> slug("W/o L_n + L_r")
        'w-o-l-n-l-r'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
