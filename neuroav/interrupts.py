"""Ctrl-C and termination: both end the work with a ``KeyboardInterrupt``, held back where need be and never lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_raised: list[int] = []


@contextmanager
def never_lost() -> Iterator[None]:
    """Have Ctrl-C, unless the caller has it ignored, and termination raise a ``KeyboardInterrupt`` that is not lost.

    Python drops whatever is raised while a destructor runs, or an import tidies up, and so a handler's exception. One
    that was dropped is raised again by :func:`raise_dropped`. Does nothing outside the main thread. At the end the
    handlers are as before, and what came is forgotten.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _raise)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, _raise)
    try:
        yield
    finally:
        _put_back(before)
        _raised.clear()


def _put_back(handlers: Mapping[Any, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _raise(number: int, frame: FrameType | None) -> None:
    _raised.append(number)
    raise KeyboardInterrupt


def raise_dropped() -> None:
    """Raise an interrupt that came and was dropped; work that is still going on calls this now and then."""
    if _raised:
        _raised.clear()
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let interrupts wait until the end, where what is half made could not be tidied up."""
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other is ever interrupted
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda one, frame: came.append(one))
    try:
        yield
    finally:
        _put_back(before)
        for one in came:
            signal.raise_signal(one)
