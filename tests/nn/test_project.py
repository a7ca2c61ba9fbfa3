"""Batch normalisation over ragged sequences against PyTorch's own on the rows that count; small MLPs."""

import pytest
import torch
from torch import nn

from neuroav.nn.project import MLP, StepBatchNorm

T, B, N = 5, 4, 3


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both():
    """The layer and PyTorch's, with the same weights that are not the initial ones."""
    ours, theirs = StepBatchNorm(N), nn.BatchNorm1d(N)
    with torch.no_grad():
        for module in (ours, theirs):
            module.weight.copy_(rand(N, seed=1))
            module.bias.copy_(rand(N, seed=2))
            module.running_mean.copy_(rand(N, seed=3))
            module.running_var.copy_(rand(N, seed=4).abs() + 0.5)
    return ours, theirs


VALID = torch.arange(T).unsqueeze(1) < torch.tensor([5, 3, 1, 4])


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_equals_batch_norm_of_the_valid_rows(mode):
    ours, theirs = both()
    getattr(ours, mode)()
    getattr(theirs, mode)()
    x, y = (rand(T, B, N, seed=5).requires_grad_() for _ in range(2))
    out, expected = ours(x, VALID)[VALID], theirs(y[VALID])
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert int(ours.num_batches_tracked) == int(theirs.num_batches_tracked)
    weight = rand(*out.shape, seed=6)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
    assert not x.grad[~VALID].any()


def test_padding_changes_nothing_and_stays_finite():
    x, changed = rand(T, B, N), rand(T, B, N)
    changed[~VALID] = 1e6
    first, second = both()[0], both()[0]
    a, b = first(x, VALID), second(changed, VALID)
    assert torch.equal(a[VALID], b[VALID])
    assert torch.equal(first.running_var, second.running_var)
    assert torch.isfinite(b).all()


def test_without_a_mask_every_row_counts():
    ours, theirs = both()
    x = rand(T, B, N)
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).reshape(T, B, N))


def test_a_training_batch_of_one_row_uses_the_running_statistics():
    ours, theirs = both()
    row, before = rand(1, 1, N), ours.running_mean.clone()
    torch.testing.assert_close(ours.train()(row), theirs.eval()(row[0])[None])
    only = torch.zeros(T, B, dtype=torch.bool)
    only[2, 1] = True
    x = rand(T, B, N)
    torch.testing.assert_close(ours(x, only)[2, 1], theirs(x[2, 1:2])[0])
    assert torch.equal(ours.running_mean, before)


def test_mlp_is_linear_norm_relu_and_may_end_linearly():
    x = rand(T, B, N)
    mlp = MLP(N, 6, 2, dropout=0.5, linear_output=True).eval()
    assert len(mlp.norm) == 1
    hidden = torch.relu(mlp.norm[0](mlp.linear[0](x)))
    torch.testing.assert_close(mlp(x), mlp.linear[1](hidden))
    assert (MLP(N, 6, 2, dropout=0.5).eval()(x) >= 0).all()


def test_rows_of_zeros_are_not_multiplied_and_change_nothing():
    whole, skipping = (MLP(N, 6, 2, dropout=0.0) for _ in range(2))
    skipping.load_state_dict(whole.state_dict())
    x = rand(T, B, N) * VALID[..., None]
    expected, found = whole(x), skipping(x.masked_fill(~VALID[..., None], torch.nan), filled=VALID)
    torch.testing.assert_close(found, expected)
    for out in (expected, found):
        (out * rand(T, B, 2, seed=1)).sum().backward()
    for ours, theirs in zip(skipping.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)
