"""One step: shards by hand, clipping, bfloat16, compilation; and the law of clips and their negatives."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from neuroav.checks import InputError
from neuroav.train import loop
from neuroav.train.group import Group, joined
from neuroav.train.loop import TrainConfig, fit
from neuroav.train.optim import Step
from neuroav.train.seed import Streams, seed_torch
from neuroav.train.step import Stepper, draw

ROWS = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))


class Clips:
    """Stands for ``ClipData``: 24 rows in 4 classes."""

    labels = torch.arange(24) % 4

    def expect(self, batches):
        self.expected = [indices.tolist() for indices in batches]

    def batch(self, indices):
        return ROWS[indices]


class Net(nn.Module):
    """Normalised, then linear; the loss compares rows with their negatives."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.norm, self.dropout, self.linear = nn.BatchNorm1d(3), nn.Dropout(dropout), nn.Linear(3, 2)
        self.dtypes = set()

    def loss(self, batch, negatives):
        out = self.linear(self.dropout(self.norm(batch)))
        self.dtypes.add(out.dtype)
        return {"apart": (1 - (out - out[negatives]).square().sum(1)).relu().mean(), "size": out.square().mean()}


def stepper(net, shards, group=None, **options):
    group = Group() if group is None else group
    return Stepper(net, torch.optim.SGD(net.parameters(), lr=1.0), Streams((5,), shards, group), group, **options)


def new(dropout=0.0):
    torch.manual_seed(0)
    return Net(dropout).train()


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def moved(net, shards, **options):
    """How far a step with learning rate 1 moves every parameter, and the loss terms it tells of."""
    before = weights(net)
    terms = stepper(net, len(shards), **options).step(Clips(), shards)
    return weights(net) - before, terms


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_step_is_the_mean_over_its_shards(num):
    shards = draw(Clips.labels.numpy(), 12, num, np.random.default_rng(0))
    gradients, terms, means = [], [], []
    for clips, negatives in shards:
        net = new()
        each = net.loss(ROWS[clips], torch.from_numpy(negatives))
        sum(each.values()).backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in net.parameters()]))
        terms.append(each["apart"].detach())
        means.append(0.1 * ROWS[clips].mean(0))
    net = new()
    change, told = moved(net, shards)
    torch.testing.assert_close(change, -torch.stack(gradients).mean(0))
    torch.testing.assert_close(told["apart"], torch.stack(terms).mean())
    torch.testing.assert_close(net.norm.running_mean, torch.stack(means).mean(0))
    assert net.norm.num_batches_tracked == 1


def test_two_processes_divide_the_shards_and_each_draws_its_own_dropout(monkeypatch):
    """The second of two processes, its exchange written down in place of sent."""
    shards = draw(Clips.labels.numpy(), 24, 4, np.random.default_rng(0))
    sent = {}
    for rank in range(2):
        monkeypatch.setattr(Group, "sum", lambda self, tensors, r=rank: sent.update({r: [t.clone() for t in tensors]}))
        moved(new(dropout=0.5), shards, group=Group(rank, 2))
    net = new(dropout=0.5)
    change, told = moved(net, shards)
    total = [a + b for a, b in zip(sent[0], sent[1], strict=True)]
    torch.testing.assert_close(total[0], told["apart"])
    torch.testing.assert_close(total[2], net.norm.running_mean)
    torch.testing.assert_close(torch.cat([t.reshape(-1) for t in total[4:]]), -change)
    assert not torch.equal(sent[0][0], sent[1][0])


def test_what_learns_from_nothing_in_any_process_stays_without_a_gradient(monkeypatch):
    """As in one process: an optimiser with momentum would move it on a gradient of zeros."""

    def summed(self, tensors):
        if len(tensors) == 1:
            tensors[0][1] = 1.0  # says the other process of `turn` alone

    monkeypatch.setattr(Group, "sum", summed)
    net = new()
    net.spare, net.turn = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    moved(net, draw(Clips.labels.numpy(), 12, 2, np.random.default_rng(0)), group=Group(0, 2))
    assert net.spare.grad is None
    assert torch.equal(net.turn.grad, torch.zeros(1))


def test_what_follows_a_step_sees_the_moved_weights_and_its_statistics_are_means_over_the_shards():
    class Second(Net):
        """Normalises every batch once more after the step."""

        def after_step(self, batch, negatives):
            seen.append((weights(self), len(negatives) == len(batch)))
            with torch.no_grad():
                self.norm(batch)

    shards, seen = draw(Clips.labels.numpy(), 12, 2, np.random.default_rng(0)), []
    torch.manual_seed(0)
    net = Second().train()
    moved(net, shards)
    means = torch.stack([0.1 * ROWS[clips].mean(0) for clips, _ in shards])
    torch.testing.assert_close(net.norm.running_mean, (0.9 * means.mean(0) + means).mean(0))
    assert net.norm.num_batches_tracked == 2
    assert len(seen) == 2
    assert all(torch.equal(then, weights(net)) and paired for then, paired in seen)


def test_a_long_gradient_is_shortened_and_a_short_one_left():
    shards = draw(Clips.labels.numpy(), 12, 1, np.random.default_rng(0))
    free, _ = moved(new(), shards)
    short, _ = moved(new(), shards, clip_norm=0.01)
    torch.testing.assert_close(short, free * 0.01 / free.norm(), rtol=1e-4, atol=1e-6)
    same, _ = moved(new(), shards, clip_norm=2 * float(free.norm()))
    assert torch.equal(same, free)


def test_bfloat16_is_of_products_and_not_of_weights():
    shards = draw(Clips.labels.numpy(), 12, 1, np.random.default_rng(0))
    plain, half = new(), new()
    exact, _ = moved(plain, shards)
    rough, told = moved(half, shards, bfloat16=True)
    assert (plain.dtypes, half.dtypes) == ({torch.float32}, {torch.bfloat16})
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert told["apart"].dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)


def test_a_compiled_loss_is_the_same_loss(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    shards = draw(Clips.labels.numpy(), 12, 1, np.random.default_rng(0))
    net = new()
    change, _ = moved(net, shards, compiled=True)
    assert compiled == [net.loss]
    assert torch.equal(change, moved(new(), shards)[0])


def test_pairs_have_the_published_law():
    """A clip: a class, then one of its clips. Its negative: another class, then one of its clips; each uniformly.

    Classes of 1, 2 and 3 clips; every pair's frequency in 20,000 batches of 6 against its probability.
    """
    labels = np.array([0, 1, 1, 2, 2, 2])
    size = np.bincount(labels)[labels]
    law = np.where(labels[:, None] != labels, 1 / (3 * size[:, None] * 2 * size), 0.0)
    assert law.sum() == pytest.approx(1)
    rng, seen = np.random.default_rng(0), np.zeros((6, 6))
    for _ in range(20_000):
        try:
            ((clips, negatives),) = draw(labels, 6, 1, rng)
        except InputError:  # all six of one class, once in 243 batches
            continue
        np.add.at(seen, (clips, clips[negatives]), 1)
    np.testing.assert_allclose(seen / seen.sum(), law, atol=0.003)


# ------------------------------------------------------------------------------------------------ streams and groups


def test_the_first_stream_is_that_of_the_seed_and_the_others_are_others():
    seed_torch(5)
    expected = [torch.rand(3), torch.rand(3)]
    streams = Streams((5,), 2, Group())
    drawn = {shard: [] for shard in (0, 1)}
    saved = None
    for turn in range(2):
        for shard in (1, 0):
            with streams.of(shard):
                drawn[shard].append(torch.rand(3))
        saved = streams.state() if turn == 0 else saved
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], expected, strict=True))
    assert not torch.equal(drawn[1][0], expected[0])
    streams.restore(saved)
    with streams.of(1):
        assert torch.equal(torch.rand(3), drawn[1][1])
    with pytest.raises(RuntimeError, match="another device or number of shards"):
        streams.restore(saved[:1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused():
    with joined("auto") as group:
        assert (group, group.device_name) == (Group(), "cpu")
    with (
        pytest.raises(InputError, match=r"a GPU for process 0, got no CUDA device. Set train.device=cpu"),
        joined("cuda"),
    ):
        pass


def test_processes_that_can_not_share_the_work_are_refused():
    config = TrainConfig(epochs=1, batches=1, batch_size=12, shards=3, schedule=Step())
    with pytest.raises(InputError, match=r"train.shards divisible by the 2 processes, got 3. Set train.shards=2"):
        fit(new(), Clips(), config, seed=0, stage=1, validate=lambda m: (0, 0), group=Group(1, 2))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shards": 5}, "batch_size divisible by shards=5, got 256"),
        ({"precision": "float16"}, "precision to be one of float32, bfloat16"),
        ({"device": "gpu"}, "device to be one of auto, cpu, cuda"),
        ({"clip_norm": -1.0}, "clip_norm in"),
    ],
)
def test_impossible_settings_are_refused(change, text):
    with pytest.raises(InputError, match=text):
        TrainConfig(**change)


def test_a_run_goes_on_from_the_middle_of_an_epoch(tmp_path, monkeypatch):
    config = TrainConfig(epochs=2, batches=3, batch_size=8, lr=1e-2, schedule=Step(), shards=2)
    call = {"seed": 3, "stage": 1, "validate": lambda model: (0.5, 0.0)}

    class Stop(loop.Watch):
        left = 5

        def batch(self, done, terms):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    whole, net = new(0.5), new(0.5)
    history = fit(whole, Clips(), config, **call).history
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(net, Clips(), config, **call, checkpoint=tmp_path / "s", watches=[Stop()])
    told = []
    monkeypatch.setattr(Stop, "batch", lambda self, done, terms: told.append(done))
    again = new(0.5)
    assert fit(again, Clips(), config, **call, checkpoint=tmp_path / "s", watches=[Stop()]).history == history
    assert told == [2, 3]  # the fourth batch was saved, the fifth was not
    assert torch.equal(weights(again), weights(whole))
    with pytest.raises(InputError, match="training state of this model"):
        fit(new(), Clips(), dataclasses.replace(config, shards=1), **call, checkpoint=tmp_path / "s")
