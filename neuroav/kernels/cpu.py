"""Binds the C++ extension ``neuroav._cpu`` (raw pointers and sizes in, arrays out, no torch headers)."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

INTERFACE = 8  # of csrc/cpu/module.cpp
REBUILD = "the C++ extension was built from other sources: run python setup.py build_ext --inplace, or install again"


def _load() -> tuple[Any, str]:
    if os.environ.get("NEUROAV_KERNELS", "") == "reference":
        return None, "PyTorch reference (NEUROAV_KERNELS=reference)"
    try:
        module = importlib.import_module("neuroav._cpu")
    except ImportError:
        return None, "PyTorch reference (the C++ extension was not built; reinstall with a C++17 compiler on the PATH)"
    if getattr(module, "interface", None) != INTERFACE:  # an editable install whose sources have moved on
        warnings.warn(f"neuroav runs on its PyTorch reference, as {REBUILD}", stacklevel=2)
        return None, f"PyTorch reference ({REBUILD})"
    return module, f"C++ extension, {module.build_info()}, events in {module.events_simd()} code"


module, _description = _load()


def describe() -> str:
    """Say whether the C++ extension is in use, or why not."""
    return _description


def available() -> bool:
    """True when the C++ extension is in use."""
    return module is not None


def missing() -> bool:
    """True when the C++ extension is not in use although nobody asked for the reference."""
    return not available() and os.environ.get("NEUROAV_KERNELS", "") != "reference"
