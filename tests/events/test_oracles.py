"""Every oracle on every implementation, and every oracle and a list of wrong generators against each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuroav.checks import InputError
from neuroav.events.camera import Log
from neuroav.events.generate import clips_to_events, frames_to_events
from neuroav.events.oracles import ORACLES, Generator, conservation_of
from neuroav.events.types import Events, EventState

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
IDEAL = [oracle for oracle in ORACLES if oracle.ideal]
BY_KEY = {oracle.key: oracle for oracle in ORACLES}

# ----------------------------------------------------------------------------------- a third generator, with its faults


def simulate(frames, t_us, *, state=None, contrast_on=0.2, contrast_off=0.2, brightness=Log(), fault=""):  # noqa: B008
    """The ideal camera once more, in numpy: one interval after the other, one crossing after the other."""
    on = round(65536 * contrast_on)
    off = on if fault == "OFF uses the ON threshold" else round(65536 * contrast_off)
    law = Log(1e-3) if fault == "always the same eps" else brightness
    table = law.table().numpy().astype(np.int64)
    if fault == "coarse brightness":
        table = table // 512 * 512
    levels, times = table[frames.numpy().astype(int)], t_us.tolist()
    if state is None:
        if not times:
            raise InputError("no frame")
        reference, last, start = levels[0].copy(), levels[0], times[0]
        if fault == "the first frame fires":
            reference -= 2 * on
        levels, times = levels[1:], times[1:]
    else:
        reference, last, start = (state.reference.numpy().copy(), state.last.numpy(), state.t_us)
        if fault == "the state forgets the reference":
            reference = last.copy()
    found = [np.empty((0, 5), np.int64)]
    for level, stop in zip(levels, times, strict=True):
        if stop <= start:
            if fault != "takes frames that share a time":
                raise InputError("times do not increase")
            continue
        found.append(_interval(reference, last, level, on, off, start, stop, fault))
        last, start = level, stop
    events = _listed(np.concatenate(found), frames.shape[1:], fault)
    return events, EventState(torch.from_numpy(reference), torch.from_numpy(last), start)


def _interval(reference, last, level, on, off, start, stop, fault):
    """Rows ``t, y, x, nth, p`` of one interval in the documented order; moves ``reference``."""
    found = [np.empty((0, 5), np.int64)]
    before, nth, tie = reference.copy(), 0, int(fault == "a tie does not fire")
    while True:
        up, down = level - reference >= on + tie, reference - level >= off + tie
        y, x = (up | down).nonzero()
        if not len(y) or (nth and fault == "one event per interval"):
            break
        nth, p = nth + 1, up[y, x].astype(np.int64)
        reference[y, x] += np.where(p, on, -off)
        way, span = np.abs(reference[y, x] - last[y, x]), np.maximum(np.abs(level[y, x] - last[y, x]), 1)
        if fault == "one event per interval":
            span = np.maximum(span, way)
        late = way * (stop - start) // span if fault == "rounds down" else -(-way * (stop - start) // span)
        if fault == "rounds up to 10 us":
            late = np.minimum(-(-late // 10) * 10, stop - start)
        found.append(np.stack([start + late, y, x, np.full_like(y, nth), p], axis=1))
        if fault == "loses a unit per event":
            reference[y, x] += np.where(p, 1, -1)
    rows = np.concatenate(found)
    if fault == "the reference jumps to the brightness":
        reference[...] = np.where(reference != before, level, reference)
    if fault == "stamped at the frame":
        rows[:, 0] = stop
    if fault == "a grid shared by all pixels" and len(rows):
        rows[:, 0] = start + rows[:, 3] * (stop - start) // rows[:, 3].max()
    keys = {
        "sorted by column before row": (0, 2, 1, 3),
        "in raster order": (1, 2, 0, 3),
        "emission first": (0, 3, 1, 2),
    }
    order = np.lexsort([rows[:, k] for k in reversed(keys.get(fault, (0, 1, 2, 3)))])
    return rows[order]


def _listed(rows, size, fault):
    t, y, x, p = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 4]
    if fault == "swaps polarity":
        p = 1 - p
    if fault == "seconds in float32":
        t = np.ceil((t / 1e6).astype(np.float32).astype(np.float64) * 1e6).astype(np.int64)
    if fault == "mirrors columns":
        x = size[1] - 1 - x
    keep = np.ones(len(t), bool)
    if fault == "drops every 50th event":
        keep[49::50] = False
    if fault == "depends on threads" and torch.get_num_threads() > 1:
        keep[:1] = False
    t, y, x, p = (column[keep] for column in (t, y, x, p))
    if fault == "counts one event twice" and len(t):
        t, y, x, p = (np.concatenate([column[:1], column]) for column in (t, y, x, p))
    columns = (t, x.astype(np.int16), y.astype(np.int16), p.astype(np.uint8))
    return Events(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns), tuple(size))


def simulate_clips(clips, *, fault="", **settings):
    """One clip after the other."""
    done = []
    for frames, t_us in clips:
        done.append(simulate(frames, t_us, fault=fault, **settings))
    if fault == "a batch mixes its clips":
        done[0], done[-1] = done[-1], done[0]
    return [events for events, _ in done], [state for _, state in done]


FAULTS = {
    "a tie does not fire": "3 8",
    "stamped at the frame": "2 3 4 8",
    "a grid shared by all pixels": "2 3 4 6 8 12",
    "rounds down": "2 3 6 8",
    "rounds up to 10 us": "2 3 6 8",
    "one event per interval": "1 2 3 5 8 9 12",
    "the reference jumps to the brightness": "2 4 5 8 9",
    "loses a unit per event": "2 3",
    "swaps polarity": "2 3 4 5 8 9",
    "OFF uses the ON threshold": "3 5 6 9",
    "drops every 50th event": "3 4 5 8 9 12",
    "counts one event twice": "2 3 4 5 8 9 12",
    "sorted by column before row": "3 8",
    "in raster order": "3 8",
    "emission first": "3 8",
    "the first frame fires": "1 2 3 4 5 6 8 9 12",
    "the state forgets the reference": "7 12",
    "takes frames that share a time": "12",
    "seconds in float32": "2 3 6 8 12",
    "mirrors columns": "3 4 5 8 12",
    "coarse brightness": "2 3 5 6",
    "always the same eps": "2 3 4 5 6 8 9 12",
    "depends on threads": "7",
    "a batch mixes its clips": "7",
}  # and the oracles that see each


def simulated(fault=""):
    """The simulator above, right or with a fault."""

    def convert(frames, t_us, **settings):
        return simulate(frames, t_us, fault=fault, **settings)

    return Generator(fault or "numpy", convert, lambda clips: simulate_clips(clips, fault=fault))


def failed(finding):
    return [f"{check.what}: expected {check.expected}, got {check.got}" for check in finding.checks if not check.passed]


@pytest.mark.parametrize("oracle", IDEAL, ids=lambda oracle: oracle.key)
def test_the_simulator_of_this_file_passes(oracle):
    assert failed(oracle.judge(simulated())) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_caught(fault):
    for key in FAULTS[fault].split():
        assert failed(BY_KEY[key].judge(simulated(fault))) != [], key


def test_every_oracle_catches_a_fault():
    assert {oracle.key for oracle in IDEAL} == {key for keys in FAULTS.values() for key in keys.split()}


# ------------------------------------------------------------------------------------------------------- our generators


class Reference(TorchDispatchMode):
    """Inside, every op of ours runs its reference in PyTorch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "neuroav":
            return func._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def in_reference(function):
    """The same function, on the reference."""

    def called(*args, **settings):
        with Reference():
            return function(*args, **settings)

    return called


def terms_off(function):
    """The same function with a camera whose every term is off, but which is not the ideal one."""

    def called(*args, **settings):
        return function(*args, **({"dead_fraction": 1e-12} | settings))

    return called


PAIR = (frames_to_events, clips_to_events)
OURS = {
    "kernel": Generator("kernel", *PAIR),
    "reference": Generator("reference", *map(in_reference, PAIR)),
    "full camera": Generator("full camera", *map(terms_off, PAIR)),
    "full camera, reference": Generator("full camera, reference", *(in_reference(terms_off(one)) for one in PAIR)),
}


@pytest.mark.parametrize("name", ["kernel", "reference"])
@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.key)
def test_oracles_on_our_generators(oracle, name):
    finding = oracle.judge(OURS[name])
    assert failed(finding) == []
    assert len({check.what for check in finding.checks}) == len(finding.checks) >= 2


@pytest.mark.parametrize("oracle", IDEAL, ids=lambda oracle: oracle.key)
def test_oracles_on_the_full_camera_with_every_term_off(oracle):
    assert failed(oracle.judge(OURS["full camera"])) == []


@pytest.mark.parametrize("key", ["2", "3", "5"])  # the rest with NEUROAV_KERNELS=reference
def test_oracles_on_the_reference_of_the_full_camera_with_every_term_off(key):
    assert failed(BY_KEY[key].judge(OURS["full camera, reference"])) == []


def test_keys_are_unique():
    assert len(BY_KEY) == len(ORACLES)


@pytest.mark.parametrize("clip", ["av_clips", "motion_asl"])
def test_conservation_on_real_video(clip):
    from neuroav.events.video import read_video

    videos = sorted(path for path in (SHARED / clip).glob("*") if path.suffix in (".mp4", ".avi", ".webm", ".mkv"))
    if not videos:
        pytest.skip(f"no {clip} beside the repository")
    chunks = list(read_video(videos[0], size=(90, 120), max_frames=40))
    frames, t_us = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*chunks, strict=True))
    for generator in OURS.values():
        assert failed(conservation_of(generator, frames, t_us, 0.15, 0.2)) == []


# ------------------------------------------------------------------------------------------- faults of the full camera


def with_settings(**changes):
    """A camera that does not do what it is told: some of its parameters are others."""

    def convert(frames, t_us, **settings):
        wrong = {name: change(settings[name]) for name, change in changes.items() if name in settings}
        return frames_to_events(frames, t_us, **(settings | wrong))

    return convert


def with_events(change):
    """A camera whose events are changed afterwards."""

    def convert(frames, t_us, **settings):
        events, state = frames_to_events(frames, t_us, **settings)
        return change(events, torch.as_tensor(t_us)), state

    return convert


def _swapped(events, t_us):
    return Events(events.t_us, events.x, events.y, 1 - events.p, events.sensor_size)


def _at_frames(events, t_us):
    stamped = t_us[torch.searchsorted(t_us, events.t_us).clamp(max=len(t_us) - 1)]
    return Events(stamped, events.x, events.y, events.p, events.sensor_size)


def _coarse(frames, t_us, **settings):
    frames = frames.half().to(frames.dtype) if frames.is_floating_point() else frames
    return frames_to_events(frames, t_us, **settings)


def _without_nan(frames, t_us, **settings):
    frames = frames.nan_to_num(0, 0, 0) if frames.is_floating_point() else frames
    return frames_to_events(frames, t_us, **settings)


CAMERA_FAULTS = {
    "advance holds": (with_settings(refractory=lambda rule: "hold" if rule == "advance" else rule), {"10"}),
    "hold advances": (with_settings(refractory=lambda rule: "advance" if rule == "hold" else rule), {"10"}),
    "blind advances": (with_settings(refractory=lambda rule: "advance" if rule == "blind" else rule), {"10"}),
    "a period of 1 us more": (with_settings(refractory_us=lambda period: period + 1), {"10"}),
    "a period of 1 us less": (with_settings(refractory_us=lambda period: period - 1), {"10"}),
    "no period": (with_settings(refractory_us=lambda period: 0), {"10"}),
    "leaks 5 % more": (with_settings(leak_hz=lambda rate: 1.05 * rate), {"11a"}),
    "leaks unevenly": (with_settings(leak_spread=lambda spread: 0.1), {"11a"}),
    "leaks OFF": (with_events(_swapped), {"11a", "11d"}),
    "thresholds vary 10 % more": (with_settings(mismatch=lambda spread: 1.1 * spread), {"11b"}),
    "ignores the seed": (with_settings(seed=lambda seed: 0), {"11b"}),
    "shot noise 5 % more": (with_settings(shot_hz=lambda rate: 1.05 * rate), {"11c"}),
    "shot noise at frames": (with_events(_at_frames), {"11c", "2f", "4f", "10", "11a"}),
    "a cutoff 5 % higher": (with_settings(cutoff_hz=lambda cutoff: 1.05 * cutoff), {"11d"}),
    "one stage for two": (with_settings(poles=lambda poles: 1), {"11d"}),
    "half precision": (_coarse, {"2f", "4f"}),
    "takes NaN": (_without_nan, {"12f"}),
}


@pytest.mark.parametrize("fault", CAMERA_FAULTS)
def test_every_fault_of_the_full_camera_is_caught(fault):
    convert, keys = CAMERA_FAULTS[fault]
    for key in sorted(keys):
        assert failed(BY_KEY[key].judge(Generator(fault, convert))) != []


def test_every_oracle_of_the_full_camera_catches_a_fault():
    caught_here = set().union(*(keys for _, keys in CAMERA_FAULTS.values()))
    assert caught_here >= {oracle.key for oracle in ORACLES if not oracle.ideal}
