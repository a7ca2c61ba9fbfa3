"""This package's event file: what is in it, that readers of DSEC understand it, that reading by time reads little."""

import json
import math
import os
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.camera import EventCamera
from neuroav.events.formats import hdf5
from neuroav.events.formats.deflate import Packer
from neuroav.events.io import describe_events, read_events, read_frame_times, remove_leftovers, write_events
from neuroav.events.types import Events


def make(t, sensor_size=(20, 30), seed=0):
    """Events at times ``t`` at random pixels."""
    rng = np.random.default_rng(seed)
    t = torch.as_tensor(np.asarray(t, dtype=np.int64))
    columns = (rng.integers(0, high, len(t)) for high in (sensor_size[1], sensor_size[0], 2))
    x, y, p = (torch.as_tensor(column) for column in columns)
    return Events(t, x.short(), y.short(), p.byte(), sensor_size)


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("t_us", "x", "y", "p"))


class Slicer:
    """Reads a window of a DSEC file as its description says: a coarse step by ``ms_to_idx``, then a fine one."""

    def __init__(self, path):
        self.file = h5py.File(path, "r")
        self.ms_to_idx = np.asarray(self.file["ms_to_idx"], dtype="int64")
        self.t_offset = int(self.file["t_offset"][()])

    def window(self, start_us, stop_us):
        """Events with ``start <= t < stop`` as DSEC cuts them."""
        start, stop = start_us - self.t_offset, stop_us - self.t_offset
        first, last = (
            self.ms_to_idx[start // 1000],
            self.ms_to_idx[min(math.ceil(stop / 1000), len(self.ms_to_idx) - 1)],
        )
        t = np.asarray(self.file["events/t"][first:last], dtype=np.int64)
        inside = (t >= start) & (t < stop)
        columns = [self.file[f"events/{name}"][first:last][inside].tolist() for name in "xyp"]
        return list(zip((t[inside] + self.t_offset).tolist(), *columns, strict=True))


def test_a_reader_of_dsec_finds_every_event(tmp_path):
    t = np.sort(np.random.default_rng(1).integers(5_000_123, 5_900_000, 200_000))
    t[-1] = 5_900_000
    events, path = make(t), tmp_path / "out.h5"
    write_events(path, events)
    slicer = Slicer(path)
    columns = (events.t_us.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist())
    rows = list(zip(*columns, strict=True))
    relative = events.t_us.numpy() - slicer.t_offset
    for ms, index in enumerate(slicer.ms_to_idx):  # the two inequalities of the description
        assert index == len(t) or relative[index] >= 1000 * ms
        assert index == 0 or relative[index - 1] < 1000 * ms
    for start, stop in [(5_100_000, 5_200_000), (5_100_000, 5_100_001), (5_333_333, 5_777_777)]:
        assert slicer.window(start, stop) == [row for row in rows if start <= row[0] < stop]
    dtypes = {name: str(slicer.file[f"events/{name}"].dtype) for name in "txyp"}
    assert dtypes == {"t": "uint32", "x": "uint16", "y": "uint16", "p": "uint8"}


def test_layout_is_as_documented(tmp_path):
    events, path = make([10, 20, 30]), tmp_path / "out.h5"
    camera = EventCamera(contrast_on=0.3, seed=7)
    write_events(path, events, camera=camera.to_dict(), source="slide.mkv")
    with h5py.File(path) as file:
        assert (file.attrs["format"], file.attrs["format_version"]) == (b"neuroav-events", 2)
        assert set(file) == {"events", "t_offset", "ms_to_idx"}
        assert file.attrs["sensor_size"].tolist() == [20, 30]
        assert EventCamera.from_dict(json.loads(file.attrs["camera"])) == camera
        assert (file.attrs["seed"], file.attrs["source"]) == (7, b"slide.mkv")
        assert (int(file["t_offset"][()]), file["events/t"][:].tolist()) == (10, [0, 10, 20])
        for name in "txyp":  # filters that every HDF5 library has
            dataset = file[f"events/{name}"]
            assert dataset.compression == "gzip"
            assert dataset.chunks == (65536,)
    assert describe_events(path)[0]["camera"]["contrast_on"] == 0.3


def test_chunks_are_what_the_filters_of_hdf5_make_of_them():
    rng = np.random.default_rng(0)
    packer = Packer()
    for round_ in range(40):  # long enough for stored planes to be tried again
        chunk = (rng.integers(0, 400, 3000) if round_ % 7 else np.zeros(3000)).astype("<u2")
        planes = bytes(chunk.astype("<u2").view(np.uint8).reshape(-1, 2).T.tobytes())
        packed = packer.pack(chunk)
        assert zlib.decompress(packed) == planes
    assert len(packed) < 0.8 * len(planes)
    large = rng.integers(0, 1 << 32, 70_000).astype("<u4")  # planes longer than a stored block
    assert zlib.decompress(Packer().pack(large)) == large.view(np.uint8).reshape(-1, 4).T.tobytes()


@pytest.mark.parametrize("pieces", [1, 7, 300])
def test_however_a_clip_is_cut_the_file_is_the_same(tmp_path, pieces):
    t = np.sort(np.random.default_rng(3).integers(1, 3_000_000, 150_000))
    events, frame_t_us = make(t), np.arange(301) * 10_000
    with hdf5.create(tmp_path / "cut.h5") as (file, _):
        clip = hdf5.ClipWriter(file, (20, 30))
        clip.append(events.between(-1, 0), frame_t_us[:1])
        for part in np.array_split(frame_t_us[1:], pieces):
            clip.append(events.between(part[0] - 10_000, part[-1]), part)
        clip.finish()
    assert same(read_events(tmp_path / "cut.h5"), events)
    times, index = read_frame_times(tmp_path / "cut.h5")
    assert times.tolist() == frame_t_us.tolist()
    assert index.tolist() == [0, *np.searchsorted(t, frame_t_us, side="right").tolist()]
    with h5py.File(tmp_path / "cut.h5") as file:
        expected = np.searchsorted(t, np.arange(3001) * 1000, side="left")
        assert file["ms_to_idx"][:].tolist() == expected.tolist()


def test_reading_by_time_gives_the_same_events_and_touches_few_chunks(tmp_path, monkeypatch):
    t = np.sort(np.random.default_rng(3).integers(1_000_000, 61_000_000, 1_000_000))
    events, path = make(t), tmp_path / "long.h5"
    write_events(path, events)
    first, last = int(t[0]), int(t[-1])
    windows = [(30_000_000, 30_100_000), (first - 1, first), (first, first), (last, None), (None, first), (0, 1 << 40)]
    windows += [(last - 1, last), (None, -5), (2_000_000, 2_000_000), (5_500_999, 5_501_000), (-(1 << 40), None)]
    for start, stop in windows:
        chosen = (t > (-math.inf if start is None else start)) & (t <= (math.inf if stop is None else stop))
        part = read_events(path, start_us=start, stop_us=stop)
        assert part.t_us.tolist() == t[chosen].tolist()
        assert part.x.tolist() == events.x.numpy()[chosen].tolist()
    read = []
    getitem = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda self, key: (value := getitem(self, key), read.append(value.nbytes))[0]
    )
    read_events(path, start_us=30_000_000, stop_us=30_100_000)
    assert sum(read) < 0.01 * 9 * len(t)
    with pytest.raises(InputError, match="start_us at or before stop_us, got 5 and 4"):
        read_events(path, start_us=5, stop_us=4)


def test_a_file_without_an_index_is_read_by_time_too(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, values in {"t": [1, 5, 9], "x": [1, 2, 3], "y": [0, 0, 1], "p": [0, 1, 1]}.items():
            file[f"events/{name}"] = np.array(values, dtype=np.uint32)
    assert read_events(tmp_path / "plain.h5", start_us=1, stop_us=5).t_us.tolist() == [5]
    assert read_events(tmp_path / "plain.h5").sensor_size == (2, 4)
    assert read_events(tmp_path / "plain.h5", sensor_size=(480, 640)).sensor_size == (480, 640)
    assert describe_events(tmp_path / "plain.h5")[0]["format"] == "dsec"


def test_times_beyond_71_minutes_get_a_wider_type(tmp_path):
    t = np.concatenate([np.arange(70_000) * 3, [2**32 - 1, 2**32, 2**32 + 7]])
    path = tmp_path / "long.h5"
    with hdf5.create(path) as (file, _):
        clip = hdf5.ClipWriter(file, (20, 30), has_frames=False)
        for part in np.array_split(t, 9):
            clip.append(make(part))
        clip.finish()
        assert set(file["events"]) == {"t", "x", "y", "p"}
    with h5py.File(path) as file:
        assert file["events/t"].dtype == np.int64
    assert read_events(path).t_us.tolist() == t.tolist()
    assert read_events(path, start_us=2**32 - 1).t_us.tolist() == [2**32, 2**32 + 7]


def test_several_clips_are_told_apart(tmp_path):
    path = tmp_path / "two.h5"
    with hdf5.create(path) as (file, _):
        for name, count in [("a", 3), ("b", 5)]:
            clip = hdf5.ClipWriter(file.create_group(name), (20, 30), has_frames=False)
            clip.append(make(range(count)))
            clip.finish()
    assert [len(read_events(path, name)) for name in "ab"] == [3, 5]
    assert [(row["clip"], row["events"]) for row in describe_events(path)] == [("a", 3), ("b", 5)]
    with pytest.raises(
        InputError,
        match=r"a clip's name, as the file holds several, got None\. Say --clip NAME, or clip=NAME\. Known: a, b",
    ):
        read_events(path)
    with pytest.raises(InputError, match=r"clip to be one of a, b, got 'bb'. Did you mean 'b'"):
        read_events(path, "bb")
    write_events(tmp_path / "one.raw", make([1]))
    with pytest.raises(InputError, match="no clip, as a file of this format holds one, got 'a'"):
        read_events(tmp_path / "one.raw", "a")
    with pytest.raises(InputError, match="a clip converted from frames, got one without frame times"):
        read_frame_times(path, "a")


def test_other_files_are_not_event_files(tmp_path):
    with pytest.raises(InputError, match="got no such file"):
        read_events(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="expected a sound HDF5 file of events"):
        read_events(tmp_path / "text.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(InputError, match="groups events or CLIP/events, got an empty file"):
        read_events(tmp_path / "other.h5")
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs.update({"format": "neuroav-events", "format_version": 1})
    with pytest.raises(InputError, match=r"neuroav-events of version 2, got version 1. Convert the video again"):
        read_events(tmp_path / "old.h5")
    with h5py.File(tmp_path / "maker.h5", "w") as file:
        file["CD/events"] = [1]
    with pytest.raises(InputError, match="must be converted to RAW"):
        read_events(tmp_path / "maker.h5")


def test_claims_beyond_what_is_stored_are_refused_before_memory_is_set_aside(tmp_path):
    with h5py.File(tmp_path / "vast.h5", "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (1 << 45,), "u1", chunks=(1 << 16,), compression="gzip")
    with pytest.raises(InputError, match=r"/events/t of at most 0 bytes, as stored, got 35184372088832"):
        read_events(tmp_path / "vast.h5")


def test_a_filter_that_is_not_there_is_named_with_the_remedy(tmp_path):
    dataset = {"shape": (4,), "dtype": "u4", "chunks": (4,)}
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32_900, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "blosc.h5", "w") as file:
        group = file.create_group("events")
        for name in "xyp":
            group.create_dataset(name, **dataset)
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(group.id, b"t", h5py.h5t.NATIVE_UINT32, space, plist)
    with pytest.raises(InputError, match=r"HDF5 filter 32900 to decompress /events/t, got no plug-in.*hdf5plugin"):
        read_events(tmp_path / "blosc.h5")


def test_an_error_half_way_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "out.h5"
    path.write_text("an older file")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(hdf5.ClipWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        write_events(path, make([1, 2]))
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("out.h5", "an older file")]


def test_description_counts_what_is_there(tmp_path):
    path = tmp_path / "some.raw"
    t = [1_000_000, 1_500_000, 3_000_000, 3_000_000]
    one = torch.ones(4).short()
    write_events(path, Events(torch.tensor(t), one, one, torch.tensor([1, 1, 1, 0]).byte(), (4, 6)))
    (row,) = describe_events(path)
    assert (row["format"], row["height"], row["width"], row["events"]) == ("evt3", 4, 6, 4)
    assert (row["start_us"], row["stop_us"], row["duration_s"]) == (1_000_000, 3_000_000, 2.0)
    assert (row["events_per_s"], row["on_share"], row["frames"], row["camera"]) == (2.0, 0.75, None, None)
    write_events(
        path,
        Events(*(torch.empty(0, dtype=kind) for kind in (torch.int64, torch.int16, torch.int16, torch.uint8)), (4, 6)),
    )
    (row,) = describe_events(path)
    assert (row["events"], row["duration_s"], row["on_share"]) == (0, None, None)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (
        f"a.h5.{dead.pid}.partial",
        f"a.h5.{os.getpid()}.partial",
        f"b.h5.{dead.pid}.partial",
        "a.h5.x.partial",
    ):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a.h5")
    left = {f"a.h5.{os.getpid()}.partial", f"b.h5.{dead.pid}.partial", "a.h5.x.partial"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_events_beside_the_frames_they_are_said_to_lie_between_are_refused(tmp_path):
    events = make(np.arange(1000, 2000, 10))
    for frame_t_us in ([], [1500, 3000], [0, 1500]):
        with pytest.raises(InputError, match=r"between frames|times of frames"):
            hdf5.write(tmp_path / "out.h5", events, frame_t_us=np.array(frame_t_us, np.int64))
