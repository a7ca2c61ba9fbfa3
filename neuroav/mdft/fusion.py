"""MDFT's cross-modal reasoning module (CRM), Eq. 10-11, and the ways the motion stream enters it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuroav.nn.attention import Attention, FeedForward, masked_mean


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Motion only scales the keys and values of Eq. (10) of [mdft]: ``a * sigmoid(j)``.

    Differs from the paper: nothing; this is the printed form. With ``j`` a rate in [0, 1] the gate lies in [.5, .73],
    too little for motion to matter, so it is not the default.
    """

    gated = True
    extra_tokens = False
    joins_output = False


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The gate of :class:`Gate`, and the motion sequence as further keys and values of Eq. (10) of [mdft].

    Differs from the paper: the second path is ours.
    """

    gated = True
    extra_tokens = True
    joins_output = False


@dataclass(frozen=True, kw_only=True)
class Late:
    """The gate of :class:`Gate`, and the mean motion output joined to the pooled ``F_av`` before Eq. (12) of [mdft].

    Differs from the paper: the second path is ours; on MotionScenes it is what lets the motion stream matter.
    """

    gated = True
    extra_tokens = False
    joins_output = True


MotionPath = Gate | Tokens | Late


@dataclass(frozen=True, kw_only=True)
class CRM:
    """Cross-modal reasoning: each modality attends to its motion-gated self, then video to audio and joint knowledge.

    Implements Eq. (10)-(11) of [mdft]. Differs from the paper: the residual connection that the text describes is
    added to Eq. 10; ``Z_i`` in Eq. 11 is read as ``Z_av``; joint knowledge ``h``, said to enter here but absent from
    the formula, is appended to the keys and values; the result is averaged over time before Eq. 12.

    ``CRM(residual=False, knowledge=False)`` with ``motion_path=Gate()`` is the printed form.

    Attributes:
        heads: attention heads.
        dropout: on attention weights and in the residual blocks.
        residual: whether Eq. 10 adds its query to the attention's output.
        knowledge: whether ``h`` is among the keys and values of Eq. 11.
    """

    heads: int = 8
    dropout: float = 0.0
    residual: bool = True
    knowledge: bool = True

    def build(self, dim: int, modalities: tuple[str, ...], motion_path: MotionPath | None) -> nn.Module:
        """Make the module of width ``dim`` for the named modalities."""
        return _CRM(self, dim, modalities, motion_path)


class _CRM(nn.Module):
    def __init__(self, config: CRM, dim: int, modalities: tuple[str, ...], motion_path: MotionPath | None):
        super().__init__()
        self.config, self.path = config, motion_path
        self.attend = nn.ModuleDict({m: Attention(dim, config.heads, config.dropout) for m in modalities})
        self.mix = nn.ModuleDict({m: FeedForward(dim, config.dropout) for m in modalities})
        self.cross = Attention(dim, config.heads, config.dropout)
        self.cross_mix = FeedForward(dim, config.dropout)

    def forward(
        self, features: dict[str, Tensor], motion: dict[str, Tensor], knowledge: Tensor | None, valid: Tensor
    ) -> Tensor:
        """Reason over time and pool.

        Args:
            features: per modality ``(T, B, D)``.
            motion: per modality ``(T, B, D)``, the accumulated output ``j`` of the motion layers; empty without them.
            knowledge: ``h (T, B, D)`` or ``None``.
            valid: ``(T, B)`` bool.

        Returns:
            ``F_av`` averaged over valid steps, ``(B, D)``.
        """
        reasoned = {m: self._reason(m, x, motion.get(m), valid) for m, x in features.items()}
        query = reasoned.get("video", next(iter(reasoned.values())))
        memory, memory_valid = reasoned.get("audio", query), valid
        if knowledge is not None and self.config.knowledge:
            memory, memory_valid = torch.cat([memory, knowledge]), torch.cat([valid, valid])
        return masked_mean(self.cross_mix(self.cross(query, memory, memory_valid)), valid)

    def _reason(self, name: str, x: Tensor, motion: Tensor | None, valid: Tensor) -> Tensor:
        memory, memory_valid = x, valid
        if motion is not None and self.path is not None:
            memory = x * torch.sigmoid(motion)
            if self.path.extra_tokens:
                memory, memory_valid = torch.cat([memory, motion]), torch.cat([valid, valid])
        attended = self.attend[name](x, memory, memory_valid)
        return self.mix[name](x + attended if self.config.residual else attended)
