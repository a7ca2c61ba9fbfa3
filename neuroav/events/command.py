"""The verb ``neuroav events``: what was asked for, checked before any work; then said, row by row."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neuroav.checks import InputError, NeuroavError, OutputError, check_choice, fail, some
from neuroav.cluster import map_cluster
from neuroav.events.camera import LAWS, EventCamera
from neuroav.events.convert import (
    Conversion,
    convert_events,
    convert_one,
    convert_videos,
    is_event_file,
)
from neuroav.events.formats import FORMATS, by_suffix, hdf5
from neuroav.events.io import describe_events, remove_leftovers, renamed_when_done
from neuroav.events.video import VideoInfo, video_info
from neuroav.files import check_output
from neuroav.processes import map_processes, num_cores
from neuroav.progress import Progress

WHERE = "neuroav events"
# What a folder is searched for; HDF5 and text could be anything there.
VIDEO_SUFFIXES = {
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".ivf", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
}
EVENT_SUFFIXES = {".aedat", ".aedat4", ".bin", ".dat", ".npy", ".npz", ".raw"}
FILM_SUFFIXES = (".mp4", ".gif")


def events_command(
    inputs: Sequence[str],
    out: str | None = None,
    *,
    camera: EventCamera | None = None,
    size: tuple[int, int] | None = None,
    roi: tuple[int, int, int, int] | None = None,
    format: str | None = None,
    clip: str | None = None,
    from_zero: bool = False,
    labels: bool = False,
    preview: str | None = None,
    info: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    json_path: str | None = None,
) -> int:
    """Convert video files, event files or folders of them; or say what event files hold.

    Every video is opened, and its first frame decoded, before anything is written; an error or an interrupt leaves no
    unfinished file behind. In a folder, a clip that can't be converted is named at the end and the others go on, and
    files that an earlier run finished with the same settings are skipped.

    Args:
        inputs: Video files, event files, or folders.
        out: File to write; or a folder, which gets one HDF5 file per clip.
        camera: The simulated camera, for videos; default the ideal one.
        size: Resize frames to ``(H, W)`` first; for event files, the sensor's size where the file doesn't say.
        roi: Keep only this region ``(top, left, height, width)`` of the frames.
        format: Format to write, if the suffix of ``out`` isn't to decide.
        clip: Which clip to take, of an event file that holds several.
        from_zero: Count the times of event files from their first frame or event.
        labels: Whether the events of videos carry ``is_noise``; HDF5 and ``.npz`` can hold it.
        preview: Also write this film (MP4 or GIF) of the events; for a single input.
        info: Print what the inputs hold, and write nothing.
        workers: Processes, for folders; default one per core.
        cluster: Address of a dask scheduler whose workers convert the clips of folders, in place of processes here.
        json_path: Also write the printed figures here.

    Returns:
        Exit status: 0, or 1 if some of a folder could not be converted.

    Raises:
        InputError: If an input can't be read or an output can't be written.
    """
    if info:
        rows = [row for path in inputs for row in _describe(Path(path), size)]
        sys.stdout.write(_table(rows))
        _write_json(json_path, {"rows": rows})
        return 0
    conversion = Conversion(
        camera=camera or EventCamera(), size=size, roi=roi, format=format, clip=clip, from_zero=from_zero, labels=labels
    )
    unused = [name for name, value in (("of the camera", camera), ("--roi", roi)) if value is not None]
    if any(Path(path).is_dir() for path in inputs) or (out is not None and (Path(out).is_dir() or out.endswith("/"))):
        return _convert_folders(inputs, out, conversion, preview, workers, cluster, json_path, unused)
    if cluster is not None:
        raise fail(WHERE, "--cluster with a folder of clips, to become a folder", ", ".join(inputs))
    rows = _convert_files([Path(path) for path in inputs], out, conversion, preview, json_path, unused)
    for row in rows:
        sys.stdout.write(_summary(row))
    _write_json(json_path, {"rows": rows})
    return 0


def camera_from_options(
    preset: str | None = None,
    contrast: float | None = None,
    settings: Sequence[str] = (),
    seed: int | None = None,
) -> EventCamera:
    """Build the camera from the options of the command line.

    Args:
        preset: Name of a preset to start from.
        contrast: ON and OFF threshold.
        settings: Other fields as ``name=value``; ``brightness`` is ``log``, ``log:EPS``, ``linlog``, ``linlog:KNEE`` or
            ``linear``.
        seed: Of the noise.

    Example:
        >>> camera_from_options("noisy", settings=["shot_hz=1", "brightness=log:0.5"]).brightness
        Log(eps=0.5)
    """
    changes: dict[str, Any] = {} if contrast is None else {"contrast_on": contrast, "contrast_off": contrast}
    if seed is not None:
        changes["seed"] = seed
    types = {field.name: type(getattr(EventCamera(), field.name)) for field in dataclasses.fields(EventCamera)}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise fail(WHERE, "--set name=value", repr(setting))
        check_choice(WHERE, "--set", name, types)
        changes[name] = _law(text) if name == "brightness" else _number(name, text, types[name])
    return EventCamera.preset(preset or "ideal", **changes)


def _law(text: str) -> Any:
    name, _, parameter = text.partition(":")
    check_choice(WHERE, "--set brightness", name, LAWS)
    law = LAWS[name]
    fields = dataclasses.fields(law)
    if parameter and not fields:
        raise fail(WHERE, f"--set brightness={name} without a parameter", repr(parameter))
    return law(**({fields[0].name: _number("brightness", parameter, float)} if parameter else {}))


def _number(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise fail(WHERE, f"--set {name} to be of type {kind.__name__}", repr(text)) from None


def _convert_files(
    paths: list[Path],
    out: str | None,
    conversion: Conversion,
    preview: str | None,
    json_path: str | None,
    of_videos: Sequence[str],
) -> list[dict[str, Any]]:
    """Convert one event file, or videos into one file; ``of_videos``: options given that are of videos only."""
    if out is None and preview is None:
        raise fail(WHERE, "-o OUT, --preview FILM or --info", "none of them")
    _check_outputs(paths, out, preview, json_path)
    for path in paths:
        if not path.exists():
            raise fail(str(path), "a video or event file", "no such file")
    recorded = [is_event_file(path) for path in paths]
    _check_options(paths, conversion, of_videos)
    if labels_lost := _labels_lost(any(recorded), out, conversion):
        raise fail(WHERE, "--labels with videos, and a format that holds them: HDF5 (.h5) or .npz", labels_lost)
    film = None if preview is None else Path(preview)
    if any(recorded):
        if len(paths) > 1:
            raise fail(WHERE, "one event file at a time, or an existing folder as -o", f"{len(paths)} inputs")
        return [convert_events(paths[0], None if out is None else Path(out), conversion, film)]
    infos = [_video(path) for path in paths]
    counts = [one.num_frames_estimate for one in infos]
    total = None if None in counts else sum(count or 0 for count in counts)
    with Progress("events", total=total, unit="frame") as progress:
        return convert_videos(infos, None if out is None else Path(out), conversion, film, progress)


def _check_options(paths: Sequence[Path], conversion: Conversion, of_videos: Sequence[str]) -> None:
    """Refuse options that no input has a use for."""
    names = some([str(path) for path in paths])
    if of_videos and all(_recorded(path) is True for path in paths):
        expected = f"videos with options {' and '.join(of_videos)}"
        raise fail(WHERE, expected, f"{names}, events only", "What they hold was recorded already.")
    if (conversion.clip is not None or conversion.from_zero) and all(_recorded(path) is False for path in paths):
        raise fail(WHERE, "an event file with --clip or --from-zero", f"{names}, videos only")


def _recorded(path: Path) -> bool | None:
    """Whether a file is one of events; nothing where that can't be told, which its conversion will say."""
    try:
        return is_event_file(path)
    except InputError:
        return None


def _video(path: Path) -> VideoInfo:
    """What is known of a video; a file that is neither video nor events is told what could be read."""
    try:
        return video_info(path)
    except InputError as error:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise
        expected = f"a video that PyAV can decode, or events as one of {', '.join(FORMATS)}"
        raise fail(str(path), expected, "neither") from error


def _labels_lost(recorded: bool, out: str | None, conversion: Conversion) -> str:
    """Say why labels can't be had or kept, or nothing."""
    if not conversion.labels:
        return ""
    if recorded:
        return "an event file, of which nobody knows what the noise was"
    name = "" if out is None else by_suffix(Path(out), conversion.format).name
    return "" if name in ("", "neuroav", "npz") else f"format {name}"


def _convert_folders(
    inputs: Sequence[str],
    out: str | None,
    conversion: Conversion,
    preview: str | None,
    workers: int | None,
    cluster: str | None,
    json_path: str | None,
    of_videos: Sequence[str],
) -> int:
    """Convert every clip into a file of its own, in parallel; go on where an earlier run stopped."""
    if out is None or preview is not None or conversion.format not in (None, "neuroav"):
        actual = "no -o" if out is None else "--preview" if preview is not None else f"--format {conversion.format}"
        raise fail(WHERE, "a folder of clips to become a folder (-o) of HDF5 files", actual)
    num_workers = num_cores() if workers is None else workers
    if num_workers < 1:
        raise fail(WHERE, "at least 1 worker", str(num_workers))
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise fail(WHERE, "-o to be a folder, as an input is one", f"{out}, which is a file")
    if not folder.exists() and any(folder.suffix.lower() in form.suffixes for form in FORMATS.values()):
        raise fail(WHERE, "-o to be a folder, as an input is one", f"{out}, the name of a file")
    jobs = [(source, target, conversion) for source, target in _targets(inputs, folder)]
    _check_options([source for source, *_ in jobs], conversion, of_videos)
    todo, changed = _unfinished(jobs)
    if len(todo) < len(jobs):
        sys.stdout.write(f"{len(jobs) - len(todo)} of {len(jobs)} clips are finished already: skipped\n")
    for target, differences in changed.items():
        sys.stdout.write(f"{target}: made with other settings ({', '.join(differences)}): converted again\n")
    rows, failed = [], {}
    with Progress("events", total=len(todo), unit="clip") as bar:
        for _, target, _ in todo:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                actual = f"{target.parent} ({error.strerror})"
                raise fail(WHERE, "-o to be a folder that can be made", actual, kind=OutputError) from error
            remove_leftovers(target)
        for (source, target, _), result in _converted(todo, folder, num_workers, cluster):
            remove_leftovers(target)
            if isinstance(result, str):
                failed[str(source)] = result
            else:
                rows.append(result | {"out": str(target)})
                sys.stdout.write(_summary(result))
            bar.update(1, failed=len(failed))
    for source, reason in failed.items():
        sys.stdout.write(f"not converted: {source}: {reason}\n")
    skipped = len(jobs) - len(todo)
    sys.stdout.write(f"{len(rows)} converted, {skipped} skipped, {len(failed)} failed\n")
    _write_json(json_path, {"rows": rows, "failed": failed, "skipped": skipped})
    return 1 if failed else 0


def _converted(todo: list[tuple], folder: Path, workers: int, cluster: str | None) -> Iterator[tuple[tuple, Any]]:
    """Each job with its row or the reason why there is none, by processes here or by a cluster."""
    if cluster is None:
        return map_processes(convert_one, todo, min(workers, len(todo) or 1), preload=[convert_one.__module__])
    jobs = [(source.resolve(), target.resolve(), conversion) for source, target, conversion in todo]
    folders = sorted({str(source.parent) for source, _, _ in jobs} | {str(folder)})
    results = map_cluster(convert_one, jobs, cluster, needs=folders)
    return ((job, result) for job, (_, result) in zip(todo, results, strict=True))


def _targets(inputs: Sequence[str], folder: Path) -> list[tuple[Path, Path]]:
    """Return each clip below the inputs with the file it becomes; clips of one name keep their suffix in it."""
    found: list[tuple[Path, Path]] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            suffixes = VIDEO_SUFFIXES | EVENT_SUFFIXES
            clips = (one for one in path.rglob("*") if one.is_file() and one.suffix.lower() in suffixes)
            found += [(one, one.relative_to(path)) for one in sorted(clips)]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise fail(str(path), "a video or event file, or a folder of them", "no such file")
    if not found:
        raise fail(WHERE, "folders with clips in them", f"none in {', '.join(inputs)}")
    stems = [place.with_suffix(".h5") for _, place in found]
    times = Counter(stems)
    targets = [
        folder / (stem if times[stem] == 1 else place.with_name(f"{place.name}.h5"))
        for (_, place), stem in zip(found, stems, strict=True)
    ]
    target, count = Counter(targets).most_common(1)[0]
    if count > 1:
        raise fail(WHERE, "clips of different names", f"{count} that become {target}", "Convert them one by one.")
    return [(source, target) for (source, _), target in zip(found, targets, strict=True)]


def _unfinished(jobs: list[tuple[Path, Path, Conversion]]) -> tuple[list[tuple], dict[Path, list[str]]]:
    """Return the jobs whose file isn't there or was made otherwise, and for these what differs."""
    todo, changed = [], {}
    for source, target, conversion in jobs:
        if not target.exists():
            todo.append((source, target, conversion))
            continue
        differences = _differences(_kept_settings(target), conversion.settings(source))
        if differences:
            todo.append((source, target, conversion))
            changed[target] = differences
    return todo, changed


def _kept_settings(path: Path) -> dict[str, Any]:
    try:
        with hdf5.opened(path) as file:
            return json.loads(hdf5.text_attribute(file, "conversion") or "{}")
    except (NeuroavError, ValueError):
        return {}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    old, new = ({**settings, **(settings.get("camera") or {})} for settings in (old, new))
    names = [name for name in {**new, **old} if name != "camera" and old.get(name) != new.get(name)]
    return [f"{name} {old.get(name)!r} -> {new.get(name)!r}" for name in names] if old else ["none recorded"]


def _describe(path: Path, size: tuple[int, int] | None) -> list[dict[str, Any]]:
    if path.is_dir():
        raise fail(str(path), "a file, for --info", "a folder")
    if not path.exists() or is_event_file(path):
        return describe_events(path, size)
    video = _video(path)
    height, width = video.size
    figures = {"format": "video", "bytes": path.stat().st_size, "height": height, "width": width}
    return [
        {"file": str(path), "clip": "", **figures, "frames": video.num_frames_estimate, "duration_s": video.duration_s}
    ]


def _table(rows: list[dict[str, Any]]) -> str:
    """Set out what files hold in columns, with the camera's parameters that aren't the default below."""
    heads = ("file", "clip", "format", "HxW", "events", "seconds", "events/s", "ON", "frames")
    cells = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    for row in rows:
        if row.get("camera"):
            lines.append(f"{row['file']}: {row['clip'] or 'camera'}: {_camera_text(row['camera'])}")
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def number(name: str, form: str) -> str:
        return "-" if row.get(name) is None else format(row[name], form)

    size = f"{row['height']}x{row['width']}"
    figures = (number("events", "d"), number("duration_s", ".3f"), number("events_per_s", ".3g"))
    return (
        row["file"],
        row["clip"] or "-",
        row["format"],
        size,
        *figures,
        number("on_share", ".1%"),
        number("frames", "d"),
    )


def _camera_text(values: dict[str, Any]) -> str:
    default = EventCamera().to_dict()
    shown = {name: value for name, value in values.items() if value != default.get(name)}
    shown = {name: values.get(name) for name in ("contrast_on", "contrast_off")} | shown
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _summary(row: dict[str, Any]) -> str:
    line = f"{row['clip']}: "
    if row["frames"] is not None:
        line += f"{row['frames']} frames {row['height']}x{row['width']} in {row['duration_s']:.2f} s, "
    else:
        line += f"{row['height']}x{row['width']}, {row['duration_s']:.3f} s, "
    line += f"{row['events']} events"
    if row["frames"] is not None:
        line += f" ({row['events_per_pixel_frame']:.3f} per pixel and frame), {row['mpixel_per_s']:.1f} Mpixel/s"
    return line + "\n" + "".join(f"  note: {note}\n" for note in row["notes"])


def _check_outputs(clips: Sequence[Path], out: str | None, preview: str | None, json_path: str | None) -> None:
    if preview is not None and len(clips) > 1:
        raise fail(WHERE, "one clip with --preview", f"{len(clips)} clips", "Call it once per clip.")
    if preview is not None and Path(preview).suffix.lower() not in FILM_SUFFIXES:
        raise fail(WHERE, "--preview to end in .mp4 or .gif", repr(preview))
    seen = {clip.resolve() for clip in clips}
    for name, value in {"--out": out, "--preview": preview, "--json": json_path}.items():
        if value is None:
            continue
        path = Path(value).resolve()
        if path in seen:
            raise fail(WHERE, f"{name} to be a file of its own", str(value))
        check_output(name, value)
        if name == "--out" and path.is_file() and hdf5.holds_others(path):
            raise fail(WHERE, "-o to be a new file, or events to replace", f"{value}, which holds something else")
        seen.add(path)


def _write_json(path: str | None, content: dict[str, Any]) -> None:
    if path is not None:
        with renamed_when_done(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
