"""What a benchmark ran on: names, versions, and how fast memory is copied there."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neuroav.processes import num_cores

COPIED = 1 << 28  # bytes: well past any cache


def machine() -> dict[str, Any]:
    """Return the ``machine`` block of a benchmark's JSON: processor, memory, load, versions, commit, time.

    Example:
        >>> sorted(machine())[:4]
        ['commit', 'cores', 'cpu', 'cpu_kernels']
    """
    from neuroav.run import versions

    return {
        "cpu": _processor(),
        "cores": num_cores(),
        "memory_bytes": _memory_bytes(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def memory_copy(size: int = COPIED) -> Callable[[], int]:
    """Return a function that copies so many bytes and returns the bytes moved, read and write counted apart."""
    import torch

    source, target = torch.ones(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)

    def run() -> int:
        target.copy_(source)
        return 2 * size

    return run


def forget_peak() -> None:
    """Let the peak of :func:`resident_bytes` start from now; nothing happens where the system has no such thing."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident_bytes(peak: bool = True) -> int | None:
    """Return the resident size of this process, its peak or now; ``None`` where the system doesn't say.

    ``VmHWM`` rather than ``getrusage``: on Linux the latter starts from the size of the process that started this one.
    """
    field = "VmHWM:" if peak else "VmRSS:"
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if not peak or platform.system() == "Windows":
        return None
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if platform.system() == "Darwin" else size * 1024
