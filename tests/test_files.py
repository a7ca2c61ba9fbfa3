"""Files are written whole or not at all, and damage is said in one line."""

import json
from contextlib import suppress

import pytest

from neuroav.checks import InputError
from neuroav.files import load_json, replacing, save_json


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]", b"3", b"null"])
def test_damaged_json_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match="expected a file of one JSON object"):
        load_json(tmp_path / "x.json")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.json"
    save_json(path, {"a": 1})
    with pytest.raises(TypeError):
        save_json(path, {"a": object()})
    with suppress(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
