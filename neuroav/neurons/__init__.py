"""Spiking neurons: state is passed, not hidden; sequences are ``(T, B, N)``; thresholds may be signals."""

from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIF, LIFState, lif_step
from neuroav.neurons.plif import PLIF
from neuroav.neurons.sparse import SparseLinearLIF
from neuroav.neurons.surrogate import ATan, FastSigmoid, Sigmoid, Surrogate, Triangle

__all__ = [
    "LIF",
    "PLIF",
    "ATan",
    "DynamicLIF",
    "FastSigmoid",
    "LIFState",
    "Sigmoid",
    "SparseLinearLIF",
    "Surrogate",
    "Triangle",
    "lif_step",
]
