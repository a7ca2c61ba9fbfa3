"""The training loop on a toy model: which epoch is kept, schedules, resumption to the last digit."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from neuroav.checks import InputError
from neuroav.train.checkpoint import load_tensors
from neuroav.train.log import Watch
from neuroav.train.loop import TrainConfig, fit
from neuroav.train.optim import Plateau, Step
from neuroav.train.seed import seed_torch


class Toy(nn.Module):
    """A linear layer behind dropout, so that every step draws from torch's generator."""

    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def loss(self, batch, negatives):
        return {"fit": self.layer(batch).square().mean(), "apart": 0.1 * self.layer(batch[negatives]).abs().mean()}


class Clips:
    """Stands for ``ClipData``: 40 random rows in 4 classes; remembers what was drawn."""

    def __init__(self):
        self.labels = torch.arange(40) % 4
        self.rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        self.drawn, self.expected = [], []

    def expect(self, batches):
        self.expected += [indices.tolist() for indices in batches]

    def batch(self, indices):
        self.drawn.append(indices.tolist())
        return self.rows[indices]


CONFIG = TrainConfig(epochs=6, batches=2, batch_size=8, lr=1e-2, schedule=Step(at=0.5))
HM = [0.1, 0.3, 0.3, 0.2, 0.1, 0.3]


class Told(Watch):
    """Remembers everything."""

    def __init__(self):
        self.stages, self.batches, self.epochs = [], [], []

    def stage(self, *figures):
        self.stages.append(figures)

    def batch(self, done, terms):
        self.batches.append((done, {name: float(value) for name, value in terms.items()}))

    def epoch(self, epoch):
        self.epochs.append(epoch)


def train(config=CONFIG, hm=HM, **options):
    """Fit a new toy; returns it, what came out, and the weights after each epoch."""
    seed_torch(7)
    model, after = Toy(), []

    def validate(model):
        assert not model.training
        after.append({k: v.clone() for k, v in model.state_dict().items()})
        return hm[len(after) - 1 + options.get("from_epoch", 0)], 0.2 * len(after)

    options = {"seed": 1, "stage": 1, **options}
    call = {k: v for k, v in options.items() if k != "from_epoch"}
    fitted = fit(model, call.pop("data", Clips()), config, validate=validate, **call)
    return model, fitted, after


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_first_of_the_best_epochs_is_kept():
    model, fitted, after = train()
    assert fitted.best == 1
    assert equal(model.state_dict(), after[1])
    assert not equal(after[1], after[2])
    assert [e.hm for e in fitted.history] == HM
    assert [e.beta for e in fitted.history] == pytest.approx([0.2 * n for n in range(1, 7)])
    assert not model.training


@pytest.mark.parametrize(("hm", "best"), [([0.0] * 6, 5), ([0.0, 0.0, 0.1, 0.0, 0.1, 0.0], 2)])
def test_scores_of_zero_prefer_no_epoch_so_the_latest_is_kept(hm, best):
    model, fitted, after = train(hm=hm)
    assert fitted.best == best
    assert equal(model.state_dict(), after[best])


def test_the_second_stage_stops_after_the_given_epoch_and_keeps_it():
    model, fitted, after = train(stop_after=3)
    assert fitted.best == 2
    assert len(fitted.history) == len(after) == 3
    assert equal(model.state_dict(), after[2])


def test_batches_are_announced_a_step_ahead_within_an_epoch():
    data = Clips()
    train(dataclasses.replace(CONFIG, batches=4), data=data)
    assert len(data.drawn) == 24
    assert data.expected == [batch for i, batch in enumerate(data.drawn) if i % 4]


def test_history_adds_up_the_terms_and_notes_the_rate_used():
    _, fitted, _ = train()
    for epoch in fitted.history:
        assert epoch.loss == pytest.approx(epoch.terms["fit"] + epoch.terms["apart"])
    assert [e.lr for e in fitted.history] == pytest.approx([1e-2] * 3 + [1e-3] * 3)


def test_a_plateau_lowers_the_rate_after_patience_is_spent():
    config = dataclasses.replace(CONFIG, schedule=Plateau(patience=1))
    _, fitted, _ = train(config, [0.3, 0.2, 0.2, 0.2, 0.2, 0.4])
    assert [e.lr for e in fitted.history] == pytest.approx([1e-2] * 3 + [1e-3] * 2 + [1e-4])


@pytest.mark.parametrize("schedule", [Step(at=0.5), Plateau(patience=0)])
@pytest.mark.parametrize("done", [1, 3, 6])
def test_an_interrupted_fit_goes_on_to_the_same_digits(tmp_path, schedule, done):
    config = dataclasses.replace(CONFIG, schedule=schedule)
    model, whole, _ = train(config)
    told = []

    class Interrupt(Watch):
        def epoch(self, epoch):
            told.append(epoch)
            if len(told) == done:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, checkpoint=tmp_path / "s.safetensors", watches=[Interrupt()])
    again = Told()
    resumed, fitted, after = train(config, checkpoint=tmp_path / "s.safetensors", watches=[again], from_epoch=done)
    assert len(after) == 6 - done
    assert [dataclasses.replace(e, beta=0.0) for e in fitted.history] == [
        dataclasses.replace(e, beta=0.0) for e in whole.history
    ]
    assert again.epochs == fitted.history
    assert again.stages == [(1, 6, 2)]
    assert fitted.best == whole.best
    assert equal(resumed.state_dict(), model.state_dict())


def test_batches_depend_on_seed_stage_and_epoch_alone():
    drawn = {}
    for key in [(1, 1), (1, 2), (2, 1)]:
        drawn[key] = Clips()
        train(seed=key[0], stage=key[1], data=drawn[key])
    again = Clips()
    train(dataclasses.replace(CONFIG, lr=1e-4), data=again)
    assert again.drawn == drawn[1, 1].drawn
    assert drawn[1, 1].drawn != drawn[1, 2].drawn
    assert drawn[1, 1].drawn != drawn[2, 1].drawn
    assert len({tuple(batch) for batch in again.drawn}) == 12


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    data = Clips()
    data.rows[:, 0] = np.nan
    with pytest.raises(InputError, match=r"training: expected a finite loss.*Lower train.lr"):
        train(data=data, checkpoint=tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    train(checkpoint=path)
    assert load_tensors(path)[1]["best"] == 1
    with pytest.raises(InputError, match="expected the training state of this model"):
        fit(Toy(width=5), Clips(), CONFIG, seed=1, stage=1, validate=lambda m: (0, 0), checkpoint=path)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batches": 0}, {"batch_size": 1}, {"lr": float("nan")}, {"weight_decay": -1.0}]
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(InputError, match=f"TrainConfig: expected {next(iter(change))} in"):
        TrainConfig(**change)
