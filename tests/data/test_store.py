"""The feature store against plain arrays kept beside it: round trip, resumption after any cut, damage, refusals."""

import os
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.data.store import ClipRecord, Store, StoreWriter

CLASSES = ["dog", "rain", "violin"]
VECTORS = np.arange(15, dtype=np.float32).reshape(3, 5)


def make_record(i, **changes):
    rng = np.random.default_rng(i)
    steps = 1 + i % 4
    record = ClipRecord(
        name=f"clip-{i}",
        label=CLASSES[(i * 2) % 3],
        part=["train", "test_seen", ""][i % 3],
        t_s=np.arange(steps, dtype=np.float32) * np.float32(0.2),
        video=rng.normal(size=(steps, 6)).astype(np.float32),
        audio=rng.normal(size=(steps, 4)).astype(np.float32),
        motion=rng.integers(0, 65536, (steps, 2, 3, 2)).astype(np.uint16),
        extras={"scene": i % 5, "u": i / 7, "file": f"ä{i}.mp4"},
    )
    return replace(record, **changes)


def open_writer(path, **changes):
    given = {"class_names": CLASSES, "class_vectors": VECTORS, "settings": {"bin_s": 0.2}, "provenance": {"of": "test"}}
    return StoreWriter(path, **(given | changes))


def write_store(path, records=None):
    with open_writer(path) as writer:
        for record in records or map(make_record, range(9)):
            writer.write(record)
    return path


def assert_same_record(got, want):
    for key in ("name", "label", "part", "extras"):
        assert getattr(got, key) == getattr(want, key)
    for key in ("t_s", "video", "audio", "motion"):
        np.testing.assert_array_equal(getattr(got, key), getattr(want, key))
        assert getattr(got, key).dtype == getattr(want, key).dtype


def test_every_clip_comes_back_bit_for_bit(tmp_path):
    path = write_store(tmp_path / "s.h5")
    with Store(path) as store:
        assert len(store) == 9
        assert store.class_names == CLASSES
        np.testing.assert_array_equal(store.class_vectors, VECTORS)
        assert store.settings == {"bin_s": 0.2}
        assert store.provenance == {"of": "test"}
        for i in range(9):
            assert_same_record(store.clip(i), make_record(i))
    assert [item.name for item in tmp_path.iterdir()] == ["s.h5"]


def two_clocks(i):
    """A clip without motion whose audio has steps of its own."""
    steps = 1 + (i * 5) % 3
    times = np.arange(steps, dtype=np.float32) * np.float32(0.96)
    audio = np.random.default_rng(i).normal(size=(steps, 4)).astype(np.float32)
    return make_record(i, motion=None, audio=audio, audio_t_s=times)


def test_audio_may_have_steps_of_its_own_and_motion_may_be_missing(tmp_path):
    records = [two_clocks(i) for i in range(7)]
    with Store(write_store(tmp_path / "s.h5", records)) as store:
        assert store.audio_lengths.tolist() == [len(r.audio_t_s) for r in records]
        assert store.audio_lengths.tolist() != store.lengths.tolist()
        for i in range(7):
            clip = store.clip(i)
            assert clip.motion is None
            for key in ("t_s", "video", "audio", "audio_t_s"):
                np.testing.assert_array_equal(getattr(clip, key), getattr(records[i], key))
        loaded = store.load([5, 0, 5])
        assert loaded.motion is None
        for key, offsets in (("video", loaded.offsets), ("audio", loaded.audio_offsets)):
            for row, i in enumerate([5, 0, 5]):
                got = getattr(loaded, key)[offsets[row] : offsets[row + 1]]
                np.testing.assert_array_equal(got, getattr(records[i], key))
        store.verify()


def test_an_unfinished_store_with_two_clocks_goes_on(tmp_path):
    records = [two_clocks(i) for i in range(4)]
    with suppress(KeyboardInterrupt), open_writer(tmp_path / "s.h5") as writer:
        writer.write(records[0])
        raise KeyboardInterrupt
    with open_writer(tmp_path / "s.h5") as writer:
        for record in records[1:]:
            writer.write(record)
    with Store(tmp_path / "s.h5") as store:
        np.testing.assert_array_equal(store.load().audio, np.concatenate([r.audio for r in records]))


def test_clips_of_a_store_have_the_same_arrays(tmp_path):
    with open_writer(tmp_path / "s.h5") as writer:
        writer.write(two_clocks(0))
        with pytest.raises(InputError, match="clip 'clip-1': expected arrays t_s, video, audio, audio_t_s"):
            writer.write(make_record(1))


def test_tables_follow_the_order_of_writing(tmp_path):
    records = [make_record(i) for i in range(9)]
    with Store(write_store(tmp_path / "s.h5")) as store:
        assert store.names == [r.name for r in records]
        assert [store.class_names[k] for k in store.labels] == [r.label for r in records]
        assert store.parts.tolist() == [r.part for r in records]
        assert store.lengths.tolist() == [len(r.t_s) for r in records]
        assert store.extras["scene"].tolist() == [r.extras["scene"] for r in records]
        assert store.extras["u"].dtype == np.float64


@pytest.mark.parametrize("indices", [None, [7, 0, 3, 3, 8], [], [5]])
def test_load_gathers_chosen_clips_in_their_order(tmp_path, indices):
    with Store(write_store(tmp_path / "s.h5")) as store:
        loaded = store.load(indices)
        labels = store.labels
    chosen = list(range(9)) if indices is None else indices
    records = [make_record(i) for i in chosen]
    assert len(loaded) == len(records)
    assert loaded.labels.tolist() == [labels[i] for i in chosen]
    assert len(loaded.t_s) == sum(len(r.t_s) for r in records)
    for j, record in enumerate(records):
        np.testing.assert_array_equal(loaded.video[loaded.rows(j)], record.video)
        np.testing.assert_array_equal(loaded.motion[loaded.rows(j)], record.motion)


def test_load_reads_stores_longer_than_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("neuroav.data.intact._READ_BYTES", 60)
    monkeypatch.setattr("neuroav.data.intact._GAP_ROWS", 0)
    with Store(write_store(tmp_path / "s.h5")) as store:
        loaded = store.load([8, 1, 4])
        store.verify()
    np.testing.assert_array_equal(loaded.audio, np.concatenate([make_record(i).audio for i in (8, 1, 4)]))


def test_load_refuses_an_index_outside(tmp_path):
    with (
        Store(write_store(tmp_path / "s.h5")) as store,
        pytest.raises(InputError, match=r"indices in \[0, 9\), got -1"),
    ):
        store.load([0, -1])


def interrupt(path, count):
    """Write ``count`` clips, press Ctrl-C, and return the partial file."""
    with suppress(KeyboardInterrupt), open_writer(path) as writer:
        for i in range(count):
            writer.write(make_record(i))
        raise KeyboardInterrupt
    return path.with_name("s.h5.partial")


def test_an_interrupted_job_goes_on_and_ends_in_the_same_bytes(tmp_path):
    whole = write_store(tmp_path / "whole.h5").read_bytes()
    path = tmp_path / "s.h5"
    interrupt(path, 4)
    assert not path.exists()
    with open_writer(path) as writer:
        assert writer.done == {f"clip-{i}" for i in range(4)}
        for i in range(4, 9):
            writer.write(make_record(i))
    assert path.read_bytes() == whole


def test_a_partial_file_cut_anywhere_keeps_every_whole_clip(tmp_path):
    path = tmp_path / "s.h5"
    whole = interrupt(path, 3).read_bytes()
    ends = [len(interrupt_bytes(tmp_path / f"{i}", i)) for i in (1, 2, 3)]
    for cut in {0, 5, 24, 30, 60, *range(ends[0] - 3, len(whole), 401), *(end + d for end in ends for d in (-1, 0))}:
        path.with_name("s.h5.partial").write_bytes(whole[:cut])
        interrupt(path, 0)
        left = path.with_name("s.h5.partial").stat().st_size if path.with_name("s.h5.partial").exists() else 0
        assert left == max([end for end in ends if end <= cut], default=0), cut


def interrupt_bytes(folder, count):
    folder.mkdir()
    return interrupt(folder / "s.h5", count).read_bytes()


def test_a_job_resumed_from_a_torn_clip_ends_in_the_same_bytes(tmp_path):
    path = tmp_path / "s.h5"
    partial = interrupt(path, 4)
    partial.write_bytes(partial.read_bytes()[:-7])
    with open_writer(path) as writer:
        for i in range(9):
            if f"clip-{i}" not in writer.done:
                writer.write(make_record(i))
    assert path.read_bytes() == write_store(tmp_path / "whole.h5").read_bytes()


def test_a_clip_whose_bytes_changed_is_dropped_with_those_after_it(tmp_path):
    path = tmp_path / "s.h5"
    end = len(interrupt_bytes(tmp_path / "one", 1))
    partial = interrupt(path, 3)
    whole = bytearray(partial.read_bytes())
    whole[end + 500] ^= 1
    partial.write_bytes(whole)
    assert len(interrupt(path, 0).read_bytes()) == end


def test_zeros_at_the_end_of_a_partial_file_are_dropped(tmp_path):
    partial = interrupt(tmp_path / "s.h5", 2)
    whole = partial.read_bytes()
    partial.write_bytes(whole + bytes(4096))
    assert interrupt(tmp_path / "s.h5", 0).read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"settings": {"bin_s": 0.5}}, r"bin_s \(0.2 there, 0.5 now\)"),
        ({"class_names": ["dog", "rain", "cello"]}, "class_names"),
        ({"class_vectors": VECTORS + 1}, "class_vectors"),
    ],
)
def test_a_partial_file_of_other_settings_is_refused_and_kept(tmp_path, change, text):
    partial = interrupt(tmp_path / "s.h5", 2)
    before = partial.read_bytes()
    with pytest.raises(InputError, match=text):
        open_writer(tmp_path / "s.h5", **change)
    assert partial.read_bytes() == before


def test_a_foreign_file_in_place_of_the_partial_one_is_refused_and_kept(tmp_path):
    partial = tmp_path / "s.h5.partial"
    partial.write_text("a diary")
    with pytest.raises(InputError, match="another kind of file"):
        open_writer(tmp_path / "s.h5")
    assert partial.read_text() == "a diary"


def test_a_second_writer_is_told_that_the_file_is_in_use(tmp_path):
    with open_writer(tmp_path / "s.h5") as writer:
        writer.write(make_record(0))
        code = (
            "import sys, numpy as np\nfrom neuroav.data.store import StoreWriter\n"
            "StoreWriter(sys.argv[1], class_names=['dog'], class_vectors=np.ones((1, 2)))"
        )
        other = subprocess.run([sys.executable, "-c", code, str(writer.path)], capture_output=True, text=True)
        assert "in use" in other.stderr
    assert len(Store(tmp_path / "s.h5")) == 1


def test_an_existing_file_is_never_overwritten(tmp_path):
    (tmp_path / "s.h5").write_text("mine")
    with pytest.raises(InputError, match="Delete it or choose another output"):
        open_writer(tmp_path / "s.h5")
    assert (tmp_path / "s.h5").read_text() == "mine"


def test_no_store_is_written_without_clips(tmp_path):
    with pytest.raises(InputError, match="at least one clip"), open_writer(tmp_path / "s.h5"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_finishing_keeps_every_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(StoreWriter, "_write_steps", lambda self, file, sink: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_store(tmp_path / "s.h5")
    assert [item.name for item in tmp_path.iterdir()] == ["s.h5.partial"]
    monkeypatch.undo()
    with open_writer(tmp_path / "s.h5") as writer:
        assert len(writer.done) == 9


@pytest.mark.parametrize("key", ["t_s", "video", "audio"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_clip_and_modality(tmp_path, key, value):
    record = make_record(3)
    bad = getattr(record, key).copy()
    bad.flat[-1] = value
    with pytest.raises(InputError, match=f"clip 'clip-3': expected finite {key} values, got 1 NaN or infinite"):
        write_store(tmp_path / "s.h5", [replace(record, **{key: bad})])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "clip-0"}, "a name not written yet"),
        ({"label": "violn"}, "Did you mean 'violin'"),
        ({"video": np.zeros((2, 7))}, r"video steps of shape \(6,\), got \(7,\)"),
        ({"audio": np.zeros((3, 4))}, r"audio of shape \(2, D\), got \(3, 4\)"),
        ({"motion": np.zeros((2, 2, 3, 2))}, "motion as uint16 counts, got float64"),
        ({"extras": {"scene": 1.5, "u": 0.1, "file": ""}}, "extras of types"),
        ({"extras": {"scene": [1]}}, "extra 'scene' as int, float or text, got list"),
    ],
)
def test_a_clip_unlike_the_others_is_refused_by_name(tmp_path, change, text):
    with pytest.raises(InputError, match=text):
        write_store(tmp_path / "s.h5", [make_record(0), make_record(1, **change)])
    with open_writer(tmp_path / "s.h5") as writer:
        assert writer.done == {"clip-0"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class_names": ["dog", "dog", "rain"]}, "'dog' more than once"),
        ({"class_vectors": VECTORS[:2]}, "class_vectors of shape"),
        ({"class_vectors": np.where(VECTORS == 7, np.nan, VECTORS)}, "NaN or infinity in that of 'rain'"),
    ],
)
def test_classes_are_checked_before_anything_is_written(tmp_path, change, text):
    with pytest.raises(InputError, match=text):
        open_writer(tmp_path / "s.h5", **change)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_says_what_to_do_with_a_file_that_is_no_store(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Store(tmp_path / "s.h5")
    partial = interrupt(tmp_path / "s.h5", 2)
    with pytest.raises(InputError, match="run the command that was writing it again"):
        Store(tmp_path / "s.h5")
    with pytest.raises(InputError, match="an unfinished one"):
        Store(partial)
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="not HDF5"):
        Store(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = np.bytes_("neuroav-events")
    with pytest.raises(InputError, match="HDF5 of format 'neuroav-events'"):
        Store(tmp_path / "other.h5")


def test_a_newer_version_is_named(tmp_path):
    with h5py.File(write_store(tmp_path / "s.h5"), "a") as file:
        file.attrs["version"] = 3
    with pytest.raises(InputError, match=r"got 3\. Install a newer neuroav"):
        Store(tmp_path / "s.h5")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_store_is_called_damaged(tmp_path, share):
    path = write_store(tmp_path / "s.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"damaged|not HDF5"):
        Store(path)


def replace_array(path, key, values, crc=True):
    """Put other values in place of an array, with a checksum that fits them or with the old one."""
    with h5py.File(path, "a") as file:
        old = file[key].attrs["crc32"]
        del file[key]
        file[key] = values
        file[key].attrs["crc32"] = zlib.crc32(np.asarray(values).tobytes()) if crc else old


@pytest.mark.parametrize(
    ("key", "values", "text"),
    [
        ("labels", np.zeros(8, np.int64), "arrays differ in length"),
        ("extras/u", np.zeros(8), "arrays differ in length"),
        ("labels", np.full(9, 3), "a label that is no class"),
        ("labels", np.zeros(9), "a table of another type"),
        ("class_vectors", np.zeros((4, 5), np.float32), "class vectors of another shape"),
        ("offsets", np.arange(10) * 3, "differ in length"),
        ("offsets", np.array([0, 3, 2, 4, 5, 6, 7, 8, 9, 21]), "offsets that do not rise"),
        ("video", np.zeros((21, 6), np.float64), "array 'video' of another type or shape"),
        ("video", np.zeros((21, 6, 1), np.float32), "array 'video' of another type or shape"),
        ("audio", np.zeros((20, 4), np.float32), "arrays differ in length"),
    ],
)
def test_tables_that_do_not_fit_are_called_damaged(tmp_path, key, values, text):
    path = write_store(tmp_path / "s.h5")
    replace_array(path, key, values)
    with pytest.raises(InputError, match=f"damaged one.*{text}"):
        Store(path)


def test_an_array_too_few_or_a_setting_changed_is_damage(tmp_path):
    path = write_store(tmp_path / "s.h5")
    with h5py.File(path, "a") as file:
        file.attrs["settings"] = np.bytes_(file.attrs["settings"].replace(b"0.2", b"0.3"))
    with pytest.raises(InputError, match="its settings differ from their checksum"):
        Store(path)
    other = write_store(tmp_path / "t.h5")
    with h5py.File(other, "a") as file:
        del file["audio"]
    with pytest.raises(InputError, match="damaged one"):
        Store(other)


@pytest.mark.parametrize("key", ["labels", "extras/u", "class_vectors", "names"])
def test_a_changed_value_of_a_table_is_found_as_the_file_is_opened(tmp_path, key):
    path = write_store(tmp_path / "s.h5")
    with h5py.File(path) as file:
        values = file[key][:]
    values[1] = values[0]
    replace_array(path, key, values, crc=False)
    with pytest.raises(InputError, match=f"array '{key}' differs from its checksum"):
        Store(path)


@pytest.mark.parametrize("key", ["video", "motion"])
def test_verify_finds_a_changed_value_of_the_steps(tmp_path, key):
    with Store(write_store(tmp_path / "s.h5")) as store:
        store.verify()
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file[key][1] = file[key][1] + 1
    with Store(tmp_path / "s.h5") as store, pytest.raises(InputError, match=f"array '{key}' differs from its checksum"):
        store.verify()


def test_a_store_of_version_1_must_be_written_again(tmp_path):
    with h5py.File(write_store(tmp_path / "s.h5"), "a") as file:
        file.attrs["version"] = 1
    with pytest.raises(InputError, match=r"a store of version 2, got 1\. Write it again"):
        Store(tmp_path / "s.h5")


READ = """
import multiprocessing, pickle, sys
import numpy as np
from neuroav.data.store import Store

def read(store):
    return [store.clip(i).video.sum(dtype=np.float64) for _ in range(4) for i in range(len(store))]

if __name__ == "__main__":
    store = Store(sys.argv[1])
    alone = read(store)
    for method, count in (("fork", 3), ("spawn", 1)):
        with multiprocessing.get_context(method).Pool(count) as pool:
            assert all(found == alone for found in pool.map(read, [store] * count))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=read, args=(store,)) for _ in range(3)]  # the store itself is inherited
    for child in children:
        child.start()
    assert read(store) == alone
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of Unix")
def test_several_processes_read_one_store_at_once(tmp_path):
    (tmp_path / "read.py").write_text(READ)
    command = [sys.executable, str(tmp_path / "read.py"), str(write_store(tmp_path / "s.h5"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_few_clips_are_read_without_the_rest_of_the_file(tmp_path, monkeypatch):
    path = write_store(tmp_path / "s.h5", [make_record(i) for i in range(150)])
    with Store(path) as store:
        pieces = []
        monkeypatch.setattr(h5py.Dataset, "__getitem__", watched(pieces))
        store.load([3, 140, 2])
    assert max(pieces) <= 12


def watched(pieces):
    original = h5py.Dataset.__getitem__

    def read(self, key, **options):
        values = original(self, key, **options)
        pieces.append(len(values))
        return values

    return read


FULL_DISK = """
import resource, signal, sys
from neuroav.checks import OutputError
from neuroav.data.store import StoreWriter
sys.path.insert(0, sys.argv[1])
from test_store import make_record, open_writer
import pathlib
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = pathlib.Path("s.h5")
ends = [(30_000, limit) for limit in range(500, 8001, 500)]  # wherever the finished store is cut
for limit, limit_at_the_end in [(0, 0), (10, 10), (9000, 9000), *ends]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with open_writer(path) as writer:
            for i in range(9):
                if f"clip-{i}" not in writer.done:
                    writer.write(make_record(i))
                    print(limit, i)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_at_the_end, resource.RLIM_INFINITY))
    except OutputError as error:
        print("error:", error)
"""


def test_a_full_disk_is_said_and_the_same_command_goes_on(tmp_path):
    pytest.importorskip("resource", reason="limits of a process are of Unix")
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, here], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    errors = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    said = "expected a place to write the whole file to, got File too large. Make room there, then run the same command"
    assert len(errors) == 3 + 16
    assert all(said in line for line in errors)
    written = [int(line.split()[1]) for line in done.stdout.splitlines() if not line.startswith("error:")]
    assert written == list(range(9))  # none was lost, none was written twice
    assert [item.name for item in tmp_path.iterdir()] == ["s.h5.partial"]
    with open_writer(tmp_path / "s.h5") as writer:
        assert len(writer.done) == 9
    assert (tmp_path / "s.h5").read_bytes() == write_store(tmp_path / "whole.h5").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users are of Unix")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    code = (
        "import os, sys, h5py\nsys.path.insert(0, sys.argv[1])\nfrom test_store import open_writer\n"
        "os.chmod('.', 0o555)\n"
        "if os.getuid() == 0:\n    os.seteuid(65534)\n"
        "open_writer('s.h5')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        "OutputError: s.h5.partial: expected a place to write the whole file to, got Permission denied" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_flipped_bytes_never_pass_unseen(tmp_path):
    path = write_store(tmp_path / "s.h5")
    whole = path.read_bytes()
    with h5py.File(path) as file:
        first = file["video"].id.get_chunk_info(0)
    for place in range(first.byte_offset, first.byte_offset + first.size, 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with Store(path) as store, pytest.raises(InputError, match="damaged"):
            store.verify()


def test_a_folder_is_no_store_to_write_or_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", "", str(tmp_path)):
        with pytest.raises(InputError, match="a file to write, got a folder"):
            StoreWriter(name, class_names=["a"], class_vectors=np.zeros((1, 2), np.float32))
        with pytest.raises(InputError, match="a folder"):
            Store(name)
