"""Is MDFT behind its twin without spikes because 300 steps are few? Both at 300 and at 1200 steps.

Command:  ``python experiments/training_length.py FOLDER``; FOLDER is that of ``scene_bias.py``, whose clips and runs of
          300 steps it shares. Stopped at any time, it goes on.
Device:   CPU, about 20 minutes on two cores.
Settings: as in ``scene_bias.py`` at scene bias 0.5, split 0, no ambience; the learning rate falls after three quarters
          of either length. Three seeds.
Writes:   ``experiments/results/training_length.json`` and ``.md``.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from scene_bias import DRAWN, FIGURES, RESULTS, TRAIN, jobs, spread

from neuroav.demo import slug
from neuroav.files import save_json, save_text
from neuroav.processes import num_cores
from neuroav.run import run_many

LENGTHS = (1, 4)  # times the grid's
SEEDS = (0, 1, 2)
SYSTEMS = DRAWN[:2]  # MDFT and its twin
HEADS = ("S", "U", "HM", "ZSL", "HM at oracle beta")


def main(folder: Path, workers: int) -> None:
    """Run what is missing, then write the results."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = []
    for experiment, path in jobs(folder, [(0.0, seed, 0, 0.5) for seed in SEEDS]):
        if experiment.name in SYSTEMS:
            for times in LENGTHS:
                longer = replace(experiment, train=replace(experiment.train, epochs=times * TRAIN.epochs))
                place = folder / "longer" / f"{slug(experiment.name)}-{times}-{experiment.seed}"
                wanted.append((longer, path if times == 1 else place))
    results = run_many(wanted, workers, title="training length")
    rows = [
        {"steps": experiment.train.epochs * experiment.train.batches}
        | {k: v for k, v in row.items() if k not in ("recall", "layers", "train_s")}
        for (experiment, _), result in zip(wanted, results, strict=True)
        for row in result["rows"]
    ]
    save_json(RESULTS / "training_length.json", {"versions": results[0]["versions"], "rows": rows})
    text = markdown(rows)
    save_text(RESULTS / "training_length.md", text)
    sys.stdout.write(text)


def markdown(rows: list[dict]) -> str:
    """Percent, mean ± sample standard deviation over seeds."""
    lines = [
        f"MotionScenes small, scene bias 0.5: percent, mean ± s.d. over {len(SEEDS)} seeds.",
        "",
        f"| model | steps | test set | {' | '.join(HEADS)} |",
        "|" + "---|" * (len(HEADS) + 3),
    ]
    for key in sorted({(row["model"], row["steps"], row["test_set"]) for row in rows}):
        same = [row for row in rows if (row["model"], row["steps"], row["test_set"]) == key]
        cells = [spread([row[figure] for row in same]) for figure in FIGURES[: len(HEADS)]]
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/scene-bias"))
    parser.add_argument("--workers", type=int, default=num_cores())
    arguments = parser.parse_args()
    main(arguments.folder, arguments.workers)
