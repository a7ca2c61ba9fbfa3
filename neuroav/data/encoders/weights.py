"""Weight files: read without unpickling anything but tensors, and fitted to a network name by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuroav.checks import fail

_NESTED = ("state_dict", "model_state_dict", "model")
_REMEDY = "Save the network's state_dict() alone, with torch.save or as .safetensors."


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dictionary from ``.safetensors``, or from a PyTorch file of nothing but tensors and plain values.

    A dictionary that lies under ``state_dict``, ``model_state_dict`` or ``model`` is found there, and the ``module.``
    that parallel training puts before every name is dropped.

    Raises:
        InputError: If the file is missing, damaged, would have to run code, or holds no tensors by name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.pth"
        >>> torch.save({"model": {"module.fc.bias": torch.zeros(2)}, "epoch": 3}, path)
        >>> read_weights(path)
        {'fc.bias': tensor([0., 0.])}
    """
    where, what = str(path), "a file of weights (.safetensors, .pth, .pt, .bin)"
    if not Path(path).is_file():
        raise fail(where, what, "a folder" if Path(path).is_dir() else "no such file")
    content = _read(where, what)
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise fail(where, what, "no tensors by name", _REMEDY)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _read(where: str, what: str) -> Any:
    import argparse

    if where.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(where)
        except (SafetensorError, OSError, ValueError) as error:
            raise fail(where, what, f"a damaged one ({_line(error)})") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options beside the weights: plain values
            return torch.load(where, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise nearly anything, one with code in it another
        raise fail(where, what, f"one that can't be read ({_line(error)})", _REMEDY) from error


def _line(error: Exception) -> str:
    """The line of an error that says what was wrong, PyTorch's long advice left out."""
    text = " ".join(str(error).split()) or type(error).__name__
    for start in ("WeightsUnpickler error: ", "Unsupported global: "):
        if start in text:
            text = text.split(start, 1)[1]
    for rest in (" was not an allowed", " Please file", " Check the documentation"):
        text = text.split(rest)[0]
    return text[:120]


def fit_weights(where: str, module: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Put weights into a network: every one of its tensors must be there, in its own shape.

    Args:
        where: The file, for errors.
        module: The network.
        state: As from :func:`read_weights`; other names are left alone, such as those of a classifier.
        prefix: What stands before the network's names in the file.

    Raises:
        InputError: If a tensor is missing or has another shape.
    """
    own = module.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if prefix + name not in state and name not in optional]
    if missing:
        found = f"no {prefix}{missing[0]}" + (f" and {len(missing) - 1} others" if len(missing) > 1 else "")
        raise fail(where, f"the weights of {type(module).__name__}", found, f"It holds {_some(state)}.")
    wrong = [n for n in own if n not in optional and tuple(own[n].shape) != tuple(state[prefix + n].shape)]
    if wrong:
        expected = f"{prefix}{wrong[0]} of shape {tuple(own[wrong[0]].shape)}"
        raise fail(where, expected, str(tuple(state[prefix + wrong[0]].shape)))
    module.load_state_dict({name: state[prefix + name] for name in own if prefix + name in state}, strict=False)


def shape_of(where: str, state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the shape of one tensor, from which a network's sizes are read.

    Raises:
        InputError: If it is not there.
    """
    if name not in state:
        raise fail(where, f"weights that hold {name}", _some(state), "Is this the file of another network?")
    return tuple(state[name].shape)


def fingerprint(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return what tells files from others: the first 16 hexadecimal digits of the SHA-256 of their contents."""
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def device() -> torch.device:
    """Return where encoders run: on a GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _some(state: Mapping[str, Tensor]) -> str:
    names = list(state)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
