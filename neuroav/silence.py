"""Keep what other packages say of their own out of our output."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed by Python code, logged below critical or warned of."""
    disabled = logging.root.manager.disable
    with (
        open(os.devnull, "w", encoding="utf-8") as sink,
        redirect_stdout(sink),
        redirect_stderr(sink),
        warnings.catch_warnings(),
    ):
        logging.disable(logging.ERROR)
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(disabled)
