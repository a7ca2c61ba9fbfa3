"""Spiking neurons: state is passed, not hidden; sequences are ``(T, B, *)``; thresholds may be signals."""

from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIF, Full, LIFState, Recompute, lif_step
from neuroav.neurons.plif import PLIF
from neuroav.neurons.sparse import SparseLinearLIF
from neuroav.neurons.surrogate import ATan, FastSigmoid, Sigmoid, SuperSpike, Surrogate, Triangle
from neuroav.neurons.threshold import ALIF, ALIFState, LearnedThreshold

__all__ = [
    "ALIF",
    "LIF",
    "PLIF",
    "ALIFState",
    "ATan",
    "DynamicLIF",
    "FastSigmoid",
    "Full",
    "LIFState",
    "LearnedThreshold",
    "Recompute",
    "Sigmoid",
    "SparseLinearLIF",
    "SuperSpike",
    "Surrogate",
    "Triangle",
    "lif_step",
]
