"""What a model costs: operations counted, energy estimated from published prices, energy measured; never mixed."""

from neuroav.energy.count import OpCount, count

__all__ = ["OpCount", "count"]
