"""Does the motion stream free the model from scene bias? MotionScenes small, split 0, three seeds, all controls.

Command:  ``python experiments/scene_bias_small.py [FOLDER]`` (default ``runs/scene-bias-small``); stopped at any time,
          the same command goes on.
Device:   CPU. About 20 minutes on two cores, most of it in MDFT and its twin.
Settings: width 128, one stage, 300 steps of 64 clips, Adam 1e-3 falling tenfold after three quarters.
Writes:   ``experiments/results/scene_bias_small.json``, ``.md`` and ``.svg``.
"""

import sys
from pathlib import Path

from scene_bias import figure, layer_cells, spread

from neuroav.config import MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig, generate
from neuroav.demo import DIM, LENGTH, controls
from neuroav.files import save_json
from neuroav.run import run_many
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

RESULTS = Path(__file__).parent / "results"
BIASES = (0.0, 0.5, 0.9)
SEEDS = (0, 1, 2)
FIGURES = ("seen", "unseen", "hm", "zsl", "hm_oracle", "follows_scene")


def main(folder: Path, workers: int = 2) -> None:
    """Run what is missing, then write the results."""
    scenes = MotionScenesConfig(size="small", scene_biases=BIASES)
    store = folder / "motionscenes-small.h5"
    folder.mkdir(parents=True, exist_ok=True)
    if not store.exists():
        generate(scenes, store)
    epochs, batches = LENGTH["small"]
    train = TrainConfig(epochs=epochs, batches=batches, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
    jobs = [
        (experiment, folder / f"{name.replace(' ', '-')}-bias{bias:g}-seed{seed}")
        for bias in sorted(BIASES, key=lambda b: abs(b - 0.5))
        for seed in SEEDS
        for name, experiment in controls(
            MotionScenesData(store=str(store), scenes=scenes, scene_bias=bias), train, dim=DIM, seed=seed
        ).items()
    ]
    results = run_many(jobs, workers, title="scene bias grid")
    rows = [
        {"scene_bias": job.data.scene_bias, **row}
        for (job, _), result in zip(jobs, results, strict=True)
        for row in result["rows"]
    ]
    save_json(RESULTS / "scene_bias_small.json", {"versions": results[0]["versions"], "split": 0, "rows": rows})
    (RESULTS / "scene_bias_small.md").write_text(markdown(rows), encoding="utf-8")
    drawn = figure([{"ambience": scenes.ambience_bias, **row} for row in rows])
    (RESULTS / "scene_bias_small.svg").write_text(drawn, encoding="utf-8")
    sys.stdout.write(markdown(rows))


def markdown(rows: list[dict]) -> str:
    """Percent, mean ± sample standard deviation over seeds."""
    heads = ["S", "U", "HM", "ZSL", "HM at oracle beta", "follows scene"]
    lines = [
        f"MotionScenes small, split 0, {len(SEEDS)} seeds: percent, mean ± s.d. ZSL chance 11.1.",
        "",
        "| scene bias | test set | model | " + " | ".join(heads) + " | spike rate | dead | theta s.d. |",
        "|" + "---|" * (len(heads) + 6),
    ]
    for key in dict.fromkeys((r["scene_bias"], r["test_set"], r["model"]) for r in rows):
        same = [r for r in rows if (r["scene_bias"], r["test_set"], r["model"]) == key]
        cells = [spread([r[f] for r in same]) for f in FIGURES]
        lines.append(f"| {key[0]:g} | {key[1]} | {key[2]} | " + " | ".join([*cells, *layer_cells(same)]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/scene-bias-small"))
