"""Hyper-alignment, Hyper-single and Hyper-multiple: AVCA whose encoded modalities are aligned in hyperbolic space."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card, averages
from neuroav.checks import check_range
from neuroav.data.types import Batch, DataSpec
from neuroav.nn import pair
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.negatives import Trio
from neuroav.nn.pair import Embedded, PairConfig, PairNetwork

FARTHEST = 300.0  # from the origin, in units of the curvature radius; the product of two cosh of it is a float64
EDGE = 1e-3  # share of the ball's radius that the released projection keeps free


def ball_distances(x: Tensor, curvature: Tensor) -> Tensor:
    r"""Distances in the Poincare ball between the exponential images of rows of ``x``.

    With :math:`a_i = 2 \sqrt c |x_i|`, an image's distance from the origin in units of :math:`1 / \sqrt c`, and the
    angle :math:`\theta` between two rows, this is the hyperbolic law of cosines in half arguments:

    .. math:: \sinh^2 \tfrac{\sqrt c\, d_{ij}}{2} = \sinh^2 \tfrac{a_i - a_j}{2}
        + \sinh a_i \sinh a_j \tfrac{1 - \cos\theta_{ij}}{2}

    No coordinates in the ball are formed, so that images at its edge keep their precision, and memory grows as ``B^2``
    and not as ``B^2 D``, as it does in geoopt, whose distances are the same. As the curvature goes to 0, distances go
    to twice the Euclidean ones. Computed in float64, rounded to the type of ``x``, float32 at least.

    Args:
        x: ``(B, D)``, tangent vectors at the origin.
        curvature: ``(B, 1)`` or ``(1, 1)``, positive; row ``i`` of the result is measured in the ball of curvature
            ``i``.

    Returns:
        ``(B, B)``; symmetric where all curvatures are equal.

    Example:
        >>> x = torch.tensor([[0.3, 0.0], [-0.2, 0.0]])  # on one line through the origin lengths add
        >>> [round(d, 4) for d in ball_distances(x, torch.ones(1, 1))[0].tolist()]
        [0.0, 1.0]
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, root = x.double(), curvature.double().sqrt().expand(len(x), 1)
    norm = x.norm(dim=1).clamp_min(1e-30)
    direction = x / norm[:, None]
    length = (2 * root * norm).clamp_max(FARTHEST)
    own = length.diagonal()[:, None]
    apart = (1 - direction @ direction.t()).clamp_min(0) / 2
    squared = ((own - length) / 2).sinh().square() + own.sinh() * length.sinh() * apart
    squared = squared * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))
    return (2 * squared.clamp_min(1e-30).sqrt().asinh() / root).to(dtype)


def clipped(x: Tensor, curvature: Tensor) -> Tensor:
    """Rows of ``x (B, D)`` shortened to lie in the Poincare ball, a thousandth of its radius from the edge at least."""
    norm, longest = x.norm(dim=1, keepdim=True).clamp_min(1e-12), (1 - EDGE) / curvature.sqrt()
    return torch.where(norm > longest, x / norm * longest, x)


def logarithm(y: Tensor, curvature: Tensor) -> Tensor:
    """Tangent vectors ``(B, D)`` at the origin, whose exponential images are the points ``y (B, D)`` of the ball."""
    scaled = curvature.sqrt() * y.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return y * scaled.atanh() / scaled


@dataclass(frozen=True)
class AsPublished(pair.AsPublished):
    """Encoded modalities are mapped into the ball and compared by the ball's distances."""

    def compare(self, x: Tensor, curvature: Tensor) -> Tensor:
        """Distances ``(B, B)`` between clips by their encoded modality ``x (B, D)``."""
        return ball_distances(x, curvature)

    def aligned(self, positive: Embedded, negative: Embedded) -> list[Embedded]:
        """Align the clips; negatives are among them, and so are their pairs."""
        return [positive]


@dataclass(frozen=True)
class AsReleased(pair.AsReleased):
    """Encoded modalities are clipped, mapped to the tangent space and compared by their angles there."""

    def compare(self, x: Tensor, curvature: Tensor) -> Tensor:
        """Cosines ``(B, B)`` between clips by their encoded modality ``x (B, D)``; they are those of ``x`` itself."""
        unit = F.normalize(logarithm(clipped(x, curvature), curvature), dim=1)
        return unit @ unit.t()

    def aligned(self, positive: Embedded, negative: Embedded) -> list[Embedded]:
        """Align the clips among themselves, and the negatives."""
        return [positive, negative]


@dataclass(frozen=True, kw_only=True)
class HyperConfig(PairConfig):
    """Sizes and dropouts of :class:`~neuroav.nn.pair.PairConfig`, which are those of [avca], and the alignment.

    Attributes:
        weight: of the alignment among the loss terms (released).
        reading: the ball's distances, or the released code, which curvature does not reach.
    """

    weight: float = 1e-3
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(type(self).__name__, "weight", self.weight, 0)


@dataclass(frozen=True, kw_only=True)
class HyperAlignmentConfig(HyperConfig):
    """One curvature for all clips.

    Attributes:
        curvature: of the ball (released, the same for all data sets).
    """

    curvature: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(type(self).__name__, "curvature", self.curvature, 1e-6)


@dataclass(frozen=True, kw_only=True)
class HyperSingleConfig(HyperConfig):
    """One curvature for each clip.

    Attributes:
        scale: the largest curvature. Not known from the released configurations; this one begins at the 0.01 of
            Hyper-alignment.
    """

    scale: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(type(self).__name__, "scale", self.scale, 1e-6)


@dataclass(frozen=True, kw_only=True)
class HyperMultipleConfig(HyperSingleConfig):
    """Several curvatures for each clip.

    Attributes:
        balls: how many. Not known from the released configurations; three is our choice.
    """

    balls: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(type(self).__name__, "balls", self.balls, 1)


class FixedCurvature(nn.Module):
    """One curvature for all clips.

    Args:
        value: the curvature.
    """

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Curvature ``(1, 1, 1)``."""
        return audio.new_full((1, 1, 1), self.value)


class LearntCurvature(nn.Module):
    """Curvatures of each clip, from both its modalities.

    Args:
        dim: width ``D`` of an encoded modality.
        balls: ``K``, curvatures of a clip.
        scale: the largest curvature.
    """

    def __init__(self, dim: int, balls: int, scale: float):
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(2 * dim, balls)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Curvatures ``(K, B, 1)`` of clips encoded as ``(B, D)`` each."""
        return self.scale * self.linear(torch.cat([video, audio], -1)).sigmoid().t()[..., None]


class Hyper(PairNetwork):
    """AVCA, and how clips lie to each other is the same by audio and by video in balls of some curvature.

    Adds to the losses of [avca] the mean squared difference between two tables of all pairs of clips in the batch, one
    of their encoded audio, one of their encoded video, before attention [hyper]. Classes are still compared in
    Euclidean space, by the video embedding.

    Differs from the paper: its text was not at hand. By default the tables hold distances in the ball, into which
    encoded clips are mapped exponentially, so that curvature matters, as the title has it. The released code clips
    what it takes for points of the ball, maps them to the tangent space and takes cosines there. Both maps only rescale
    each clip's vector, which cosines do not see: its alignment is exactly the Euclidean one, whatever the curvature,
    and nothing but weight decay moves what would learn one. Negatives have tables of their own there. That is
    ``reading=AsReleased()``, with the side effects that :class:`~neuroav.nn.pair.PairNetwork` lists; it wants raw
    features, ``Experiment(inputs=AsStored())``.

    Args:
        spec: widths of the data.
        config: sizes, weight and reading.
        curvature: curvatures ``(K, B, 1)`` or ``(K, 1, 1)`` of ``K`` balls from both encoded modalities ``(B, D)``.
    """

    config: HyperConfig

    def __init__(self, spec: DataSpec, config: HyperConfig, curvature: nn.Module):
        super().__init__(spec.audio_dim, spec.video_dim, spec.text_dim, config)
        self.curvature = curvature

    def align(self, embedded: Embedded) -> Tensor:
        """Mean squared difference of the two modalities' tables, averaged over the curvatures."""
        audio, video = embedded.encoded_audio, embedded.encoded_video
        compare = self.config.reading.compare
        errors = [F.mse_loss(compare(audio, c), compare(video, c)) for c in self.curvature(audio, video)]
        return torch.stack(errors).mean()

    def terms(self, positive: Embedded, negative: Embedded) -> Terms:
        """Terms of :meth:`PairNetwork.terms <neuroav.nn.pair.PairNetwork.terms>`, and ``alignment``."""
        batches = self.config.reading.aligned(positive, negative)
        alignment = torch.stack([self.align(batch) for batch in batches]).sum()
        return {**super().terms(positive, negative), "alignment": self.config.weight * alignment}

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """See :meth:`terms`."""
        return self.terms(*self.config.reading.embed(self, Trio(*averages(batch), batch.text), negatives))

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` of video embeddings to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.prototypes(Trio(*averages(batch), batch.text), class_vectors)

    def after_step(self, batch: Batch, negatives: Tensor) -> None:
        """See :meth:`~neuroav.nn.pair.PairNetwork.follow_step`."""
        self.follow_step(Trio(*averages(batch), batch.text))


def _card(title: str) -> Card:
    tables = ("ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3")
    return Card(title=title, paper="hyper", year=2023, inputs="averaged", rows=tables)


class HyperAlignment(Hyper):
    """One ball for all clips; see :class:`Hyper`."""

    Config = HyperAlignmentConfig
    CARD = _card("Hyper-alignment")

    def __init__(self, spec: DataSpec, config: HyperAlignmentConfig | None = None):
        config = HyperAlignmentConfig() if config is None else config
        super().__init__(spec, config, FixedCurvature(config.curvature))


class HyperSingle(Hyper):
    """A ball for each clip, of learnt curvature; see :class:`Hyper`.

    Clips in balls of unlike curvature have no distance; each clip measures all others in its own ball.
    """

    Config = HyperSingleConfig
    CARD = _card("Hyper-single")

    def __init__(self, spec: DataSpec, config: HyperSingleConfig | None = None):
        config = HyperSingleConfig() if config is None else config
        super().__init__(spec, config, LearntCurvature(config.dim, 1, config.scale))


class HyperMultiple(Hyper):
    """Several balls for each clip, of learnt curvatures; see :class:`Hyper` and :class:`HyperSingle`."""

    Config = HyperMultipleConfig
    CARD = _card("Hyper-multiple")

    def __init__(self, spec: DataSpec, config: HyperMultipleConfig | None = None):
        config = HyperMultipleConfig() if config is None else config
        super().__init__(spec, config, LearntCurvature(config.dim, config.balls, config.scale))
