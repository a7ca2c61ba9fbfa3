"""A training as it is seen: on a terminal a panel that stays in place, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from neuroav.train.log import Epoch, Watch

TERMINAL_S, LINE_S = 0.5, 10.0


class Display(Watch):
    """Counts batches and remembers what was told; shows it in plain lines on stderr.

    Args:
        title: what is trained.
        every_s: least time between two showings within an epoch, in seconds.
    """

    def __init__(self, title: str, every_s: float = LINE_S):
        self.title, self.every_s = title, every_s
        self.number, self.epochs, self.batches = 0, 0, 0
        self.finished, self.in_epoch = 0, 0
        self.terms: dict[str, float] = {}
        self.last: Epoch | None = None
        self.best_hm = 0.0
        self._shown_at = time.monotonic()
        self._first: tuple[float, int] | None = None

    @property
    def done(self) -> int:
        """Batches of this stage that are done."""
        return self.finished * self.batches + self.in_epoch

    def stage(self, number: int, epochs: int, batches: int) -> None:
        """Begin anew."""
        self.number, self.epochs, self.batches = number, epochs, batches
        self.finished, self.in_epoch, self.best_hm, self.last, self._first = 0, 0, 0.0, None, None

    def batch(self, done: int, terms: Mapping[str, Tensor]) -> None:
        """Show where the epoch is, if it is time to."""
        self.in_epoch = done
        now = time.monotonic()
        if self._first is None:
            self._first = now, self.done
        if now - self._shown_at >= self.every_s:
            self.terms = {name: float(value) for name, value in terms.items()}
            self._shown_at = now
            self.show()

    def epoch(self, epoch: Epoch) -> None:
        """Show the figures of an epoch; those before an interruption are only counted."""
        self.finished, self.in_epoch = epoch.index + 1, 0
        self.terms, self.last, self.best_hm = epoch.terms, epoch, max(self.best_hm, epoch.hm)
        now = time.monotonic()
        if self._first is not None and (now - self._shown_at >= self.every_s or self.finished == self.epochs):
            self._shown_at = now
            self.show()

    def seconds_left(self) -> float | None:
        """Time that the rest of the stage takes at the speed so far; ``None`` before that is known."""
        if self._first is None or self.done <= self._first[1]:
            return None
        begin, before = self._first
        return (time.monotonic() - begin) / (self.done - before) * (self.epochs * self.batches - self.done)

    def facts(self) -> dict[str, str]:
        """What is shown, by name, in order."""
        place = f"{self.finished}/{self.epochs}" + (f" and {self.in_epoch}/{self.batches}" if self.in_epoch else "")
        found = {"stage": str(self.number), "epoch": place}
        if self.terms:
            each = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
            found["loss"] = f"{sum(self.terms.values()):.4g} ({each})"
        if self.last is not None:
            found["validation HM"] = f"{100 * self.last.hm:.1f} % (best {100 * self.best_hm:.1f} %)"
            rates = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in self.last.rates.items())
            found |= {"spike rates": rates} if rates else {}
            found["learning rate"] = f"{self.last.lr:.3g}"
        left = self.seconds_left()
        if left is not None:
            minutes, seconds = divmod(round(left), 60)
            found["time left"] = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        return found

    def show(self) -> None:
        """Write the line."""
        sys.stderr.write(f"{self.title}: " + "; ".join(f"{key} {value}" for key, value in self.facts().items()) + "\n")
        sys.stderr.flush()


class Panel(Display):
    """The same in a panel that stays in place, with a bar.

    Args:
        title: what is trained.
        console: a ``rich.console.Console`` to draw on.
    """

    def __init__(self, title: str, console: Any):
        super().__init__(title, TERMINAL_S)
        from rich.live import Live

        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self) -> None:
        """Draw the panel again."""
        from rich.panel import Panel as Frame
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for key, value in self.facts().items():
            table.add_row(Text(key, style="bold"), Text(value))
        rows = Table.grid(expand=True)
        rows.add_row(ProgressBar(total=self.epochs * self.batches, completed=self.done))
        rows.add_row(table)
        self._live.update(Frame(rows, title=Text(self.title)), refresh=True)

    def close(self) -> None:
        """Take the panel away, so that results are printed below what was there before."""
        self._live.stop()


@contextmanager
def watching(title: str, quiet: bool = False) -> Iterator[Watch]:
    """Show a training on stderr: a panel on a terminal, lines elsewhere, nothing if ``quiet``."""
    if quiet:
        yield Watch()
        return
    watch: Watch = Display(title)
    if sys.stderr.isatty():
        from rich.console import Console

        watch = Panel(title, Console(stderr=True))
    try:
        yield watch
    finally:
        watch.close()
