"""The training loop: balanced batches, validation after every epoch, the best epoch kept, resumable to the digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.checks import check_range, fail
from neuroav.data.sample import ClipData, class_balanced, in_batch_negatives
from neuroav.train.checkpoint import load_tensors, restore_training, save_tensors, training_state
from neuroav.train.optim import Plateau, Step, adam
from neuroav.train.seed import generator, seed_torch


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
        batch_size: clips per batch.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        schedule: how the rate falls.
        protocol: one or two stages.
    """

    epochs: int = 50
    batches: int = 500
    batch_size: int = 256
    lr: float = 1e-4
    weight_decay: float = 1e-5
    schedule: Plateau | Step = field(default_factory=Plateau)
    protocol: OneStage | TwoStage = field(default_factory=TwoStage)

    def __post_init__(self) -> None:
        for name, low in {"epochs": 1, "batches": 1, "batch_size": 2, "lr": 0, "weight_decay": 0}.items():
            check_range("TrainConfig", name, getattr(self, name), low)


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch: mean of each loss term, their sum, validation HM and its beta, learning rate used."""

    index: int
    terms: dict[str, float]
    loss: float
    hm: float
    beta: float
    lr: float


@dataclass
class Fitted:
    """Outcome of :func:`fit`: the history, and the epoch whose weights the model now holds."""

    history: list[Epoch] = field(default_factory=list)
    best: int = -1


Validate = Callable[[nn.Module], tuple[float, float]]


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
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fitted:
    """Train ``model`` and leave it with the weights of the chosen epoch.

    Args:
        model: an :class:`~neuroav.baselines.base.AVModel`.
        data: training clips.
        config: length, rate, schedule.
        seed: fixes batches and dropout, together with ``stage``.
        stage: 1 or 2.
        validate: called after each epoch in evaluation mode; returns HM and beta.
        stop_after: ``None`` keeps the epoch with the best HM (the first of equals; while HM is 0, which prefers none,
            the latest); a number stops after so many epochs and keeps the last (stage 2 of the protocol).
        checkpoint: file to save to after each epoch, and to go on from when it exists.
        on_epoch: told about each finished epoch, first about those before an interruption.

    Raises:
        InputError: If the loss is not finite, or the checkpoint is damaged or of another model.
    """
    optimizer = adam(model, config.lr, config.weight_decay)
    schedule = config.schedule.build(optimizer, config.epochs)
    fitted, best = Fitted(), {}
    if checkpoint is not None and checkpoint.exists():
        best = _resume(model, optimizer, schedule, checkpoint, fitted)
        for epoch in fitted.history:
            on_epoch(epoch)
    else:
        seed_torch(seed, stage, 1)
    labels = data.labels.numpy()
    for index in range(len(fitted.history), stop_after or config.epochs):
        lr = optimizer.param_groups[0]["lr"]
        terms = _train_epoch(model, optimizer, data, labels, config, (seed, stage, index))
        model.eval()
        hm, beta = validate(model)
        epoch = Epoch(index, terms, sum(terms.values()), hm, beta, lr)
        if stop_after is not None or fitted.best < 0 or hm > (fitted.history[fitted.best].hm or -1.0):
            fitted.best, best = index, {k: v.clone() for k, v in model.state_dict().items()}
        fitted.history.append(epoch)
        _advance(schedule, hm)
        if checkpoint is not None:
            note = {"best": fitted.best, "history": [vars(e) for e in fitted.history]}
            save_tensors(checkpoint, training_state(model, optimizer, best), note)
        on_epoch(epoch)
    model.load_state_dict(best)
    model.eval()
    return fitted


def _train_epoch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    data: ClipData,
    labels: np.ndarray,
    config: TrainConfig,
    key: tuple[int, int, int],
) -> dict[str, float]:
    """One epoch; returns the mean of each loss term."""
    model.train()
    rng = generator(*key)
    totals: dict[str, Tensor] = {}
    for _ in range(config.batches):
        drawn = class_balanced(labels, config.batch_size, rng)
        negatives = torch.from_numpy(in_batch_negatives(labels[drawn], rng))
        terms = model.loss(data.batch(drawn), negatives)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        for name, value in terms.items():
            totals[name] = totals.get(name, torch.zeros(())) + value.detach()
    means = {name: float(total) / config.batches for name, total in totals.items()}
    if not np.isfinite(list(means.values())).all():
        raise fail("training", "a finite loss", str(means), "Lower train.lr, or check the features for outliers.")
    return means


def _advance(schedule: Any, hm: float) -> None:
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        schedule.step(hm)
    else:
        schedule.step()


def _resume(
    model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, checkpoint: Path, fitted: Fitted
) -> dict[str, Tensor]:
    """Restore an interrupted run; schedules are replayed from the history, so they need no state of their own."""
    state, note = load_tensors(checkpoint)
    try:
        best = restore_training(model, optimizer, state)
        fitted.best = note["best"]
    except (KeyError, RuntimeError) as error:
        what = str(error).splitlines()[0]
        raise fail(str(checkpoint), "the training state of this model", what, "Start anew elsewhere.") from error
    for values in note["history"]:
        fitted.history.append(Epoch(**values))
        optimizer.step()  # a step without gradients: changes nothing, tells the schedule that training began
        _advance(schedule, values["hm"])
    return best
