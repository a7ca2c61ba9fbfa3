"""Pickles of published features, read without the unpickler: a machine that can build data and call nothing.

What it builds: numpy arrays and scalars of numbers, text and bytes, object arrays, ``bytes``, ``str``, ``int``,
``float``, ``bool``, ``None``, lists, tuples and dicts with text or bytes as keys, of protocols 0 to 5, with the module
names of every numpy, and the byte strings of Python 2 (read as latin-1). A name of anything else is refused before it
is looked up, so no code of a file ever runs. Arrays are read-only views of the file's bytes, and what has to be copied
is bounded by a multiple of the file's length.
"""

from __future__ import annotations

import math
import mmap
import os
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neuroav.checks import fail

_WHAT = "a pickle of numpy arrays, numbers, text, bytes, lists and dicts"
_REMEDY = "No code of the file was run. If you trust it, write its arrays anew with numpy.savez."
_MAX_DIMENSIONS = 32
_COPIES = 4  # bytes that may be copied for each byte of the file
_SPARE_BYTES = 1 << 20
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_ADMITTED = {
    **{(module, name): name for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    **{(module, "_frombuffer"): "_frombuffer" for module in _NUMERIC},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
}
_DTYPE = re.compile(r"[biufcSU]\d{1,9}")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_LONG_BYTES = {"BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_PYTHON2_STRINGS = {"BINSTRING", "SHORT_BINSTRING"}
_NPY_HEADER = re.compile(rb"\{'descr': '\|O', 'fortran_order': (?:True|False), 'shape': \(([\d, ]*)\), \} *\n")


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Something that no published file holds; the text names it."""


class _Named:
    """One of the admitted names; never the function or class itself."""

    def __init__(self, name: str):
        self.name = name


class _Unbuilt:
    """An array (``dtype`` is None) or dtype that still waits for its state, and where the memo keeps it."""

    def __init__(self, dtype: str | None = None):
        self.dtype = dtype
        self.memo_keys: list[int] = []


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle file that holds data only; see the module for what is admitted.

    The file is mapped, not read: its arrays are views that load their pages when they are used. Bytes longer than 255
    are memory views.

    Raises:
        InputError: If the file is missing or damaged, or names anything else, which the text gives as ``module.name``.

    Example:
        >>> import pickle, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.pkl"
        >>> _ = path.write_bytes(pickle.dumps({"features": [np.arange(3)], "fps": [25]}))
        >>> load_pickle(path)
        {'features': [array([0, 1, 2])], 'fps': [25]}
    """
    return unpickle(_mapped(Path(path)), str(path))


def load_object_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an ``.npy`` file whose array of objects holds data only; see the module for what is admitted.

    Raises:
        InputError: As :func:`load_pickle`, and if the array is not one of objects.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npy"
        >>> np.save(path, np.array({"dog": [1.0]}, dtype=object))
        >>> load_object_npy(path).item()
        {'dog': [1.0]}
    """
    content = _mapped(Path(path))
    where, head = str(path), bytes(content[:8])
    size = {b"\x01\x00": 2, b"\x02\x00": 4}.get(head[6:])
    if not head.startswith(b"\x93NUMPY") or size is None:
        raise fail(where, "an .npy file", "another kind of file")
    end = 8 + size + int.from_bytes(content[8 : 8 + size], "little")
    header = _NPY_HEADER.fullmatch(bytes(content[8 + size : min(end, 1 << 12)]))
    if header is None:
        found = "another one, or a damaged header"
        raise fail(where, "an .npy file of Python objects", found, "Plain arrays are read with numpy.load.")
    array = unpickle(content[end:], where)
    shape = tuple(int(text) for text in header[1].split(b",") if text.strip())
    if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape:
        raise fail(where, f"an array of objects of shape {shape}", "something else", "The file is damaged.")
    return array


def unpickle(content: bytes | memoryview, where: str) -> Any:
    """Build what a pickle describes; errors name ``where``.

    Raises:
        InputError: See :func:`load_pickle`.
    """
    try:
        return _Machine(memoryview(content)).run()
    except _Refused as error:
        raise fail(where, _WHAT, str(error), _REMEDY) from None
    except (ValueError, TypeError, LookupError, OverflowError, struct.error, MemoryError) as error:
        text = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise fail(where, _WHAT, f"a damaged one ({text})", "Fetch or write the file again.") from error


def _mapped(path: Path) -> memoryview:
    if not path.is_file():
        raise fail(str(path), "a file", "a folder" if path.is_dir() else "no such file")
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Source:
    """The file as pickletools reads it: ``read`` and ``readline``."""

    def __init__(self, content: memoryview):
        self.content, self.at = content, 0

    def view(self, size: int) -> memoryview:
        piece = self.content[self.at : self.at + size]
        if len(piece) < size:
            raise ValueError("it ends too soon")
        self.at += size
        return piece

    def read(self, size: int) -> bytes:
        return bytes(self.view(size))

    def readline(self) -> bytes:
        pieces: list[bytes] = []
        while not pieces or b"\n" not in pieces[-1]:
            if self.at == len(self.content):
                raise ValueError("it ends too soon")
            pieces.append(self.view(min(256, len(self.content) - self.at)).tobytes())
        line, _, rest = b"".join(pieces).partition(b"\n")
        self.at -= len(rest)
        return line + b"\n"


class _Machine:
    """The pickle machine reduced to data: an opcode without a method of its name is refused."""

    def __init__(self, content: memoryview):
        self.source = _Source(content)
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left_bytes = _COPIES * len(content) + _SPARE_BYTES
        self.num_unbuilt = 0

    def run(self) -> Any:
        while True:
            opcode = _OPCODES.get(chr(self.source.view(1)[0]))
            if opcode is None:
                raise ValueError("an unknown opcode")
            if opcode.name == "STOP":
                break
            step: Callable[[Any], None] | None = getattr(self, f"_do_{opcode.name.lower()}", None)
            if step is not None:
                step(self._argument(opcode))
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _LITERALS:
                self.stack.append(self._argument(opcode))
            else:
                raise _Refused(f"the opcode {opcode.name}")
        if self.num_unbuilt or self.marked or len(self.stack) != 1:
            raise ValueError("it ends in the middle")
        _check_plain(self.stack[0])
        return self.stack[0]

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        if opcode.arg is None:
            return None
        if opcode.name in _LONG_BYTES:
            return self.source.view(int.from_bytes(self.source.read(4 if opcode.name == "BINBYTES" else 8), "little"))
        if opcode.name in _PYTHON2_STRINGS:
            size = int.from_bytes(self.source.read(4 if opcode.name == "BINSTRING" else 1), "little")
            return self.source.read(size).decode("latin-1")
        if opcode.name == "STRING":
            text = self.source.readline().rstrip()
            if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
                raise ValueError("a string without quotes")
            return _ESCAPE.sub(_unescaped, text[1:-1]).decode("latin-1")
        if opcode.name in ("GLOBAL", "INST"):
            return " ".join(self.source.readline().strip().decode() for _ in range(2))
        return opcode.arg.reader(self.source)  # type: ignore[arg-type]

    def _charge(self, size: int) -> None:
        """Count what is copied: a value named again and again must not fill the memory."""
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise _Refused("more data than its length can hold")

    def _pop_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    # ---------------------------------------------------------------------------------------- stack, memo, containers

    def _do_proto(self, version: int) -> None:
        if version > 5:
            raise _Refused(f"protocol {version}")

    def _do_frame(self, size: int) -> None:
        """Frames only say how far to read ahead."""

    def _do_mark(self, _: None) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _do_pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_marked()

    def _do_pop_mark(self, _: None) -> None:
        self._pop_marked()

    def _do_dup(self, _: None) -> None:
        self.stack.append(self._repeatable(self.stack[-1]))

    def _do_memoize(self, _: None) -> None:
        self._do_put(len(self.memo))

    def _do_put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]
        if isinstance(self.stack[-1], _Unbuilt):
            self.stack[-1].memo_keys.append(key)

    def _do_get(self, key: int) -> None:
        self.stack.append(self._repeatable(self.memo[key]))

    _do_binput = _do_long_binput = _do_put
    _do_binget = _do_long_binget = _do_get

    @staticmethod
    def _repeatable(value: Any) -> Any:
        if isinstance(value, _Unbuilt):
            raise _Refused("an array that is used before it is complete")
        return value

    def _do_tuple(self, _: None) -> None:
        items = self._pop_marked()
        self.stack.append(tuple(items))

    def _do_list(self, _: None) -> None:
        items = self._pop_marked()
        self.stack.append(items)

    def _do_dict(self, _: None) -> None:
        items = self._pop_marked()
        self.stack.append({})
        self._set_items(items)

    def _do_tuple1(self, _: None) -> None:
        self._tuple_of(1)

    def _do_tuple2(self, _: None) -> None:
        self._tuple_of(2)

    def _do_tuple3(self, _: None) -> None:
        self._tuple_of(3)

    def _tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("a tuple of more than there is")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def _do_append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _do_appends(self, _: None) -> None:
        self._extend(self._pop_marked())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _Refused(f"items for {type(self.stack[-1]).__name__} in place of a list")
        self.stack[-1].extend(items)

    def _do_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _do_setitems(self, _: None) -> None:
        self._set_items(self._pop_marked())

    def _set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise _Refused(f"pairs for {type(self.stack[-1]).__name__} in place of a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes):
                raise _Refused(f"a dict with a key of type {type(key).__name__}")
            self.stack[-1][key] = value

    # ------------------------------------------------------------------------------------------------ names and calls

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_named(module, name)

    def _do_inst(self, argument: str) -> None:
        raise _Refused(argument.replace(" ", "."))

    def _do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._push_named(module, name)

    def _push_named(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        if (module, name) not in _ADMITTED:
            raise _Refused(f"{module}.{name}"[:200])
        self.stack.append(_Named(_ADMITTED[module, name]))

    def _do_reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Named) or type(arguments) is not tuple:
            raise _Refused(f"a call of {type(function).__name__}")
        match function.name, arguments:
            case "_reconstruct", (_Named(name="ndarray"), (0,), b"b" | "b"):
                self._push_unbuilt(_Unbuilt())
            case "dtype", (str(text), *_):
                self._push_unbuilt(_Unbuilt(text))
            case "scalar", (np.dtype() as dtype, data):
                self.stack.append(self._array(dtype, (), False, data)[()])
            case "_frombuffer", (data, np.dtype() as dtype, tuple(shape), "C" | "F" as order):
                self.stack.append(self._array(dtype, shape, order == "F", data))
            case "encode", (str(text), "latin1" | "latin-1"):
                self._charge(len(text))
                self.stack.append(text.encode("latin-1"))
            case "bytes", ():
                self.stack.append(b"")
            case _:
                raise _Refused(f"a call of {function.name} with other arguments")

    def _push_unbuilt(self, value: _Unbuilt) -> None:
        self.num_unbuilt += 1
        self.stack.append(value)

    def _do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, _Unbuilt):
            raise _Refused(f"a state for {type(target).__name__}")
        match target.dtype, state:
            case str(text), (int(), str(order), None, None, None, *_):
                built: Any = _dtype(text, order)
            case None, (int(), tuple(shape), np.dtype() as dtype, bool() | int() as fortran, data):
                built = self._array(dtype, shape, bool(fortran), data)
            case _:
                raise _Refused("a structured dtype" if target.dtype else "another state of an array")
        for key in target.memo_keys:
            if self.memo[key] is target:
                self.memo[key] = built
        self.num_unbuilt -= 1
        self.stack.append(built)

    def _array(self, dtype: np.dtype, shape: tuple[Any, ...], fortran: bool, data: Any) -> np.ndarray:
        """An array of exactly ``data``."""
        if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("a shape that is none")
        count = math.prod(shape)
        order: Literal["C", "F"] = "F" if fortran else "C"
        if dtype.kind == "O":
            if type(data) is not list or len(data) != count:
                raise ValueError("objects that do not fill their array")
            self._charge(8 * count)
            objects = np.empty(count, object)
            for i, value in enumerate(data):
                objects[i] = value
            return objects.reshape(shape, order=order)
        if isinstance(data, str):
            self._charge(len(data))
            data = data.encode("latin-1")
        if not isinstance(data, bytes | memoryview) or len(data) != count * dtype.itemsize:
            raise ValueError("bytes that do not fill their array")
        flat = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
        if dtype.kind == "U" and count:
            _check_text(flat)
        self._charge(dtype.itemsize if shape == () else 0)
        return flat.reshape(shape, order=order)


_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", *_LONG_BYTES, *_PYTHON2_STRINGS),
}


def _unescaped(match: re.Match[bytes]) -> bytes:
    """The byte that an escape of Python 2's ``repr`` stands for."""
    if match[1]:
        return bytes([int(match[1], 16)])
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\", b"'": b"'", b'"': b'"'}[match[2]]


def _dtype(text: str, order: str) -> np.dtype:
    """The dtype of ``text`` such as ``f4`` in byte order ``order``."""
    if text in ("O", "O4", "O8"):
        return np.dtype(object)
    dtype = np.dtype(f"{order}{text}") if _DTYPE.fullmatch(text) and order in ("<", ">", "|", "=") else None
    if dtype is None or dtype.itemsize == 0:
        raise _Refused(f"the dtype {text[:40]!r}")
    return dtype


def _check_text(values: np.ndarray) -> None:
    codes = values.view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
    if codes.max() > 0x10FFFF:
        raise ValueError("text that is none")


def _check_plain(value: Any) -> None:
    """Refuse a name or an unfinished array that was left among the data."""
    pending, visited = [value], set()
    while pending:
        item = pending.pop()
        if isinstance(item, _Named | _Unbuilt):
            raise _Refused(f"a bare {getattr(item, 'name', 'array')}")
        if isinstance(item, list | tuple | dict | np.ndarray) and id(item) not in visited:
            visited.add(id(item))
            if not isinstance(item, np.ndarray):
                pending.extend(item.values() if isinstance(item, dict) else item)
            elif item.dtype.kind == "O":
                pending.extend(item.flat)
