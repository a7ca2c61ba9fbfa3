"""What writing, loading, batching and training cost against the number of clips and of steps: straight lines.

Command: ``python experiments/growth.py FOLDER`` (CPU, one thread, 4 minutes; a store at a time is made in FOLDER).
Writes ``experiments/results/growth_<date>.{json,md,svg}``: processor seconds at four numbers of clips and at four
lengths, on simulated VGGSound with 512 + 512 features. Training is a pass of MDFT (width 128, events from features)
over every clip, in batches of 64.
"""

import argparse
import dataclasses
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroav import models
from neuroav.bench.machine import machine
from neuroav.config import SimulatedData
from neuroav.data.sample import ClipData, Statistics, in_batch_negatives
from neuroav.data.synthetic import SyntheticConfig, generate
from neuroav.files import save_json, save_text
from neuroav.mdft.model import FeatureEvents, MDFTConfig
from neuroav.nn.losses import HeadsConfig
from neuroav.progress import Progress
from neuroav.task import prepare
from neuroav.train.optim import adam

RESULTS = Path(__file__).parent / "results"
SIZES = (0.005, 0.01, 0.02, 0.04)  # shares of VGGSound's clips
STRETCHES = (0.5, 1.0, 2.0, 4.0)  # at the second share
PASSES = 10
MODEL = MDFTConfig(dim=128, heads=HeadsConfig(hidden=128), events=FeatureEvents())
COSTS = {
    "write_s": "write",
    "load_s": "load, statistics",
    "batch_s": "batch every clip",
    "train_s": "MDFT: train on every clip",
}


def train(data: ClipData) -> None:
    """One pass of training over every clip."""
    model = models.build("mdft", data.spec, MODEL).train()
    optimizer, rng = adam(model, 1e-4, 0.0), np.random.default_rng(0)
    order = rng.permutation(len(data))
    for clips in np.array_split(order, len(data) // 64):
        negatives = torch.from_numpy(in_batch_negatives(data.labels[clips].numpy(), rng))
        optimizer.zero_grad()
        torch.stack(list(model.loss(data.batch(clips), negatives).values())).sum().backward()
        optimizer.step()


def measure(folder: Path, config: SyntheticConfig) -> dict[str, float]:
    """Processor seconds of each cost for one simulated benchmark."""
    path = folder / "growing.h5"
    path.unlink(missing_ok=True)
    times = [time.process_time()]
    generate(config, path, quiet=True)
    times.append(time.process_time())
    task = prepare(SimulatedData(store=str(path), simulate=config))
    everything = np.arange(len(task.store))
    data = task.data(everything, Statistics.of(task.load(everything)))
    times.append(time.process_time())
    for _ in range(PASSES):
        for batch in data.in_order(256):
            assert batch.size
    times.append(time.process_time())
    train(data)
    times.append(time.process_time())
    write, load, batch, step = np.diff(times)
    found = {"clips": len(task.store), "steps": int(task.store.lengths[0])}
    task.store.close()
    path.unlink()
    return found | {"write_s": write, "load_s": load, "batch_s": batch / PASSES, "train_s": step}


def straightness(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """R squared of a straight line through each cost."""
    found: dict[str, dict[str, float]] = {}
    for against in ("clips", "steps"):
        chosen = [row for row in rows if row["against"] == against]
        x = [row[against] for row in chosen]
        found[against] = {key: np.corrcoef(x, [row[key] for row in chosen])[0, 1] ** 2 for key in COSTS}
    return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Data above, training below, against clips at the left and steps per clip at the right, with straight lines."""
    from matplotlib.figure import Figure

    figure = Figure((9, 6.4), layout="constrained")
    kinds = (list(COSTS)[:3], list(COSTS)[3:])
    for line, keys in zip(figure.subplots(2, 2), kinds, strict=True):
        for ax, against in zip(line, ("clips", "steps"), strict=True):
            chosen = [row for row in rows if row["against"] == against]
            x = np.array([row[against] for row in chosen])
            for key in keys:
                y = np.array([row[key] for row in chosen])
                (points,) = ax.plot(x, y, "o", label=COSTS[key])
                slope, begin = np.polyfit(x, y, 1)
                ax.plot([0, x[-1]], [begin, begin + slope * x[-1]], color=points.get_color(), lw=0.8)
            fixed = f"{chosen[0]['steps']} steps each" if against == "clips" else f"{chosen[0]['clips']} clips"
            unit = "clips" if against == "clips" else "steps per clip"
            ax.set(xlim=0, ylim=0, xlabel=unit, ylabel="processor seconds", title=fixed)
            ax.legend(frameon=False)
    figure.suptitle("Simulated VGGSound, 512 + 512 features: cost and straight lines fitted to it", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    where = result["machine"]
    lines = [
        "# What cost grows with",
        "",
        f"`python experiments/growth.py`; {where['cpu']}, {where['cores']} cores, load {where['load_average'][0]:.1f}; "
        f"torch {where['torch']}, one thread, neuroav {where['neuroav']} at {where['commit']}, {where['date']}. "
        "Processor seconds; features are simulated; training is a pass of MDFT (width 128) over every clip.",
        "",
        "| clips | steps | " + " | ".join(COSTS.values()) + " |",
        "|" + "--:|" * (2 + len(COSTS)),
    ]
    for row in result["rows"]:
        costs = " | ".join(f"{row[key]:.2f}" for key in COSTS)
        lines.append(f"| {row['clips']} | {row['steps']} | {costs} |")
    for against, values in result["straight"].items():
        lines.append(f"| | R² against {against} | " + " | ".join(f"{value:.4f}" for value in values.values()) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    base = SyntheticConfig(benchmark="vggsound", share=SIZES[1])
    configs = [("clips", dataclasses.replace(base, share=share)) for share in SIZES]
    configs += [("steps", dataclasses.replace(base, stretch=stretch)) for stretch in STRETCHES]
    rows = []
    measure(folder, configs[0][1])  # what is done once per process is done
    with Progress("growth", total=len(configs), unit="size") as bar:
        for against, config in configs:
            rows.append({"against": against, **measure(folder, config)})
            bar.update(1)
    result = {"machine": machine(), "rows": rows, "straight": straightness(rows)}
    path = RESULTS / f"growth_{datetime.now(UTC).date()}"
    save_json(path.with_suffix(".json"), result)
    save_text(path.with_suffix(".md"), table(result))
    draw(rows, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
