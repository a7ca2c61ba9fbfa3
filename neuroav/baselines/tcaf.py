"""TCaF: temporal and cross-modal attention, the non-spiking baseline that reads sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card
from neuroav.checks import check_range, fail
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.nn.encoder import CrossAttention, FourierTime, FullAttention, SelfAttention, TokenLayer, TokenTransformer
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.project import MLP


@dataclass(frozen=True)
class AsPublished:
    """What the paper describes; where paper and code leave out what the code gets wrong, see :class:`TCAF`."""

    second_pass: ClassVar[bool] = False

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features as they come, standardised by the data."""
        return batch.audio.values, batch.video.values

    def counted(self, sequence: Sequence) -> Tensor | None:
        """Steps ``(T, B)`` that batch normalisation counts."""
        return sequence.valid

    def test_times(self, sequence: Sequence) -> Tensor:
        """Times ``(T, B)`` at evaluation."""
        return sequence.t_s


@dataclass(frozen=True)
class AsReleased:
    """What the released code does to raw features (``Experiment(inputs=AsStored())``); see :class:`TCAF`.

    Attributes:
        second_pass: whether each training step ends with the second pass.
    """

    second_pass: bool = True

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Audio over 255; each video feature divided by its L2 norm over *time*."""
        return batch.audio.values / 255, F.normalize(batch.video.values, dim=0)

    def counted(self, sequence: Sequence) -> Tensor | None:
        """Count every step, padding included."""
        return None

    def test_times(self, sequence: Sequence) -> Tensor:
        """Return the number of the step, whatever its length."""
        return torch.arange(len(sequence), device=sequence.t_s.device, dtype=sequence.t_s.dtype)[:, None].expand_as(
            sequence.t_s
        )


@dataclass(frozen=True, kw_only=True)
class TCAFConfig:
    """Sizes and dropouts; defaults are those of UCF-GZSL with VGGish and C3D features, section 4.1 of [tcaf].

    Attributes:
        dim: width of a token.
        encoder_hidden: hidden width of the two encoders.
        hidden: hidden width of the clip's projection and of its decoder.
        shared: width of the space where distances are taken.
        position: width of the embedding of modality and time.
        frequency_std: of the Fourier features, in Hz (released; the paper gives none).
        layers: number of transformer layers.
        heads: attention heads.
        head_dim: width of a head.
        feed_forward: hidden width of the feed-forward blocks.
        dropout: in the transformer.
        dropout_position: after the position encoder.
        dropout_encoder: in the encoders.
        dropout_output: in the clip's projection and decoder.
        dropout_word: in the word projection and decoder.
        attention: who attends to whom, the rows of Table 3 with a class token.
        reading: the paper's description, or the released code with its errors.
    """

    dim: int = 300
    encoder_hidden: int = 512
    hidden: int = 512
    shared: int = 64
    position: int = 64
    frequency_std: float = 10.0
    layers: int = 6
    heads: int = 8
    head_dim: int = 64
    feed_forward: int = 128
    dropout: float = 0.3
    dropout_position: float = 0.2
    dropout_encoder: float = 0.3
    dropout_output: float = 0.1
    dropout_word: float = 0.1
    attention: CrossAttention | SelfAttention | FullAttention = field(default_factory=CrossAttention)
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        for name in ("dim", "encoder_hidden", "hidden", "shared", "layers", "heads", "head_dim", "feed_forward"):
            check_range("TCAFConfig", name, getattr(self, name), 1)
        for name in ("dropout", "dropout_position", "dropout_encoder", "dropout_output", "dropout_word"):
            check_range("TCAFConfig", name, getattr(self, name), 0, 1)
        check_range("TCAFConfig", "frequency_std", self.frequency_std, 0)
        if self.position < 2 or self.position % 2:
            raise fail("TCAFConfig", "position to be even and at least 2", str(self.position))


class PositionEncoder(nn.Module):
    """Tokens of one modality from encoded steps and their times: Eq. (2) of [tcaf].

    Differs from the paper: nothing. The released code also adds a learnt vector at padded steps, which attention never
    reads; it is left out.
    """

    def __init__(self, config: TCAFConfig):
        super().__init__()
        self.modality = nn.Parameter(torch.randn(config.position))
        self.linear = nn.Linear(config.dim + config.position, config.dim)
        self.dropout = nn.Dropout(config.dropout_position)

    def forward(self, encoded: Tensor, time: Tensor) -> Tensor:
        """``(T, B, D)`` from ``encoded (T, B, D)`` and embedded ``time (T, B, D_position)``."""
        return self.dropout(self.linear(torch.cat([encoded, self.modality + time], -1)))


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
    the default. Tokens without a class token (upper half of Table 3) are not built.
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
        self.audio_encoder = MLP(spec.audio_dim, c.encoder_hidden, c.dim, dropout=c.dropout_encoder)
        self.video_encoder = MLP(spec.video_dim, c.encoder_hidden, c.dim, dropout=c.dropout_encoder)
        self.time = FourierTime(c.position, c.frequency_std)
        self.audio_position, self.video_position = PositionEncoder(c), PositionEncoder(c)
        self.token = nn.Parameter(torch.randn(c.dim))
        layers = [TokenLayer(c.dim, c.heads, c.head_dim, c.feed_forward, c.dropout) for _ in range(c.layers)]
        self.transformer = TokenTransformer(c.attention, layers)
        self.clip = MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_output)
        self.word = MLP(spec.text_dim, c.shared, dropout=c.dropout_word)
        self.rebuild_clip = MLP(c.shared, c.hidden, spec.text_dim, dropout=c.dropout_output)
        self.rebuild_word = MLP(c.shared, spec.text_dim, dropout=c.dropout_word)

    def gather(self, batch: Batch, audio_t_s: Tensor, video_t_s: Tensor) -> Tensor:
        """Class token ``(B, D)`` of clips whose steps happen at the times given, ``(T, B)`` each, in seconds."""
        reading = self.config.reading
        audio, video = reading.inputs(batch)
        heard = self.audio_encoder(audio, reading.counted(batch.audio), batch.audio.valid)
        seen = self.video_encoder(video, reading.counted(batch.video), batch.video.valid)
        return self.transformer(
            self.audio_position(heard, self.time(audio_t_s)),
            self.token,
            self.video_position(seen, self.time(video_t_s)),
            batch.audio.valid,
            batch.video.valid,
        )

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Cross-entropy, regression and reconstruction, Eq. (16)-(18); ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        if batch.classes is None:
            raise fail("TCAF.loss", "a batch with classes", "None", "Batches of ClipData have them.")
        embedding = self.clip(self.gather(batch, batch.audio.t_s, batch.video.t_s))
        word, classes = self.word(batch.text), self.word(batch.classes.text)
        target = torch.searchsorted(batch.classes.label, batch.label)
        rebuilt = F.mse_loss(self.rebuild_clip(embedding), batch.text) + F.mse_loss(self.rebuild_word(word), batch.text)
        return {
            "cross_entropy": F.cross_entropy(embedding @ classes.t(), target),
            "regression": F.mse_loss(embedding, word),
            "reconstruction": rebuilt,
        }

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(self.embed(batch), self.word(class_vectors))

    def embed(self, batch: Batch) -> Tensor:
        """Clips ``(B, D)`` in the space where distances are taken."""
        times = self.config.reading.test_times
        return self.clip(self.gather(batch, times(batch.audio), times(batch.video)))

    @torch.no_grad()
    def after_step(self, batch: Batch, negatives: Tensor) -> None:
        """Embed once more where the reading asks for it, as the released step does with the weights just moved."""
        if self.config.reading.second_pass:
            self.embed(batch)
            self.word(batch.text)
