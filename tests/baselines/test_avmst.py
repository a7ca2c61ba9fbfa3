"""AVMST's branches a step and a neuron at a time, its gate, what is released and what is not, whether it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from neuroav.baselines.avmst import (
    AT_REST,
    AVMST,
    AsPublished,
    AsReleased,
    AVMSTConfig,
    Branch,
    FixedThreshold,
    Leak,
    LearntLeak,
    NoLeak,
    SemanticThreshold,
)
from neuroav.checks import InputError
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.energy.count import count

T, B, WIDTH, HIDDEN, DIM = 5, 3, 6, 4, 8
SMALL = {"dim": DIM, "encoder_hidden": 7, "hidden": 7, "shared": 5, "heads": 2, "head_dim": 3, "feed_forward": 6}
SPEC = DataSpec(audio_dim=WIDTH, video_dim=WIDTH, text_dim=9)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of():
    """Ragged clips: 5, 3 and 4 steps."""
    valid = torch.arange(T)[:, None] < torch.tensor([5, 3, 4])
    video = Sequence(rand(T, B, WIDTH, seed=1) * valid[..., None], torch.arange(T)[:, None].expand(T, B), valid)
    audio = Sequence(2 * rand(T, B, WIDTH, seed=2) * valid[..., None], video.t_s, valid)
    return Batch(audio, video, None, torch.arange(B), rand(B, 9, seed=3))


def model_of(reading=None):
    torch.manual_seed(0)
    return AVMST(SPEC, AVMSTConfig(**SMALL, reading=AsPublished(hidden=HIDDEN) if reading is None else reading)).eval()


# -------------------------------------------------------------------------------------------------------------- spikes


def traced(branch, steps, theta, repeats, decay=0.0, gain=1.0):
    """Spikes of both layers for one clip, one presentation and one neuron at a time."""
    layers = [(linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in branch.linear]
    membranes = [np.zeros(len(bias)) for _, bias in layers]
    fired = [[], []]
    for step in steps:
        for _ in range(repeats):
            x = step
            for i, (weight, bias) in enumerate(layers):
                spikes = np.zeros(len(bias))
                for n in range(len(bias)):
                    membranes[i][n] += gain * (weight[n] @ x + bias[n]) - decay * membranes[i][n]
                    if membranes[i][n] >= theta:
                        spikes[n], membranes[i][n] = 1.0, 0.0
                fired[i].append(spikes)
                x = spikes
    return [np.array(each) for each in fired]


@pytest.mark.parametrize(("neurons", "decay", "gain"), [(NoLeak(), 0.0, 1.0), (Leak(tau=4.0), 0.25, 0.25)])
def test_a_branch_presents_each_step_some_times_and_keeps_its_membranes(neurons, decay, gain):
    torch.manual_seed(0)
    branch = Branch((WIDTH, HIDDEN, DIM), neurons, normalise=False)
    steps, theta = 3 * rand(T, B, WIDTH), torch.tensor([0.2, 0.4, 0.9])
    found, _ = branch(steps, torch.ones(T, B, dtype=torch.bool), theta[None, :, None], 3, AT_REST)
    for b in range(B):
        expected = traced(branch, steps[:, b].numpy().astype(float), float(theta[b]), 3, decay, gain)
        for ours, wanted in zip(found, expected, strict=True):
            assert ours[:, b].tolist() == wanted.tolist()
    assert 0.05 < found[1].mean() < 0.95


def test_states_carry_a_sequence_on():
    torch.manual_seed(0)
    branch, x = Branch((WIDTH, HIDDEN, DIM), NoLeak(), normalise=False), 2 * rand(T, B, WIDTH)
    valid, theta = torch.ones(T, B, dtype=torch.bool), torch.ones(1, B, 1)
    (_, whole), _ = branch(x, valid, theta, 2, AT_REST)
    (_, first), states = branch(x[:2], valid[:2], theta, 2, AT_REST)
    (_, second), _ = branch(x[2:], valid[2:], theta, 2, states)
    assert torch.equal(torch.cat([first, second]), whole)


def test_released_video_strays_into_the_branch_of_audio_and_membranes_are_carried_on():
    model = model_of(AsReleased(hidden=HIDDEN, repeats=4))
    clips = [model.config.reading.clips(batch_of()), model.config.reading.clips(batch_of())]
    found = model.branches(clips, [None, None])
    audio, video = model.branches.audio, model.branches.video
    for b in range(B):
        heard, seen = (x[b].numpy().astype(float) for x in (clips[0].audio, clips[0].video))
        through_audio = traced(audio, [heard] * 4 + [seen] * 3 + [heard] * 4 + [seen] * 3, 1.0, 1)[1]
        through_video = traced(video, [seen] * 2, 1.0, 1)[1]
        wanted = [(through_audio[:4], [through_video[0], *through_audio[4:7]])]
        wanted += [(through_audio[7:11], [through_video[1], *through_audio[11:]])]
        for spikes, (of_audio, of_video) in zip(found, wanted, strict=True):
            assert spikes.audio[1].output[:, b].tolist() == np.array(of_audio).tolist()
            assert spikes.video[1].output[:, b].tolist() == np.array(of_video).tolist()


def test_the_released_branches_are_saved_but_never_trained():
    model = model_of(AsReleased(hidden=HIDDEN))
    assert not [name for name, _ in model.named_parameters() if name.startswith("branches") or name == "position"]
    assert {"branches.audio.linear.0.weight", "position"} <= set(model.state_dict())
    trained = model_of()
    assert "branches.audio.linear.0.weight" in dict(trained.named_parameters())
    assert "position" in dict(trained.named_parameters())


# ----------------------------------------------------------------------------------------------------- threshold, gate


def test_the_threshold_follows_what_the_encoder_says_within_bounds():
    torch.manual_seed(0)
    module, encoded = SemanticThreshold(v0=0.6, low=0.9, high=1.3).build(DIM), 6 * rand(40, DIM)
    level = encoded @ module.linear.weight[0] + module.linear.bias
    expected = 0.6 * np.clip(2 / (1 + np.exp(-level.detach().numpy())), 0.9, 1.3)
    np.testing.assert_allclose(module(encoded).detach().numpy()[:, 0], expected, rtol=1e-5)
    assert {0.9, 1.3} < {round(float(each) / 0.6, 3) for each in expected}
    assert FixedThreshold(v_th=0.7).build(DIM)(encoded).unique().tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("reading", [AsPublished(hidden=HIDDEN), AsReleased(hidden=HIDDEN)])
def test_gated_tokens_by_hand(reading):
    model, batch = model_of(reading), batch_of()
    clips = reading.clips(batch)
    traces, valid = model.activity(batch)
    (found,) = model.encode([clips])
    encoders = (model.audio_encoder(clips.audio), model.video_encoder(clips.video))
    for i, (name, x) in enumerate(zip(("audio", "video"), encoders, strict=True)):
        steps = traces[f"{name}.1"].output.unflatten(0, (len(valid), -1)).mean(1)
        rate = torch.stack([steps[: int(n), b].mean(0) for b, n in enumerate(valid.sum(0))])
        weight = rate.exp() / rate.exp().sum(1, keepdim=True)
        weight = weight if isinstance(reading, AsReleased) else weight / weight.mean(1, keepdim=True)
        tokens = torch.stack([x, x * weight]) + model.position[i]
        kept = int(isinstance(reading, AsReleased) and name == "video")
        torch.testing.assert_close(found[i], model.layer(tokens)[kept])


# ------------------------------------------------------------------------------------------------------------ activity


def test_activity_names_every_layer_and_counts_agree():
    model, batch = model_of(), batch_of()
    with torch.no_grad():
        traces, valid = model.activity(batch)
    assert list(traces) == ["audio.0", "audio.1", "video.0", "video.1"]
    assert {name: tuple(trace.output.shape) for name, trace in traces.items()} == {
        f"{m}.{i}": (4 * T, B, width) for m in ("audio", "video") for i, width in enumerate((HIDDEN, DIM))
    }
    assert all(trace.theta.shape == (T, B, 1) for trace in traces.values())
    assert valid.sum(0).tolist() == [5, 3, 4]
    counted = count(model, (batch, rand(2, 9)), clips=B, call=model.distances)
    assert counted.spike_rate == pytest.approx(
        float(torch.cat([trace.output.flatten() for trace in traces.values()]).mean())
    )


def test_the_order_of_steps_matters_by_default_and_not_as_released():
    own = AsPublished(hidden=HIDDEN, neurons=Leak(), threshold=FixedThreshold(v_th=0.1))
    for reading, changes in ((own, True), (AsReleased(hidden=HIDDEN), False)):
        model, batch = model_of(reading), batch_of()
        turned = dataclasses.replace(batch.video, values=batch.video.values[[2, 1, 0, 3, 4]])
        with torch.no_grad():
            straight = model.distances(batch, rand(2, 9))
            back = model.distances(dataclasses.replace(batch, video=turned), rand(2, 9))
        assert torch.allclose(straight, back, rtol=1e-5, atol=0) is not changes


# ------------------------------------------------------------------------------------------------- learning and errors


@pytest.mark.parametrize("neurons", [NoLeak(), LearntLeak()])
def test_it_learns_what_shuffled_labels_do_not_teach(right_share, neurons):
    reading = AsPublished(hidden=32, neurons=neurons, threshold=SemanticThreshold(v0=0.5))
    sizes = {"dim": 32, "encoder_hidden": 32, "hidden": 32, "shared": 16, "heads": 2, "head_dim": 16}
    dropouts = {"dropout_encoder": 0.0, "dropout_projection": 0.0, "dropout_decoder": 0.0}

    def make(spec):
        return AVMST(spec, AVMSTConfig(**sizes, **dropouts, reading=reading))

    assert right_share(make) > 0.6  # chance is 1/8
    assert right_share(make, shuffled=True) < 0.3


def test_training_moves_the_branches_and_their_threshold():
    model, batch = model_of().train(), batch_of()
    terms = model.loss(batch, torch.tensor([1, 2, 0]))
    torch.stack(list(terms.values())).sum().backward()
    for name in ("audio.linear.0.weight", "video.linear.1.weight", "video_threshold.linear.weight"):
        assert model.branches.get_parameter(name).grad.abs().max() > 0, name


def test_what_cannot_be_run_is_refused():
    with pytest.raises(InputError, match=r"AVMST: expected audio and video on the same steps, got .* with --align"):
        AVMST(dataclasses.replace(SPEC, shared_steps=False), AVMSTConfig(**SMALL))
    unequal = dataclasses.replace(SPEC, audio_dim=WIDTH + 1)
    with pytest.raises(InputError, match=r"AVMST: expected audio and video of one width, got 7 and 6\. As released"):
        AVMST(unequal, AVMSTConfig(**SMALL, reading=AsReleased(hidden=HIDDEN)))
    AVMST(unequal, AVMSTConfig(**SMALL))


@pytest.mark.parametrize(
    ("kind", "change"),
    [(AsPublished, {"repeats": 0}), (AsReleased, {"repeats": 1}), (AVMSTConfig, {"momentum": 2.0})],
)
def test_bad_sizes_are_named(kind, change):
    with pytest.raises(InputError, match=f"{kind.__name__}: expected {next(iter(change))} in"):
        kind(**change)


@pytest.mark.parametrize("threshold", [SemanticThreshold(v0=0.0), FixedThreshold(v_th=0.0)])
def test_a_threshold_is_above_zero(threshold):
    with pytest.raises(InputError, match=f"{type(threshold).__name__}: expected v"):
        threshold.build(DIM)
