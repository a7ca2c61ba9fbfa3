"""Class vectors are found by name, never by position; what can't be read is refused with a remedy."""

from pathlib import Path

import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.data.vectors import ClassVectors, read_vectors

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
NAMES = ["Long jump", "playing violin, fiddle", "people sneezing", "Archery", "T.V.", "TV"]


def known():
    return ClassVectors(NAMES, np.eye(len(NAMES), dtype=np.float32))


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("Archery", 3), ("archery", 3), ("LongJump", 0), ("long_jump", 0), ("playing violin (fiddle)", 1), ("TV", 5)],
)
def test_a_name_finds_its_own_row(asked, meant):
    np.testing.assert_array_equal(known().rows([asked])[0], np.eye(len(NAMES))[meant])


def test_rows_come_in_the_order_asked_for():
    assert known().rows(["Archery", "Long jump", "archery"]).argmax(axis=1).tolist() == [3, 0, 3]


def test_an_ambiguous_spelling_is_refused():
    with pytest.raises(InputError, match=r"several alike: \['T.V.', 'TV'\]"):
        known().find("t v")


@pytest.mark.parametrize(("asked", "near"), [("Archry", "Archery"), ("people sneezes", "people sneezing")])
def test_a_class_without_a_vector_names_the_nearest(asked, near):
    with pytest.raises(InputError, match=f"vector for class '{asked}', got none among 6 names. Did you mean '{near}'"):
        known().find(asked)


def test_a_name_of_punctuation_matches_nothing():
    with pytest.raises(InputError, match="none among"):
        ClassVectors(["--", "a"], np.eye(2)).find("..")


def test_reading_gives_names_and_float32_rows(tmp_path):
    path = save(tmp_path / "v.npz", names=np.array(NAMES), vectors=np.arange(12.0).reshape(6, 2), more=np.ones(1))
    found = read_vectors(path)
    assert found.names == NAMES
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, np.arange(12).reshape(6, 2))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"names": np.array(["a", "b"], object), "vectors": np.eye(2)}, r"Object arrays.*np.array\(names, dtype=str\)"),
        ({"names": np.array([b"a", b"b"]), "vectors": np.eye(2)}, r"names as text, got dtype \|S1"),
        ({"names": np.array(["a", "b"]), "vectors": np.eye(3)}, r"vectors of shape \(2, D\), got \(3, 3\)"),
        ({"names": np.array(["a", "a"]), "vectors": np.eye(2)}, "'a' more than once"),
        ({"names": np.array(["a", "b"]), "vectors": np.array([[1, 2], [np.nan, 0]])}, "NaN or infinity in that of 'b'"),
        ({"names": np.array(["a", "b"]), "vectors": np.array([["1"], ["2"]])}, "vectors as numbers"),
        ({"names": np.array(["a", "b"])}, "got arrays names"),
    ],
)
def test_arrays_that_are_no_class_vectors_are_refused(tmp_path, arrays, text):
    with pytest.raises(InputError, match=text):
        read_vectors(save(tmp_path / "v.npz", **arrays))


def test_files_that_are_no_archive_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_vectors(tmp_path / "v.npz")
    np.save(tmp_path / "v.npy", np.eye(2))
    with pytest.raises(InputError, match=r"no \.npz archive"):
        read_vectors(tmp_path / "v.npy")
    whole = save(tmp_path / "w.npz", names=np.array(["a"]), vectors=np.eye(1)).read_bytes()
    (tmp_path / "w.npz").write_bytes(whole.replace(b"NUMPY", b"NUMPX"))
    with pytest.raises(InputError, match="can't be read"):
        read_vectors(tmp_path / "w.npz")


@pytest.mark.parametrize(("name", "count"), [("ucf", 101), ("activity", 200), ("vggsound", 309)])
def test_published_vectors_are_read(name, count):
    path = SHARED / "data" / "w2v" / f"{name}_w2v.npz"
    if not path.exists():
        pytest.skip(f"no {path}")
    found = read_vectors(path)
    assert len(found.names) == count
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
