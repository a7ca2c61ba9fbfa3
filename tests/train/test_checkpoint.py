"""Checkpoints: exact round trips, damage said in one line."""

import pytest
import torch
from torch import nn

from neuroav.checks import InputError
from neuroav.train.checkpoint import load_tensors, restore_training, save_tensors, training_state

TENSORS = {
    "a": torch.tensor([1.0, float("nan"), -0.0, 1e-45]),
    "b": torch.arange(6).reshape(2, 3).t(),  # not contiguous
    "c": torch.tensor(3),
    "d": torch.zeros(0, 2, dtype=torch.bool),
}


def test_tensors_and_note_come_back_bit_by_bit(tmp_path):
    note = {"hm": 0.1 + 0.2, "words": ["ä", None]}
    save_tensors(tmp_path / "x.safetensors", TENSORS, note)
    found, found_note = load_tensors(tmp_path / "x.safetensors")
    assert found_note == note
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].numpy().tobytes() == value.numpy().tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "folder"])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) - 20], "text": b"hello" * 10}[damage])
    with pytest.raises(InputError, match="expected a checkpoint in safetensors format"):
        load_tensors(path)


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()

    def new():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1))
        return model, torch.optim.Adam(model.parameters(), 0.1)

    model, optimizer = new()
    step(model, optimizer)
    best = {k: v.clone() for k, v in model.state_dict().items()}
    step(model, optimizer)
    save_tensors(tmp_path / "x", training_state(model, optimizer, best))
    random = torch.get_rng_state()
    step(model, optimizer)

    other, other_optimizer = new()
    found = restore_training(other, other_optimizer, load_tensors(tmp_path / "x")[0])
    torch.set_rng_state(random)
    step(other, other_optimizer)
    assert all(torch.equal(found[k], best[k]) for k in best)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
