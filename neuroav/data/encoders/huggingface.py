"""Any video, image, audio or text encoder of Hugging Face's transformers, from a folder on this machine.

X-CLIP, VideoMAE and their like see the frames of one second, as many as they were trained on; CLIP, DINO and other
encoders of images the frame in the middle of it; CLAP, AST and other encoders of sound hear that second. A model with a
space shared by modalities gives its projection into it; another its class token, or the mean of its tokens if it has
none. Nothing is looked up outside the folder, and no code that lies in it is run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.data.encoders.weights import device

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_SHORT_SIDE = 256
_BATCH = 32


class HuggingFaceVideoEncoder:
    """An encoder of video or images over windows of one second.

    Args:
        folder: What ``save_pretrained`` writes for a model and its image processor.

    Raises:
        InputError: If transformers is not installed, the folder can't be read, its weights are not whole, or its model
            takes no images.
    """

    keep_rest = False

    def __init__(self, folder: str):
        self.network, self.config = _load_model(folder)
        self.processor = _load(folder, "AutoImageProcessor")
        frames = getattr(getattr(self.config, "vision_config", self.config), "num_frames", None)
        self.takes_video = frames is not None
        if not self.takes_video and not hasattr(self.network, "get_image_features"):
            _check_takes(folder, self.network, "pixel_values", "images")
        self.frames = int(frames or 1)
        self.fps = float(self.frames)

    def decode_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return a size whose short side is at most 256; the model's own processor does the rest."""
        scale = min(1.0, _SHORT_SIDE / min(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    @torch.inference_mode()
    def encode(self, windows: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return features ``(n, D)`` of windows ``(n, F, H, W, 3)`` uint8."""
        images = [image for window in windows for image in window]
        pixels = torch.as_tensor(self.processor(images, return_tensors="pt")["pixel_values"])
        pixels = pixels.reshape(-1, *pixels.shape[-3:]).to(device())
        if self.takes_video:
            pixels = pixels.reshape(len(windows), self.frames, *pixels.shape[1:])
        name = "get_video_features" if hasattr(self.network, "get_video_features") else "get_image_features"
        return _features(self.network, name, {"pixel_values": pixels}).cpu().numpy()


class HuggingFaceAudioEncoder:
    """An encoder of sound over windows of one second; a rest shorter than half of one is dropped.

    Args:
        folder: What ``save_pretrained`` writes for a model and its feature extractor.

    Raises:
        InputError: If transformers is not installed, the folder can't be read, its weights are not whole, or its model
            takes no sound.
    """

    def __init__(self, folder: str):
        self.network, self.config = _load_model(folder)
        self.extractor = _load(folder, "AutoFeatureExtractor")
        if not hasattr(self.extractor, "sampling_rate"):
            raise fail(folder, "an encoder of sound", type(self.extractor).__name__)
        self.rate = int(self.extractor.sampling_rate)

    @torch.inference_mode()
    def encode(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return window starts ``(T,)`` in seconds and features ``(T, D)`` of samples ``(S,)``."""
        count = max(1, int(len(samples) / self.rate + 0.5))
        padded = np.pad(samples[: count * self.rate], (0, max(0, count * self.rate - len(samples))))
        parts = []
        for window in padded.reshape(count, self.rate):
            inputs = self.extractor(window, sampling_rate=self.rate, return_tensors="pt")
            inputs = {name: torch.as_tensor(value).to(device()) for name, value in inputs.items()}
            parts.append(_features(self.network, "get_audio_features", inputs).cpu())
        return np.arange(count, dtype=np.float32), torch.cat(parts).numpy()


def text_vectors(folder: str, phrases: Sequence[str]) -> np.ndarray:
    """Return the vectors ``(n, D)`` that the text encoder in ``folder`` gives to phrases, each as it is written.

    Raises:
        InputError: If transformers is not installed, or the folder can't be read or holds no text encoder.
    """
    network, _ = _load_model(folder)
    tokenizer = _load(folder, "AutoTokenizer")
    if not hasattr(network, "get_text_features"):
        _check_takes(folder, network, "input_ids", "text")
    parts = []
    with torch.inference_mode():
        for phrase in phrases:
            inputs = tokenizer(phrase, return_tensors="pt", truncation=True)
            inputs = {name: inputs[name].to(device()) for name in ("input_ids", "attention_mask")}
            parts.append(_features(network, "get_text_features", inputs).cpu())
    return torch.cat(parts).numpy()


def weight_files(folder: str) -> list[Path]:
    """Return the files that decide what an encoder gives, in the order of their names."""
    kinds = {".safetensors", ".bin", ".json", ".txt", ".model"}
    return sorted(path for path in Path(folder).iterdir() if path.suffix in kinds)


def _features(network: Any, projection: str, inputs: dict[str, Tensor]) -> Tensor:
    """Return the projection into a shared space, else the class token or the mean of all tokens, ``(n, D)``."""
    if hasattr(network, projection):
        output = getattr(network, projection)(**inputs)
        return output if isinstance(output, Tensor) else output.pooler_output
    hidden = network(**inputs).last_hidden_state
    if hidden.ndim == 4:  # (n, D, h, w) of a convolutional network
        return hidden.mean((2, 3))
    has_class_token = any(name.endswith("cls_token") for name, _ in network.named_parameters())
    return hidden[:, 0] if has_class_token else hidden.mean(1)


def _check_takes(folder: str, network: Any, name: str, what: str) -> None:
    if network.main_input_name != name:
        found = f"{type(network).__name__}, which takes {network.main_input_name}"
        raise fail(folder, f"an encoder of {what}", found)


def _load_model(folder: str) -> tuple[Any, Any]:
    """Load the model of a folder for inference and its configuration; weights must be whole."""
    config = _load(folder, "AutoConfig")
    network, report = _load(folder, "AutoModel", output_loading_info=True)
    absent = [name for name in report["missing_keys"] if "pooler." not in name]  # a pooler is never used
    wrong = [str(item) for item in report["mismatched_keys"]]
    if absent or wrong:
        found = f"no {absent[0]}" if absent else f"another shape of {wrong[0]}"
        others = len(absent) + len(wrong) - 1
        raise fail(
            folder, f"the weights of {type(network).__name__}", found + (f" and {others} others" if others else "")
        )
    return network.eval().to(device()), config


def _load(folder: str, kind: str, **options: Any) -> Any:
    if not Path(folder, "config.json").is_file():
        raise fail(folder, "the folder of a Hugging Face model", "no config.json in it", "Give a local folder.")
    transformers = _transformers(folder)
    factory: Callable[..., Any] = getattr(transformers, kind).from_pretrained
    try:
        with warnings.catch_warnings():  # remarks on how its files could be written differently
            warnings.simplefilter("ignore")
            return factory(folder, **_LOCAL, **options)
    except Exception as error:  # a damaged file may raise nearly anything, one with code in it another
        text = " ".join(str(error).split())[:160]
        raise fail(folder, f"what {kind} can read", text) from error


def _transformers(folder: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        remedy = 'Install it: pip install "neuroav[encoders]".'
        raise fail(folder, "the package transformers to read it", "none", remedy) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
