"""Integers as byte planes, the layout of HDF5's filter "shuffle": NumPy, or C++ in one pass over the values.

Shapes: values ``(N,)`` of 1, 2, 4 or 8 bytes; planes ``(width, N)`` uint8. Determinism and parity: exact.
"""

from __future__ import annotations

import numpy as np

from neuroav.kernels import cpu


def byte_planes(values: np.ndarray, width: int, offset: int = 0) -> np.ndarray:
    """Return the ``width`` lowest bytes of ``values - offset``: those of all values, then the next, the lowest first.

    Values of fewer bytes count as unsigned.

    Example:
        >>> byte_planes(np.array([1000, 1256, 1257]), 2, offset=1000).tolist()
        [[0, 0, 1], [0, 1, 1]]
    """
    size = values.dtype.itemsize
    values = np.ascontiguousarray(values).view(f"<u{size}")
    offset %= 1 << (8 * size)
    planes = np.empty((width, len(values)), dtype=np.uint8)
    if cpu.available():
        split = getattr(cpu.module, f"byte_planes_{size}")
        split(values.ctypes.data, len(values), offset, min(width, size), planes.ctypes.data)
    else:
        values = values - values.dtype.type(offset)
        for index in range(min(width, size)):
            planes[index] = (values >> values.dtype.type(8 * index)).astype(np.uint8)
    planes[size:] = 0
    return planes
