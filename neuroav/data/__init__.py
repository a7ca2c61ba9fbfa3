"""From files to batches: data sets, the feature store, splits, class vectors, sampling."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "synthetic_benchmark":
        return import_module("neuroav.data.synthetic").synthetic_benchmark
    raise AttributeError(f"module 'neuroav.data' has no attribute {name!r}")
