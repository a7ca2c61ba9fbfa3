"""Binds the C++ extension ``neuroav._cpu`` (raw pointers and sizes in, nothing owned, no torch headers)."""

from __future__ import annotations

import importlib
import os
from typing import Any


def _load() -> tuple[Any, str]:
    if os.environ.get("NEUROAV_KERNELS", "") == "reference":
        return None, "PyTorch reference (NEUROAV_KERNELS=reference)"
    try:
        module = importlib.import_module("neuroav._cpu")
    except ImportError:
        return None, "PyTorch reference (the C++ extension was not built; reinstall with a C++17 compiler on the PATH)"
    return module, f"C++ extension, {module.build_info()}, events in {module.events_simd()} code"


module, _description = _load()


def describe() -> str:
    """Say whether the C++ extension is in use, or why not."""
    return _description


def available() -> bool:
    """True when the C++ extension is in use."""
    return module is not None
