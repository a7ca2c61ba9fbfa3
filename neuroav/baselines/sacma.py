"""SACMA: the same transformer over audio, over video and over both, and a contrast of all that comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card
from neuroav.checks import check_range, fail
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.encoder import CrossAttention, FullAttention, Pattern, Places, SelfAttention, Spans, TokenLayer
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.project import MLP
from neuroav.nn.tokens import ClipTokens, PublishedSteps, ReleasedSteps, TokensConfig


@dataclass(frozen=True)
class AsPublished(PublishedSteps):
    """What the paper describes; where paper and code leave out what the code gets wrong, see :class:`SACMA`.

    Attributes:
        text_weight: the weights ``t,a`` and ``t,v`` of Eq. 13.
    """

    text_weight: float = 0.8
    projects_mean: ClassVar[bool] = False

    def head(self, name: str) -> str:
        """Name the projection and the decoder of an output: each has its own."""
        return name


@dataclass(frozen=True)
class AsReleased(ReleasedSteps):
    """What the released code does to raw features (``Experiment(inputs=AsStored())``); see :class:`SACMA`.

    Attributes:
        text_weight: the weights ``t,a`` and ``t,v`` of Eq. 13.
        projects_mean: whether the mean of audio and video output is projected, to no effect but on running statistics.
    """

    text_weight: float = 0.1
    projects_mean: bool = True

    def head(self, name: str) -> str:
        """Name the projection and the decoder of an output: all share one."""
        return "joint"


@dataclass(frozen=True, kw_only=True)
class SACMALoss:
    """Contrast of all pairs of outputs and words, cosine, regression and reconstruction; 0 leaves a term out.

    Implements Eq. (8)-(19) of [sacma]. Differs from the paper: (18) and (19) print squares of vectors, taken as means
    over all elements; vectors are normalised before the products of (14), which the text says and the formula does not.
    As printed, a clip of the same class counts as a negative in (14).

    The rows of Table 5 leave one of the four weights out; Fig. 4 varies ``cosine`` and ``temperature``.

    Attributes:
        contrast: weight of Eq. 9.
        cosine: the lambda of Eq. 8.
        regression: weight of Eq. 18.
        reconstruction: weight of Eq. 19.
        temperature: the tau of Eq. 14, dimensionless.
        text_joint: weight ``t,av`` in Eq. 13.
        between: weights ``a,v``, ``a,av`` and ``v,av`` in Eq. 13.
    """

    contrast: float = 1.0
    cosine: float = 0.2
    regression: float = 1.0
    reconstruction: float = 1.0
    temperature: float = 0.05
    text_joint: float = 1.0
    between: float = 0.1

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            check_range("SACMALoss", name, weight, 0)
        if not self.temperature:
            raise fail("SACMALoss", "temperature above 0", "0")

    def contrasts(self, outputs: dict[str, Tensor], word: Tensor, text_weight: float) -> Tensor:
        """Eq. 13 over those of its pairs that are there."""
        weights = {
            ("text", "joint"): self.text_joint,
            ("text", "audio"): text_weight,
            ("text", "video"): text_weight,
            ("audio", "video"): self.between,
            ("audio", "joint"): self.between,
            ("video", "joint"): self.between,
        }
        there = {"text": word, **outputs}
        pairs = [pair for pair in weights if set(pair) <= set(there)]
        return torch.stack([weights[a, b] * contrast(there[a], there[b], self.temperature) for a, b in pairs]).sum()


def contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Each row of ``one (B, D)`` is to find its own among the rows of ``other (B, D)`` by their cosine, and back.

    Implements Eq. (14) of [sacma]. Differs from the paper: rows are normalised, as its section 4.2 says.

    Example:
        >>> x = torch.eye(2)
        >>> round(contrast(x, x, temperature=1.0).item(), 4)  # 2 log(1 + 1/e)
        0.6265
    """
    scores = F.normalize(one) @ F.normalize(other).t() / temperature
    own = torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(scores, own) + F.cross_entropy(scores.t(), own)


@dataclass(frozen=True)
class JointOutput:
    """Distances are taken from the output for audio and video together (Table 7 of [sacma])."""

    name: ClassVar[str] = "joint"


@dataclass(frozen=True)
class AudioOutput:
    """Distances are taken from the output for audio (Table 7 of [sacma])."""

    name: ClassVar[str] = "audio"


@dataclass(frozen=True)
class VideoOutput:
    """Distances are taken from the output for video (Table 7 of [sacma])."""

    name: ClassVar[str] = "video"


@dataclass(frozen=True, kw_only=True)
class SACMAConfig(TokensConfig):
    """Sizes, dropouts and parts; defaults are those of UCF-GZSL with SeLaVi features, which follow [tcaf].

    Adam at 7e-5 (VGGSound 6e-5, with the learning rate falling on a plateau) with weight decay 1e-5 is the experiment's
    to set. Table 4 of [sacma] changes the class vectors, which come with the data; its "only SA" is
    ``joint=SelfAttention()``.

    Attributes:
        dim: width of a token.
        encoder_hidden: hidden width of the two encoders.
        layers: number of transformer layers.
        dropout_encoder: in the encoders.
        hidden: hidden width of the projections and decoders of the outputs.
        shared: width of the space where distances are taken.
        dropout_output: in these projections and decoders.
        dropout_word: in the word projection and decoder.
        audio: who attends to whom in the input ``I_a``; ``FullAttention()`` is its self-attention,
            ``CrossAttention()`` takes it away (Table 3), ``None`` leaves the input out (Table 6).
        video: the same of ``I_v``.
        joint: the same of ``I_m``, which has both; ``SelfAttention()`` takes its cross-modal attention away (Table 3).
        output: what distances are taken from.
        loss: weights and temperature.
        reading: the paper's description, or the released code with its errors.
    """

    encoder_hidden: int = 256
    layers: int = 5
    dropout_encoder: float = 0.4
    hidden: int = 512
    shared: int = 64
    dropout_output: float = 0.2
    dropout_word: float = 0.1
    audio: FullAttention | CrossAttention | None = field(default_factory=FullAttention)
    video: FullAttention | CrossAttention | None = field(default_factory=FullAttention)
    joint: CrossAttention | SelfAttention | FullAttention = field(default_factory=CrossAttention)
    output: JointOutput | AudioOutput | VideoOutput = field(default_factory=JointOutput)
    loss: SACMALoss = field(default_factory=SACMALoss)
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "shared"):
            check_range("SACMAConfig", name, getattr(self, name), 1)
        for name in ("dropout_output", "dropout_word"):
            check_range("SACMAConfig", name, getattr(self, name), 0, 1)
        if self.output.name not in self.patterns:
            raise fail("SACMAConfig", f"an output out of {', '.join(self.patterns)}", self.output.name)

    @property
    def patterns(self) -> dict[str, Pattern]:
        """Who attends to whom in each input that there is."""
        every = {"audio": self.audio, "video": self.video, "joint": self.joint}
        return {name: pattern for name, pattern in every.items() if pattern is not None}


class SharedTransformer(nn.Module):
    """The same layers over several inputs; they lie one after another and none sees another.

    So each layer is one pass over the tokens of all inputs. Only class tokens leave the last layer, and only they are
    computed there.

    Args:
        patterns: who attends to whom in each input.
        layers: the layers.
    """

    def __init__(self, patterns: dict[str, Pattern], layers: list[TokenLayer]):
        super().__init__()
        self.patterns = patterns
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        names: Iterable[str],
        audio: Tensor,
        token: Tensor,
        video: Tensor,
        audio_valid: Tensor,
        video_valid: Tensor,
    ) -> dict[str, Tensor]:
        """Class tokens ``(B, D)`` of the inputs named.

        Args:
            names: of inputs.
            audio: ``(T_audio, B, D)``, left out of the input ``"video"``.
            token: ``(D,)``.
            video: ``(T_video, B, D)``, left out of the input ``"audio"``.
            audio_valid: ``(T_audio, B)`` bool.
            video_valid: ``(T_video, B)`` bool.
        """
        size, names = audio.shape[1], list(names)
        gathering, there = token.expand(1, size, -1), audio_valid.new_ones(1, size)
        tokens: list[Tensor] = []
        valid: list[Tensor] = []
        spans, last, start = [], [], 0
        for name in names:
            heard, seen = len(audio) * (name != "video"), len(video) * (name != "audio")
            tokens += [audio[:heard], gathering, video[:seen]]
            valid += [audio_valid[:heard], there, video_valid[:seen]]
            spans += _shifted(self.patterns[name].spans(heard, 1, seen), start)
            last += _shifted([(slice(heard, heard + 1), slice(0, heard + 1 + seen))], start)
            start += heard + 1 + seen
        places = Places.of(torch.cat(valid))
        packed = places.pack(torch.cat(tokens), slice(0, start))
        for layer in self.layers[:-1]:
            packed = layer(packed, places, spans)
        return dict(zip(names, self.layers[-1](packed, places, last).split(size), strict=True))


def _shifted(spans: Spans, by: int) -> Spans:
    return [(slice(q.start + by, q.stop + by), slice(k.start + by, k.stop + by)) for q, k in spans]


class SACMA(nn.Module):
    """Three inputs pass one transformer: audio alone, video alone, and both across; outputs and words are contrasted.

    Implements Eq. (1)-(19) of [sacma]. Differs from the paper: see :class:`SACMALoss`; encoders, positions, class token
    and layers are those of [tcaf], its "other settings". Removing an input's attention (Table 3) is not described; read
    as its steps attending to the class token alone, which still attends to them.

    The released code does otherwise than the paper in these points, all of them in ``reading=AsReleased()``, which
    wants raw features:

    * One projection and one decoder serve all three outputs; here each has its own, as in Fig. 2.
    * The contrasts of words with audio and with video weigh 0.1; here 0.8.
    * The mean of audio and video output is projected in training and not used; it moves running statistics. Not here.
    * Audio is divided by 255 and video by its norm over time, feature by feature; here inputs are standardised by the
      data, step by step.
    * Batch normalisation of the encoders counts padded steps; here only valid ones, so that padding changes nothing.
    * Times are seconds in training and the number of the step at evaluation; here seconds in both.
    * Each training step ends with another embedding of the batch in training mode, which moves the running statistics
      once more: :meth:`after_step`.
    """

    Config = SACMAConfig
    CARD = Card(title="SACMA", paper="sacma", year=2025, inputs="temporal", rows=("sacma.table2",))

    def __init__(self, spec: DataSpec, config: SACMAConfig | None = None):
        super().__init__()
        self.config = c = SACMAConfig() if config is None else config
        self.tokens = ClipTokens({"audio": spec.audio_dim, "video": spec.video_dim}, c)
        self.token = nn.Parameter(torch.randn(c.dim))
        self.transformer = SharedTransformer(c.patterns, c.make_layers())
        self.word = MLP(spec.text_dim, c.shared, dropout=c.dropout_word)
        heads = list(dict.fromkeys(c.reading.head(name) for name in c.patterns))
        self.project = nn.ModuleDict({h: MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_output) for h in heads})
        if c.loss.reconstruction:
            self.rebuild = nn.ModuleDict(
                {h: MLP(c.shared, c.hidden, spec.text_dim, dropout=c.dropout_output) for h in heads}
            )
            self.rebuild_word = MLP(c.shared, spec.text_dim, dropout=c.dropout_word)

    def gather(self, batch: Batch, names: Iterable[str], audio_t_s: Tensor, video_t_s: Tensor) -> dict[str, Tensor]:
        """Class tokens ``(B, D)`` of the inputs named, whose steps happen at the times ``(T, B)`` in seconds."""
        reading, heard, seen = self.config.reading, batch.audio, batch.video
        audio, video = reading.inputs(heard.values, seen.values)
        audio, _ = self.tokens("audio", audio, audio_t_s, heard.valid, reading.counted(heard.valid))
        video, _ = self.tokens("video", video, video_t_s, seen.valid, reading.counted(seen.valid))
        return self.transformer(names, audio, self.token, video, heard.valid, seen.valid)

    def projected(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Class tokens in the space where distances are taken, ``(B, D)`` each."""
        return {name: self.project[self.config.reading.head(name)](token) for name, token in tokens.items()}

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Weighted terms, see :class:`SACMALoss`; ``negatives`` are not used."""
        c, loss = self.config, self.config.loss
        tokens = self.gather(batch, c.patterns, batch.audio.t_s, batch.video.t_s)
        if c.reading.projects_mean and {"audio", "video"} <= set(tokens):
            self.projected({"joint": (tokens["audio"] + tokens["video"]) / 2})
        outputs, word, terms = self.projected(tokens), self.word(batch.text), {}
        if loss.contrast:
            terms["contrast"] = loss.contrast * loss.contrasts(outputs, word, c.reading.text_weight)
        if loss.cosine:
            pairs = [(output, word) for output in outputs.values()]
            if {"audio", "video"} <= set(outputs):
                pairs.append((outputs["audio"], outputs["video"]))
            errors = [1 - F.cosine_similarity(one, other).mean() for one, other in pairs]
            terms["cosine"] = loss.cosine * torch.stack(errors).sum()
        if loss.regression:
            errors = [F.mse_loss(output, word) for output in outputs.values()]
            terms["regression"] = loss.regression * torch.stack(errors).sum()
        if loss.reconstruction:
            rebuilt = [self.rebuild[c.reading.head(name)](output) for name, output in outputs.items()]
            errors = [F.mse_loss(each, batch.text) for each in (*rebuilt, self.rebuild_word(word))]
            terms["reconstruction"] = loss.reconstruction * torch.stack(errors).sum()
        return terms

    def embed(self, batch: Batch, names: Iterable[str]) -> dict[str, Tensor]:
        """Outputs named of the clips, ``(B, D)`` each, with the times of evaluation."""
        times = self.config.reading.test_times
        return self.projected(self.gather(batch, names, times(batch.audio.t_s), times(batch.video.t_s)))

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        name = self.config.output.name
        return self.embed(batch, [name])[name], self.word(class_vectors)

    @torch.no_grad()
    def after_step(self, batch: Batch, negatives: Tensor) -> None:
        """Embed once more where the reading asks for it, as the released step does with the weights just moved."""
        if self.config.reading.second_pass:
            self.embed(batch, self.config.patterns)
            self.word(batch.text)
