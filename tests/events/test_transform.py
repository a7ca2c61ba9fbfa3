"""Turning a clip and turning its events give the same list, order included."""

import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.generate import frames_to_events
from neuroav.events.transform import crop, flip, mirror, transpose
from neuroav.events.types import Events


@pytest.fixture(scope="module")
def clip():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 4, (6, 9, 14), generator=generator) * 70  # few levels: many events share a time
    return frames.byte(), torch.arange(6) * 1000


def _events(frames, t_us):
    return frames_to_events(frames.contiguous(), t_us)[0]


def _assert_same(got, want):
    assert got.sensor_size == want.sensor_size
    for name in ("t_us", "x", "y", "p"):
        ours, theirs = getattr(got, name), getattr(want, name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("turn_events", "turn_frames"),
    [
        (mirror, lambda frames: frames.flip(2)),
        (flip, lambda frames: frames.flip(1)),
        (transpose, lambda frames: frames.transpose(1, 2)),
        (lambda events: crop(events, 2, 3, 5, 7), lambda frames: frames[:, 2:7, 3:10]),
        (lambda events: crop(events, 0, 0, 9, 14), lambda frames: frames),
    ],
    ids=["mirror", "flip", "transpose", "crop", "crop to all"],
)
def test_turned_events_are_those_of_the_turned_clip(clip, turn_events, turn_frames):
    frames, t_us = clip
    events = _events(frames, t_us)
    assert (events.t_us.diff() == 0).sum() > 100  # so the order of ties is tested
    _assert_same(turn_events(events), _events(turn_frames(frames), t_us))


@pytest.mark.parametrize("turn", [mirror, flip, transpose])
def test_twice_is_not_at_all(clip, turn):
    events = _events(*clip)
    _assert_same(turn(turn(events)), events)


@pytest.mark.parametrize("rectangle", [(0, 0, 10, 3), (0, 12, 3, 3), (-1, 0, 3, 3), (0, 0, 0, 3), (0, 3, 3, -1)])
def test_a_crop_outside_the_sensor_is_refused(clip, rectangle):
    with pytest.raises(InputError, match=r"a rectangle inside the sensor \(9, 14\), got rows"):
        crop(_events(*clip), *rectangle)


def test_no_events_stay_none():
    none = torch.empty(0)
    events = Events(none.long(), none.short(), none.short(), none.byte(), (3, 4))
    for turned in (mirror(events), flip(events), transpose(events), crop(events, 0, 0, 1, 1)):
        assert len(turned) == 0
