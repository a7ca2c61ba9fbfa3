"""The Perceiver's latents against dense attention, what they cost, and whether it learns."""

import dataclasses
import math

import pytest
import torch

from neuroav.baselines.perceiver import Perceiver, PerceiverConfig
from neuroav.checks import InputError
from neuroav.data.types import Batch, Classes, DataSpec, Sequence
from neuroav.train.seed import seed_torch

SPEC = DataSpec(audio_dim=5, video_dim=6, text_dim=7)
SMALL = PerceiverConfig(
    dim=10, encoder_hidden=8, hidden=8, shared=6, position=4, layers=3, heads=2, head_dim=3, feed_forward=9, latents=4
)


def ragged_batch():
    """Three clips of different lengths, two classes."""
    generator = torch.Generator().manual_seed(0)

    def sequence(width, lengths):
        valid = torch.arange(max(lengths))[:, None] < torch.tensor(lengths)
        values = torch.randn(*valid.shape, width, generator=generator) * valid[..., None]
        return Sequence(values, torch.arange(len(valid))[:, None].expand(valid.shape) * 0.5, valid)

    text = torch.randn(2, 7, generator=generator)
    label = torch.tensor([1, 0, 1])
    classes = Classes(torch.arange(2), text)
    return Batch(sequence(5, [4, 1, 3]), sequence(6, [2, 6, 1]), None, label, text[label], classes)


def attend(layer, latents, memory):
    """One layer of one clip: softmax over every pair, a head at a time."""
    x, y = layer.norm(latents), layer.norm(memory)
    heads = []
    for query, key, value in zip(
        *(w(z).chunk(layer.heads, -1) for w, z in ((layer.query, x), (layer.key, y), (layer.value, y)))
    ):
        heads.append((query @ key.t() / math.sqrt(query.shape[-1])).softmax(-1) @ value)
    latents = latents + layer.output(torch.cat(heads, -1))
    return latents + layer.feed_forward(layer.norm(latents))


def test_latents_read_the_steps_and_then_each_other_in_turn():
    seed_torch(0)
    model, batch = Perceiver(SPEC, SMALL).eval(), ragged_batch()
    with torch.no_grad():
        found = model.gather(batch)
        for b in range(3):
            steps = []
            for name in ("audio", "video"):
                sequence = getattr(batch, name)
                n = int(sequence.valid[:, b].sum())
                one = slice(b, b + 1)
                tokens, _ = model.tokens(
                    name, sequence.values[:n, one], sequence.t_s[:n, one], sequence.valid[:n, one], None
                )
                steps.append(tokens[:, 0])
            latents, steps = model.latents, torch.cat(steps)
            for i, layer in enumerate(model.layers):
                latents = attend(layer, latents, latents if i == 1 else steps)
            torch.testing.assert_close(found[b], latents.mean(0))


def test_its_layers_are_as_large_as_those_of_tcaf():
    """Latents in place of a class token, and nothing else (section 4.2)."""
    from neuroav.baselines.tcaf import TCAF, TCAFConfig

    spec = DataSpec(audio_dim=128, video_dim=4096, text_dim=300)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (Perceiver(spec), TCAF(spec, TCAFConfig()))]
    assert sizes[0] - sizes[1] == 63 * 300


def test_it_learns_what_shuffled_labels_do_not_teach(right_share):
    config = dataclasses.replace(SMALL, dim=32, encoder_hidden=32, hidden=32, head_dim=16, feed_forward=32, dropout=0.1)

    def make(spec):
        return Perceiver(spec, config)

    assert right_share(make) > 0.5  # chance is 1/8
    assert right_share(make, shuffled=True) < 0.3


def test_what_it_needs_is_named():
    batch = dataclasses.replace(ragged_batch(), classes=None)
    with pytest.raises(InputError, match=r"Perceiver.loss: expected a batch with classes, got None"):
        Perceiver(SPEC, SMALL).loss(batch, torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match=r"PerceiverConfig: expected latents in \[1, inf\], got 0"):
        PerceiverConfig(latents=0)
