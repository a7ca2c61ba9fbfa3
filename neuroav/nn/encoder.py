"""Transformers over two sequences and one class token, with a choice of who attends to whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Spans = list[tuple[slice, slice]]


class FourierTime(nn.Module):
    """A linear map of random Fourier features of a time in seconds.

    Args:
        width: of the embedding; even.
        std: standard deviation of the frequencies in Hz; the time enters twice, each with frequencies of its own.
    """

    frequency: Tensor

    def __init__(self, width: int, std: float):
        super().__init__()
        self.register_buffer("frequency", torch.randn(2, width // 2) * std)
        self.linear = nn.Linear(width, width)

    def forward(self, t_s: Tensor) -> Tensor:
        """Embed ``t_s (...)`` in seconds: ``(..., D)``."""
        time = t_s.unsqueeze(-1).to(self.frequency.dtype)
        angle = 2 * math.pi * (time * self.frequency[0] + time * self.frequency[1])  # no product that autocast rounds
        return self.linear(torch.cat([angle.sin(), angle.cos()], -1))


@dataclass(frozen=True)
class FullAttention:
    """Every token attends to every other."""

    def spans(self, audio: int, tokens: int) -> Spans:
        """Ranges of queries and of the keys they see, of tokens in the order audio, class token, video.

        Args:
            audio: number of audio tokens, which is the place of the class token.
            tokens: number of all tokens.
        """
        return [(slice(0, tokens), slice(0, tokens))]


@dataclass(frozen=True)
class CrossAttention:
    """Audio attends to video and video to audio, not to themselves; all attend to the class token, and it to all."""

    def spans(self, audio: int, tokens: int) -> Spans:
        """See :meth:`FullAttention.spans`."""
        token = slice(audio, audio + 1)
        heard, seen = (slice(0, audio), slice(audio, tokens)), (slice(audio + 1, tokens), slice(0, audio + 1))
        return [heard, (token, slice(0, tokens)), seen]


@dataclass(frozen=True)
class SelfAttention:
    """Audio attends to audio and video to video; all attend to the class token, and it to all."""

    def spans(self, audio: int, tokens: int) -> Spans:
        """See :meth:`FullAttention.spans`."""
        token = slice(audio, audio + 1)
        heard, seen = (slice(0, audio), slice(0, audio + 1)), (slice(audio + 1, tokens), slice(audio, tokens))
        return [heard, (token, slice(0, tokens)), seen]


class Places(NamedTuple):
    """Where the tokens that are no padding lie among the ``L`` of each of ``B`` clips.

    Attributes:
        rows: ``(R,)`` ascending places in ``L B`` rows, those of a step together.
        first: ``(L + 1)`` how many of them lie before each step.
        valid: ``(L, B)`` bool.
    """

    rows: Tensor
    first: list[int]
    valid: Tensor

    @classmethod
    def of(cls, valid: Tensor) -> Places:
        """Find them."""
        counts = valid.sum(1).cumsum(0)
        return cls(valid.reshape(-1).nonzero()[:, 0], [0, *counts.tolist()], valid)

    def among(self, steps: slice) -> slice:
        """Return which of the ``R`` tokens belong to some steps."""
        return slice(self.first[steps.start], self.first[steps.stop])

    def spread(self, packed: Tensor, steps: slice) -> Tensor:
        """``(R', N)`` tokens of some steps, zeros between them: ``(L', B, N)``."""
        size = self.valid.shape[1]
        empty = packed.new_zeros((steps.stop - steps.start) * size, packed.shape[1])
        rows = self.rows[self.among(steps)] - steps.start * size
        return empty.index_copy(0, rows, packed).unflatten(0, (-1, size))

    def pack(self, spread: Tensor, steps: slice) -> Tensor:
        """Undo :meth:`spread`."""
        return spread.flatten(0, 1)[self.rows[self.among(steps)] - steps.start * self.valid.shape[1]]


class TokenLayer(nn.Module):
    """Attention and feed-forward block, both residual, both behind the same layer normalisation.

    Queries that see the same keys are one call of ``scaled_dot_product_attention`` on a view of these keys, with a mask
    of padding only: no matrix of tokens by tokens is kept, and what a pattern closes is not computed. All else is
    computed on tokens that are no padding, packed; clips of unequal length cost what they are long.

    Args:
        dim: width of a token, ``D``.
        heads: number of heads.
        head_dim: width of a head.
        hidden: hidden width of the feed-forward block.
        dropout: probability after each block and within the feed-forward block.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, hidden: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query, self.key, self.value = (nn.Linear(dim, heads * head_dim, bias=False) for _ in range(3))
        self.output = nn.Sequential(nn.Linear(heads * head_dim, dim), nn.Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tensor, places: Places, spans: Spans) -> Tensor:
        """Let the queries of ``spans``, in their order, attend to packed ``tokens (R, D)`` at ``places``."""
        x = self.norm(tokens)
        everywhere = slice(0, len(places.valid))
        key, value = (self._split(places.spread(w(x), everywhere)) for w in (self.key, self.value))
        mask = places.valid.t()[:, None, None, :]
        attended = []
        for queries, keys in spans:
            query = self._split(places.spread(self.query(x[places.among(queries)]), queries))
            mixed = F.scaled_dot_product_attention(query, key[:, :, keys], value[:, :, keys], attn_mask=mask[..., keys])
            attended.append(places.pack(mixed.permute(2, 0, 1, 3).flatten(2), queries))
        residual = torch.cat([tokens[places.among(queries)] for queries, _ in spans])
        residual = residual + self.output(torch.cat(attended))
        return residual + self.feed_forward(self.norm(residual))

    def _split(self, x: Tensor) -> Tensor:
        """``(L, B, heads * D) -> (B, heads, L, D)``."""
        return x.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3)


class TokenTransformer(nn.Module):
    """Layers over audio, class token and video; only the class token leaves the last one, so only it is computed there.

    Args:
        pattern: who attends to whom.
        layers: the layers.
    """

    def __init__(self, pattern: FullAttention | CrossAttention | SelfAttention, layers: list[TokenLayer]):
        super().__init__()
        self.pattern = pattern
        self.layers = nn.ModuleList(layers)

    def forward(self, audio: Tensor, token: Tensor, video: Tensor, audio_valid: Tensor, video_valid: Tensor) -> Tensor:
        """Return the class token ``(B, D)``.

        Args:
            audio: ``(T_audio, B, D)``.
            token: ``(D,)``.
            video: ``(T_video, B, D)``.
            audio_valid: ``(T_audio, B)`` bool.
            video_valid: ``(T_video, B)`` bool.
        """
        size = audio.shape[1]
        valid = torch.cat([audio_valid, audio_valid.new_ones(1, size), video_valid])
        places, everywhere = Places.of(valid), slice(0, len(valid))
        tokens = places.pack(torch.cat([audio, token.expand(1, size, -1), video]), everywhere)
        spans = self.pattern.spans(len(audio), len(valid))
        for layer in self.layers[:-1]:
            tokens = layer(tokens, places, spans)
        return self.layers[-1](tokens, places, [(slice(len(audio), len(audio) + 1), everywhere)])
