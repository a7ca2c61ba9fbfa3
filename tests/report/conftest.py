"""A fabricated run directory: the two files that a report is made from, filled with plausible figures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroav.report.html import write_report

MODELS = ("MDFT", "without motion", "events only", "pooled MLP")
SPIKING = ("MDFT", "events only")
TEMPOS = ("slow", "medium", "fast")
PAPERS = Path(__file__).resolve().parents[2].parent / "shared" / "papers"
TEXTS = {
    "mdft": "004_529e78027dd3e556.txt",
    "tcaf": "001_3326c402b4f55b93.txt",
    "sacma": "002_9ee10d1314dd7a7c.txt",
    "ez_avgzl": "003_7779be1c68c2b785.txt",
    "tsart": "000_c485aab7d56c74b9.txt",
}


@pytest.fixture
def paper_text() -> Callable[[str], str]:
    """Read the text of a paper, or skip where the texts are not at hand."""

    def read(name: str) -> str:
        path = PAPERS / TEXTS[name]
        if not path.exists():
            pytest.skip("the papers' texts are not here")
        return path.read_text(encoding="utf-8")

    return read


def class_names(num_classes: int) -> list[str]:
    motions = ["clockwise", "counter-clockwise", "sweep <left>", "spin + & spin", "sweep right", "zoom in", "zoom out"]
    motions += [f'"hop" {i}' for i in range(10)]
    return [f"{motion}, {tempo}" for motion in motions for tempo in TEMPOS][:num_classes]


def fabricate_rows(seeds: int, layers: bool = True, classes: Sequence[str] = ()) -> list[dict[str, Any]]:
    rows = []
    for m, model in enumerate(MODELS):
        for test_set in ("biased", "shuffled"):
            for seed in range(seeds):
                rng = np.random.default_rng([m, seed, test_set == "biased"])
                seen, unseen = rng.normal((0.55 - 0.05 * m, 0.4 - 0.04 * m * (test_set == "shuffled")), 0.02)
                row = {
                    "model": model,
                    "test_set": test_set,
                    "seed": seed,
                    "seen": seen,
                    "unseen": unseen,
                    "hm": 2 * seen * unseen / (seen + unseen),
                    "zsl": unseen + 0.1,
                    "beta": 0.8,
                    "hm_oracle": 2 * seen * unseen / (seen + unseen) + 0.03,
                    "beta_oracle": 1.1,
                    "follows_scene": 0.3 if test_set == "shuffled" else None,
                    "chance_zsl": 1 / 9,
                    "macs": 1.2e7 * (m + 1),
                    "acs": 3.4e6 if model in SPIKING else None,
                    "neuron_updates": 9e3 if model in SPIKING else None,
                    "layers": fabricate_layers(rng) if layers and model in SPIKING else [] if m == 1 else None,
                    "num_clips": 48,
                    "train_s": 62.0,
                    "parameters": 120_000,
                    "recall": dict(zip(classes, rng.random(len(classes)).round(2).tolist())),
                }
                rows.append(row)
    return rows


def fabricate_layers(rng: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{stream}.{i}",
            "rate": float(rng.uniform(0.05, 0.2)),
            "dead_share": 0.625 if (stream, i) == ("audio", 2) else 0.02,
            "theta_mean": 0.5 + 0.1 * i,
            "theta_std": 0.04,
        }
        for stream in ("video", "audio")
        for i in range(3)
    ]


def fabricate_clip(rng: np.random.Generator) -> dict[str, Any]:
    rows, columns = np.mgrid[:64, :64]
    t_us = np.arange(60) * 40_000
    phase = 2 * np.pi * 1.2 * t_us / 1e6
    centre = 32 + 16 * np.stack([np.sin(phase), np.cos(phase)])
    blob = np.exp(-((rows - centre[0][:, None, None]) ** 2 + (columns - centre[1][:, None, None]) ** 2) / 60)
    scene = 90 + 40 * np.sin(rows / 5) * np.cos(columns / 7)
    grey = scene + 110 * blob + rng.normal(0, 2, (60, 64, 64))
    frames = np.clip(grey[..., None] * (1.0, 0.85, 0.7), 0, 255).astype(np.uint8)
    change = np.diff(np.log(np.clip(grey, 5, None)), axis=0)
    step, y, x = np.nonzero(np.abs(change) > 0.08)
    seconds = np.arange(int(2.4 * 16_000)) / 16_000
    pitch = 440 * 2 ** np.sin(2 * np.pi * 1.2 * seconds)
    audio = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) + 0.02 * rng.normal(size=len(seconds))
    return {
        "clip.frames": frames,
        "clip.t_us": t_us,
        "clip.events.t_us": t_us[step + 1] - 20_000,
        "clip.events.x": x,
        "clip.events.y": y,
        "clip.events.p": (change[step, y, x] > 0).astype(np.uint8),
        "clip.title": np.array("clockwise, medium <test>"),
        "clip.size": np.array([360, 640]),
        "clip.audio": audio.astype(np.float32),
        "clip.audio_rate": 16_000,
    }


def fabricate_embeddings(shown: list[int], num_classes: int) -> dict[str, Any]:
    """Five clips of each of three classes; of two models the space is known."""
    rng = np.random.default_rng(2)
    label = np.repeat(np.arange(len(shown)), 5)
    centres = rng.normal(size=(len(shown), 8))
    arrays = {
        "embedding.classes": np.array([class_names(num_classes)[k] for k in shown]),
        "embedding.seen": np.array([True, True, False]),
        "embedding.label": label,
        "embedding.names": np.array([f"clip {i}" for i in range(15)]),
        "embedding.inputs": rng.normal(size=(15, 20)).astype(np.float32),
    }
    for model in ("MDFT", "pooled MLP"):
        arrays[f"embedding.{model}.clips"] = (centres[label] + 0.2 * rng.normal(size=(15, 8))).astype(np.float32)
        arrays[f"embedding.{model}.classes"] = centres.astype(np.float32)
    return arrays


def fabricate_arrays(num_classes: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    arrays = fabricate_clip(rng)
    arrays["raster.t_s"], arrays["raster.repeats"] = np.arange(48) * 0.05, np.array(4)
    arrays["raster.model"] = np.array("MDFT")
    for layer in (f"{stream}.{i}" for stream in ("video", "audio") for i in range(3)):
        theta = np.repeat(0.5 + 0.3 * np.cumsum(rng.random(12)) / 12, 4)
        arrays[f"raster.{layer}.spikes"] = (rng.random((48, 128)) < rng.uniform(0.02, 0.3, 128)).astype(np.uint8)
        arrays[f"raster.{layer}.theta"] = theta.astype(np.float32)
    seen = rng.random(num_classes) < 0.75
    arrays["confusion.classes"], arrays["confusion.seen"] = np.array(class_names(num_classes)), seen
    arrays |= fabricate_embeddings(np.flatnonzero(seen)[:2].tolist() + np.flatnonzero(~seen)[:1].tolist(), num_classes)
    beta = np.linspace(0, 3, 31)
    for m, model in reversed([*enumerate(MODELS)]):  # stored in another order than the table lists them
        for test_set in ("biased", "shuffled"):
            skill = rng.uniform(0.1, 0.8, num_classes)
            rows = [skill[k] * np.eye(num_classes)[k] + (1 - skill[k]) / num_classes for k in range(num_classes)]
            arrays[f"confusion.{model}|{test_set}"] = np.stack([rng.multinomial(20, row / row.sum()) for row in rows])
            s, u = 0.6 / (1 + np.exp(3 * beta - 4)), 0.5 / (1 + np.exp(3 - 2.5 * beta))
            curve = {"beta": beta, "seen": s, "unseen": u, "hm": 2 * s * u / (s + u)}
            arrays |= {f"curve.{model}|{test_set}.{name}": values for name, values in curve.items()}
        step = np.arange(1, 301)
        arrays[f"log.{model}.step"] = step
        arrays[f"log.{model}.loss"] = (1 + m / 4) * np.exp(-step / 80) + 0.05 * rng.random(300)
        arrays[f"log.{model}.triplet"] = 0.6 * np.exp(-step / 60) + 0.05 * rng.random(300)
    return arrays


def write_run(
    folder: Path, num_classes: int = 51, seeds: int = 3, keep: Callable[[str], bool] = lambda name: True
) -> Path:
    """Fabricate a run directory; ``keep`` says which arrays it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "title": "MotionScenes <small> & friends",
        "note": "Fabricated figures.",
        "settings": {"data": {"size": "small", "scene_bias": 0.5}, "train": {"steps": 300, "lr": 0.001}},
        "versions": {"neuroav": "0.1.0", "torch": "2.13"},
        "rows": fabricate_rows(seeds, classes=class_names(num_classes)),
    }
    (folder / "results.json").write_text(json.dumps(results))
    arrays = {name: values for name, values in fabricate_arrays(num_classes).items() if keep(name)}
    if arrays:
        np.savez(folder / "arrays.npz", **arrays)
    return folder


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it, over 12 classes."""
    return write_report(write_run(tmp_path_factory.mktemp("run"), num_classes=12))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory of one's own: ``make_run(keep=...)``."""
    return lambda **options: write_run(tmp_path / "run", **{"num_classes": 9, "seeds": 1, **options})


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return fabricate_rows(seeds=3)
