"""Videos made on the spot: lossless grey frames at chosen times, with or without sound."""

from fractions import Fraction

import av
import numpy as np
import pytest


def write_video(path, frames, t_ms=None, codec="ffv1", sound=None, sound_s=0, options=None, pixels="gray"):
    """Encode grey ``frames`` ``(F, H, W)`` shown at ``t_ms``; ``sound`` is mono at 16 kHz from ``sound_s`` on."""
    t_ms = np.arange(len(frames)) * 40 if t_ms is None else t_ms
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.height, video.width, video.pix_fmt = *frames.shape[1:], pixels
        if codec != "mpeg4":  # which allows no clock this fine
            video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("flac", rate=16000, layout="mono") if sound is not None else None
        for image, t in zip(frames, t_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="gray8").reformat(format=pixels)
            frame.pts, frame.time_base = int(t), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 16000 * sound_s, Fraction(1, 16000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def moving_frames(count=20, height=24, width=30, seed=0):
    """A textured pattern that slides one column per frame, so neighbours differ and events happen."""
    texture = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return np.stack([np.roll(texture, shift, axis=1) for shift in range(count)])


@pytest.fixture
def video(tmp_path):
    """A 20-frame lossless clip without sound: its path."""
    return write_video(tmp_path / "slide.mkv", moving_frames())


@pytest.fixture
def make_video(tmp_path):
    """``make_video(name, frames, ...)`` writes into the test's folder."""
    return lambda name, *args, **kwargs: write_video(tmp_path / name, *args, **kwargs)


@pytest.fixture
def slide():
    """The function that draws the sliding pattern."""
    return moving_frames
