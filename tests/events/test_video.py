"""Reading video files: exact frames and times, and what happens to files that are broken or something else."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import h5py
import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.events.video import VideoReader, _timed, read_clip, read_video, video_info

MEDIA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "media"


def _read(path, **options):
    frames, times = zip(*read_video(path, **options), strict=True)
    return np.concatenate(frames), np.concatenate(times)


def test_lossless_frames_and_times_come_back_exactly(video, slide):
    frames, t_us = _read(video)
    assert np.array_equal(frames, slide())
    assert t_us.tolist() == [40_000 * k for k in range(20)]
    assert (frames.dtype, t_us.dtype) == (np.uint8, np.int64)


def test_chunks_are_small(make_video, slide):
    large = make_video("large.mkv", slide(20, 800, 1000))
    assert [len(frames) for frames, _ in read_video(large)] == [8, 8, 4]
    small = make_video("small.mkv", slide(75))
    assert [len(frames) for frames, _ in read_video(small)] == [32, 32, 11]


def test_variable_frame_rate_is_kept(make_video, slide):
    t_ms = [0, 7, 90, 91, 400, 1000]
    path = make_video("variable.mkv", slide(6), t_ms)
    assert _read(path)[1].tolist() == [1000 * t for t in t_ms]


def test_size_and_max_frames(video):
    frames, t_us = _read(video, size=(12, 10), max_frames=3)
    assert frames.shape == (3, 12, 10)
    assert len(t_us) == 3


def test_limited_range_luma_is_stretched(make_video):
    grey = np.stack([np.full((16, 16), v, np.uint8) for v in (0, 128, 255)])
    path = make_video("limited.mkv", grey, pixels="yuv420p")
    with av.open(str(path)) as container:
        stored = [int(np.frombuffer(f.planes[0], np.uint8)[0]) for f in container.decode(video=0)]
    assert stored == [16, 126, 235]
    assert _read(path)[0][:, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "nv12", "gray"])
def test_luma_straight_from_the_decoder_is_what_swscale_gives(make_video, pixels):
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32).repeat(4, axis=0)[None]  # 32 wide: its rows are padded
    codec = {"nv12": "rawvideo", "gray": "ffv1", "yuvj420p": "mjpeg"}.get(pixels, "ffv1")
    path = make_video("levels.mkv" if codec != "rawvideo" else "levels.nut", grey, codec=codec, pixels=pixels)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        expected = frame.reformat(format="gray8", interpolation="AREA").to_ndarray()
    assert len(np.unique(expected)) > 200
    assert np.array_equal(_read(path)[0][0], expected)


def test_avi_with_reordered_frames_keeps_every_frame(make_video, slide):
    path = make_video("b_frames.avi", slide(30, 32, 32), codec="mpeg4", pixels="yuv420p", options={"bf": "2"})
    reader = VideoReader(path)
    t_us = np.concatenate([times for _, times in reader])
    assert len(t_us) == 30
    assert set(np.diff(t_us).tolist()) == {40_000}
    assert reader.notes == []


def test_clock_is_the_one_that_runs_forwards():
    def times(pts, dts):
        pairs = zip(pts, dts, strict=True)
        frames = [SimpleNamespace(pts=p, dts=d, time_base=Fraction(1, 1000)) for p, d in pairs]
        stream = SimpleNamespace(average_rate=Fraction(50), guessed_rate=None, time_base=None)
        return [t_us // 1000 for _, t_us in _timed(iter(frames), stream)]

    assert times([5, 7, 9], [1, 2, 3]) == [5, 7, 9]
    assert times([1, 3, 2, 4], [1, 2, 3, None]) == [1, 2, 3, 4]
    assert times([1, 3, 2], [9, 8, 7]) == [1, 3, 2]  # no clock is right, the reader drops the last
    assert times([None] * 3, [None] * 3) == [0, 20, 40]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright(make_video, degrees):
    image = np.zeros((32, 64), dtype=np.uint8)
    image[:16, :16] = 255  # bright in the stored frame's top left corner
    path = make_video("turned.mp4", image[None].repeat(3, 0), codec="mpeg4", pixels="yuv420p")
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[degrees // 90]
    matrix = [cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 14]
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the track header's display matrix, 16.16 numbers
    content[at : at + 36] = b"".join((value << 16).to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(content)
    frame = _read(path)[0][0]
    turned = np.rot90(image, -degrees // 90)  # clockwise
    assert frame.shape == turned.shape
    assert np.corrcoef(frame.ravel(), turned.ravel())[0, 1] > 0.98
    assert _read(path, size=(20, 10))[0].shape[1:] == (20, 10)


def test_info(video, make_video, slide):
    info = video_info(video)
    assert (info.size, info.has_audio) == ((24, 30), False)
    assert info.num_frames_estimate == 20
    assert info.duration_s == pytest.approx(0.8)
    assert video_info(make_video("sound.mkv", slide(), sound=np.zeros(16000))).has_audio


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("empty.mp4", b"", "got an empty file"),
        ("text.txt", b"no video here\n" * 99, "something else or a truncated file"),
        ("text.mp4", b"no video here\n" * 99, "something else or a truncated file"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n", "something else"),
        ("zeros.avi", bytes(5000), "something else or a truncated file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (video_info, read_clip, _read):
        with pytest.raises(InputError, match=match) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: expected a video file that PyAV can decode")
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="got no such file"):
        video_info(tmp_path / "missing.mp4")
    with pytest.raises(InputError, match="got a folder"):
        video_info(tmp_path)


def test_sound_without_picture_is_refused(tmp_path):
    path = tmp_path / "sound.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = path.rename(tmp_path / "sound.mp4")
    with pytest.raises(InputError, match="expected a video file"):
        video_info(path)


def test_a_damaged_middle_is_skipped_and_counted(make_video, slide):
    path = make_video("damaged.mov", slide(40, 48, 64), codec="png")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged packets skipped"):
        frames, t_us = _read(path)
    assert 10 < len(frames) < 40
    assert (np.diff(t_us) > 0).all()


def test_a_file_cut_short_gives_the_frames_it_has(make_video, slide):
    path = make_video("cut.mkv", slide(40))
    path.write_bytes(path.read_bytes()[:15_000])
    frames, _ = _read(path)
    assert 1 <= len(frames) < 40
    assert np.array_equal(frames, slide(40)[: len(frames)])


def test_clip_sound_starts_with_the_first_frame(make_video, slide):
    sound = np.zeros(16000, dtype=np.float32)
    sound[8000:] = 0.5  # from 0.5 s on the file's clock
    clip = read_clip(make_video("late.mkv", slide(10), t_ms=np.arange(10) * 40 + 300, sound=sound), size=(8, 10))
    assert clip.frames.shape == (10, 8, 10, 3)
    assert clip.t_us.tolist() == [40_000 * k for k in range(10)]
    assert clip.audio.shape == (round(0.4 * 16000),)
    assert clip.has_audio
    assert clip.notes == ()
    loud = np.flatnonzero(clip.audio > 0.25)
    assert abs(int(loud[0]) - round(0.2 * 16000)) <= 1
    assert loud[-1] == len(clip.audio) - 1


def test_sound_that_starts_late_is_preceded_by_silence(make_video, slide):
    sound = np.full(32000, 0.5, dtype=np.float32)
    clip = read_clip(make_video("early.mkv", slide(10), t_ms=np.arange(10) * 400, sound=sound))
    assert len(clip.audio) == 64000
    assert clip.audio[:31_000].min() > 0.4
    assert abs(clip.audio[33_000:]).max() == 0


@pytest.mark.parametrize(("first_frame_s", "sound_s"), [(5, 0), (0, 5)])
def test_sound_outside_the_picture_is_left_out(make_video, slide, first_frame_s, sound_s):
    t_ms = 1000 * first_frame_s + np.arange(10) * 40
    clip = read_clip(make_video("apart.mkv", slide(10), t_ms, sound=np.full(16000, 0.5), sound_s=sound_s))
    assert clip.audio.shape == (6400,)
    assert not clip.audio.any()


def test_clip_without_sound_is_silent_and_says_so(video):
    clip = read_clip(video, rgb=False)
    assert clip.frames.shape == (20, 64, 64)
    assert clip.audio.shape == (12_800,)
    assert not clip.has_audio
    assert not clip.audio.any()
    assert "no audio track" in clip.notes[0]


def test_real_edge_cases():
    if not MEDIA.exists():
        pytest.skip("the sample media are not beside the repository")
    assert video_info(MEDIA / "video_90.mov").size == (568, 320)  # stored 320x568, shown upright
    ucf, t_us = _read(MEDIA / "v_ApplyEyeMakeup_g01_c01.avi")
    assert len(ucf) == 164  # AVI keeps no presentation times; none of its frames is lost
    assert set(np.diff(t_us).tolist()) == {40_000}
    with pytest.warns(UserWarning, match="1 damaged packets skipped"):
        assert len(_read(MEDIA / "corrupted.mp4")[0]) == 49


def test_memory_does_not_grow_with_the_length(make_video, slide, tmp_path):
    code = "import sys; from neuroav.cli import main; from neuroav.bench.machine import resident_bytes"
    code += "; main(sys.argv[1:]); print(resident_bytes())"
    peaks, events = [], []
    for repeats in (8, 32):  # the shorter one fills most buffers too; how many depends on which thread is ahead
        path = make_video(
            f"{repeats}.mp4", np.tile(slide(25, 120, 160), (repeats, 1, 1)), codec="mpeg4", pixels="yuv420p"
        )
        command = [sys.executable, "-c", code, "events", str(path), "-o", str(tmp_path / "out.h5")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(printed.split()[-1]))
        with h5py.File(tmp_path / "out.h5") as file:
            events.append(len(file["events/t"]))
    kept = 13 * (events[1] - events[0])  # bytes, if lists were kept
    assert peaks[1] - peaks[0] < 0.25 * kept


def test_a_change_of_size_is_refused_unless_a_size_is_given(tmp_path, slide, make_video):
    parts = []
    for height in (48, 32):
        part = make_video(f"{height}.mjpeg", slide(5, height, 64), codec="mjpeg", pixels="yuvj420p")
        parts.append(part.read_bytes())
    path = tmp_path / "joined.mjpeg"
    path.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match=r"frames of 48x64 throughout, got 32x64 at .* s. Say a size"):
        _read(path)
    frames, _ = _read(path, size=(16, 16))
    assert len(frames) > 6
