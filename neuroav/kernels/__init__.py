"""The only place that names compiled code: ops registered with ``torch.library``, one implementation per device."""

from __future__ import annotations


def describe() -> str:
    """Say, line by line, which implementation each device uses here."""
    from neuroav.kernels import cpu, cuda

    return f"cpu kernels: {cpu.describe()}\ncuda kernels: {cuda.describe()}"
