"""Simulated events against those of a real camera, and the comparison itself on cases with a known answer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neuroav.bench import sensor
from neuroav.checks import InputError

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT.parent / "shared" / "data" / "events" / "slider_depth_davis240c.npz"
BAR = 0.95


@pytest.fixture(scope="module")
def recording():
    if not RECORDING.exists():
        pytest.skip(f"{RECORDING.name} is not beside the repository")
    return sensor.read_recording(RECORDING)


@pytest.fixture(scope="module")
def published():
    return json.loads((ROOT / "experiments" / "results" / "real_sensor.json").read_text(encoding="utf-8"))


def test_simulated_maps_are_as_near_to_the_real_ones_as_log_intensity_is(recording, published):
    real = sensor.signed(sensor.gap_maps(recording.events, recording.edges_us))
    fit = published["fitted"]
    simulated = sensor.simulate(recording, fit["contrast_on"], fit["contrast_off"], published["eps"])
    reached = sensor.correlations(sensor.signed(simulated), real)
    plain = [sensor.correlations(sensor.log_difference(recording, eps), real) for eps in sensor.EPS]
    most = np.max(plain, axis=0)  # of every eps, gap by gap
    assert recording.covered == 4
    assert min(np.divide(reached, most)) >= BAR
    assert most.min() > 0.7  # a bar that a wrong reading of the recording would lower


def test_the_published_figures_are_reproduced(recording, published):
    fits = sensor.try_thresholds(recording, published["eps"], contrasts=(0.3, 0.4))
    fit = sensor.best(fits, range(4))
    assert (fit.contrast_on, fit.contrast_off) == (
        published["fitted"]["contrast_on"],
        published["fitted"]["contrast_off"],
    )
    assert fit.correlation == pytest.approx(published["fitted"]["correlation"], abs=1e-9)
    for way in ("fitted", "held_out", "matched_counts"):
        assert min(published[way]["ratio"]) >= BAR


def test_a_simulation_gone_wrong_misses_the_bar(recording):
    real = sensor.signed(sensor.gap_maps(recording.events, recording.edges_us))
    plain = sensor.correlations(sensor.log_difference(recording, 5.0), real)
    right = sensor.simulate(recording, 0.4, 0.3, 5.0)
    for wrong in (right[:, ::-1], right[..., ::-1], np.roll(right, 3, axis=-1), np.roll(right, 1, axis=0)):
        reached = sensor.correlations(sensor.signed(wrong), real)
        assert min(np.divide(reached, plain)) < BAR


@pytest.fixture
def synthetic(tmp_path):
    """A recording whose events were simulated at 0.3 ON and 0.2 OFF."""
    random = np.random.default_rng(0)
    frames = np.clip(128 + random.normal(0, 30, (5, 24, 32)).cumsum(axis=0), 0, 255).astype(np.uint8)
    t_us = torch.arange(5) * 40_000
    events, _ = sensor.frames_to_events(frames, t_us, contrast_on=0.3, contrast_off=0.2, brightness=sensor.Log(1.0))
    columns = {name: getattr(events, name).numpy() for name in ("x", "y", "p")}
    path = tmp_path / "synthetic.npz"
    np.savez(path, frames=frames, frame_t=t_us.numpy() / 1e6, t=events.t_us.numpy() / 1e6, **columns)
    return path


def test_known_thresholds_are_found_again(synthetic):
    fits = sensor.try_thresholds(sensor.read_recording(synthetic), 1.0, contrasts=(0.1, 0.2, 0.3, 0.4))
    fit = sensor.best(fits, range(3))
    assert (fit.contrast_on, fit.contrast_off) == (0.3, 0.2)
    assert fit.correlation == pytest.approx([1.0] * 3)
    matched = sensor.nearest_counts(fits, fit.events_on, fit.events_off)
    assert (matched.contrast_on, matched.contrast_off) == (0.3, 0.2)


def test_correlation_of_a_flat_map_is_zero():
    flat, slope = np.zeros((1, 2, 2)), np.arange(4.0).reshape(1, 2, 2)
    assert sensor.correlations(flat, slope) == [0.0]
    assert sensor.correlations(slope, -2 * slope) == pytest.approx([-1.0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"t": None}, "an .npz with frames, frame_t, t, x, y, p"),
        ({"x": np.zeros(3, np.int16)}, "columns of one length"),
        ({"frames": np.zeros((5, 24), np.uint8)}, "columns of one length and one time per frame"),
        ({"frame_t": np.zeros(2)}, "one time per frame"),
        ({"frame_t": np.arange(5) * 1e3}, "events over at least one gap"),
    ],
)
def test_other_archives_are_refused(synthetic, change, match):
    with np.load(synthetic) as stored:
        data = {**stored, **change}
    np.savez(synthetic, **{name: values for name, values in data.items() if values is not None})
    with pytest.raises(InputError, match=match):
        sensor.read_recording(synthetic)


def test_a_missing_or_foreign_file_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("gone.npz", "text.npz"):
        with pytest.raises(InputError, match=name):
            sensor.read_recording(tmp_path / name)
