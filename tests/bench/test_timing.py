"""Processes that take turns: samples, figures, peak memory; and what becomes of one that refuses, fails or dies."""

import logging
import os
import statistics
import warnings
from functools import partial
from types import SimpleNamespace

import pytest

from neuroav.bench import timing
from neuroav.bench.events import start_copy
from neuroav.bench.machine import COPIED, machine, resident_bytes
from neuroav.bench.neuron_peers import Case
from neuroav.bench.neurons import start_floor
from neuroav.bench.timing import Job, Runner, Timed, quartile_distance, time_side_by_side
from neuroav.checks import InputError


@pytest.fixture(scope="module")
def timed():
    """One run of everything that can happen, in processes of their own; the jobs are importable by name there."""
    turns = []
    jobs = [
        Job("copy", start_copy),
        Job("dies", os._exit, (3,)),
    ]
    verified = []
    found = time_side_by_side(jobs, 2, verified.append, lambda one: turns.append(one.job.impl))
    return found, turns, verified[0]


def test_a_job_has_samples_figures_and_its_own_peak_memory(timed):
    copy = timed[0][0]
    assert copy.skipped == ""
    assert copy.figures == {"bytes": 2 * COPIED}
    assert len(copy.samples_s) >= 2
    assert copy.median_s == statistics.median(copy.samples_s)
    assert 1e-4 < copy.median_s < 10
    if copy.max_rss_bytes is not None:
        assert copy.max_rss_bytes > 2 * COPIED
    assert timed[1] == ["copy", "copy"]


def test_a_process_that_dies_is_left_out_with_its_status(timed):
    dies = timed[0][1]
    assert dies.skipped == "its process ended with status 3"
    assert dies.samples_s == []


def test_all_are_verified_together_before_any_turn(timed):
    assert [one.job.impl for one in timed[2]] == ["copy", "dies"]


class Pipe:
    """The end of a connection that asks for turns and keeps the answers."""

    def __init__(self, requests):
        self.requests, self.answers = iter(requests), []

    def recv(self):
        request = next(self.requests, None)
        if request is None:
            raise EOFError
        return request

    def send(self, answer):
        self.answers.append(answer)


def _serve(start, requests=("turn", "turn", "end")):
    pipe = Pipe(requests)
    timing.serve(pipe, Job("one", start))
    return pipe.answers


def test_only_the_run_is_timed_and_every_run_is_prepared(monkeypatch):
    monkeypatch.setattr(timing, "SAMPLE_S", 18)
    clock = SimpleNamespace(now=0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(timing, "time", clock)
    calls = []

    def spend(seconds):
        clock.now += seconds

    def prepare():
        calls.append("prepare")
        spend(20)
        return partial(spend, 5)

    def describe(result):
        calls.append("describe")
        return {"result": result}

    answers = _serve(lambda: Runner(prepare, describe))
    assert [kind for kind, _ in answers] == ["ready", "samples", "samples", "peak"]
    assert answers[0][1][0] == {"result": None}
    assert answers[1][1] == [5] * 4, "a turn of short runs goes on until it has taken a while"
    assert calls.count("describe") == 1
    assert calls.count("prepare") == 1 + sum(len(value) for kind, value in answers if kind == "samples")


def test_what_refuses_or_fails_says_why():
    def refuse():
        raise InputError("peer: expected it to be installed, got nothing.")

    assert _serve(refuse) == [("skip", "peer: expected it to be installed, got nothing.")]
    [(kind, text)] = _serve(lambda: int("x"))
    assert kind == "skip"
    assert text.startswith("ValueError: invalid literal")


def test_the_end_tidies_up():
    calls = []
    _serve(lambda: Runner(lambda: lambda: None, finish=lambda: calls.append("finish")), ["end"])
    assert calls == ["finish"]


def test_a_served_job_is_silent_and_leaves_the_log_as_it_was(caplog, capfd):
    def chatter():
        print("loud")
        warnings.warn("loud", stacklevel=1)
        logging.getLogger("peer").error("loud")

    _serve(lambda: Runner(lambda: chatter), ["turn", "end"])
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])
    logging.getLogger("peer").warning("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]


def test_a_process_whose_parent_has_gone_ends():
    with pytest.raises(SystemExit):
        _serve(lambda: Runner(lambda: lambda: None), ["turn"])


def test_a_process_serves_the_next_job_too():
    def job(name):
        return Job(name, lambda: Runner(lambda: lambda: name, lambda result: {"result": result}))

    pipe = Pipe(["turn", "next", job("two"), "next", job("three"), "turn", "end"])
    timing.serve(pipe, job("one"))
    kinds = [kind for kind, _ in pipe.answers]
    assert kinds == ["ready", "samples", "peak", "ready", "peak", "ready", "samples", "peak"]
    assert [value[0] for kind, value in pipe.answers if kind == "ready"] == [
        {"result": n} for n in ("one", "two", "three")
    ]


def test_a_crew_keeps_processes_from_case_to_case():
    case = Case((1, 1, 8), training=False)
    job = Job("copy", start_floor, (case,))
    with timing.Crew() as crew:
        first = time_side_by_side([job, Job("dies", os._exit, (3,))], 1, crew=crew)
        (idle,) = crew._idle
        second = time_side_by_side([Job("copy", start_floor, (case,), threads=2), job], 1, crew=crew)
        assert crew._idle[1] is idle
        processes = [worker._process for worker in crew._idle]
        assert [process.is_alive() for process in processes] == [True, True]
    assert [process.is_alive() for process in processes] == [False, False]
    assert [bool(one.samples_s) for one in first + second] == [True, False, True, True]
    assert first[1].skipped == "its process ended with status 3"


def test_a_slow_one_gets_no_further_turns(monkeypatch):
    class Worker:
        def __init__(self, job):
            self.timed = Timed(job)

        def turn(self):
            self.timed.samples_s.append({"slow": 30.0, "fast": 0.2}[self.timed.job.impl])

        def start(self): ...

        first_run = finish = close = start

    monkeypatch.setattr(timing, "_Worker", Worker)
    slow, fast = time_side_by_side([Job("slow", int), Job("fast", int)], 9)
    assert len(slow.samples_s) == 3
    assert len(fast.samples_s) == 9


def test_spread():
    assert quartile_distance([3.0, 1.0, 2.0, 5.0, 4.0]) == 2.0
    assert quartile_distance([3.0]) is None
    assert Timed(Job("one", int), samples_s=[1.0, 9.0, 2.0]).median_s == 2.0


def test_the_machine_is_described():
    found = machine()
    assert found["cores"] >= 1
    assert found["cpu"]
    assert {"neuroav", "torch", "numpy", "python", "commit", "cpu_kernels", "date"} <= set(found)
    now, peak = resident_bytes(peak=False), resident_bytes()
    assert now is None or 10_000_000 < now <= peak
