"""Work on many files in processes of their own: in order, ahead by a little, and whatever becomes of one of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neuroav import interrupts


def map_processes(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int = 4, preload: Sequence[str] = ()
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(item, function(item))`` in order, computed by ``workers`` processes, at most ``ahead * workers`` early.

    A worker that dies takes none of the other items with it: the item is tried again alone, and if that process dies
    too its result is the text of the reason. Modules in ``preload`` are imported once for all workers. The caller's
    script is not: ``function`` and the items are those of modules, so a script needs no ``__main__`` guard.
    """
    waiting = iter(items)
    pending: deque[tuple[Any, Future]] = deque()
    pool = process_pool(workers, preload)
    try:
        while True:
            while len(pending) < ahead * workers and (item := next(waiting, None)) is not None:
                pending.append((item, _submit(pool, function, item)))
            if not pending:
                return
            item, future = pending.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                pool.shutdown()
                result = _alone(function, item, preload)
                pool = process_pool(workers, preload)
                pending = deque((i, f if _finished(f) else _submit(pool, function, i)) for i, f in pending)
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)


def took_lock(file: IO[Any], path: Path) -> bool:
    """Whether the open ``file`` at ``path`` is now under this process's exclusive lock (POSIX; elsewhere always)."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino  # else left as it was opened
    except ImportError:
        return True
    except OSError:
        return False


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_pool(workers: int, preload: Sequence[str] = ()) -> ProcessPoolExecutor:
    """Return a pool of single-threaded processes that end with this one and leave interrupts to it.

    Modules in ``preload`` are imported once for all workers, by a process that does not look for them in the working
    directory: a folder ``neuroav`` or a file ``torch.py`` that lies there is never taken for the installed package.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        context.set_forkserver_preload(list(preload))
        resource_tracker.ensure_running()  # which would undo what is blocked below
        with _safe_path(), _no_ctrl_c():
            forkserver.ensure_running()
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Have interpreters that are started meanwhile leave the working directory out of ``sys.path``."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """Have processes that are started meanwhile leave Ctrl-C to this one from their first instant."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_main_script() -> Iterator[None]:
    """Have processes that are started meanwhile leave out the script that runs here, which would run once more."""
    main = sys.modules["__main__"]
    before: dict[str, Any] = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).update(dict.fromkeys(before))
    try:
        yield
    finally:
        vars(main).update(before)


def _start_worker() -> None:
    """One thread per process; an interrupt is the parent's business; no worker outlives its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _submit(pool: ProcessPoolExecutor, function: Callable[[Any], Any], item: Any) -> Future:
    try:
        with _no_main_script(), interrupts.held():  # the first call starts the processes
            return pool.submit(function, item)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _finished(future: Future) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _alone(function: Callable[[Any], Any], item: Any, preload: Sequence[str]) -> Any:
    with process_pool(1, preload) as pool:
        try:
            return _submit(pool, function, item).result()
        except BrokenProcessPool:
            return "the process that decoded it died (out of memory, or a fault in the decoder)"
