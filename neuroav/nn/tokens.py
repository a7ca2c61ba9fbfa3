"""Audio and video as tokens of one width that know their modality and their time, and the sizes of what reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range, fail
from neuroav.nn.encoder import FourierTime, TokenLayer
from neuroav.nn.project import MLP


@dataclass(frozen=True)
class PublishedSteps:
    """Steps as [tcaf] and [sacma] describe them."""

    second_pass: ClassVar[bool] = False

    def inputs(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(T, B, D)`` as they come, standardised by the data."""
        return audio, video

    def counted(self, valid: Tensor) -> Tensor | None:
        """Steps ``(T, B)`` that batch normalisation counts: those that are ``valid (T, B)``."""
        return valid

    def test_times(self, t_s: Tensor) -> Tensor:
        """Times ``(T, B)`` at evaluation: those in seconds, ``t_s (T, B)``."""
        return t_s


@dataclass(frozen=True)
class ReleasedSteps:
    """What the released code of [tcaf] and [sacma] does to raw features (``Experiment(inputs=AsStored())``).

    Attributes:
        second_pass: whether each training step ends with another embedding of the batch in training mode.
    """

    second_pass: bool = True

    def inputs(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """Audio over 255; each video feature divided by its L2 norm over *time*; ``(T, B, D)`` each."""
        return audio / 255, F.normalize(video, dim=0)

    def counted(self, valid: Tensor) -> Tensor | None:
        """Count every step, padding included."""
        return None

    def test_times(self, t_s: Tensor) -> Tensor:
        """Return the number of the step ``(T, B)``, whatever its length."""
        return torch.arange(len(t_s), device=t_s.device, dtype=t_s.dtype)[:, None].expand_as(t_s)


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """Sizes and dropouts of tokens and layers; defaults are those of UCF-GZSL in section 4.1 of [tcaf].

    Attributes:
        dim: width of a token.
        encoder_hidden: hidden width of the two encoders.
        position: width of the embedding of modality and time.
        frequency_std: of the Fourier features, in Hz (released; the paper gives none).
        layers: number of transformer layers.
        heads: attention heads.
        head_dim: width of a head.
        feed_forward: hidden width of the feed-forward blocks.
        dropout: in the transformer.
        dropout_position: after the position encoder.
        dropout_encoder: in the encoders.
    """

    dim: int = 300
    encoder_hidden: int = 512
    position: int = 64
    frequency_std: float = 10.0
    layers: int = 6
    heads: int = 8
    head_dim: int = 64
    feed_forward: int = 128
    dropout: float = 0.3
    dropout_position: float = 0.2
    dropout_encoder: float = 0.3

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("dim", "encoder_hidden", "layers", "heads", "head_dim", "feed_forward"):
            check_range(where, name, getattr(self, name), 1)
        for name in ("dropout", "dropout_position", "dropout_encoder"):
            check_range(where, name, getattr(self, name), 0, 1)
        check_range(where, "frequency_std", self.frequency_std, 0)
        if self.position < 2 or self.position % 2:
            raise fail(where, "position to be even and at least 2", str(self.position))

    def make_layers(self) -> list[TokenLayer]:
        """As many layers as there are to be."""
        sizes = (self.dim, self.heads, self.head_dim, self.feed_forward, self.dropout)
        return [TokenLayer(*sizes) for _ in range(self.layers)]


class PositionEncoder(nn.Module):
    """Tokens of one modality from encoded steps and their times.

    Implements Eq. (2) of [tcaf]. Differs from the paper: nothing. The released code also adds a learnt vector at
    padded steps, which attention never reads; it is left out.
    """

    def __init__(self, config: TokensConfig):
        super().__init__()
        self.modality = nn.Parameter(torch.randn(config.position))
        self.linear = nn.Linear(config.dim + config.position, config.dim)
        self.dropout = nn.Dropout(config.dropout_position)

    def forward(self, encoded: Tensor, time: Tensor) -> Tensor:
        """``(T, B, D)`` from ``encoded (T, B, D)`` and embedded ``time (T, B, D_position)``."""
        return self.dropout(self.linear(torch.cat([encoded, self.modality + time], -1)))


class ClipTokens(nn.Module):
    """Tokens of each modality: an encoder and a position of its own, one embedding of time for all.

    Implements Eq. (1)-(2) of [tcaf]. Differs from the paper: nothing.

    Args:
        widths: of the features, by modality.
        config: sizes and dropouts.
    """

    def __init__(self, widths: dict[str, int], config: TokensConfig):
        super().__init__()
        self.dim, drop = config.dim, config.dropout_encoder
        encoders = {name: MLP(width, config.encoder_hidden, config.dim, dropout=drop) for name, width in widths.items()}
        self.encoder = nn.ModuleDict(encoders)
        self.time = FourierTime(config.position, config.frequency_std)
        self.position = nn.ModuleDict({name: PositionEncoder(config) for name in widths})

    def forward(
        self, modality: str, values: Tensor, t_s: Tensor, valid: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(T, B, D)`` and which of them are valid ``(T, B)``; none of a modality that ``widths`` lacks.

        Args:
            modality: its name in ``widths``.
            values: ``(T, B, N)`` features.
            t_s: ``(T, B)`` times in seconds.
            valid: ``(T, B)`` bool.
            counted: ``(T, B)`` bool, the steps that batch normalisation counts; ``None``: all.
        """
        if modality not in self.encoder:
            return values.new_empty(0, values.shape[1], self.dim), valid[:0]
        encoded = self.encoder[modality](values, counted, valid)
        return self.position[modality](encoded, self.time(t_s)), valid
