"""The luma plane of limited-range video, stretched to full range: a table in NumPy, arithmetic in C++.

Shapes: luma ``(H, W)`` uint8, rows any number of bytes apart; grey ``(H, W)`` uint8, contiguous. Determinism and
parity: exact. Plain arrays, not tensors: frames become tensors after this.
"""

from __future__ import annotations

import numpy as np

from neuroav.kernels import cpu

STRETCH = np.clip(np.floor((np.arange(256) - 16) * 255 / 219 + 0.5), 0, 255).astype(np.uint8)


def stretch_luma(luma: np.ndarray, grey: np.ndarray) -> None:
    """Write ``clip(floor((luma - 16) 255 / 219 + 1/2), 0, 255)`` into ``grey``.

    Example:
        >>> grey = np.empty((1, 3), dtype=np.uint8)
        >>> stretch_luma(np.array([[16, 126, 235]], dtype=np.uint8), grey)
        >>> grey.tolist()
        [[0, 128, 255]]
    """
    height, width = luma.shape
    assert grey.shape == luma.shape
    assert grey.flags.c_contiguous
    if cpu.available() and (width == 1 or luma.strides[1] == 1):
        cpu.module.stretch_luma(luma.ctypes.data, luma.strides[0], height, width, grey.ctypes.data)
    else:
        np.take(STRETCH, luma, out=grey, mode="clip")
