"""Features made up for classes without clips: generator, encoder, critics; and a classifier that learns from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from neuroav.checks import check_range, fail

LEAK = 0.2  # slope of the critics' leaky ReLU below 0
INITIAL_STD = 0.02
FIRST_MOMENT = 0.5  # Adam's first beta, of the classifier


def _initialise(module: nn.Module) -> None:
    """Weights normal with standard deviation 0.02, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Critic(nn.Module):
    """How real features look: one hidden layer with leaky ReLU.

    The output has no bias, because a Wasserstein distance is a difference of scores and its gradient is 0.

    Args:
        dim: width of the features, ``D``.
        given: width of what they are judged with, ``D_text``, or 0.
        hidden: hidden width.
    """

    def __init__(self, dim: int, given: int, hidden: int):
        super().__init__()
        self.hidden, self.output = nn.Linear(dim + given, hidden), nn.Linear(hidden, 1, bias=False)
        _initialise(self)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Score features ``x (B, D)``, with class vectors ``(B, D_text)`` if it takes them: ``(B,)``."""
        return self.output(F.leaky_relu(self.hidden(torch.cat([x, *given], -1)), LEAK))[:, 0]

    def slope(self, x: Tensor, *given: Tensor) -> Tensor:
        """Gradient ``(B, D)`` of each score with respect to its ``x (B, D)``, in closed form."""
        inner = self.hidden(torch.cat([x, *given], -1))
        weight = self.output.weight
        return torch.where(inner > 0, weight, LEAK * weight) @ self.hidden.weight[:, : x.shape[1]]

    def cost(self, real: Tensor, fake: Tensor, mix: Tensor, penalty: float, *given: Tensor) -> Tensor:
        """Minus the Wasserstein distance, and the gradient penalty of WGAN-GP between real and fake.

        Args:
            real: features of clips, ``(B, D)``.
            fake: features made up, ``(B, D)``.
            mix: ``(B, 1)`` in [0, 1], share of the real ones where the gradient is taken.
            penalty: weight of ``(norm of the gradient - 1) ** 2``.
            *given: class vectors ``(B, D_text)``, if it takes them.
        """
        norm = self.slope(mix * real + (1 - mix) * fake, *given).norm(dim=1)
        return self(fake, *given).mean() - self(real, *given).mean() + penalty * (norm - 1).square().mean()


def judged(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return ``module(*inputs)`` by its present weights, which get no gradient: inputs alone learn from it."""
    still = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, still, inputs)


class Generator(nn.Module):
    """Features from noise and a class vector: one hidden layer with ReLU.

    Args:
        latent: width of the noise, ``D_latent``.
        text_dim: width of a class vector.
        hidden: hidden width.
        dim: width of the features, ``D``.
        output: what ends it, such as ``nn.Sigmoid()``.
    """

    def __init__(self, latent: int, text_dim: int, hidden: int, dim: int, output: nn.Module):
        super().__init__()
        self.latent = latent
        self.layers = nn.Sequential(nn.Linear(latent + text_dim, hidden), nn.ReLU(), nn.Linear(hidden, dim), output)

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        """Features ``(B, D)`` from ``noise (B, D_latent)`` and ``text (B, D_text)``."""
        return self.layers(torch.cat([noise, text], -1))

    def typical(self, text: Tensor) -> Tensor:
        """Features ``(K, D)`` of class vectors ``(K, D_text)`` in the middle of the noise, at 0."""
        return self(text.new_zeros(len(text), self.latent), text)

    def sample(self, text: Tensor) -> Tensor:
        """Features ``(B, D)`` of ``text (B, D_text)`` with fresh noise from torch's generator."""
        return self(torch.randn(len(text), self.latent, device=text.device, dtype=text.dtype), text)


class Encoder(nn.Module):
    """Mean and logarithm of the variance of the noise that would make some features: one hidden layer with ReLU."""

    def __init__(self, dim: int, text_dim: int, hidden: int, latent: int):
        super().__init__()
        self.hidden = nn.Linear(dim + text_dim, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, x: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Both ``(B, D_latent)``, of ``x (B, D)`` with ``text (B, D_text)``."""
        inner = F.relu(self.hidden(torch.cat([x, text], -1)))
        return self.mean(inner), self.log_variance(inner)


@dataclass(frozen=True)
class EqualClasses:
    """Every class weighs the same, however many clips it has."""

    def __call__(self, counts: Tensor) -> Tensor:
        """Weight of a clip of each class, ``(K,)``, from ``counts (K,)``."""
        return counts.clamp_min(1).reciprocal() * counts.sum() / len(counts)


@dataclass(frozen=True)
class EqualClips:
    """Every clip weighs the same, real or made up."""

    def __call__(self, counts: Tensor) -> Tensor:
        """See :meth:`EqualClasses.__call__`."""
        return torch.ones_like(counts)


@dataclass(frozen=True, kw_only=True)
class SoftmaxConfig:
    """How the classifier is fitted; defaults are those of the released code of [avca] for UCF-GZSL.

    Attributes:
        synthetic: clips made up for each unseen class; 1000 as released (10000 for VGGSound, 3 GB of features).
        epochs: passes over real and made up clips.
        batch_size: clips per step.
        lr: Adam's learning rate.
        weigh: ``EqualClasses()``, or ``EqualClips()`` as released: then the few clips of seen classes count little
            beside so many made up ones.
    """

    synthetic: int = 1000
    epochs: int = 30
    batch_size: int = 1000
    lr: float = 1e-3
    weigh: EqualClasses | EqualClips = field(default_factory=EqualClasses)

    def __post_init__(self) -> None:
        for name in ("synthetic", "epochs", "batch_size"):
            check_range("SoftmaxConfig", name, getattr(self, name), 1)
        check_range("SoftmaxConfig", "lr", self.lr, 0)


class ClassSoftmax(nn.Module):
    """A linear softmax classifier, fitted once, over classes that are addressed by their class vectors.

    Its weights are buffers, saved with the model; before :meth:`fit` it has no class.
    """

    text: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, text_dim: int):
        super().__init__()
        self.register_buffer("text", torch.zeros(0, text_dim))
        self.register_buffer("weight", torch.zeros(0, dim))
        self.register_buffer("bias", torch.zeros(0))

    def fit(
        self,
        x: Tensor,
        target: Tensor,
        text: Tensor,
        seen: Tensor,
        make: Callable[[Tensor], Tensor],
        config: SoftmaxConfig,
    ) -> None:
        """Fit on clips of seen classes and on made up ones of the others; draws from torch's generator.

        Args:
            x: features of clips, ``(R, D)``.
            target: ``(R,)`` class of each.
            text: vectors ``(K, D_text)`` of all classes.
            seen: ``(K,)`` bool, classes that have clips.
            make: makes features ``(B, D)`` of class vectors ``(B, D_text)``.
            config: how many, how long.
        """
        with torch.no_grad():
            unseen = (~seen).nonzero()[:, 0]
            made = [make(text[k].expand(config.synthetic, -1)) for k in unseen]
        x, target = torch.cat([x, *made]), torch.cat([target, unseen.repeat_interleave(config.synthetic)])
        weights = config.weigh(torch.bincount(target, minlength=len(text)).to(x.dtype))
        layer = nn.Linear(x.shape[1], len(text), device=x.device, dtype=x.dtype)
        _initialise(layer)
        optimizer = torch.optim.Adam(layer.parameters(), lr=config.lr, betas=(FIRST_MOMENT, 0.999))
        with torch.enable_grad():
            for _ in range(config.epochs):
                for rows in torch.randperm(len(x), device=x.device).split(config.batch_size):
                    optimizer.zero_grad()
                    F.cross_entropy(layer(x[rows]), target[rows], weights).backward()
                    optimizer.step()
        self.text, self.weight, self.bias = text.clone(), layer.weight.detach(), layer.bias.detach()

    def distances(self, x: Tensor, vectors: Tensor) -> Tensor:
        """``-log p`` of each class given by ``vectors (K, D_text)``, among these alone, ``(B, K)`` of ``x (B, D)``.

        Raises:
            InputError: If it was not fitted with one of the classes.
        """
        same = (vectors[:, None] == self.text).all(-1)
        if not same.any(1).all():
            missing = int((~same.any(1)).sum())
            raise fail(
                "distances", "classes that fit_extra was given", f"{missing} others", "Call fit_extra with them."
            )
        columns = same.int().argmax(1)
        return -F.linear(x, self.weight[columns], self.bias[columns]).log_softmax(1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the number of classes from what is loaded."""
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape[1:] == buffer.shape[1:]:
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
