"""neuroav: spiking-first audio-visual generalised zero-shot learning.

Shape letters, used by every docstring:

=====  ==========================================================
``T``  time steps               ``P``    polarity (OFF, ON), 2
``B``  batch                    ``H W``  sensor rows, columns
``N``  neurons or features      ``D``    embedding width
``L``  segments or tokens       ``K``    classes
``C``  channels                 ``E``    events
=====  ==========================================================

Sequences are time first, ``(T, B, ...)``; sensor size is ``(H, W)``; times are ``t_us`` (int64 microseconds) or
``t_s`` (seconds). Importing this module loads neither torch nor any kernel; the names below load on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "frames_to_events": "neuroav.events.generate",
    "frames_to_counts": "neuroav.events.represent",
    "EventCamera": "neuroav.events.camera",
    "read_events": "neuroav.events.io",
    "read_video": "neuroav.events.video",
    "Events": "neuroav.events.types",
    "DynamicLIF": "neuroav.neurons.dynamic",
    "LIF": "neuroav.neurons.lif",
    "MDFT": "neuroav.mdft.model",
    "MDFTConfig": "neuroav.mdft.model",
    "Batch": "neuroav.data.types",
    "Store": "neuroav.data.store",
    "evaluate_gzsl": "neuroav.gzsl.protocol",
    "Experiment": "neuroav.config",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'neuroav' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
