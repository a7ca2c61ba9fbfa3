"""The ops for a batch of clips equal one call per clip, and pass torch's checks."""

import pytest
import torch

from neuroav.kernels import clips, events


def _batch(count=3, num_frames=6, height=11, width=13):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (count, num_frames, height, width), generator=generator).to(torch.uint8)
    edges = torch.arange(num_frames + 1) * torch.tensor([[1], [33_333], [70_000]])
    table = (torch.arange(256) + 1).log().mul(65536).round().int()
    first = table[frames[:, 0].long()]
    return frames, edges, table, 13_000, 15_000, first, first


def test_lists_equal_one_call_per_clip():
    frames, edges, table, on, off, first, _ = arguments = _batch()
    *columns, number, level, last = clips.contrast_events_clips(*arguments)
    parts = zip(*(column.split(number.tolist()) for column in columns), strict=True)
    for clip, part in enumerate(parts):
        alone = events.contrast_events(frames[clip], edges[clip], table, on, off, first[clip], first[clip])
        assert len(alone[0]) > 0
        for got, want in zip((*part, level[clip], last[clip]), alone, strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_bins_equal_one_call_per_clip(kind):
    frames, edges, table, on, off, first, _ = arguments = _batch()
    bin_edges = edges[:, ::2].contiguous()
    values, level, last = clips.contrast_bins_clips(*arguments, kind, bin_edges, 3, 4)
    for clip in range(3):
        alone = (frames[clip], edges[clip], table, on, off, first[clip], first[clip])
        expected = events.contrast_bins(*alone, kind, bin_edges[clip], 3, 4)
        for got, want in zip((values[clip], level[clip], last[clip]), expected, strict=True):
            assert torch.equal(got, want)


def test_ops_pass_torch_checks():
    arguments = _batch()
    torch.library.opcheck(torch.ops.neuroav.contrast_events_clips.default, arguments)
    bins = (1, arguments[1][:, ::2].contiguous(), 3, 4)
    torch.library.opcheck(torch.ops.neuroav.contrast_bins_clips.default, (*arguments, *bins))
