"""Every format: what is written is read by a decoder written here from the public descriptions, and read back exactly.

The decoders below are plain loops over bytes, so reader and writer can't be wrong together; real recordings are decoded
by both where they lie beside the repository.
"""

import io
import struct
import zipfile
from pathlib import Path

import h5py
import lz4.frame
import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.formats import FORMATS, WRITABLE, detect
from neuroav.events.formats.columns import unwrap
from neuroav.events.io import describe_events, read_events, write_events
from neuroav.events.types import Events

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "events"
SUFFIX = {name: (*each.suffixes, ".h5" if name == "v2e" else ".raw")[0] for name, each in FORMATS.items()}
KEEPS_SIZE = [name for name in WRITABLE if name != "npy"]


def make(rows, sensor_size=(480, 640)):
    """Events from rows of (t, x, y, p)."""
    t, x, y, p = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = (torch.tensor(t, dtype=torch.int64), torch.tensor(x).short(), torch.tensor(y).short())
    return Events(*columns, torch.tensor(p).byte(), sensor_size)


def rows_of(events):
    return list(zip(*(column.tolist() for column in (events.t_us, events.x, events.y, events.p)), strict=True))


def random_rows(count=2000, seed=0, step=90, size=(480, 640)):
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, step, count) * (rng.random(count) < 0.5))
    columns = (t, rng.integers(0, size[1], count), rng.integers(0, size[0], count), rng.integers(0, 2, count))
    return list(zip(*(column.tolist() for column in columns), strict=True))


# ---- decoders after the public descriptions, one event at a time


def header_and_body(content):
    fields = {}
    while content.startswith(b"% "):
        line, _, content = content.partition(b"\n")
        key, _, value = line[2:].decode().partition(" ")
        if key == "end":
            break
        fields[key] = value
    return fields, content


def decode_evt2(content):
    rows, high = [], None
    for (word,) in struct.iter_unpack("<I", header_and_body(content)[1]):
        if word >> 28 == 8:
            high = word & 0xFFFFFFF
        elif word >> 28 < 2 and high is not None:
            rows.append((high * 64 + (word >> 22) % 64, (word >> 11) % 2048, word % 2048, word >> 28))
    return rows


def decode_evt3(content):
    rows, loops, high, low, y, base, polarity = [], 0, None, 0, 0, 0, 0
    for (word,) in struct.iter_unpack("<H", header_and_body(content)[1]):
        kind, value = word >> 12, word & 0xFFF
        if kind == 0x8:
            loops += high is not None and high - value >= 2048
            low = low if value == high else 0
            high = value
        elif high is None:
            continue
        elif kind == 0x6:
            low = value
        elif kind == 0x0:
            y = value % 2048
        elif kind == 0x2:
            rows.append(((loops * 4096 + high) * 4096 + low, value % 2048, y, value >> 11))
        elif kind == 0x3:
            base, polarity = value % 2048, value >> 11
        elif kind in (0x4, 0x5):
            width = 12 if kind == 0x4 else 8
            time = (loops * 4096 + high) * 4096 + low
            rows += [(time, base + bit, y, polarity) for bit in range(width) if value >> bit & 1]
            base += width
    return rows


def decode_dat(content):
    body = header_and_body(content)[1]
    assert body[1] == 8
    return [(t, word % 16384, word >> 14 & 16383, word >> 28) for t, word in struct.iter_unpack("<II", body[2:])]


def decode_text(content):
    lines = content.decode().splitlines()
    assert len(lines[0].split()) == 2
    return [(round(float(t) * 1e6), int(x), int(y), int(p)) for t, x, y, p in (line.split() for line in lines[1:])]


def decode_aedat4(content):
    """Walk through the packets; of the FlatBuffers only what every FlatBuffer has is used."""

    def table(buffer, field):
        root = 4 + struct.unpack_from("<I", buffer, 4)[0]
        fields = root - struct.unpack_from("<i", buffer, root)[0]
        if 4 + 2 * field >= struct.unpack_from("<H", buffer, fields)[0]:
            return None
        return root + struct.unpack_from("<H", buffer, fields + 4 + 2 * field)[0]

    assert content.startswith(b"#!AER-DAT4.0\r\n")
    size = struct.unpack_from("<I", content, 14)[0] + 4
    header, place = content[14 : 14 + size], 14 + size
    assert header[8:12] == b"IOHE"
    assert struct.unpack_from("<i", header, table(header, 0))[0] == 1  # LZ4
    end = struct.unpack_from("<q", header, table(header, 1))[0]
    text = table(header, 2) + struct.unpack_from("<I", header, table(header, 2))[0]
    assert b"EVTS" in header[text : text + 4 + struct.unpack_from("<I", header, text)[0]]
    rows = []
    while place < (end if end > 0 else len(content)):
        _, size = struct.unpack_from("<ii", content, place)
        packet = lz4.frame.decompress(content[place + 8 : place + 8 + size])
        place += 8 + size
        if packet[8:12] == b"EVTS":
            vector = table(packet, 0) + struct.unpack_from("<I", packet, table(packet, 0))[0]
            count = struct.unpack_from("<I", packet, vector)[0]
            assert vector % 8 == 4  # the events lie at multiples of 8
            rows += [struct.unpack_from("<qhh?", packet, vector + 4 + 16 * k) for k in range(count)]
    return [(t, x, y, int(p)) for t, x, y, p in rows]


def decode_nmnist(content):
    rows = []
    for first in range(0, len(content), 5):
        x, y, *rest = content[first : first + 5]
        bits = int.from_bytes(bytes(rest), "big")
        rows.append((bits % (1 << 23), x, y, bits >> 23))
    return rows


def decode_npz(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        columns = [np.lib.format.read_array(archive.open(f"{name}.npy")).tolist() for name in ("t", "x", "y", "p")]
    return list(zip(*columns, strict=True))


def decode_npy(content):
    table = np.lib.format.read_array(io.BytesIO(content))
    assert table.dtype == np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])  # tonic's own
    return [(int(t), int(x), int(y), int(p)) for x, y, t, p in table.tolist()]


def decode_v2e(content):
    with h5py.File(io.BytesIO(content)) as file:
        assert file["events"].dtype == np.uint32
        return [tuple(row) for row in file["events"][:].tolist()]


def decode_dsec(content):
    with h5py.File(io.BytesIO(content)) as file:
        offset = int(file["t_offset"][()])
        columns = [file[f"events/{name}"][:].tolist() for name in "txyp"]
    return [(t + offset, x, y, p) for t, x, y, p in zip(*columns, strict=True)]


DECODERS = {
    "neuroav": decode_dsec,
    "v2e": decode_v2e,
    "npz": decode_npz,
    "npy": decode_npy,
    "text": decode_text,
    "aedat4": decode_aedat4,
    "evt2": decode_evt2,
    "evt3": decode_evt3,
    "dat": decode_dat,
}

CASES = {
    "random": random_rows(),
    "none": [],
    "one": [(0, 0, 0, 0)],
    "corners": [(0, 639, 479, 1), (0, 0, 479, 0), (1, 639, 0, 1)],
    "ties": [(7, x, 3, x % 2) for x in range(100)],
    "late": [(4_000_000_000, 5, 6, 1), (4_000_000_063, 5, 6, 0)],
    "gaps": [(0, 1, 1, 0), (30_000_000, 2, 2, 1), (30_000_001, 2, 2, 1), (3_000_000_000, 3, 3, 0)],
}


@pytest.mark.parametrize("name", WRITABLE)
@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_read_back_and_by_an_independent_decoder(tmp_path, name, case):
    rows, path = CASES[case], tmp_path / f"out{SUFFIX[name]}"
    write_events(path, make(rows), format=name)
    assert DECODERS[name](path.read_bytes()) == rows
    events = read_events(path)
    assert rows_of(events) == rows
    assert (events.t_us.dtype, events.x.dtype, events.y.dtype, events.p.dtype) == (
        torch.int64, torch.int16, torch.int16, torch.uint8,
    )  # fmt: skip
    assert describe_events(path)[0]["format"] == name
    if name in KEEPS_SIZE:
        assert events.sensor_size == (480, 640)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_every_writable_format_has_a_decoder_here():
    assert set(DECODERS) == set(WRITABLE)


@pytest.mark.parametrize("name", WRITABLE)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path, name):
    path = tmp_path / f"out{SUFFIX[name]}"
    limits = {"v2e": 1 << 32, "dat": 1 << 32, "evt2": 1 << 34, "evt3": 1 << 34, "neuroav": None}
    limit = limits.get(name, 1 << 50)
    if limit is not None:
        write_events(path, make([(limit - 1, 1, 1, 1)]), format=name)
        assert rows_of(read_events(path)) == [(limit - 1, 1, 1, 1)]
        path.unlink()
    if name in ("v2e", "dat", "evt2", "evt3"):
        with pytest.raises(InputError, match=rf"out\{path.suffix}: expected times from 0 to {limit - 1} us"):
            write_events(path, make([(limit, 1, 1, 1)]), format=name)
    negative = make([(-5, 1, 1, 1), (-4, 1, 1, 1)])
    if name in ("v2e", "dat", "evt2", "evt3", "text"):
        with pytest.raises(InputError, match="times from 0"):
            write_events(path, negative, format=name)
    else:
        write_events(path, negative, format=name)
        assert rows_of(read_events(path)) == rows_of(negative)
        path.unlink()
    if name in ("evt2", "evt3"):
        with pytest.raises(InputError, match="at most 2048 rows and columns"):
            write_events(path, make([], (100, 2049)), format=name)
    if name == "neuroav":
        with pytest.raises(InputError, match="48 hours"):
            write_events(path, make([(0, 1, 1, 1), (1 << 40, 1, 1, 1)]), format=name)
    assert list(tmp_path.iterdir()) == []


def test_evt3_vectors_are_read():
    words = [0x8001, 0x6002, 0x0005, 0x3800 | 20, 0x4801, 0x5081, 0x4001, 0x2003, 0x3000 | 9, 0x5003]
    body = struct.pack(f"<{len(words)}H", *words)
    expected = [(4098, 20, 5, 1), (4098, 31, 5, 1), (4098, 32, 5, 1), (4098, 39, 5, 1), (4098, 40, 5, 1)]
    expected += [(4098, 3, 5, 0), (4098, 9, 5, 0), (4098, 10, 5, 0)]
    assert decode_evt3(body) == expected
    assert read_words(body, "EVT3") == expected


def read_words(body, encoding, tmp=None):
    """Decode a body of words through the public reader."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.raw"
        path.write_bytes(f"% evt {encoding[-1]}.0\n% format {encoding};height=2048;width=2048\n% end\n".encode() + body)
        return rows_of(read_events(path))


@pytest.mark.filterwarnings("ignore:.*times run backwards")
@pytest.mark.parametrize("seed", range(8))
def test_any_stream_of_evt_words_is_decoded_as_by_the_loop(seed):
    """Time words anywhere, lone or repeated, wraps, vectors without a base, triggers: as the state machine says."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([0, 2, 3, 4, 5, 6, 8, 0xA, 0xE], 3000, p=[0.1, 0.3, 0.05, 0.05, 0.05, 0.2, 0.2, 0.025, 0.025])
    value = rng.integers(0, 4096, 3000)
    value = np.where(kinds == 3, value & 0x8FF, value)  # leave room for the vectors
    high = np.cumsum(rng.choice([0, 0, 0, 1, 1, 900], 3000)) % 4096
    words = kinds << 12 | np.where(kinds == 8, high, value)
    body = words.astype("<u2").tobytes()
    expected = decode_evt3(body)
    assert len(expected) > 900
    assert read_words(body, "EVT3") == sorted(expected, key=lambda row: row[0])
    kinds = rng.choice([0, 1, 8, 0xA, 0xE, 0xF], 3000, p=[0.3, 0.3, 0.3, 0.05, 0.025, 0.025])
    words = kinds << 28 | np.where(kinds == 8, np.cumsum(rng.integers(0, 3, 3000)), rng.integers(0, 1 << 28, 3000))
    body = words.astype("<u4").tobytes()
    assert read_words(body, "EVT2") == sorted(decode_evt2(body), key=lambda row: row[0])


def test_clocks_that_overflow_are_unwrapped(tmp_path):
    assert unwrap(np.array([3, 250, 1, 0, 200, 5], dtype=np.uint8), 8).tolist() == [3, 250, 257, 256, 456, 517]
    assert unwrap(np.array([128, 0, 129, 2]), 8).tolist() == [128, 256, 385, 258]  # half the range is a wrap
    path = tmp_path / "long.dat"
    times = [(1 << 32) - 2, (1 << 32) - 1, 0, 9]
    path.write_bytes(b"% Version 2\n\x0c\x08" + b"".join(struct.pack("<II", t, 1 << 28) for t in times))
    assert read_events(path).t_us.tolist() == [(1 << 32) - 2, (1 << 32) - 1, 1 << 32, (1 << 32) + 9]


def test_aedat2_is_turned_round_and_unwrapped(tmp_path):
    path = tmp_path / "davis.aedat"
    address = [(10 << 22) | (20 << 12) | (1 << 11), (259 << 22) | (345 << 12), 1 << 31, (1 << 10) | (5 << 12), 0]
    times = [2**31 - 1, -(2**31), 0, 0, -5]
    pairs = b"".join(struct.pack(">Ii", a, t) for a, t in zip(address, times, strict=True))
    head = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n#End\r\n"
    path.write_bytes(head + pairs)
    last = (1 << 32) - 5
    expected = [(2**31 - 1, 345 - 20, 259 - 10, 1), (2**31, 0, 0, 0), (last, 345, 259, 0)]
    assert rows_of(read_events(path)) == expected
    assert read_events(path).sensor_size == (260, 346)
    path.write_bytes(b"#!AER-DAT2.0\r\n# no chip\r\n" + pairs[:8])
    with pytest.raises(InputError, match=r"DAVIS camera of known size in the header, got 'no AEChip'.*--size HxW"):
        read_events(path)
    assert rows_of(read_events(path, sensor_size=(300, 400))) == [(2**31 - 1, 379, 289, 1)]


def test_nmnist_overflow_rows_move_the_clock(tmp_path):
    path = tmp_path / "digit.bin"
    path.write_bytes(bytes([3, 4, 0x80, 0, 9, 0, 240, 0, 0, 0, 5, 6, 0, 1, 0]))
    assert rows_of(read_events(path, sensor_size=(34, 34))) == [(9, 3, 4, 1), (256 + 8192, 5, 6, 0)]


@pytest.mark.parametrize(
    ("text", "rows", "size"),
    [
        ("240 180\n0.003811000 96 133 0\n1.5 3 4 1\n", [(3811, 96, 133, 0), (1_500_000, 3, 4, 1)], (180, 240)),
        ("0.003811 96 133 0\n", [(3811, 96, 133, 0)], (134, 97)),
        ("# a comment\n12 3 4 -1\n13 3 4 1\n", [(12, 3, 4, 0), (13, 3, 4, 1)], (5, 4)),
        ("t,x,y,p\n12,3,4,0\n", [(12, 3, 4, 0)], (5, 4)),
        ("1e-3 1 2 1", [(1000, 1, 2, 1)], (3, 2)),
        (
            "1618000000.123457 1 2 1\n1618000000.123458 1 2 1",
            [(1618000000123457 + k, 1, 2, 1) for k in range(2)],
            (3, 2),
        ),
        ("9007199254740993 1 2 1", [(9007199254740993, 1, 2, 1)], (3, 2)),  # beyond what a double holds
        ("3 4\n", [], (4, 3)),
    ],
)
def test_text_in_the_ways_it_is_found(tmp_path, text, rows, size):
    path = tmp_path / "events.txt"
    path.write_text(text)
    events = read_events(path)
    assert (rows_of(events), events.sensor_size) == (rows, size)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "expected a video or event file, got an empty file"),
        ("hello world\n", "expected lines of t x y p, or the sensor's size W H, got neither"),
        ("0.1 2 3\n", "expected lines of t x y p"),
        ("0.1 2 3 1\n0.2 2 3\n", "expected lines of t x y p"),
        ("0.1 2 3 x\n", "expected lines of t x y p"),
        ("nan 2 3 1\n", "expected lines of t x y p|finite times"),
        ("0.1 2 3 1\nnan 2 3 1\n", "expected finite times in seconds"),
        ("1e300 2 3 1\n", "expected finite times in seconds"),
        ("1e308 2 3 1\n", "expected finite times in seconds"),
        ("1 2 3 2\n", "expected polarity 0 and 1, or -1 and 1, got values from 2 to 2"),
        ("1 2 3 -1\n2 2 3 0\n", "expected polarity"),
        ("1 -2 3 1\n", "got x from -2 to -2"),
        ("4 4\n1 9 3 1\n", r"events on a sensor of 4x4 \(rows x columns\), got x from 9 to 9"),
        ("99999 4\n1 1 1 1\n", "a sensor with sides in"),
    ],
)
def test_text_that_is_wrong_says_where(tmp_path, text, match):
    path = tmp_path / "events.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        read_events(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_arrays_under_other_names(tmp_path):
    path = tmp_path / "other.npz"
    arrays = {
        "timestamps": np.array([0.5, 1.0]),
        "polarity": np.array([-1, 1]),
        "x": np.array([1, 2]),
        "y": np.array([3, 4]),
    }
    np.savez_compressed(path, frames=np.zeros((2, 8, 9), np.uint8), **arrays)
    events = read_events(path)
    assert (rows_of(events), events.sensor_size) == ([(500_000, 1, 3, 0), (1_000_000, 2, 4, 1)], (8, 9))
    np.savez(path, x=[1])
    with pytest.raises(InputError, match=r"columns t, x, y, p \(t, y, p missing\), got x"):
        read_events(path)
    np.savez(path, t=[1], x=[1], y=[1], p=np.array([None], dtype=object))
    with pytest.raises(InputError, match="never unpickled"):
        read_events(path)


@pytest.mark.parametrize(
    ("column", "values", "match"),
    [
        ("p", [1.0, np.nan], "polarity 0 and 1, or -1 and 1, got other values"),
        ("p", [1.0, 0.5], "polarity 0 and 1, or -1 and 1, got other values"),
        ("t", [0.0, 1e308], "finite times in seconds"),
        ("is_noise", [0, 2], "labels 0 and 1 in is_noise, got values from 0 to 2"),
        ("is_noise", [0.0, np.nan], r"is_noise of shape \(E,\) and an integer type, got float64 \(2,\)"),
        ("is_noise", [[0], [1]], r"is_noise of shape \(E,\) and an integer type, got int64 \(2, 1\)"),
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path, column, values, match):
    path = tmp_path / "odd.npz"
    np.savez(path, **({"t": [1, 2], "x": [1, 2], "y": [1, 2], "p": [0, 1], "is_noise": [0, 1]} | {column: values}))
    with pytest.raises(InputError, match=match):
        read_events(path)


def test_an_archive_whose_names_are_no_text_is_refused(tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, t=[1], x=[1], y=[1], p=[1])
    content = bytearray(path.read_bytes())
    content[7] |= 8  # of the first member: its name is in UTF-8
    content[30] = 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a sound .npz file, got .*decode byte 0xff"):
        read_events(path)


def test_columns_must_fit_each_other(tmp_path):
    path = tmp_path / "short.npz"
    np.savez(path, t=[1, 2], x=[1], y=[1, 2], p=[1, 1])
    with pytest.raises(InputError, match="columns of one length, got t 2, x 1, y 2, p 2"):
        read_events(path)


def test_events_out_of_order_are_sorted_and_counted(tmp_path):
    path = tmp_path / "loose.npz"
    np.savez(path, t=[5, 3, 5, 4], x=[0, 1, 2, 3], y=[0] * 4, p=[1] * 4)
    with pytest.warns(UserWarning, match=r"loose.npz: times run backwards at 2 of 4 events; sorted by time"):
        assert rows_of(read_events(path)) == [(3, 1, 0, 1), (4, 3, 0, 1), (5, 0, 0, 1), (5, 2, 0, 1)]


def test_labels_are_kept_where_they_can_be(tmp_path):
    events = make(random_rows(50))
    labelled = Events(events.t_us, events.x, events.y, events.p, events.sensor_size, (torch.arange(50) % 3 == 0).byte())
    for name in ("a.h5", "a.npz"):
        write_events(tmp_path / name, labelled)
        assert read_events(tmp_path / name).is_noise.tolist() == labelled.is_noise.tolist()
    write_events(tmp_path / "a.raw", labelled)
    assert read_events(tmp_path / "a.raw").is_noise is None


def test_unknown_files_and_names_are_refused(tmp_path):
    events = make([(1, 1, 1, 1)])
    with pytest.raises(InputError, match=r"one of the suffixes .h5, .hdf5, .npz.*got '.xyz'. Or name the format"):
        write_events(tmp_path / "a.xyz", events)
    with pytest.raises(InputError, match=r"format to be one of .*got 'evt'. Did you mean 'evt[23]'"):
        write_events(tmp_path / "a.raw", events, format="evt")
    for content, match in [
        (b"#!AER-DAT3.1\r\n", "AEDAT of version 2 or 4, got AER-DAT3.1"),
        (b"#!AER-DAT\n\x97\x00", r"AEDAT of version 2 or 4, got AER-DAT\. Convert"),
        (b"anything", "an event file .*got something else"),
        (b"% evt 2.1\n% end\n", "encoding EVT2 or EVT3, got EVT2"),
        (b"% Version 3\n\x0c\x08", "a DAT file of version 2, got version '3'"),
        (b"% Version 2\n\x01\x04", "events of type 0 or 12 and 8 bytes, got header bytes 0104"),
    ]:
        (tmp_path / "strange").write_bytes(content)
        with pytest.raises(InputError, match=match):
            read_events(tmp_path / "strange")
    with pytest.raises(InputError, match="got a folder"):
        read_events(tmp_path)


# ---- real recordings


@pytest.mark.parametrize(
    ("name", "decode", "count", "size"),
    [
        ("evt2_sample.raw", decode_evt2, 539_481, (480, 640)),
        ("sample.aedat4", decode_aedat4, 111_954, (240, 320)),
        ("sample_ncars.dat", decode_dat, 2009, (42, 78)),
        ("sample_nmnist.bin", decode_nmnist, 4325, (34, 34)),
        ("slider_depth_davis240c.npz", None, 50_000, (180, 240)),
    ],
)
def test_real_recordings(tmp_path, name, decode, count, size):
    if not SAMPLES.exists():
        pytest.skip("the sample recordings are not beside the repository")
    events = read_events(SAMPLES / name)
    assert (len(events), events.sensor_size) == (count, size)
    if decode is not None:
        assert decode((SAMPLES / name).read_bytes()) == rows_of(events)
    for other in ("neuroav", "npz", "aedat4"):
        path = tmp_path / f"copy{SUFFIX[other]}"
        write_events(path, events, format=other)
        again = read_events(path)
        for column in ("t_us", "x", "y", "p"):
            assert torch.equal(getattr(again, column), getattr(events, column))
        assert again.sensor_size == size


def test_real_aedat2_header():
    if not SAMPLES.exists():
        pytest.skip("the sample recordings are not beside the repository")
    assert detect(SAMPLES / "sample_aedat_header.aedat").name == "aedat2"
    assert read_events(SAMPLES / "sample_aedat_header.aedat").sensor_size == (260, 346)


def test_iniVation_reads_what_is_written(tmp_path):  # noqa: N802
    dv = pytest.importorskip("dv_processing", reason="dv-processing isn't installed")
    rows, path = random_rows(100_000, seed=3), tmp_path / "out.aedat4"
    write_events(path, make(rows))
    recording, found = dv.io.MonoCameraRecording(str(path)), []
    assert tuple(recording.getEventResolution()) == (640, 480)
    while (batch := recording.getNextEventBatch()) is not None:
        found += [(int(t), int(x), int(y), int(p)) for t, x, y, p in batch.numpy().tolist()]
    assert found == rows
