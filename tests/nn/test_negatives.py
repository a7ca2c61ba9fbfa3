"""Negatives as rows of one embedding, or embedded on their own: counted passes, equal numbers without randomness."""

import torch
from torch import nn

from neuroav.nn.negatives import OnePass, Trio, TwoPasses, rows

CLIPS = Trio(*torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)))
NEGATIVES = torch.tensor([2, 3, 0, 2])


def test_rows_keep_the_kind_and_take_from_each():
    found = rows(CLIPS, NEGATIVES)
    assert isinstance(found, Trio)
    for ours, whole in zip(found, CLIPS, strict=True):
        assert [row.tolist() for row in ours] == [whole[i].tolist() for i in (2, 3, 0, 2)]


def test_both_ways_embed_the_same_and_pass_the_network_once_or_twice():
    network, seen = nn.Linear(5, 2), []

    def embed(clips):
        seen.append(clips.audio.shape[0])
        return Trio(*(network(x) for x in clips))

    (near, far), (near_too, far_too) = (way.both(embed, CLIPS, NEGATIVES) for way in (OnePass(), TwoPasses()))
    assert seen == [4, 4, 4]
    torch.testing.assert_close(near, near_too)
    torch.testing.assert_close(far, far_too)
    torch.testing.assert_close(far.video[0], near.video[2])
