"""``neuroav bench events``: events from frames, bins from frames and from lists, and files, beside peers and memory.

One run, the same decoded clip for all, everything interleaved (:mod:`neuroav.bench.timing`), medians and the distance
of the quartiles; :mod:`neuroav.bench.rows` says what the ``floor`` of a case is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroav.bench import peers
from neuroav.bench.clips import LEAST, Frames, load, texture
from neuroav.bench.event_rows import FILE, FUSED, GATHERED, LIST, Entry, markdown, ratios, rows_of
from neuroav.bench.machine import memory_copy
from neuroav.bench.page import Options, skipped
from neuroav.bench.timing import Job, Runner, Timed, time_side_by_side
from neuroav.checks import check_range
from neuroav.events.camera import EventCamera, LinLog
from neuroav.events.generate import bin_frames, frames_to_events
from neuroav.events.represent import events_to_bins
from neuroav.events.types import Bins
from neuroav.processes import num_cores
from neuroav.progress import Progress

CONTRAST = 0.2
DECODING = "PyAV, decoding only"  # the least that a file takes
BINS, GRID = 10, (16, 16)  # time bins over the clip; cells of the counts
SAME_PLACES = 0.5  # a peer's events must lie where ours do: least correlation of the two maps of events per pixel
SYNTHETIC = ((240, 426, 100), (720, 1280, 16))
PROPHESEE_NOISY = {"sigma_threshold": 0.05, "cutoff_hz": 70, "leak_rate_hz": 0.1, "shot_noise_rate_hz": 10}


# -------------------------------------------------------------------------------------------- what each process does


def start_copy() -> Runner:
    """Copy memory: the floor."""
    run = memory_copy()
    return Runner(lambda: run, lambda moved: {"bytes": moved})


def start_list(frames: np.ndarray, t_us: np.ndarray, camera: dict[str, Any]) -> Runner:
    """Make the sorted list of events."""
    tensors, settings = _inputs(frames, t_us, camera)
    run = partial(frames_to_events, *tensors, settings)

    def describe(result: Any) -> dict[str, Any]:
        events = result[0].numpy()
        return peers.figures(events["x"], events["y"], events["t_us"], frames.shape[1:])

    return Runner(lambda: run, describe)


def start_fused(frames: np.ndarray, t_us: np.ndarray, camera: dict[str, Any], kind: str) -> Runner:
    """Fill bins without making the list."""
    (images, times), settings = _inputs(frames, t_us, camera)
    run = partial(bin_frames, images, times, _bins(kind, t_us), settings)
    return Runner(lambda: run, lambda result: _bin_figures(result[0], kind))


def start_gathered(frames: np.ndarray, t_us: np.ndarray, camera: dict[str, Any], kind: str) -> Runner:
    """Fill bins from a list that is there already."""
    tensors, settings = _inputs(frames, t_us, camera)
    events = frames_to_events(*tensors, settings)[0]
    run, number = partial(events_to_bins, events, _bins(kind, t_us)), len(events)
    return Runner(lambda: run, lambda values: _bin_figures(values, kind) | {"events": number})


def start_file(path: str) -> Runner:
    """Convert the whole video file to an event file, compressed, as ``neuroav events`` does."""
    from neuroav.events.command import events_command

    folder = tempfile.TemporaryDirectory(prefix="neuroav-bench-")

    def target() -> Path:
        return Path(folder.name) / "events.h5"

    def prepare() -> Callable[[], int]:
        target().unlink(missing_ok=True)
        return partial(events_command, [path], out=str(target()))

    def describe(status: int) -> dict[str, Any]:
        import h5py

        sizes: list[int] = []
        with h5py.File(target()) as file:
            file.visititems(lambda name, item: sizes.append(len(item)) if name.endswith(("/t", "/t_us")) else None)
        return {"events": sum(sizes)}

    return Runner(prepare, describe, folder.cleanup)


def start_decode(path: str) -> Runner:
    """Decode the whole video file and do nothing with it: the decoder's own speed, its own choice of threads."""
    import av

    def run() -> int:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            return sum(frame.width * frame.height for frame in container.decode(stream))

    return Runner(lambda: run, lambda pixels: {"pixels": pixels})


STARTS: dict[str, Callable[..., Runner]] = {LIST: start_list, FUSED: start_fused, GATHERED: start_gathered}


def _inputs(frames: np.ndarray, t_us: np.ndarray, camera: dict[str, Any]) -> tuple[tuple[Any, Any], Any]:
    return (torch.from_numpy(frames), torch.from_numpy(t_us)), EventCamera.from_dict(camera)


def _bins(kind: str, t_us: np.ndarray) -> Any:
    edges = torch.from_numpy(np.linspace(t_us[0], t_us[-1], BINS + (kind == "counts")).astype(np.int64))
    return Bins(kind, edges, GRID if kind == "counts" else None)


def _bin_figures(values: Any, kind: str) -> dict[str, Any]:
    number = float(values.sum()) / (1 if kind == "counts" else 1 << 16)  # weights are in units of 2^-16
    return {"events": round(number), "bytes": values.numel() * values.element_size()}


# ----------------------------------------------------------------------------------------------------- what is timed


@dataclass(frozen=True)
class Plan:
    """An implementation of a case: ``start(frames, t_us, *arguments)``; ``threaded``: also on several threads."""

    impl: str
    start: Callable[..., Runner]
    family: str
    kind: str
    arguments: tuple[Any, ...]
    bins: str = ""
    threaded: bool = False

    def entry(self, clip: Frames, threads: int) -> Entry:
        """Return this plan for one clip and number of threads."""
        what = {LIST: "list", FUSED: self.bins, GATHERED: f"{self.bins} from a list"}[self.kind]
        case = f"{self.family} {what}" + (f", {threads} threads" if threads > 1 else "")
        return Entry(
            case, self.family, self.kind, Job(self.impl, self.start, (clip.frames, clip.t_us, *self.arguments), threads)
        )


CAMERAS = {
    "ideal": EventCamera(contrast_on=CONTRAST, contrast_off=CONTRAST).to_dict(),
    "clean": EventCamera.preset("clean").to_dict(),
    "noisy": EventCamera.preset("noisy").to_dict(),
    "v2e defaults": EventCamera.preset("v2e").to_dict(),
}
V2E_IDEAL = EventCamera(contrast_on=CONTRAST, contrast_off=CONTRAST, brightness=LinLog(20)).to_dict()
PLANS = (  # what is timed side by side
    (
        Plan("neuroav", start_list, "ideal", LIST, (CAMERAS["ideal"],), threaded=True),
        Plan("neuroav", start_fused, "ideal", FUSED, (CAMERAS["ideal"], "counts"), "counts"),
        Plan("neuroav", start_fused, "ideal", FUSED, (CAMERAS["ideal"], "voxels"), "voxels"),
        Plan("v2e", peers.v2e, "ideal", LIST, (V2E_IDEAL,), threaded=True),
        Plan("Prophesee", peers.prophesee, "ideal", LIST, (CONTRAST, {})),
        Plan(peers.UNSORTED, peers.prophesee, "ideal", LIST, (CONTRAST, {}, False)),
        Plan("evlib", peers.evlib, "ideal", LIST, (CONTRAST,), threaded=True),
        Plan("Prophesee", peers.prophesee_voxels, "ideal", FUSED, (CONTRAST, BINS), "voxels"),
    ),
    (
        Plan("neuroav", start_list, "clean", LIST, (CAMERAS["clean"],)),
        Plan("neuroav", start_list, "noisy", LIST, (CAMERAS["noisy"],), threaded=True),
        Plan("neuroav", start_list, "v2e defaults", LIST, (CAMERAS["v2e defaults"],)),
        Plan("v2e", peers.v2e, "clean", LIST, (CAMERAS["clean"],)),
        Plan("v2e", peers.v2e, "noisy", LIST, (CAMERAS["noisy"],), threaded=True),
        Plan("v2e", peers.v2e, "v2e defaults", LIST, (CAMERAS["v2e defaults"],)),
        Plan("Prophesee", peers.prophesee, "noisy", LIST, (CONTRAST, PROPHESEE_NOISY)),
    ),
    (
        Plan("neuroav", start_gathered, "ideal", GATHERED, (CAMERAS["ideal"], "counts"), "counts"),
        Plan("neuroav", start_gathered, "ideal", GATHERED, (CAMERAS["ideal"], "voxels"), "voxels"),
    ),
)


def groups(clip: Frames, threads: int, with_peers: bool) -> list[list[Entry]]:
    """Return what is timed side by side: the ideal camera, noise, bins from a list, files; each with memory copied."""
    found = []
    for plans in PLANS:
        entries = [
            plan.entry(clip, number)
            for plan in plans
            if plan.impl == "neuroav" or (with_peers and not peers.missing(plan.impl))
            for number in sorted({1, threads} if plan.threaded else {1})
        ]
        found.append(entries + _floors(entries))
    if clip.path is not None:
        cores = num_cores()  # both choose their threads themselves
        both = {"neuroav": start_file, DECODING: start_decode}
        found.append([Entry(FILE, FILE, FILE, Job(impl, start, (clip.path,), cores)) for impl, start in both.items()])
    return found


def _floors(group: Sequence[Entry]) -> list[Entry]:
    numbers = sorted({entry.job.threads for entry in group})
    return [Entry("memory copy", "", "", Job("floor", start_copy, (), number)) for number in numbers]


def verify(entries: Sequence[Entry], timed: Sequence[Timed]) -> None:
    """Refuse whatever made no events, or made them elsewhere than ours: it did not see the same frames."""
    maps = {
        entry.family: one.figures["count_map"]
        for entry, one in zip(entries, timed, strict=True)
        if entry.job.impl == "neuroav" and entry.kind == LIST and "count_map" in one.figures
    }
    for entry, one in zip(entries, timed, strict=True):
        if one.skipped or entry.job.impl in ("neuroav", "floor") or entry.kind == FILE:
            continue
        if not one.figures["events"]:
            one.skipped = "it made no event from these frames"
        elif entry.family in maps:
            agreement = correlation(one.figures["count_map"], maps[entry.family])
            one.figures["same_places"] = round(agreement, 4)
            if agreement < SAME_PLACES:
                one.skipped = f"its events lie elsewhere than ours (correlation {agreement:.2f}): other frames?"


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation of two maps, 0 where one of them is constant.

    Example:
        >>> round(correlation(np.arange(4), np.arange(4) * 2.0), 3), correlation(np.ones(3), np.arange(3))
        (1.0, 0.0)
    """
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


# ----------------------------------------------------------------------------------------------------------- command


def events_bench_command(options: Options, clips: Sequence[str] = (), num_frames: int | None = None) -> int:
    """Time event generation and print a table; the verb ``neuroav bench events``.

    Args:
        options: What every bench takes; threads are those of the cases on several (2, or 1 on a single core), the rest
            runs on one.
        clips: Video files; without any, two textures made here.
        num_frames: Frames of each clip; by default as many as hold 15 million pixels, between 16 and 100.

    Returns:
        Exit status: 0, or 1 if something of ours failed; a peer that fails is left out with its reason.

    Raises:
        InputError: If an option is out of range, a clip doesn't decode or an output can't be written.
    """
    threads, report = options.begin("events", min(2, num_cores()), contrast=CONTRAST)
    check_range("neuroav bench events", "--frames", LEAST if num_frames is None else num_frames, 2, 100_000)
    found = [load(path, num_frames) for path in clips]
    found = found or [texture(height, width, num_frames or number) for height, width, number in SYNTHETIC]
    report["clips"] = [{"clip": c.name, "frames": len(c.frames), "size": list(c.size)} for c in found]
    absent = {impl: peers.missing(impl) for impl in peers.PACKAGES} if options.with_peers else {}
    report["skipped"] += [{"case": "all", "impl": impl, "reason": reason} for impl, reason in absent.items() if reason]
    failed = sum(_time_clip(clip, threads, options, report) for clip in found)
    options.finish(report, markdown(report))
    return 1 if failed else 0


def _time_clip(clip: Frames, threads: int, options: Options, report: dict[str, Any]) -> int:
    """Add what there is to say of one clip to the report; return how much of ours failed."""
    planned, failed = groups(clip, threads, options.with_peers), 0
    total = options.repeats * sum(map(len, planned))
    with Progress(f"bench {clip.name}", total=total, unit="turn") as progress:
        for entries in planned:
            jobs = [entry.job for entry in entries]
            timed = time_side_by_side(jobs, options.repeats, partial(verify, entries), lambda one: progress.update())
            report["rows"] += rows_of(clip, entries, timed)
            for entry, one in zip(entries, timed, strict=True):
                report["skipped"] += skipped(f"{entry.case}, {clip.name}", [one])
                failed += bool(one.skipped) and one.job.impl == "neuroav"
    if clip.path is None:
        reason = "no video file was given. Name one with --clip FILE."
        report["skipped"].append({"case": f"{FILE}, {clip.name}", "impl": "neuroav", "reason": reason})
    report["ratios"] += ratios(report["rows"], clip.name)
    return failed
