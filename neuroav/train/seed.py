"""Seeds: one number fixes every draw of a run, however many processes share the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from neuroav.train.group import Group


def seed_torch(*key: int) -> None:
    """Seed torch's global generators from a key such as ``(seed, stage)``."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def generator(*key: int) -> np.random.Generator:
    """A numpy generator that depends on ``key`` alone, so that a draw can be made again at any time.

    Example:
        >>> bool(generator(1, 2).random() == generator(1, 2).random())
        True
    """
    return np.random.default_rng(list(key))


class Streams:
    """Torch's random numbers, a stream for each shard of a batch, so that it does not matter which process has which.

    Args:
        key: fixes the streams; the first continues that of ``seed_torch(*key)``.
        shards: how many there are.
        group: the processes that share them; this one keeps shards ``rank``, ``rank + size`` ...
    """

    def __init__(self, key: tuple[int, ...], shards: int, group: Group):
        self.group, self.shards = group, shards
        self.mine = range(group.rank, shards, group.size)
        self._states: dict[int, Tensor] = {}
        for shard in self.mine:
            seed_torch(*key, *([shard] if shard else []))
            self._states[shard] = self._now()

    @contextmanager
    def of(self, shard: int) -> Iterator[None]:
        """Draw from this shard's stream."""
        self._set(self._states[shard])
        yield
        self._states[shard] = self._now()

    def state(self) -> Tensor:
        """States ``(shards, bytes)`` uint8 of all streams, gathered from all processes."""
        table = torch.zeros(self.shards, len(self._now()), dtype=torch.uint8)
        for shard, state in self._states.items():
            table[shard] = state
        self.group.sum([table])
        return table

    def restore(self, table: Tensor) -> None:
        """Undo :meth:`state`."""
        if table.shape != (self.shards, len(self._now())):
            raise RuntimeError(f"random states of shape {tuple(table.shape)}, from another device or number of shards")
        self._states = {shard: table[shard].clone() for shard in self.mine}

    def _now(self) -> Tensor:
        state = torch.get_rng_state()
        if self.group.device.type == "cuda":
            state = torch.cat([state, torch.cuda.get_rng_state(self.group.device)])
        return state

    def _set(self, state: Tensor) -> None:
        length = len(torch.get_rng_state())
        torch.set_rng_state(state[:length])
        if self.group.device.type == "cuda":
            torch.cuda.set_rng_state(state[length:], self.group.device)
