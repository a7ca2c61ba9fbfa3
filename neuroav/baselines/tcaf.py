"""TCaF: temporal and cross-modal attention, the non-spiking baseline that reads sequences."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card, known_classes
from neuroav.checks import fail
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.encoder import ClassToken, CrossAttention, FullAttention, MeanOfTokens, SelfAttention, TokenTransformer
from neuroav.nn.heads import WordHeads, WordHeadsConfig
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.project import MLP
from neuroav.nn.tokens import ClipTokens, PublishedSteps, ReleasedSteps, TokensConfig


@dataclass(frozen=True)
class AsPublished(PublishedSteps):
    """What the paper describes; where paper and code leave out what the code gets wrong, see :class:`TCAF`."""


@dataclass(frozen=True)
class AsReleased(ReleasedSteps):
    """What the released code does to raw features (``Experiment(inputs=AsStored())``); see :class:`TCAF`."""


@dataclass(frozen=True, kw_only=True)
class TCAFConfig(WordHeadsConfig, TokensConfig):
    """Parts of TCaF; sizes, dropouts and loss weights as in the two classes it extends.

    Attributes:
        attention: who attends to whom, the rows of Table 3 of [tcaf].
        summary: what stands for the clip, the two halves of that table.
        modalities: ``("audio", "video")``, or one of them (Table 4).
        reading: the paper's description, or the released code with its errors.
    """

    attention: CrossAttention | SelfAttention | FullAttention = field(default_factory=CrossAttention)
    summary: ClassToken | MeanOfTokens = field(default_factory=ClassToken)
    modalities: tuple[str, ...] = ("audio", "video")
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        TokensConfig.__post_init__(self)
        WordHeadsConfig.__post_init__(self)
        if not self.modalities or set(self.modalities) - {"audio", "video"}:
            raise fail("TCAFConfig", "modalities out of 'audio', 'video'", repr(self.modalities))
        alone = len(set(self.modalities)) == 1 and isinstance(self.summary, MeanOfTokens)
        if alone and isinstance(self.attention, CrossAttention):
            remedy = "Nothing is there to attend to: choose SelfAttention() or ClassToken()."
            raise fail("TCAFConfig", "two modalities for cross attention without class token", "one", remedy)


class TCAF(nn.Module):
    """Tokens of audio and video attend across the modalities; a class token gathers the clip.

    Implements Eq. (1)-(18) of [tcaf]. Differs from the paper: (17) and (18) print sums of vectors, taken as means over
    all elements as in the code. What the paper leaves open is as released: one layer normalisation per layer, shared
    by its two blocks; no bias in queries, keys and values; the words of the clips and those of all training classes
    each pass the word projection, so that its running statistics mix the two.

    The released code does otherwise than the paper in these points, all of them in ``reading=AsReleased()``, which
    wants raw features:

    * Audio is divided by 255 and video by its norm over time, feature by feature; here inputs are standardised by the
      data, step by step.
    * Batch normalisation of the encoders counts padded steps; here only valid ones, so that padding changes nothing.
    * Times are seconds in training and the number of the step at evaluation; here seconds in both.
    * Each training step ends with another embedding of the batch in training mode, which moves the running statistics
      once more: :meth:`after_step`.

    With either reading: dropout 0.3 in the encoders for ActivityNet in the code, 0.1 in the paper; the model for UCF is
    the default. The rows of its ablations: Table 2 by ``loss``, Table 3 by ``attention`` and ``summary``, Table 4 by
    ``modalities``.
    """

    Config = TCAFConfig
    CARD = Card(
        title="TCaF",
        paper="tcaf",
        year=2022,
        inputs="temporal",
        rows=("tcaf.table1", "mdft.table1", "sacma.table2", "ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3"),
    )

    def __init__(self, spec: DataSpec, config: TCAFConfig | None = None):
        super().__init__()
        self.config = c = TCAFConfig() if config is None else config
        widths = {"audio": spec.audio_dim, "video": spec.video_dim}
        self.tokens = ClipTokens({name: width for name, width in widths.items() if name in c.modalities}, c)
        self.token = c.summary.token(c.dim)
        self.transformer = TokenTransformer(c.attention, c.make_layers())
        self.clip = MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_output)
        self.heads = WordHeads(spec.text_dim, c)

    def gather(self, batch: Batch, audio_t_s: Tensor, video_t_s: Tensor) -> Tensor:
        """Class token ``(B, D)`` of clips whose steps happen at the times given, ``(T, B)`` each, in seconds."""
        reading = self.config.reading
        heard, seen = reading.inputs(batch.audio.values, batch.video.values)
        counted = [reading.counted(each.valid) for each in (batch.audio, batch.video)]
        audio, audio_valid = self.tokens("audio", heard, audio_t_s, batch.audio.valid, counted[0])
        video, video_valid = self.tokens("video", seen, video_t_s, batch.video.valid, counted[1])
        return self.transformer(audio, self.token, video, audio_valid, video_valid)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Cross-entropy, regression and reconstruction, Eq. (16)-(18); ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        class_text, target = known_classes("TCAF.loss", batch)
        embedding = self.clip(self.gather(batch, batch.audio.t_s, batch.video.t_s))
        return self.heads.loss([embedding], batch.text, class_text, target)

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.embed(batch), self.heads.word(class_vectors)

    def embed(self, batch: Batch) -> Tensor:
        """Clips ``(B, D)`` in the space where distances are taken."""
        times = self.config.reading.test_times
        return self.clip(self.gather(batch, times(batch.audio.t_s), times(batch.video.t_s)))

    @torch.no_grad()
    def after_step(self, batch: Batch, negatives: Tensor) -> None:
        """Embed once more where the reading asks for it, as the released step does with the weights just moved."""
        if self.config.reading.second_pass:
            self.embed(batch)
            self.heads.word(batch.text)
