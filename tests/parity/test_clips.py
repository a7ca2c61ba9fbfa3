"""The ops for a batch of clips equal one call per clip, and pass torch's checks; which clips share a launch."""

import dataclasses

import pytest
import torch

from neuroav.checks import InputError
from neuroav.events import generate
from neuroav.events.camera import EventCamera
from neuroav.events.generate import clips_to_events, frames_to_events
from neuroav.kernels import clips, events


def _batch(count=3, num_frames=6, height=11, width=13):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (count, num_frames, height, width), generator=generator).to(torch.uint8)
    edges = torch.arange(num_frames + 1) * torch.tensor([[1], [33_333], [70_000]])
    table = (torch.arange(256) + 1).log().mul(65536).round().int()
    first = table[frames[:, 0].long()]
    return frames, edges, table, 13_000, 15_000, first, first


def test_lists_equal_one_call_per_clip():
    frames, edges, table, on, off, first, _ = arguments = _batch()
    *columns, number, level, last = clips.contrast_events_clips(*arguments)
    parts = zip(*(column.split(number.tolist()) for column in columns), strict=True)
    for clip, part in enumerate(parts):
        alone = events.contrast_events(frames[clip], edges[clip], table, on, off, first[clip], first[clip])
        assert len(alone[0]) > 0
        for got, want in zip((*part, level[clip], last[clip]), alone, strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_bins_equal_one_call_per_clip(kind):
    frames, edges, table, on, off, first, _ = arguments = _batch()
    bin_edges = edges[:, ::2].contiguous()
    values, level, last = clips.contrast_bins_clips(*arguments, kind, bin_edges, 3, 4)
    for clip in range(3):
        alone = (frames[clip], edges[clip], table, on, off, first[clip], first[clip])
        expected = events.contrast_bins(*alone, kind, bin_edges[clip], 3, 4)
        for got, want in zip((values[clip], level[clip], last[clip]), expected, strict=True):
            assert torch.equal(got, want)


def test_ops_pass_torch_checks():
    arguments = _batch()
    torch.library.opcheck(torch.ops.neuroav.contrast_events_clips.default, arguments)
    bins = (1, arguments[1][:, ::2].contiguous(), 3, 4)
    torch.library.opcheck(torch.ops.neuroav.contrast_bins_clips.default, (*arguments, *bins))


# ------------------------------------------------------------------------------------------- which clips share a launch


@pytest.fixture
def launches(monkeypatch):
    """How many clips each launch had, with every tensor taken to be on a GPU."""
    found, op = [], clips.contrast_events_clips

    def counted(frames, *arguments):
        found.append(len(frames))
        return op(frames, *arguments)

    monkeypatch.setattr(generate, "_on_gpu", lambda frames: True)
    monkeypatch.setattr(generate.batched, "contrast_events_clips", counted)
    return found


def _clips(*shapes, start_us=0):
    """One clip per ``(frames, height, width)``, each with its own times."""
    found = []
    for seed, (count, height, width) in enumerate(shapes):
        generator = torch.Generator().manual_seed(seed)
        frames = torch.randint(0, 256, (count, height, width), generator=generator).to(torch.uint8)
        found.append((frames, start_us + torch.arange(count) * (1000 + seed) - 7 * seed))
    return found


def _assert_equal_to_single_calls(given, camera, states, got, labels):
    for (frames, t_us), state, events_got, state_got in zip(given, states, *got, strict=True):
        expected, end = frames_to_events(frames, t_us, camera, state=state, labels=labels)
        for one, other in ((events_got, expected), (state_got, end)):
            pairs = zip(vars(one).items(), vars(other).values(), strict=True)
            for (name, value), wanted in pairs:
                assert type(value) is type(wanted), name
                same = torch.equal(value, wanted) if isinstance(value, torch.Tensor) else value == wanted
                assert same, name


MIXED = ((4, 5, 6), (3, 5, 6), (4, 6, 5), (4, 5, 6), (1, 5, 6), (3, 5, 6), (4, 5, 6), (1, 5, 6))


@pytest.mark.parametrize("timestamps", ["crossing", "frame", "v2e"])
@pytest.mark.parametrize("labels", [False, True])
def test_clips_of_equal_size_and_length_share_a_launch(launches, labels, timestamps):
    camera = EventCamera(timestamps=timestamps)
    given, later = _clips(*MIXED), _clips(*MIXED, start_us=10**6)
    got = clips_to_events(given, camera, labels=labels)
    assert launches == [3, 2, 2]  # of 4, 3 and 1 frames; the clip of another size goes alone
    assert [len(found) > 0 for found in got[0]] == [count > 1 for count, _, _ in MIXED]
    _assert_equal_to_single_calls(given, camera, [None] * len(given), got, labels)
    launches.clear()
    again = clips_to_events(later, camera, states=got[1], labels=labels)
    assert launches == [3, 2, 2]
    _assert_equal_to_single_calls(later, camera, got[1], again, labels)


def test_a_clip_that_begins_has_a_frame_less_than_one_that_goes_on(launches):
    camera = EventCamera()
    (first,) = clips_to_events(_clips((2, 5, 6)), camera)[1]
    given, states = _clips((4, 5, 6), (3, 5, 6), (4, 5, 6), (0, 5, 6), (1, 5, 6), start_us=10**6), [None, first, first]
    states += [first, None]
    got = clips_to_events(given, camera, states=states)
    assert launches == [2, 2]  # of 3 frames, and of none: their states stay
    _assert_equal_to_single_calls(given, camera, states, got, labels=False)


def test_what_is_no_8_bit_clip_of_an_ideal_camera_goes_alone(launches):
    grey = _clips(*[(4, 5, 6)] * 2)
    noisy = EventCamera(shot_hz=20.0)
    _assert_equal_to_single_calls(grey, noisy, [None] * 2, clips_to_events(grey, noisy), labels=False)
    floats = [(frames.float() / 50, t_us) for frames, t_us in grey]
    _assert_equal_to_single_calls(floats, EventCamera(), [None] * 2, clips_to_events(floats), labels=False)
    assert launches == []
    clips_to_events(grey + floats)
    assert launches == [2]


def test_a_launch_holds_no_more_pixels_than_it_may(launches, monkeypatch):
    given = _clips(*[(4, 5, 6)] * 5)
    monkeypatch.setattr(generate, "MOST_PIXELS", 2 * 4 * 5 * 6 + 1)
    _assert_equal_to_single_calls(given, EventCamera(), [None] * 5, clips_to_events(given), labels=False)
    assert launches == [2, 2]
    monkeypatch.setattr(generate, "MOST_PIXELS", 1)
    _assert_equal_to_single_calls(given, EventCamera(), [None] * 5, clips_to_events(given), labels=False)
    assert launches == [2, 2]


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("bad", [torch.zeros(()).byte(), torch.zeros(3, 5).byte(), torch.zeros(0, 5, 6).byte()])
def test_a_bad_clip_in_a_batch_is_refused_as_alone(bad):
    (good,) = _clips((4, 5, 6))
    with pytest.raises(InputError, match=r"^frames_to_events: expected"):
        clips_to_events([good, good, (bad, torch.arange(bad.shape[0] if bad.ndim else 1)), (bad, good[1])])
    with pytest.raises(InputError, match=r"^frames_to_events: expected t_us strictly increasing"):
        clips_to_events([good, (good[0], good[1].flip(0))])
    (state,) = clips_to_events([good])[1]
    with pytest.raises(InputError, match="state from a call with the same camera"):
        clips_to_events([(good[0], good[1] + 10**6)] * 2, contrast_on=0.3, states=[state, state])
    far = dataclasses.replace(state, reference=state.reference - 10**6)
    with pytest.raises(InputError, match=r"a pixel .* away from its reference"):
        clips_to_events([(good[0], good[1] + 10**6)] * 2, states=[state, far])


def test_on_a_cpu_no_clip_is_copied_into_a_batch(monkeypatch):
    monkeypatch.setattr(generate, "_in_one_launch", lambda *_: pytest.fail("clips of a CPU in a batch"))
    assert len(clips_to_events(_clips(*[(4, 5, 6)] * 3))[0]) == 3
