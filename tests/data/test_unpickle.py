"""The reader of pickles: equal to the ordinary unpickler on data, and deaf to files that try anything else."""

import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroav.checks import InputError
from neuroav.data.unpickle import load_object_npy, load_pickle, unpickle

PROTOCOLS = range(6)
ARRAYS = [
    np.arange(12, dtype="<f4").reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=">f8").reshape(3, 4)),
    np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::2],
    np.array([True, False]),
    np.array([1 + 2j], np.complex64),
    np.array(["ä", "long text"]),
    np.array([b"v_1", b"v_22"]),
    np.zeros((0, 5), np.float32),
    np.array(7, np.uint8),
    np.array([None, "x", [1.5]], dtype=object),
]


def same(one, two):
    if isinstance(two, np.ndarray):
        assert one.dtype == two.dtype
        assert one.shape == two.shape
        if two.dtype == object:
            return all(same(a, b) for a, b in zip(one.flat, two.flat, strict=True))
        return bool((one == two).all())
    if isinstance(two, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    if isinstance(two, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in two)
    return type(one) is type(two) and one == two


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back_from_every_protocol(array, protocol):
    content = pickle.dumps({"features": [array, array], "again": array}, protocol)
    assert same(unpickle(content, "x"), {"features": [array, array], "again": array})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.binary(max_size=4), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_plain_values_come_back_from_every_protocol(value, protocol):
    assert same(unpickle(pickle.dumps(value, protocol), "x"), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_come_back(protocol):
    values = [np.float32(1.5), np.int64(-3), np.bytes_(b"v_a"), np.str_("ü"), np.bool_(True)]
    assert same(unpickle(pickle.dumps(values, protocol), "x"), values)


def test_byte_strings_of_python_2_are_latin_1():
    """Written by hand as Python 2 does: {'video_names': ['v\\xe4', 'w']} and a float array of protocol 2."""
    by_name = b"(dp0\nS'video_names'\np1\n(lp2\nS'v\\xe4'\np3\naS'w'\np4\nas."
    assert unpickle(by_name, "x") == {"video_names": ["vä", "w"]}
    assert unpickle(rb"""S'\\ \' " \n\r\t \x00\xff' """ + b"\n.", "x") == "\\ ' \" \n\r\t \0\xff"
    with pytest.raises(InputError, match="a damaged one"):
        unpickle(rb"S'\q'" + b"\n.", "x")
    data = np.array([1.5, -2.0], "<f4").tobytes()
    array = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01bq\x03\x87Rq\x04"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x08" + data + b"tb."
    )
    np.testing.assert_array_equal(unpickle(array, "x"), np.array([1.5, -2.0], "f4"))
    assert same(pickle.loads(array, encoding="latin1"), unpickle(array, "x"))  # noqa: S301 - written above


def test_arrays_of_a_file_are_views_that_cannot_be_written(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.zeros(1 << 20)))
    tracemalloc.start()
    array = load_pickle(tmp_path / "a.pkl")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


# ------------------------------------------------------------------------------------------------------ hostile files


class Call:
    """Pickled as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


class State:
    """Pickled as an array that is given ``state`` by ``__setstate__``."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        function, arguments, _ = np.zeros(1).__reduce__()
        return function, arguments, self.state


def global_call(module, name, argument):
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


MARK = "import pathlib; pathlib.Path('ran').touch()"
HOSTILE = {
    "posix.system": pickle.dumps(Call(os.system, "touch ran")),
    "os.system": global_call("os", "system", "touch ran"),
    "builtins.eval": pickle.dumps(Call(eval, f"exec({MARK!r})")),
    "builtins.exec": pickle.dumps(Call(exec, MARK)),
    "__builtin__.eval": global_call("__builtin__", "eval", "1"),
    "builtins.getattr": pickle.dumps(Call(getattr, np.zeros(1), "tofile")),
    "builtins.open": global_call("builtins", "open", "ran"),
    "subprocess.Popen": pickle.dumps(Call(subprocess.Popen, ["touch", "ran"])),
    "numpy.load": global_call("numpy", "load", "evil.npy"),
    "numpy.core.multiarray.fromfile": global_call("numpy.core.multiarray", "fromfile", "ran"),
    "numpy.testing.rundocs": global_call("numpy.testing", "rundocs", "evil.py"),
    "numpy.testing._private.utils.runstring": global_call("numpy.testing._private.utils", "runstring", MARK),
    "numpy.f2py.compile": global_call("numpy.f2py", "compile", MARK),
    "numpy.__builtins__": b"cnumpy\n__builtins__\n.",
    "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "torch._utils._rebuild_tensor_v2": global_call("torch._utils", "_rebuild_tensor_v2", "x"),
    "copyreg._reconstructor": global_call("copyreg", "_reconstructor", "x"),
    "pathlib.PosixPath": pickle.dumps(Path("x")),
    "collections.OrderedDict": b"ccollections\nOrderedDict\n)R.",
    "os.popen": b"(S'touch ran'\nios\npopen\n.",
}
# Names that are admitted, in uses that no published file has.
TRICKS = {
    "a call of _reconstruct": pickle.dumps(Call(np.zeros(1).__reduce__()[0], np.ndarray, (10**12,), b"b")),
    "the opcode NEWOBJ": b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.",
    "the opcode BINPERSID": b"K\x01Q.",
    "the opcode EXT1": b"\x80\x02\x82\x01.",
    "the opcode NEXT_BUFFER": b"\x80\x05\x97.",
    "the opcode EMPTY_SET": pickle.dumps({1, 2}, 4),
    "builtins.set": pickle.dumps({1, 2}, 3),
    "a call of tuple": b"K\x01\x85K\x02\x85R.",
    "a call of ndarray": b"cnumpy\nndarray\n(K\x01tR.",
    "a call of dtype": pickle.dumps(Call(np.dtype, [("f", "f4")])),
    "a call of encode": b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
    "a bare ndarray": b"]cnumpy\nndarray\na.",
    "a state for dict": b"}}b.",
    "a state for _Named": b"cnumpy\nndarray\n}b.",
    "an array that is used before": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R2.",
    "a dict with a key of type int": pickle.dumps({1: 2}),
    "items for dict in place of a list": b"}K\x01a.",
    "another state of an array": pickle.dumps(State({"__class__": "x"})),
    "the dtype 'V8'": pickle.dumps(np.zeros(1, "V8")),
    "a structured dtype": pickle.dumps(np.zeros(1, [("f", "f4")])),
    "the dtype 'M8'": pickle.dumps(np.zeros(1, "M8[s]")),
    "protocol 6": b"\x80\x06N.",
}


@pytest.mark.parametrize(("found", "content"), HOSTILE.items(), ids=HOSTILE)
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, monkeypatch, found, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(content)
    with pytest.raises(InputError, match=f"got {re.escape(found)}. No code of the file was run"):
        load_pickle(tmp_path / "evil.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pkl"]


@pytest.mark.parametrize("place", ["in a list", "as an argument", "as a state", "in an object array"])
def test_code_is_refused_wherever_it_hides(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    evil = Call(os.system, "touch ran")
    hidden = {
        "in a list": {"features": [evil]},
        "as an argument": Call(np.dtype, evil),
        "as a state": State((1, (1,), np.dtype("f8"), False, evil)),
        "in an object array": np.array([evil], dtype=object),
    }[place]
    for protocol in PROTOCOLS:
        with pytest.raises(InputError, match=r"got posix\.system\."):
            unpickle(pickle.dumps(hidden, protocol), "x")
    assert list(tmp_path.iterdir()) == []


def test_the_hostile_files_do_run_code_in_the_ordinary_unpickler(tmp_path):
    """Or the tests above would pass with harmless files."""
    (tmp_path / "evil.pkl").write_bytes(HOSTILE["builtins.exec"])
    subprocess.run([sys.executable, "-m", "pickle", "evil.pkl"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(("found", "content"), TRICKS.items(), ids=TRICKS)
def test_admitted_names_do_nothing_but_build_arrays(found, content):
    with pytest.raises(InputError, match=f"got {re.escape(found)}"):
        unpickle(content, "x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"(N.",
        b"0.",
        b"h\x07.",
        b"\xff.",
        b"t.",
        b"\x86.",
        b"S'open\n.",
        b"I12x\n.",
        b"\x8d" + struct.pack("<Q", 2**63) + b"x.",
        b"B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"L" + b"9" * 100_000 + b"L\n.",
        pickle.dumps(np.arange(50))[:-9],
        pickle.dumps(np.arange(3, dtype="u1")).replace(b"\x00\x01\x02", b"\x00\x01", 1).replace(b"C\x03", b"C\x02", 1),
    ],
)
def test_a_damaged_pickle_is_called_so(content):
    with pytest.raises(InputError, match=r"x: expected a pickle of .*, got a damaged one"):
        unpickle(content, "x")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_anywhere_is_refused(protocol):
    content = pickle.dumps({"features": [np.arange(6.0).reshape(2, 3)], "video_names": [b"a"], "fps": [25]}, protocol)
    for cut in range(len(content)):
        with pytest.raises(InputError):
            unpickle(content[:cut], "x")


def amplified(build, repeats=20_000):
    """A megabyte of text kept in the memo and copied again and again."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20)
    return b"\x80\x02" + text + b"q\x00" + build[0] + b"]" + (build[1] + b"a") * repeats + b"."


@pytest.mark.parametrize(
    "content",
    [
        amplified((b"0c_codecs\nencode\nq\x01Vlatin1\nq\x02", b"h\x01h\x00h\x02\x86R")),
        amplified(
            (
                b"0cnumpy.core.multiarray\nscalar\nq\x01cnumpy\ndtype\nVS1048576\n\x85R(K\x03V|\nNNNK\x00K\x00K\x00tbq\x02",
                b"h\x01h\x02h\x00\x86R",
            )
        ),
    ],
    ids=["encode", "scalar"],
)
def test_what_is_copied_is_bounded_by_the_length_of_the_file(content):
    tracemalloc.start()
    with pytest.raises(InputError, match="more data than its length can hold"):
        unpickle(content, "x")
    assert tracemalloc.get_traced_memory()[1] < 12 * len(content)
    tracemalloc.stop()


def test_a_shape_without_its_bytes_takes_no_memory():
    honest = pickle.dumps(np.zeros((2, 3), np.float32), 2)
    mark = honest.index(b"K\x02K\x03\x86")
    for side in (10**6, 10**18, -1):
        shape = pickle.dumps((side, side), 2)[2:-1]
        shape = shape[: shape.index(b"q")] if b"q" in shape else shape
        with pytest.raises(InputError, match=r"do not fill their array|a shape that is none"):
            unpickle(honest[:mark] + shape + honest[mark + 5 :], "x")


def test_deep_nesting_is_no_recursion():
    content = b"]" * 200_000 + b"a" * 199_999 + b"."
    assert isinstance(unpickle(content, "x"), list)
    lists = b"]" + b"2\x86q\x00" * 60 + b"h\x00."  # each a pair of the one before: 2^60 leaves in 240 bytes
    with pytest.raises(InputError, match="ends in the middle"):
        unpickle(lists, "x")


# ---------------------------------------------------------------------------------------------------------- .npy files


def test_object_npy_files_are_read_as_numpy_reads_them(tmp_path):
    path = tmp_path / "a.npy"
    for value in [{"a b": np.arange(3, dtype="f4")}, [1, 2], None]:
        for shape in [(), (1,), (2, 1)]:
            array = np.empty(shape, object)
            for place in np.ndindex(shape):
                array[place] = value
            np.save(path, array)
            assert same(load_object_npy(path), np.load(path, allow_pickle=True))


def test_other_npy_files_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.eye(2))
    with pytest.raises(InputError, match="of Python objects"):
        load_object_npy(path)
    np.save(path, np.array([1, None], dtype=object))
    whole = path.read_bytes()
    for content, match in [
        (b"", "an .npy file, got"),
        (b"PK\x03\x04 zip file", "an .npy file, got"),
        (whole[:60], "damaged header"),
        (whole.replace(b"(2,)", b"(3,)"), "an array of objects of shape"),
        (whole.replace(b"'|O'", b"'<f8'"), "damaged header"),
        (whole[:128] + HOSTILE["builtins.exec"], "got builtins.exec"),
        (whole[:128] + pickle.dumps({}), "something else"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=match):
            load_object_npy(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.pkl: expected a file, got no such file"):
        load_pickle(tmp_path / "a.pkl")
    with pytest.raises(InputError, match="got a folder"):
        load_object_npy(tmp_path)
