"""Random numbers, fixed pattern and noise against closed forms, each statistic within five standard errors."""

import math

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.events import noise
from neuroav.events.camera import EventCamera, Log
from neuroav.events.generate import frames_to_events
from neuroav.kernels import reference_camera

CPU = torch.device("cpu")
SIDE = 128
WINDOW = (0, 0, SIDE, SIDE)


def _words(purpose=0, frame=0, seed=0, draw=0):
    return torch.stack(reference_camera.philox(noise._places(WINDOW), frame, purpose, draw, seed)).double() / 2**32


def _still(grey, count, gap_us, side=32):
    return torch.full((count, side, side), grey, dtype=torch.uint8), torch.arange(count) * gap_us


def _assert_mean(values, mean, variance):
    """The mean of independent values lies within five standard errors."""
    assert abs(float(values.double().mean()) - mean) <= 5 * math.sqrt(variance / values.numel())


# ------------------------------------------------------------------------------------------------------ random numbers


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers of the generator's authors for philox4x32-10
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    place, frame, purpose, draw = counter
    got = reference_camera.philox(torch.tensor([place]), frame, purpose, draw, key)
    assert tuple(int(word) for word in got) == words


def test_words_are_uniform():
    for words in _words():
        counts = torch.histc(words, 64, 0, 1)
        expected = words.numel() / 64
        chi2 = float(((counts - expected) ** 2 / expected).sum())
        assert abs(chi2 - 63) < 5 * math.sqrt(2 * 63)


@pytest.mark.parametrize(
    "other", [{"frame": 1}, {"seed": 1}, {"seed": 1 << 32}, {"purpose": 1}, {"draw": 1}], ids=lambda o: next(iter(o))
)
def test_other_counters_and_keys_give_independent_words(other):
    for one, two in zip(_words(), _words(**other), strict=True):
        assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 5 / SIDE


def test_neighbours_and_words_are_independent():
    words = _words().reshape(4, SIDE, SIDE)
    pairs = [(words[:, 1:], words[:, :-1]), (words[:, :, 1:], words[:, :, :-1]), (words[:3], words[1:])]
    for one, two in pairs:
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])) < 5 / SIDE


def test_the_gaussian_has_mean_0_variance_1_and_its_fourth_moment():
    table = noise.normal_table().double() / 65536
    sums = (table[:, None] + table).flatten()  # every pair that a word can pick
    assert abs(float(sums.mean())) < 1e-6
    assert abs(float(sums.var(correction=0)) - 1) < 1e-5
    assert abs(float((sums**4).mean()) - 3) < 0.03
    for height, slack in ((1, 0.002), (2, 0.002), (3, 0.02), (3.5, 0.02), (4, 0.04)):
        tail = math.erfc(height / math.sqrt(2))
        assert abs(float((sums.abs() > height).double().mean()) / tail - 1) < slack


def test_the_waiting_time_is_exponential():
    words = torch.stack(reference_camera.philox(torch.arange(1 << 18), 0, 0, 0, 3))
    times = reference_camera.waiting_time(noise.exponential_table(), words[0], words[1]).double() / 2**20
    _assert_mean(times, 1, 1)
    _assert_mean(times**2, 2, 20)
    counts = torch.histc(1 - torch.exp(-times), 50, 0, 1)
    expected = times.numel() / 50
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 49) < 5 * math.sqrt(2 * 49)


def test_the_waiting_time_of_no_bit_at_all_is_the_longest():
    longest = reference_camera.waiting_time(noise.exponential_table(), torch.tensor([0]), torch.tensor([0]))
    assert abs(int(longest) / 2**20 - 33 * math.log(2)) < 1e-4


# ------------------------------------------------------------------------------------------------------- fixed pattern


def test_thresholds_have_the_mean_and_spread_asked_for():
    sensor = noise.sensor_of(EventCamera(contrast_on=0.3, contrast_off=0.25, mismatch=0.03), WINDOW, False, CPU)
    for pattern, mean in ((sensor.on, 0.3), (sensor.off, 0.25)):
        values = pattern.double() / 2**24
        _assert_mean(values, mean, 0.03**2)
        _assert_mean((values - mean) ** 2, 0.03**2, 2 * 0.03**4)
    both = torch.stack([sensor.on.flatten(), sensor.off.flatten()]).double()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 5 / SIDE


def test_no_threshold_lies_below_a_hundredth():
    on = noise.sensor_of(EventCamera(contrast_on=0.05, mismatch=0.05), WINDOW, False, CPU).on
    assert int(on.min()) == round(0.01 * 2**24)
    share = 0.5 * math.erfc(0.8 / math.sqrt(2))
    _assert_mean(on == on.min(), share, share * (1 - share))


def test_dead_pixels_are_as_many_as_asked_for_and_never_fire():
    camera = EventCamera(dead_fraction=0.2, shot_hz=1000.0, leak_hz=100.0)
    frames, t_us = _still(90, 5, 40_000, SIDE)
    frames[2:] = 255
    events, _ = frames_to_events(frames, t_us, camera)
    fired = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    fired[events.y.long(), events.x.long()] = True
    _assert_mean(~fired, 0.2, 0.2 * 0.8)


def test_hot_pixels_fire_at_their_rate():
    camera = EventCamera(hot_fraction=0.1, hot_hz=40.0, leak_jitter=0.0)
    events, _ = frames_to_events(*_still(90, 26, 40_000, SIDE), camera)
    counts = torch.bincount(events.y.long() * SIDE + events.x.long(), minlength=SIDE * SIDE)
    hot = counts > 0
    _assert_mean(hot, 0.1, 0.1 * 0.9)
    assert bool((counts[hot] - 40).abs().max() <= 1)
    assert bool((events.p == 1).all())


def test_the_leak_is_log_normal_from_pixel_to_pixel():
    sensor = noise.sensor_of(EventCamera(leak_hz=2.0, leak_spread=0.1), WINDOW, False, CPU)
    decades = torch.log10(sensor.leak.double() / 2**44 * 1e6 / (2.0 * 0.2))
    _assert_mean(decades, 0, 0.01)
    _assert_mean(decades**2, 0.01, 2e-4)


# ---------------------------------------------------------------------------------------------------------------- leak


@pytest.mark.parametrize("gap_us", [40_000, 1_000, 333_333])
def test_a_pixel_at_rest_leaks_once_a_period_at_any_frame_rate(gap_us):
    camera = EventCamera(leak_hz=1.0, leak_jitter=0.0, leak_spread=0.0)
    events, _ = frames_to_events(*_still(90, 10_500_000 // gap_us + 1, gap_us, 1), camera)
    assert bool((events.p == 1).all())
    assert len(events) == 10
    assert all(abs(t - 1_000_000 * k) < 60 for k, t in enumerate(events.t_us.tolist(), 1))


def test_jitter_varies_the_leak_from_frame_to_frame():
    camera = EventCamera(leak_hz=5.0, leak_jitter=0.3, leak_spread=0.0)
    events, state = frames_to_events(*_still(90, 2, 40_000, SIDE), camera)
    leak = (state.last - state.reference).double() / 2**24
    assert len(events) == 0
    _assert_mean(leak, 0.04, (0.3 * 0.04) ** 2)
    _assert_mean((leak - 0.04) ** 2, (0.3 * 0.04) ** 2, 2 * (0.3 * 0.04) ** 4)


# ---------------------------------------------------------------------------------------------------------- shot noise


@pytest.mark.parametrize("gap_us", [40_000, 2_000_000])
@pytest.mark.parametrize(("grey", "slope"), [(0, 0.75), (128, 0.75), (255, 0.75), (255, 0.0), (255, 1.0)])
def test_shot_noise_has_its_rate_at_any_frame_rate(grey, slope, gap_us):
    camera = EventCamera(shot_hz=10.0, shot_slope=slope)
    frames, t_us = _still(grey, 4_000_000 // gap_us + 1, gap_us)
    events, _ = frames_to_events(frames, t_us, camera)
    mean = 10.0 * 4 * (1 - slope * (grey + 20) / 275)
    counts = torch.bincount(events.y.long() * 32 + events.x.long(), minlength=32 * 32).double()
    _assert_mean(counts, mean, mean)
    _assert_mean((counts - mean) ** 2, mean, mean + 2 * mean**2)  # a Poisson count: the variance is the mean
    if mean > 0:
        _assert_mean(events.p, 0.5, 0.25)


def test_shot_noise_comes_at_any_time_within_the_interval():
    events, _ = frames_to_events(*_still(0, 3, 1_000_000), EventCamera(shot_hz=20.0))
    within = (events.t_us % 1_000_000).double() / 1e6
    counts = torch.histc(within, 20, 0, 1)
    expected = len(within) / 20
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 19) < 5 * math.sqrt(2 * 19)


def test_pixels_of_low_threshold_have_more_shot_noise():
    camera = EventCamera(shot_hz=50.0, shot_slope=0.0, contrast_on=0.4, contrast_off=0.4, mismatch=0.1)
    events, _ = frames_to_events(*_still(0, 2, 4_000_000, 64), camera)
    sensor = noise.sensor_of(camera, (0, 0, 64, 64), False, CPU)
    on, off = (0.4 * 2**24 / pattern.double().flatten() for pattern in (sensor.on, sensor.off))
    place = events.y.long() * 64 + events.x.long()
    for p, law in ((1, on), (0, off)):
        counts = torch.bincount(place[events.p == p], minlength=64 * 64).double()
        mean = 50.0 * 4 / 2 * law
        _assert_mean((counts - mean) / mean.sqrt(), 0, 1)
        _assert_mean((counts - mean) ** 2 / mean, 1, 2 + float((1 / mean).mean()))


def test_shot_noise_resets_the_reference():
    _, state = frames_to_events(*_still(90, 20, 40_000), EventCamera(shot_hz=100.0))
    assert torch.equal(state.reference, state.last)


# --------------------------------------------------------------------------------------------- bandwidth, photoreceptor


@pytest.mark.parametrize("poles", [1, 2])
def test_a_step_goes_through_the_low_pass_as_the_closed_form_says(poles):
    camera = EventCamera(cutoff_hz=20.0, poles=poles)
    frames = torch.tensor([20] + [200] * 30, dtype=torch.uint8).reshape(-1, 1, 1)
    height, share = math.log(201 / 21), 2 * math.pi * 20 * 1e-3 * 220 / 275
    state = None
    for n in range(31):
        _, state = frames_to_events(frames[n : n + 1], torch.tensor([1000 * n]), camera, state=state)
        rest = (1 - share) ** n * (1 if poles == 1 else 1 + n * share)
        assert abs(state.last.item() / 2**24 - math.log(21) - height * (1 - rest)) < 2e-5


def test_photoreceptor_noise_grows_from_nothing_to_its_strength_at_irregular_frame_times():
    camera = EventCamera(photoreceptor_hz=5.0, cutoff_hz=100.0, mismatch=0.02)
    want, t_us, rest, state = noise.photoreceptor_noise(camera), 0, 1.0, None
    for gap_us in (0, 100, 300, 700, 200, 3_000, 50_000):
        t_us += gap_us
        frame = torch.full((1, SIDE, SIDE), 90, dtype=torch.uint8)
        _, state = frames_to_events(frame, torch.tensor([t_us]), camera, state=state)
        rest *= (1 - min(1, 2 * math.pi * 100 * gap_us * 1e-6)) ** 2  # what is missing of the variance
        voltage, variance = state.voltage.double() / 2**24, want**2 * (1 - rest)
        _assert_mean(voltage, 0, variance)
        _assert_mean(voltage**2, variance, 2 * variance**2)
        if gap_us == 0:
            assert torch.equal(state.reference, state.last)


def _simulated_noise_events(camera, vn, gap_us, count, pixels):
    """Events per pixel in each half of a clip of a still scene: the model as its documentation has it, in floats."""
    rng = np.random.default_rng(0)
    thresholds = np.array([[camera.contrast_on], [camera.contrast_off]])
    on, off = np.maximum(thresholds + camera.mismatch * rng.standard_normal((2, pixels)), 0.01)
    share = min(1, 2 * math.pi * camera.cutoff_hz * gap_us * 1e-6)
    voltage, reference, events = np.zeros(pixels), np.zeros(pixels), np.zeros((2, pixels))
    for frame in range(count):
        driven = rng.standard_normal(pixels) * vn * math.sqrt(share * (2 - share))
        voltage = (1 - share) * voltage + driven
        ups = np.floor(np.maximum(voltage - reference, 0) / on)
        downs = np.floor(np.maximum(reference - voltage, 0) / off)
        reference += ups * on - downs * off
        events[2 * frame // count] += ups + downs
    return events


@pytest.mark.parametrize(
    ("gap_us", "count", "rate_hz", "vn", "changes"),
    [  # V_n by hand: x = -1, -2, 0; the mean of the smaller threshold is 0.2, or 0.1975 with mismatch
        (1_000, 400, 20.0, 0.2 / 10**0.4825, {}),
        (250, 400, 2.0, 0.2 / 10**0.5876, {}),
        (1_000, 400, 2.0, 0.2 / 10**0.5876, {"refractory_us": 200, "refractory": "hold"}),
        (20_000, 200, 200.0, 0.2 / 10**0.321, {}),  # white
        (1_000, 300, 20.0, 0.1975 / 10**0.4825, {"contrast_off": 0.25, "mismatch": 0.03}),
    ],
)
def test_photoreceptor_noise_makes_the_events_of_its_model(gap_us, count, rate_hz, vn, changes):
    camera = EventCamera(photoreceptor_hz=rate_hz, cutoff_hz=100.0, **changes)
    frames, t_us = _still(90, count + 1, gap_us, 96)
    events, _ = frames_to_events(frames, t_us, camera)
    expected = torch.from_numpy(_simulated_noise_events(camera, vn, gap_us, count, 96 * 96))
    half = (events.t_us > count // 2 * gap_us).long()
    ours = torch.bincount((half * 96 + events.y) * 96 + events.x, minlength=2 * 96 * 96).reshape(2, -1).double()
    for one, other in zip(ours, expected, strict=True):
        variance = (one.var() + other.var()) / one.numel()
        assert other.sum() > 200
        assert abs(one.mean() - other.mean()) <= 5 * math.sqrt(variance)


def test_photoreceptor_noise_follows_the_fit():
    for rate, cutoff, mismatch in ((1.0, 50.0, 0.0), (10.0, 30.0, 0.05)):
        camera = EventCamera(photoreceptor_hz=rate, cutoff_hz=cutoff, mismatch=mismatch)
        x = math.log10(rate / cutoff / 2)
        ratio = 10 ** (-0.0026 * x**3 - 0.036 * x**2 - 0.1949 * x + 0.321)
        smaller = 0.2 - mismatch / math.sqrt(math.pi)  # mean of the smaller of two equal Gaussians
        assert abs(noise.photoreceptor_noise(camera) - smaller / ratio) < 1e-12


# ------------------------------------------------------------------------------------------------ refractory, labels


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("advance", [20, 80, 140, 200, 260, 320, 380]),  # events every 20 ms; the third comes 60 ms after the first
        ("hold", [20 + 50 * k for k in range(14)]),  # the backlog of 20 follows, also after the ramp
        ("blind", [20, 90, 160, 230, 300, 370]),  # 50 ms blind, then a threshold from there
    ],
)
def test_refractory_rules_on_a_ramp(rule, expected):
    t_us = torch.tensor([0, 130_000, 250_000, 400_000, 500_000, 700_000])
    ramp = (t_us.clamp(max=400_000).double() / 80_000 - 1)[:, None, None]
    events, _ = frames_to_events(ramp, t_us, contrast_on=0.25, contrast_off=0.25, refractory_us=50_000, refractory=rule)
    assert all(0 <= t - 1000 * e <= 1 for t, e in zip(events.t_us.tolist(), expected, strict=True))


@pytest.mark.parametrize("rule", ["advance", "hold", "blind"])
def test_no_two_events_of_a_pixel_are_closer_than_the_period(rule):
    frames = torch.randint(0, 256, (20, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    camera = EventCamera(refractory_us=3_000, refractory=rule, shot_hz=300.0, leak_hz=50.0)
    events, _ = frames_to_events(frames, torch.arange(20) * 10_000, camera)
    place = events.y.long() * 9 + events.x.long()
    order = place.argsort(stable=True)
    gaps, same = events.t_us[order].diff(), place[order].diff() == 0
    assert int(gaps[same].min()) >= 3_000
    assert len(events) > 1_000


def test_labels_tell_shot_noise_and_leak_from_the_scene():
    frames = torch.tensor([20] * 50 + [200], dtype=torch.uint8).reshape(-1, 1, 1).expand(-1, 16, 16)
    t_us = torch.arange(51) * 20_000
    for camera in (EventCamera(leak_hz=4.0), EventCamera(shot_hz=50.0)):
        events, _ = frames_to_events(frames, t_us, camera, labels=True)
        still = events.t_us <= 980_000
        assert bool((events.is_noise[still] == 1).all())
        assert int(still.sum()) > 100
        moving = events.is_noise[~still]
        assert int((moving == 0).sum()) >= 16 * 16 * 8
    plain, _ = frames_to_events(frames, t_us, labels=True)
    assert int(plain.is_noise.sum()) == 0
    assert frames_to_events(frames, t_us)[0].is_noise is None


def test_too_much_leak_is_refused():
    with pytest.raises(InputError, match=r"16 nat of leak between two frames, got 2\d\..*more frames"):
        frames_to_events(*_still(90, 2, 10_000_000, 1), EventCamera(leak_hz=13.0, leak_spread=0, brightness=Log()))


# ---------------------------------------------------------------------------------------------------------- other times


def test_events_at_frame_times():
    frames = torch.tensor([10, 20, 15], dtype=torch.uint8).reshape(3, 1, 1)
    events, _ = frames_to_events(frames, torch.tensor([0, 1000, 3000]), timestamps="frame")
    assert events.t_us.tolist() == [1000, 1000, 1000, 3000]
    assert events.p.tolist() == [1, 1, 1, 0]


def test_events_on_the_grid_of_v2e():
    """Pixel A crosses twice, at 44.4 and 88.9 ms, beside B with 6 crossings: v2e says 16.7 and 33.3 ms."""
    frames = torch.tensor([[0.0, 0.0], [0.45, 1.25], [0.45, 0.95]], dtype=torch.float64)[:, None]
    events, _ = frames_to_events(frames, torch.tensor([0, 100_000, 200_000]), timestamps="v2e")
    a = events.x == 0
    assert events.t_us[a].tolist() == [16_667, 33_334]
    assert events.t_us[~a].tolist() == [16_667, 33_334, 50_000, 66_667, 83_334, 100_000, 200_000]
    assert events.x[:4].tolist() == [0, 1, 0, 1]
