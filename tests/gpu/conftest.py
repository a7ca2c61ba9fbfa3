"""What every test on a GPU needs."""

import pytest


@pytest.fixture(autouse=True)
def _cupy():
    pytest.importorskip("cupy", reason="CuPy is not installed")
