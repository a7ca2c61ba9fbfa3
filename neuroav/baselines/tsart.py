"""TSART: each modality looks back at its own past, then audio and video look at each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card
from neuroav.checks import check_range
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.attention import Attention, FeedForward, masked_mean
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.project import MLP


@dataclass(frozen=True)
class TwoLayers:
    """The encoders of sections 3.2 and 3.3 of [tsart]: two layers with normalisation, ReLU and dropout."""

    def build(self, width: int, config: TSARTConfig) -> MLP:
        """Make the encoder of features ``(..., width)``."""
        return MLP(width, config.hidden, config.dim, dropout=config.dropout_encoder)


@dataclass(frozen=True)
class NoEncoder:
    """Without encoder, Table 3 of [tsart]; a linear map remains where features come to ``k_f`` dimensions."""

    def build(self, width: int, config: TSARTConfig) -> MLP:
        """Make the map of features ``(..., width)``."""
        return MLP(width, config.dim, dropout=0.0, linear_output=True)


@dataclass(frozen=True)
class History:
    """Each step asks, the sigmoids of the steps before it answer, and the step itself is kept.

    Implements Eq. (1)-(6) of [tsart]. Differs from the paper: (3) and (5) print one key, the step before, and attention
    over a single key is that key whatever is asked (:class:`PreviousStep`); here all steps before. The residual
    connection that the text describes, absent from the formula, is added: without it a step would shape its own result
    only by what it asks for. Eq. 1 and 2 repeat Eq. 4 and 6, one block does for both. Step 0 is undefined; zeros.
    """

    def build(self, config: TSARTConfig) -> nn.Module:
        """Make the module."""
        return _History(config)


@dataclass(frozen=True)
class PreviousStep:
    """The printed form of :class:`History`: the step before is the only key.

    Implements Eq. (3)-(6) of [tsart]. Differs from the paper: nothing. The softmax over one key is 1, so the maps of
    queries and keys have no effect and are left out, and a step depends on the step before and not on itself.
    """

    def build(self, config: TSARTConfig) -> nn.Module:
        """Make the module."""
        return _PreviousStep(config)


@dataclass(frozen=True)
class NoReasoning:
    """Without temporal reasoning: steps as encoded."""

    def build(self, config: TSARTConfig) -> nn.Module:
        """Make the module."""
        return nn.Identity()


class _History(nn.Module):
    def __init__(self, config: TSARTConfig):
        super().__init__()
        self.attend = Attention(config.dim, config.heads, head_dim=config.head_dim)
        self.mix = FeedForward(config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``P`` of Eq. 1 and 2 from encoded steps ``x (T, B, D)``; padding comes last, so no step looks back at it."""
        return self.mix(x + self.attend(x, _before(x).sigmoid(), causal=True))


class _PreviousStep(nn.Module):
    def __init__(self, config: TSARTConfig):
        super().__init__()
        inner = config.heads * config.head_dim
        self.attend = nn.Sequential(nn.Linear(config.dim, inner), nn.Linear(inner, config.dim))
        self.mix = FeedForward(config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``P`` of Eq. 4 and 6 from encoded steps ``x (T, B, D)``."""
        return self.mix(self.attend(_before(x).sigmoid()))


def _before(x: Tensor) -> Tensor:
    """The step before each step of ``x (T, B, D)``, zeros before the first."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


@dataclass(frozen=True, kw_only=True)
class Modality:
    """How one modality is encoded and what it makes of its past; the rows of Table 3 of [tsart].

    "W/O A_TEM" is called the model without audio encoder in the text, while TEM reads as the temporal module: leave out
    ``encoder`` or ``reasoning``, or both.

    Attributes:
        encoder: of each step.
        reasoning: along time.
    """

    encoder: TwoLayers | NoEncoder = field(default_factory=TwoLayers)
    reasoning: History | PreviousStep | NoReasoning = field(default_factory=History)


class _Modality(nn.Module):
    def __init__(self, choice: Modality, width: int, config: TSARTConfig):
        super().__init__()
        self.encoder = choice.encoder.build(width, config)
        self.reasoning = choice.reasoning.build(config)

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """``(T, B, D)`` from features ``(T, B, D_in)``."""
        return self.reasoning(self.encoder(values, valid))


@dataclass(frozen=True, kw_only=True)
class CrossModal:
    """Audio attends to video and video to audio through one layer.

    Implements Eq. (7) and (8) of [tsart]. Differs from the paper: it prints one ``F_av``, from audio asking video, but
    then projects ``F_a`` and ``F_v``; both are made, by the same weights. ``z`` in Eq. 8 is the output of Eq. 7. A
    "standard transformer layer" keeps its input, the formula does not: ``residual=False`` is the printed form, in which
    ``F_a`` holds video only.

    Attributes:
        residual: whether Eq. 7 adds its query.
    """

    residual: bool = True


class _CrossModal(nn.Module):
    def __init__(self, choice: CrossModal, config: TSARTConfig):
        super().__init__()
        self.residual = choice.residual
        self.attend = Attention(config.dim, config.heads, head_dim=config.head_dim)
        self.mix = FeedForward(config.dim)

    def forward(self, query: Tensor, memory: Tensor, memory_valid: Tensor) -> Tensor:
        """``query (T, B, D)`` after its look at ``memory (T', B, D)``, of which ``memory_valid (T', B)`` counts."""
        attended = self.attend(query, memory, memory_valid)
        return self.mix(query + attended if self.residual else attended)


@dataclass(frozen=True, kw_only=True)
class PooledLoss:
    """Triplets that pool the distances of audio and video; a weight of 0 leaves a term out (Table 5 of [tsart]).

    Implements Eq. (11)-(13) of [tsart]. Differs from the paper: Eq. 11 as printed is constant (:class:`PrintedLoss`);
    read as two hinges on Euclidean distances to class vectors, audio and video added as printed, one with the clip of
    another class and one with the class vector of another. Eq. 12 divides by the index of its sum and squares nothing;
    read as mean squared error of both embeddings. The reconstruction is never defined; read as recovering the class
    vector from each of the three embeddings.

    Attributes:
        triplet: weight of Eq. 11.
        projection: weight of Eq. 12.
        reconstruction: weight of the reconstruction.
        margin: the ``Z`` of Eq. 11, dimensionless; its value is not given.
    """

    triplet: float = 1.0
    projection: float = 1.0
    reconstruction: float = 1.0
    margin: float = 1.0

    def terms(self, audio: Tensor, video: Tensor, word: Tensor, negatives: Tensor) -> Terms:
        """Weighted terms of projected clips and words ``(B, D)``."""
        terms: Terms = {}
        if self.triplet:
            near = _pooled(audio, video, word)
            other_clip = _pooled(audio[negatives], video[negatives], word)
            other_word = _pooled(audio, video, word[negatives])
            hinge = F.relu(self.margin + near - other_clip) + F.relu(self.margin + near - other_word)
            terms["triplet"] = self.triplet * hinge.mean()
        if self.projection:
            terms["projection"] = self.projection * (F.mse_loss(audio, word) + F.mse_loss(video, word))
        return terms


def _pooled(audio: Tensor, video: Tensor, word: Tensor) -> Tensor:
    """Distance of audio plus that of video to the word, row by row: ``(B,)``."""
    return F.pairwise_distance(audio, word) + F.pairwise_distance(video, word)


@dataclass(frozen=True, kw_only=True)
class PrintedLoss:
    """The losses letter by letter, for comparison only.

    Implements Eq. (11)-(13) of [tsart]. Differs from the paper: nothing in Eq. 11 and 12, element by element and
    averaged; the reconstruction as in :class:`PooledLoss`. The brackets of Eq. 11 cancel: it is twice the margin and
    has no gradient. Eq. 12 adds a negative video embedding, divides the ``x``-th clip of a batch by ``x``, and falls
    without bound.

    Attributes:
        reconstruction: weight of the reconstruction.
        margin: the ``Z`` of Eq. 11, dimensionless.
    """

    reconstruction: float = 1.0
    margin: float = 1.0

    def terms(self, audio: Tensor, video: Tensor, word: Tensor, negatives: Tensor) -> Terms:
        """The printed terms of projected clips and words ``(B, D)``."""
        positive, negative = audio + video, audio[negatives] + video[negatives]
        brackets = (self.margin + positive - negative) + (self.margin + negative - positive)
        number = torch.arange(1, len(word) + 1, device=word.device, dtype=word.dtype)
        return {
            "triplet": brackets.mean(),
            "projection": ((audio + video[negatives] - word) / number[:, None]).sum(0).mean(),
        }


@dataclass(frozen=True, kw_only=True)
class TSARTConfig:
    """Sizes and dropouts; defaults are those of UCF-GZSL, section 4 and Table 2 of [tsart].

    Three dropouts of the best row of Table 2 are the defaults. Section 4 has 0.5 in the encoders and 0 in the decoder,
    which looks like the row in another order; it gives the word projection's 0.1, too. For VGGSound and ActivityNet it
    has 0.2 and 0.3 in the encoders, 0.1 and 0 in the decoder, 0.2 in the word projection. Adam at 1e-3 for 50 epochs is
    the experiment's to set (Table 4 has 5e-4 and 1e-2, both worse).

    Attributes:
        dim: ``k_f``, width of a step.
        hidden: ``k_hidd``, hidden width of encoders, projections and decoder (given for the encoders only).
        shared: width of the space where distances are taken (not given).
        heads: attention heads.
        head_dim: width of a head.
        dropout_encoder: ``r_enc``.
        dropout_decoder: ``r_dec``, in the reconstruction.
        dropout_projection: ``r_proj``, in the projections of audio and video.
        dropout_word: ``d_wproj``.
        audio: encoder and temporal reasoning of audio.
        video: the same of video.
        cross: how the two meet.
        loss: weights and margin.
    """

    dim: int = 64
    hidden: int = 512
    shared: int = 64
    heads: int = 8
    head_dim: int = 64
    dropout_encoder: float = 0.2
    dropout_decoder: float = 0.5
    dropout_projection: float = 0.3
    dropout_word: float = 0.1
    audio: Modality = field(default_factory=Modality)
    video: Modality = field(default_factory=Modality)
    cross: CrossModal = field(default_factory=CrossModal)
    loss: PooledLoss | PrintedLoss = field(default_factory=PooledLoss)

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "shared", "heads", "head_dim"):
            check_range("TSARTConfig", name, getattr(self, name), 1)
        for name in ("dropout_encoder", "dropout_decoder", "dropout_projection", "dropout_word"):
            check_range("TSARTConfig", name, getattr(self, name), 0, 1)


class TSART(nn.Module):
    """Steps are encoded, look back at their past, then at the other modality, and are projected beside the words.

    Implements Eq. (1)-(13) of [tsart]. Differs from the paper: the parts say where, each with the printed form beside
    it (:class:`PreviousStep`, ``CrossModal(residual=False)``, :class:`PrintedLoss`). What it leaves open: steps are
    averaged over time before they are projected; Eq. 10 prints the projection of audio for video, which gets its own;
    the decoder is one for all and ends linearly, because class vectors have both signs; a clip's distance to a class
    is that of its audio plus that of its video, the quantity that Eq. 11 ranks. There is no released code.
    """

    Config = TSARTConfig
    CARD = Card(title="TSART", paper="tsart", year=2024, inputs="temporal", rows=("tsart.table1",))

    def __init__(self, spec: DataSpec, config: TSARTConfig | None = None):
        super().__init__()
        self.config = c = TSARTConfig() if config is None else config
        self.audio = _Modality(c.audio, spec.audio_dim, c)
        self.video = _Modality(c.video, spec.video_dim, c)
        self.cross = _CrossModal(c.cross, c)
        self.project_audio = MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_projection)
        self.project_video = MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_projection)
        self.word = MLP(spec.text_dim, c.hidden, c.shared, dropout=c.dropout_word)
        if c.loss.reconstruction:
            self.rebuild = MLP(c.shared, c.hidden, spec.text_dim, dropout=c.dropout_decoder, linear_output=True)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Audio and video of the clips, ``(B, D)`` each, in the space where distances are taken."""
        heard, seen = batch.audio.valid, batch.video.valid
        audio, video = self.audio(batch.audio.values, heard), self.video(batch.video.values, seen)
        return (
            self.project_audio(masked_mean(self.cross(audio, video, seen), heard)),
            self.project_video(masked_mean(self.cross(video, audio, heard), seen)),
        )

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Weighted terms, see :class:`PooledLoss`."""
        (audio, video), word, loss = self.embed(batch), self.word(batch.text), self.config.loss
        terms = loss.terms(audio, video, word, negatives)
        if loss.reconstruction:
            errors = torch.stack([F.mse_loss(self.rebuild(each), batch.text) for each in (audio, video, word)])
            terms["reconstruction"] = loss.reconstruction * errors.sum()
        return terms

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` to the projected ``class_vectors (K, D_text)``, of audio plus of video."""
        (audio, video), prototypes = self.embed(batch), self.word(class_vectors)
        return prototype_distances(audio, prototypes) + prototype_distances(video, prototypes)
