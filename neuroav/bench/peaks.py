"""Memory that one run takes: resident size at its peak above that just before, in a process that ran nothing like it.

Not by the records of an allocator: code may have memory of its own. Not in the process that is timed either: what it
kept of earlier runs, to use again, would not be seen to be taken. So a process that imported what there is to import
and ran a tiny case forks for each measurement; the child makes the input, and its first run is measured. Every large
block of malloc is given back to the system at once there, so that holes between small ones don't count (they do in the
process that is timed, and may double its size).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from neuroav.bench.machine import forget_peak, resident_bytes
from neuroav.bench.timing import Runner

BLOCK = 1 << 16  # bytes from which a block is the system's own
M_MMAP_THRESHOLD = -3  # of glibc's mallopt


def start_peak(start: Callable[[Any], Runner], case: Any, tiny: tuple[Any, Any]) -> Runner:
    """Return a runner that measures the peak of ``start(case)`` in bytes, ``None`` where the system can't tell.

    Args:
        start: Makes a runner of a case.
        case: The case to measure.
        tiny: Two small cases: one without gradients, run here beforehand, for autograd doesn't outlive a fork; and one
            like ``case``, run in the child beforehand.
    """
    if hasattr(os, "fork"):
        start(tiny[0]).prepare()()
    return Runner(lambda: lambda: _forked(start, case, tiny[1]), lambda peak: {"peak_bytes": peak})


def _forked(start: Callable[[Any], Runner], case: Any, tiny: Any) -> int | None:
    if not hasattr(os, "fork") or not sys.platform.startswith("linux"):
        return None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):  # what goes wrong leaves no number behind
            os.write(writing, str(_peak(start, case, tiny)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return int(text) if text else None


def _peak(start: Callable[[Any], Runner], case: Any, tiny: Any) -> int:
    start(tiny).prepare()()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BLOCK)
    run = start(case).prepare()
    forget_peak()
    base = resident_bytes(peak=False)
    result = run()
    peak = resident_bytes()
    del result
    return (peak or 0) - (base or 0)
