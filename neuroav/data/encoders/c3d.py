"""C3D: eight 3-D convolutions over 16 frames, and the features of its second fully connected layer [tran2015c3d].

The published UCF, ActivityNet and VGGSound "cls" video features come from it: frames at 25 per second brought to
128 x 171, the middle 112 x 112, one feature per 16 frames (0.64 s), the last window filled up with zeros [avca]. Frames
are resized by averaging over areas, where the released extraction interpolates linearly.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.data.encoders.weights import device, fit_weights, read_weights, shape_of

MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_SIDE, _RESIZED = 112, (128, 171)


class C3D(nn.Module):
    """The network of [tran2015c3d] up to its layer fc7, with the published names of weights.

    Args:
        width: Channels of the first convolution; the others have 2, 4 and 8 times as many.
        hidden: Features of the fully connected layers.

    Example:
        >>> C3D(width=2, hidden=8)(torch.zeros(1, 3, 16, 112, 112)).shape
        torch.Size([1, 8])
    """

    def __init__(self, width: int = 64, hidden: int = 4096):
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, 3, padding=1)
        self.conv2 = nn.Conv3d(width, 2 * width, 3, padding=1)
        self.conv3a = nn.Conv3d(2 * width, 4 * width, 3, padding=1)
        self.conv3b = nn.Conv3d(4 * width, 4 * width, 3, padding=1)
        self.conv4a = nn.Conv3d(4 * width, 8 * width, 3, padding=1)
        self.conv4b = nn.Conv3d(8 * width, 8 * width, 3, padding=1)
        self.conv5a = nn.Conv3d(8 * width, 8 * width, 3, padding=1)
        self.conv5b = nn.Conv3d(8 * width, 8 * width, 3, padding=1)
        self.fc6 = nn.Linear(8 * width * 16, hidden)  # 1 x 4 x 4 places are left
        self.fc7 = nn.Linear(hidden, hidden)

    def forward(self, clips: Tensor) -> Tensor:
        """Return features ``(B, hidden)``, at least 0, of ``clips (B, 3, 16, 112, 112)``."""
        pool = nn.functional.max_pool3d
        x = pool(self.conv1(clips).relu(), (1, 2, 2))
        x = pool(self.conv2(x).relu(), 2)
        x = pool(self.conv3b(self.conv3a(x).relu()).relu(), 2)
        x = pool(self.conv4b(self.conv4a(x).relu()).relu(), 2)
        x = pool(self.conv5b(self.conv5a(x).relu()).relu(), 2, padding=(0, 1, 1))
        return self.fc7(self.fc6(x.flatten(1)).relu()).relu()


class C3DEncoder:
    """C3D over windows of 16 frames at 25 per second, its sizes read from the weights.

    Args:
        path: The weights, see :func:`neuroav.data.encoders.weights.read_weights`.

    Raises:
        InputError: If the file can't be read or holds another network.
    """

    fps, frames, keep_rest = 25.0, 16, True

    def __init__(self, path: str):
        state = read_weights(path)
        width, hidden = shape_of(path, state, "conv1.weight")[0], shape_of(path, state, "fc6.weight")[0]
        self.network = C3D(width, hidden)
        fit_weights(path, self.network, state)
        self.network.eval().to(device())

    def decode_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return 128 x 171 whatever the shape of the video, as published."""
        return _RESIZED

    def pixels(self, windows: np.ndarray) -> np.ndarray:
        """Return the pixel values that the network is shown."""
        return windows

    @torch.inference_mode()
    def encode(self, windows: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return features ``(n, 4096)`` of windows ``(n, 16, 128, 171, 3)`` uint8; frames that aren't real are zeros.

        Example:
            >>> C3DEncoder.frames / C3DEncoder.fps
            0.64
        """
        top, left = round((_RESIZED[0] - _SIDE) / 2), round((_RESIZED[1] - _SIDE) / 2)
        middle = self.pixels(windows)[:, :, top : top + _SIDE, left : left + _SIDE]
        values = (torch.from_numpy(middle.astype(np.float32)) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        values[torch.arange(values.shape[1]) >= torch.from_numpy(real)[:, None]] = 0
        return self.network(values.permute(0, 4, 1, 2, 3).to(device())).cpu().numpy()


class ReleasedC3DEncoder(C3DEncoder):
    """C3D on the pixels that the released extraction really showed it, to compare with the published features.

    Its frames are blue-green-red, and on their way through bytes they are multiplied by 255 and cut to 8 bits: a value
    v arrives as (256 - v) modulo 256, nearly a negative.
    """

    def pixels(self, windows: np.ndarray) -> np.ndarray:
        """Return the frames in blue-green-red and negative.

        Example:
            >>> ReleasedC3DEncoder.pixels(None, np.array([[0, 1, 255]], np.uint8)).tolist()
            [[1, 255, 0]]
        """
        return np.negative(windows[..., ::-1])
