"""Event files as others compress them, by the libraries that they use: Blosc in HDF5, Zstandard and LZ4 in AEDAT 4.

A damaged chunk or packet must be an error that says so; where one carries a checksum, no flipped bit may give other
events.
"""

import struct
import subprocess
import sys
from functools import partial

import h5py
import hdf5plugin
import lz4.frame
import numpy as np
import pytest
import torch
import zstandard

from neuroav.checks import InputError
from neuroav.events.formats import aedat4
from neuroav.events.io import describe_events, read_events, write_events
from neuroav.events.types import Events

COUNT, CHUNK, SPAN_US, OFFSET_US = 40_000, 10_000, 400_000, 5_000_000_000
CODECS = {
    "Blosc, as DSEC": hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
    "Blosc with LZ4": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    "Blosc 2": hdf5plugin.Blosc2(),
    "Zstandard": hdf5plugin.Zstd(),
}


@pytest.fixture(scope="module")
def columns():
    """Columns of a recording: ``t`` in microseconds from 0 on, ``x``, ``y`` and ``p``."""
    rng = np.random.default_rng(0)
    draws = {name: rng.integers(0, high, COUNT) for name, high in {"x": 640, "y": 480, "p": 2}.items()}
    return {"t": np.sort(rng.integers(0, SPAN_US, COUNT)), **draws}


def write_dsec(path, columns, codec):
    """Write a file in the layout of DSEC; returns where the second chunk of ``events/t`` lies: offset and size."""
    dtypes = {"t": "u4", "x": "u2", "y": "u2", "p": "u1"}
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(f"events/{name}", data=values.astype(dtypes[name]), chunks=(CHUNK,), **codec)
        file["t_offset"] = np.int64(OFFSET_US)
        file["ms_to_idx"] = np.searchsorted(columns["t"], np.arange(0, SPAN_US, 1000)).astype("u8")
    with h5py.File(path) as file:
        chunk = file["events/t"].id.get_chunk_info(1)
    return chunk.byte_offset, chunk.size


def assert_equal(events, columns, part=slice(None)):
    found = {"t": events.t_us - OFFSET_US, "x": events.x, "y": events.y, "p": events.p}
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name].numpy(), values[part])


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_compressed_hdf5_of_others_is_read_whole_and_by_time(tmp_path, columns, codec):
    path = tmp_path / "events.h5"
    write_dsec(path, columns, codec)
    assert_equal(read_events(path), columns)
    start, stop = OFFSET_US + 123_456, OFFSET_US + 234_567
    inside = (columns["t"] > 123_456) & (columns["t"] <= 234_567)
    assert_equal(read_events(path, start_us=start, stop_us=stop), columns, inside)
    (row,) = describe_events(path)
    assert (row["format"], row["events"], row["height"], row["width"]) == ("dsec", COUNT, 480, 640)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("damage", ["head", "sizes", "all"])
def test_a_damaged_chunk_is_an_error_and_spares_the_others(tmp_path, columns, codec, damage):
    path = tmp_path / "events.h5"
    place, size = write_dsec(path, columns, codec)
    content = bytearray(path.read_bytes())
    first, last = {"head": (0, 4), "sizes": (4, 12), "all": (0, size)}[damage]
    content[place + first : place + last] = b"\xff" * (last - first)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"events\.h5: expected a sound HDF5 file of events, got .*read.* damaged\?"):
        read_events(path)
    stop = int(columns["t"][CHUNK // 2])
    before = columns["t"] <= stop
    assert_equal(read_events(path, stop_us=OFFSET_US + stop), columns, before)


def test_the_plug_in_is_found_without_the_users_help(tmp_path, columns):
    path = tmp_path / "events.h5"
    write_dsec(path, columns, CODECS["Blosc, as DSEC"])
    code = "import sys; from neuroav.events.io import read_events; assert 'hdf5plugin' not in sys.modules; "
    code += "print(len(read_events(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, path], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{COUNT}\n", "")


def test_blosc_without_its_plug_in_is_named_with_the_remedy(tmp_path, columns, monkeypatch):
    path = tmp_path / "events.h5"
    write_dsec(path, columns, CODECS["Blosc, as DSEC"])
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    h5py.h5z.unregister_filter(hdf5plugin.BLOSC_ID)
    try:
        with pytest.raises(InputError, match=r"HDF5 filter 32001 to decompress /events/t, got no plug-in.*hdf5plugin"):
            read_events(path)
    finally:
        hdf5plugin.register("blosc", force=True)


# -------------------------------------------------------------------------------------------------------------- AEDAT 4

PACKERS = {  # by the code in the header of the file
    "none": (0, bytes),
    "LZ4": (1, partial(lz4.frame.compress, store_size=False, content_checksum=True)),
    "LZ4, high": (2, partial(lz4.frame.compress, compression_level=9, block_linked=False, content_checksum=True)),
    "Zstandard": (3, zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress),
    "Zstandard, high": (4, zstandard.ZstdCompressor(level=19, write_checksum=True).compress),
}
CODE = 46  # where the header that is written here says how packets are compressed


def write_aedat4(path, columns, name):
    """Write AEDAT 4 with packets compressed by another library call; returns where the second packet lies."""
    code, pack = PACKERS[name]
    t, x, y, p = (torch.from_numpy(columns[column]) for column in "txyp")
    write_events(path, Events(t + OFFSET_US, x.short(), y.short(), p.byte(), (480, 640)))
    content = bytearray(path.read_bytes())
    place = 18 + struct.unpack_from("<I", content, 14)[0]
    assert struct.unpack_from("<i", content, CODE) == (1,)
    struct.pack_into("<i", content, CODE, code)
    parts, ends = [bytes(content[:place])], [place]
    while place < len(content):
        stream, size = struct.unpack_from("<ii", content, place)
        packet = pack(lz4.frame.decompress(bytes(content[place + 8 : place + 8 + size])))
        parts.append(struct.pack("<ii", stream, len(packet)) + packet)
        ends.append(ends[-1] + len(parts[-1]))
        place += 8 + size
    path.write_bytes(b"".join(parts))
    return ends[1] + 8, ends[2] - ends[1] - 8


@pytest.fixture
def small_packets(monkeypatch):
    monkeypatch.setattr(aedat4, "PACKET_EVENTS", CHUNK)


@pytest.mark.usefixtures("small_packets")
@pytest.mark.parametrize("name", PACKERS)
def test_aedat4_is_read_however_it_is_compressed(tmp_path, columns, name):
    path = tmp_path / "events.aedat4"
    write_aedat4(path, columns, name)
    events = read_events(path)
    assert_equal(events, columns)
    assert events.sensor_size == (480, 640)


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "none"])
def test_no_flipped_bit_of_a_packet_gives_other_events(tmp_path, columns, name, monkeypatch):
    monkeypatch.setattr(aedat4, "PACKET_EVENTS", 100)
    path, few = tmp_path / "events.aedat4", {column: values[:250] for column, values in columns.items()}
    place, size = write_aedat4(path, few, name)
    content, refused = path.read_bytes(), []
    for bit in range(0, 8 * size, 29):
        damaged = bytearray(content)
        damaged[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert_equal(read_events(path), few)  # some say the same in another way: which of two equal bytes to repeat
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 0.9 * (8 * size // 29)
    assert all("The file is damaged." in message for message in refused)


@pytest.mark.usefixtures("small_packets")
@pytest.mark.parametrize("name", ["LZ4", "Zstandard"])
def test_a_packet_that_stops_short_or_is_something_else_is_an_error(tmp_path, columns, name):
    path = tmp_path / "events.aedat4"
    place, size = write_aedat4(path, columns, name)
    content = path.read_bytes()
    short = content[: place - 4] + struct.pack("<i", size // 2) + content[place : place + size // 2]
    for damaged in (short, content[:place] + b"\xff" * size + content[place + size :]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"events\.aedat4: expected .*({name}|FlatBuffer).*The file is damaged\."):
            read_events(path)


@pytest.mark.usefixtures("small_packets")
@pytest.mark.parametrize("name", ["LZ4", "Zstandard"])
def test_a_packet_that_swells_is_refused(tmp_path, columns, name, monkeypatch):
    path = tmp_path / "events.aedat4"
    place, size = write_aedat4(path, columns, name)
    packet = PACKERS[name][1](bytes(16 << 20))
    head, content = struct.pack("<i", len(packet)), path.read_bytes()
    path.write_bytes(content[: place - 4] + head + packet + content[place + size :])
    monkeypatch.setattr(aedat4, "MAX_PACKET_BYTES", 8 << 20)
    with pytest.raises(InputError, match="packets of at most 8388608 bytes, got more"):
        read_events(path)


@pytest.mark.usefixtures("small_packets")
def test_zstandard_without_its_package_is_named_with_the_remedy(tmp_path, columns, monkeypatch):
    path = tmp_path / "events.aedat4"
    write_aedat4(path, columns, "Zstandard")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"the package zstandard, to read this file, got none. pip install zstandard"):
        read_events(path)
