"""Accuracy against energy: MDFT at several settings and its twins without spikes, one budget for all.

Command:  ``neuroav run experiments/energy.py:all``, stopped and given again it goes on (a part: ``:width_128``);
          then ``neuroav energy runs/energy`` for counts, estimates and curve; with a GPU ``--measure`` as well.
Device:   CPU, about 35 minutes on two quiet cores; what differs in numbers alone is trained once.
Settings: MotionScenes ``small`` at scene bias 0.5, one stage of 300 steps of 64 clips as in ``compare.py``, three
          seeds. Spiking: widths 64, 128 and 256, in float32 and int8; at width 128 one and two presentations of a
          step, not four, and thresholds held at 0.25 and 1. Without spikes (``neuroav.twins``): ReLU, GELU, ReLU in
          bfloat16 and in int8, and as many levels as the neurons have rates, in float32 and int8, at each width; for
          one and two presentations, whose other twins are the same, the levels.
Results:  ``experiments/results/energy.json``, ``.md`` and ``.svg``, by ``python experiments/energy.py runs/energy``, of
          what ``neuroav energy`` wrote there.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuroav.config import Comparison, Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.energy.curve import estimate_curves
from neuroav.files import load_json, save_text
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FixedThreshold, SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.nn.numbers import Int8
from neuroav.report.tradeoff import curve_plot
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step
from neuroav.twins import twins

RESULTS = Path(__file__).parent / "results"
TRAIN = TrainConfig(epochs=12, batches=25, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
SCENES = MotionScenesData(store="runs/data/motionscenes-small.h5", scenes=MotionScenesConfig(size="small"))
SEEDS = (0, 1, 2)
NOTE = "300 steps for every point. An estimate of energy is no measurement."
LEFT_OUT = ("### Bytes", "### Layers", "## Estimated", "### Estimate for", "### Prices", "## Measured")
UNSAID = ("source", "task", "trained")
Runs = dict[str, Experiment]


def mdft(width: int, repeats: int = 4, threshold: FixedThreshold | None = None) -> Experiment:
    """MDFT of a width, shown each step so many times, under the dynamic threshold or one that is held."""
    config = MDFTConfig(dim=width, heads=HeadsConfig(hidden=width), motion=SpikingLayers(repeats=repeats))
    name = f"MDFT {width}" + ("" if repeats == 4 else f", shown {repeats}x")
    if threshold is not None:
        config, name = replace(config, threshold=threshold), f"{name}, threshold {threshold.v_th:g}"
    return Experiment(name=name, data=SCENES, config=config, train=TRAIN)


def at_width(width: int) -> Runs:
    """MDFT of a width, in float32 and in int8, and all its twins."""
    spiking = mdft(width)
    runs = {f"{width}": spiking, f"{width}-int8": replace(spiking, name=f"{spiking.name}, int8", numbers=Int8())}
    return runs | {f"{width}-{key}": twin for key, twin in twins(spiking).items()}


def settings() -> Runs:
    """Presentations and thresholds at width 128, and the twins that these add."""
    runs = {f"128-threshold-{v_th:g}": mdft(128, threshold=FixedThreshold(v_th=v_th)) for v_th in (0.25, 1.0)}
    for repeats in (1, 2):
        spiking = mdft(128, repeats)
        levels = {key: twin for key, twin in twins(spiking).items() if key.startswith("levels")}
        runs |= {f"128-shown-{repeats}": spiking} | {f"128-shown-{repeats}-{key}": each for key, each in levels.items()}
    return runs


def width_128() -> Comparison:
    """One width and its twins: eight points."""
    return _comparison(at_width(128))


def all() -> Comparison:
    """Every point of the curve, width 128 first."""
    return _comparison(at_width(128) | settings() | at_width(64) | at_width(256))


def _comparison(points: Runs) -> Comparison:
    runs = tuple((f"{key}-{seed}", replace(each, seed=seed)) for key, each in points.items() for seed in SEEDS)
    return Comparison(name="energy", title="Accuracy against energy", note=NOTE, runs=runs)


def main(folder: Path) -> None:
    """Keep of what ``neuroav energy`` wrote: figures of each run, curves, counts, limits and conditions."""
    report = load_json(folder / "energy.json")
    rows = [_figures(row) for row in report["rows"] if row["rule"] == "binary"]
    head = {key: report[key] for key in ("versions", "checklist")}
    lines = ",\n".join(json.dumps(row) for row in rows)
    save_text(RESULTS / "energy.json", f'{json.dumps(head)[:-1]},\n"rows": [\n{lines}\n]}}\n')
    sections = re.split(r"^(?=##+ )", (folder / "energy.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = "".join(each for each in sections[1:] if not each.startswith(LEFT_OUT))
    text = "".join(line for line in kept.splitlines(True) if "| no spikes |" not in line)
    missing = sorted({each.name for _, each in all().runs} - {row["model"] for row in rows})
    note = f" Not run: {'; '.join(missing)}." if missing else ""
    save_text(RESULTS / "energy.md", f"# Accuracy against energy\n\n{NOTE}{note}\n\n{text}")
    curve = estimate_curves(report["rows"])[0]
    save_text(RESULTS / "energy.svg", curve_plot(curve, "energy").svg + "\n")


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    """What is one number of a run, its scores, what it multiplies, and each table's estimate in J, low and high."""
    plain = {key: value for key, value in row.items() if isinstance(value, int | float | str) and key not in UNSAID}
    macs = {number: work["macs"] for number, work in row["by_number"].items()}
    tables = {each["table"]: [float(f"{each[end]:.4g}") for end in ("low_j", "high_j")] for each in row["estimates"]}
    return plain | {"scores": row["scores"], "macs_by_number": macs, "estimates_j": tables}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
