"""NIR, the exchange format of neuromorphic tools [nir]: graphs out, graphs in, and whether they mean the same.

Write with :func:`to_nir` and :func:`write_nir`, read with :func:`from_nir`, and ask with :func:`verify` what other
tools make of a graph. A NIR neuron has a fixed threshold, fires above it, resets to a value, and a file does not hold
the time step; what follows from that is said by :func:`to_nir`.
"""

from neuroav.exchange.nir_export import to_nir, write_nir
from neuroav.exchange.nir_import import NIRNetwork, from_nir
from neuroav.exchange.nir_verify import ReaderResult, Verification, verify

__all__ = ["NIRNetwork", "ReaderResult", "Verification", "from_nir", "to_nir", "verify", "write_nir"]
