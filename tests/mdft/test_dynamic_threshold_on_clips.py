"""On rendered clips the threshold tells calm from busy and follows the number of events, at default initial weights."""

import numpy as np
import pytest
import torch

from neuroav.data.classic import describe_clip
from neuroav.data.motionscenes import class_vectors
from neuroav.data.render import render_clip
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.store import LoadedClips
from neuroav.mdft.model import MDFT, MDFTConfig
from neuroav.nn.losses import HeadsConfig
from neuroav.train.seed import seed_torch


@pytest.fixture(scope="module")
def clips():
    described = []
    for class_index in range(0, 48, 3):
        clip = render_clip(class_index, 0, scene=class_index % 8)
        described.append(describe_clip(clip.frames, clip.t_us, clip.audio, clip.audio_rate))
    flat = {k: np.concatenate([getattr(d, k) for d in described]) for k in ("t_s", "video", "audio", "motion")}
    offsets = np.cumsum([0, *(len(d.t_s) for d in described)])
    loaded = LoadedClips(**flat, offsets=offsets, labels=np.arange(len(described)))
    return ClipData(loaded, Statistics.of(loaded), class_vectors())


@pytest.fixture(scope="module")
def model(clips):
    seed_torch(0)
    return MDFT(clips.spec, MDFTConfig(dim=64, heads=HeadsConfig(hidden=64))).eval()


def thresholds(model, batch):
    with torch.no_grad():
        traces, _ = model.activity(batch)
    return traces["video.0"].theta.squeeze(-1)


def test_threshold_follows_the_event_count(model, clips):
    batch = clips.batch(np.arange(len(clips)))
    theta, count = thresholds(model, batch), batch.motion.values.flatten(2).sum(-1)
    assert torch.corrcoef(torch.stack([theta.flatten(), count.flatten()]))[0, 1] > 0.9
    assert theta.mean(0).std() > 0.02  # over clips
    assert theta.std(0).mean() > 0.005  # over the steps of a clip


def test_busy_clips_have_a_higher_threshold_than_calm_ones(model, clips):
    batch = clips.batch(np.arange(len(clips)))
    order = batch.motion.values.sum((0, 2, 3, 4)).argsort()
    per_clip = thresholds(model, batch).mean(0)[order]
    assert per_clip[-4:].mean() > 1.1 * per_clip[:4].mean()


def test_threshold_stays_positive_and_finite_over_300_steps(model, clips):
    batch = clips.batch(np.arange(4))

    def tiled(s):
        return type(s)(*(x.repeat(25, *[1] * (x.ndim - 1)) for x in (s.values, s.t_s, s.valid)))

    sequences = (tiled(s) for s in (batch.audio, batch.video, batch.motion))
    theta = thresholds(model, type(batch)(*sequences, batch.label, batch.text))
    assert theta.shape[0] == 300
    assert torch.isfinite(theta).all()
    assert (theta > 0).all()
