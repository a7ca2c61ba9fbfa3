"""MDFT's scene stream: the recurrent joint learning unit (RJLU), Eq. 1-3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuroav.checks import fail
from neuroav.nn.attention import Attention, FeedForward


@dataclass(frozen=True, kw_only=True)
class RJLU:
    """Recurrent joint learning unit: joint knowledge ``h`` read by, and updated from, both modalities at every step.

    Implements Eq. (1)-(3) of [mdft]. Differs from the paper: (1) Eq. 1 prints ``h^t``, which Eq. 3 makes from Eq. 1;
    the previous step is meant. The modality asks, joint knowledge answers. (2) Pooling to one vector leaves attention a
    single key and so a constant; the ``D``-vector is split into ``tokens`` tokens instead (``tokens=1`` is the literal
    form). (3) Concatenation is along tokens and ``S`` is the mean of the token groups, which gives it ``h``'s size.
    (4) ``gate="sigmoid"`` bounds the sum of two attentions that Eq. 3 uses as a share; ``gate="raw"`` is the literal,
    unbounded form. ``h^0`` is learnt and starts at zero.

    Attributes:
        tokens: tokens per vector.
        gate: ``"sigmoid"`` or ``"raw"``.
    """

    tokens: int = 8
    gate: str = "sigmoid"

    def build(self, dim: int, modalities: tuple[str, ...]) -> nn.Module:
        """Make the module of width ``dim`` for the named modalities."""
        if dim % self.tokens:
            raise fail("RJLU", f"a width divisible by tokens={self.tokens}", str(dim))
        if self.gate not in ("sigmoid", "raw"):
            raise fail("RJLU", "gate 'sigmoid' or 'raw'", repr(self.gate))
        return _RJLU(self, dim, modalities)


class _RJLU(nn.Module):
    def __init__(self, config: RJLU, dim: int, modalities: tuple[str, ...]):
        super().__init__()
        self.config, self.width = config, dim // config.tokens
        self.initial = nn.Parameter(torch.zeros(dim))
        self.cross = nn.ModuleDict({m: Attention(self.width, 1) for m in modalities})
        self.joint = Attention(self.width, 1)
        self.mix = FeedForward(self.width)

    def forward(self, features: dict[str, Tensor], valid: Tensor) -> tuple[Tensor, Tensor]:
        """Run over time.

        Args:
            features: per modality ``(T, B, D)``.
            valid: ``(T, B)`` bool; joint knowledge stands still on padding.

        Returns:
            ``S (T, B, D)`` and ``h (T, B, D)`` after each step.
        """
        names = list(features)
        steps = [self._tokens(features[m]) for m in names]
        num_tokens = self.config.tokens
        h = self.initial.unflatten(0, (num_tokens, -1)).unsqueeze(1).expand(-1, valid.shape[1], -1)
        summaries, knowledge = [], []
        for t in range(valid.shape[0]):
            now = [step[t] for step in steps]
            gate = torch.stack([self.cross[m](x, h) for m, x in zip(names, now, strict=True)]).sum(0)
            if self.config.gate == "sigmoid":
                gate = torch.sigmoid(gate)
            together = torch.cat([*now, h])
            mixed = self.mix(self.joint(together, together))
            summary = mixed.unflatten(0, (-1, num_tokens)).mean(0)
            h = torch.where(valid[t][:, None], gate * h + (1.0 - gate) * summary, h)
            summaries.append(summary)
            knowledge.append(h)
        return self._merge(summaries), self._merge(knowledge)

    def _tokens(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(T, B, D)`` to ``T`` tensors ``(tokens, B, D / tokens)``."""
        return x.unflatten(-1, (self.config.tokens, -1)).permute(0, 2, 1, 3).unbind(0)

    @staticmethod
    def _merge(steps: list[Tensor]) -> Tensor:
        """``T`` tensors ``(tokens, B, D / tokens)`` to ``(T, B, D)``."""
        return torch.stack(steps).permute(0, 2, 1, 3).flatten(2)
