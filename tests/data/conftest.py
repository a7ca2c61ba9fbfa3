"""Published feature archives, written by a helper that tests import by path."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published():
    """The module ``tests/helpers/published.py``."""
    path = Path(__file__).resolve().parents[1] / "helpers" / "published.py"
    spec = importlib.util.spec_from_file_location("published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
