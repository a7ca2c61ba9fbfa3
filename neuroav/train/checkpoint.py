"""Checkpoints: tensors in safetensors with a JSON note; written whole or not at all, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from neuroav.checks import fail
from neuroav.files import replacing


def save_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, Any] | None = None) -> None:
    """Write tensors and a JSON note, whole or not at all; :class:`OutputError` if there is no room or no permission."""
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(plain, {"note": json.dumps(note or {})}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        InputError: If the file is missing, cut short or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
        return load_file(path), note
    except (OSError, SafetensorError, ValueError) as error:
        raise fail(str(path), "a checkpoint in safetensors format", str(error)) from error


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]) -> dict[str, Tensor]:
    """Flatten model, optimiser and best weights so far into named tensors."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    state |= {f"best.{k}": v for k, v in best.items()}
    for index, values in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
    return state


def restore_training(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`training_state`; returns the best weights so far."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}

    model.load_state_dict(part("model."))
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer.").items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    full = optimizer.state_dict()
    optimizer.load_state_dict({"state": slots, "param_groups": full["param_groups"]})
    return part("best.")
