"""Modules that no import reaches: scripts, experiments, and tests whose cases other tests use."""

import importlib.util
import sys


def load(path):
    """Run a file as a module named after it; others, and dataclasses in it, find it by that name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
