"""CJME: audio, video and class vectors in one space, and an attention that says which of the two to trust."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card, averages, known_classes
from neuroav.checks import check_range
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.negatives import OnePass, Trio, TwoPasses
from neuroav.nn.project import MLP, StepBatchNorm


@dataclass(frozen=True)
class AsPublished(OnePass):
    """Each clip's attention weighs its own triplets; see :class:`CJME`."""

    def weigh(self, attention: Tensor, heard: Tensor, seen: Tensor) -> Tensor:
        """Mean of ``(1 - attention) heard + attention seen``, each ``(B,)``."""
        return ((1 - attention) * heard + attention * seen).mean()


@dataclass(frozen=True)
class AsReleased(TwoPasses):
    """Each clip's attention weighs the triplets of every clip, as it comes out of the code; see :class:`CJME`."""

    def weigh(self, attention: Tensor, heard: Tensor, seen: Tensor) -> Tensor:
        """Mean over all pairs of a weight and a triplet, which is a product of means; ``(B,)`` each."""
        weight = attention.mean()
        return (1 - weight) * heard.mean() + weight * seen.mean()


@dataclass(frozen=True, kw_only=True)
class CJMEConfig:
    """Sizes, dropout and margin; defaults are those of UCF-GZSL in the code of [avca].

    Attributes:
        hidden: hidden width of the audio and video networks.
        hidden_word: hidden width of the word network.
        shared: width of the space where distances are taken.
        dropout: in the three networks; 0 for VGGSound.
        margin: of the triplets, dimensionless.
        slack: by how much one entropy, in nats, must be below the other for its modality to be the one to trust.
        reading: what the attention weighs, and how negatives are embedded.
    """

    hidden: int = 1024
    hidden_word: int = 300
    shared: int = 64
    dropout: float = 0.2
    margin: float = 1.0
    slack: float = 0.1
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        for name in ("hidden", "hidden_word", "shared"):
            check_range("CJMEConfig", name, getattr(self, name), 1)
        check_range("CJMEConfig", "dropout", self.dropout, 0, 1)
        for name in ("margin", "slack"):
            check_range("CJMEConfig", name, getattr(self, name), 0)


class CJME(nn.Module):
    """One network each for averaged audio, averaged video and class vectors; triplets draw them together.

    The idea is that of [cjme]; networks, terms and sizes are those of its re-implementation in the code of [avca],
    which made every published result on the three benchmarks. An attention, from the features before any network, is
    the weight of video against audio in the triplets; at evaluation it picks the modality whose distances count, video
    from 0.5 on. It is trained towards the modality whose embedding says more clearly which class it is, by the entropy
    of a softmax over all classes of the training set.

    That code does otherwise in these points, all of them in ``reading=AsReleased()``, which wants features as stored
    (``Experiment(inputs=AsStored())``):

    * Weights ``(B, 1)`` times triplets ``(B,)`` are ``(B, B)``: the weight of a clip is spread over the triplets of all
      others, and only the mean attention matters to the term. Here a clip's weight is its own triplets'.
    * Negatives pass the networks as a batch of their own, which moves the running statistics twice.

    With either reading the classes pass the word network once more in each step, so that its running statistics mix
    clips and classes.
    """

    Config = CJMEConfig
    CARD = Card(
        title="CJME",
        paper="cjme",
        year=2020,
        inputs="averaged",
        rows=(
            "mdft.table1",
            "tcaf.table1",
            "sacma.table2",
            "tsart.table1",
            "ez_avgzl.table1",
            "ez_avgzl.table2",
            "ez_avgzl.table3",
        ),
    )

    def __init__(self, spec: DataSpec, config: CJMEConfig | None = None):
        super().__init__()
        self.config = c = CJMEConfig() if config is None else config
        self.audio = MLP(spec.audio_dim, c.hidden, c.shared, dropout=c.dropout, linear_output=True)
        self.video = MLP(spec.video_dim, c.hidden, c.shared, dropout=c.dropout, linear_output=True)
        self.word = MLP(spec.text_dim, c.hidden_word, c.shared, dropout=c.dropout, linear_output=True)
        self.norm = StepBatchNorm(spec.audio_dim + spec.video_dim)
        self.attention = nn.Linear(spec.audio_dim + spec.video_dim, 1)

    def embed(self, clips: Trio) -> Trio:
        """Averaged features and class vectors in the shared space, ``(B, D)`` each, not negative."""
        networks = (self.audio, self.video, self.word)
        return Trio(*(F.relu(network(x)) for network, x in zip(networks, clips, strict=True)))

    def attend(self, audio: Tensor, video: Tensor) -> Tensor:
        """Weight of video against audio, ``(B,)`` in 0 to 1, from averaged features."""
        return torch.sigmoid(self.attention(self.norm(torch.cat([audio, video], -1)))).squeeze(-1)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Triplets, distance of audio and video, and supervision of the attention: :meth:`terms`.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        class_text, _ = known_classes("CJME.loss", batch)
        clips = Trio(*averages(batch), batch.text)
        positive, negative = self.config.reading.both(self.embed, clips, negatives)
        with torch.no_grad():
            classes = F.relu(self.word(class_text))
        return self.terms(positive, negative, self.attend(clips.audio, clips.video), classes)

    def terms(self, positive: Trio, negative: Trio, attention: Tensor, classes: Tensor) -> Terms:
        """Loss terms of embedded clips.

        Args:
            positive: the clips, ``(B, D)`` each.
            negative: for each a clip of another class, ``(B, D)`` each.
            attention: ``(B,)``.
            classes: embedded classes ``(K, D)``.
        """
        c = self.config
        heard, seen = (
            F.triplet_margin_loss(positive.text, near, far, margin=c.margin, reduction="none")
            for near, far in ((positive.audio, negative.audio), (positive.video, negative.video))
        )
        target = trusted(entropy(positive.audio, classes), entropy(positive.video, classes), c.slack)
        return {
            "triplet": c.reading.weigh(attention, heard, seen),
            "distance": F.mse_loss(positive.audio, positive.video),
            "attention": F.mse_loss(attention, target),
        }

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` of the trusted modality to the embedded ``class_vectors (K, D_text)``."""
        return self.nearest(*averages(batch), class_vectors)

    def nearest(self, audio: Tensor, video: Tensor, class_vectors: Tensor) -> Tensor:
        """See :meth:`distances`, from averaged features ``(B, D_audio)`` and ``(B, D_video)``."""
        words = F.relu(self.word(class_vectors))
        heard = prototype_distances(F.relu(self.audio(audio)), words)
        seen = prototype_distances(F.relu(self.video(video)), words)
        return dominant(self.attend(audio, video), heard, seen)


def dominant(attention: Tensor, heard: Tensor, seen: Tensor) -> Tensor:
    """Rows of ``seen (B, K)`` where ``attention (B,)`` is 0.5 or more, of ``heard (B, K)`` elsewhere.

    Example:
        >>> dominant(torch.tensor([0.4, 0.5]), torch.zeros(2, 1), torch.ones(2, 1)).tolist()
        [[0.0], [1.0]]
    """
    return torch.where((attention >= 0.5).unsqueeze(-1), seen, heard)


def entropy(embedding: Tensor, classes: Tensor) -> Tensor:
    """Entropy ``(B,)``, in nats, of a softmax over products of ``embedding (B, D)`` and ``classes (K, D)``.

    Example:
        >>> round(entropy(torch.zeros(1, 2), torch.ones(4, 2)).exp().item(), 5)
        4.0
    """
    score = (embedding.detach() @ classes.detach().t()).log_softmax(-1)
    return -(score.exp() * score).sum(-1)


def trusted(heard: Tensor, seen: Tensor, slack: float) -> Tensor:
    """1 where the entropy of video is lower than that of audio by more than ``slack``, 0 the other way round, else 0.5.

    Example:
        >>> trusted(torch.tensor([1.0, 1.0, 1.05]), torch.tensor([0.5, 1.5, 1.0]), slack=0.1).tolist()
        [1.0, 0.0, 0.5]
    """
    gain = heard - seen
    return 0.5 + 0.5 * torch.where(gain.abs() > slack, gain.sign(), 0.0)
