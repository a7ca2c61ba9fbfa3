"""What can be told of a training while it goes on: figures of each epoch, and those who watch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from neuroav.train.checkpoint import writing


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch.

    Attributes:
        index: number of the epoch, from 0.
        terms: mean of each loss term.
        loss: their sum.
        hm: harmonic mean on the validation clips, a fraction.
        beta: the calibration that gives it.
        lr: learning rate used.
        rates: spikes per neuron and step of each spiking layer, on some of the validation clips.
    """

    index: int
    terms: dict[str, float]
    loss: float
    hm: float
    beta: float
    lr: float
    rates: dict[str, float] = field(default_factory=dict)


class Watch:
    """Somebody who is told; does nothing by itself."""

    def stage(self, number: int, epochs: int, batches: int) -> None:
        """A stage of so many epochs, of so many batches each, begins."""

    def batch(self, done: int, terms: Mapping[str, Tensor]) -> None:
        """So many batches of this epoch are done; the means of their loss terms so far."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over and saved; after an interruption, those before it are told again first."""

    def close(self) -> None:
        """Training is over, or has failed."""


class JsonLines(Watch):
    """A line for each epoch in ``path``, which is begun anew: a line torn by a kill goes, all epochs are told again."""

    def __init__(self, path: Path):
        self.path, self.number = path, 0
        path.unlink(missing_ok=True)

    def stage(self, number: int, epochs: int, batches: int) -> None:
        """Remember the stage."""
        self.number = number

    def epoch(self, epoch: Epoch) -> None:
        """Write the line."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": self.number, **vars(epoch)}) + "\n")
