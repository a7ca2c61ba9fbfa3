"""Seeds: one number fixes every draw of a run."""

from __future__ import annotations

import numpy as np
import torch


def seed_torch(*key: int) -> None:
    """Seed torch's global generator from a key such as ``(seed, stage)``."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def generator(*key: int) -> np.random.Generator:
    """A numpy generator that depends on ``key`` alone, so that a draw can be made again at any time.

    Example:
        >>> bool(generator(1, 2).random() == generator(1, 2).random())
        True
    """
    return np.random.default_rng(list(key))
