"""Lists of very different lengths in one process: memory that earlier lists gave back is used for later ones."""

from functools import cache

import pytest
import torch

from neuroav.events.camera import EventCamera
from neuroav.events.generate import frames_to_events
from neuroav.events.prepare import prepare
from neuroav.kernels import cpu, reference

pytestmark = pytest.mark.skipif(not cpu.available(), reason="only the C++ extension uses memory again")
CAMERAS = {"ideal": EventCamera(), "full, every term off": EventCamera(dead_fraction=1e-12)}
MANY, FEW, NONE = (1.0, 1.0, 1.0), (0.002, 0.001, 0.003), (0.0, 0.0)
LEVEL = {share: (share,) * 6 for share in (0.1, 0.12, 0.15)}
RISING = {share: (share, *(2 * share,) * 5) for share in (0.03, 0.045, 0.06, 0.08)}  # more than it seems at first
ORDERS = {
    "few after many": (MANY, FEW, MANY, FEW, FEW),
    "ever more after more": (LEVEL[0.1], RISING[0.03], LEVEL[0.15], RISING[0.045], RISING[0.06], MANY, RISING[0.08]),
    "none between": (LEVEL[0.12], NONE, RISING[0.06], NONE, MANY, FEW, RISING[0.03]),
}


@cache
def _clip(shares):
    """A clip of whose pixels the given shares change from frame to frame, and its events by the PyTorch reference."""
    generator = torch.Generator().manual_seed(len(shares))
    frames = [torch.randint(0, 256, (130, 140), generator=generator)]
    for share in shares:
        changed = torch.rand(frames[0].shape, generator=generator) < share
        frames.append(torch.where(changed, torch.randint(0, 256, frames[0].shape, generator=generator), frames[-1]))
    clip = torch.stack(frames).to(torch.uint8), torch.arange(len(frames)) * 7001
    arguments = prepare("test", *clip, CAMERAS["ideal"], None, None).ideal_arguments()
    return *clip, reference.contrast_events(*arguments)[:4]


def _assert_right(events, shares):
    for got, want in zip((events.t_us, events.x, events.y, events.p), _clip(shares)[2], strict=True):
        assert torch.equal(got, want)
    assert events.is_noise is None or (len(events.is_noise) == len(events) and not events.is_noise.any())


def test_the_lists_differ_by_orders_of_magnitude():
    few, rising, many = (len(_clip(shares)[2][0]) for shares in (FEW, RISING[0.03], MANY))
    assert len(_clip(NONE)[2][0]) == 0
    assert 0 < 10 * few < rising < many / 5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "labels", [(False,), (True,), (True, False)], ids=["without labels", "with labels", "in turns"]
)
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("order", ORDERS)
def test_lists_are_right_whatever_came_before(order, camera, labels, threads):
    kept = []
    torch.set_num_threads(threads)
    try:
        for number, shares in enumerate(ORDERS[order]):
            frames, t_us, _ = _clip(shares)
            with_labels = labels[number % len(labels)]
            events, _ = frames_to_events(frames, t_us, CAMERAS[camera], labels=with_labels)
            assert (events.is_noise is not None) == with_labels
            kept = [*kept[-1:], (events, shares)] if number % 3 else [(events, shares)]  # the others are freed
            for one, of in kept:
                _assert_right(one, of)
            del events, one
    finally:
        torch.set_num_threads(1)
