"""Interrupts wait where they are held, and none is lost."""

import signal
import threading

import pytest

from neuroav import interrupts
from neuroav.progress import Progress


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_comes_at_the_end_and_handlers_are_as_before(number):
    came, done = [], []
    before = signal.signal(number, lambda one, frame: came.append(one))
    try:
        with interrupts.held():
            signal.raise_signal(number)
            done.append(list(came))
        assert (done, came) == ([[]], [number])
        signal.raise_signal(number)
        assert came == [number] * 2
    finally:
        signal.signal(number, before)


def test_a_thread_has_no_interrupts_to_hold():
    def work():
        with interrupts.held():
            done.append(signal.getsignal(signal.SIGINT))

    done = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]


class Careless:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_destructor_ends_the_work_a_little_later(interruptible):
    with Progress("work", quiet=True) as progress:
        progress.update()
        Careless()  # Python says that it ignores what is raised there
        with pytest.raises(KeyboardInterrupt):
            progress.update()
        progress.update()


def test_an_interrupt_that_is_not_lost_comes_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupts.never_lost():
        signal.raise_signal(signal.SIGTERM)
    interrupts.raise_dropped()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.default_int_handler])
def test_an_ignored_interrupt_stays_ignored(before):
    outside = signal.signal(signal.SIGINT, before)
    try:
        with interrupts.never_lost():
            assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) == (before is signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, outside)
