"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from neuroav import interrupts


class Progress:
    """Count work units on stderr; ``total=None`` when the end is unknown.

    Units that an earlier, stopped run has ``done`` count towards the total, and not towards the speed.

    Example:
        >>> with Progress("clips", total=2, unit="clip", quiet=True) as bar:
        ...     bar.update(2, events=10)
        >>> bar.done
        2
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        unit: str = "it",
        every_s: float = 5.0,
        quiet: bool = False,
        done: int = 0,
    ):
        self.title, self.total, self.unit, self.every_s, self.quiet = title, total, unit, every_s, quiet
        self.done = self._before = done
        self._bar = None
        self._start = self._last = time.monotonic()
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=title, unit=unit, dynamic_ncols=True, file=sys.stderr, initial=done)

    def update(self, n: int = 1, **figures: float | str) -> None:
        """Add ``n`` finished units; ``figures`` are shown beside the count. Raises an interrupt that got lost."""
        interrupts.raise_dropped()
        self.done += n
        if self._bar is not None:
            if figures:
                self._bar.set_postfix(figures, refresh=False)
            self._bar.update(n)
        elif not self.quiet and time.monotonic() - self._last >= self.every_s:
            self._line(figures)

    def _line(self, figures: dict[str, float | str]) -> None:
        self._last = time.monotonic()
        elapsed = self._last - self._start
        of = f"/{self.total}" if self.total is not None else ""
        extra = "".join(f", {k} {v:.4g}" if isinstance(v, float) else f", {k} {v}" for k, v in figures.items())
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        to_do = (self.total or 0) - self.done
        left = f", {to_do / rate:.0f} s left" if rate > 0 and to_do > 0 else ""
        sys.stderr.write(f"{self.title}: {self.done}{of} {self.unit} ({rate:.3g}/s, {elapsed:.0f} s{left}{extra})\n")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif not self.quiet and kind is None:
            self._line({})
