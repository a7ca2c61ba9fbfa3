"""Events against closed forms, symmetries and a real sensor."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neuroav.checks import InputError
from neuroav.events.camera import Log
from neuroav.events.generate import frames_to_events
from neuroav.events.types import EventState
from neuroav.kernels import cpu

SENSOR = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "events" / "slider_depth_davis240c.npz"


def _clip(*greys):
    return torch.tensor(greys, dtype=torch.uint8).reshape(-1, 1, 1)


def _times(count, gap=10_000):
    return torch.arange(count) * gap


def _moving_clip(frames=10, height=13, width=18, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (frames, height, width))
    smooth = (noise + np.roll(noise, 1, 0) + np.roll(noise, 2, 0)) // 3
    return torch.from_numpy(smooth.astype(np.uint8))


def _rows(events):
    """One row ``t, y, x, p`` per event."""
    return torch.stack([events.t_us, events.y.long(), events.x.long(), events.p.long()], dim=1)


def _by_pixel(events):
    """Rows ``y, x, p, t``, each pixel's events in their order of emission."""
    y, x, p, t = (c.tolist() for c in (events.y, events.x, events.p, events.t_us))
    return sorted(zip(y, x, p, t, strict=True), key=lambda row: row[:2])


clips = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5)))
contrasts = st.floats(0.01, 2.0)


def test_static_scene_is_silent():
    frames = _moving_clip()[:1].repeat(20, 1, 1)
    assert len(frames_to_events(frames, _times(20), contrast_on=0.01, contrast_off=0.01)[0]) == 0


def test_step_fires_once_per_threshold_at_the_closed_form_times():
    height = math.log((200 + 1) / (20 + 1))
    events, _ = frames_to_events(_clip(20, 200), _times(2), contrast_on=0.3)
    count = math.floor(height / 0.3)
    assert events.p.tolist() == [1] * count
    expected = [10_000 * k * 0.3 / height for k in range(1, count + 1)]
    assert all(0 <= t - e < 1.5 for t, e in zip(events.t_us.tolist(), expected, strict=True))  # rounded up


def test_dark_step_mirrors_the_bright_one():
    up, _ = frames_to_events(_clip(20, 200), _times(2), contrast_on=0.3)
    down, _ = frames_to_events(_clip(200, 20), _times(2), contrast_off=0.3)
    assert down.t_us.tolist() == up.t_us.tolist()
    assert down.p.tolist() == [0] * len(up)


def test_slow_ramp_has_the_closed_form_count_whatever_the_frame_rate():
    ramp = _clip(*range(1, 256))
    every, _ = frames_to_events(ramp, _times(255))
    ends, _ = frames_to_events(ramp[[0, -1]], torch.tensor([0, 2_540_000]))
    assert len(every) == len(ends) == math.floor(math.log(256 / 2) / 0.2)


def test_a_tie_fires_and_one_unit_less_does_not():
    step = int(Log().table()[120] - Log().table()[100])
    for units, count in [(step, 1), (step + 1, 0)]:
        contrast = units / 65536
        assert round(65536 * contrast) == units
        assert len(frames_to_events(_clip(100, 120), _times(2), contrast_on=contrast)[0]) == count
        assert len(frames_to_events(_clip(120, 100), _times(2), contrast_off=contrast)[0]) == count


def test_a_revisited_grey_level_gives_balanced_events():
    events, state = frames_to_events(_clip(*[50, 90] * 20, 50), _times(41))
    assert int((events.p == 1).sum()) == int((events.p == 0).sum()) > 0
    assert state.reference.item() == state.last.item()


@given(clips, contrasts, contrasts)
def test_conservation_is_exact(frames, contrast_on, contrast_off):
    events, state = frames_to_events(frames, _times(len(frames)), contrast_on=contrast_on, contrast_off=contrast_off)
    on, off = round(65536 * contrast_on), round(65536 * contrast_off)
    pixel = events.y.long() * frames.shape[2] + events.x.long()
    signed = torch.bincount(pixel, torch.where(events.p == 1, on, -off).double(), minlength=frames[0].size)
    first = Log().table()[torch.from_numpy(frames[0]).long()]
    assert torch.equal(state.reference, first + signed.reshape(first.shape).int())
    rest = state.last - state.reference
    assert bool(((rest > -off) & (rest < on)).all())


@given(clips, contrasts)
def test_order_and_interval(frames, contrast):
    t_us = _times(len(frames), 777)
    rows = _rows(frames_to_events(frames, t_us, contrast_on=contrast, contrast_off=contrast)[0]).tolist()
    assert [row[:3] for row in rows] == sorted(row[:3] for row in rows)
    assert all(0 < row[0] <= int(t_us[-1]) for row in rows)


@pytest.mark.parametrize("move", [lambda f: f.flip(1), lambda f: f.flip(2), lambda f: f.transpose(1, 2)])
def test_geometry_of_frames_is_geometry_of_events(move):
    frames = _moving_clip()
    place = torch.arange(frames[0].numel()).reshape(1, *frames.shape[1:])
    moved_from = move(place)[0]  # which pixel of the clip each pixel of the moved clip shows
    moved, _ = frames_to_events(move(frames), _times(len(frames)))
    plain, _ = frames_to_events(frames, _times(len(frames)))
    source = moved_from[moved.y.long(), moved.x.long()]
    there = sorted(zip(moved.t_us.tolist(), source.tolist(), moved.p.tolist(), strict=True))
    index = place[0][plain.y.long(), plain.x.long()]
    assert there == sorted(zip(plain.t_us.tolist(), index.tolist(), plain.p.tolist(), strict=True))
    assert len(there) > 100


def test_time_shift_shifts_and_time_scale_scales():
    frames = _moving_clip()
    events, _ = frames_to_events(frames, _times(10, 10_000))
    shifted, _ = frames_to_events(frames, _times(10, 10_000) + 12_345)
    assert torch.equal(shifted.t_us, events.t_us + 12_345)
    slower, _ = frames_to_events(frames, _times(10, 30_000))
    by_pixel, by_pixel_slower = (_by_pixel(e) for e in (events, slower))
    assert [row[:3] for row in by_pixel] == [row[:3] for row in by_pixel_slower]
    assert all(0 <= 3 * a[3] - b[3] <= 2 for a, b in zip(by_pixel, by_pixel_slower, strict=True))  # rounded up


def test_brightness_gain_leaves_events_alone_without_an_offset_only():
    frames = _clip(10, 30, 5, 60, 20)
    for log_eps, same in [(1e-6, True), (20.0, False)]:
        plain, _ = frames_to_events(frames, _times(5), brightness=Log(log_eps))
        twice, _ = frames_to_events(frames * 4, _times(5), brightness=Log(log_eps))
        assert (len(plain) == len(twice)) is same


def test_lower_threshold_never_gives_fewer_events():
    frames = _moving_clip()
    counts = [
        len(frames_to_events(frames, _times(10), contrast_on=c, contrast_off=c)[0]) for c in (0.05, 0.1, 0.2, 0.4, 6)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_an_hour_in_times_are_still_exact_to_the_microsecond():
    start = 3_600_000_000 * 24
    early, _ = frames_to_events(_moving_clip(), _times(10))
    late, _ = frames_to_events(_moving_clip(), _times(10) + start)
    assert torch.equal(late.t_us - start, early.t_us)


def test_no_frames_keep_the_state():
    _, state = frames_to_events(_moving_clip(), _times(10))
    events, again = frames_to_events(torch.zeros(0, 13, 18, dtype=torch.uint8), _times(0), state=state)
    assert len(events) == 0
    assert again.t_us == state.t_us
    assert torch.equal(again.reference, state.reference)


def test_numpy_is_welcome():
    frames = _moving_clip()
    events, _ = frames_to_events(frames.numpy(), _times(10).numpy())
    assert torch.equal(events.t_us, frames_to_events(frames, _times(10))[0].t_us)
    assert events.sensor_size == (13, 18)
    assert set(events.numpy()) == {"t_us", "x", "y", "p"}
    only_to_read = frames.numpy()
    only_to_read.flags.writeable = False  # as np.frombuffer and many image readers give it; torch would warn
    again, _ = frames_to_events(only_to_read, _times(10))
    assert torch.equal(again.t_us, events.t_us)
    mirrored, _ = frames_to_events(frames.numpy()[:, :, ::-1], _times(10))
    assert torch.equal(mirrored.t_us.sort().values, events.t_us)


@pytest.mark.parametrize(
    ("changes", "kind", "match"),
    [
        ({"frames": torch.zeros(2, 3, 3).int()}, TypeError, "frames of dtype torch.uint8 or torch.float32"),
        ({"frames": torch.zeros(2, 3, dtype=torch.uint8)}, InputError, "frames of shape"),
        ({"frames": torch.zeros(2, 0, 3, dtype=torch.uint8)}, InputError, "sides in"),
        ({"frames": torch.zeros(0, 3, 3, dtype=torch.uint8), "t_us": _times(0)}, InputError, "at least one frame"),
        ({"t_us": torch.tensor([0.0, 1.0])}, TypeError, "t_us of dtype torch.int64"),
        ({"frames": "clip.mp4"}, TypeError, "frames as a tensor or an array of numbers, got str"),
        ({"camera": "noisy"}, TypeError, "camera to be an EventCamera, got 'noisy'"),
        ({"state": 3}, TypeError, "state from an earlier call, or None, got int"),
        ({"t_us": torch.tensor([0, 1, 2])}, InputError, "t_us of shape"),
        ({"t_us": torch.tensor([5, 5])}, InputError, "strictly increasing, got 5 followed by 5"),
        ({"t_us": torch.tensor([5, 4])}, InputError, "strictly increasing, got 5 followed by 4"),
        ({"t_us": torch.tensor([0, 1 << 32])}, InputError, "71 minutes"),
        ({"contrast_on": 0.0}, InputError, "contrast_on in"),
        ({"contrast_off": -1.0}, InputError, "contrast_off in"),
        ({"contrast_off": float("nan")}, InputError, "contrast_off in"),
        ({"log_eps": 1.0}, InputError, "every parameter to be one of"),
    ],
)
def test_bad_arguments_are_named(changes, kind, match):
    arguments = {"frames": torch.zeros(2, 3, 3, dtype=torch.uint8), "t_us": torch.tensor([0, 1])} | changes
    with pytest.raises(kind, match=match):
        frames_to_events(**arguments)


def test_a_state_that_does_not_fit_is_refused():
    frames = _moving_clip()
    _, state = frames_to_events(frames, _times(10))
    with pytest.raises(InputError, match="strictly increasing"):
        frames_to_events(frames, _times(10), state=state)
    with pytest.raises(InputError, match=r"a state of a sensor of \(12, 18\)"):
        frames_to_events(frames[:, 1:], _times(10) + 100_000, state=state)
    with pytest.raises(InputError, match=r"the same camera, got contrast_on 0\.2"):
        frames_to_events(frames, _times(10) + 100_000, contrast_on=0.01, state=state)
    bare = EventState(state.reference, state.last, state.t_us)
    with pytest.raises(InputError, match="same thresholds"):
        frames_to_events(frames, _times(10) + 100_000, contrast_on=0.01, state=bare)
    wrong = EventState(state.reference.float(), state.last, state.t_us)
    with pytest.raises(TypeError, match=r"state\.reference of dtype"):
        frames_to_events(frames, _times(10) + 100_000, state=wrong)


def test_simulated_events_agree_with_a_real_sensor():
    if not SENSOR.exists():
        pytest.skip(f"{SENSOR.name} is not beside the repository")
    data = np.load(SENSOR)
    covered = data["frame_t"] < data["t"].max()
    frames, frame_t_us = data["frames"][covered], np.round(data["frame_t"][covered] * 1e6).astype(np.int64)
    column = frames_to_events(frames, frame_t_us)[0].numpy()
    simulated = _signed_maps(column["t_us"], column["y"], column["x"], column["p"], frame_t_us, frames.shape[1:])
    measured = _signed_maps(data["t"] * 1e6, data["y"], data["x"], data["p"], frame_t_us, frames.shape[1:])
    pairs = list(zip(simulated, measured, strict=True))[1:]  # the recording starts inside the first interval
    assert len(pairs) >= 3
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs) > 0.65


def _signed_maps(t_us, y, x, p, edges_us, size):
    """ON minus OFF events per frame interval and pixel."""
    bins = (edges_us[:-1], edges_us[1:])
    maps = np.zeros((len(bins[0]), *size))
    for index, (start, stop) in enumerate(zip(*bins, strict=True)):
        inside = (t_us > start) & (t_us <= stop)
        np.add.at(maps[index], (y[inside].astype(int), x[inside].astype(int)), p[inside].astype(int) * 2 - 1)
    return maps


def test_a_state_darker_than_any_grey_is_refused():
    far = torch.full((4, 4), -2_000_000_000, dtype=torch.int32)
    with pytest.raises(InputError, match="brightness of grey levels"):
        frames_to_events(torch.zeros(2, 4, 4, dtype=torch.uint8), torch.tensor([10, 20]), state=EventState(far, far, 0))


LITTLE_MEMORY = """
import resource, torch
from neuroav import frames_to_events
torch.set_num_threads(2)
frames = (torch.rand(9, 1000, 1000) * 255).to(torch.uint8)
t_us = torch.arange(9) * 40_000
frames_to_events(frames[:, :64, :64], t_us, contrast_on=0.02, contrast_off=0.02)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 200 * 2**20, resource.RLIM_INFINITY))
try:
    frames_to_events(frames, t_us, contrast_on=0.02, contrast_off=0.02)
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
@pytest.mark.skipif(not cpu.available(), reason="the C++ extension's threads")
def test_too_little_memory_is_an_exception_and_not_the_end_of_the_process():
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "MemoryError\n"), done.stderr[-500:]
