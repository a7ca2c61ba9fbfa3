"""Simulated events beside a real sensor's: correlation of signed count maps per frame gap, thresholds fitted.

Command: ``python experiments/real_sensor.py slider_depth_davis240c.npz`` (about 5 s, CPU). The recording holds 7 frames
and 50,000 events of a DAVIS240C on one clock (UZH event camera data set, non-commercial, not part of this repository).
Expected: every gap reaches at least 0.95 of the correlation of the plain difference of log intensity. Writes
``experiments/results/real_sensor.json`` and ``real_sensor.png``.
"""

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from neuroav.bench import sensor
from neuroav.files import save_json
from neuroav.run import versions

RESULTS = Path(__file__).parent / "results"


def draw(recording: sensor.Recording, figures: dict, path: Path) -> None:
    """The second and the last gap: difference of log intensity, simulated, real; blue is darker, red brighter."""
    fit, eps = figures["fitted"], figures["eps"]
    simulated = sensor.signed(sensor.simulate(recording, fit["contrast_on"], fit["contrast_off"], eps))
    real = sensor.signed(sensor.gap_maps(recording.events, recording.edges_us))
    plain = sensor.log_difference(recording, eps)
    figure = Figure(figsize=(9, 5), layout="constrained", facecolor="white")
    for gap, row in zip((1, len(real) - 1), figure.subplots(2, 3), strict=True):
        for ax, name, maps, limit in zip(row, ("Δ log I", "simulated", "real"), (plain, simulated, real), (0.8, 3, 3)):
            ax.imshow(maps[gap], cmap=colormaps["RdBu_r"], vmin=-limit, vmax=limit, interpolation="nearest")
            values = {"Δ log I": figures["plain_difference"][f"eps {eps:g}"], "simulated": fit["correlation"]}
            note = f", correlation with real {values[name][gap]:.3f}" if name in values else ""
            ax.set_title(f"gap {gap + 1}: {name}{note}", fontsize=8, loc="left")
            ax.set_xticks([])
            ax.set_yticks([])
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90)
    Image.open(drawn).convert("RGB").quantize(32).save(path, optimize=True)


def main(path: str) -> None:
    """Compare, write the figures, draw the maps."""
    recording = sensor.read_recording(path)
    figures = sensor.compare(recording)
    save_json(RESULTS / "real_sensor.json", {"versions": versions(), "recording": Path(path).name, **figures})
    draw(recording, figures, RESULTS / "real_sensor.png")
    for name in ("fitted", "held_out"):
        sys.stdout.write(f"{name}: ratio per gap {np.round(figures[name]['ratio'], 3).tolist()}\n")


if __name__ == "__main__":
    main(sys.argv[1])
