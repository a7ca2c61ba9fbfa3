"""The clip of a report: its frames, events, sound and spikes, all in step with one player."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template

from neuroav.report import clip, plots
from neuroav.report.page import Section, callout, figure_html, grid
from neuroav.report.saved import Run


def clip_section(run: Run) -> Section | None:
    """The moving picture beside its events, and below it what was heard and which neurons spiked."""
    player, tracks = _player(run), [track for track in (_sound(run), _spikes(run)) if track]
    if not player and not tracks:
        return None
    following = f'<div class="tracks">\n{"".join(tracks)}\n</div>'
    title = "A clip, its events and spikes" if _spikes_of(run) else "A clip and its events"
    return Section("clip", title, f'<div class="stage">\n{player}\n{following if tracks else ""}\n</div>')


def _player(run: Run) -> str:
    """Canvases, controls and the sheets they are fed from; or why there is no clip."""
    arrays = run.arrays
    needed = ("clip.frames", "clip.t_us", *(f"clip.events.{name}" for name in ("t_us", "x", "y", "p")))
    if "clip.absent" in arrays:
        return callout(f"No clip is shown: {arrays['clip.absent']}")
    if any(name not in arrays for name in needed):
        return ""
    sheets = clip.pack_clip(*(arrays[name] for name in needed))
    data = {k: getattr(sheets, k) for k in ("columns", "height", "width", "t_s", "counts")}
    data["rgb"] = {"off": clip.EVENT_RGB[clip.OFF], "on": clip.EVENT_RGB[clip.ON]}
    title = str(arrays["clip.title"]) if "clip.title" in arrays else "one clip"
    thinned = f" Shown is {sheets.thinned}." if sheets.thinned else ""
    source = tuple(int(n) for n in arrays.get("clip.size", arrays["clip.frames"].shape[1:3]))
    small = arrays["clip.frames"].shape[1:3]
    seen = "" if source == small else f" The model sees {small[0]}x{small[1]} of {source[0]}x{source[1]} pixels."
    template = Template((files("neuroav.report") / "assets" / "player.html").read_text(encoding="utf-8"))
    return template.substitute(
        width=sheets.width,
        height=sheets.height,
        aspect=f"{source[1]} / {source[0]}",
        last=len(sheets.t_s) - 1,
        frames=sheets.frames,
        events=sheets.events,
        caption=escape(f"{title}: {sum(sheets.counts):,} events beside the frames they come from.{seen}{thinned}"),
        on="#{:02x}{:02x}{:02x}".format(*clip.EVENT_RGB[clip.ON]),
        off="#{:02x}{:02x}{:02x}".format(*clip.EVENT_RGB[clip.OFF]),
        data=json.dumps(data, separators=(",", ":")),
    )


def _sound(run: Run) -> str:
    """Spectrogram and sound."""
    if "clip.audio" not in run.arrays or "clip.audio_rate" not in run.arrays:
        return ""
    audio, rate_hz = run.arrays["clip.audio"], int(run.arrays["clip.audio_rate"])
    if len(audio) < rate_hz * 0.032:
        return ""
    caption = "Level of the clip's sound over time and frequency (32 ms frames); 0 dB is the loudest point."
    sound = clip.wav_uri(audio, rate_hz)
    player = f'<audio controls preload="auto" src="{sound}" aria-label="Sound of the clip"></audio>'
    figure = figure_html(plots.spectrogram(audio, rate_hz), caption, wide=True)
    return f'<h3 id="sound">Its sound</h3>\n{figure}{player}\n'


def _spikes_of(run: Run) -> list[str]:
    return run.names("raster.", ".spikes") if "raster.t_s" in run.arrays else []


def _spikes(run: Run) -> str:
    """Spikes of every layer with the dynamic threshold over them."""
    figures = []
    for layer in _spikes_of(run):
        spikes, theta = run.arrays[f"raster.{layer}.spikes"], run.arrays.get(f"raster.{layer}.theta")
        plot = plots.spike_raster(spikes, theta, run.arrays["raster.t_s"], layer)
        steps = {"spikes": spikes.astype(bool).sum(1).tolist()}
        if theta is not None:
            steps["theta"] = [float(f"{value:.3g}") for value in theta]
        figures.append(figure_html(plot, f"Layer {layer}.", steps=steps))
    if not figures:
        return ""
    repeats = int(run.arrays.get("raster.repeats", 1))
    times = (
        "" if repeats == 1 else f" Every step of the clip is presented {repeats} times, so it has {repeats} columns."
    )
    model = f", {escape(str(run.arrays['raster.model']))}" if "raster.model" in run.arrays else ""
    intro = (
        f"<p>Each mark is a spike of one neuron while this clip runs through the trained model{model}.{times} "
        "The line is the threshold θ that a membrane had to reach, one for all neurons of a layer.</p>"
    )
    heading = '<h3 id="spikes">Spikes and thresholds</h3>'
    return f"{heading}\n{intro}{grid(figures, '20rem')}\n"
