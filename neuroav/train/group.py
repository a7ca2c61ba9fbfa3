"""Several processes that train one model, and the device each computes on.

``torchrun --nproc-per-node 2 -m neuroav run ...`` starts them; each finds its place in the variables that torchrun
sets. They exchange sums through ``torch.distributed`` (gloo on a CPU, NCCL on GPUs) and nothing else. An engine such as
Lightning Fabric would wrap the model in DDP, which asks for one call of ``forward`` where our models have ``loss``,
keeps the running statistics of the first process and drops the others', and is one more dependency; what is needed
here is one sum a step, at a place that can be seen, in a part of torch itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroav.checks import check_choice, fail

WHERE = "training in several processes"
CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Group:
    """This process among those that train together; alone by default.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: where it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """``cpu``, or the name of the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over all processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1).to(self.device) for t in tensors])
        with _alive():
            torch.distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def share(self, *values: float) -> tuple[float, ...]:
        """Return what the first process gives here, to the last digit."""
        if self.size == 1:
            return values
        given = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _alive():
            torch.distributed.broadcast(given, 0)
        return tuple(given.tolist())


ALONE = Group()


def is_first() -> bool:
    """Whether this process is the first of those that torchrun started, or alone."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the other processes, if torchrun started some, on ``device`` (``auto`` takes a GPU where there is one).

    Raises:
        InputError: If there is no such device, or fewer GPUs than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield Group(device=chosen)
        return
    with _alive():
        torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(torch.distributed.get_rank(), size, chosen)
    finally:
        torch.distributed.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    check_choice("TrainConfig", "device", name, DEVICES)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return CPU
    if local_rank >= count:
        found = f"{count} of them" if count else "no CUDA device"
        raise fail("TrainConfig", f"a GPU for process {local_rank}", found, "Set train.device=cpu.")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@contextmanager
def _alive() -> Iterator[None]:
    """Turn the trace of a lost connection into one line."""
    try:
        yield
    except RuntimeError as error:
        what = str(error).splitlines()[0]
        raise fail(WHERE, "all processes to go on", what, "The one that failed says why.") from error
