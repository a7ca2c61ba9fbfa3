"""Audit of MotionScenes: what plain readers can and cannot tell from each modality.

Run ``python experiments/motionscenes_audit.py``: 3 splits, about 4 minutes each on one core. Readers are trained on
the train part (30 classes) at scene bias 0.5. "seen" tests other clips of these classes over shuffled scenes,
"seen_biased" the same clips at the bias, "unseen" clips of (motion, tempo) combinations that the reader was never
shown. Prints what the design asks for beside each figure; writes ``experiments/results/motionscenes_audit.json``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.data import render
from neuroav.data.classic import luma
from neuroav.data.motionscenes import MotionScenesConfig, generate, view
from neuroav.data.render import (
    MOTIONS,
    SCENES,
    TEMPOS,
    motion_of,
    render_clip,
    tempo_of,
)
from neuroav.data.store import Store
from neuroav.events.generate import frames_to_events
from neuroav.events.represent import events_to_counts
from neuroav.files import save_json

RESULT = Path(__file__).parent / "results" / "motionscenes_audit.json"
SCENE_BIAS = 0.5


@dataclass(frozen=True)
class Clips:
    """Standardised features ``(N, T, D)`` by modality and targets ``(N,)`` by name."""

    features: dict[str, Tensor]
    targets: dict[str, Tensor]


class Recurrent(nn.Module):
    """A GRU over the bins, read out from its mean over time."""

    def __init__(self, width: int, num_targets: int):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Dropout(0.3))
        self.gru = nn.GRU(128, 128, batch_first=True)
        self.read = nn.Sequential(nn.Dropout(0.3), nn.Linear(128, num_targets))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.gru(self.project(x))[0].mean(1))


class Pooled(nn.Module):
    """An MLP on the mean over time."""

    def __init__(self, width: int, num_targets: int):
        super().__init__()
        self.read = nn.Sequential(
            nn.Linear(width, 256),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, num_targets),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x.mean(1))


class Bag(nn.Module):
    """An MLP on each bin, then the mean over time: sees motion within a bin, not the order of bins."""

    def __init__(self, width: int, num_targets: int):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 128), nn.ReLU())
        self.read = nn.Sequential(nn.Dropout(0.3), nn.Linear(128, num_targets))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.project(x).mean(1))


def load_clips(store: Store, indices: np.ndarray, statistics: dict[str, tuple] | None) -> tuple[Clips, dict]:
    """Load records as ``(N, T, D)``, standardised with the statistics of the first call (the train part)."""
    loaded = store.load(indices)
    num_clips = len(loaded)
    raw = {"video": loaded.video, "audio": loaded.audio, "events": np.log1p(loaded.motion.astype(np.float32))}
    flat = {key: value.reshape(num_clips, -1, int(np.prod(value.shape[1:]))) for key, value in raw.items()}
    if statistics is None:
        statistics = {k: (v.mean((0, 1)), v.std((0, 1)) + 0.1 * v.std()) for k, v in flat.items()}
    features = {k: torch.from_numpy((v - statistics[k][0]) / statistics[k][1]) for k, v in flat.items()}
    labels = loaded.labels
    targets = {
        "class": labels,
        "motion": motion_of(labels),
        "tempo": tempo_of(labels),
        "scene": store.extras["scene"][indices],
    }
    return Clips(features, {k: torch.from_numpy(np.asarray(v)) for k, v in targets.items()}), statistics


def fit(make: Callable[[int, int], nn.Module], train: Clips, modalities: tuple[str, ...], target: str, steps: int):
    """Train one reader and return it in evaluation mode."""
    torch.manual_seed(0)
    x = torch.cat([train.features[m] for m in modalities], -1)
    y = train.targets[target]
    model = make(x.shape[-1], int(y.max()) + 1)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(y), (128,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, clips: Clips, modalities: tuple[str, ...], target: str) -> float:
    x = torch.cat([clips.features[m] for m in modalities], -1)
    return float((model(x).argmax(1) == clips.targets[target]).float().mean())


# name: (reader, modalities, target, what the design asks for)
READERS = {
    "motion, events pooled": (Pooled, ("events",), "motion", "<= 0.55 seen"),
    "motion, events recurrent": (Recurrent, ("events",), "motion", ">= 0.75 seen, >= 0.60 unseen"),
    "motion, events bag of bins": (Bag, ("events",), "motion", "below recurrent"),
    "motion, all bag of bins": (Bag, ("video", "audio", "events"), "motion", "below recurrent"),
    "class, events pooled": (Pooled, ("events",), "class", ""),
    "class, events recurrent": (Recurrent, ("events",), "class", ""),
    "tempo, events pooled": (Pooled, ("events",), "tempo", ""),
    "tempo, events recurrent": (Recurrent, ("events",), "tempo", ""),
    "tempo, audio recurrent": (Recurrent, ("audio",), "tempo", ">= 0.80 seen and unseen"),
    "tempo, audio pooled": (Pooled, ("audio",), "tempo", ""),
    "scene, video pooled": (Pooled, ("video",), "scene", "about 1"),
    "scene, audio pooled": (Pooled, ("audio",), "scene", "chance, 0.125"),
    "scene, events pooled": (Pooled, ("events",), "scene", ""),
    "motion, audio pooled": (Pooled, ("audio",), "motion", "about 0.21, which the sounds leave"),
    "motion, audio recurrent": (Recurrent, ("audio",), "motion", "about 0.21"),
    "motion, video pooled": (Pooled, ("video",), "motion", "low"),
    "motion, video recurrent": (Recurrent, ("video",), "motion", ""),
    "motion, video and audio pooled": (Pooled, ("video", "audio"), "motion", "low"),
    "motion, all pooled": (Pooled, ("video", "audio", "events"), "motion", ""),
    "motion, all recurrent": (Recurrent, ("video", "audio", "events"), "motion", ""),
    "class, video and audio pooled": (Pooled, ("video", "audio"), "class", ""),
    "class, all recurrent": (Recurrent, ("video", "audio", "events"), "class", ""),
}


def audit(store: Store, steps: int) -> dict[str, dict[str, object]]:
    """Train and test every reader; accuracies are fractions."""
    biased, shuffled = view(store, SCENE_BIAS, "biased"), view(store, SCENE_BIAS, "shuffled")
    train, statistics = load_clips(store, biased["train"], None)
    shown = np.isin(store.labels, store.labels[biased["train"]])
    parts = {"seen_biased": biased["test_seen"], "seen": shuffled["test_seen"]}
    parts = {name: indices[shown[indices]] for name, indices in parts.items()}
    rest = np.concatenate([shuffled["test_seen"], shuffled["test_unseen"]])
    parts["unseen"] = rest[~shown[rest]]
    tests = {name: load_clips(store, indices, statistics)[0] for name, indices in parts.items()}
    rows = {}
    for name, (make, modalities, target, asked) in READERS.items():
        model = fit(make, train, modalities, target, steps)
        scores = {
            part: round(accuracy(model, clips, modalities, target), 4)
            for part, clips in tests.items()
            if not (target == "class" and part == "unseen")
        }
        rows[name] = {**scores, "asked": asked}
        line = " ".join(f"{part} {100 * value:5.1f}" for part, value in scores.items())
        sys.stdout.write(f"{name:32s} {line}   {asked}\n")
        sys.stdout.flush()
    return rows


def noise_share() -> float:
    """Return the share of events that the same clips lack, pixel by pixel, without sensor noise; one clip a class."""
    with_noise = np.stack([pixel_counts(k, k % len(SCENES)) for k in range(51)])
    level = render.NOISE_LEVELS
    try:
        render.NOISE_LEVELS = 0.0
        without = np.stack([pixel_counts(k, k % len(SCENES)) for k in range(51)])
    finally:
        render.NOISE_LEVELS = level
    return float(np.maximum(with_noise - without, 0).sum() / with_noise.sum())


def pixel_counts(class_index: int, scene: int) -> np.ndarray:
    """Return the events of a clip by polarity and pixel, ``(P, 64, 64)`` int32."""
    clip = render_clip(class_index, 0, scene)
    events, _ = frames_to_events(luma(clip.frames), clip.t_us)
    edges_us = np.array([clip.t_us[0], clip.t_us[-1]])
    return events_to_counts(events, edges_us, grid=clip.frames.shape[1:3]).numpy()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", default=None, help="MotionScenes stores at scene bias 0.5")
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2], help="splits to generate without --stores")
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict = {"steps": args.steps, "noise_share": round(noise_share(), 4)}
    result["chance"] = {"motion": 1 / len(MOTIONS), "tempo": 1 / len(TEMPOS), "scene": 1 / len(SCENES)}
    sys.stdout.write(f"share of events from sensor noise: {100 * result['noise_share']:.1f} % (asked: < 15 %)\n")
    with tempfile.TemporaryDirectory() as folder:
        paths = args.stores or [Path(folder) / f"split{split}.h5" for split in args.splits]
        result["stores"] = []
        for index, path in enumerate(paths):
            if args.stores is None:
                generate(MotionScenesConfig(split=args.splits[index], scene_biases=(SCENE_BIAS,)), path)
            with Store(path) as store:
                sys.stdout.write(f"{store.settings}\n")
                result["stores"].append({"settings": store.settings, "rows": audit(store, args.steps)})
    save_json(RESULT, result)


if __name__ == "__main__":
    main()
