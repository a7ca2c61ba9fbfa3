"""Perceiver: a few latent tokens read all steps of both modalities, again and again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card, known_classes
from neuroav.checks import check_range
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.encoder import Places
from neuroav.nn.heads import WordHeads, WordHeadsConfig
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.project import MLP
from neuroav.nn.tokens import ClipTokens, TokensConfig


@dataclass(frozen=True, kw_only=True)
class PerceiverConfig(WordHeadsConfig, TokensConfig):
    """Parts of the Perceiver; sizes, dropouts and loss weights as in the two classes it extends, those of TCaF.

    Attributes:
        latents: number of latent tokens, section 4.2 of [tcaf].
    """

    latents: int = 64

    def __post_init__(self) -> None:
        TokensConfig.__post_init__(self)
        WordHeadsConfig.__post_init__(self)
        check_range("PerceiverConfig", "latents", self.latents, 1)


class Perceiver(nn.Module):
    """Latent tokens attend to the tokens of audio and video, then to themselves, in turn; their mean is the clip.

    The baseline of section 4.2 of [tcaf], an adaptation of [perceiver] with the inputs, encoders, positions, sizes and
    losses of TCaF. There is no code of it; what is left open is read so:

    * As many layers as TCaF, of the same size, so that the capacities are alike: the first, third, ... lets the
      latents read the steps, the others let them attend to each other.
    * Layers do not share weights; latents and steps share a layer's normalisation, as all tokens do in TCaF.
    * The clip is the mean of the latents, as in [perceiver].
    """

    Config = PerceiverConfig
    CARD = Card(
        title="Perceiver",
        paper="perceiver",
        year=2021,
        inputs="temporal",
        rows=("tcaf.table1", "ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3"),
    )

    def __init__(self, spec: DataSpec, config: PerceiverConfig | None = None):
        super().__init__()
        c = PerceiverConfig() if config is None else config
        self.tokens = ClipTokens({"audio": spec.audio_dim, "video": spec.video_dim}, c)
        self.latents = nn.Parameter(torch.randn(c.latents, c.dim))
        self.layers = nn.ModuleList(c.make_layers())
        self.clip = MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_output)
        self.heads = WordHeads(spec.text_dim, c)

    def gather(self, batch: Batch) -> Tensor:
        """Mean of the latents ``(B, D)`` after the last layer."""
        audio, video = batch.audio, batch.video
        heard, _ = self.tokens("audio", audio.values, audio.t_s, audio.valid, audio.valid)
        seen, _ = self.tokens("video", video.values, video.t_s, video.valid, video.valid)
        first = slice(0, len(self.latents))
        valid = torch.cat([audio.valid.new_ones(first.stop, batch.size), audio.valid, video.valid])
        both, alone = Places.of(valid), Places.of(valid[first])
        steps = both.pack(torch.cat([heard, seen]), slice(first.stop, len(valid)))
        latents = self.latents.repeat_interleave(batch.size, 0)
        for i, layer in enumerate(self.layers):
            if i % 2:
                latents = layer(latents, alone, [(first, first)])
            else:
                latents = layer(torch.cat([latents, steps]), both, [(first, slice(first.stop, len(valid)))])
        return latents.unflatten(0, (-1, batch.size)).mean(0)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """See :meth:`~neuroav.nn.heads.WordHeads.loss`; ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        class_text, target = known_classes("Perceiver.loss", batch)
        embedding = self.clip(self.gather(batch))
        return self.heads.loss([embedding], batch.text, class_text, target)

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.clip(self.gather(batch)), self.heads.word(class_vectors)
