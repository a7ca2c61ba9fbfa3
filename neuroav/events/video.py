"""Video files to frames with times, through PyAV, in bounded memory: rotated upright, on the file's own clock.

Grey frames are the decoder's luma plane in full range: limited-range video is stretched from 16..235 to 0..255, as
``clip(floor((Y - 16) 255 / 219 + 0.5), 0, 255)``. Formats with an 8-bit plane of their own for luma are taken straight
from the decoder's memory; resized, rotated and other ones go through swscale, which rounds in the same way. Only files
are opened (no network protocol) and only real video containers (no playlists, which could refer elsewhere, and no text
shown as video).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import fail
from neuroav.kernels.luma import stretch_luma

CHUNK, MAX_CHUNK, CHUNK_PIXELS = 8, 32, 1 << 21  # frames yielded at a time: more than 8 only while they are small
# Pixel formats whose first plane is 8-bit luma, in limited range unless the frame says otherwise; then the full ones.
LIMITED = (
    *("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuva420p", "yuva422p", "yuva444p"),
    *("nv12", "nv21", "nv16", "nv24"),
)
LUMA = (*LIMITED, "yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p", "gray")
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flv,asf,gif,apng,wtv,rm,mxf,nut,dv,gxf,nsv,"
    "h264,hevc,vvc,m4v,mjpeg,ivf,av1,obu,vc1,yuv4mpegpipe,png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,webp_pipe"
)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, its first frame having been decoded.

    Attributes:
        path: The file.
        size: ``(H, W)`` of the upright frame.
        num_frames_estimate: Frames, from the container or from duration times rate; ``None`` if it doesn't say.
        duration_s: Seconds of the video track, else of the file; ``None`` if neither is said.
        has_audio: Whether there is an audio track.
    """

    path: Path
    size: tuple[int, int]
    num_frames_estimate: int | None
    duration_s: float | None
    has_audio: bool


@dataclass(frozen=True)
class Clip:
    """A whole short clip in memory.

    Attributes:
        frames: ``(F, H, W, 3)`` uint8 RGB, or ``(F, H, W)`` grey.
        t_us: ``(F,)`` int64 microseconds since the first frame.
        audio: ``(S,)`` float32 mono; sample ``s`` is heard at ``s / audio_rate`` seconds after the first frame. As long
            as the video; zeros where the file has no sound.
        audio_rate: Samples per second.
        has_audio: Whether any sound was decoded.
        notes: What was wrong with the file, in words; empty for a sound file.
    """

    frames: np.ndarray
    t_us: np.ndarray
    audio: np.ndarray
    audio_rate: int
    has_audio: bool
    notes: tuple[str, ...] = ()


class VideoReader:
    """Iterate once over the frames of a video file, in chunks.

    Times are presentation times. Files whose presentation times run backwards (AVI holds none) are read by decoding
    time, files without any time by frame number. A frame that still doesn't come after the one before it is left out,
    damaged packets are skipped; ``notes`` says how many once the iteration has ended.

    Args:
        path: A video file.
        size: Resize to ``(H, W)``, averaging over areas; ``None`` keeps the size of the first frame, which all others
            must have too.
        pixels: ``"gray8"`` or ``"rgb24"``.
        max_frames: Stop after this many frames.
        threads: Threads of the decoder; ``None`` leaves it to FFmpeg (one per core).
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int] | None = None,
        pixels: str = "gray8",
        max_frames: int | None = None,
        threads: int | None = None,
    ):
        self.path, self.size, self.pixels, self.max_frames = Path(path), size, pixels, max_frames
        self.threads = threads
        self.num_damaged = self.num_dropped = 0

    @property
    def notes(self) -> list[str]:
        """What had to be left out, in words."""
        counted = [
            (self.num_damaged, "damaged packets skipped"),
            (self.num_dropped, "frames out of time order dropped"),
        ]
        return [f"{self.path}: {count} {what}" for count, what in counted if count]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield frames ``(F, H, W)`` or ``(F, H, W, 3)`` uint8 and their times ``(F,)`` int64 us.

        ``F`` is at most 8, or up to 32 while the frames together have no more than 2^21 pixels.

        Raises:
            InputError: If no frame decodes, or frames change their size and none was asked for.
        """
        with opened(self.path) as container:
            frames = islice(self._in_order(container), self.max_frames)
            first = next(frames, None)
            if first is None:
                raise _not_a_video(self.path, "no frame that decodes")
            size = self.size or _upright((first[0].height, first[0].width), _turns(first[0]))
            shape = size if self.pixels == "gray8" else (*size, 3)
            length = min(MAX_CHUNK, max(CHUNK, CHUNK_PIXELS // (size[0] * size[1])))
            draw, times = Drawer(self.pixels), [0] * length
            remaining = chain([first], frames)
            while len(times) == length:
                images, times = np.empty((length, *shape), dtype=np.uint8), []
                for image, (frame, t_us) in zip(images, remaining, strict=False):
                    if self.size is None:
                        self._check_size(frame, t_us, size)
                    draw(frame, image)
                    times.append(t_us)
                if times:
                    yield images[: len(times)], np.array(times, dtype=np.int64)

    def _check_size(self, frame: Any, t_us: int, size: tuple[int, int]) -> None:
        actual = _upright((frame.height, frame.width), _turns(frame))
        if actual != size:
            found, wanted = (f"{height}x{width}" for height, width in (actual, size))
            remedy = "Say a size to bring them all to: --size HxW, or size=(H, W)."
            raise fail(str(self.path), f"frames of {wanted} throughout", f"{found} at {t_us / 1e6:.3f} s", remedy)

    def _in_order(self, container: Any) -> Iterator[tuple[Any, int]]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if self.threads is not None:
            stream.codec_context.thread_count = self.threads
        last_us: int | None = None
        for frame, t_us in _timed(self._decoded(container, stream), stream):
            if last_us is not None and t_us <= last_us:
                self.num_dropped += 1
                continue
            last_us = t_us
            yield frame, t_us

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        import av

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except av.error.EOFError:
                continue  # a decoder that was flushed already
            except av.error.FFmpegError:
                self.num_damaged += 1
                continue  # a broken packet is skipped; a broken container ends `packets`
            if packet is None:
                return
            yield from frames


class Drawer:
    """Draws decoded frames into arrays, grey ones without going through swscale where that isn't needed."""

    def __init__(self, pixels: str):
        from av.video.reformatter import VideoReformatter

        self._pixels, self._reformatter = pixels, VideoReformatter()

    def __call__(self, frame: Any, image: np.ndarray) -> None:
        turns = _turns(frame)
        height, width = _upright(image.shape[:2], turns)
        as_it_is = turns == 0 and (frame.height, frame.width) == (height, width)
        if as_it_is and self._pixels == "gray8" and frame.format.name in LUMA and frame.planes[0].line_size > 0:
            self._draw_luma(frame, image)
            return
        drawn = self._reformatter.reformat(frame, width, height, self._pixels, interpolation="AREA").to_ndarray()
        image[...] = np.rot90(drawn, turns)

    def _draw_luma(self, frame: Any, image: np.ndarray) -> None:
        plane = frame.planes[0]
        height, width = image.shape
        luma = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[:height, :width]
        if frame.format.name not in LIMITED or frame.color_range == FULL_RANGE:
            image[...] = luma
        else:
            stretch_luma(luma, image)


def read_video(
    path: str | Path, *, size: tuple[int, int] | None = None, max_frames: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the grey frames of a video file in chunks, holding few frames at a time.

    Args:
        path: Any video file that PyAV can decode.
        size: Resize to ``(H, W)``, averaging over areas.
        max_frames: Stop after this many frames.

    Yields:
        Frames ``(F, H, W)`` uint8, full range; and their times ``(F,)`` int64 microseconds on the file's clock,
        strictly increasing over the whole file.

    Raises:
        InputError: If the file is missing, no frame of it decodes, or frames change their size without ``size``.

    Warns:
        UserWarning: At the end, with counts, if packets were damaged or frames out of time order.
    """
    reader = VideoReader(path, size, max_frames=max_frames)
    yield from reader
    for note in reader.notes:
        warnings.warn(note, stacklevel=2)


def video_info(path: str | Path) -> VideoInfo:
    """Open a video file, decode its first frame and say what it holds.

    Raises:
        InputError: If the file is missing or no frame of it decodes.
    """
    path = Path(path)
    with opened(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # or as many frames would be decoded
        first = next(VideoReader(path)._decoded(container, stream), None)
        if first is None:
            raise _not_a_video(path, "no frame that decodes")
        duration = None if container.duration is None else container.duration / 1_000_000
        if stream.duration is not None:
            duration = float(stream.duration * stream.time_base)
        count = stream.frames or (round(duration * stream.average_rate) if duration and stream.average_rate else None)
        size = _upright((first.height, first.width), _turns(first))
        return VideoInfo(path, size, count, duration, bool(container.streams.audio))


def read_clip(path: str | Path, *, size: tuple[int, int] = (64, 64), rgb: bool = True, audio_rate: int = 16000) -> Clip:
    """Decode a whole short clip: frames, and mono sound on the same clock.

    Args:
        path: Any video file that PyAV can decode.
        size: ``(H, W)`` of the frames, averaged over areas.
        rgb: RGB frames ``(F, H, W, 3)``, or grey ``(F, H, W)``.
        audio_rate: Samples per second of the sound, in hertz.

    Returns:
        The clip. A missing audio track, or one that fails half way, gives zeros from there on and a note.

    Raises:
        InputError: If the file is missing or no frame of it decodes.
    """
    reader = VideoReader(path, size, "rgb24" if rgb else "gray8")
    frames, times = zip(*reader, strict=True)
    t_us = np.concatenate(times)
    last_gap = int(t_us[-1] - t_us[-2]) if len(t_us) > 1 else 40_000  # a single frame lasts as long as at 25 per second
    audio = np.zeros(round((int(t_us[-1] - t_us[0]) + last_gap) * audio_rate / 1_000_000), dtype=np.float32)
    has_audio, audio_notes = _read_audio(Path(path), audio, int(t_us[0]) / 1_000_000, audio_rate)
    notes = (*reader.notes, *audio_notes)
    return Clip(np.concatenate(frames), t_us - t_us[0], audio, audio_rate, has_audio, notes)


def _read_audio(path: Path, audio: np.ndarray, start_s: float, rate: int) -> tuple[bool, list[str]]:
    """Fill ``audio``, whose first sample is at ``start_s`` on the file's clock; say whether any sound was decoded."""
    import av

    stop, notes = 0, []
    with opened(path) as container:
        if not container.streams.audio:
            return False, [f"{path}: no audio track"]
        try:
            for start, samples in _mono(container, start_s, rate):
                stop = min(start + len(samples), len(audio))
                if stop > 0:  # else before the first frame
                    audio[max(start, 0) : stop] = samples[max(-start, 0) : max(stop - start, 0)]
                if stop == len(audio):
                    break
        except av.error.FFmpegError as error:
            notes.append(f"{path}: the audio track fails after {max(stop, 0) / rate:.2f} s ({error.strerror})")
    return stop > 0, notes


def _mono(container: Any, start_s: float, rate: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield pieces of the first audio track as mono float32 at ``rate``, and the place of each after ``start_s``."""
    import av

    resampler = av.AudioResampler("flt", "mono", rate)
    place: int | None = None
    for frame in container.decode(container.streams.audio[0]):
        if place is None:
            place = round(((frame.time or 0.0) - start_s) * rate)
        for piece in resampler.resample(frame):
            yield place, piece.to_ndarray()[0]
            place += piece.samples
    for piece in resampler.resample(None) if place is not None else []:
        yield place or 0, piece.to_ndarray()[0]


def _turns(frame: Any) -> int:
    """Return by how many quarter turns, counter-clockwise, a frame becomes upright."""
    return round(frame.rotation / 90) % 4


def _upright(size: tuple[int, int], turns: int) -> tuple[int, int]:
    return (size[1], size[0]) if turns % 2 else size


def _timed(frames: Iterator[Any], stream: Any) -> Iterator[tuple[Any, int]]:
    """Yield each frame with its time in microseconds, by the clock that works over the first frames."""
    first = list(islice(frames, CHUNK))
    clocks = ["pts", "dts"]
    if _increasing([frame.dts for frame in first]) and not _increasing([frame.pts for frame in first]):
        clocks.reverse()
    gap = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    for index, frame in enumerate(chain(first, frames)):
        ticks = next((t for t in (getattr(frame, clock) for clock in clocks) if t is not None), None)
        seconds = index * gap if ticks is None else ticks * (frame.time_base or stream.time_base)
        yield frame, round(seconds * 1_000_000)


def _increasing(ticks: list[int | None]) -> bool:
    known = [t for t in ticks if t is not None]
    return len(known) > len(ticks) // 2 and all(a < b for a, b in pairwise(known))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a video file with PyAV; what is none, or refers elsewhere, is refused in one line."""
    import av

    av.logging.set_level(None)  # libav's own lines on stderr; what matters is counted and said once
    if not path.exists():
        raise _not_a_video(path, "no such file")
    if not path.is_file():
        raise _not_a_video(path, "a folder" if path.is_dir() else "something that is not a file")
    if path.stat().st_size == 0:
        raise _not_a_video(path, "an empty file")
    try:
        container = av.open(str(path), options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _not_a_video(path, f"something else or a truncated file ({reason})") from error
    with container:
        if not container.streams.video:
            raise _not_a_video(path, "a file without a video track")
        yield container


def _not_a_video(path: Path, actual: str) -> Exception:
    return fail(str(path), "a video file that PyAV can decode", actual)
