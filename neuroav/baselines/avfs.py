"""AVFS: features of unseen classes are made up so that they look real, tell their class, and lie near its clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card, joined_averages, known_classes
from neuroav.checks import check_range
from neuroav.data.types import Batch, Classes, DataSpec
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.synthesis import ClassSoftmax, Critic, Generator, SoftmaxConfig, judged


def class_contrast(made: Tensor, real: Tensor, label: Tensor, temperature: float) -> Tensor:
    """How badly each made up clip is told apart from the real clips of other classes, by cosine.

    Args:
        made: ``(B, D)``.
        real: ``(B, D)``.
        label: ``(B,)`` class of each row of either.
        temperature: that cosines are divided by, above 0.

    Returns:
        Mean of ``-log`` of the share that real clips of the same class have in the softmax over all real clips.

    Example:
        >>> x = torch.eye(2)
        >>> round(class_contrast(x, x, torch.tensor([0, 1]), temperature=1.0).item(), 4)  # log(1 + 1/e)
        0.3133
    """
    logits = F.normalize(made) @ F.normalize(real).t() / temperature
    same = label[:, None] == label
    return (logits.logsumexp(1) - logits.masked_fill(~same, -torch.inf).logsumexp(1)).mean()


@dataclass(frozen=True, kw_only=True)
class AVFSConfig:
    """Sizes and weights; all of them ours.

    Attributes:
        latent: width of the noise.
        hidden: hidden width of the generator.
        hidden_critic: hidden width of the critic.
        shared: width of the space of the contrast, where classes are told apart.
        penalty: weight of the gradient penalty.
        critic_steps: steps of the critic for each of the generator.
        adversarial: weight of the critic's judgement.
        discriminative: weight of the classification of made up clips.
        contrastive: weight of the contrast of made up and real clips.
        temperature: of the contrast.
        softmax: how the last classifier is fitted.
    """

    latent: int = 300
    hidden: int = 512
    hidden_critic: int = 512
    shared: int = 256
    penalty: float = 10.0
    critic_steps: int = 5
    adversarial: float = 1.0
    discriminative: float = 1.0
    contrastive: float = 1.0
    temperature: float = 0.1
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)

    def __post_init__(self) -> None:
        for name in ("latent", "hidden", "hidden_critic", "shared", "critic_steps"):
            check_range("AVFSConfig", name, getattr(self, name), 1)
        for name in ("penalty", "adversarial", "discriminative", "contrastive"):
            check_range("AVFSConfig", name, getattr(self, name), 0)
        check_range("AVFSConfig", "temperature", self.temperature, 1e-3)


class AVFS(nn.Module):
    """A generator of audio and video features, trained by a critic, by a classifier and by contrast with real clips.

    Of [avfs] no more was at hand than that it makes up audio and video features of unseen classes by contrastive and
    discriminative learning. Everything else here is ours, so its figures are no reproduction of the published ones:

    * One generator makes averaged audio and video, side by side, of noise and a class vector, against a critic with
      gradient penalty that knows the class.
    * Discriminative: a linear map onto class vectors learns to classify the clips of the training classes; made up
      clips shall be classified right by it.
    * Contrastive: behind a linear projection, a made up clip shall be nearer to the real clips of its class in the
      batch than to those of others.
    * Classes are told apart behind that projection: as for f-VAEGAN-D2, :meth:`fit_extra` fits a softmax classifier on
      real clips of seen and made up ones of unseen classes, whose ``-log p`` are the distances; before, distances are
      those to what the generator makes at noise 0, all of them scaled to length 1.
    """

    Config = AVFSConfig
    CARD = Card(title="AVFS", paper="avfs", year=2023, inputs="averaged", rows=("sacma.table2",))
    steps: Tensor

    def __init__(self, spec: DataSpec, config: AVFSConfig | None = None):
        super().__init__()
        self.config = c = AVFSConfig() if config is None else config
        dim, text_dim = spec.audio_dim + spec.video_dim, spec.text_dim
        self.generator = Generator(c.latent, text_dim, c.hidden, dim, nn.Identity())
        self.critic = Critic(dim, text_dim, c.hidden_critic)
        self.classify = nn.Linear(dim, text_dim, bias=False)
        self.project = nn.Linear(dim, c.shared)
        self.softmax = ClassSoftmax(c.shared, text_dim)
        self.register_buffer("steps", torch.tensor(0))

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Terms of critic and classifier and, in every ``critic_steps``-th step, of the generator; no ``negatives``.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        c, x, text = self.config, joined_averages(batch), batch.text
        vectors, target = known_classes("AVFS.loss", batch)
        fake, mix = self.generator.sample(text), x.new_empty(len(x), 1).uniform_()
        terms = {
            "critic": self.critic.cost(x, fake.detach(), mix, c.penalty, text),
            "classifier": F.cross_entropy(self.classify(x) @ vectors.t(), target),
        }
        if int(self.steps) % c.critic_steps == 0:
            told = F.cross_entropy(judged(self.classify, fake) @ vectors.t(), target)
            contrast = class_contrast(self.project(fake), self.project(x), batch.label, c.temperature)
            terms |= {
                "adversarial": -c.adversarial * judged(self.critic, fake, text).mean(),
                "discriminative": c.discriminative * told,
                "contrastive": c.contrastive * contrast,
            }
        if self.training:
            self.steps += 1
        return terms

    def fit_extra(self, batches: Iterable[Batch], classes: Classes, seen: Tensor) -> None:
        """See :class:`~neuroav.baselines.base.AVModel`: the softmax classifier."""
        rows = [(self.project(joined_averages(batch)), batch.label) for batch in batches]
        x, target = torch.cat([x for x, _ in rows]), torch.searchsorted(classes.label, torch.cat([y for _, y in rows]))
        self.softmax.fit(x, target, classes.text, seen, self.synthesise, self.config.softmax)

    def synthesise(self, text: Tensor) -> Tensor:
        """Make projected features ``(B, D)`` of ``text (B, D_text)``."""
        return self.project(self.generator.sample(text))

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """``-log p`` of ``class_vectors (K, D_text)`` by the classifier, or before it Euclidean distances ``(B, K)``.

        Raises:
            InputError: If the classifier was fitted without one of the classes.
        """
        x = self.project(joined_averages(batch))
        if len(self.softmax.text):
            return self.softmax.distances(x, class_vectors)
        made = self.project(self.generator.typical(class_vectors))
        return prototype_distances(F.normalize(x), F.normalize(made))
