"""PLIF: leaky integrate-and-fire neurons that learn their time constant."""

from __future__ import annotations

from neuroav.neurons.lif import LIF


class PLIF(LIF):
    r"""Parametric LIF: :math:`1 / \tau = \sigma(w)` with a learnt ``w``, one per layer or per neuron.

    The neuron of [plif]. Differs from the paper: ``tau`` given as ``(N,)`` learns one time constant per neuron, the
    paper one per layer. The arguments are :class:`neuroav.neurons.lif.LIF`'s.

    Example:
        >>> [name for name, _ in PLIF(tau=2.0).named_parameters()]
        ['decay_logit']
    """

    def __init__(self, num_neurons: int | None = None, *, v_th: float = 1.0, **options):
        super().__init__(num_neurons, v_th=v_th, **{**options, "learn_tau": True})
