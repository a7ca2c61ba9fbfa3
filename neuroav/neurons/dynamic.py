"""LIF neurons whose threshold is an input: one value per step, per sample, per neuron, or any broadcast of these."""

from __future__ import annotations

from torch import Tensor

from neuroav.neurons.lif import LIFLayer, LIFState


class DynamicLIF(LIFLayer):
    """Leaky integrate-and-fire neurons under a threshold signal; the arguments are :class:`LIFLayer`'s.

    Implements Eq. (8)-(9) of [mdft]. Differs from the paper: discrete time, see
    :func:`neuroav.kernels.neurons.dynamic_lif`; where the threshold comes from (Eq. (7)) is the caller's affair.

    Example:
        >>> import torch
        >>> x, theta = torch.ones(3, 1, 2), torch.tensor([0.4, 0.9, 0.4]).view(3, 1, 1)
        >>> spikes, state = DynamicLIF(2)(x, theta)
        >>> spikes[:, 0, 0].tolist()
        [1.0, 0.0, 1.0]
    """

    def forward(
        self, x: Tensor, theta: Tensor | float, state: LIFState | None = None, *, return_membrane: bool = False
    ) -> tuple[Tensor, LIFState] | tuple[Tensor, LIFState, Tensor]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            x: Input current ``(T, B, *)``, float32, float64, bfloat16 or float16, dimensionless.
            theta: Threshold, a number or a tensor that broadcasts to x, such as ``(T, B, 1)``; never expanded along
                steps or samples, and its gradient has its own shape. Infinity silences.
            state: State to start from; ``None`` for ``v_rest``. Not modified.
            return_membrane: Whether to return the membrane before reset as well.

        Returns:
            Spikes like x in {0, 1}; the state after step T; with ``return_membrane`` also the membrane ``(T, B, *)``.
        """
        return self.integrate(x, theta, state, return_membrane)
