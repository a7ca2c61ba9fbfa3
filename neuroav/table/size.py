"""How large a table is run: an equal, small budget for all rows, or everything as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

from neuroav.baselines.avfs import AVFSConfig
from neuroav.baselines.fvaegan_d2 import FVAEGAND2Config
from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.config import Experiment, MotionScenesData, override
from neuroav.data.synthetic import BENCHMARKS
from neuroav.demo import controls
from neuroav.mdft.model import MDFTConfig
from neuroav.nn.synthesis import SoftmaxConfig
from neuroav.nn.tokens import TokensConfig
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An equal, small budget for all rows; what the rows of a table differ in stays as it is.

    Attributes:
        train: how every row is trained.
        width: of MDFT and of its controls.
        layers: most of a transformer.
        softmax: classifier of generative models.
        scenes: size of MotionScenes.
        share: of the clips of a simulated benchmark.
    """

    train: TrainConfig
    width: int
    layers: int
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)
    scenes: str
    share: dict[str, float]

    def fit(self, rows: dict[str, Experiment]) -> dict[str, Experiment]:
        """The experiments at this size."""
        return {name: self._fit(row, list(rows.values())) for name, row in rows.items()}

    def _fit(self, row: Experiment, rows: Sequence[Experiment]) -> Experiment:
        wanted: dict[str, int] = {}
        if isinstance(row.config, MDFTConfig | PooledMLPConfig):
            wanted = {"dim": self.width, "heads.hidden": self.width}
        elif isinstance(row.config, TokensConfig):
            wanted = {"layers": min(self.layers, row.config.layers)}
        elif isinstance(row.config, AVFSConfig | FVAEGAND2Config):
            row = replace(row, config=replace(row.config, softmax=self.softmax))
        alike = [other.config for other in rows if type(other.config) is type(row.config)]
        changes = [f"config.{p}={v}" for p, v in wanted.items() if len(set(map(attrgetter(p), alike))) == 1]
        return replace(override(row, changes), train=replace(self.train, **self._kept(row, rows)))

    def _kept(self, row: Experiment, rows: Sequence[Experiment]) -> dict[str, Any]:
        """Settings of training in which rows differ that are the same in all else."""
        same = replace(row, name="", train=self.train)
        alike = [other.train for other in rows if replace(other, name="", train=self.train) == same]
        names = [entry.name for entry in fields(TrainConfig)]
        return {n: getattr(row.train, n) for n in names if len({repr(getattr(each, n)) for each in alike}) > 1}

    def controls(self, data: MotionScenesData) -> dict[str, Experiment]:
        """What every MotionScenes table compares with."""
        return controls(data, self.train, dim=self.width, seed=0)

    def sentence(self) -> str:
        """What a reader has to know of it."""
        steps = self.train.epochs * self.train.batches
        return (
            f"An equal, small budget in place of the published one: one stage of {steps} steps of "
            f"{self.train.batch_size} clips, MDFT {self.width} wide, at most {self.layers} of a transformer's layers."
        )


@dataclass(frozen=True)
class AsPublished:
    """Sizes, steps and stages as in the experiment files."""

    scenes: str = "full"

    @property
    def share(self) -> dict[str, float]:
        """All clips."""
        return dict.fromkeys(BENCHMARKS, 1.0)

    def fit(self, rows: dict[str, Experiment]) -> dict[str, Experiment]:
        """The experiments as they are."""
        return rows

    def controls(self, data: MotionScenesData) -> dict[str, Experiment]:
        """What every MotionScenes table compares with."""
        return controls(data, TrainConfig(), dim=MDFTConfig().dim, seed=0)

    def sentence(self) -> str:
        """What a reader has to know of it."""
        return "Published widths, steps and stages, with the settings of the printed data set."


SIZES: dict[str, Budget | AsPublished] = {
    "tiny": Budget(
        train=TrainConfig(epochs=2, batches=3, batch_size=16, lr=1e-3, schedule=Step(), protocol=OneStage()),
        width=32,
        layers=2,  # with one, rows that differ in what later layers see would be the same
        softmax=SoftmaxConfig(synthetic=10, epochs=2),
        scenes="tiny",
        share={"ucf": 0.01, "activitynet": 0.001, "vggsound": 0.001},
    ),
    "small": Budget(
        train=TrainConfig(epochs=12, batches=25, batch_size=64, lr=1e-3, schedule=Step(), protocol=OneStage()),
        width=128,
        layers=2,
        scenes="small",
        share={"ucf": 1.0, "activitynet": 0.1, "vggsound": 0.1},
    ),
    "full": AsPublished(),
}
