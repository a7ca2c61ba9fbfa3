"""One training step: a batch cut into shards, gradients averaged over them, whichever process computes which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.data.sample import ClipData, class_balanced, in_batch_negatives
from neuroav.data.types import Batch
from neuroav.train.group import Group
from neuroav.train.seed import Streams

Shard = tuple[np.ndarray, np.ndarray]


def draw(labels: np.ndarray, size: int, shards: int, rng: np.random.Generator) -> list[Shard]:
    """Draw a class-balanced batch and cut it: clip indices and, within each shard, a negative for each clip.

    Every process draws all shards, so that all generators stay in step.

    Example:
        >>> [len(clips) for clips, negatives in draw(np.arange(9), 8, 2, np.random.default_rng(0))]
        [4, 4]
    """
    parts = np.split(class_balanced(labels, size, rng), shards)
    return [(clips, in_batch_negatives(labels[clips], rng)) for clips in parts]


class Stepper:
    """Takes steps; what it does depends on the shards and not on the processes that share them.

    Each shard is a batch of its own to the model: normalised by its own statistics, with its own dropout. Gradients
    and new running statistics are the mean over the shards, and each process takes the same step.

    Args:
        model: an :class:`~neuroav.baselines.base.AVModel` on the group's device; ``after_step`` is called where it
            has one.
        optimizer: over its parameters.
        streams: random numbers of each shard.
        group: the processes.
        bfloat16: whether matrix products are taken in bfloat16 (automatic mixed precision).
        clip_norm: longest gradient; 0 leaves gradients as they are.
        compiled: whether the loss is compiled by ``torch.compile``.
    """

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        streams: Streams,
        group: Group,
        *,
        bfloat16: bool = False,
        clip_norm: float = 0.0,
        compiled: bool = False,
    ):
        self.optimizer, self.streams, self.group, self.clip_norm = optimizer, streams, group, clip_norm
        self.loss = torch.compile(model.loss) if compiled else model.loss
        self.after_step: Callable[[Batch, Tensor], None] | None = getattr(model, "after_step", None)
        self.autocast = torch.autocast(group.device.type, torch.bfloat16, enabled=bfloat16)
        self.parameters = list(model.parameters())
        self.running = [b for b in model.buffers() if b.is_floating_point()]
        self.counters = [b for b in model.buffers() if not b.is_floating_point()]

    def step(self, data: ClipData, shards: list[Shard]) -> dict[str, Tensor]:
        """Take one step; returns the mean of each loss term over the shards."""
        self.optimizer.zero_grad(set_to_none=True)
        batches: dict[int, tuple[Batch, Tensor]] = {}
        means: dict[str, Tensor] = {}
        running = [torch.zeros_like(b) for b in self.running]
        for shard in self._apart(running):
            batch = self._load(data, *shards[shard])
            for name, value in self._backward(*batch).items():
                means[name] = means.get(name, 0) + value.detach().float() / len(shards)
            if self.after_step is not None:
                batches[shard] = batch
        self._exchange([*means.values(), *running])
        _copy(running, self.running)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        if self.after_step is not None:
            self._follow(self.after_step, batches)
        return means

    def _load(self, data: ClipData, clips: np.ndarray, negatives: np.ndarray) -> tuple[Batch, Tensor]:
        device = self.group.device
        return data.batch(clips).to(device), torch.from_numpy(negatives).to(device)

    def _apart(self, running: list[Tensor]) -> Iterator[int]:
        """Each of this process's shards, from the same running statistics; adds its share of the new ones."""
        before = [b.clone() for b in self.running + self.counters]
        for shard in self.streams.mine:
            _copy(before, self.running + self.counters)
            with self.streams.of(shard):
                yield shard
            for total, now in zip(running, self.running, strict=True):
                total += now / self.streams.shards

    def _backward(self, batch: Batch, negatives: Tensor) -> dict[str, Tensor]:
        """Add this shard's share to the gradients; returns its loss terms."""
        with self.autocast:
            terms = self.loss(batch, negatives)
        (torch.stack([term.float() for term in terms.values()]).sum() / self.streams.shards).backward()
        return terms

    def _follow(self, after_step: Callable[[Batch, Tensor], None], batches: dict[int, tuple[Batch, Tensor]]) -> None:
        """Let the model do what it does after the weights have moved."""
        running = [torch.zeros_like(b) for b in self.running]
        for shard in self._apart(running):
            with self.autocast:
                after_step(*batches[shard])
        if self.group.size > 1:
            self.group.sum(running)
        _copy(running, self.running)

    def _exchange(self, tensors: list[Tensor]) -> None:
        """Sum the tensors, and the gradients, over all processes; what has a gradient in none of them keeps none."""
        if self.group.size == 1:
            return
        learns = torch.tensor([p.grad is not None for p in self.parameters], device=self.group.device).float()
        self.group.sum([learns])
        learning = [p for p, processes in zip(self.parameters, learns.tolist(), strict=True) if processes]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.group.sum([*tensors, *(p.grad for p in learning if p.grad is not None)])


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    with torch.no_grad():
        for a, b in zip(source, target, strict=True):
            b.copy_(a)
