"""What can be told of a training while it goes on: figures of each epoch, and those who watch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from neuroav.checks import fail
from neuroav.files import writing


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


class TensorBoard(Watch):
    """Curves for TensorBoard in ``folder``, begun anew; a point for each epoch, at the number of batches so far.

    Written by tensorboardX, which needs neither TensorFlow nor TensorBoard itself.

    Raises:
        InputError: If tensorboardX is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            remedy = "Install it: pip install 'neuroav[tensorboard]'."
            raise fail("--tensorboard", "tensorboardX", "no such package", remedy) from None
        self.folder, self.batches, self.prefix = folder, 0, ""
        self._make = lambda: SummaryWriter(str(folder))
        self._writer: Any = None

    def stage(self, number: int, epochs: int, batches: int) -> None:
        """Begin anew with the first stage."""
        if self._writer is None:
            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = self._make()
        self.prefix, self.batches = f"stage{number}", batches

    def epoch(self, epoch: Epoch) -> None:
        """Add the points of an epoch."""
        figures = {"loss": epoch.loss, "validation_hm": epoch.hm, "beta": epoch.beta, "learning_rate": epoch.lr}
        figures |= {f"loss_terms/{name}": value for name, value in epoch.terms.items()}
        figures |= {f"spike_rates/{name}": value for name, value in epoch.rates.items()}
        for name, value in figures.items():
            self._writer.add_scalar(f"{self.prefix}/{name}", value, (epoch.index + 1) * self.batches)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
