"""Work on many files over many machines: a function run by the workers of a dask.distributed cluster, in order.

The cluster is the user's: ``dask scheduler`` on one machine, ``dask worker tcp://HOST:8786 --nthreads 1 --nworkers 16``
on each, with the same neuroav installed and the same files under the same paths. Scheduler, workers and this process
exchange pickles: connect to a cluster that you trust, on a network that you trust.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuroav import __version__
from neuroav.checks import fail

WHERE = "--cluster"
START = "Start it with: dask scheduler, and on each machine: dask worker ADDRESS --nthreads 1."
AGAIN = "Start the cluster again, then run the same command: it goes on where it stopped."


def map_cluster(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    address: str,
    needs: Sequence[str | os.PathLike[str]] = (),
    ahead: int = 4,
    timeout_s: float = 10.0,
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(item, function(item))`` in order, computed on a cluster, at most ``ahead`` times its threads early.

    What a worker had when it died is computed again by the others, and every item is yielded exactly once. An item
    that takes down one worker after another is given up: its result is the text of the reason.

    Args:
        function: Importable by the workers.
        items: Its arguments.
        address: Of the scheduler, such as ``tcp://10.0.0.1:8786``.
        needs: Folders that every worker must see, under these absolute paths.
        ahead: Items in work or finished early, per thread of the cluster.
        timeout_s: How long the scheduler may take to answer, and a first worker to be there.

    Raises:
        InputError: If dask.distributed is not installed here, nobody answers at ``address``, no worker is there, one
            has another neuroav or does not see a folder, or the scheduler goes away.
    """
    with _connected(address, timeout_s) as client, _losing(address):
        _check_workers(client, address, [str(Path(path).resolve()) for path in needs], timeout_s)
        waiting = iter(items)
        pending: deque[tuple[Any, Any]] = deque()
        while True:
            threads = max(1, sum(client.nthreads().values()))
            while len(pending) < ahead * threads and (item := next(waiting, None)) is not None:
                pending.append((item, client.submit(_call, function, item, pure=False)))
            if not pending:
                return
            item, future = pending.popleft()
            yield item, _result(future)


@contextmanager
def _connected(address: str, timeout_s: float) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        remedy = "Install it here and on every machine: python -m pip install 'neuroav[cluster]'."
        raise fail(WHERE, "the package distributed", "none", remedy) from error
    if address.startswith(("tcp://", "tls://")) and not re.search(r":\d+$", address):
        raise fail(WHERE, "the address of a dask scheduler with its port", repr(address), f"Usually {address}:8786.")
    try:
        client = Client(address, timeout=timeout_s, set_as_default=False)
    except (TimeoutError, OSError, ValueError, TypeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise fail(
            WHERE, f"a dask scheduler that answers at {address!r} within {timeout_s:g} s", text, START
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=timeout_s)


@contextmanager
def _losing(address: str) -> Iterator[None]:
    """Say in one line that the scheduler has gone."""
    from concurrent.futures import CancelledError

    from distributed import TimeoutError as NoAnswer
    from distributed.comm import CommClosedError

    try:
        yield
    except (CancelledError, asyncio.CancelledError, CommClosedError, NoAnswer) as error:
        raise fail(WHERE, f"the scheduler at {address!r} to stay", "a lost connection", AGAIN) from error


def _check_workers(client: Any, address: str, paths: list[str], timeout_s: float) -> None:
    from distributed import TimeoutError as NoAnswer

    try:
        client.wait_for_workers(1, timeout=timeout_s)
    except NoAnswer as error:
        what = f"a worker at {address!r} within {timeout_s:g} s"
        raise fail(WHERE, what, "none", f"Start one: dask worker {address} --nthreads 1.") from error
    try:
        found = client.run(_look, paths)
    except ImportError as error:
        raise fail(
            WHERE, f"workers with neuroav {__version__}", f"one without: {error}", "Install it there."
        ) from error
    for worker, (version, unseen) in sorted(found.items()):
        if version != __version__:
            raise fail(
                WHERE, f"workers with neuroav {__version__}", f"{version} at {worker}", "Install the same there."
            )
        if unseen:
            remedy = "Use a folder that all machines share under one path."
            raise fail(WHERE, "workers that see the folders of this command", f"no {unseen[0]} at {worker}", remedy)


def _look(paths: list[str]) -> tuple[str, list[str]]:
    """On a worker: its neuroav, and which folders it does not see."""
    return __version__, [path for path in paths if not os.path.isdir(path)]


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    """On a worker: one thread per item, as many items at once as the worker has threads."""
    import torch

    torch.set_num_threads(1)
    return function(item)


def _result(future: Any) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return "the worker that took it died, again and again (out of memory, or a fault in the decoder)"
