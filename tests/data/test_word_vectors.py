"""Word vectors: files written by gensim and by hand, against gensim's own readers and hand-made means."""

import gzip
import logging
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.data.unpickle import load_object_npy
from neuroav.data.vectors import read_vectors
from neuroav.data.word_vectors import fasttext_hash, find_vectors, letter_groups, phrase_words

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
WORDS = ["the", "playing", "flute", "Long", "jump", "Long_jump", "violin", "fiddle", "naïve", "eye"]
VECTORS = np.random.default_rng(3).normal(size=(len(WORDS), 5)).astype(np.float32)
ROW = dict(zip(WORDS, VECTORS, strict=True))
COMMON = [
    pytest.param("word2vec.txt", id="word2vec text"),
    pytest.param("word2vec.bin", id="word2vec binary"),
    pytest.param("glove.txt", id="GloVe"),
    pytest.param("glove.txt.gz", id="gzip"),
    pytest.param("word2vec.bin.gz", id="gzipped binary"),
    pytest.param("glove.zip", id="zip"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same ten words in every format, as gensim writes them."""
    models = pytest.importorskip("gensim.models")
    folder = tmp_path_factory.mktemp("words")
    keyed = models.KeyedVectors(5)
    keyed.add_vectors(WORDS, VECTORS)
    keyed.save_word2vec_format(str(folder / "word2vec.txt"))
    keyed.save_word2vec_format(str(folder / "word2vec.bin"), binary=True)
    keyed.save_word2vec_format(str(folder / "glove.txt"), write_header=False)
    for name in ("glove.txt", "word2vec.bin"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    with zipfile.ZipFile(folder / "glove.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "glove.txt", "glove.txt")
    return folder


@pytest.fixture(scope="module")
def fasttext(tmp_path_factory):
    """A small model trained by gensim, in Facebook's format, and gensim's own reading of it."""
    models = pytest.importorskip("gensim.models")
    from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

    logging.getLogger("gensim").setLevel(logging.ERROR)
    path = tmp_path_factory.mktemp("fasttext") / "model.bin"
    lines = [["playing", "flute"], ["long", "jump"], ["naïve", "flute"], ["long", "flute", "playing"]] * 5
    options = {"vector_size": 6, "min_count": 1, "bucket": 50, "min_n": 2, "max_n": 4, "epochs": 1, "seed": 1}
    save_facebook_model(models.FastText(lines, workers=1, **options), str(path))
    return path, load_facebook_vectors(str(path))


def unit(vector):
    return vector / np.linalg.norm(vector.astype(np.float64))


@pytest.mark.parametrize("name", COMMON)
def test_every_format_gives_the_words_that_were_written(files, name):
    found = find_vectors(files / name, WORDS)
    assert list(found) == WORDS
    for word, vector in found.items():
        assert vector.source == word
        assert vector.values.dtype == np.float32
        np.testing.assert_allclose(vector.values, unit(ROW[word]), rtol=1e-5)


@pytest.mark.parametrize("name", COMMON)
def test_a_phrase_is_one_entry_or_the_mean_of_its_words(files, name):
    found = find_vectors(files / name, ["Long jump", "playing the Flute", "LongEye", "violin, fiddle", "jump"])
    assert [vector.source for vector in found.values()] == [
        "Long_jump",
        "playing + the + flute",
        "Long + eye",
        "violin + fiddle",
        "jump",
    ]
    mean = (ROW["playing"] + ROW["the"] + ROW["flute"]) / 3
    np.testing.assert_allclose(found["Long jump"].values, unit(ROW["Long_jump"]), rtol=1e-5)
    np.testing.assert_allclose(found["playing the Flute"].values, unit(mean), rtol=1e-4)


@pytest.mark.parametrize("name", COMMON)
def test_a_missing_word_names_the_nearest(files, name):
    with pytest.raises(InputError, match=r"for 'playing flutes'.*none for 'flutes'. Did you mean 'flute'\?.*'vector'"):
        find_vectors(files / name, ["playing flutes"])


def test_a_word_as_written_comes_before_its_lower_case(tmp_path):
    (tmp_path / "w.txt").write_text("long 1 0\nLong 0 1\njump 1 0\n")
    found = find_vectors(tmp_path / "w.txt", ["Long", "long", "Jump"])
    assert [vector.source for vector in found.values()] == ["Long", "long", "jump"]
    assert found["Long"].values.tolist() == [0, 1]


def test_words_with_spaces_and_repeated_words(tmp_path):
    path = tmp_path / "odd.txt"
    path.write_text(", 1 2\n. . . 3 4\ndog 0 5\ndog 7 7\n")
    found = find_vectors(path, [". . .", "dog"])
    assert found[". . ."].values.tolist() == pytest.approx([0.6, 0.8])
    assert found["dog"].values.tolist() == [0, 1], "the first of two counts"


@pytest.mark.parametrize("phrase", ["flute", "playing flute", "Long jump", "naïve café", "x", "<"])
def test_fasttext_gives_whole_phrases_as_gensim_does(fasttext, phrase):
    path, model = fasttext
    np.testing.assert_allclose(find_vectors(path, [phrase])[phrase].values, unit(model[phrase]), rtol=1e-5, atol=1e-7)


def test_letter_groups_and_hashes_are_those_of_gensim():
    from gensim.models.fasttext import ft_ngram_hashes

    for word in ("flute", "naïve café", "日本", "a", ""):
        for shortest, longest in ((3, 6), (1, 2)):
            ours = [fasttext_hash(group.encode()) % 2_000_000 for group in letter_groups(word, shortest, longest)]
            assert sorted(ours) == sorted(ft_ngram_hashes(word, shortest, longest, 2_000_000))


def test_words_end_at_punctuation_and_capitals():
    assert phrase_words("BabyCrawling") == ["Baby", "Crawling"]
    assert phrase_words("playing_bass-guitar (loud)") == ["playing", "bass", "guitar", "loud"]
    assert phrase_words("TV show, 2nd") == ["TV", "show", "2nd"]
    assert phrase_words("--") == []


def test_any_npz_will_do(tmp_path):
    names, vectors = np.array(["dog barking", "rain"]), np.float64([[3, 4], [0, 2]])
    np.savez(tmp_path / "a.npz", names=names, vectors=vectors)
    np.savez(tmp_path / "b.npz", labels=names, w2v=vectors, dim=np.int64(2))
    np.savez(tmp_path / "c.npz", **dict(zip(names, vectors, strict=True)))
    for name in ("a.npz", "b.npz", "c.npz"):
        found = find_vectors(tmp_path / name, ["Rain", "DogBarking"])
        assert [(v.source, v.values.tolist()) for v in found.values()] == [("rain", [0, 2]), ("dog barking", [3, 4])]
    np.savez(tmp_path / "d.npz", long=np.float32([2, 0]), jump=np.float32([0, 4]))
    assert find_vectors(tmp_path / "d.npz", ["Long jump"])["Long jump"].values.tolist() == [1, 2]
    for arrays in ({"x": vectors}, {"a": vectors[0], "b": vectors[0, :1]}, {"a": names, "b": names, "c": vectors}):
        np.savez(tmp_path / "e.npz", **arrays)
        with pytest.raises(InputError, match=r"expected an .npz file with arrays names"):
            read_vectors(tmp_path / "e.npz")


def test_an_npy_of_a_dictionary_is_read_and_nothing_else(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"dog": np.float32([1, 2]), "rain": np.float32([3, 4])}, dtype=object))
    assert find_vectors(tmp_path / "a.npy", ["Dog"])["Dog"].values.tolist() == [1, 2]
    for content, text in (
        (np.array({"dog": np.float32([1]), "rain": np.float32([3, 4])}, dtype=object), "equally long"),
        (np.array([1, "a"], dtype=object), "a dictionary from names"),
        (np.eye(2), "array of Python objects|file of Python objects"),
    ):
        np.save(tmp_path / "b.npy", content)
        with pytest.raises(InputError, match=text):
            find_vectors(tmp_path / "b.npy", ["dog"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared class vectors")
@pytest.mark.parametrize("name", ["ucf", "activity", "vggsound"])
def test_the_published_class_vectors_survive_every_format(name, tmp_path):
    models = pytest.importorskip("gensim.models")
    known = read_vectors(SHARED / f"data/w2v/{name}_w2v.npz")
    direct = find_vectors(SHARED / f"data/w2v/word_embeddings_{name}_normed.npy", known.names)
    table = load_object_npy(SHARED / f"data/w2v/word_embeddings_{name}_normed.npy").item()
    joined = ["_".join(phrase_words(label)) for label in known.names]
    keyed = models.KeyedVectors(known.vectors.shape[1])
    keyed.add_vectors(joined, known.vectors)
    keyed.save_word2vec_format(str(tmp_path / "w.bin"), binary=True)
    found = find_vectors(tmp_path / "w.bin", known.names)
    assert len(set(joined)) == len(table) == len(known.names)
    for label, row in zip(known.names, known.vectors, strict=True):
        np.testing.assert_array_equal(direct[label].values, table[label])
        np.testing.assert_allclose(found[label].values, row, atol=1e-6)


def test_only_the_words_asked_for_are_held(tmp_path):
    path, count, dim = tmp_path / "large.bin", 20_000, 300
    row = np.ones(dim, "<f4").tobytes()
    with open(path, "wb") as file:
        file.write(f"{count} {dim}\n".encode())
        file.writelines(f"word{i} ".encode() + row for i in range(count))
    assert path.stat().st_size > 24_000_000
    tracemalloc.start()
    find_vectors(path, ["word19999"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


def write_binary(count=2, dim=2, words=(b"dog", b"rain"), tail=b""):
    body = b"".join(word + b" " + np.ones(2, "<f4").tobytes() + b"\n" for word in words)
    return f"{count} {dim}\n".encode() + body + tail


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "an empty file"),
        (b"no vectors at all", "a line that isn't a word and 3 numbers, 'no'"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "expected word vectors"),
        (b"dog 1 2\nrain 1\n", "fewer in line 2"),
        (b"2 2\ndog 1 2\n", "expected 2 words, as its header says, got 1"),
        (b"1 2\ndog 1 2\nrain 1 2\n", "expected 1 words, as its header says, got 2"),
        (b"1 2\ndog 1 x\n", "a line that isn't a word and 2 numbers, 'dog'"),
        (b"0 2\n", "a header 'words dimensions'"),
        (b"1 99999999999999\ndog \x00\x00", "a header 'words dimensions'"),
        (b"dog nan 2\n", "NaN or infinity in that of 'dog'"),
        (b"dog 0 0\n", "a zero one for 'dog'"),
        (write_binary(count=3), "expected 3 words, as its header says, got damage after 2"),
        (write_binary()[:-3], "got damage after 1"),
        (write_binary(count=1), "more bytes after them"),
        (gzip.compress(b"dog 1 2\n" * 50)[:-12], "a compressed file that can be read"),
        (b"\x1f\x8bno gzip", "a compressed file that can be read"),
        (b"PK\x03\x04 no zip", "a compressed file that can be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, text):
    path = tmp_path / "words"
    path.write_bytes(content)
    with pytest.raises(InputError, match=text):
        find_vectors(path, ["dog"])


def test_other_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="got a folder"):
        find_vectors(tmp_path, ["dog"])
    with pytest.raises(InputError, match="no such file"):
        find_vectors(tmp_path / "w", ["dog"])
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.txt", "dog 1 2\n")
        archive.writestr("b.txt", "dog 1 2\n")
    with pytest.raises(InputError, match="one file of word vectors in a zip"):
        find_vectors(tmp_path / "two.zip", ["dog"])


def test_damaged_fasttext_models_are_refused(fasttext, tmp_path):
    whole, path = fasttext[0].read_bytes(), tmp_path / "model.bin"
    for size in (5, 30, 80, 120, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"fastText model|words"):
            find_vectors(path, ["dog"])
    path.write_bytes(whole[:4] + struct.pack("<i", 99) + whole[8:])
    with pytest.raises(InputError, match="version 99"):
        find_vectors(path, ["dog"])
    path.write_bytes(whole[:84] + struct.pack("<q", 0) + whole[92:])
    with pytest.raises(InputError, match="a compressed one"):
        find_vectors(path, ["dog"])


def test_mutated_files_are_read_or_refused(files, fasttext, tmp_path):
    """Whatever happens to a file: correct data or a clear error; never another exception, never a warning."""
    sources = [files / name.values[0] for name in COMMON] + [fasttext[0]]
    rng = np.random.default_rng(5)
    path, outcomes = tmp_path / "mutated", set()
    for i in range(210):
        content = bytearray(sources[i % len(sources)].read_bytes())
        for place in rng.integers(len(content), size=rng.choice([1, 2, 20])):
            content[place] = rng.integers(256)
        if i % 3 == 0:
            del content[rng.integers(len(content)) :]
        path.write_bytes(content)
        try:
            found = find_vectors(path, ["playing flute"])
        except InputError:
            outcomes.add("refused")
        else:
            outcomes.add("read")
            assert np.isfinite(found["playing flute"].values).all()
    assert outcomes == {"read", "refused"}
