"""Runs v2e on small made-up clips and records what it gives; ``python tests/golden/v2e/make.py`` writes the files.

Needs an installed v2e (``v2ecore``) and git's commit of it as the only argument. The tests compare with the recorded
files, and, where v2e is installed, run it again.
"""

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neuroav.events.camera import EventCamera, LinLog
from neuroav.events.v2e import v2e_events

HERE = Path(__file__).parent
QUIET = EventCamera(brightness=LinLog(20), timestamps="v2e")
GREYS = (0, 64, 128, 255)


@dataclass(frozen=True)
class Case:
    """One clip and the camera that v2e is to be."""

    frames: np.ndarray
    t_us: np.ndarray
    camera: EventCamera


def irregular(rng, count):
    """Frame times with gaps of 20 to 50 ms, starting anywhere."""
    return 1_000_000 + np.concatenate([[0], rng.integers(20_000, 50_000, count - 1).cumsum()]).astype(np.int64)


def monotone():
    """Grey levels that only rise, all above 20: no pixel comes back to a level, so nothing hangs on rounding."""
    rng = np.random.default_rng(0)
    growth = rng.uniform(1.0, 1.5, (11, 24, 32)).cumprod(0)
    first = rng.integers(21, 90, (1, 24, 32))
    frames = np.concatenate([first, np.minimum(first * growth, 255)]).astype(np.uint8)
    return Case(frames, irregular(rng, 12), QUIET)


def walk():
    """Log brightness that walks at random, float32: no ties either, and both polarities."""
    rng = np.random.default_rng(1)
    frames = (4 + rng.normal(0, 0.35, (12, 32, 32)).cumsum(0)).astype(np.float32)
    return Case(frames, irregular(rng, 12), QUIET.replace(contrast_off=0.25))


def dark():
    """Ramps up from 0 to 20 and ramps down from 20 to 0 at several speeds: the linear part of the brightness law."""
    speed = np.arange(1, 9)[None, None, :]
    up = np.minimum(np.arange(21)[:, None, None] * speed, 20)
    frames = np.concatenate([up, 20 - up], axis=1).astype(np.uint8)
    return Case(frames, irregular(np.random.default_rng(2), 21), QUIET)


def wander():
    """Grey levels between 21 and 255 that come back to where they were, as 8-bit video does: full of ties."""
    rng = np.random.default_rng(3)
    steps = rng.integers(-25, 26, (12, 24, 32))
    there = np.concatenate([rng.integers(21, 256, (1, 24, 32)), steps]).cumsum(0).clip(21, 255).astype(np.uint8)
    frames = np.concatenate([there, there[-2::-1]])
    return Case(frames, irregular(rng, 25), QUIET)


CASES = {"monotone": monotone, "walk": walk, "dark": dark, "wander": wander}


def static():
    """Four grey patches of 64x64 that stay: all events are noise. 3 s at 100 frames per second, preset ``noisy``."""
    frames = np.repeat(np.repeat(np.array(GREYS, dtype=np.uint8), 64)[None, None].repeat(64, 1), 301, 0)
    return Case(frames, np.arange(301) * 10_000, EventCamera.preset("noisy", timestamps="v2e", seed=1))


def moving():
    """A sine grating that drifts by one pixel per frame, 2 s at 100 frames per second, preset ``noisy``."""
    phase = 2 * np.pi * (np.arange(128)[None, None] - np.arange(201)[:, None, None]) / 32
    frames = np.broadcast_to(np.rint(120 + 90 * np.sin(phase)), (201, 64, 128)).astype(np.uint8)
    return Case(frames, np.arange(201) * 10_000, EventCamera.preset("noisy", timestamps="v2e", seed=1))


def photoreceptor():
    """A grey patch of 64x128 that stays under photoreceptor noise of 20 Hz behind 100 Hz, 0.5 s at 1000 frames/s."""
    camera = QUIET.replace(photoreceptor_hz=20.0, cutoff_hz=100.0, seed=1)
    return Case(np.full((501, 64, 128), 90, dtype=np.uint8), np.arange(501) * 1_000, camera)


SCENES = {"static": static, "moving": moving, "photoreceptor": photoreceptor}


def run(case):
    """Return v2e's events on a case."""
    return v2e_events(torch.from_numpy(np.ascontiguousarray(case.frames)), torch.from_numpy(case.t_us), case.camera)


@contextmanager
def settled_noise():
    """Give v2e the variance of low-passed noise it is after; its own estimate is a draw, which moves rates by 25 %."""
    from v2ecore import emulator

    estimate = emulator.compute_photoreceptor_noise_voltage

    def exact(shot_noise_rate_hz, f3db, sample_rate_hz, pos_thr, neg_thr, sigma_thr):
        x = np.log10(shot_noise_rate_hz / f3db / 2)
        behind = min(pos_thr, neg_thr) / 10 ** (-0.0026 * x**3 - 0.036 * x**2 - 0.1949 * x + 0.321)
        share = 2 * np.pi * f3db / sample_rate_hz
        return behind * np.sqrt((2 - share) / share)

    emulator.compute_photoreceptor_noise_voltage = exact
    try:
        yield
    finally:
        emulator.compute_photoreceptor_noise_voltage = estimate


def columns(events, t_us):
    """Return interval, row, column, polarity and time ``(5, E)`` int64, sorted by the first four."""
    t = events.t_us.numpy()
    rows = np.stack([np.searchsorted(t_us, t), events.y.numpy(), events.x.numpy(), events.p.numpy(), t])
    return rows[:, np.lexsort(rows[::-1])]


def rates(events, t_us, patches):
    """Return events per pixel and second, ``(patches, 2)``, of equal patches from left to right, OFF and ON."""
    height, width = events.sensor_size
    seconds, pixels = (t_us[-1] - t_us[0]) / 1e6, height * width / patches
    place = 2 * (events.x.long() * patches // width) + events.p.long()
    return np.bincount(place.numpy(), minlength=2 * patches).reshape(patches, 2) / (pixels * seconds)


def main(commit):
    """Write one ``.npz`` per case and the rates of the noisy scenes."""
    source = {"v2e": "https://github.com/SensorsINI/v2e", "commit": commit, "licence": "MIT"}
    source |= {"torch": torch.__version__, "numpy": np.__version__}
    for name, make in CASES.items():
        case = make()
        interval, y, x, p, t = columns(run(case), case.t_us)
        small = {"interval": interval, "y": y, "x": x, "p": p}
        meta = json.dumps(source | {"case": make.__doc__, "camera": case.camera.to_dict()})
        events = {key: value.astype(np.uint8) for key, value in small.items()} | {"t_us": t}
        np.savez_compressed(HERE / f"{name}.npz", frames=case.frames, frame_t_us=case.t_us, meta=meta, **events)
        print(name, len(t))
    scenes = {}
    for name, make in SCENES.items():
        case = make()
        with settled_noise():
            found = rates(run(case), case.t_us, len(GREYS) if name == "static" else 1)
        scenes[name] = {"scene": make.__doc__, "camera": case.camera.to_dict(), "rates_hz": found.tolist()}
    (HERE / "rates.json").write_text(json.dumps(source | scenes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
