"""What the tests of both benches share."""

import pytest

from neuroav.bench.timing import Timed


def _in_this_process(jobs, turns, verify, on_turn, crew=None):
    timed = []
    for job in jobs:
        runner = job.start(*job.args)
        timed.append(Timed(job, runner.describe(runner.prepare()())))
        runner.finish()
    verify(timed)
    for one in timed:
        one.samples_s, one.max_rss_bytes = [1.0 / one.job.threads] * turns, 1 << 20
        on_turn(one)
    return timed


@pytest.fixture
def in_this_process():
    """Stands in for ``time_side_by_side``: runs each job once, here; every sample takes a second per thread."""
    return _in_this_process
