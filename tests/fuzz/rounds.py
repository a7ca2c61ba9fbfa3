"""What the fuzzers share: cases by number, the first broken promise named, and the command line."""

import argparse
import faulthandler
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

HANGS_AFTER_SECONDS = 300  # of a hundred cases
Case = TypeVar("Case")
Damage = Callable[[int, int, Path], tuple[str, bool]]


def run(case: Callable[[int, int], Case], seed: int, numbers: range, trace: bool) -> Iterator[Case]:
    """Run ``case(seed, number)`` for each number; yields what they return, and says how far it is now and then.

    Raises:
        AssertionError: If a promise is broken; the text holds the case's number.
    """
    begin = time.monotonic()
    for number in numbers:
        if trace:
            sys.stdout.write(f"case {number}\n")
            sys.stdout.flush()
        try:
            found = case(seed, number)
        except Exception as error:
            raise AssertionError(f"case {number} of seed {seed}: {type(error).__name__}: {error}") from error
        if (number + 1) % 500 == 0:
            sys.stdout.write(f"{number + 1 - numbers.start} cases, {time.monotonic() - begin:.0f} s\n")
            sys.stdout.flush()
        yield found


def damaged(
    case: Damage, seed: int, numbers: range, folder: Path, trace: bool = False
) -> tuple[Counter[str], Counter[str]]:
    """Run cases of damaged files, with memory traced; returns how many of each kind, and how many were refused.

    Raises:
        AssertionError: see :func:`run`.
    """
    done: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    began_here = not tracemalloc.is_tracing()
    if began_here:
        tracemalloc.start()
    try:
        for name, was_refused in run(lambda seed, number: case(seed, number, folder), seed, numbers, trace):
            done[name] += 1
            refusals[name] += was_refused
    finally:
        if began_here:
            tracemalloc.stop()
    return done, refusals


def arguments(description: str) -> argparse.Namespace:
    """The command line of a fuzzer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--trace", action="store_true", help="name every case before it runs")
    return parser.parse_args()


def main(description: str, case: Damage) -> int:
    """The whole of a fuzzer of damaged files; returns the exit status."""
    args = arguments(description)
    begin, done, refusals = time.monotonic(), Counter[str](), Counter[str]()
    last = args.first + args.cases
    with tempfile.TemporaryDirectory() as folder:
        try:
            for first in range(args.first, last, 100):
                faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS, exit=True)
                numbers = range(first, min(first + 100, last))
                found = damaged(case, args.seed, numbers, Path(folder), args.trace)
                done, refusals = done + found[0], refusals + found[1]
        except AssertionError:
            traceback.print_exc()
            return 1
        finally:
            faulthandler.cancel_dump_traceback_later()
    counts = ", ".join(f"{name} {refusals[name]:,} of {count:,}" for name, count in sorted(done.items()))
    sys.stdout.write(f"{args.cases} cases of seed {args.seed} in {time.monotonic() - begin:.0f} s; refused: {counts}\n")
    return 0
