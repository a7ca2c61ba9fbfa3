"""Byte planes: Python's own ``int.to_bytes``, every implementation, every size."""

import numpy as np
import pytest

from neuroav.kernels import cpu
from neuroav.kernels.planes import byte_planes


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5, 4096, 4101])
@pytest.mark.parametrize("dtype", ["u1", "i2", "<u4", "<i8"])
def test_planes_are_the_bytes_of_the_values(dtype, count, compiled, monkeypatch):
    if compiled and not cpu.available():
        pytest.skip("the C++ extension is not in use")
    monkeypatch.setattr(cpu, "available", lambda: compiled)
    most = min(np.iinfo(dtype).max, 1 << 40)
    values = np.random.default_rng(count).integers(9, most, 2 * count, endpoint=True).astype(dtype)[::2]
    for offset in (0, 9):
        whole = np.frombuffer(b"".join((int(v) - offset).to_bytes(8, "little") for v in values), np.uint8)
        for width in (1, values.dtype.itemsize, 8):
            assert np.array_equal(byte_planes(values, width, offset), whole.reshape(-1, 8).T[:width])
