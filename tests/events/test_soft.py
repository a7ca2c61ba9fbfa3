"""The soft crossing count: against quadrature, finite differences and the exact generator, and put to use."""

import math

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from neuroav.checks import InputError
from neuroav.events.generate import frames_to_events
from neuroav.events.represent import events_to_bins
from neuroav.events.soft import Soft, SoftState, StraightThrough, soft_bins, soft_voxels
from neuroav.events.types import Bins

UNIT = 65536
GREY_LOG = torch.tensor([round(UNIT * math.log(grey + 1)) / UNIT for grey in range(256)], dtype=torch.float64)


def _rand(*shape, seed=0, low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def _clip(frames=12, height=10, width=14, seed=1):
    """Random grey frames and their times; every interval is crossed by many thresholds."""
    generator = torch.Generator().manual_seed(seed)
    grey = torch.randint(0, 256, (frames, height, width), generator=generator).byte()
    return grey, torch.arange(frames) * 1000 + torch.randint(0, 300, (frames,), generator=generator).cumsum(0)


def _truth(grey, t_us, bins, on, off):
    events, _ = frames_to_events(grey, t_us, contrast_on=on, contrast_off=off)
    values = events_to_bins(events, bins).double()
    return values / UNIT if bins.kind == "voxels" else values


# ----------------------------------------------------------------------------------------------- the counting functions


def _count_by_formula(u, temperature):
    """The documented sum over thresholds, one by one."""
    total = torch.zeros_like(u)
    for j in range(1, 60):
        z = ((u - j) / temperature).clamp(-1, 1)
        total += (2 + 3 * z - z**3) / 4
    return total


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5])
def test_soft_count_is_the_documented_sum(temperature):
    u = torch.linspace(-3, 40, 4001, dtype=torch.float64)
    torch.testing.assert_close(Soft(temperature).at(u), _count_by_formula(u, temperature), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.45])
def test_soft_count_equals_the_sensor_a_temperature_away_from_thresholds(temperature):
    u = torch.linspace(-3, 40, 4001, dtype=torch.float64)
    away = (u - u.round()).abs() >= temperature
    expected = u.floor().clamp(min=0)
    assert away.sum() > 100
    torch.testing.assert_close(Soft(temperature).at(u)[away], expected[away], rtol=0, atol=1e-12)
    assert torch.equal(StraightThrough(temperature).at(u), expected)


@pytest.mark.parametrize("count", [Soft(0.05), Soft(0.2), Soft(0.5), StraightThrough(0.5)])
def test_means_equal_quadrature(count):
    start, stop = _rand(60, seed=1, low=-2, high=4), _rand(60, seed=2, low=-2, high=30)
    stop[:20] = start[:20] + _rand(20, seed=3, low=-0.02, high=0.02)  # short ways take another branch
    at = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    for a, b, mean in zip(start, stop, count.mean(start, stop), strict=True):
        assert abs(count.at(a + (b - a) * at).mean() - mean) < (1e-3 if isinstance(count, StraightThrough) else 2e-5)


def test_the_mean_of_no_way_at_all_is_the_count():
    u = _rand(50, low=-2, high=5).requires_grad_()
    mean = Soft(0.3).mean(u, u)
    torch.testing.assert_close(mean, Soft(0.3).at(u), rtol=0, atol=1e-12)
    assert torch.autograd.grad(mean.sum(), u)[0].isfinite().all()


def test_straight_through_has_the_soft_gradient():
    u = _rand(200, low=-2, high=6).requires_grad_()
    gradients = [torch.autograd.grad(count.at(u).sum(), u)[0] for count in (Soft(0.4), StraightThrough(0.4))]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert (gradients[0] > 0).float().mean() > 0.4


def test_at_the_widest_temperature_the_reference_never_amplifies():
    u = torch.linspace(-1, 9, 100_001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(Soft(0.5).at(u).sum(), u)[0]
    assert (1 - slope).abs().max() <= 1


# --------------------------------------------------------------------------------------------------- finite differences

VOXELS = Bins("voxels", torch.tensor([20, 180, 320, 490]), (1, 2))  # nodes inside intervals, events outside all nodes
COUNTS = Bins("counts", torch.tensor([0, 90, 90, 400, 600]), (2, 3))
TIMES = torch.tensor([0, 100, 250, 300, 500])


@pytest.mark.parametrize("temperature", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("bins", [VOXELS, COUNTS], ids=["voxels", "counts"])
def test_gradients_agree_with_finite_differences(bins, temperature):
    brightness = _rand(5, 2, 3, high=2).requires_grad_()
    on = torch.tensor(0.23, dtype=torch.float64, requires_grad=True)
    off = _rand(2, 3, seed=5, low=0.15, high=0.35).requires_grad_()

    def values_and_state(brightness, on, off):
        values, state = soft_bins(brightness, TIMES, bins, contrast_on=on, contrast_off=off, count=Soft(temperature))
        return values, state.reference, state.last

    assert torch.autograd.gradcheck(values_and_state, (brightness, on, off))


def test_the_gradient_check_can_fail():
    brightness = _rand(5, 2, 3, high=2).requires_grad_()
    with pytest.raises(GradcheckError):  # a hard count has another derivative than the soft one
        torch.autograd.gradcheck(lambda b: soft_bins(b, TIMES, VOXELS, count=StraightThrough())[0], (brightness,))


def test_gradient_through_the_state_equals_finite_differences():
    brightness, reference = _rand(2, 1, 2, high=2).requires_grad_(), _rand(1, 2, seed=4).requires_grad_()
    bins = Bins("voxels", torch.tensor([0, 150, 300]))

    def values(brightness, reference):
        state = SoftState(reference, reference + 0.05, 0)
        return soft_bins(brightness, torch.tensor([100, 300]), bins, state=state)[0]

    assert torch.autograd.gradcheck(values, (brightness, reference))


def test_nothing_moves_and_the_gradient_is_finite():
    brightness = torch.zeros(4, 1, 1, requires_grad=True)
    values, _ = soft_bins(brightness, TIMES[:4], VOXELS)
    values.sum().backward()
    assert values.abs().sum() == 0
    assert brightness.grad.isfinite().all()


@pytest.mark.parametrize("count", [Soft(0.2), StraightThrough(0.5)])
def test_pieces_of_a_clip_give_the_values_and_gradients_of_the_whole(count):
    brightness, bins = _rand(7, 3, 4, high=2), Bins("voxels", torch.tensor([0, 310, 620]), (2, 2))
    t_us, weight = torch.arange(7) * 100, _rand(3, 2, 2, 2, seed=6)
    results = []
    for cuts in ([7], [1, 6], [3, 0, 2, 2]):
        leaf, state, total = brightness.clone().requires_grad_(), None, 0
        for frames, times in zip(leaf.split(cuts), t_us.split(cuts), strict=True):
            values, state = soft_bins(frames, times, bins, count=count, state=state)
            total = total + values
        (total * weight).sum().backward()
        results.append((total.detach(), leaf.grad, state.reference.detach()))
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            torch.testing.assert_close(got, want)


def test_a_detached_state_cuts_the_gradient():
    brightness = _rand(4, 1, 1, high=3).requires_grad_()
    bins = Bins("counts", torch.tensor([0, 200, 400]))
    _, state = soft_bins(brightness[:2], TIMES[:2], bins)
    values, _ = soft_bins(brightness[2:].detach(), TIMES[2:4], bins, state=state.detach())
    assert not values.requires_grad


# --------------------------------------------------------------------------------------------------- against the camera

ON, OFF = round(0.23 * UNIT) / UNIT, round(0.17 * UNIT) / UNIT
EDGES = torch.tensor([500, 4000, 9000, 11_111])  # inside frame intervals


@pytest.mark.parametrize("grid", [None, (5, 7)])
def test_straight_through_counts_are_those_of_the_camera(grid):
    (grey, t_us), bins = _clip(), Bins("counts", EDGES, grid)
    values, _ = soft_bins(GREY_LOG[grey.long()], t_us, bins, contrast_on=ON, contrast_off=OFF, count=StraightThrough())
    assert torch.equal(values, _truth(grey, t_us, bins, 0.23, 0.17))


def test_straight_through_voxels_differ_by_the_rounding_of_times_alone():
    (grey, t_us), bins = _clip(), Bins("voxels", torch.tensor([-1, 4000, 9000, 20_000]))
    values, _ = soft_bins(GREY_LOG[grey.long()], t_us, bins, contrast_on=ON, contrast_off=OFF, count=StraightThrough())
    truth = _truth(grey, t_us, bins, 0.23, 0.17)
    events = events_to_bins(*_events_and(grey, t_us, Bins("counts", torch.tensor([-1, 20_000]))))
    bound = events * (1 / 4001 + 1 / UNIT) * 2
    assert ((values - truth).abs() <= bound).all()
    torch.testing.assert_close(values.sum(0), truth.sum(0), rtol=0, atol=1e-9)  # weight is conserved per pixel


def _events_and(grey, t_us, bins):
    return frames_to_events(grey, t_us, contrast_on=0.23, contrast_off=0.17)[0], bins


@pytest.mark.parametrize("kind", ["counts", "voxels"])
def test_soft_values_tend_to_the_camera_as_the_temperature_falls(kind):
    (grey, t_us), bins = _clip(), Bins(kind, torch.tensor([-1, 4000, 9000, 20_000]))
    truth = _truth(grey, t_us, bins, 0.2345, 0.1671)
    brightness, contrast = GREY_LOG[grey.long()], {"contrast_on": 0.2345, "contrast_off": 0.1671}
    errors = []
    for temperature in (0.3, 0.03, 0.003, 0.0003):
        values, _ = soft_bins(brightness, t_us, bins, **contrast, count=Soft(temperature))
        errors.append(float((values - truth).abs().mean() / truth.mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


def test_soft_counts_are_conserved():
    brightness = _rand(9, 4, 4, high=3)
    bins = Bins("counts", torch.tensor([0, 10_000]))
    values, state = soft_bins(brightness, torch.arange(9) * 1000, bins, contrast_on=0.3, contrast_off=0.2, count=Soft())
    off, on = values[0]
    torch.testing.assert_close(brightness[0] + 0.3 * on - 0.2 * off, state.reference)
    assert ((brightness[-1] - state.reference) < 0.3).all()
    assert ((state.reference - brightness[-1]) < 0.2).all()


# ----------------------------------------------------------------------------------------------------------- put to use


def _descend(parameter, loss_of, steps, rate):
    optimiser = torch.optim.Adam([parameter], lr=rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.97)
    for _ in range(steps):
        optimiser.zero_grad()
        loss_of(parameter).backward()
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize("count", [Soft(), StraightThrough()])
def test_an_unknown_threshold_is_recovered_from_a_voxel_grid(count):
    x, y, k = torch.linspace(0, 6, 12), torch.linspace(0, 4, 8)[:, None], torch.arange(8)[:, None, None]
    grey = (120 + 80 * torch.sin(x + 0.5 * k) * torch.cos(y - 0.3 * k)).round().byte()
    t_us, bins = torch.arange(8) * 10_000, Bins("voxels", torch.tensor([0, 35_000, 70_000]))
    target, brightness = _truth(grey, t_us, bins, 0.27, 0.27).float(), GREY_LOG[grey.long()].float()

    def loss(log_contrast):
        contrast = log_contrast.exp()
        values, _ = soft_bins(brightness, t_us, bins, contrast_on=contrast, contrast_off=contrast, count=count)
        return (values - target).square().mean()

    log_contrast = torch.tensor(math.log(0.2), requires_grad=True)
    _descend(log_contrast, loss, steps=50, rate=0.08)
    assert abs(float(log_contrast.detach().exp()) - 0.27) < 0.01


def test_brightness_ramps_are_recovered_from_a_voxel_grid():
    slope, way = torch.linspace(-2, 2, 12).reshape(3, 4), torch.linspace(0, 1, 5)[:, None, None]
    settings = {"t_us": torch.arange(5) * 10_000, "num_bins": 3, "start_us": 0, "stop_us": 40_000}
    target = soft_voxels(slope * way, **settings, count=StraightThrough())[0]
    fired = target.sum((0, 1)) > 0

    def loss(estimate):
        return (soft_voxels(estimate * way, **settings)[0] - target).square().sum()

    net = (target[:, 1] - target[:, 0]).sum(0)
    estimate = (0.3 * net.sign()).requires_grad_()  # the direction alone: a pixel that doesn't fire has no gradient
    _descend(estimate, loss, steps=100, rate=0.1)
    assert fired.sum() == 10
    assert (estimate - slope)[fired].abs().max() < 0.1  # half a threshold; they began up to 1.7 away


# ------------------------------------------------------------------------------------------------------------ bad input


def test_bad_arguments_are_named():
    good, t_us = torch.zeros(2, 3, 3), torch.tensor([0, 1000])
    bins = Bins("counts", torch.tensor([0, 1000]))
    with pytest.raises(InputError, match=r"temperature in \(0, 0.5\], got 0.6"):
        Soft(0.6)
    with pytest.raises(InputError, match="temperature"):
        StraightThrough(0.0)
    with pytest.raises(TypeError, match=r"brightness of dtype torch\.float32 or torch\.float64"):
        soft_bins(good.byte(), t_us, bins)
    with pytest.raises(InputError, match="finite brightness, got NaN"):
        soft_bins(good.log() * 0, t_us, bins)
    with pytest.raises(InputError, match="at least one frame"):
        soft_bins(good[:0], t_us[:0], bins)
    with pytest.raises(InputError, match="t_us strictly increasing"):
        soft_bins(good, torch.tensor([5, 5]), bins)
    with pytest.raises(InputError, match="contrast_on above 0, got -1"):
        soft_bins(good, t_us, bins, contrast_on=-1.0)
    with pytest.raises(InputError, match=r"contrast_off a number or a map of shape \(3, 3\)"):
        soft_bins(good, t_us, bins, contrast_off=torch.ones(2, 3))
    with pytest.raises(InputError, match="latest time has no gradient"):
        soft_bins(good, t_us, Bins("latest", torch.tensor([0, 1000])))
    _, state = soft_bins(good, t_us, bins)
    with pytest.raises(InputError, match=r"past state\.t_us"):
        soft_bins(good, t_us, bins, state=state)
    with pytest.raises(InputError, match=r"state.reference of shape \(2, 3\)"):
        soft_bins(good[:, :2], t_us + 2000, bins, state=state)
