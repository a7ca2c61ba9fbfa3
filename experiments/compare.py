"""Every system of ``neuroav.models`` under one protocol: MotionScenes ``small`` and a simulated UCF-GZSL.

Command: ``neuroav run experiments/compare.py:all`` (stopped at any time, the same command goes on), or one half of it:
         ``:motionscenes``, ``:simulated``.
Device:  CPU.
Settings: one stage, the same number of steps and the same batches for all, default configurations; where these are too
         wide for the time, the widths below. Learning rates are those of the papers, or 1e-3 where a paper has less
         than the steps here need. Three seeds on MotionScenes, one on the simulated set.
Writes:  ``runs/compare/report.html``, one table; kept in ``experiments/results/compare.md``.

MotionScenes gives averaged models no motion: only MDFT, its controls and ``pooled`` read events. The simulated set has
no pixels at all, and its scores say nothing about the real one.
"""
