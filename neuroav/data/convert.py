"""From a published feature archive to a feature store, once: streamed class by class, resumable, counted."""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from neuroav import __version__
from neuroav.checks import fail
from neuroav.data.readers import (
    AVERAGED,
    BENCHMARKS,
    SEQUENCES,
    ClassFiles,
    Layout,
    Published,
    PublishedClip,
    open_published,
)
from neuroav.data.splits import PARTS
from neuroav.data.store import ClipRecord, Store, StoreWriter, check_complete
from neuroav.data.synthetic import class_list
from neuroav.files import save_json
from neuroav.progress import Progress

LAYOUTS: dict[str, Layout] = {"avca": AVERAGED, "tcaf": SEQUENCES}


def convert(
    tree: Published,
    out: str | os.PathLike[str],
    text_order: str = "by_name",
    quiet: bool = False,
    align: bool = False,
) -> None:
    """Write the clips of a published archive to the store ``out``; an interrupted conversion goes on.

    The store has every class name of the archive, so a label is the published label code, and its parts are the five
    lists of the split. Memory holds one clip of sequences (one class of averages) and a row per clip; the disk holds
    the store and its unfinished form, which is as large as the archive, until it is done.

    Args:
        tree: What :func:`neuroav.data.readers.open_published` found.
        out: The store; if it is complete already and of the same settings and files, nothing is done.
        text_order: ``by_name``, or ``legacy`` for the released pipelines' order of word vectors.
        quiet: Show no progress.
        align: Bring sound onto the steps of the video, as models such as MDFT need that compare the two step by step;
            otherwise each keeps its own (VGGish 0.96 s, C3D 0.64 s). The store and results on it say so.

    Raises:
        InputError: If a file is missing or damaged, a clip's name occurs twice, or ``out`` is something else.
        OutputError: If there is no room; what was written stays.
    """
    files, vectors = tree.files(), tree.class_vectors(text_order)
    settings = settings_of(tree, files, text_order) | ({"aligned": True} if align else {})
    if Path(out).exists():
        check_complete(out, settings, tree.class_names, vectors)
        return
    provenance = {
        "folder": str(tree.folder.resolve()),
        "reader": f"neuroav.data.readers {__version__}",
        "class_vectors": tree.benchmark.vectors_npy,
        "vector_names": tree.manual,
    }
    writer = StoreWriter(
        out, class_names=tree.class_names, class_vectors=vectors, settings=settings, provenance=provenance
    )
    with writer, Progress("convert", total=len(files), unit="file", quiet=quiet) as bar:
        before = frozenset(writer.done)
        place_of: dict[str, ClassFiles] = {}
        for each in files:
            for clip in tree.clips(each):
                place = place_of.setdefault(clip.name, each)
                if place is not each or (clip.name in writer.done and clip.name not in before):
                    found = f"{clip.name!r} also in {place.part}/{place.label}"
                    raise fail(str(each.audio), "clips that occur once", found, "Is the archive unpacked twice?")
                if clip.name not in before:
                    writer.write(_record(clip, align))
            bar.update(1, clips=len(writer.done))


def _record(clip: PublishedClip, align: bool) -> ClipRecord:
    audio, own_t_s = clip.audio, None if align else clip.audio_t_s
    if align:
        from neuroav.data.encoders.windows import on_steps

        audio = on_steps(clip.audio_t_s, audio, clip.video_t_s)
    return ClipRecord(
        name=clip.name,
        label=clip.label,
        part=clip.part,
        t_s=clip.video_t_s,
        video=clip.video,
        audio=audio,
        audio_t_s=own_t_s,
    )


def settings_of(tree: Published, files: list[ClassFiles], text_order: str) -> dict[str, Any]:
    """What a store of these files must have been made with; ``files`` is a checksum of their names and sizes."""
    sizes = [
        (str(path.relative_to(tree.folder)), path.stat().st_size) for each in files for path in (each.audio, each.video)
    ]
    return {
        "data_set": next(name for name, one in BENCHMARKS.items() if one == tree.benchmark),
        "layout": tree.layout.name,
        "features": tree.features,
        "split": tree.split,
        "text_order": text_order,
        "files": f"{zlib.crc32(json.dumps(sizes).encode()):08x}",
    }


def convert_command(
    layout: str,
    folder: str,
    out: str,
    dataset: str | None = None,
    features: str | None = None,
    split: str | None = None,
    text_order: str = "by_name",
    align: bool = False,
    json_path: str | None = None,
) -> int:
    """Run ``neuroav extract --from-avca DIR`` or ``--from-tcaf DIR``: write the store ``out`` and say what is in it.

    Args:
        layout: ``avca`` or ``tcaf``.
        folder: The data set's folder, or one that holds it.
        out: The store.
        dataset: ``ucf``, ``activitynet`` or ``vggsound``; default the only one there.
        features: ``main`` or ``cls``; default the only ones there.
        split: ``main`` or ``cls``; default that of the features.
        text_order: ``by_name`` or ``legacy``.
        align: Bring sound onto the steps of the video.
        json_path: Also write the printed figures as JSON.

    Returns:
        Exit status 0.

    Raises:
        InputError, OutputError: See :func:`convert`.
    """
    start = time.monotonic()
    tree = open_published(folder, LAYOUTS[layout], dataset, features, split)
    complete = Path(out).exists()
    convert(tree, out, text_order, align=align)
    if complete:
        sys.stdout.write(f"{out} is complete already\n")
    figures = _figures(tree, out) | {"seconds": time.monotonic() - start}
    sys.stdout.write("\n".join(_lines(out, figures)) + "\n")
    if json_path is not None:
        save_json(Path(json_path), figures)
    return 0


def published_counts(dataset: str, parts: dict[str, list[str]]) -> dict[str, int]:
    """Count the clips that were published [avca] for the classes of each part.

    Example:
        >>> published_counts("ucf", {"train": ["Archery"], "test_seen": ["Archery"]})
        {'train': 117, 'test_seen': 15}
    """
    rows = {row.name.lower(): row.counts for row in class_list(dataset)}  # HandStandPushups is written in two ways
    nothing = (0,) * len(PARTS)
    return {
        part: sum(rows.get(name.lower(), nothing)[PARTS.index(part)] for name in names) for part, names in parts.items()
    }


def _figures(tree: Published, out: str) -> dict[str, Any]:
    """What is in the finished store, beside the published counts."""
    with Store(out) as store:
        counts = Counter(store.parts.tolist())
        used = sorted({store.class_names[label] for label in store.labels})
        by_name = dict(zip(tree.class_names, tree.class_vectors(), strict=True))
        there = dict(zip(store.class_names, store.class_vectors, strict=True))
        settings = store.settings
        steps = {"video_steps": int(store.lengths.sum()), "audio_steps": int(store.audio_lengths.sum())}
    return {
        **settings,
        "clips": sum(counts.values()),
        "classes": len(used),
        "classes_with_the_vector_of_another": sum(not np.array_equal(there[name], by_name[name]) for name in used),
        "parts": {part: counts[part] for part in PARTS},
        "published": published_counts(settings["data_set"], tree.parts),
        **steps,
        "bytes": Path(out).stat().st_size,
    }


def _lines(out: str, figures: dict[str, Any]) -> list[str]:
    lines = [
        "{out}: {data_set}, {layout}, {features} features, {split} split: {clips} clips of {classes} classes, "
        "{video_steps} video and {audio_steps} audio steps, {megabytes:.1f} MB".format(
            out=out, megabytes=figures["bytes"] / 1e6, **figures
        ),
        f"class vectors: {figures['text_order']}",
    ]
    if figures["text_order"] == "legacy":
        shifted = figures["classes_with_the_vector_of_another"]
        lines[-1] += f", as released: {shifted} of {figures['classes']} classes have the vector of another class"
    parts, published = figures["parts"], figures["published"]
    lines.append("  " + ", ".join(f"{part} {count}" for part, count in parts.items()))
    if parts != published:
        wanted = ", ".join(f"{part} {count}" for part, count in published.items() if count != parts[part])
        lines.append(f"  these differ from the published counts of the same classes: {wanted}")
    return lines
