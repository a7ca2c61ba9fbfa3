"""SeLaVi's two encoders: R(2+1)D-18 for video and a residual network of nine layers for sound [asano2020selavi].

The published "main" features come from them: 512 of each, one per second of video (30 frames at 112 x 112) and sound
(257 bands of filter-bank energies at 44.1 kHz) [avca]. The released extraction places its windows over the first part
of a clip and lets them overlap, and interpolates frames linearly; here each second has one window, and frames are
resized by averaging over areas.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.data.encoders.weights import device, fit_weights, read_weights, shape_of

RATE, BANDS = 44_100, 257
_LENGTH, _HOP, _FFT = 882, 441, 1024  # samples: 20 ms, 10 ms
_SIDE = 112


def _conv2plus1d(before: int, between: int, after: int, stride: int) -> nn.Sequential:
    """A convolution over space, then one over time."""
    return nn.Sequential(
        nn.Conv3d(before, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        nn.Conv3d(between, after, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class _VideoBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        between = before * after * 27 // (before * 9 + after * 3)  # as many weights as a 3 x 3 x 3 convolution
        self.conv1 = nn.Sequential(_conv2plus1d(before, between, after, stride), nn.BatchNorm3d(after), nn.ReLU())
        self.conv2 = nn.Sequential(_conv2plus1d(after, between, after, 1), nn.BatchNorm3d(after))
        if stride != 1:
            shortcut = nn.Conv3d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(after))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return (self.conv2(self.conv1(x)) + shortcut).relu()


class R2Plus1D(nn.Module):
    """R(2+1)D with 18 layers and without a classifier [tran2018r2plus1d], with torchvision's names of weights.

    Args:
        width: Channels of the first layer; 8 times as many features.
        stem: Channels between the first two convolutions.

    Example:
        >>> R2Plus1D(width=2, stem=3).eval()(torch.zeros(1, 3, 4, 16, 16)).shape
        torch.Size([1, 16])
    """

    def __init__(self, width: int = 64, stem: int = 45):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, stem, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
            nn.Conv3d(stem, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.layer1 = nn.Sequential(_VideoBlock(width, width, 1), _VideoBlock(width, width, 1))
        self.layer2 = nn.Sequential(_VideoBlock(width, 2 * width, 2), _VideoBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(_VideoBlock(2 * width, 4 * width, 2), _VideoBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(_VideoBlock(4 * width, 8 * width, 2), _VideoBlock(8 * width, 8 * width, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """Return features ``(B, 8 * width)`` of ``clips (B, 3, F, H, W)``."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clips)))))
        return x.mean((2, 3, 4))


class _AudioBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + shortcut).relu()


class ResNet9(nn.Module):
    """A residual network of four blocks over a spectrogram, without a classifier, with torchvision's names of weights.

    Args:
        width: Channels of the first layer; 8 times as many features.

    Example:
        >>> ResNet9(width=2).eval()(torch.zeros(1, 1, 257, 99)).shape
        torch.Size([1, 16])
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(_AudioBlock(width, width, 1))
        self.layer2 = nn.Sequential(_AudioBlock(width, 2 * width, 2))
        self.layer3 = nn.Sequential(_AudioBlock(2 * width, 4 * width, 2))
        self.layer4 = nn.Sequential(_AudioBlock(4 * width, 8 * width, 2))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return features ``(B, 8 * width)`` of ``spectrograms (B, 1, 257, 99)``."""
        x = nn.functional.max_pool2d(self.bn1(self.conv1(spectrograms)).relu(), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class SeLaViVideoEncoder:
    """SeLaVi's R(2+1)D-18 over seconds of 30 frames, its sizes read from the weights.

    Args:
        path: A checkpoint of SeLaVi, or torchvision's weights of ``r2plus1d_18``.

    Raises:
        InputError: If the file can't be read or holds another network.
    """

    fps, frames, keep_rest = 30.0, 30, False

    def __init__(self, path: str):
        state = read_weights(path)
        prefix = "" if "stem.0.weight" in state else "video_network.base."
        stem = shape_of(path, state, f"{prefix}stem.0.weight")[0]
        self.network = R2Plus1D(shape_of(path, state, f"{prefix}stem.3.weight")[0], stem)
        fit_weights(path, self.network, state, prefix)
        self.network.eval().to(device())

    def decode_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size whose short side is 112.

        Example:
            >>> SeLaViVideoEncoder.decode_size(None, (240, 320))
            (112, 149)
        """
        height, width = size
        short = min(size)
        return max(_SIDE, height * _SIDE // short), max(_SIDE, width * _SIDE // short)

    @torch.inference_mode()
    def encode(self, windows: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return features ``(n, 512)`` of the middle 112 x 112 of windows ``(n, 30, H, W, 3)`` uint8."""
        top, left = (math.ceil((length - _SIDE) / 2) for length in windows.shape[2:4])
        middle = windows[:, :, top : top + _SIDE, left : left + _SIDE]
        values = (torch.from_numpy(middle.astype(np.float32)) / 255 - 0.45) / 0.225
        return self.network(values.permute(0, 4, 1, 2, 3).to(device())).cpu().numpy()


class SeLaViAudioEncoder:
    """SeLaVi's audio network over seconds of sound at 44.1 kHz, its sizes read from the weights.

    Args:
        path: A checkpoint of SeLaVi.

    Raises:
        InputError: If the file can't be read or holds another network.
    """

    rate = RATE

    def __init__(self, path: str):
        state = read_weights(path)
        prefix = "audio_network.base."
        self.network = ResNet9(shape_of(path, state, f"{prefix}conv1.weight")[0])
        fit_weights(path, self.network, state, prefix)
        self.network.eval().to(device())

    @torch.inference_mode()
    def encode(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return window starts ``(T,)`` in seconds and features ``(T, 512)`` of samples ``(S,)``; a rest is dropped."""
        padded = np.pad(samples, (0, max(0, RATE - len(samples))))
        seconds = padded[: len(padded) // RATE * RATE].reshape(-1, RATE)
        spectrograms = torch.from_numpy(np.stack([filter_bank(second) for second in seconds])).unsqueeze(1)
        values = torch.cat([self.network(part.to(device())).cpu() for part in spectrograms.split(32)])
        return np.arange(len(values), dtype=np.float32), values.numpy()


def filter_bank(samples: np.ndarray) -> np.ndarray:
    """Return what SeLaVi's audio network is shown of one second: ``(257, 99)`` standardised log energies.

    Samples as 16-bit numbers with a pre-emphasis of 0.97, 20 ms every 10 ms without a window, power of 1024-point
    transforms, 257 triangles from 0 to 22,050 Hz, natural logarithm; then (x - 1.93) / 17.89.

    Example:
        >>> filter_bank(np.zeros(44_100, np.float32)).shape
        (257, 99)
    """
    whole = np.round(samples.astype(np.float64) * 32768)
    emphasised = np.append(whole[:1], whole[1:] - 0.97 * whole[:-1])
    count = 1 + math.ceil((len(emphasised) - _LENGTH) / _HOP)
    padded = np.pad(emphasised, (0, (count - 1) * _HOP + _LENGTH - len(emphasised)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _LENGTH)[::_HOP]
    power = np.abs(np.fft.rfft(frames, _FFT, axis=1)) ** 2 / _FFT
    energy = np.einsum("tf,bf->bt", power, bank_weights())
    energy[energy == 0] = np.finfo(float).eps
    return ((np.log(energy) - 1.93) / 17.89).astype(np.float32)


@lru_cache(maxsize=1)
def bank_weights() -> np.ndarray:
    """Return the triangles ``(257, 513)`` between places of the transform that are even steps in mel, rounded down."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    places = np.floor((_FFT + 1) * hertz / RATE)
    weights = np.zeros((BANDS, _FFT // 2 + 1))
    for band, (low, centre, high) in enumerate(zip(places, places[1:], places[2:], strict=False)):
        for i in range(int(low), int(centre)):
            weights[band, i] = (i - low) / (centre - low)
        for i in range(int(centre), int(high)):
            weights[band, i] = (high - i) / (high - centre)
    return weights
