"""The README's moving picture: a clip of a class unseen in training, its events, and what MDFT's neurons do with them.

Command: ``python experiments/moving_picture.py RUN`` with a finished run of MDFT, such as
         ``runs/quick`` of ``neuroav run experiments/mdft.py:quick --out runs/quick``.
Device:  CPU, seconds.
Writes:  ``experiments/results/moving_picture.webp``: the pixels and events are those of the run's report.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from neuroav.files import replacing
from neuroav.report.plots import INKS, STYLE

RESULTS = Path(__file__).parent / "results"
LAYER = "video.0"
FRAMES_PER_S = 10
WINDOW_US = 60_000  # events shown at a time
QUALITY = 55
INK = {0: (0.90, 0.62, 0.0), 1: (0.34, 0.71, 0.91)}  # OFF, ON as in the report


def main(run: Path) -> None:
    """Draw every frame and write the animation."""
    with np.load(run / "arrays.npz", allow_pickle=False) as file:
        arrays = dict(file)
    start, end = int(arrays["clip.t_us"][0]), int(arrays["clip.t_us"][-1])
    times = np.arange(start + WINDOW_US, end, 1e6 / FRAMES_PER_S).astype(np.int64)
    with matplotlib.rc_context(STYLE):
        pictures = [picture(arrays, int(t_us)) for t_us in times]
    first, *others = pictures
    with replacing(RESULTS / "moving_picture.webp") as temporary:
        gap_ms = int(1000 / FRAMES_PER_S)
        first.save(temporary, "WEBP", save_all=True, append_images=others, duration=gap_ms, quality=QUALITY, method=6)


def picture(arrays: dict[str, np.ndarray], t_us: int) -> Image.Image:
    """One frame: the clip, its latest events, and the spikes and threshold of one layer until now."""
    figure = Figure(figsize=(8.6, 2.5), dpi=100, facecolor=INKS["paper"])
    canvas = FigureCanvasAgg(figure)
    clip, events, raster = (
        figure.add_axes(box) for box in ((0.01, 0.04, 0.25, 0.86), (0.275, 0.04, 0.25, 0.86), (0.60, 0.17, 0.33, 0.73))
    )
    label = str(arrays["clip.title"]).partition(" (")[0]
    show(
        clip,
        arrays["clip.frames"][np.searchsorted(arrays["clip.t_us"], t_us, "right") - 1],
        f"“{label}”: unseen",
    )
    show(events, latest_events(arrays, t_us), "events: ON blue, OFF orange")
    draw_raster(raster, arrays, (t_us - int(arrays["clip.t_us"][0])) * 1e-6)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def show(ax: Any, image: np.ndarray, title: str) -> None:
    """An image without axes."""
    ax.imshow(image, interpolation="nearest")
    ax.set_title(title)
    ax.set_axis_off()


def latest_events(arrays: dict[str, np.ndarray], t_us: int) -> np.ndarray:
    """Events of the last window as colours ``(H, W, 3)``."""
    height, width = arrays["clip.frames"].shape[1:3]
    image = np.full((height, width, 3), 0.09)
    first, last = np.searchsorted(arrays["clip.events.t_us"], (t_us - WINDOW_US, t_us))
    x, y, p = (arrays[f"clip.events.{key}"][first:last] for key in "xyp")
    for polarity, colour in INK.items():
        image[y[p == polarity], x[p == polarity]] = colour
    return image


def draw_raster(ax: Any, arrays: dict[str, np.ndarray], now_s: float) -> None:
    """Spikes ``(T, N)`` as dots and the threshold over them, until ``now_s``."""
    t_s, theta = arrays["raster.t_s"], arrays[f"raster.{LAYER}.theta"]
    spikes = arrays[f"raster.{LAYER}.spikes"]
    gone = t_s <= now_s
    step, neuron = np.nonzero(spikes[gone])
    ax.plot(t_s[step], neuron, "s", color=INKS["muted"], markersize=1.3, markeredgewidth=0)
    ax.set(
        xlim=(0, t_s[-1]),
        ylim=(-1, spikes.shape[1]),
        xlabel="s",
        ylabel="neuron",
        title="spikes, and their threshold θ",
    )
    ax.axvline(now_s, color=INKS["ink"], linewidth=0.7)
    ax.grid(visible=False)
    twin = ax.twinx()
    twin.plot(t_s[gone], theta[gone], drawstyle="steps-post", color=INKS["vermillion"], linewidth=1.8)
    twin.set(ylim=(theta.min() - 0.03, theta.max() + 0.03))
    twin.tick_params(axis="y", labelcolor=INKS["vermillion"])
    twin.grid(visible=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
