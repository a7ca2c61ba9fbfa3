"""The training loop: balanced batches, validation after every epoch, the best epoch kept, resumable to the digit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.checks import check_choice, check_range, fail
from neuroav.data.sample import ClipData
from neuroav.train.checkpoint import load_tensors, restore_training, save_tensors, training_state
from neuroav.train.group import ALONE, DEVICES, Group
from neuroav.train.log import Epoch, Watch
from neuroav.train.optim import Plateau, Step, adam
from neuroav.train.seed import Streams, generator
from neuroav.train.step import Stepper, draw

SAVE_EVERY_S = 60.0
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class OneStage:
    """Train on the training classes, choose epoch and beta on validation, test once."""


@dataclass(frozen=True, kw_only=True)
class TwoStage:
    """The published protocol: choose epoch and beta in a first stage; train afresh on training and validation clips
    together up to that epoch; test once with that beta."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; defaults are the released loop of [avca] with the learning rate of [mdft].

    Attributes:
        epochs: passes of ``batches`` batches.
        batches: batches per epoch.
        batch_size: clips per batch, over all processes.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        betas: Adam's decay of the gradient and of its square; (0.5, 0.999) is usual where critics are trained.
        schedule: how the rate falls.
        protocol: one or two stages.
        shards: equal parts of a batch, each normalised, with its negatives, by itself; gradients are their mean.
            Several processes share the shards, and their number changes no result: a run of one process with two
            shards equals a run of two processes with one shard each. On a GPU also a way to save memory.
        clip_norm: longest gradient (its norm over all parameters); 0 leaves gradients as they are.
        precision: ``float32``, or ``bfloat16`` for matrix products in half the bits (automatic mixed precision).
        compile: whether ``torch.compile`` compiles the loss; models that loop over steps take minutes to compile.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one; results name what was used.
    """

    epochs: int = 50
    batches: int = 500
    batch_size: int = 256
    lr: float = 1e-4
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Plateau | Step = field(default_factory=Plateau)
    protocol: OneStage | TwoStage = field(default_factory=TwoStage)
    shards: int = 1
    clip_norm: float = 0.0
    precision: str = "float32"
    compile: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        lowest = {"epochs": 1, "batches": 1, "batch_size": 2, "lr": 0, "weight_decay": 0, "shards": 1, "clip_norm": 0}
        for name, low in lowest.items():
            check_range("TrainConfig", name, getattr(self, name), low)
            if math.isinf(getattr(self, name)):
                raise fail("TrainConfig", f"a finite {name}", "inf")
        if len(self.betas) != 2:
            raise fail("TrainConfig", "two betas", str(len(self.betas)))
        for beta in self.betas:
            check_range("TrainConfig", "betas", beta, 0, 0.9999)
        check_choice("TrainConfig", "precision", self.precision, PRECISIONS)
        check_choice("TrainConfig", "device", self.device, DEVICES)
        if self.batch_size % self.shards:
            raise fail("TrainConfig", f"batch_size divisible by shards={self.shards}", str(self.batch_size))


@dataclass
class Fitted:
    """Outcome of :func:`fit`: the history, and the epoch whose weights the model now holds."""

    history: list[Epoch] = field(default_factory=list)
    best: int = -1


class Validated(NamedTuple):
    """What validation finds: HM, the beta that gives it, and the spike rate of each spiking layer."""

    hm: float
    beta: float
    rates: dict[str, float] = {}  # noqa: RUF012, never changed


Validate = Callable[[nn.Module], tuple[float, float] | Validated]


def fit(
    model: nn.Module,
    data: ClipData,
    config: TrainConfig,
    *,
    seed: int,
    stage: int,
    validate: Validate,
    stop_after: int | None = None,
    checkpoint: Path | None = None,
    group: Group = ALONE,
    watches: Sequence[Watch] = (),
) -> Fitted:
    """Train ``model`` and leave it with the weights of the chosen epoch.

    Args:
        model: an :class:`~neuroav.baselines.base.AVModel`, on the group's device.
        data: training clips.
        config: length, rate, schedule.
        seed: fixes batches and dropout, together with ``stage``.
        stage: 1 or 2.
        validate: called after each epoch in evaluation mode, by the first process; returns HM, beta and spike rates.
        stop_after: ``None`` keeps the epoch with the best HM (the first of equals; while HM is 0, which prefers none,
            the latest); a number stops after so many epochs and keeps the last (stage 2 of the protocol).
        checkpoint: file to save to after each epoch, and each minute within one; and to go on from when it exists.
        group: the processes that train together; each calls this function alike.
        watches: told of each finished batch and epoch, first of the epochs before an interruption.

    Raises:
        InputError: If the loss is not finite, the checkpoint is damaged or of another model or device, or there are
            more processes than shards or a number of them that does not divide the shards.
        OutputError: If the checkpoint can't be written.
    """
    if config.shards % group.size:
        remedy = f"Set train.shards={group.size}: each process computes as many shards as the others."
        raise fail("fit", f"train.shards divisible by the {group.size} processes", str(config.shards), remedy)
    run = _Run(model, data, config, (seed, stage), group)
    last = config.epochs if stop_after is None else stop_after
    for watch in watches:
        watch.stage(stage, last, config.batches)
    (resumes,) = group.share(checkpoint is not None and checkpoint.exists())
    if checkpoint is not None and resumes:
        run.resume(checkpoint)
        for epoch, watch in ((epoch, watch) for epoch in run.fitted.history for watch in watches):
            watch.epoch(epoch)
    for index in range(len(run.fitted.history), last):
        lr = run.optimizer.param_groups[0]["lr"]
        terms = run.epoch(index, checkpoint, watches)
        model.eval()
        found = Validated(*validate(model)) if group.first else Validated(0.0, 0.0)
        hm, beta = group.share(found.hm, found.beta)
        run.finish(Epoch(index, terms, sum(terms.values()), hm, beta, lr, found.rates), always=stop_after is not None)
        if checkpoint is not None:
            run.save(checkpoint)
        for watch in watches:
            watch.epoch(run.fitted.history[-1])
    model.load_state_dict(run.best)
    model.eval()
    return run.fitted


@dataclass
class _Begun:
    """An epoch in the middle: batches done, sums of their loss terms, and the sampler that draws the next."""

    sampler: np.random.Generator
    batches: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)


class _Run:
    """All that changes during :func:`fit`, saved and restored whole.

    A checkpoint holds weights, Adam's moments, the best weights so far, random states, and as JSON the history, the
    sampler's state and the place in the epoch. A schedule's state follows from the history and is replayed from it.
    """

    def __init__(self, model: nn.Module, data: ClipData, config: TrainConfig, key: tuple[int, int], group: Group):
        self.model, self.data, self.config, self.key, self.group = model, data, config, key, group
        self.optimizer = adam(model, config.lr, config.weight_decay, config.betas)
        self.schedule = config.schedule.build(self.optimizer, config.epochs)
        self.streams = Streams((*key, 1), config.shards, group)
        self.stepper = Stepper(
            model,
            self.optimizer,
            self.streams,
            group,
            bfloat16=config.precision == "bfloat16",
            clip_norm=config.clip_norm,
            compiled=config.compile,
        )
        self.fitted, self.best = Fitted(), dict[str, Tensor]()
        self.begun = _Begun(generator(*key, 0))
        self.saved_at = time.monotonic()

    def epoch(self, index: int, checkpoint: Path | None, watches: Sequence[Watch]) -> dict[str, float]:
        """Train through the rest of an epoch; returns the mean of each loss term over all of it."""
        self.model.train()
        labels, config, begun = self.data.labels.numpy(), self.config, self.begun
        while begun.batches < config.batches:
            shards = draw(labels, config.batch_size, config.shards, begun.sampler)
            if begun.batches + 1 < config.batches:
                ahead = draw(labels, config.batch_size, config.shards, deepcopy(begun.sampler))
                self.data.expect(ahead[shard][0] for shard in self.streams.mine)
            for name, value in self.stepper.step(self.data, shards).items():
                begun.sums[name] = begun.sums.get(name, torch.zeros_like(value)) + value
            begun.batches += 1
            for watch in watches:
                watch.batch(begun.batches, {name: total / begun.batches for name, total in begun.sums.items()})
            if checkpoint is not None and self._is_time():
                self._means()
                self.save(checkpoint)
        means = self._means()
        self.begun = _Begun(generator(*self.key, index + 1))
        return means

    def _is_time(self) -> bool:
        (due,) = self.group.share(time.monotonic() - self.saved_at >= SAVE_EVERY_S)
        return bool(due)

    def _means(self) -> dict[str, float]:
        """Mean of each loss term over the batches done, all of them finite."""
        means = {name: float(total) / self.begun.batches for name, total in self.begun.sums.items()}
        if not np.isfinite(list(means.values())).all():
            raise fail("training", "a finite loss", str(means), "Lower train.lr, or check the features for outliers.")
        return means

    def finish(self, epoch: Epoch, always: bool) -> None:
        """Add an epoch to the history; keep its weights if it is the best so far, or ``always``."""
        fitted = self.fitted
        if always or fitted.best < 0 or epoch.hm > (fitted.history[fitted.best].hm or -1.0):
            fitted.best, self.best = epoch.index, {k: v.clone() for k, v in self.model.state_dict().items()}
        fitted.history.append(epoch)
        _advance(self.schedule, epoch.hm)

    def save(self, path: Path) -> None:
        """Write the checkpoint; all processes give their random states, the first writes."""
        state = training_state(self.model, self.optimizer, self.best) | {"streams": self.streams.state()}
        note = {
            "best": self.fitted.best,
            "history": [vars(epoch) for epoch in self.fitted.history],
            "device": self.group.device.type,
            "batches": self.begun.batches,
            "sums": {name: float(total) for name, total in self.begun.sums.items()},
            "sampler": self.begun.sampler.bit_generator.state,
        }
        if self.group.first:
            save_tensors(path, state, note)
        self.saved_at = time.monotonic()

    def resume(self, path: Path) -> None:
        """Undo :meth:`save`."""
        state, note = load_tensors(path)
        device = self.group.device
        try:
            if note["device"] != device.type:
                raise fail(str(path), f"a run begun on {device.type}", note["device"], "Go on there, or start anew.")
            self.best = restore_training(self.model, self.optimizer, state)
            self.streams.restore(state["streams"])
            self.fitted.best = note["best"]
            self.begun.batches = note["batches"]
            self.begun.sums = {name: torch.tensor(total, device=device) for name, total in note["sums"].items()}
            self.begun.sampler.bit_generator.state = note["sampler"]
        except (KeyError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise fail(str(path), "the training state of this model", what, "Start anew elsewhere.") from error
        for values in note["history"]:
            self.fitted.history.append(Epoch(**values))
            self.optimizer.step()  # a step without gradients: changes nothing, tells the schedule that training began
            _advance(self.schedule, values["hm"])


def _advance(schedule: Any, hm: float) -> None:
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        schedule.step(hm)
    else:
        schedule.step()
