"""f-VAEGAN-D2: features of unseen classes are made up by a VAE that is also a GAN, then classified by softmax."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card, joined_averages
from neuroav.checks import check_range
from neuroav.data.types import Batch, Classes, DataSpec
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.synthesis import ClassSoftmax, Critic, Encoder, Generator, SoftmaxConfig, judged

LEAST_LOG = -100.0  # of a probability, as in torch's cross-entropy, which takes no features below 0


class Encoded(NamedTuple):
    """What the VAE makes of a batch: mean and logarithm of the variance ``(B, D_latent)``, features ``(B, D)``."""

    mean: Tensor
    log_variance: Tensor
    rebuilt: Tensor


def divergence(encoded: Encoded) -> Tensor:
    """Kullback-Leibler divergence of each clip's noise from the standard normal law, ``(B,)``."""
    mean, log_variance = encoded.mean, encoded.log_variance
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


@dataclass(frozen=True)
class AsPublished:
    """What the paper intends, for standardised features; see :class:`FVAEGAND2`.

    Attributes:
        adversarial: weight of the generator's adversarial terms beside the VAE's mean over clips. Ours: on a simulated
            UCF-GZSL, 1 did better than 10, and 10 better than 100.
        critic_steps: steps of the critics for each of generator and encoder.
    """

    adversarial: float = 1.0
    critic_steps: int = 5
    marginal: ClassVar[float] = 1.0

    def features(self, x: Tensor) -> Tensor:
        """Features as they come, standardised by the data."""
        return x

    def ending(self) -> nn.Module:
        """Make what ends the generator: nothing, features have both signs."""
        return nn.Identity()

    def vae(self, x: Tensor, encoded: Encoded) -> Tensor:
        """Evidence bound under a normal law of variance 1, mean over clips."""
        return (0.5 * (x - encoded.rebuilt).square().sum(1) + divergence(encoded)).mean()


@dataclass(frozen=True)
class AsReleased:
    """What the released code does to raw features (``Experiment(inputs=AsStored())``); see :class:`FVAEGAND2`.

    Attributes:
        adversarial: weight of the generator's adversarial terms beside the VAE's sum over clips.
        critic_steps: as in :class:`AsPublished`.
    """

    adversarial: float = 1e5
    critic_steps: int = 1
    marginal: ClassVar[float] = 0.0

    def features(self, x: Tensor) -> Tensor:
        """Each clip's features divided by their L2 norm."""
        return F.normalize(x)

    def ending(self) -> nn.Module:
        """Make what ends the generator: a sigmoid."""
        return nn.Sigmoid()

    def vae(self, x: Tensor, encoded: Encoded) -> Tensor:
        """Binary cross-entropy and divergence, summed over clips."""
        right, wrong = (p.log().clamp_min(LEAST_LOG) for p in (encoded.rebuilt, 1 - encoded.rebuilt))
        return divergence(encoded).sum() - (x * right + (1 - x) * wrong).sum()


@dataclass(frozen=True, kw_only=True)
class FVAEGAND2Config:
    """Sizes and weights; defaults are those of the released code of [avca].

    Attributes:
        latent: width of the noise.
        hidden_encoder: hidden width of the encoder.
        hidden: hidden width of the generator.
        hidden_critic: hidden width of the critics.
        penalty: weight of the gradient penalty.
        softmax: how the classifier is fitted.
        reading: the paper's intent, or the released code with its errors.
    """

    latent: int = 300
    hidden_encoder: int = 300
    hidden: int = 512
    hidden_critic: int = 512
    penalty: float = 10.0
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        for name in ("latent", "hidden_encoder", "hidden", "hidden_critic"):
            check_range("FVAEGAND2Config", name, getattr(self, name), 1)
        check_range("FVAEGAND2Config", "penalty", self.penalty, 0)
        check_range("FVAEGAND2Config", "reading.adversarial", self.reading.adversarial, 0)
        check_range("FVAEGAND2Config", "reading.critic_steps", self.reading.critic_steps, 1)


class Draws(NamedTuple):
    """Random numbers of one step.

    Attributes:
        noise: ``(B, D_latent)`` normal, of the features made up.
        encoded: ``(B, D_latent)`` normal, of the VAE.
        mix: ``(B, 1)`` uniform, where the conditional critic's gradient is taken.
        mix_marginal: ``(B, 1)``, where the other one's is.
    """

    noise: Tensor
    encoded: Tensor
    mix: Tensor
    mix_marginal: Tensor


class FVAEGAND2(nn.Module):
    """A generator trained as decoder of a conditional VAE and against two critics, one of which sees no class.

    The model of [fvaegan] on audio and video averaged over the clip, side by side. Each step trains the critics on
    features made up from noise; every ``critic_steps`` steps, beginning with the first, generator and encoder learn
    from the same batch: terms of the critics and of the generator share no parameter, so one optimiser serves both.
    After training :meth:`fit_extra` fits a softmax classifier on real clips of seen and made up ones of unseen
    classes, whose ``-log p`` are the distances; before, during training, distances are those to the features that the
    generator makes of each class at noise 0. Released: ``TrainConfig(betas=(0.5, 0.999), lr=1e-3, batch_size=64)``.

    Differs from the paper: inputs are standardised and not scaled to [0, 1], so the generator ends linearly and its
    law is normal, with a squared error in place of the cross-entropy; no unlabelled clips of unseen classes are to be
    had, so the unconditional critic sees those of seen classes; critics and generator take their steps at once, from
    the same weights; one classifier answers both for all classes and for the unseen ones alone, all classes weigh the
    same in it, and the protocol's calibration follows.

    The code of [avca], whose figures stand in its and later tables, does otherwise in these points, those that are
    the model's in ``reading=AsReleased()`` with ``softmax=SoftmaxConfig(weigh=EqualClips())``:

    * Raw features are scaled to unit length; the generator ends in a sigmoid and learns by binary cross-entropy.
    * The unconditional critic is trained, but nothing learns from it.
    * The loop leaves each epoch after its first step, the only one in which critics and generator learn:
      ``TrainConfig(epochs=50, batches=1)``. Within it, critics take their step before the generator's losses.
    * A second classifier, of made up clips alone, answers for the unseen classes; of either, the best epoch on the
      evaluated clips themselves counts, without calibration. This is not built.
    """

    Config = FVAEGAND2Config
    CARD = Card(
        title="f-VAEGAN-D2",
        paper="fvaegan",
        year=2019,
        inputs="averaged",
        rows=("mdft.table1", "sacma.table2", "tsart.table1"),
    )
    steps: Tensor

    def __init__(self, spec: DataSpec, config: FVAEGAND2Config | None = None):
        super().__init__()
        self.config = c = FVAEGAND2Config() if config is None else config
        dim, text_dim = spec.audio_dim + spec.video_dim, spec.text_dim
        self.encoder = Encoder(dim, text_dim, c.hidden_encoder, c.latent)
        self.generator = Generator(c.latent, text_dim, c.hidden, dim, c.reading.ending())
        self.critic = Critic(dim, text_dim, c.hidden_critic)
        self.marginal_critic = Critic(dim, 0, c.hidden_critic)
        self.softmax = ClassSoftmax(dim, text_dim)
        self.register_buffer("steps", torch.tensor(0))

    def features(self, batch: Batch) -> Tensor:
        """Audio and video averaged over the clip, ``(B, D)``, as the reading has them."""
        return self.config.reading.features(joined_averages(batch))

    def draw(self, x: Tensor) -> Draws:
        """Random numbers for features ``x (B, D)``, from torch's generator."""
        noise, encoded = (x.new_empty(len(x), self.config.latent).normal_() for _ in range(2))
        return Draws(noise, encoded, *(x.new_empty(len(x), 1).uniform_() for _ in range(2)))

    def critic_terms(self, x: Tensor, text: Tensor, fake: Tensor, draws: Draws) -> Terms:
        """What the critics minimise, given ``fake (B, D)`` made of ``text (B, D_text)``."""
        fake, penalty = fake.detach(), self.config.penalty
        return {
            "critic": self.critic.cost(x, fake, draws.mix, penalty, text),
            "marginal_critic": self.marginal_critic.cost(x, fake, draws.mix_marginal, penalty),
        }

    def encode(self, x: Tensor, text: Tensor, noise: Tensor) -> Encoded:
        """Pass features ``x (B, D)`` through the VAE, with normal ``noise (B, D_latent)``."""
        mean, log_variance = self.encoder(x, text)
        return Encoded(mean, log_variance, self.generator(noise * (0.5 * log_variance).exp() + mean, text))

    def generator_terms(self, x: Tensor, text: Tensor, fake: Tensor, encoded: Encoded) -> Terms:
        """What generator and encoder minimise; the critics judge what was made up and what was rebuilt."""
        reading = self.config.reading
        adversarial = x.new_zeros(())
        for made in (encoded.rebuilt, fake):
            adversarial = adversarial - judged(self.critic, made, text).mean()
            adversarial = adversarial - reading.marginal * judged(self.marginal_critic, made).mean()
        return {"vae": reading.vae(x, encoded), "adversarial": reading.adversarial * adversarial}

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Terms of the critics and, in every ``critic_steps``-th step, of the generator; no ``negatives``."""
        x, text = self.features(batch), batch.text
        draws = self.draw(x)
        fake = self.generator(draws.noise, text)
        terms = self.critic_terms(x, text, fake, draws)
        if int(self.steps) % self.config.reading.critic_steps == 0:
            terms |= self.generator_terms(x, text, fake, self.encode(x, text, draws.encoded))
        if self.training:
            self.steps += 1
        return terms

    def fit_extra(self, batches: Iterable[Batch], classes: Classes, seen: Tensor) -> None:
        """See :class:`~neuroav.baselines.base.AVModel`: the softmax classifier."""
        rows = [(self.features(batch), batch.label) for batch in batches]
        x, target = torch.cat([x for x, _ in rows]), torch.searchsorted(classes.label, torch.cat([y for _, y in rows]))
        self.softmax.fit(x, target, classes.text, seen, self.synthesise, self.config.softmax)

    def synthesise(self, text: Tensor) -> Tensor:
        """Make features ``(B, D)`` of ``text (B, D_text)``."""
        return self.config.reading.features(self.generator.sample(text))

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """``-log p`` of ``class_vectors (K, D_text)`` by the classifier, or before it Euclidean distances ``(B, K)``.

        Raises:
            InputError: If the classifier was fitted without one of the classes.
        """
        x = self.features(batch)
        if len(self.softmax.text):
            return self.softmax.distances(x, class_vectors)
        return prototype_distances(x, self.config.reading.features(self.generator.typical(class_vectors)))
