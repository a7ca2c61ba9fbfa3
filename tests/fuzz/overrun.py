"""Reads past the end of an array on purpose: under AddressSanitizer this must not come to its end."""

import torch

from neuroav.kernels import cpu

t_us, x, y, p = torch.zeros(8, dtype=torch.int64), *torch.zeros(2, 8, dtype=torch.int16), torch.zeros(8).byte()
edges = torch.tensor([-1, 1])
columns = (column.data_ptr() for column in (t_us, x, y, p))
cpu.module.bin_events(*columns, 64, 1, 1, 0, edges.data_ptr(), len(edges), 1, 1, 1)  # 64 for 8
