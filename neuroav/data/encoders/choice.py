"""Which encoder describes video or sound, as it is written on the command line and in a store."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuroav.checks import check_choice, fail

VIDEO = ("classic", "c3d", "c3d-released", "selavi", "hf")
AUDIO = ("classic", "vggish", "selavi", "hf")
_NEEDS = {"vggish": "WEIGHTS or WEIGHTS,PCA", "hf": "FOLDER"}


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder and its files.

    Attributes:
        name: One of :data:`VIDEO` or :data:`AUDIO`.
        paths: Its weights, or the folder of a Hugging Face model; none for ``classic``.
    """

    name: str
    paths: tuple[str, ...] = ()

    @property
    def is_classic(self) -> bool:
        """Whether the descriptors need no weights."""
        return self.name == "classic"

    def describe(self) -> dict[str, Any]:
        """Return what a store says of it: the name, the files' names, and what tells their contents from others."""
        if self.is_classic:
            return {"name": self.name}
        from neuroav.data.encoders.huggingface import weight_files
        from neuroav.data.encoders.weights import fingerprint

        files = weight_files(self.paths[0]) if self.name == "hf" else [Path(path) for path in self.paths]
        return {"name": self.name, "files": [Path(path).name for path in self.paths], "sha256": fingerprint(files)}


def parse_choice(option: str, text: str, known: tuple[str, ...]) -> EncoderChoice:
    """Read ``classic``, or a name and its files such as ``c3d:weights.pth``.

    Raises:
        InputError: If the name is unknown, or files are missing or too many.

    Example:
        >>> parse_choice("--video-encoder", "classic", VIDEO)
        EncoderChoice(name='classic', paths=())
    """
    name, colon, rest = text.partition(":")
    check_choice(option, "the encoder", name, known)
    paths = tuple(part for part in (rest.split(",") if name == "vggish" else [rest]) if part)
    needed = _NEEDS.get(name, "WEIGHTS")
    if name == "classic":
        if colon:
            raise fail(option, "classic without files", repr(text))
        return EncoderChoice(name)
    if not 1 <= len(paths) <= (2 if name == "vggish" else 1):
        raise fail(option, f"{name}:{needed}", repr(text))
    for path in paths:
        if not (Path(path, "config.json") if name == "hf" else Path(path)).is_file():
            found = f"no config.json in {path}" if name == "hf" else f"no file {path}"
            raise fail(option, f"{name}:{needed}", found)
    return EncoderChoice(name, tuple(os.path.abspath(path) for path in paths))


@lru_cache(maxsize=2)
def load_video_encoder(choice: EncoderChoice) -> Any:
    """Return the video encoder of a choice, loaded once per process.

    Raises:
        InputError: If its files can't be used.
    """
    from neuroav.data.encoders import c3d, huggingface, selavi

    kinds: dict[str, Callable[..., Any]] = {
        "c3d": c3d.C3DEncoder,
        "c3d-released": c3d.ReleasedC3DEncoder,
        "selavi": selavi.SeLaViVideoEncoder,
        "hf": huggingface.HuggingFaceVideoEncoder,
    }
    return kinds[choice.name](*choice.paths)


@lru_cache(maxsize=2)
def load_audio_encoder(choice: EncoderChoice) -> Any:
    """Return the audio encoder of a choice, loaded once per process.

    Raises:
        InputError: If its files can't be used.
    """
    from neuroav.data.encoders import huggingface, selavi, vggish

    kinds: dict[str, Callable[..., Any]] = {
        "vggish": vggish.VGGishEncoder,
        "selavi": selavi.SeLaViAudioEncoder,
        "hf": huggingface.HuggingFaceAudioEncoder,
    }
    return kinds[choice.name](*choice.paths)
