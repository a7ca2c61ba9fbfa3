"""Every system of ``neuroav.models`` under one protocol: MotionScenes ``small`` and a simulated UCF-GZSL.

Command:  ``neuroav run experiments/compare.py:all``; stopped and given again it goes on. One half of it:
          ``:motionscenes`` or ``:simulated``, the latter also as ``--set data.simulate.benchmark=vggsound --set
          data.store=vggsound.h5 --out runs/vggsound``.
Device:   CPU, about an hour on two cores, half of it in the deep transformers.
Settings: one stage of 300 steps of 64 clips, Adam 1e-3 falling tenfold after three quarters, the same batches for all.
          Sizes are the published ones, but MDFT has width 128 and the deep transformers (TCaF, EZ-AVGZL, SACMA,
          Perceiver) have 2 layers of 6, to fit the time; EZ-AVGZL has its optimised class vectors. Three seeds on
          MotionScenes, one on the simulated set.
Results:  ``experiments/results/compare.json`` and ``.md``, by ``python experiments/compare.py runs/compare``, of the
          runs that are finished there.

It compares systems at an equal, small budget, not at their best. Only MDFT, its controls and ``pooled`` read the events
of MotionScenes; the others get the averages or sequences of its video and audio descriptors. The simulated set has no
pixels, and its scores say nothing about the real one.
"""

import sys
from pathlib import Path
from typing import Any

from neuroav.baselines.ez_avgzl import EZConfig
from neuroav.baselines.perceiver import PerceiverConfig
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.baselines.sacma import SACMAConfig
from neuroav.baselines.tcaf import TCAFConfig
from neuroav.config import Comparison, Data, Experiment, MotionScenesData, SimulatedData
from neuroav.data.class_vectors import AsGiven, Optimised
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.data.synthetic import SyntheticConfig
from neuroav.files import load_json, save_json, save_text
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FeatureEvents, MLPLayers
from neuroav.models import cards
from neuroav.nn.losses import HeadsConfig
from neuroav.report.tables import format_markdown, results_table
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

RESULTS = Path(__file__).parent / "results"
TRAIN = TrainConfig(epochs=12, batches=25, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage())
SCENES = MotionScenesData(store="runs/data/motionscenes-small.h5", scenes=MotionScenesConfig(size="small"))
UCF = SimulatedData(store="runs/data/simulated-ucf-main.h5", simulate=SyntheticConfig(benchmark="ucf"))
SMALLER: dict[str, Any] = {
    "ez_avgzl": EZConfig(layers=2),
    "perceiver": PerceiverConfig(layers=2),
    "sacma": SACMAConfig(layers=2),
    "tcaf": TCAFConfig(layers=2),
}
HEADS = HeadsConfig(hidden=128)
NOTE = (
    "Every system at an equal, small budget (300 steps), not at its best. Only MDFT, its twin and Pooled MLP read the "
    "events of MotionScenes. The simulated UCF says nothing about the real one."
)


def _systems(motion: MDFTConfig, twin: MDFTConfig, pooled: PooledMLPConfig) -> dict[str, tuple[str, str, Any]]:
    """Folder -> title, entry of the table of models, configuration."""
    own = {"mdft": motion, "pooled": pooled}
    systems = {name: (card.title, name, (own | SMALLER).get(name)) for name, card in cards().items()}
    return {"mdft": systems.pop("mdft"), "mdft-twin": ("MDFT, ReLU twin", "mdft", twin), **systems}


def _runs(prefix: str, data: Data, seeds: tuple[int, ...], systems: dict[str, tuple[str, str, Any]]) -> Comparison:
    runs = tuple(
        (
            f"{prefix}-{folder}-{seed}",
            Experiment(
                name=title,
                data=data,
                model=model,
                config=config,
                train=TRAIN,
                seed=seed,
                class_vectors=Optimised() if model == "ez_avgzl" else AsGiven(),
            ),
        )
        for folder, (title, model, config) in systems.items()
        for seed in seeds
    )
    return Comparison(name=f"compare-{prefix}", title="Every system under one protocol", note=NOTE, runs=runs)


def motionscenes() -> Comparison:
    """MotionScenes ``small`` at scene bias 0.5, three seeds."""
    config = {"dim": 128, "heads": HEADS}
    twin = MDFTConfig(**config, motion=MLPLayers())
    return _runs("scenes", SCENES, (0, 1, 2), _systems(MDFTConfig(**config), twin, PooledMLPConfig(**config)))


def simulated() -> Comparison:
    """A simulated UCF-GZSL with 512-wide features, one seed; events come from features."""
    config = {"dim": 128, "heads": HEADS}
    motion = MDFTConfig(**config, events=FeatureEvents())
    twin = MDFTConfig(**config, events=FeatureEvents(), motion=MLPLayers())
    pooled = PooledMLPConfig(**config, inputs=("audio", "video"))
    return _runs("ucf", UCF, (0,), _systems(motion, twin, pooled))


def all() -> Comparison:
    """Both."""
    scenes = motionscenes()
    runs = (*scenes.runs, *simulated().runs)
    return Comparison(name="compare", title=scenes.title, note=NOTE, runs=runs)


def main(folder: Path) -> None:
    """Keep the results of the finished runs."""
    wanted = all()
    done = [load_json(path) for run, _ in wanted.runs if (path := folder / run / "results.json").exists()]
    rows = [row for results in done for row in results["rows"]]
    kept = [{k: v for k, v in row.items() if k not in ("recall", "layers")} for row in rows]
    save_json(RESULTS / "compare.json", {"versions": done[0]["versions"], "note": wanted.note, "rows": kept})
    missing = [run for run, _ in wanted.runs if not (folder / run / "results.json").exists()]
    note = f" Not run: {', '.join(missing)}." if missing else ""
    head = f"# {wanted.title}\n\n`neuroav run experiments/compare.py:all`. {wanted.note}{note}\n\n"
    save_text(RESULTS / "compare.md", head + format_markdown(results_table(rows)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
