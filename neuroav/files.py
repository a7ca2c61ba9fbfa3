"""Files written whole or not at all.

A file is written to a temporary name beside its own, forced to the disk, and renamed. A kill at any moment therefore
leaves the old file or the new one, and perhaps the temporary one, which the next write to that name replaces.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuroav.checks import NeuroavError, OutputError, fail

TEMPORARY = ".tmp"
WHOLE = "a place to write the whole file to"


def check_output(where: str, path: str | Path | None) -> None:
    """Refuse, before any work is done, an output file that could not be written in the end; ``None`` is none."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    expected = "a file in an existing folder"
    if Path(path).is_dir():
        raise fail(where, expected, f"{path}, which is a folder")
    if not folder.is_dir():
        raise fail(where, expected, f"{path} in a folder that doesn't exist")
    if not os.access(folder, os.W_OK):
        raise fail(where, expected, f"{path} in a folder that can't be written")


def check_folder(where: str, path: str | Path | None) -> None:
    """Refuse, before any work is done, a folder that could not be made or written in the end; ``None`` is none."""
    if path is None:
        return
    there = next(each for each in (Path(path).absolute(), *Path(path).absolute().parents) if each.exists())
    if not there.is_dir():
        raise fail(where, "a folder", f"{path}, where {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise fail(where, "a folder that can be written", f"{path}, where {there} can't")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; takes its place at the end, and goes away after an error.

    Raises:
        OutputError: If the system refuses to write (no room, no permission); what was at ``path`` is still there.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def writing(
    path: Path,
    what: str = "a file that can be written",
    remedy: str = "Make room or choose another folder; what was there before is unchanged.",
) -> Iterator[None]:
    """Say in one line which file the system refused to write, and why; ``what`` was expected, ``remedy`` helps."""
    try:
        yield
    except NeuroavError:
        raise
    except OSError as error:
        raise fail(str(path), what, error.strerror or str(error), remedy, OutputError) from error


def save_text(path: Path, text: str) -> None:
    """Write ``text``, whole or not at all; :class:`OutputError` if there is no room or no permission."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON by :func:`save_text`."""
    save_text(path, json.dumps(value, indent=1) + "\n")


def load_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a file of one JSON object; a missing or damaged one is an :class:`InputError`, which ``remedy`` helps."""
    expected = "a file of one JSON object"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail(str(path), expected, error.strerror or str(error), remedy) from error
    except ValueError as error:
        raise fail(str(path), expected, f"a damaged one: {error}", remedy) from error
    if not isinstance(found, dict):
        raise fail(str(path), expected, f"JSON of another kind ({type(found).__name__})", remedy)
    return found
