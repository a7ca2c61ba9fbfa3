"""Class vectors out of files of word vectors: word2vec, GloVe and fastText, text or binary, and NumPy archives.

Only the vectors of the words asked for are ever held, so a file of three million words needs no more memory than one of
three. The published class vectors are fastText's for the whole phrase, of unit length [avca]; a ``.bin`` of
fastText gives the same. The other files know words: a phrase they don't hold as one entry is the mean of its words.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from neuroav.checks import fail, nearest
from neuroav.data.unpickle import load_object_npy
from neuroav.data.vectors import ClassVectors, checked_vectors, read_vectors

KINDS = "word vectors (word2vec, GloVe or fastText, text or binary, .gz too), an .npz, or an .npy of a dict"
_FASTTEXT = struct.pack("<i", 793712314)
_BLOCK = 1 << 20
_LONGEST = 1 << 20  # bytes of a word, or of a line of text
_DAMAGED = "Fetch or unpack the file again."

Entry = tuple[bytes, bytes]  # a word and its numbers, as bytes of the file


@dataclass(frozen=True)
class PhraseVector:
    """The vector of a phrase.

    Attributes:
        source: What of the file it is made of, such as ``"Long_jump"``, or ``"long + jump"`` for a mean.
        values: ``(D,)`` float32, dimensionless.
    """

    source: str
    values: np.ndarray


def find_vectors(path: str | os.PathLike[str], phrases: Iterable[str]) -> dict[str, PhraseVector]:
    """Read the vector of every phrase from a file of word vectors or class vectors.

    What the file is, is told by its content. An entry for the whole phrase comes first: as written, in lower case, or
    its words joined by ``_``. Else the phrase is the mean of its words, each as written or in lower case; words end at
    spaces, punctuation, and where a capital follows a small letter. A fastText ``.bin`` gives every phrase a vector of
    its own from its letters. Vectors from files of words have unit length, those of NumPy files are left as they are.

    Args:
        path: word2vec or GloVe as text, word2vec binary, fastText ``.vec`` or ``.bin``, the first three gzipped or
            alone in a zip too; an ``.npz``, see :func:`neuroav.data.vectors.read_vectors`; an ``.npy`` of a dictionary
            from names to vectors; or the folder of a Hugging Face text encoder, which is shown each whole phrase.
        phrases: Class names or other words.

    Raises:
        InputError: If the file is missing, damaged or something else, a vector is not finite, or a word is not in it,
            which names the nearest.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "words.txt"
        >>> _ = path.write_text("playing 3 0\\nflute 0 3\\n")
        >>> found = find_vectors(path, ["playing flute"])["playing flute"]
        >>> found.source, found.values.round(2).tolist()
        ('playing + flute', [0.7099999785423279, 0.7099999785423279])
    """
    where, unique = str(path), list(dict.fromkeys(phrases))
    if Path(path, "config.json").is_file():
        from neuroav.data.encoders.huggingface import text_vectors

        values = text_vectors(where, unique)
        return {p: _unit(where, PhraseVector(p, v)) for p, v in zip(unique, values, strict=True)}
    if not Path(path).is_file():
        raise fail(where, KINDS, "a folder" if Path(path).is_dir() else "no such file")
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(_FASTTEXT):
        return {phrase: _unit(where, found) for phrase, found in _from_fasttext(where, unique).items()}
    known = _numpy_vectors(path, head)
    if known is not None:
        return {phrase: _among(known, where, phrase) for phrase in unique}
    return {phrase: _unit(where, found) for phrase, found in _from_words(where, head, unique).items()}


def phrase_words(phrase: str) -> list[str]:
    """Split a class name into its words.

    Example:
        >>> phrase_words("ApplyEyeMakeup"), phrase_words("playing violin, fiddle"), phrase_words("child's_play")
        (['Apply', 'Eye', 'Makeup'], ['playing', 'violin', 'fiddle'], ["child's", 'play'])
    """
    apart = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", phrase)
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", apart)


def _spellings(word: str) -> list[str]:
    return list(dict.fromkeys([word, word.lower()]))


def _whole(phrase: str) -> list[str]:
    """Ways in which a file may hold the phrase as one entry, the best first."""
    joined = "_".join(phrase_words(phrase))
    return list(dict.fromkeys([*_spellings(phrase), *_spellings(joined)]))


def _compose(phrase: str, look_up: Callable[[str], np.ndarray | None]) -> PhraseVector | list[str]:
    """Return the vector of a phrase, or the words that are missing for it."""
    for entry in _whole(phrase):
        if entry and (values := look_up(entry)) is not None:
            return PhraseVector(entry, values)
    words = phrase_words(phrase)
    entries = [next((one for one in _spellings(word) if look_up(one) is not None), None) for word in words]
    missing = [word for word, entry in zip(words, entries, strict=True) if entry is None]
    if missing or not words:
        return missing or [phrase]
    vectors = [values for entry in entries if entry is not None and (values := look_up(entry)) is not None]
    return PhraseVector(" + ".join(map(str, entries)), _mean(vectors))


def _mean(vectors: Sequence[np.ndarray]) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused later
        return np.stack(vectors).mean(axis=0, dtype=np.float64).astype(np.float32)


def _unit(where: str, found: PhraseVector) -> PhraseVector:
    """Check a vector and give it unit length, as the published class vectors have."""
    values = found.values.astype(np.float64)
    if not np.isfinite(values).all():
        raise fail(where, "finite vectors", f"NaN or infinity in that of {found.source!r}", _DAMAGED)
    norm = float(np.linalg.norm(values))
    if norm == 0:
        raise fail(where, "a vector that isn't zero", f"a zero one for {found.source!r}")
    return PhraseVector(found.source, (values / norm).astype(np.float32))


def _absent(where: str, phrase: str, missing: str, known: Iterable[str]) -> Exception:
    what = f"a vector for {phrase!r}" + (f", the mean of its words {phrase_words(phrase)}" if missing != phrase else "")
    remedy = f"{nearest(missing, known)} Write other words (for extract, into a column 'vector' of labels.csv).".strip()
    return fail(where, what, f"none for {missing!r}", remedy)


def _numpy_vectors(path: str | os.PathLike[str], head: bytes) -> ClassVectors | None:
    """Read an ``.npz`` or an ``.npy`` of a dictionary; ``None`` if the file is neither."""
    where = str(path)
    if head.startswith(b"PK"):
        with _unzipping(where), zipfile.ZipFile(path) as archive:
            members = archive.namelist()
        return read_vectors(path) if not members or any(name.endswith(".npy") for name in members) else None
    if head != b"\x93NUMPY":
        return None
    content = load_object_npy(path)
    table: Any = content.item() if content.ndim == 0 else content
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table):
        raise fail(where, "a dictionary from names to vectors", f"an array of shape {content.shape} of something else")
    rows = [np.asarray(values) for values in table.values()]
    if len({row.shape for row in rows}) > 1 or any(row.ndim != 1 or row.dtype.kind not in "fiu" for row in rows):
        raise fail(where, "vectors (D,) of numbers, equally long", "others", "Write the file again.")
    return checked_vectors(where, np.array(list(table)), np.stack(rows))


def _among(known: ClassVectors, where: str, phrase: str) -> PhraseVector:
    """Find a phrase among class vectors by its name, or by the names of all its words."""
    if not known.alike(phrase):
        rows = dict(zip(known.names, known.vectors, strict=True))
        composed = _compose(phrase, rows.get)
        if isinstance(composed, PhraseVector):
            return composed
        raise _absent(where, phrase, phrase, known.names)
    name = known.find(phrase)
    return PhraseVector(name, known.rows([name])[0])


@contextmanager
def _unzipping(where: str) -> Iterator[None]:
    """Tell what is wrong with a compressed file."""
    import zlib

    from isal.igzip_lib import IsalError

    damage: Any = (OSError, EOFError, zlib.error, IsalError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
    try:
        yield
    except damage as error:
        raise fail(where, "a compressed file that can be read", str(error) or type(error).__name__, _DAMAGED) from error


@contextmanager
def _opened(where: str, head: bytes) -> Iterator[IO[bytes]]:
    """Open a file of words for reading once, through gzip or zip where it is packed."""
    if head.startswith(b"\x1f\x8b"):
        from isal import igzip

        with _unzipping(where), igzip.open(where, "rb") as file:
            yield file
    elif head.startswith(b"PK"):
        with _unzipping(where), zipfile.ZipFile(where) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/")]
            if len(members) != 1:
                raise fail(where, "one file of word vectors in a zip", f"{len(members)}: {members[:3]}", "Unpack it.")
            with archive.open(members[0]) as file:
                yield file
    else:
        with open(where, "rb", buffering=_BLOCK) as file:
            yield file


def _from_words(where: str, head: bytes, phrases: Sequence[str]) -> dict[str, PhraseVector]:
    """Go through a word2vec or GloVe file once, keeping what the phrases can use."""
    wanted = {entry for phrase in phrases for entry in _whole(phrase)}
    wanted |= {entry for phrase in phrases for word in phrase_words(phrase) for entry in _spellings(word)}
    needed = {entry.encode(): entry for entry in wanted}
    held: dict[str, np.ndarray] = {}
    with _opened(where, head) as file:
        entries, numbers = _entries(where, file)
        for word, raw in entries:
            if word in needed and needed[word] not in held:
                held[needed[word]] = numbers(word, raw)
    found = {}
    for phrase in phrases:
        composed = _compose(phrase, held.get)
        if isinstance(composed, list):
            raise _absent(where, phrase, composed[0], _alike_words(where, head, composed[0]))
        found[phrase] = composed
    return found


def _alike_words(where: str, head: bytes, missing: str) -> list[str]:
    """Go through the file again for words worth comparing: same first letter, about as long."""
    initials, size = {missing[:1].lower(), missing[:1].upper()}, len(missing)
    with _opened(where, head) as file:
        names = (word.decode(errors="replace") for word, _ in _entries(where, file)[0])
        return [name for name in names if name[:1] in initials and abs(len(name) - size) <= 2]


def _entries(where: str, file: IO[bytes]) -> tuple[Iterator[Entry], Callable[[bytes, bytes], np.ndarray]]:
    """Tell the format by its start; return the entries, and what turns the bytes of one into numbers ``(D,)``."""
    first = file.readline(_LONGEST)
    if not first:
        raise fail(where, KINDS, "an empty file")
    header = re.fullmatch(rb"(\d+) (\d+)\s*", first)
    if header is None:
        dim = len(first.split()) - 1
        return _text_entries(where, file, first, None, dim), lambda word, raw: _parsed(where, word, raw, dim)
    count, dim = int(header[1]), int(header[2])
    if not (count and 0 < dim <= 1 << 16):
        raise fail(where, "a header 'words dimensions'", repr(first.decode()), _DAMAGED)
    start = file.read(4096)
    if re.search(rb"[\x00-\x08\x0e-\x1f]", start) is None:
        line = start + (b"" if b"\n" in start else file.readline(_LONGEST))
        return _text_entries(where, file, line, count, dim), lambda word, raw: _parsed(where, word, raw, dim)
    return _binary_entries(where, file, start, count, dim), lambda _, raw: np.frombuffer(raw, "<f4")


def _text_entries(where: str, file: IO[bytes], start: bytes, count: int | None, dim: int) -> Iterator[Entry]:
    """Yield the lines of a text file: the word, which may hold spaces, and its ``dim`` numbers."""
    number, word, raw = 0, b"", b""
    for number, line in enumerate(filter(None, _lines(where, file, start)), 1):
        if number == 1:
            _parsed(where, *_apart(line, dim), dim)
        if line.count(b" ") < dim:  # not even one space for each number
            raise fail(where, f"a word and {dim} numbers in every line", f"fewer in line {number}", _DAMAGED)
        word, raw = _apart(line, dim)
        yield word, raw
    if number:
        _parsed(where, word, raw, dim)
    if count is not None and number != count:
        raise fail(where, f"{count} words, as its header says", f"{number}", _DAMAGED)


def _apart(line: bytes, dim: int) -> Entry:
    """Split a line at its first space, or for a word that holds spaces before its last ``dim`` numbers."""
    if line.count(b" ") == dim:
        word, _, raw = line.partition(b" ")
        return word, raw
    fields = line.rsplit(b" ", dim)
    return fields[0], b" ".join(fields[1:])


def _lines(where: str, file: IO[bytes], start: bytes) -> Iterator[bytes]:
    """Yield lines without their ends, those of ``start`` first."""
    *whole, rest = start.split(b"\n")
    for line in whole:
        yield line.rstrip()
    line = rest + file.readline(_LONGEST)
    while line:
        if len(line) >= _LONGEST and not line.endswith(b"\n"):
            raise fail(where, KINDS, f"a line of more than {_LONGEST} bytes")
        yield line.rstrip()
        line = file.readline(_LONGEST)


def _parsed(where: str, word: bytes, raw: bytes, dim: int) -> np.ndarray:
    try:
        values = np.array(raw.split(), dtype=np.float64)
    except ValueError:
        values = np.empty(0, np.float32)
    if dim < 1 or values.shape != (dim,):
        what = f"a word and {max(dim, 1)} numbers"
        raise fail(where, KINDS, f"a line that isn't {what}, {word[:40].decode(errors='replace')!r}")
    return values


def _binary_entries(where: str, file: IO[bytes], start: bytes, count: int, dim: int) -> Iterator[Entry]:
    """Yield words and raw float32 numbers of a word2vec binary file."""
    size, buffer, at = 4 * dim, start, 0
    for number in range(count):
        while (space := buffer.find(b" ", at)) < 0 or len(buffer) < space + 1 + size:
            more = file.read(_BLOCK)
            if not more or (space < 0 and len(buffer) - at > _LONGEST):
                raise fail(where, f"{count} words, as its header says", f"damage after {number}", _DAMAGED)
            buffer, at = buffer[at:] + more, 0
        yield buffer[at:space].lstrip(b"\n"), buffer[space + 1 : space + 1 + size]
        at = space + 1 + size
    if (buffer[at:] + file.read(_BLOCK)).strip():
        raise fail(where, f"{count} words, as its header says", "more bytes after them", _DAMAGED)


@dataclass(frozen=True)
class _FastText:
    """Where things are in a mapped fastText model."""

    content: mmap.mmap
    first_row: int  # byte of the matrix of input vectors
    dim: int
    bucket: int
    lengths: tuple[int, int]  # of the groups of letters, shortest and longest
    num_words: int
    rows: dict[bytes, int]  # of the phrases that are words

    def vector(self, phrase: str) -> np.ndarray | None:
        """Return the mean of the phrase's own row, if it is a word, and those of its groups of letters."""
        word = phrase.encode()
        rows = [self.rows[word]] if word in self.rows else []
        if self.bucket:
            grams = letter_groups(phrase, *self.lengths)
            rows += [self.num_words + fasttext_hash(gram.encode()) % self.bucket for gram in grams]
        if not rows:
            return None
        at = [self.first_row + 4 * self.dim * row for row in rows]
        return _mean([np.frombuffer(self.content[start : start + 4 * self.dim], "<f4") for start in at])


def _from_fasttext(where: str, phrases: Sequence[str]) -> dict[str, PhraseVector]:
    with open(where, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            model = _fasttext_model(where, content, {phrase.encode() for phrase in phrases})
        except struct.error as error:
            found = f"one cut short after {len(content)} bytes"
            raise fail(where, "a whole fastText model", found, _DAMAGED) from error
        vectors = {}
        for phrase in phrases:
            values = model.vector(phrase)
            if values is None:
                raise _absent(where, phrase, phrase, [word.decode(errors="replace") for word in model.rows])
            vectors[phrase] = PhraseVector(phrase, values)
        return vectors


def _fasttext_model(where: str, content: mmap.mmap, wanted: set[bytes]) -> _FastText:
    """Read the header and the dictionary of a fastText model, and find its matrix."""
    version, dim, *_, bucket, shortest, longest, _ = struct.unpack_from("<i12i", content, 4)
    num_entries, num_words, _, _, pruned = struct.unpack_from("<iiiqq", content, 4 + 13 * 4 + 8)
    if version not in (11, 12) or pruned != -1:
        found = f"version {version}" if version not in (11, 12) else "a compressed one"
        raise fail(where, "a fastText model as trained, version 11 or 12", found, "Use the .bin or .vec.")
    at, rows = 4 + 13 * 4 + 8 + 28, {}
    for row in range(num_entries):
        end = content.find(b"\0", at, at + _LONGEST)
        if end < 0:
            raise fail(where, f"{num_entries} words", f"damage after {row}", _DAMAGED)
        if row < num_words and content[at:end] in wanted:
            rows[content[at:end]] = row
        at = end + 1 + 9
    quantised, num_rows, columns = struct.unpack_from("<?qq", content, at)
    first_row = at + 17
    if quantised or columns != dim or num_rows < num_words + bucket or first_row + 4 * dim * num_rows > len(content):
        found = "a quantised one" if quantised else f"{num_rows} rows of {columns} in {len(content)} bytes"
        raise fail(where, f"a whole fastText model of {num_words + bucket} rows of {dim}", found, _DAMAGED)
    lengths = (shortest, longest) if longest > 0 else (1, 0)
    return _FastText(content, first_row, dim, bucket, lengths, num_words, rows)


def letter_groups(word: str, shortest: int, longest: int) -> list[str]:
    """Return the groups of letters that a fastText model sums for a word [bojanowski2017fasttext].

    The word stands between ``<`` and ``>``; these two alone are no groups.

    Example:
        >>> letter_groups("cat", 3, 4)
        ['<ca', '<cat', 'cat', 'cat>', 'at>']
    """
    text = f"<{word}>"
    places = [(i, n) for i in range(len(text)) for n in range(shortest, longest + 1) if i + n <= len(text)]
    return [text[i : i + n] for i, n in places if n > 1 or 0 < i < len(text) - 1]


def fasttext_hash(gram: bytes) -> int:
    """Return fastText's 32-bit FNV-1a hash of a group of letters, whose bytes count as signed.

    Example:
        >>> fasttext_hash(b"a") == ((2166136261 ^ ord("a")) * 16777619) % 2**32
        True
    """
    value = 2166136261
    for byte in gram:
        signed = byte if byte < 128 else byte | 0xFFFFFF00
        value = ((value ^ signed) * 16777619) & 0xFFFFFFFF
    return value
