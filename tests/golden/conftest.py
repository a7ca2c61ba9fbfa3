"""Numbers of the released code for each model: those that may be copied lie here, the others beside the repository."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).resolve().parent
BESIDE = HERE.parents[1].parent / "shared" / "golden"


class Golden:
    """One run of released code.

    Attributes:
        arrays: name -> array, as the README of this folder describes.
        meta: sizes, mode and what the released code does otherwise.
    """

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        self.meta = json.loads(str(self.arrays["meta"]))
        self.hyper = self.meta.get("hyper", {})
        self.training = self.meta.get("mode") == "train"

    def tensor(self, key, dtype=torch.float64):
        """An array; floating point ones in ``dtype``."""
        value = torch.from_numpy(np.asarray(self.arrays[key]))
        return value.to(dtype) if value.is_floating_point() else value

    def draw(self, name, shape):
        """Normal numbers of a case at real size, as the README makes them."""
        seed = (zlib.crc32(name.encode()) + self.meta["recipe_seed"]) % 2**32
        return np.random.RandomState(seed).standard_normal(shape)

    def parameter(self, name, shape, normalises=False):
        """A parameter or buffer by its released name: stored, or made by the recipe and checked against its sums.

        ``normalises`` says that it belongs to a normalisation.
        """
        if name.endswith("num_batches_tracked"):
            return np.array(0)
        if f"param.{name}" in self.arrays:
            return self.arrays[f"param.{name}"]
        value = self._recipe(name, tuple(shape), normalises)
        sums = [value.sum(), np.abs(value).sum()]
        np.testing.assert_allclose(sums, self.meta["param_checksums"][name], rtol=1e-9, atol=1e-9, err_msg=name)
        return value

    def clips(self, dtype=torch.float64):
        """Inputs of a model of averaged features by name without `in.`: stored, or made by the recipe and checked."""
        found = {key.removeprefix("in."): self.arrays[key] for key in self.arrays if key.startswith("in.")}
        if "audio" not in found:
            size = self.hyper["batch"]
            for name in ("audio", "video", "audio_neg", "video_neg"):
                found[name] = np.abs(self.draw(f"in.{name}", (size, self.hyper[f"input_{name[:5]}"])))
                np.testing.assert_allclose(found[name].sum(), self.meta["input_checksums"][name][0], rtol=1e-9)
            words = self.draw("in.class_embeddings", (self.hyper["classes"], 300))
            words = words / np.linalg.norm(words, axis=1, keepdims=True)
            found |= {"class_embeddings": words, "text": words[found["row"]], "text_neg": words[found["row_neg"]]}
        tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in found.items()}
        return {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}

    def _recipe(self, name, shape, normalises):
        x = self.draw(name, shape)
        if name.endswith("fourier_randn"):
            return 10 * x
        if name.endswith("running_mean"):
            return 0.3 * x
        if name.endswith("running_var"):
            return 0.5 + np.abs(x)
        if len(shape) > 1:
            return x / np.sqrt(np.prod(shape[1:]))
        return 1 + 0.2 * x if normalises and name.endswith("weight") else 0.2 * x

    def check(self, ours, key, **tolerance):
        """Assert that ours is the array ``key``, to 1e-9 unless told otherwise."""
        tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-11}
        np.testing.assert_allclose(ours.detach().numpy(), self.arrays[key], err_msg=key, **tolerance)

    def check_gradients(self, found):
        """Assert that gradients ``found`` (by released name, in the released shape) are those of the total loss.

        Returns:
            Norms of the released gradients by name, of parameters that ``found`` lacks.
        """
        norms = dict(zip(self.arrays["gradnorm.names"].tolist(), self.arrays["gradnorm.values"], strict=True))
        for name, gradient in found.items():
            size = np.linalg.norm(gradient.numpy())
            np.testing.assert_allclose(size, norms[name], rtol=1e-9, atol=1e-11, err_msg=name)
            if f"grad.{name}" in self.arrays:
                self.check(gradient, f"grad.{name}")
        return {name: norm for name, norm in norms.items() if name not in found}


@pytest.fixture
def golden():
    """Open the case ``golden(folder, name)``; skips where its file may not be copied and is not beside."""

    def read(folder, name):
        for root in (HERE, BESIDE):
            path = root / folder / f"{name}.npz"
            if path.exists():
                return Golden(path)
        pytest.skip(f"{folder}/{name}.npz: code without a licence, its numbers are not in the repository")

    return read
