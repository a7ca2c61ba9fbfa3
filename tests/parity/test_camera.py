"""The camera kernel, its PyTorch reference and a scalar loop over microseconds give identical arrays."""

import dataclasses

import pytest
import torch

from neuroav.events import noise
from neuroav.events.camera import EventCamera, Linear, LinLog
from neuroav.events.generate import bin_frames, clips_to_events, frames_to_events
from neuroav.events.prepare import prepare
from neuroav.events.types import Bins
from neuroav.kernels import cpu, reference_camera
from neuroav.kernels.bins import bin_events

needs_extension = pytest.mark.skipif(not cpu.available(), reason="the C++ extension was not built")
NEVER = 1 << 62
EVERYTHING = EventCamera(
    mismatch=0.05, refractory_us=150, refractory="hold", cutoff_hz=300.0, poles=2, leak_hz=400.0, shot_hz=1500.0,
    photoreceptor_hz=100.0, hot_fraction=0.1, hot_hz=480.0, dead_fraction=0.1, seed=7,
)  # fmt: skip
CAMERAS = {
    "nothing": EventCamera(dead_fraction=1e-12),
    "advance": EventCamera(refractory_us=130),
    "hold": EventCamera(refractory_us=130, refractory="hold", contrast_off=0.3),
    "blind": EventCamera(refractory_us=130, refractory="blind", contrast_on=0.3),
    "blind for longer than a frame": EventCamera(contrast_on=0.1, refractory_us=900, refractory="blind"),
    "mismatch": EventCamera(mismatch=0.1, seed=3),
    "one pole": EventCamera(cutoff_hz=600.0),
    "two poles": EventCamera(cutoff_hz=2000.0, poles=2),
    "leak": EventCamera(leak_hz=300.0, leak_jitter=0.5),
    "even leak": EventCamera(leak_hz=300.0, leak_jitter=0, leak_spread=0),
    "shot noise": EventCamera(shot_hz=4000.0, mismatch=0.05),
    "shot noise, advance": EventCamera(shot_hz=4000.0, refractory_us=200),
    "shot noise, hold": EventCamera(shot_hz=4000.0, refractory_us=200, refractory="hold"),
    "shot noise, blind": EventCamera(shot_hz=4000.0, refractory_us=200, refractory="blind"),
    "photoreceptor": EventCamera(photoreceptor_hz=500.0, cutoff_hz=500.0, contrast_on=0.05, contrast_off=0.05),
    "everything": EVERYTHING,
    "everything, advance": dataclasses.replace(EVERYTHING, refractory="advance", brightness=LinLog()),
    "everything, blind": dataclasses.replace(EVERYTHING, refractory="blind", poles=1, brightness=Linear()),
}


def _clip(frames=7, height=3, width=5, seed=0, gap=700):
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randint(-60, 61, (frames, height, width), generator=generator)
    start = torch.randint(0, 256, (1, height, width), generator=generator)
    grey = (start + moves.cumsum(0)).clamp(0, 255).to(torch.uint8)
    return grey, torch.randint(1, gap, (frames,), generator=generator).cumsum(0) + 12_345


def _float_clip(**size):
    grey, t_us = _clip(**size)
    return grey.double() / 80 - 1, t_us


def _rows(events):
    columns = [events.t_us, events.y.long(), events.x.long(), events.p.long()]
    return torch.stack(columns + ([] if events.is_noise is None else [events.is_noise.long()]))


def _assert_same_state(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


# ------------------------------------------------------------------------------------------------------- a scalar loop


def _philox(counter, key):
    """Philox-4x32-10 in Python integers."""
    (a, b, c, d), (k0, k1), word = counter, key, (1 << 32) - 1
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (right >> 32) ^ b ^ k0, right & word, (left >> 32) ^ d ^ k1, left & word
        k0, k1 = (k0 + 0x9E3779B9) & word, (k1 + 0xBB67AE85) & word
    return a, b, c, d


def _gaussian(word):
    table = noise.normal_table()
    return int(table[word % 1024]) + int(table[word // 1024 % 1024])


def _waiting_time(word, fraction):
    table, place, between = noise.exponential_table().tolist(), fraction // 2**22, fraction // 2**6 % 2**16
    rest = table[place] + (table[place + 1] - table[place]) * between // 2**16
    return (32 - word.bit_length()) * table[0] + rest


def _nearest(numerator, denominator):
    """To the nearest integer, halves away from zero."""
    whole = (2 * abs(numerator) + denominator) // (2 * denominator)
    return whole if numerator >= 0 else -whole


def _between(number, most):
    return max(-most, min(most, number))


class _Pixel:
    """One pixel, microsecond by microsecond, as neuroav/events/noise.py says it in words."""

    def __init__(self, camera, sensor, y, x, is_float, t_us):
        self.camera, self.y, self.x, self.t_us = camera, y, x, t_us
        self.on, self.off = int(sensor.on[y, x]), int(sensor.off[y, x])
        self.nominal = noise.fine(camera, is_float)
        self.leak = int(sensor.leak[y, x]) if camera.has_leak else 0
        self.accept = sensor.accept.tolist()
        self.period = int(sensor.period[y, x]) if camera.shot_hz else 0
        self.is_dead = self.on == 2**31 - 1
        self.start = self.draw(5, 0)
        self.shot = t_us + self.gap(self.start) if camera.shot_hz and not self.is_dead else NEVER
        self.fired = -NEVER
        self.voltage = 0
        self.events = []

    def draw(self, purpose, frame, draw=0):
        key = self.camera.seed % 2**32, self.camera.seed >> 32
        return _philox((self.y << 16 | self.x << 1, frame, purpose, draw), key)

    def gap(self, words):
        return max(1, (_waiting_time(words[0], words[1]) * self.period + 2**25) // 2**26)

    def begin(self, brightness):
        self.stage = self.last = self.reference = brightness

    def frame(self, number, brightness, grey, share, step, t_us):
        start, stop, before = self.last + self.voltage, brightness, self.last
        if share is not None:
            if self.camera.poles == 2:
                self.stage = stop = self.stage + _nearest(share * (stop - self.stage), 2**24)
            stop = self.last + _nearest(share * (stop - self.last), 2**24)
        self.last = stop
        if step is not None:
            gauss = _gaussian(self.draw(2, number // 4)[number % 4])
            low_passed = self.voltage + _nearest(-step[0] * self.voltage, 2**24)
            self.voltage = _between(low_passed + _nearest(step[1] * gauss, 2**16), 2**27)
        leak = self.leak_of(number, t_us - self.t_us)
        labels = (stop <= before and (self.camera.has_leak or step is not None), stop >= before and step is not None)
        if not self.is_dead:
            self.live(number, (start, stop + self.voltage + leak), t_us, grey, labels)
        self.reference -= leak
        self.t_us = t_us

    def leak_of(self, number, dt):
        if not self.camera.has_leak:
            return 0
        jitter = round(2**16 * self.camera.leak_jitter)
        factor = 2**16 - jitter * _gaussian(self.draw(0, number // 4)[number % 4]) // 2**16
        offset = number * 0x9E3779B1 % 2**32 // 2**8
        return (min(self.leak * dt // 2**12, 2**36) * factor + offset) // 2**24

    def live(self, number, ends, t_us, grey, labels):
        dt, draws = t_us - self.t_us, 0
        blind = self.camera.refractory == "blind" and self.camera.refractory_us and self.ready() > self.t_us
        for t in range(self.t_us + 1, t_us + 1):
            seen = ends[0] * dt + (ends[1] - ends[0]) * (t - self.t_us)  # brightness times dt
            while True:
                if blind and t < self.ready():
                    break
                if blind:
                    self.reference, blind = self.rounded(seen, ends[0], dt), False
                if self.camera.refractory == "hold" and t < self.ready():
                    break
                if seen >= (self.reference + self.on) * dt:
                    is_on = True
                elif seen <= (self.reference - self.off) * dt:
                    is_on = False
                else:
                    break
                blind = self.cross(t, is_on, labels[0] if is_on else labels[1])
            if t == self.shot:
                words = self.draw(1, number, draws)
                draws += 1
                self.shot += self.gap(words)
                if t >= self.ready() and words[2] >> 12 < self.accept[grey]:
                    ratio = [(n >> 8) * (c >> 8) for n, c in zip(self.nominal, (self.off, self.on), strict=True)]
                    self.emit(t, (words[3] >> 12) * sum(ratio) < ratio[0] << 20, True)
                    self.reference = self.rounded(seen, ends[0], dt)
                    blind = self.camera.refractory == "blind" and self.camera.refractory_us > 0

    def cross(self, t, is_on, is_noise):
        blind = self.camera.refractory == "blind" and self.camera.refractory_us > 0
        if self.camera.refractory != "advance" or t >= self.ready():
            self.emit(t, is_on, is_noise)
        if not blind:
            self.reference += self.on if is_on else -self.off
        return blind

    def ready(self):
        return self.fired + self.camera.refractory_us

    def emit(self, t, is_on, is_noise):
        self.events.append((t, self.y, self.x, len(self.events), int(is_on), int(is_noise)))
        self.fired = t

    @staticmethod
    def rounded(seen, start, dt):
        """Towards the brightness at the start of the interval."""
        change = seen - start * dt
        return start + (abs(change) // dt) * (1 if change >= 0 else -1)


def _scalar_events(frames, t_us, camera):
    is_float = frames.is_floating_point()
    sensor = noise.sensor_of(camera, (0, 0, *frames.shape[1:]), is_float, torch.device("cpu"))
    shares = noise.low_pass_shares(camera, t_us).tolist() if camera.cutoff_hz else None
    steps = noise.voltage_steps(camera, t_us).tolist() if camera.photoreceptor_hz else None
    law, times, events = [256 * n for n in camera.brightness.table().tolist()], t_us.tolist(), []
    for y in range(frames.shape[1]):
        for x in range(frames.shape[2]):
            values = frames[:, y, x].tolist()
            levels = [round(2**24 * value) for value in values] if is_float else [law[grey] for grey in values]
            greys = [max(sum(n <= level for n in law) - 1, 0) for level in levels] if is_float else values
            pixel = _Pixel(camera, sensor, y, x, is_float, times[0])
            pixel.begin(levels[0])
            for k in range(1, len(values)):
                share = shares[k - 1][greys[k]] if shares else None
                pixel.frame(k, levels[k], greys[k], share, steps[k - 1] if steps else None, times[k])
            events += pixel.events
    rows = [[t, y, x, p, n] for t, y, x, _, p, n in sorted(events)]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 5).T


@pytest.mark.parametrize("make", [_clip, _float_clip])
@pytest.mark.parametrize("name", CAMERAS)
def test_events_equal_a_scalar_loop_over_microseconds(name, make):
    frames, t_us = make()
    events, _ = frames_to_events(frames, t_us, CAMERAS[name], labels=True)
    torch.testing.assert_close(_rows(events), _scalar_events(frames, t_us, CAMERAS[name]), rtol=0, atol=0)
    assert len(events) > 5


# ---------------------------------------------------------------------------------------------------- kernel, reference


def _both(clip, labels=True):
    arguments = [list(part) for part in clip.arguments()]
    return [op(*arguments, labels) for op in (torch.ops.neuroav.camera_events, reference_camera.camera_events)]


@needs_extension
@pytest.mark.parametrize("size", [(1, 1), (1, 513), (35, 131)])
@pytest.mark.parametrize("name", ["nothing", "leak", "everything", "everything, advance", "everything, blind"])
def test_compiled_equals_reference(name, size):
    for make in (_clip, _float_clip):
        frames, t_us = make(frames=6, height=size[0], width=size[1], gap=40_000)
        compiled, slow = _both(prepare("test", frames, t_us, CAMERAS[name], None, None))
        for got, want in zip((*compiled[:5], *compiled[5]), (*slow[:5], *slow[5]), strict=True):
            assert got.dtype == want.dtype
            assert torch.equal(got, want)


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same(threads):
    frames, t_us = _clip(frames=6, height=67, width=131, gap=40_000)
    one, state = frames_to_events(frames, t_us, EVERYTHING, labels=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        many, end = frames_to_events(frames, t_us, EVERYTHING, labels=True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(_rows(many), _rows(one))
    _assert_same_state(end, state)


@pytest.mark.parametrize("pieces", [[1, 1, 5], [2, 3], [0, 4], [9]])
@pytest.mark.parametrize("name", ["everything", "everything, advance", "everything, blind", "nothing"])
def test_any_chunking_gives_the_same(name, pieces):
    frames, t_us = _clip(frames=13, height=9, width=11, gap=40_000)
    whole, last = frames_to_events(frames, t_us, CAMERAS[name], labels=True)
    cuts = [1, *pieces, len(frames) - 1 - sum(pieces)]
    state, parts = None, []
    for part, times in zip(frames.split(cuts), t_us.split(cuts), strict=True):
        events, state = frames_to_events(part, times, CAMERAS[name], state=state, labels=True)
        parts.append(_rows(events))
    assert torch.equal(torch.cat(parts, dim=1), _rows(whole))
    _assert_same_state(state, last)


@pytest.mark.parametrize("camera", [EventCamera(), EVERYTHING], ids=["ideal", "everything"])
def test_a_region_sees_what_the_sensor_sees_there(camera):
    frames, t_us = _clip(frames=6, height=20, width=31, gap=40_000)
    whole = _rows(frames_to_events(frames, t_us, camera, labels=True)[0])
    part, state = frames_to_events(frames[:3], t_us[:3], camera, labels=True, roi=(5, 7, 9, 13))
    rest, _ = frames_to_events(frames[3:], t_us[3:], camera, labels=True, roi=(5, 7, 9, 13), state=state)
    inside = (whole[1] >= 5) & (whole[1] < 14) & (whole[2] >= 7) & (whole[2] < 20)
    assert torch.equal(torch.cat([_rows(part), _rows(rest)], dim=1), whole[:, inside])
    assert part.sensor_size == (20, 31)
    assert state.reference.shape == (9, 13)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("camera", [EventCamera(), EVERYTHING], ids=["ideal", "everything"])
def test_a_batch_is_its_clips(camera, threads):
    clips = [_clip(frames=n, height=h, width=w, seed=n, gap=40_000) for n, h, w in [(3, 4, 5), (7, 9, 2), (1, 3, 3)]]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        events, states = clips_to_events(clips, camera, labels=True)
        later = [(frames, t_us + 10**5) for frames, t_us in clips]
        more, _ = clips_to_events(later, camera, states=states, labels=True)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for (frames, t_us), got, state, after in zip(clips, events, states, more, strict=True):
        want, end = frames_to_events(frames, t_us, camera, labels=True)
        assert torch.equal(_rows(got), _rows(want))
        _assert_same_state(state, end)
        want, _ = frames_to_events(frames, t_us + 10**5, camera, state=end, labels=True)
        assert torch.equal(_rows(after), _rows(want))


@pytest.mark.parametrize("kind", ["counts", "voxels", "latest"])
@pytest.mark.parametrize("name", ["ideal", "everything", "by frame", "region"])
def test_fused_bins_are_bins_of_the_list(name, kind):
    camera = {"everything": EVERYTHING, "by frame": EventCamera(timestamps="frame")}.get(name, EventCamera())
    roi = (2, 3, 11, 17) if name == "region" else None
    for make in (_clip, _float_clip):
        frames, t_us = make(frames=6, height=37, width=53, gap=40_000)
        bins = Bins(kind, torch.linspace(int(t_us[0]) + 5000, int(t_us[-1]) - 3000, 5).long(), grid=(7, 5))
        events, state = frames_to_events(frames, t_us, camera, roi=roi)
        values, end = bin_frames(frames, t_us, bins, camera, roi=roi)
        columns = events.t_us, events.x, events.y, events.p
        assert torch.equal(values, bin_events(*columns, 37, 53, bins.code, bins.edges_us, 7, 5))
        _assert_same_state(end, state)


def test_with_every_term_off_the_camera_kernel_is_the_ideal_one():
    frames, t_us = _clip(frames=9, height=67, width=71, gap=40_000)
    ideal, state = frames_to_events(frames, t_us, contrast_on=0.13, contrast_off=0.21)
    events, end = frames_to_events(frames, t_us, CAMERAS["nothing"], contrast_on=0.13, contrast_off=0.21)
    assert torch.equal(_rows(events), _rows(ideal))
    assert torch.equal(end.reference, state.reference << 8)
    assert torch.equal(end.last, state.last << 8)


def test_ops_pass_torch_checks():
    frames, t_us = _clip()
    clip = prepare("test", frames, t_us, EVERYTHING, None, None)
    arguments = [list(part) for part in clip.arguments()]
    torch.library.opcheck(torch.ops.neuroav.camera_events.default, (*arguments, True))
    bins = (0, torch.tensor([12_000, 14_000, 16_000]), 2, 2)
    torch.library.opcheck(torch.ops.neuroav.camera_bins.default, (*arguments, *bins))


def test_inputs_and_states_are_left_alone():
    frames, t_us = _clip(frames=8)
    _, state = frames_to_events(frames[:4], t_us[:4], EVERYTHING)
    tensors = [tensor for tensor in vars(state).values() if isinstance(tensor, torch.Tensor)]
    copies = [tensor.clone() for tensor in (frames, t_us, *tensors)]
    first, _ = frames_to_events(frames[4:], t_us[4:], EVERYTHING, state=state)
    assert all(torch.equal(*pair) for pair in zip((frames, t_us, *tensors), copies, strict=True))
    again, _ = frames_to_events(frames[4:], t_us[4:], EVERYTHING, state=state)
    assert torch.equal(_rows(first), _rows(again))


@needs_extension
def test_compiled_takes_any_layout():
    frames, t_us = _clip(frames=6, height=19, width=23)
    strided = frames.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    plain, _ = frames_to_events(frames, t_us, EVERYTHING)
    assert torch.equal(_rows(frames_to_events(strided, t_us, EVERYTHING)[0]), _rows(plain))
