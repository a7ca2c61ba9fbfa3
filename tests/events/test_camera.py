"""The camera object: laws, ranges, presets, and its form as plain values."""

import dataclasses
import json
import math

import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.camera import EventCamera, Linear, LinLog, Log
from neuroav.events.generate import bin_frames, clips_to_events, frames_to_events
from neuroav.events.types import Bins
from neuroav.kernels.events import brightness


@pytest.mark.parametrize(
    ("law", "formula"),
    [
        (Log(), lambda i: math.log(i + 1)),
        (Log(0.001), lambda i: math.log(i + 0.001)),
        (LinLog(), lambda i: math.log(i) if i > 20 else i * math.log(20) / 20),
        (Linear(), lambda i: i / 255),
    ],
)
def test_laws_are_their_formulas_and_never_decrease(law, formula):
    table = law.table()
    assert table.dtype == torch.int32
    assert all(abs(int(table[i]) / 65536 - formula(i)) <= 0.5 / 65536 for i in range(256))
    assert bool((table.diff() >= 0).all())


def test_the_presets_are_those_of_v2e():
    clean, noisy, cli = (EventCamera.preset(name) for name in ("clean", "noisy", "v2e"))
    assert EventCamera.preset("ideal") == EventCamera()
    assert (clean.mismatch, clean.cutoff_hz, clean.leak_hz, clean.shot_hz) == (0.02, 0, 0, 0)
    assert (noisy.mismatch, noisy.cutoff_hz, noisy.leak_hz, noisy.shot_hz) == (0.05, 30, 0.1, 5)
    assert (cli.mismatch, cli.cutoff_hz, cli.leak_hz, cli.shot_hz) == (0.03, 300, 0.01, 0.001)
    assert (cli.refractory_us, cli.refractory) == (500, "hold")
    for camera in (clean, noisy, cli):
        assert (camera.contrast_on, camera.contrast_off, camera.brightness) == (0.2, 0.2, LinLog(20))
        assert (camera.leak_jitter, camera.leak_spread, camera.poles, camera.timestamps) == (0.1, 0.1, 1, "crossing")
    assert EventCamera.preset("noisy", seed=5).seed == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"mismatch": 0.1}, {"refractory_us": 1}, {"cutoff_hz": 1.0}, {"leak_hz": 0.1}, {"shot_hz": 1.0},
        {"cutoff_hz": 9.0, "photoreceptor_hz": 1.0}, {"hot_fraction": 0.1}, {"dead_fraction": 0.1},
    ],
)  # fmt: skip
def test_any_term_makes_a_camera_less_than_ideal(changes):
    assert EventCamera().is_ideal
    assert not EventCamera(**changes).is_ideal
    assert EventCamera(contrast_on=0.4, brightness=LinLog(), timestamps="frame", seed=3).is_ideal


@pytest.mark.parametrize("law", [Log(0.5), LinLog(30), Linear()])
def test_a_camera_survives_json(law):
    camera = EventCamera.preset("v2e", brightness=law, seed=9, poles=2, timestamps="frame")
    values = json.loads(json.dumps(camera.to_dict()))
    assert EventCamera.from_dict(values) == camera
    assert set(values) == {field.name for field in dataclasses.fields(camera)}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"contrast": 0.3}, "expected every parameter to be one of .*Did you mean 'contrast_"),
        ({"brightness": {"law": "loog"}}, "brightness law .*Did you mean 'log'"),
        ({"brightness": {"law": "log", "knee": 3}}, "parameters of log"),
        ({"contrast_on": -1}, "contrast_on in"),
    ],
)
def test_bad_plain_values_are_named(values, match):
    with pytest.raises(InputError, match=match):
        EventCamera.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"contrast_on": 0}, r"contrast_on in \[0.01, 10\], got 0"),
        ({"contrast_off": math.nan}, "contrast_off in .* got nan"),
        ({"contrast_on": math.inf}, "contrast_on in"),
        ({"mismatch": -0.1}, "mismatch in"),
        ({"refractory_us": -1}, "refractory_us in"),
        ({"refractory_us": 0.5}, "refractory_us to be a whole number"),
        ({"refractory": "drop"}, "refractory to be one of advance, hold, blind"),
        ({"timestamps": "crossings"}, "Did you mean 'crossing'"),
        ({"cutoff_hz": -1}, "cutoff_hz in"),
        ({"poles": 3}, "poles in"),
        ({"leak_hz": math.nan}, "leak_hz in"),
        ({"leak_hz": 1000.0}, "at most 100 nat per s"),
        ({"hot_hz": 1000.0, "hot_fraction": 0.1}, "at most 100 nat per s"),
        ({"shot_hz": 1e-4}, "shot_hz to be 0 or at least 0.001"),
        ({"shot_slope": 1.5}, "shot_slope in"),
        ({"photoreceptor_hz": 1.0}, "at most twice cutoff_hz"),
        ({"dead_fraction": 2}, "dead_fraction in"),
        ({"seed": -1}, "seed in"),
        ({"seed": 1.5}, "seed to be a whole number"),
    ],
)
def test_bad_parameters_are_named(changes, match):
    with pytest.raises(InputError, match=match):
        EventCamera(**changes)
    with pytest.raises(InputError, match=match):
        frames_to_events(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.tensor([0]), **changes)


def test_brightness_must_be_a_law():
    with pytest.raises(TypeError, match="expected shot_hz to be a number, got '5'"):
        EventCamera(shot_hz="5")
    with pytest.raises(TypeError, match=r"brightness to be Log\(\), LinLog\(\) or Linear\(\), got 'log'"):
        EventCamera(brightness="log")
    for make, match in ((lambda: Log(0), "Log: expected eps"), (lambda: LinLog(1), "LinLog: expected knee")):
        with pytest.raises(InputError, match=match):
            make()


FRAMES, T_US = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.arange(3) * 1000


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (torch.full((3, 4, 5), math.nan), "float frames within .* got NaN"),
        (torch.full((3, 4, 5), math.inf), "float frames within .* got inf"),
        (torch.full((3, 4, 5), -33.0), "got -33 to -33. Float frames are log intensity"),
    ],
)
def test_float_frames_out_of_range_are_refused(frames, match):
    with pytest.raises(InputError, match=match):
        frames_to_events(frames, T_US)


@pytest.mark.parametrize("roi", [(0, 0, 5, 5), (-1, 0, 2, 2), (0, 0, 0, 2), (3, 3, 1, 3)])
def test_a_region_outside_the_frames_is_refused(roi):
    with pytest.raises(InputError, match=r"roi \(top, left, height, width\) within the frames of \(4, 5\)"):
        frames_to_events(FRAMES, T_US, roi=roi)


@pytest.mark.parametrize("roi", [(0, 0, 1), (0, 0, 1.5, 2)])
def test_a_region_must_be_four_whole_numbers(roi):
    with pytest.raises(TypeError, match="whole numbers"):
        frames_to_events(FRAMES, T_US, roi=roi)


@pytest.mark.parametrize(
    ("camera", "options", "later", "match"),
    [
        (EventCamera(), {}, {"contrast_on": 0.3}, "the same camera, got contrast_on 0.2"),
        (EventCamera(), {}, {"shot_hz": 1.0}, "with next_us, got none"),
        (EventCamera(refractory_us=5), {}, {"refractory_us": 6}, "the same camera, got refractory_us 5"),
        (EventCamera(), {"roi": (0, 0, 2, 2)}, {}, r"reference of shape \(4, 5\)"),
        (EventCamera(), {"roi": (0, 0, 2, 2)}, {"roi": (1, 1, 2, 2)}, r"begins at \(1, 1\), got \(0, 0\)"),
    ],
)
def test_a_state_of_another_camera_or_region_is_refused(camera, options, later, match):
    _, state = frames_to_events(FRAMES, T_US, camera, **options)
    with pytest.raises(InputError, match=match):
        frames_to_events(FRAMES, T_US + 10_000, camera, state=state, **later)


def test_a_state_of_other_frames_is_refused():
    _, state = frames_to_events(FRAMES, T_US)
    with pytest.raises(InputError, match="in units of 1 / 16777216 nat"):
        frames_to_events(FRAMES.float(), T_US + 10_000, state=state)
    with pytest.raises(InputError, match=r"a sensor of \(4, 4\), got one of \(4, 5\)"):
        frames_to_events(FRAMES[:, :, :4], T_US + 10_000, state=state)


def test_times_beyond_any_clock_are_refused():
    with pytest.raises(InputError, match="t_us within"):
        frames_to_events(FRAMES, T_US + (1 << 62))
    with pytest.raises(InputError, match="strictly increasing"):
        frames_to_events(FRAMES, T_US * 0, refractory_us=3)


def test_v2e_takes_no_state():
    with pytest.raises(InputError, match="no state, roi or labels"):
        frames_to_events(FRAMES, T_US, labels=True, backend="v2e")
    with pytest.raises(InputError, match="backend to be one of neuroav, v2e"):
        frames_to_events(FRAMES, T_US, backend="esim")


def test_a_batch_needs_a_state_per_clip():
    with pytest.raises(InputError, match="2 states, one per clip, got 1"):
        clips_to_events([(FRAMES, T_US)] * 2, states=[None])
    assert clips_to_events([]) == ([], [])


def test_bins_say_who_failed():
    with pytest.raises(InputError, match="bin_frames: expected t_us strictly increasing"):
        bin_frames(FRAMES, T_US * 0, Bins("counts", torch.tensor([0, 1])))


def test_float_frames_agree_with_the_law_they_come_from():
    """Log brightness given as floats differs from 8-bit frames by the rounding of the table only."""
    grey = torch.randint(0, 256, (12, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    t_us = torch.arange(12) * 40_000
    eight_bit, _ = frames_to_events(grey, t_us, contrast_on=0.217, contrast_off=0.191)
    exact = Log().table()[grey.long()].double() / 65536
    rounded = {"contrast_on": round(65536 * 0.217) / 65536, "contrast_off": round(65536 * 0.191) / 65536}
    floats, _ = frames_to_events(exact, t_us, **rounded)
    assert torch.equal(floats.t_us, eight_bit.t_us)
    assert torch.equal(floats.p, eight_bit.p)
    single, _ = frames_to_events(exact.float(), t_us, **rounded)
    assert abs(len(single) - len(floats)) <= 0.01 * len(floats)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_first_frame_becomes_brightness_by_the_table_whatever_its_layout(threads):
    table, before = Log().table(), torch.get_num_threads()
    grey = torch.randint(0, 256, (700, 900), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    torch.set_num_threads(threads)
    try:
        for frame in (grey, grey[5:600, 3:811], grey.t(), grey[:0]):
            assert torch.equal(brightness(frame, table), table[frame.long()])
    finally:
        torch.set_num_threads(before)
