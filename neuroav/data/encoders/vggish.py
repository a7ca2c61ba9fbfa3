"""VGGish: a VGG over 0.96 s of log-mel spectrogram, 128 features [hershey2017vggish].

The published "cls" audio features come from it, whitened and cut to 8 bits by the parameters released beside it [avca].
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.checks import check_shape, fail
from neuroav.data.encoders.weights import device, fit_weights, read_weights, shape_of

RATE, BANDS, WINDOW = 16_000, 64, 96  # hertz; mel bands; spectrogram frames of 10 ms in one window
_LENGTH, _HOP, _FFT = 400, 160, 512  # samples: 25 ms, 10 ms
_LOW_HZ, _HIGH_HZ, _OFFSET = 125.0, 7500.0, 0.01
_BATCH = 32
_LAYERS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)  # channels of the convolutions; 0: halve


class VGGish(nn.Module):
    """The network of [hershey2017vggish] with the names that its PyTorch conversions use.

    Args:
        width: Channels of the first convolution.
        hidden: Features of the two hidden layers.
        dim: Features.

    Example:
        >>> VGGish(width=2, hidden=8, dim=4)(torch.zeros(3, 1, 96, 64)).shape
        torch.Size([3, 4])
    """

    def __init__(self, width: int = 64, hidden: int = 4096, dim: int = 128):
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels in _LAYERS:
            after = channels * width // 64
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()] if channels else [nn.MaxPool2d(2)]
            before = after or before
        self.features = nn.Sequential(*layers)
        sizes = (before * 6 * 4, hidden, hidden, dim)
        self.fc = nn.Sequential(*(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return features ``(B, dim)``, at least 0, of log-mel windows ``(B, 1, 96, 64)``."""
        return self.fc(self.features(spectrograms).permute(0, 2, 3, 1).flatten(1))


class VGGishEncoder:
    """VGGish over windows of 0.96 s of sound at 16 kHz, its sizes read from the weights.

    Args:
        path: The weights, of either PyTorch conversion (fully connected layers called ``fc`` or ``embeddings``).
        pca: Parameters of the released whitening (``pca_eigen_vectors`` and ``pca_means``, .npz or .pth). With them
            features are whole numbers from 0 to 255, as published; without them those of the network.

    Raises:
        InputError: If a file can't be read or holds something else.
    """

    rate = RATE

    def __init__(self, path: str, pca: str | None = None):
        state = {name.replace("embeddings.", "fc."): tensor for name, tensor in read_weights(path).items()}
        width, hidden = (shape_of(path, state, name)[0] for name in ("features.0.weight", "fc.0.weight"))
        dim = shape_of(path, state, "fc.4.weight")[0]
        self.network = VGGish(width, hidden, dim)
        fit_weights(path, self.network, state)
        self.network.eval().to(device())
        self.whitening = None if pca is None else _read_pca(pca, dim)

    @torch.inference_mode()
    def encode(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return window starts ``(T,)`` in seconds and features ``(T, 128)`` of samples ``(S,)``."""
        windows = torch.from_numpy(log_mel_windows(samples)).unsqueeze(1)
        parts = [self.network(part.to(device())).cpu() for part in windows.split(_BATCH)]
        values = torch.cat(parts).numpy()
        if self.whitening is not None:
            values = quantised(values, *self.whitening)
        return (np.arange(len(values)) * (WINDOW * _HOP / RATE)).astype(np.float32), values


def log_mel_windows(samples: np.ndarray) -> np.ndarray:
    """Return the windows ``(T, 96, 64)`` of log-mel spectrogram that VGGish is shown; a rest is dropped.

    Magnitudes of 512-point transforms of 25 ms every 10 ms, Hann window, 64 triangles from 125 to 7500 Hz, natural
    logarithm of the sum plus 0.01 [hershey2017vggish]. Differs from the paper: a clip shorter than a window (15,600
    samples) is filled up with silence.

    Args:
        samples: ``(S,)`` at 16 kHz in [-1, 1].

    Example:
        >>> log_mel_windows(np.zeros(32_000, np.float32)).shape
        (2, 96, 64)
    """
    shortest = (WINDOW - 1) * _HOP + _LENGTH
    padded = np.pad(samples.astype(np.float64), (0, max(0, shortest - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _LENGTH)[::_HOP]
    frames = frames[: len(frames) // WINDOW * WINDOW]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / _LENGTH * np.arange(_LENGTH))
    magnitude = np.abs(np.fft.rfft(frames * hann, _FFT, axis=1))
    spectrogram = np.log(np.einsum("tf,fb->tb", magnitude, mel_weights()) + _OFFSET)
    return spectrogram.reshape(-1, WINDOW, BANDS).astype(np.float32)


@lru_cache(maxsize=1)
def mel_weights() -> np.ndarray:
    """Return VGGish's filters ``(257, 64)``: triangles that are straight in mel rather than in hertz, none at 0 Hz."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(hertz / 700.0)

    bins = mel(np.linspace(0, RATE / 2, _FFT // 2 + 1))[:, None]
    edges = np.linspace(mel(np.array(_LOW_HZ)), mel(np.array(_HIGH_HZ)), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    weights[0] = 0
    return weights


def quantised(features: np.ndarray, vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Whiten features ``(T, D)``, clip them to [-2, 2] and cut them to whole numbers from 0 to 255, as published.

    Example:
        >>> quantised(np.array([[1.0, 5.0]]), np.eye(2), np.array([1.0, 0.0])).tolist()
        [[127.0, 255.0]]
    """
    white = np.clip((features - means) @ vectors.T, -2.0, 2.0)
    return np.floor((white + 2.0) * (255.0 / 4.0)).astype(np.float32)


def _read_pca(path: str, dim: int) -> tuple[np.ndarray, np.ndarray]:
    arrays: Mapping[str, np.ndarray]
    if path.endswith(".npz"):
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
        except (OSError, ValueError) as error:
            raise fail(path, "the whitening of VGGish", f"a file that can't be read ({error})") from error
    else:
        arrays = {name: tensor.numpy() for name, tensor in read_weights(path).items()}
    if not {"pca_eigen_vectors", "pca_means"} <= arrays.keys():
        raise fail(path, "arrays pca_eigen_vectors and pca_means", ", ".join(arrays) or "none")
    vectors, means = arrays["pca_eigen_vectors"], arrays["pca_means"].reshape(-1)
    check_shape(path, "pca_eigen_vectors", vectors, (dim, dim))
    check_shape(path, "pca_means", means, (dim,))
    return vectors.astype(np.float64), means.astype(np.float64)
