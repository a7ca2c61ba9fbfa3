"""``neuroav bench events --validate``: every oracle, expected, got, picture: how one knows that events are right.

The oracles run on every implementation that this machine has: the compiled kernel of the ideal camera, the compiled
kernel of the full camera with every term off, the same two on a GPU, and the PyTorch reference, which runs in a process
of its own (``NEUROAV_KERNELS=reference``). Parity compares whole lists and bins by their SHA-256.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import NeuroavError, fail
from neuroav.events.camera import EventCamera
from neuroav.events.generate import bin_frames, clips_to_events, frames_to_events
from neuroav.events.oracles import ORACLES, Bars, Generator, Maps, Oracle, Trace
from neuroav.events.oracles.cases import moving_clip
from neuroav.events.types import Bins, Events, EventState
from neuroav.files import check_output, save_json, save_text
from neuroav.kernels import cpu
from neuroav.progress import Progress

if TYPE_CHECKING:
    from neuroav.report.html import Section

INERT = {"dead_fraction": 1e-12}  # no pixel in a million is dead, but the kernel of the full camera runs
REAL_SENSOR = Path(__file__).resolve().parents[2] / "experiments" / "results" / "real_sensor.json"
BAR = 0.95  # share of the plain log difference's correlation that simulated maps must reach


# ------------------------------------------------------------------------------------------------------------- oracles


def generators() -> list[tuple[Generator, bool]]:
    """Return what runs here, and whether it is judged on the oracles of the ideal camera only."""
    name = "C++" if cpu.available() else "reference"
    found = [
        (Generator(name, frames_to_events, clips_to_events), False),
        (Generator(f"{name}, full camera, terms off", _terms_off, _clips_terms_off), True),
    ]
    if torch.cuda.is_available():
        found += [(Generator(f"GPU{one.name.removeprefix(name)}", _on_gpu(one.convert)), only) for one, only in found]
    return found


def _terms_off(frames: Tensor, t_us: Tensor, **settings: Any) -> tuple[Events, EventState]:
    return frames_to_events(frames, t_us, **(INERT | settings))


def _clips_terms_off(clips: Any, **settings: Any) -> tuple[list[Events], list[EventState]]:
    return clips_to_events(clips, **(INERT | settings))


def _on_gpu(convert: Any) -> Any:
    def converted(frames: Tensor, t_us: Tensor, *, state: EventState | None = None, **settings: Any) -> Any:
        state = None if state is None else _moved(state, "cuda")
        events, after = convert(frames.cuda(), t_us, state=state, **settings)
        return _moved(events, "cpu"), _moved(after, "cpu")

    return converted


def _moved(holder: Any, device: str) -> Any:
    fields = {name: value.to(device) for name, value in vars(holder).items() if isinstance(value, Tensor)}
    return dataclasses.replace(holder, **fields)


def judge(generator: Generator, ideal_only: bool) -> Iterator[tuple[dict[str, Any], Trace | Bars | Maps]]:
    """Yield one row of figures per oracle that applies, and the picture of its case."""
    for oracle in ORACLES:
        if ideal_only and not oracle.ideal:
            continue
        begin = time.perf_counter()
        finding = oracle.judge(generator)
        row = {
            "oracle": oracle.key,
            "name": oracle.name,
            "impl": generator.name,
            "passed": finding.passed,
            "checks": [dataclasses.asdict(check) for check in finding.checks],
            "seconds": time.perf_counter() - begin,
        }
        yield row, finding.picture


# -------------------------------------------------------------------------------------------------------------- parity


def digests() -> dict[str, str]:
    """Return a SHA-256 of the events or bins of every case that all implementations must agree on, bit for bit."""
    frames, t_us = moving_clip(24, 37, 53)
    levels = torch.log(frames.double() + 1)
    found = {}
    for name in ("ideal", "clean", "noisy", "v2e"):
        camera = EventCamera.preset(name, seed=3)
        found[f"8-bit clip, camera {name}"] = _digest(*frames_to_events(frames, t_us, camera))
        found[f"float clip, camera {name}"] = _digest(*frames_to_events(levels, t_us, camera))
        for kind in ("counts", "voxels", "latest"):
            bins = Bins(kind, t_us[::4].clone(), (8, 8))
            values, state = bin_frames(frames, t_us, bins, camera)
            found[f"fused {kind}, camera {name}"] = _digest(values, state)
    return found


def _digest(result: Any, state: EventState) -> str:
    tensors = [result] if isinstance(result, Tensor) else [v for v in vars(result).values() if isinstance(v, Tensor)]
    tensors += [value for value in vars(state).values() if isinstance(value, Tensor)]
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _reference() -> dict[str, Any]:
    """Run the oracles and the parity cases on the PyTorch reference, in a process of its own."""
    command = [sys.executable, "-m", "neuroav.bench.validate"]
    environment = os.environ | {"NEUROAV_KERNELS": "reference"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise fail("the PyTorch reference", "its oracles to run", done.stderr.strip()[-500:])
    return json.loads(done.stdout)


def parity(reference: dict[str, str]) -> list[dict[str, Any]]:
    """Return rows of what agrees with what: the compiled code with the reference, and v2e and ESIM's rule with ours."""
    mine = digests()
    rows = []
    for name, digest in mine.items():
        same = reference[name] == digest
        got = digest[:12] if same else f"{digest[:12]} here, {reference[name][:12]} from the reference"
        rows.append(
            {"what": f"{name}: compiled = reference", "expected": reference[name][:12], "got": got, "passed": same}
        )
    return [*rows, _esim_rule(), _v2e()]


def _tie_free() -> tuple[Tensor, Tensor]:
    """Log brightness that no threshold meets exactly: a random walk ``(F, H, W)``."""
    steps = np.random.default_rng(5).normal(0, 0.15, (12, 32, 32)).cumsum(axis=0)
    return torch.from_numpy(3 + steps), torch.arange(12) * 10_000


def _esim_rule() -> dict[str, Any]:
    """Compare with the rule of [esim] in float64: walk the reference by thresholds, times linear in log brightness."""
    frames, t_us = _tie_free()
    events, _ = frames_to_events(frames, t_us, contrast_on=0.2, contrast_off=0.2)
    level, expected = frames[0].clone().numpy(), []
    for index in range(1, len(frames)):
        before, after = frames[index - 1].numpy(), frames[index].numpy()
        start, gap = int(t_us[index - 1]), int(t_us[index] - t_us[index - 1])
        for y, x in np.argwhere(np.abs(after - level) >= 0.2).tolist():
            sign = 1 if after[y, x] > level[y, x] else -1
            while sign * (after[y, x] - level[y, x]) >= 0.2:
                level[y, x] += 0.2 * sign
                share = (level[y, x] - before[y, x]) / (after[y, x] - before[y, x])
                expected.append((y, x, start + share * gap, int(sign > 0)))
    columns = (events.y.tolist(), events.x.tolist(), events.t_us.tolist(), events.p.tolist())
    got = sorted(zip(*columns, strict=True))
    expected.sort()
    what = "float clip, the rule of ESIM in float64: same pixels and polarities, times within 1 us"
    same = [(a[:2], a[3]) for a in expected] == [(b[:2], b[3]) for b in got]
    off = max((abs(a[2] - b[2]) for a, b in zip(expected, got, strict=False)), default=0.0)
    text = f"{len(got)} events, {off:.2f} us" if same else f"{len(got)} events, others"
    return {"what": what, "expected": f"{len(expected)} events", "got": text, "passed": bool(same and off < 1.05)}


def _v2e() -> dict[str, Any]:
    """Compare with an installed v2e: counts per frame, pixel and polarity of a monotone 8-bit clip above grey 20."""
    what = "brightening 8-bit clip above grey 20: counts per frame, pixel and polarity equal v2e's"
    random = np.random.default_rng(6)
    greys = 22 + random.integers(0, 12, (12, 32, 32)).cumsum(axis=0)
    frames, t_us = torch.from_numpy(greys.clip(22, 255).astype(np.uint8)), torch.arange(12) * 10_000
    camera = EventCamera.preset("clean", mismatch=0.0, timestamps="v2e", refractory="hold", leak_spread=0.0)
    ours, _ = frames_to_events(frames, t_us, camera)
    try:
        theirs, _ = frames_to_events(frames, t_us, camera, backend="v2e")
    except NeuroavError as error:
        return {"what": what, "expected": f"{len(ours)} events", "got": f"not measured: {error}", "passed": None}
    cells = [
        torch.stack([torch.searchsorted(t_us, e.t_us), e.y.long(), e.x.long(), e.p.long()], 1) for e in (ours, theirs)
    ]
    same = sorted(cells[0].tolist()) == sorted(cells[1].tolist())
    return {"what": what, "expected": f"{len(ours)} events", "got": f"{len(theirs)} events", "passed": same}


# --------------------------------------------------------------------------------------------------------- real sensor


def real_sensor(recording: str | None) -> dict[str, Any]:
    """Return the comparison with a real sensor: made now from ``recording``, or as published with this checkout."""
    if recording is not None:
        from neuroav.bench import sensor

        return {"source": Path(recording).name, **sensor.compare(sensor.read_recording(recording))}
    if REAL_SENSOR.is_file():
        published = json.loads(REAL_SENSOR.read_text(encoding="utf-8"))
        commit = published["versions"]["commit"]
        return {"source": f"{published['recording']}, as published at commit {commit}", **published}
    return {"not_measured": "no recording given, and no experiments/results/real_sensor.json beside the package"}


def _sensor_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    if "not_measured" in figures:
        return [
            {"what": "real sensor", "expected": "", "got": f"not measured: {figures['not_measured']}", "passed": None}
        ]
    rows = []
    plain = figures["plain_difference"][f"eps {figures['eps']:g}"]
    for gap, (start, stop) in enumerate(figures["gaps_ms"]):
        for name in ("fitted", "held_out"):
            ratio, value = figures[name]["ratio"][gap], figures[name]["correlation"][gap]
            how = "thresholds fitted" if name == "fitted" else "thresholds fitted on the other gaps"
            rows.append(
                {
                    "what": f"{start:.1f} to {stop:.1f} ms, {how}: correlation with the real map",
                    "expected": f"at least {BAR * plain[gap]:.3f} ({BAR} of {plain[gap]:.3f} by the log difference)",
                    "got": f"{value:.3f} ({ratio:.3f})",
                    "passed": ratio >= BAR,
                }
            )
    return rows


# ------------------------------------------------------------------------------------------------------------- command


def validate_command(out: str | None = None, json_path: str | None = None, recording: str | None = None) -> int:
    """Run everything, print a summary, write the page and the figures.

    Args:
        out: Page to write (HTML).
        json_path: Figures to write (JSON).
        recording: ``.npz`` with frames and events of a real sensor, see :func:`neuroav.bench.sensor.read_recording`.

    Returns:
        Exit status: 0 if everything passed, 1 if anything failed.

    Raises:
        InputError: If a file can't be written or the recording can't be read.
    """
    check_output("--out", out)
    sensor = real_sensor(recording)
    figures, pictures = measure()
    figures["real_sensor"] = sensor
    failed = [f"oracle {row['oracle']} ({row['impl']})" for row in figures["rows"] if not row["passed"]]
    failed += [row["what"] for row in (*figures["parity"], *_sensor_rows(sensor)) if row["passed"] is False]
    sys.stdout.write(_summary(figures, failed))
    if json_path is not None:
        save_json(Path(json_path), figures)
    if out is not None:
        save_text(Path(out), render(figures, pictures, failed))
        sys.stdout.write(f"page: {out}\n")
    return 1 if failed else 0


def measure() -> tuple[dict[str, Any], dict[str, Trace | Bars | Maps]]:
    """Return the figures of the oracles and of parity, and a picture per oracle."""
    from neuroav.bench.machine import machine

    rows: list[dict[str, Any]] = []
    pictures: dict[str, Trace | Bars | Maps] = {}
    with Progress("validate", unit="oracle") as progress:
        for generator, ideal_only in generators():
            for row, picture in judge(generator, ideal_only):
                rows.append(row)
                pictures.setdefault(row["oracle"], picture)
                progress.update()
        reference: dict[str, Any] = _reference() if cpu.available() else {"rows": [], "digests": digests()}
        rows += reference["rows"]
    return {"machine": machine(), "rows": rows, "parity": parity(reference["digests"])}, pictures


def _summary(figures: dict[str, Any], failed: list[str]) -> str:
    lines = []
    for impl in dict.fromkeys(row["impl"] for row in figures["rows"]):
        mine = [row for row in figures["rows"] if row["impl"] == impl]
        passed = sum(row["passed"] for row in mine)
        checks = sum(len(row["checks"]) for row in mine)
        lines.append(f"{impl}: {passed} of {len(mine)} oracles pass ({checks} checks)")
    for title, rows in (("parity", figures["parity"]), ("real sensor", _sensor_rows(figures["real_sensor"]))):
        known = [row["passed"] for row in rows if row["passed"] is not None]
        missing = "" if len(known) == len(rows) else f", {len(rows) - len(known)} not measured"
        lines.append(f"{title}: {sum(known)} of {len(known)} hold{missing}")
    return "\n".join([*lines, *(f"FAILED: {name}" for name in failed)]) + "\n"


# ---------------------------------------------------------------------------------------------------------------- page


def render(figures: dict[str, Any], pictures: dict[str, Trace | Bars | Maps], failed: list[str]) -> str:
    """Return the page."""
    from neuroav.report import html, validation

    impls = list(dict.fromkeys(row["impl"] for row in figures["rows"]))
    sections = [_glance(figures, impls)]
    sections += [_oracle_section(oracle, figures["rows"], pictures.get(oracle.key)) for oracle in ORACLES]
    note = "Identical means identical: every number of every list or table of bins, compared by SHA-256."
    sections.append(
        html.Section("parity", "Parity", f"<p>{note}</p>" + validation.checks_table("Parity", figures["parity"]))
    )
    sections.append(_sensor_section(figures["real_sensor"]))
    entries = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in html.flatten(figures["machine"])
    )
    sections.append(
        html.Section("machine", "Machine and versions", f'<div class="settings"><table>{entries}</table></div>')
    )
    summary = f"Everything that was checked holds: {len(figures['rows'])} oracle runs on {len(impls)} implementations."
    if failed:
        summary = f"{len(failed)} of the checks below FAILED: {'; '.join(failed)}."
    made = "on the machine named above; make it again with <code>neuroav bench events --validate --out FILE.html</code>"
    return html.page("Are the events right?", summary, sections, made=made)


def _glance(figures: dict[str, Any], impls: list[str]) -> Section:
    from neuroav.report import html, validation

    by_key = {(row["oracle"], row["impl"]): row["passed"] for row in figures["rows"]}
    rows = [
        [
            f'<a href="#oracle-{oracle.key}">{oracle.key}. {escape(oracle.name)}</a>',
            escape(oracle.says),
            *(validation.verdict(by_key.get((oracle.key, impl)), "does not apply") for impl in impls),
        ]
        for oracle in ORACLES
    ]
    intro = (
        "<p>An oracle is an input whose events follow from a formula. What is expected below comes from that formula, "
        "never from the code under test; the tests also run every oracle on generators that are wrong on purpose, and "
        "each of those is caught. The full camera has noise, bandwidth and refractory terms; with all of them off it "
        "must give what the ideal camera gives.</p>"
    )
    return html.Section(
        "glance", "At a glance", intro + validation.table("Oracles", ("oracle", "what holds", *impls), rows)
    )


def _oracle_section(oracle: Oracle, rows: list[dict[str, Any]], case: Trace | Bars | Maps | None) -> Section:
    from neuroav.report import html, validation

    mine = [row for row in rows if row["oracle"] == oracle.key]
    parts = [f"<p>{escape(oracle.says)}</p>"]
    if case is not None:
        parts.append(html.figure_html(validation.picture(oracle.key, case), ""))
    for index, row in enumerate(mine):
        table = validation.checks_table(f"{row['impl']}: {row['seconds']:.2f} s", row["checks"])
        summary = f"{escape(row['impl'])}: {validation.verdict(row['passed'])}"
        opened = " open" if index == 0 or not row["passed"] else ""
        parts.append(f"<details{opened}><summary>{summary}</summary>{table}</details>")
    return html.Section(f"oracle-{oracle.key}", f"{oracle.key}. {oracle.name}", "\n".join(parts))


def _sensor_section(figures: dict[str, Any]) -> Section:
    from neuroav.report import html, validation

    intro = ""
    if "not_measured" not in figures:
        fit, matched = figures["fitted"], figures["matched_counts"]
        intro = (
            f"<p>Events simulated from the frames of a real camera beside the events it recorded itself "
            f"({escape(figures['source'])}). Compared are maps of ON minus OFF events per pixel, gap by gap, by their "
            f"correlation; the measure is what the plain difference of ln(I + {figures['eps']:g}) reaches. Thresholds "
            f"{fit['contrast_on']:g} ON and {fit['contrast_off']:g} OFF: {escape(fit['how'])}. At "
            f"{matched['contrast_on']:g} and {matched['contrast_off']:g} the numbers of events are nearest to the real "
            f"ones ({figures['real_events']['on']:,} ON, {figures['real_events']['off']:,} OFF) and the ratios are "
            f"{', '.join(f'{ratio:.3f}' for ratio in matched['ratio'])}.</p>"
        )
    return html.Section(
        "sensor", "A real sensor", intro + validation.checks_table("Real sensor", _sensor_rows(figures))
    )


def _main() -> int:
    """Print the rows and digests of this process as JSON."""
    torch.set_num_threads(1)
    rows = [row for generator, only in generators() for row, _ in judge(generator, only)]
    sys.stdout.write(json.dumps({"rows": rows, "digests": digests()}))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
