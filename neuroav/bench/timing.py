"""Timing of several implementations side by side: one process each, runs interleaved, peak memory per process.

Every implementation runs in a process of its own, so that its peak memory is its own and no library's threads or
settings reach another. The processes take turns (ours, a peer, ours, a peer ...), so that load on the machine hits all
alike; only one of them computes at a time. Where there are many cases, a :class:`Crew` keeps the processes from one
to the next, so that libraries are imported once.
"""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from neuroav.bench.machine import forget_peak, resident_bytes
from neuroav.checks import NeuroavError
from neuroav.silence import silence

SAMPLE_S, MOST_SAMPLES = 0.15, 20  # a turn of short runs goes on until it has taken this long, or held this many
MIN_TURNS, PATIENCE_S = 3, 20.0  # a slow implementation gets no further turn after this long, but at least three


@dataclass(frozen=True)
class Runner:
    """What one implementation does over and over.

    Attributes:
        prepare: Makes ready for one run, untimed, and returns the function to time.
        describe: Turns what that function returned into figures; called once, untimed.
        finish: Called at the end, to tidy up.
    """

    prepare: Callable[[], Callable[[], Any]]
    describe: Callable[[Any], dict[str, Any]] = lambda result: {}
    finish: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Job:
    """One implementation of a case: ``start(*args)``, called in the new process, returns its :class:`Runner`."""

    impl: str
    start: Callable[..., Runner]
    args: tuple[Any, ...] = ()
    threads: int = 1


@dataclass
class Timed:
    """What came of a job: its samples in seconds, or the reason why there are none.

    Attributes:
        job: The job.
        figures: What its runner's ``describe`` said.
        samples_s: Wall time of every run.
        max_rss_bytes: Peak resident size of its process during the job, interpreter and input included.
        base_rss_bytes: Resident size just before the first run.
        skipped: Why it was not run, in words; empty if it was.
    """

    job: Job
    figures: dict[str, Any] = field(default_factory=dict)
    samples_s: list[float] = field(default_factory=list)
    max_rss_bytes: int | None = None
    base_rss_bytes: int | None = None
    skipped: str = ""

    @property
    def median_s(self) -> float:
        """Median wall time of a run in seconds."""
        return statistics.median(self.samples_s)

    @property
    def iqr_s(self) -> float | None:
        """Distance of the quartiles in seconds; ``None`` for a single sample."""
        return quartile_distance(self.samples_s)


def quartile_distance(samples: Sequence[float]) -> float | None:
    """Return the third minus the first quartile, ``None`` for fewer than two samples.

    Example:
        >>> quartile_distance([1.0, 2.0, 3.0, 4.0, 5.0])
        2.0
    """
    if len(samples) < 2:
        return None
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return third - first


def time_side_by_side(
    jobs: Sequence[Job],
    turns: int,
    verify: Callable[[list[Timed]], None] = lambda timed: None,
    on_turn: Callable[[Timed], None] = lambda timed: None,
    crew: Crew | None = None,
) -> list[Timed]:
    """Run jobs in turns and return what came of each, in order.

    Args:
        jobs: The implementations of one case.
        turns: How often each has its turn; a turn holds one run, or several short ones.
        verify: Called with all jobs after an untimed first run; sets ``skipped`` on what must not be timed.
        on_turn: Called after every turn.
        crew: Processes to use again, and to add to; without, every job gets a new one that ends with it.
    """
    workers = [crew.worker(job) if crew else _Worker(job) for job in jobs]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.first_run()
        verify([worker.timed for worker in workers])
        for turn in range(turns):
            for worker in workers:
                if not worker.timed.skipped and (turn < MIN_TURNS or sum(worker.timed.samples_s) < PATIENCE_S):
                    worker.turn()
                    on_turn(worker.timed)
        for worker in workers:
            worker.finish()
            if crew:
                crew.keep(worker)
    finally:
        for worker in workers:
            if not (crew and crew.keeps(worker)):
                worker.close()
    return [worker.timed for worker in workers]


class Crew:
    """Processes that outlive their job; an idle one serves the next job of its implementation and number of threads.

    A peak of resident memory is then still the job's own (where the system can forget the last one), on top of what
    the process kept of the jobs before.
    """

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        while self._idle:
            self._idle.pop().close()

    def worker(self, job: Job) -> _Worker:
        """Return an idle process that fits the job, or a new one."""
        for worker in self._idle:
            done = worker.timed.job
            if (done.impl, done.threads) == (job.impl, job.threads):
                self._idle.remove(worker)
                worker.timed = Timed(job)
                return worker
        return _Worker(job, last=False)

    def keep(self, worker: _Worker) -> None:
        """Keep a process whose job is done; one that refused or failed has ended."""
        if not worker.timed.skipped:
            self._idle.append(worker)

    def keeps(self, worker: _Worker) -> bool:
        """Whether this process is idle here."""
        return worker in self._idle


class _Worker:
    """The parent's end of one process."""

    def __init__(self, job: Job, last: bool = True):
        self.timed = Timed(job)
        self._last = last
        context = multiprocessing.get_context("spawn")  # a fork would copy this process's threads and memory
        self._connection, theirs = context.Pipe()
        self._theirs = theirs
        self._process = context.Process(target=serve, args=(theirs, job))

    def start(self) -> None:
        if self._process.pid is not None:
            self._send(self.timed.job)
            return
        self._process.start()
        self._theirs.close()  # else a process that dies is never noticed

    def first_run(self) -> None:
        kind, value = self._receive()
        if kind == "skip":
            self.timed.skipped = value
        else:
            self.timed.figures, self.timed.base_rss_bytes = value

    def turn(self) -> None:
        self._send("turn")
        kind, value = self._receive()
        if kind == "skip":
            self.timed.skipped = value
        else:
            self.timed.samples_s += value

    def finish(self) -> None:
        if not self.timed.skipped:
            self._send("end" if self._last else "next")
            self.timed.max_rss_bytes = self._receive()[1]

    def close(self) -> None:
        self._connection.close()
        if self._process.pid is not None:
            self._process.join(timeout=2)
            if self._process.is_alive():
                self._process.terminate()
                self._process.join()

    def _send(self, request: str | Job) -> None:
        with suppress(OSError):  # a dead process is noticed by what it doesn't answer
            self._connection.send(request)

    def _receive(self) -> tuple[str, Any]:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=2)
            return "skip", f"its process ended with status {self._process.exitcode}"


def serve(connection: Connection, job: Job) -> None:
    """Be the process of a job, and of the next ones: run it once, say what came of it, take turns until told to end."""
    with silence():
        try:
            import torch

            torch.set_num_threads(job.threads)
            while _serve(connection, job) == "next":
                job = connection.recv()
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            sys.exit(1)  # the parent has gone, or was interrupted
        except NeuroavError as error:
            connection.send(("skip", str(error)))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            connection.send(("skip", f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"))


def _serve(connection: Connection, job: Job) -> str:
    """Serve one job; return what was asked for when it was done."""
    forget_peak()
    runner = job.start(*job.args)
    base = resident_bytes(peak=False)
    connection.send(("ready", (runner.describe(runner.prepare()()), base)))
    while (request := connection.recv()) == "turn":
        connection.send(("samples", _turn(runner)))
    connection.send(("peak", resident_bytes()))
    runner.finish()
    return request


def _turn(runner: Runner) -> list[float]:
    samples: list[float] = []
    gc.collect()
    gc.disable()
    while sum(samples) < SAMPLE_S and len(samples) < MOST_SAMPLES:
        run = runner.prepare()
        begin = time.perf_counter()
        result = run()
        samples.append(time.perf_counter() - begin)
        del result, run
    gc.enable()
    return samples
