"""Attention against ``torch.nn.MultiheadAttention`` with the same weights; the mean over valid steps."""

import pytest
import torch
from torch import nn

from neuroav.checks import InputError
from neuroav.nn.attention import Attention, FeedForward, masked_mean

L, M, B, D, HEADS = 3, 5, 2, 8, 4
VALID = torch.tensor([[True, True], [True, True], [True, False], [False, True], [False, False]])


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair():
    """Ours, and PyTorch's with our weights copied in."""
    torch.manual_seed(0)
    ours, theirs = Attention(D, HEADS), nn.MultiheadAttention(D, HEADS)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("valid", [None, VALID])
def test_equals_multihead_attention_on_the_valid_keys(valid):
    ours, theirs = pair()
    query, memory = rand(L, B, D, seed=1), rand(M, B, D, seed=2)
    expected, _ = theirs(query, memory, memory, key_padding_mask=None if valid is None else ~valid.t())
    torch.testing.assert_close(ours(query, memory, valid), expected)


def test_masked_keys_have_no_say():
    ours, _ = pair()
    query, memory = rand(L, B, D), rand(M, B, D, seed=2)
    changed = memory.clone()
    changed[~VALID] = 1e4
    assert torch.equal(ours(query, memory, VALID), ours(query, changed, VALID))
    assert not torch.equal(ours(query, memory), ours(query, changed))


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    attention, x = Attention(D, HEADS, dropout=0.5), rand(M, B, D)
    assert not torch.equal(attention.train()(x, x), attention(x, x))
    assert torch.equal(attention.eval()(x, x), attention(x, x))


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="dim divisible by heads=3, got dim=8"):
        Attention(8, 3)


def test_feed_forward_adds_to_its_input():
    block, x = FeedForward(D).eval(), rand(M, B, D)
    with torch.no_grad():
        block.block[-1].weight.zero_()
        block.block[-1].bias.zero_()
    assert torch.equal(block(x), x)


def test_masked_mean_is_the_mean_of_the_valid_steps():
    x = rand(M, B, D)
    expected = torch.stack([x[VALID[:, b], b].mean(0) for b in range(B)])
    torch.testing.assert_close(masked_mean(x, VALID), expected)
    assert torch.equal(masked_mean(x, torch.zeros_like(VALID)), torch.zeros(B, D))


def test_causal_queries_see_the_keys_up_to_their_own():
    ours, theirs = pair()
    query, memory = rand(M, B, D, seed=1), rand(M, B, D, seed=2)
    later = torch.ones(M, M, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(query, memory, causal=True), theirs(query, memory, memory, attn_mask=later)[0])


def test_heads_may_be_wider_than_their_share():
    torch.manual_seed(0)
    attention = Attention(D, 3, head_dim=5).eval()  # 3 does not divide the width
    query, memory = rand(L, B, D, seed=1), rand(M, B, D, seed=2)
    key, value = attention.key_value(memory).chunk(2, -1)
    heads = []
    for part in (slice(5 * h, 5 * h + 5) for h in range(3)):
        scores = torch.einsum("lbd,mbd->blm", attention.query(query)[..., part], key[..., part]) / 5**0.5
        heads.append(torch.einsum("blm,mbd->lbd", scores.softmax(-1), value[..., part]))
    torch.testing.assert_close(attention(query, memory), attention.output(torch.cat(heads, -1)))
