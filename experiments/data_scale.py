"""Simulated VGGSound at scale: how long a training step waits for its batch, and peak memory.

Command: ``python experiments/data_scale.py FOLDER [--share S]`` (CPU, 4 GB of disk for the stores of ``main`` features
         and 25 GB for those of ``cls`` at share 1; minutes to make each where FOLDER does not hold it yet).
Writes ``experiments/results/data_scale_<date>.{json,md}``. Each training run is a process of its own. A step waits
from asking for its batch to having it; every other batch is announced a step ahead, as the training loop does, or none.
"""

import argparse
import json
import statistics as stats
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroav import models
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.bench.machine import machine, resident_bytes
from neuroav.config import SimulatedData
from neuroav.data.sample import Statistics, in_batch_negatives
from neuroav.data.synthetic import SyntheticConfig
from neuroav.files import save_json, save_text
from neuroav.mdft.model import FeatureEvents, MDFTConfig
from neuroav.task import Task, prepare
from neuroav.train.step import draw

RESULTS = Path(__file__).parent / "results"
# features, model, its configuration, clips in a batch (the released loops'), steps timed
RUNS: dict[str, tuple[str, str, Any, int, int]] = {
    "mdft": ("main", "mdft", MDFTConfig(events=FeatureEvents()), 256, 8),
    "pooled": ("main", "pooled", PooledMLPConfig(inputs=("audio", "video")), 256, 60),
    "tcaf": ("cls", "tcaf", None, 64, 8),
}
WARM_UP = 2


def simulated(folder: Path, config: SyntheticConfig) -> Task:
    """The store of ``config`` in ``folder``, made where it is not there yet."""
    name = f"{config.benchmark}-{config.features}-{config.share:g}-{config.stretch:g}.h5"
    return prepare(SimulatedData(store=str(folder / name), simulate=config))


def train(folder: Path, name: str, share: float) -> dict[str, Any]:
    """Stage 1's data and some steps on it; seconds waited and worked, and the peak of this process's memory."""
    features, model_name, config, batch_size, steps = RUNS[name]
    task = simulated(folder, SyntheticConfig(benchmark="vggsound", features=features, share=share))
    start, parts = time.perf_counter(), next(iter(task.parts.values()))
    statistics = Statistics.of(task.load(parts["train"]))
    data = task.data(parts["train"], statistics)
    val = task.data(np.concatenate([parts["val_seen"], parts["val_unseen"]]), statistics)
    ready, model = time.perf_counter() - start, models.build(model_name, data.spec, config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    rng, labels = np.random.default_rng(0), data.labels.numpy()
    result = {"loading_s": ready, "train_clips": len(data), "val_clips": len(val), "batch": batch_size, "steps": steps}
    for announced in (True, False):
        waits, works, following = [], [], draw(labels, batch_size, 1, rng)
        for _ in range(steps + WARM_UP):
            clips, following = following[0][0], draw(labels, batch_size, 1, rng)
            negatives = torch.from_numpy(in_batch_negatives(labels[clips], rng))
            if announced:
                data.expect([following[0][0]])
            begun = time.perf_counter()
            batch = data.batch(clips)
            got = time.perf_counter()
            optimizer.zero_grad()
            torch.stack(list(model.loss(batch, negatives).values())).sum().backward()
            optimizer.step()
            waits.append(got - begun)
            works.append(time.perf_counter() - got)
        waits, works = waits[WARM_UP:], works[WARM_UP:]
        key = "announced" if announced else "asked"
        result[key] = {
            "wait_share": sum(waits) / (sum(waits) + sum(works)),
            "wait_s": stats.median(waits),
            "work_s": stats.median(works),
        }
    result["share"] = share
    return result | {"peak_bytes": resident_bytes(), "data_bytes": _data_bytes(task)}


def _data_bytes(task: Task) -> int:
    """Bytes of all features of the store in memory, if they were."""
    clip = task.store.load([0])
    return 4 * int(
        task.store.lengths.sum() * clip.video.shape[1] + task.store.audio_lengths.sum() * clip.audio.shape[1]
    )


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    where = result["machine"]
    lines = [
        "# Simulated VGGSound: waiting for data, memory",
        "",
        f"`python experiments/data_scale.py`; {where['cpu']}, {where['cores']} cores, load "
        f"{where['load_average'][0]:.1f}, {where['memory_bytes'] / 2**30:.0f} GiB; torch {where['torch']}, "
        f"{result['threads']} thread(s), neuroav {where['neuroav']} at {where['commit']}, {where['date']}. "
        "Features are simulated.",
        "",
        "| model | features | share of clips | train + val clips | features, GB | batch | step, s "
        "| waits, announced | waits, asked | loading, s | peak, GiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["training"].items():
        told, asked = row["announced"], row["asked"]
        lines.append(
            f"| {name} | {RUNS[name][0]} | {row['share']:g} | {row['train_clips']} + {row['val_clips']} "
            f"| {row['data_bytes'] / 1e9:.1f} | {row['batch']} | {told['work_s']:.3f} "
            f"| {told['wait_share']:.2%} | {asked['wait_share']:.2%} | {row['loading_s']:.0f} "
            f"| {row['peak_bytes'] / 2**30:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _part(folder: Path, name: str, share: float) -> Any:
    """Run one part in a process of its own; a part measured before is read from ``FOLDER/<name>.json``."""
    kept = folder / f"{name}-{share:g}.json"
    if not kept.exists():
        command = [sys.executable, __file__, str(folder), "--run", name, "--share", str(share)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        save_json(kept, json.loads(done.stdout.splitlines()[-1]))
    return json.loads(kept.read_text(encoding="utf-8"))


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the clips with cls features (main: all)")
    parser.add_argument("--run", choices=RUNS, help="only this part, as JSON on standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.run:
        sys.stdout.write(json.dumps(train(args.folder, args.run, args.share)) + "\n")
        return
    parts: dict[str, Any] = {}
    for name in RUNS:
        share = args.share if RUNS[name][0] == "cls" else 1.0
        parts[name] = _part(args.folder, name, share)
    result = {"machine": machine(), "threads": torch.get_num_threads(), "training": parts}
    path = RESULTS / f"data_scale_{datetime.now(UTC).date()}"
    save_json(path.with_suffix(".json"), result)
    save_text(path.with_suffix(".md"), table(result))


if __name__ == "__main__":
    main()
