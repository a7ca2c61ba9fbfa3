"""Surrogate derivatives of the spike: what training uses in place of the derivative of the step function.

A neuron fires where ``u = v - theta >= 0``; the true derivative is zero or infinite, so the backward pass uses
``grad(u)``, the derivative of the smooth ``primitive(u)``. The arithmetic is in :mod:`neuroav.kernels.reference`
(and again in ``csrc/common/lif.h``); kernels know a surrogate by its ``code``, ``alpha`` and ``scale``.

Other libraries' names: SpikingJelly's ``ATan(a)``, ``Sigmoid(a)``, ``SuperSpike(a)`` are those here; its
``SoftSign(a)`` is ``FastSigmoid(a, scale=a / 2)``, its ``PiecewiseQuadratic(a)`` is ``Triangle(1 / a)``. snnTorch's
``atan(alpha)``, ``sigmoid(slope)``, ``fast_sigmoid(slope)`` are ``ATan(alpha)``, ``Sigmoid(slope)``,
``FastSigmoid(slope)``; its ``triangular`` is no bump (negative above the threshold) and has no counterpart.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.kernels import reference


class Surrogate(ABC):
    """A bump around the threshold: ``grad(u)`` and the smooth step ``primitive(u)`` it is the derivative of.

    Every one takes a ``scale`` that it is multiplied by, 1 if not given.
    """

    code: ClassVar[int]

    @property
    @abstractmethod
    def alpha(self) -> float:
        """Steepness or width, dimensionless."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """What the bump is multiplied by."""

    @abstractmethod
    def primitive(self, u: Tensor) -> Tensor:
        """The smooth step at ``u = v - theta`` of any shape; its derivative is :meth:`grad`."""

    def grad(self, u: Tensor) -> Tensor:
        """The derivative used in place of the spike's, at ``u = v - theta`` of any shape; same shape."""
        return reference.surrogate_grad(u, self.code, self.alpha, self.scale)

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if not 0.0 < value < math.inf:
                raise fail(type(self).__name__, f"{field.name} above 0 and finite", f"{value:g}")


@dataclass(frozen=True)
class ATan(Surrogate):
    r"""Arctangent: :math:`g(u) = \frac{\alpha/2}{1 + (\frac{\pi}{2}\alpha u)^2}`, the default of [plif].

    Example:
        >>> ATan(2.0).grad(torch.zeros(1)).item()
        1.0
    """

    alpha: float = 2.0
    scale: float = 1.0
    code: ClassVar[int] = reference.ATAN

    def primitive(self, u: Tensor) -> Tensor:
        r""":math:`\arctan(\frac{\pi}{2}\alpha u) / \pi + \frac12`."""
        return self.scale * (torch.atan(math.pi / 2 * self.alpha * u) / math.pi + 0.5)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    r"""Logistic: :math:`g(u) = \alpha\,\sigma(\alpha u)(1 - \sigma(\alpha u))`; SpikingJelly's default is alpha = 4.

    Example:
        >>> Sigmoid(4.0).grad(torch.zeros(1)).item()
        1.0
    """

    alpha: float = 4.0
    scale: float = 1.0
    code: ClassVar[int] = reference.SIGMOID

    def primitive(self, u: Tensor) -> Tensor:
        r""":math:`\sigma(\alpha u)`."""
        return self.scale * torch.sigmoid(self.alpha * u)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    r"""SuperSpike's :math:`g(u) = 1 / (1 + k|u|)^2` [superspike]; snnTorch's default is slope = 25.

    Differs from the paper: nothing (its beta is ``slope``). The primitive runs from -1/k to 1/k, not from 0 to 1.

    Example:
        >>> FastSigmoid(slope=1.0).grad(torch.ones(1)).item()
        0.25
    """

    slope: float = 25.0
    scale: float = 1.0
    code: ClassVar[int] = reference.FAST_SIGMOID

    @property
    def alpha(self) -> float:
        """The slope ``k``."""
        return self.slope

    def primitive(self, u: Tensor) -> Tensor:
        """``u / (1 + k|u|)``."""
        return self.scale * u / (1 + self.slope * u.abs())


@dataclass(frozen=True)
class SuperSpike(Surrogate):
    r"""SpikingJelly's reading of [superspike]: :math:`g(u) = \alpha / (1 + |u|)^2`, whose height is the parameter.

    Differs from the paper: there the parameter is the slope, as in :class:`FastSigmoid`; both are the same at 1.

    Example:
        >>> SuperSpike(2.0).grad(torch.ones(1)).item()
        0.5
    """

    height: float = 1.0
    code: ClassVar[int] = reference.FAST_SIGMOID
    alpha: ClassVar[float] = 1.0

    @property
    def scale(self) -> float:
        """The height."""
        return self.height

    def primitive(self, u: Tensor) -> Tensor:
        """``height u / (1 + |u|)``."""
        return self.height * u / (1 + u.abs())


@dataclass(frozen=True)
class Triangle(Surrogate):
    r"""A triangle of unit area: :math:`g(u) = \max(0, 1 - |u|/w) / w`, zero beyond ``width``.

    Example:
        >>> Triangle(width=1.0).grad(torch.tensor([-2.0, -0.5, 0.0])).tolist()
        [0.0, 0.5, 1.0]
    """

    width: float = 1.0
    scale: float = 1.0
    code: ClassVar[int] = reference.TRIANGLE

    @property
    def alpha(self) -> float:
        """The half width ``w`` of the base."""
        return self.width

    def primitive(self, u: Tensor) -> Tensor:
        """The triangle's area to the left of ``u``."""
        z = (u / self.width).clamp(-1, 1)
        return self.scale * (0.5 + z - z * z.abs() / 2)
