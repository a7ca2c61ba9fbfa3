"""Multi-head attention over time-first sequences with a validity mask."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import fail


class Attention(nn.Module):
    """Scaled dot-product attention of ``query`` on ``memory``, with input and output projections.

    Self attention is the call with one sequence twice. Masked keys get no weight, so padding never changes a result.

    Args:
        dim: embedding width ``D``.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        dropout: probability on the attention weights in training.
        head_dim: width of a head; ``dim / heads`` unless given.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, head_dim: int | None = None):
        super().__init__()
        if head_dim is None and dim % heads:
            raise fail("Attention", f"dim divisible by heads={heads}", f"dim={dim}")
        inner = dim if head_dim is None else heads * head_dim
        self.heads, self.p_drop = heads, dropout
        self.query = nn.Linear(dim, inner)
        self.key_value = nn.Linear(dim, 2 * inner)
        self.output = nn.Linear(inner, dim)

    def forward(
        self, query: Tensor, memory: Tensor, memory_valid: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from ``query (L, B, D)`` to ``memory (M, B, D)``; ``(L, B, D)`` out.

        Args:
            query: ``(L, B, D)``.
            memory: ``(M, B, D)``.
            memory_valid: ``(M, B)`` bool; not together with ``causal``.
            causal: whether query ``i`` sees only keys up to ``i``, so that padding at the end needs no mask.
        """
        key, value = self.key_value(memory).chunk(2, dim=-1)
        mask = None if memory_valid is None else memory_valid.t()[:, None, None, :]
        attended = F.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(key),
            self._split(value),
            attn_mask=mask,
            is_causal=causal,
            dropout_p=self.p_drop if self.training else 0.0,
        )
        return self.output(attended.permute(2, 0, 1, 3).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """``(L, B, D) -> (B, heads, L, D / heads)``."""
        return x.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3)


class FeedForward(nn.Module):
    """``MLP(LN(x)) + x``: the residual block that [mdft] prints after each attention (Eq. 2, 10, 11).

    Differs from the paper: the hidden width is not given there; it equals the input width here.
    """

    def __init__(self, dim: int, dropout: float = 0.0):
        super().__init__()
        self.block = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        return self.block(x) + x


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid steps: ``x (T, B, D)``, ``valid (T, B)`` bool; returns ``(B, D)``."""
    weight = valid.to(x.dtype).unsqueeze(-1)
    return (x * weight).sum(0) / weight.sum(0).clamp_min(1.0)
