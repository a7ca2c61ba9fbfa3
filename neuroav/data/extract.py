"""From a folder of real clips to a feature store: read the labels, describe every clip in parallel, resume, report."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuroav import __version__
from neuroav.checks import NeuroavError, check_choice, fail, some
from neuroav.cluster import map_cluster
from neuroav.data.encoders.choice import (
    AUDIO,
    VIDEO,
    EncoderChoice,
    load_audio_encoder,
    load_video_encoder,
    parse_choice,
)
from neuroav.data.splits import PARTS
from neuroav.data.store import ClipRecord, Store, StoreWriter, check_complete
from neuroav.data.word_vectors import find_vectors
from neuroav.files import save_json
from neuroav.processes import map_processes, num_cores
from neuroav.progress import Progress

SETTINGS: dict[str, Any] = {
    "descriptor": "classic",
    "bin_s": 0.2,
    "contrast": 0.2,
    "frame_size": [64, 64],
    "audio_rate": 16000,
    "neuroav": __version__,
}
_SHOWN = 3  # how many reasons an error names


@dataclass(frozen=True)
class LabelRow:
    """One line of ``labels.csv``.

    Attributes:
        file: Path of the clip below the folder, with ``/``.
        label: Class name.
        part: One of :data:`neuroav.data.splits.PARTS` or ``""``.
        group: What the clip was cut from; its own file where none is named.
        vector: Name of its class vector.
    """

    file: str
    label: str
    part: str
    group: str
    vector: str


@dataclass(frozen=True)
class Described:
    """What a worker sends back for one clip.

    Attributes:
        t_s: ``(T,)`` start of each step in seconds.
        video: ``(T, D_video)`` features.
        audio: ``(T, D_audio)`` features, or ``(T', D_audio)`` with ``audio_t_s``.
        motion: ``(T, P, h, w)`` uint16 event counts.
        has_audio: Whether any sound was decoded.
        duration_s: Seconds of video.
        notes: What was wrong with the file, in words.
        audio_t_s: ``(T',)`` start of each step of ``audio`` in seconds, where it has its own.
    """

    t_s: np.ndarray
    video: np.ndarray
    audio: np.ndarray
    motion: np.ndarray
    has_audio: bool
    duration_s: float
    notes: str
    audio_t_s: np.ndarray | None = None


def read_labels(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> list[LabelRow]:
    """Read which clip has which label from a CSV file with a header.

    Columns are found by name: ``file`` (below ``folder``) and ``label``; optionally ``part``, ``group`` and ``vector``
    (the class vector's name, if it is not the label). Other columns are ignored.

    Raises:
        InputError: If a column or value is missing, a file is listed twice or does not exist, a part is unknown, an
            unseen class also lies in a seen part, or nothing is listed.
    """
    where = str(path)
    if not Path(folder).is_dir():
        actual = "a file" if Path(folder).is_file() else "no such folder"
        raise fail(str(folder), "a folder of clips", actual)
    if not any(item.is_file() for item in Path(folder).rglob("*")):
        raise fail(str(folder), "a folder of clips", "a folder without files")
    rows = [_label_row(where, line, values) for line, values in _csv_lines(where)]
    if not rows:
        raise fail(where, "at least one clip", "only a header", "Add one line 'file,label' per clip.")
    repeated = [file for file, count in Counter(row.file for row in rows).items() if count > 1]
    if repeated:
        raise fail(where, "every file once", f"{some(repeated)} more than once")
    absent = [row.file for row in rows if not (Path(folder) / row.file).is_file()]
    if absent:
        raise fail(
            where,
            f"files below {folder}",
            f"{len(absent)} of {len(rows)} absent: {some(absent)}",
            "Nothing was written.",
        )
    _check_parts(where, rows)
    return rows


def _csv_lines(where: str) -> Iterator[tuple[int, dict[str, str]]]:
    if not Path(where).is_file():
        actual = "a folder" if Path(where).is_dir() else "no such file"
        raise fail(where, "a CSV file with columns file,label", actual)
    with open(where, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            columns = [name.strip() for name in reader.fieldnames or []]
            missing = [name for name in ("file", "label") if name not in columns]
            if missing:
                remedy = "The first line must name the columns, such as 'file,label'."
                raise fail(where, "columns file and label", f"{', '.join(columns) or 'an empty file'}", remedy)
            reader.fieldnames = columns
            for values in reader:
                if None in values:
                    more, remedy = len(values[None]), "Quote a value that holds a comma."
                    line = f"{where}, line {reader.line_num}"
                    raise fail(line, f"{len(columns)} values", f"{len(columns) + more}", remedy)
                yield reader.line_num, {key: (value or "").strip() for key, value in values.items() if key in columns}
        except (csv.Error, UnicodeDecodeError) as error:
            raise fail(where, "a CSV file in UTF-8", str(error)) from error


def _label_row(where: str, line: int, values: dict[str, str]) -> LabelRow:
    for key in ("file", "label"):
        if not values[key]:
            raise fail(f"{where}, line {line}", f"a value in column {key}", "none")
    for key in ("file", "label", "part", "group", "vector"):
        if any(ord(character) < 32 for character in values.get(key, "")):
            raise fail(f"{where}, line {line}", f"column {key} without control characters", repr(values[key]))
    part = values.get("part", "")
    if part:
        check_choice(f"{where}, line {line}", "part", part, PARTS)
    file = Path(os.path.normpath(values["file"])).as_posix()
    return LabelRow(file, values["label"], part, values.get("group") or file, values.get("vector") or values["label"])


def _check_parts(where: str, rows: Sequence[LabelRow]) -> None:
    """An unseen class must not be trained on in its stage."""
    allowed = {"test_unseen": {"test_unseen", ""}, "val_unseen": {"val_unseen", "test_seen", ""}}
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row.label, set()).add(row.part)
    for label, there in sorted(parts.items()):
        for part, fine in allowed.items():
            if part in there and there - fine:
                raise fail(where, f"{part} classes kept out of training", f"{label!r} in {' and '.join(sorted(there))}")


CLASSIC = EncoderChoice("classic")


def describe_file(
    path: str, video: EncoderChoice = CLASSIC, audio: EncoderChoice = CLASSIC, align: bool = False
) -> Described | str:
    """Decode and describe one clip in a worker; a clip that can't be is answered by the reason, in one line.

    Raises:
        InputError: If an encoder's files can't be used here, which is no fault of the clip.
    """
    from neuroav.events.io import read_clip

    for choice, load in ((video, load_video_encoder), (audio, load_audio_encoder)):
        if not choice.is_classic:
            load(choice)
    try:
        rate = SETTINGS["audio_rate"] if audio.is_classic else load_audio_encoder(audio).rate
        clip = read_clip(path, size=tuple(SETTINGS["frame_size"]), rgb=True, audio_rate=rate)
        steps = _steps(path, clip, video, audio)
        if align and "audio_t_s" in steps:
            from neuroav.data.encoders.windows import on_steps

            steps["audio"] = on_steps(steps.pop("audio_t_s"), steps["audio"], steps["t_s"])
    except Exception as error:  # whatever one file does to a decoder, the others go on
        return _line(path, str(error)) or type(error).__name__
    gap_us = float(np.median(np.diff(clip.t_us))) if len(clip.t_us) > 1 else 0.0
    duration_s = (float(clip.t_us[-1] - clip.t_us[0]) + gap_us) / 1e6
    notes = "; ".join(_line(path, note) for note in clip.notes)
    return Described(**steps, has_audio=clip.has_audio, duration_s=duration_s, notes=notes)


def _steps(path: str, clip: Any, video: EncoderChoice, audio: EncoderChoice) -> dict[str, Any]:
    """Describe a decoded clip by the chosen encoders; motion has the steps of the video."""
    from neuroav.data.classic import describe_clip, motion_counts

    sound = clip.audio if audio.is_classic else np.zeros(0, np.float32)
    bin_s, contrast = SETTINGS["bin_s"], SETTINGS["contrast"]
    classic = describe_clip(clip.frames, clip.t_us, sound, clip.audio_rate, bin_s=bin_s, contrast=contrast)
    steps: dict[str, Any] = {
        "t_s": classic.t_s,
        "video": classic.video,
        "audio": classic.audio,
        "motion": classic.motion,
    }
    if not video.is_classic:
        from neuroav.data.encoders.windows import encode_video

        encoder = load_video_encoder(video)
        steps["t_s"], steps["video"] = encode_video(path, encoder)
        edges_s = np.arange(len(steps["t_s"]) + 1) * (encoder.frames / encoder.fps)
        steps["motion"] = motion_counts(clip.frames, clip.t_us, np.round(edges_s * 1e6).astype(np.int64), contrast)
    if not audio.is_classic:
        steps["audio_t_s"], steps["audio"] = load_audio_encoder(audio).encode(clip.audio)
    elif not video.is_classic:
        steps["audio_t_s"] = classic.t_s
    return steps


def _line(path: str, text: str) -> str:
    return " ".join(text.removeprefix(f"{path}: ").split())


def extract_command(
    folder: str,
    labels: str,
    vectors: str,
    out: str,
    workers: int | None = None,
    json_path: str | None = None,
    cluster: str | None = None,
    video_encoder: str = "classic",
    audio_encoder: str = "classic",
    align: bool = False,
) -> int:
    """Run ``neuroav extract``: describe the labelled clips of ``folder`` and write the store ``out``.

    Started again after an interrupt or a kill, the same command goes on where it stopped; if ``out`` is complete it
    says so. Clips come in the order of ``labels``. A clip that can't be described is left out and reported.

    Args:
        folder: Holds the clips.
        labels: CSV file, see :func:`read_labels`.
        vectors: Class or word vectors, see :func:`neuroav.data.word_vectors.find_vectors`.
        out: The store.
        workers: Processes; default one per core.
        json_path: Also write the report as JSON.
        cluster: Address of a dask scheduler whose workers describe the clips, in place of processes here.
        video_encoder: ``classic``, or an encoder and its weights such as ``c3d:weights.pth``, see
            :mod:`neuroav.data.encoders.choice`. Motion is counted in the same steps.
        audio_encoder: The same for sound, such as ``vggish:weights.pth,pca.npz``.
        align: Bring sound onto the steps of the video, for models that compare the two step by step, such as MDFT.

    Returns:
        Exit status 0: at least one clip is in the store.

    Raises:
        InputError: If an input can't be used, ``out`` is something else or in use, or no clip could be described.
    """
    num_workers = workers if workers is not None else num_cores()
    if num_workers < 1:
        raise fail("extract", "at least 1 worker", str(num_workers))
    video = parse_choice("--video-encoder", video_encoder, VIDEO)
    audio = parse_choice("--audio-encoder", audio_encoder, AUDIO)
    rows = read_labels(labels, folder)
    class_names, class_vectors, sources = _classes(labels, rows, vectors)
    settings = {
        **SETTINGS,
        **_descriptors(video, audio, align),
        "labels": f"{zlib.crc32(json.dumps([astuple(row) for row in rows]).encode()):08x}",
    }
    start = time.monotonic()
    left_out: dict[str, str] = {}
    if Path(out).exists():
        check_complete(out, settings, class_names, class_vectors)
        sys.stdout.write(f"{out} is complete already\n")
    else:
        provenance = {
            "folder": str(Path(folder).resolve()),
            "labels": str(labels),
            "vectors": str(Path(vectors).resolve()),
            "class_vectors": sources,
            "encoders": {"video": video.paths, "audio": audio.paths},
        }
        writer = StoreWriter(
            out, class_names=class_names, class_vectors=class_vectors, settings=settings, provenance=provenance
        )
        with writer:
            describe = partial(describe_file, video=video, audio=audio, align=align)
            left_out = _describe_all(Path(folder), rows, writer, num_workers, describe, cluster)
            if not writer.done:
                if json_path is not None:
                    save_json(Path(json_path), {"rows": [], "left_out": left_out, "silent": []})
                reasons = "; ".join(f"{file}: {reason}" for file, reason in list(left_out.items())[:_SHOWN])
                raise fail(out, "at least one clip that can be described", f"none of {len(rows)} ({reasons})")
    _report(out, rows, left_out, time.monotonic() - start, json_path)
    return 0


def _descriptors(video: EncoderChoice, audio: EncoderChoice, align: bool) -> dict[str, Any]:
    """Load the encoders once, so that unfit weights are refused before any clip is read; say which they are."""
    if video.is_classic and audio.is_classic:
        return {}
    for choice, load in ((video, load_video_encoder), (audio, load_audio_encoder)):
        if not choice.is_classic:
            load(choice)
            load.cache_clear()  # the workers have their own
    return {"descriptor": {"video": video.describe(), "audio": audio.describe()}, "aligned": align}


def _classes(labels: str, rows: Sequence[LabelRow], vectors: str) -> tuple[list[str], np.ndarray, dict[str, str]]:
    """Return the sorted class names, their vectors and what those are made of; every class must have one of its own."""
    found = find_vectors(vectors, [row.vector for row in rows])
    vector_of: dict[str, str] = {}
    for row in rows:
        name = found[row.vector].source
        if vector_of.setdefault(row.label, name) != name:
            raise fail(labels, f"one vector for label {row.label!r}", f"{vector_of[row.label]!r} and {name!r}")
    shared = [name for name, count in Counter(vector_of.values()).items() if count > 1]
    if shared:
        names = [label for label, name in vector_of.items() if name == shared[0]]
        raise fail(
            labels, "a vector of its own for every label", f"{shared[0]!r} for {names}", "Write one class one way."
        )
    class_names = sorted(vector_of)
    values = {vector.source: vector.values for vector in found.values()}
    return class_names, np.stack([values[vector_of[name]] for name in class_names]), vector_of


def _describe_all(
    folder: Path,
    rows: Sequence[LabelRow],
    writer: StoreWriter,
    workers: int,
    describe: partial[Described | str],
    cluster: str | None,
) -> dict[str, str]:
    """Describe what is not done yet and write it in order; return the reason for each file left out."""
    todo = [row for row in rows if row.file not in writer.done]
    if len(todo) < len(rows):
        sys.stdout.write(f"going on after {len(rows) - len(todo)} of {len(rows)} clips\n")
    left_out: dict[str, str] = {}
    paths = [str((folder if cluster is None else folder.resolve()) / row.file) for row in todo]
    start, video_s = time.monotonic(), 0.0
    with Progress("extract", total=len(todo), unit="clip") as bar:
        if cluster is not None:
            weights = [Path(path) for key in ("video", "audio") for path in describe.keywords[key].paths]
            needs = [folder, *(path if path.is_dir() else path.parent for path in weights)]
            results = map_cluster(describe, paths, cluster, needs=needs)
        else:
            preload = ["neuroav.data.classic", "neuroav.events.io"]
            results = map_processes(describe, paths, min(workers, len(todo) or 1), preload=preload)
        for row, (_, found) in zip(todo, results, strict=True):
            if isinstance(found, str):
                left_out[row.file] = found
            else:
                video_s += found.duration_s
                try:
                    writer.write(_record(row, found))
                except NeuroavError as error:
                    left_out[row.file] = str(error)
            bar.update(1, **{"video s/s": video_s / max(time.monotonic() - start, 1e-9)})
    return left_out


def _record(row: LabelRow, found: Described) -> ClipRecord:
    return ClipRecord(
        name=row.file,
        label=row.label,
        part=row.part,
        t_s=found.t_s,
        video=found.video,
        audio=found.audio,
        motion=found.motion,
        audio_t_s=found.audio_t_s,
        extras={
            "has_audio": int(found.has_audio),
            "duration_s": found.duration_s,
            "notes": found.notes,
            "file": row.file,
            "group": row.group,
        },
    )


def _report(
    out: str, rows: Sequence[LabelRow], left_out: dict[str, str], seconds: float, json_path: str | None
) -> None:
    """Print what is in the finished store and what is not; the same as JSON."""
    with Store(out) as store:
        index = {name: i for i, name in enumerate(store.names)}
        table = [
            {
                "file": name,
                "label": store.class_names[store.labels[i]],
                "part": str(store.parts[i]),
                "steps": int(store.lengths[i]),
                "duration_s": float(store.extras["duration_s"][i]),
                "has_audio": bool(store.extras["has_audio"][i]),
                "notes": str(store.extras["notes"][i]),
            }
            for name, i in index.items()
        ]
    reasons = {
        row.file: left_out.get(row.file, "left out when the store was written; delete the store to try again")
        for row in rows
        if row.file not in index
    }
    silent = [row["file"] for row in table if not row["has_audio"]]
    video_s = sum(row["duration_s"] for row in table)
    classes = len({row["label"] for row in table})
    size = Path(out).stat().st_size
    lines = [f"{out}: {len(table)} clips of {classes} classes, {video_s:.1f} s of video, {size / 1e6:.2f} MB"]
    if silent:
        lines.append(f"{len(silent)} of {len(table)} clips have no sound and got a silent track: {some(silent)}")
    remarks = [row for row in table if row["notes"] not in ("", "no audio track")]
    if remarks:
        lines.append(f"{len(remarks)} of {len(table)} clips were decoded with a remark:")
        lines += [f"  {row['file']}: {row['notes']}" for row in remarks]
    if reasons:
        lines.append(f"{len(reasons)} of {len(rows)} files were left out:")
        lines += [f"  {file}: {reason}" for file, reason in reasons.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    report = {
        "rows": table,
        "left_out": reasons,
        "silent": silent,
        "video_s": video_s,
        "seconds": seconds,
        "bytes": size,
    }
    if json_path is not None:
        save_json(Path(json_path), report)
