"""A short run of the fuzzer, and that it sees broken kernels and broken promises."""

import fuzz_events
import pytest
import torch

from neuroav.events import generate
from neuroav.kernels import cpu, reference


def test_a_hundred_cases_keep_every_promise():
    done = fuzz_events.fuzz(seed=1, first=0, cases=100)
    assert {kind.__name__ for kind, _ in fuzz_events.CASES} <= set(done)
    assert done["events"] > 20_000


def test_cases_repeat():
    once, again = ([fuzz_events.run_case(7, number) for number in range(12)] for _ in range(2))
    assert once == again


def _late(results):
    t_us, *rest = results
    return (t_us + (t_us.cumsum(0) == t_us.sum()).long() if len(t_us) else t_us, *rest)


def _other_level(results):
    *columns, level, last = results
    return (*columns, level + 1, last)


def _swapped(results):
    t_us, x, y, p, *state = results
    return (t_us, x, y, 1 - p, *state)


def _lost(results):
    *columns, level, last = results
    return (*(column[1:] for column in columns), level, last)


def _unsorted(results):
    *columns, level, last = results
    return (*(column.flip(0) for column in columns), level, last)


@pytest.mark.parametrize("break_it", [_late, _other_level, _swapped, _lost, _unsorted])
def test_a_broken_kernel_is_seen(monkeypatch, break_it):
    right = generate.ideal.contrast_events
    monkeypatch.setattr(generate.ideal, "contrast_events", lambda *args: break_it(right(*args)))
    with pytest.raises(AssertionError, match=r"case \d+ of seed 1"):
        fuzz_events.fuzz(seed=1, first=0, cases=100)


@pytest.mark.skipif(not cpu.available(), reason="the C++ extension was not built")
def test_a_reference_that_differs_is_seen(monkeypatch):
    monkeypatch.setattr(fuzz_events.Reference, "__torch_dispatch__", _other_reference)
    with pytest.raises(AssertionError, match="kernel and reference"):
        fuzz_events.fuzz(seed=1, first=0, cases=100)


def _other_reference(self, func, types, args=(), kwargs=None):
    if func.namespace == "neuroav" and "contrast_events" in func.name():
        return _swapped(reference.contrast_events(*args))
    return func(*args, **(kwargs or {}))


def test_an_error_of_another_kind_is_seen(monkeypatch):
    def careless(frames, t_us, *args, **settings):
        return torch.zeros(3)[int(t_us[0]) * 0 + 3]

    monkeypatch.setattr(fuzz_events, "frames_to_events", careless)
    with pytest.raises(AssertionError, match="case"):
        fuzz_events.fuzz(seed=1, first=0, cases=20)
