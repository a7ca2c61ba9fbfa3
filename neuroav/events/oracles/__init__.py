"""Inputs whose events follow from a formula, what the formula says, and what a generator makes of them.

Every oracle builds its input from a closed form, works out the events by that closed form and never by the generator,
and compares. They judge any function that is called like :func:`neuroav.events.generate.frames_to_events`, so they
also judge deliberately wrong ones: the tests keep a list of those, and every one of them is caught.
"""

from __future__ import annotations

from neuroav.events.oracles.cases import Bars, Check, Finding, Generator, Maps, Oracle, Trace
from neuroav.events.oracles.laws import conservation, conservation_of, geometry, monotone, order, symmetry
from neuroav.events.oracles.paths import every_step, float_ramp, float_sine, grey_sine, log_ramp, static_scene
from neuroav.events.oracles.sensor import extremes, float_extremes, leak, low_pass, mismatch, refractory, shot

__all__ = [
    "ORACLES",
    "Bars",
    "Check",
    "Finding",
    "Generator",
    "Maps",
    "Oracle",
    "Trace",
    "conservation_of",
]

ORACLES = (
    Oracle("1", "Static scene", "A pixel whose brightness does not change never fires.", static_scene),
    Oracle("2", "Log ramp", "The k-th event of a ramp of slope s comes at k C / s, from whichever frames.", log_ramp),
    Oracle("2f", "Log ramp, float frames", "2 frames and 200 frames of one ramp give one list.", float_ramp, False),
    Oracle("3", "Every step", "A step of height h fires floor(|h| / C) times, the k-th at k C dt / |h|.", every_step),
    Oracle("4", "Sine", "With m = floor(A / C) a sine fires 2 m ON and 2 m OFF per cycle at known levels.", grey_sine),
    Oracle("4f", "Sine, float frames", "The same, off by the curvature between frames only.", float_sine, False),
    Oracle("5", "Conservation", "Brightness minus what the events say stays between the thresholds.", conservation),
    Oracle(
        "6", "Symmetry, gain, time scale", "What mirrors or scales the input mirrors or scales the events.", symmetry
    ),
    Oracle("7", "Geometry, chunks, threads", "Flips, crops, cuts, batches and threads change no event.", geometry),
    Oracle("8", "Order", "Events are sorted by time, row and column and lie inside their interval.", order),
    Oracle("9", "Thresholds", "A lower threshold gives more events; unequal ones share them out.", monotone),
    Oracle("10", "Refractory period", "Each of the three rules gives the times worked out by hand.", refractory, False),
    Oracle("11a", "Leak", "A static pixel that leaks at r Hz fires ON every 1 / r seconds.", leak, False),
    Oracle(
        "11b", "Threshold mismatch", "Mean, spread and clamp of the thresholds are those asked for.", mismatch, False
    ),
    Oracle("11c", "Shot noise", "Rate, polarity and gaps of shot noise follow its law at any frame rate.", shot, False),
    Oracle("11d", "Low pass", "A step through n frames of the low pass has the closed-form height.", low_pass, False),
    Oracle("12", "Extremes", "Hours, single pixels, black to white: exact; impossible input: refused.", extremes),
    Oracle(
        "12f", "Extremes, float frames", "Not-a-number is refused; float32 and float64 agree.", float_extremes, False
    ),
)
