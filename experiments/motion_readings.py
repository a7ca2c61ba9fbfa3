"""Which readings of the motion stream learn motion? MotionScenes small, events only, scene bias 0.5, three seeds.

Command: ``python experiments/motion_readings.py STORE [FOLDER]``; the store is made if it is not there.
Device:  CPU. About 6 minutes on two cores.
The motion stream alone makes the embedding, so that nothing else can help. Each row changes one choice of the default.
Writes:  ``experiments/results/motion_readings.json`` and ``.md``.
"""

import sys
from pathlib import Path

from scene_bias import RESULTS, in_columns, layer_cells, spread

from neuroav.config import Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.demo import DIM, LENGTH
from neuroav.files import save_json, save_text
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import (
    AnchoredThreshold,
    FixedThreshold,
    MLPLayers,
    PrintedThreshold,
    ProductThreshold,
    SpikingLayers,
)
from neuroav.nn.losses import HeadsConfig, PrintedWords
from neuroav.run import run_many
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

SCENES = MotionScenesConfig(size="small", scene_biases=(0.0, 0.5, 0.9))
SEEDS = (0, 1, 2)
HEADS = HeadsConfig(hidden=DIM)
READINGS = {
    "default": {},
    "one presentation": {"motion": SpikingLayers(repeats=1)},
    "no delays": {"motion": SpikingLayers(delays=(0,))},
    "one presentation, no delays": {"motion": SpikingLayers(repeats=1, delays=(0,))},
    "soft reset": {"motion": SpikingLayers(reset="soft")},
    "v0 = 1": {"threshold": AnchoredThreshold(v0=1.0)},
    "fixed threshold 0.5": {"threshold": FixedThreshold(v_th=0.5)},
    "clamped product": {"threshold": ProductThreshold()},
    "printed threshold": {"threshold": PrintedThreshold()},
    "printed word projection": {"heads": HeadsConfig(hidden=DIM, word=PrintedWords())},
    "MLP twin": {"motion": MLPLayers()},
    "MLP twin, no delays": {"motion": MLPLayers(delays=(0,))},
}


def main(store: str, folder: Path) -> None:
    """Run what is missing, then write the table."""
    epochs, batches = LENGTH["small"]
    train = TrainConfig(epochs=epochs, batches=batches, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
    data = MotionScenesData(store=store, scenes=SCENES, scene_bias=0.5)
    jobs = []
    for name, change in READINGS.items():
        parts = {"modalities": ("video",), "context": False, "scene": None, "dim": DIM, "heads": HEADS, **change}
        for seed in SEEDS:
            experiment = Experiment(name=name, data=data, config=MDFTConfig(**parts), train=train, seed=seed)
            jobs.append((experiment, folder / f"{name.replace(' ', '-')}-seed{seed}"))
    results = run_many(jobs, 2, title="readings")
    rows = [row for result in results for row in result["rows"]]
    about = {"versions": results[0]["versions"], "split": 0, "scene_bias": data.scene_bias}
    save_json(RESULTS / "motion_readings.json", {**about, "rows": rows})
    save_text(RESULTS / "motion_readings.md", markdown(rows))
    sys.stdout.write(markdown(rows))


def markdown(rows: list[dict]) -> str:
    """Shuffled test set: percent, mean ± sample standard deviation over seeds."""
    heads = ["S", "U", "HM", "ZSL"]
    lines = [
        f"MotionScenes small, events only, scenes shuffled, {len(SEEDS)} seeds: percent, mean ± s.d. ZSL chance 11.1.",
        "",
        "| reading | " + " | ".join(heads) + " | spike rate | dead | theta s.d. |",
        "|" + "---|" * (len(heads) + 4),
    ]
    for name in READINGS:
        same = [r for r in rows if r["model"] == name and r["test_set"] == "shuffled"]
        cells = [spread([r[f] for r in same]) for f in ("seen", "unseen", "hm", "zsl")]
        lines.append(f"| {name} | " + " | ".join([*cells, *layer_cells([in_columns(r) for r in same])]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "runs/motion-readings"))
