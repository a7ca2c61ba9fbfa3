"""Transformers over two sequences and a class token, with a choice of who attends to whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.nn.attention import masked_mean

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

    def spans(self, audio: int, token: int, video: int) -> Spans:
        """Ranges of queries and of the keys they see, of tokens in the order audio, class token, video.

        Args:
            audio: number of audio tokens.
            token: 1 where there is a class token, else 0.
            video: number of video tokens.
        """
        everywhere = slice(0, audio + token + video)
        return [(everywhere, everywhere)]


@dataclass(frozen=True)
class CrossAttention:
    """Audio attends to video and video to audio, not to themselves; all attend to the class token, and it to all."""

    def spans(self, audio: int, token: int, video: int) -> Spans:
        """See :meth:`FullAttention.spans`."""
        after, end = audio + token, audio + token + video
        return _filled([(0, audio, audio, end), (audio, after, 0, end), (after, end, 0, after)])


@dataclass(frozen=True)
class SelfAttention:
    """Audio attends to audio and video to video; all attend to the class token, and it to all."""

    def spans(self, audio: int, token: int, video: int) -> Spans:
        """See :meth:`FullAttention.spans`."""
        after, end = audio + token, audio + token + video
        return _filled([(0, audio, 0, after), (audio, after, 0, end), (after, end, audio, end)])


Pattern = FullAttention | CrossAttention | SelfAttention


def _filled(bounds: list[tuple[int, int, int, int]]) -> Spans:
    """First and last query, first and last key; those without a query are left out."""
    return [(slice(a, b), slice(c, d)) for a, b, c, d in bounds if a < b]


@dataclass(frozen=True)
class ClassToken:
    """A learnt token that stands between audio and video and gathers the clip."""

    def token(self, dim: int) -> nn.Parameter | None:
        """Make it: ``(D,)``."""
        return nn.Parameter(torch.randn(dim))


@dataclass(frozen=True)
class MeanOfTokens:
    """No class token; the clip is the mean of all that leaves the last layer (upper half of Table 3 of [tcaf])."""

    def token(self, dim: int) -> nn.Parameter | None:
        """There is none."""
        return None


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


def feed_forward(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """Two linear layers with a GELU between, ``(..., D) -> (..., D)``; dropout after each."""
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
    )


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
        self.feed_forward = feed_forward(dim, hidden, dropout)

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
    """Layers over audio, class token and video; one of the two modalities may have no steps.

    Args:
        pattern: who attends to whom.
        layers: the layers.
    """

    def __init__(self, pattern: Pattern, layers: list[TokenLayer]):
        super().__init__()
        self.pattern = pattern
        self.layers = nn.ModuleList(layers)

    def forward(
        self, audio: Tensor, token: Tensor | None, video: Tensor, audio_valid: Tensor, video_valid: Tensor
    ) -> Tensor:
        """Return the class token ``(B, D)``, or without one the mean of all tokens.

        Only the class token leaves the last layer, so only it is computed there.

        Args:
            audio: ``(T_audio, B, D)``.
            token: ``(D,)``, or ``None``.
            video: ``(T_video, B, D)``.
            audio_valid: ``(T_audio, B)`` bool.
            video_valid: ``(T_video, B)`` bool.
        """
        if token is None:
            return masked_mean(*self.tokens(audio, token, video, audio_valid, video_valid))
        tokens, places, spans = self._enter(audio, token, video, audio_valid, video_valid)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, places, spans)
        return self.layers[-1](tokens, places, [(slice(len(audio), len(audio) + 1), slice(0, len(places.valid)))])

    def tokens(
        self, audio: Tensor, token: Tensor | None, video: Tensor, audio_valid: Tensor, video_valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return all tokens of the last layer, ``(L, B, D)`` in the order of :meth:`forward`; and which are valid."""
        tokens, places, spans = self._enter(audio, token, video, audio_valid, video_valid)
        for layer in self.layers:
            tokens = layer(tokens, places, spans)
        return places.spread(tokens, slice(0, len(places.valid))), places.valid

    def _enter(
        self, audio: Tensor, token: Tensor | None, video: Tensor, audio_valid: Tensor, video_valid: Tensor
    ) -> tuple[Tensor, Places, Spans]:
        """Packed tokens, where they are and who attends to whom."""
        size = audio.shape[1]
        gathering = audio.new_empty(0, size, audio.shape[2]) if token is None else token.expand(1, size, -1)
        valid = torch.cat([audio_valid, audio_valid.new_ones(len(gathering), size), video_valid])
        places = Places.of(valid)
        tokens = places.pack(torch.cat([audio, gathering, video]), slice(0, len(valid)))
        return tokens, places, self.pattern.spans(len(audio), len(gathering), len(video))
