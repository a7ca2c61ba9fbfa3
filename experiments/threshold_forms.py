"""How the readings of Eq. 7 of [mdft] move the threshold, on calm and busy MotionScenes clips.

Command: ``python experiments/threshold_forms.py`` (seconds, CPU). Writes ``experiments/results/threshold_forms.svg``.
An untrained MDFT (seed 0) makes S from 48 clips, each repeated to 60 steps; "calm" and "busy" are the third of the
clips with the fewest and the most events.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from neuroav.data.classic import describe_clip
from neuroav.data.motionscenes import class_vectors
from neuroav.data.render import NUM_CLASSES, render_clip
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.store import LoadedClips
from neuroav.mdft.model import MDFT, MDFTConfig
from neuroav.mdft.motion import AnchoredThreshold, PrintedThreshold, ProductThreshold
from neuroav.neurons.threshold import scene_level
from neuroav.nn.losses import HeadsConfig
from neuroav.train.seed import seed_torch

RESULT = Path(__file__).parent / "results" / "threshold_forms.svg"
CALM, BUSY = "#0072b2", "#d55e00"
REPEATS = 5  # 5 x 12 steps


def clips() -> ClipData:
    """48 rendered and described clips, standardised among themselves."""
    described = []
    for class_index in range(NUM_CLASSES - 3):
        clip = render_clip(class_index, 0, scene=class_index % 8)
        described.append(describe_clip(clip.frames, clip.t_us, clip.audio, clip.audio_rate))
    flat = {k: np.concatenate([getattr(d, k) for d in described]) for k in ("t_s", "video", "audio", "motion")}
    offsets = np.cumsum([0, *(len(d.t_s) for d in described)])
    loaded = LoadedClips(**flat, offsets=offsets, labels=np.arange(len(described)))
    return ClipData(loaded, Statistics.of(loaded), class_vectors())


@torch.no_grad()
def scene_and_events(data: ClipData) -> tuple[torch.Tensor, torch.Tensor]:
    """``S (T, B, D)`` of an untrained MDFT and the events of each step over their mean ``(T, B, 1)``, repeated."""
    seed_torch(0)
    model = MDFT(data.spec, MDFTConfig(dim=128, heads=HeadsConfig(hidden=128))).train()
    batch = data.batch(np.arange(len(data)))
    features = {m: model.encoder[m](getattr(batch, m).values, batch.video.valid) for m in model.encoder}
    joint, _ = model.scene(features, batch.video.valid)
    magnitude = batch.motion.values.flatten(2).sum(-1, keepdim=True) / data.events_per_step
    return joint.repeat(REPEATS, 1, 1), magnitude.repeat(REPEATS, 1, 1)


def softmax_threshold(joint: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """The anchored form with N a softmax over features, normalised by log D."""
    share = torch.softmax(joint, -1)
    omega = (share * torch.log(1.0 / share + magnitude)).sum(-1, keepdim=True) / np.log(joint.shape[-1])
    return 0.5 * (scene_level(joint) + omega).clamp(0.5, 2.0)


@torch.no_grad()
def main() -> None:
    """Draw the five readings."""
    joint, magnitude = scene_and_events(clips())
    busyness = magnitude.mean((0, 2)).argsort()
    third = len(busyness) // 3
    dim = joint.shape[-1]
    forms = {
        "Anchored (default): follows the events": (AnchoredThreshold().build(dim)(joint, magnitude), "linear"),
        "Anchored, N = softmax: a constant": (softmax_threshold(joint, magnitude), "linear"),
        "Clamped product: runs into its bounds": (ProductThreshold().build(dim)(joint, magnitude), "linear"),
        "Printed, mean over features: vanishes": (PrintedThreshold().build(dim)(joint, magnitude), "log"),
        "Printed, sum over features: explodes": (
            PrintedThreshold(reduction="sum").build(dim)(joint, magnitude),
            "symlog",
        ),
    }
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    for axis, (title, (theta, scale)) in zip(figure.subplots(2, 3).flat, forms.items(), strict=False):
        for group, colour, name in ((busyness[:third], CALM, "calm"), (busyness[-third:], BUSY, "busy")):
            curves = theta[: 20 if scale == "symlog" else None, group, 0].double().numpy()
            axis.plot(curves[:, ::4], color=colour, alpha=0.35, linewidth=0.7)
            axis.plot(curves.mean(1), color=colour, linewidth=2, label=f"{name} clips: mean")
        axis.set(title=title, xlabel="step (0.2 s)", ylabel="threshold")
        axis.set_yscale(scale, **({"linthresh": 1.0} if scale == "symlog" else {}))
        if scale == "symlog":
            axis.set_yticks([-1e12, -1e6, 0, 1e6, 1e12])
        if scale == "linear":
            axis.set_ylim(0.2, 1.05)
    figure.axes[0].legend(frameon=False)
    figure.axes[-1].set_axis_off()
    figure.axes[-1].text(0, 0.6, "Eq. 7 on MotionScenes clips,\nuntrained MDFT; thin lines: single clips", fontsize=11)
    figure.savefig(RESULT, metadata={"Date": None})


if __name__ == "__main__":
    main()
