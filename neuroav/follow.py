"""``neuroav classify --follow``: what is in a video that still goes on, second by second."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import check_range, fail
from neuroav.classify import Choice, Recogniser, introduction, ranked_json
from neuroav.data.classic import FRAME_SIZE
from neuroav.data.extract import SETTINGS
from neuroav.data.live import Live, Running, live_video
from neuroav.data.words import TypedClass
from neuroav.files import save_json

LONGEST_S = 3600.0  # that --window judges at a time


@dataclass(frozen=True)
class Second:
    """What was said after a second of video.

    Attributes:
        t_s: Seconds of video described so far.
        ranked: All classes, the winner first.
        latency_s: From the packet that completed the second to its answer.
        work_s: Spent on the second in all, decoding included; waiting for the source is not.
    """

    t_s: float
    ranked: list[Choice]
    latency_s: float
    work_s: float

    def line(self, top: int) -> str:
        """The answer in one line: the winner, by how much, and the next ones."""
        first, *others = self.ranked[:top]
        text = f"{self.t_s:7.1f} s  {_told(first)}  ahead by {first.margin:#.3g}"
        return text + (f"  then {', '.join(map(_told, others))}" if others else "")


def _told(choice: Choice) -> str:
    return choice.name if choice.seen else f"{choice.name} (unseen)"


def follow_command(
    clips: Sequence[str],
    run_dir: str,
    classes: str | None = None,
    vectors: str | None = None,
    top: int = 5,
    json_path: str | None = None,
    patience: float = 5.0,
    window: float | None = None,
) -> int:
    """``neuroav classify --follow``: judge a growing file or a camera after each second of video.

    The simulated camera's state and the descriptors are carried on from second to second. A model has no state that
    could be: it judges the last ``window`` seconds each time. A camera is followed until Ctrl-C, a file until it has
    not grown for ``patience`` seconds; then latencies are printed.

    Args:
        clips: One file that can be read while it is written (MPEG-TS, Matroska, fragmented MP4), or ``/dev/videoN``.
        run_dir: Of a finished run on classic descriptors.
        classes: As for :func:`neuroav.classify.classify_command`, like ``vectors`` and ``top``.
        vectors: File of word vectors.
        top: Classes to print.
        json_path: Also write every second's figures as JSON.
        patience: Seconds without growth after which a file is finished.
        window: Seconds judged at a time; ``None``: as long as the run's median clip.

    Returns:
        Exit status 0, or 1 if no second could be judged.

    Raises:
        InputError: If the run, the classes or the source can't be used.
    """
    check_range("classify", "--top", top, 1)
    if len(clips) != 1:
        raise fail("--follow", "one clip", f"{len(clips)}")
    recogniser = Recogniser.open(run_dir)
    if not (recogniser.video.is_classic and recogniser.audio.is_classic):
        raise fail("--follow", "a run on classic descriptors", "one on those of pretrained encoders")
    chosen = recogniser.classes(classes, vectors)
    bin_s = SETTINGS["bin_s"]
    if window is None:
        window = float(np.median(recogniser.task.store.lengths)) * bin_s
    check_range("classify", "--window", window, bin_s, LONGEST_S)
    check_range("classify", "--patience", patience, 0)
    lines = introduction(recogniser, chosen)
    sys.stdout.write("\n".join([*lines, f"judged after each second: the last {window:.1f} s of {clips[0]}"]) + "\n")
    _warm_up(recogniser, chosen)
    seconds: list[Second] = []
    start = time.perf_counter()
    try:
        _follow(recogniser, chosen, clips[0], patience, round(window / bin_s), top, seconds)
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")  # as a camera always is
    summary = _summary(seconds, time.perf_counter() - start)
    sys.stdout.write(_say(summary) + "\n")
    if json_path is not None:
        rows = [asdict(one) | {"ranked": ranked_json(one.ranked)} for one in seconds]
        told = {"run": run_dir, "source": clips[0], "beta": recogniser.beta, "window_s": window, "rows": rows}
        save_json(Path(json_path), told | summary)
    return 0 if seconds else 1


def _warm_up(recogniser: Recogniser, chosen: Sequence[TypedClass]) -> None:
    """Judge a second of black, so that nothing is loaded or prepared while a source waits."""
    running = Running(keep=1)
    for t_us in (0, 1_000_000):
        running.see(np.zeros((FRAME_SIZE, FRAME_SIZE, 3), np.uint8), t_us)
    running.finish()
    recogniser.answer(running.latest(), chosen)


def _follow(
    recogniser: Recogniser,
    chosen: Sequence[TypedClass],
    source: str,
    patience: float,
    keep: int,
    top: int,
    seconds: list[Second],
) -> None:
    """Judge each second as soon as it is there, and what is left at the end; append to ``seconds``."""
    running, per_second = Running(keep), round(1 / SETTINGS["bin_s"])
    with live_video(source, patience) as container:
        live = Live(source, container, running)
        begun, idle_s = time.perf_counter(), 0.0

        def judge() -> None:
            nonlocal begun, idle_s
            ranked = recogniser.answer(running.latest(), chosen)
            now = time.perf_counter()
            work_s = now - begun - (live.idle_s - idle_s)
            begun, idle_s = now, live.idle_s
            seconds.append(Second(running.steps * SETTINGS["bin_s"], ranked, now - live.received_s, work_s))
            sys.stdout.write(seconds[-1].line(top) + "\n")
            sys.stdout.flush()

        for _ in live:
            while running.ready >= running.steps + per_second:
                running.advance(running.steps + per_second)
                judge()
        done = running.steps
        running.finish()
        if running.steps > done:
            judge()
        if live.num_damaged:
            sys.stderr.write(f"{source}: {live.num_damaged} damaged packets skipped\n")


def _summary(seconds: Sequence[Second], wall_s: float) -> dict[str, Any]:
    """Median and worst of latency and work."""
    found: dict[str, Any] = {"video_s": seconds[-1].t_s if seconds else 0.0, "wall_s": wall_s}
    for key in ("latency_s", "work_s"):
        values = [getattr(one, key) for one in seconds]
        found[key] = {"median": float(np.median(values)), "worst": max(values)} if values else None
    return found


def _say(summary: dict[str, Any]) -> str:
    text = f"{summary['video_s']:.1f} s of video in {summary['wall_s']:.1f} s"
    if summary["latency_s"] is None:
        return f"{text}: not one second that could be judged"
    latency, work = (
        f"median {1e3 * summary[key]['median']:.0f} ms, worst {1e3 * summary[key]['worst']:.0f} ms"
        for key in ("latency_s", "work_s")
    )
    return f"{text}; from a second's last packet to its answer: {latency}; work per second of video: {work}"
