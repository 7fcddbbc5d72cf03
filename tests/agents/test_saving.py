"""Saved folders: bit for bit, whole at any moment, and typed errors whatever a folder holds."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agents import saving
from agents.saving import RECORD, WEIGHTS, load, read_agent, save, write_agent

ROOT = Path(saving.__file__).parents[1]
ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "b": np.array([1, 2]),
    "no axis": np.array(2.5, np.float32),
}


@pytest.fixture
def folder(tmp_path):
    write_agent(tmp_path / "saved", "some", {"rank": 2}, ARRAYS)
    return tmp_path / "saved"


def rewrite(folder, **changes):
    """Changes the record as one who knows the format would."""
    record = json.loads((folder / RECORD).read_text()) | changes
    record["record_sha256"] = saving._digest(record)
    (folder / RECORD).write_text(json.dumps(record))


def replace_weights(folder, data):
    """Replaces the weights as one who knows the format would."""
    (folder / WEIGHTS).write_bytes(data)
    rewrite(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def test_arrays_and_settings_come_back_bit_for_bit(folder):
    name, config, arrays = read_agent(folder)
    assert (name, config, arrays.keys()) == ("some", {"rank": 2}, ARRAYS.keys())
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[key], value)
        assert (arrays[key].dtype, arrays[key].shape) == (value.dtype, value.shape)
    assert {file.name for file in folder.iterdir()} == {RECORD, WEIGHTS}


class Code:
    """What a file runs if it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("ran"),)


def swap(file, kind):
    """Puts something that is no regular file in its place."""
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(kind)


def sparse(file, size):
    with open(file, "wb") as stream:
        stream.truncate(size)


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 4]}}).encode()
NO_RECORD, OTHER = "not a record that was saved here", "not the file that config.json was written"
DAMAGES = {
    "no record": (lambda x: (x / RECORD).unlink(), "No such file.*train into this folder"),
    "no weights": (lambda x: (x / WEIGHTS).unlink(), "No such file.*restore it"),
    "no JSON": (lambda x: (x / RECORD).write_text("{"), NO_RECORD),
    "no text": (lambda x: (x / RECORD).write_bytes(b"\xff\xfe"), NO_RECORD),
    "a list": (lambda x: (x / RECORD).write_text("[]"), NO_RECORD),
    "empty": (lambda x: (x / RECORD).write_text(""), NO_RECORD),
    "a pickle": (lambda x: (x / RECORD).write_bytes(pickle.dumps(Code())), NO_RECORD),
    "deep": (lambda x: (x / RECORD).write_text("[" * 100_000), NO_RECORD),
    "deep field": (
        lambda x: (x / RECORD).write_text('{"a":' + "[" * 900 + "]" * 900 + "}"),
        NO_RECORD,
    ),
    "a long number": (lambda x: (x / RECORD).write_text("9" * 100_000), NO_RECORD),
    "not a number": (lambda x: rewrite(x, config={"rank": float("nan")}), NO_RECORD),
    "a format of text": (lambda x: rewrite(x, format="1"), NO_RECORD),
    "a digest of numbers": (lambda x: rewrite(x, weights_sha256=5), NO_RECORD),
    "newer": (lambda x: rewrite(x, format=2), r"has format 2.*this one reads format 1"),
    "edited": (
        lambda x: (x / RECORD).write_text((x / RECORD).read_text().replace("2", "3", 1)),
        "has been edited; restore it",
    ),
    "no agent": (lambda x: rewrite(x, agent=["some"]), "not the record of an agent"),
    "no settings": (lambda x: rewrite(x, config=[1]), "not the record of an agent"),
    "other weights": (lambda x: flip(x / WEIGHTS), OTHER),
    "cut weights": (lambda x: os.truncate(x / WEIGHTS, 20), OTHER),
    "pickled weights": (lambda x: (x / WEIGHTS).write_bytes(pickle.dumps(Code())), OTHER),
    "consistent pickle": (lambda x: replace_weights(x, pickle.dumps(Code())), "not hold arrays"),
    "empty weights": (lambda x: replace_weights(x, b""), "not hold arrays"),
    "a header of lies": (
        lambda x: replace_weights(x, len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)),
        "not hold arrays",
    ),
    "a huge header": (
        lambda x: replace_weights(x, (2**62).to_bytes(8, "little") + b"{}"),
        "not hold arrays",
    ),
    "a large record": (lambda x: sparse(x / RECORD, 10**8), "more than 10,000,000 bytes"),
    "huge weights": (lambda x: sparse(x / WEIGHTS, 2**40), "more than 4,294,967,296 bytes"),
    "a pipe": (lambda x: swap(x / RECORD, "pipe"), "not a regular file"),
    "a pipe of weights": (lambda x: swap(x / WEIGHTS, "pipe"), "not a regular file"),
    "endless": (lambda x: swap(x / RECORD, "/dev/zero"), "not a regular file"),
    "endless weights": (lambda x: swap(x / WEIGHTS, "/dev/zero"), "not a regular file"),
    "a folder": (lambda x: swap(x / RECORD, "folder"), "not a regular file"),
    "a circle of links": (lambda x: swap(x / RECORD, RECORD), "symbolic links"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_and_hostile_folders_end_in_a_typed_error(folder, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, text = DAMAGES[name]
    damage(folder)
    with pytest.raises(ValueError, match=text):
        read_agent(folder)
    assert not Path("ran").exists()


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from agents.saving import save
step, count = int(sys.argv[2]), 0
def dying(function):
    def call(*arguments, **keywords):
        global count
        if count == step:
            os.kill(os.getpid(), 9)
        count += 1
        return function(*arguments, **keywords)
    return call
for name in ("replace", "unlink", "fsync"):
    setattr(os, name, dying(getattr(os, name)))
save(Path(sys.argv[1]), {"agent": "new"}, {"a": np.ones(3)})
"""


def test_a_killed_save_leaves_the_old_content_the_new_or_none(tmp_path):
    states = []
    for step in range(30):
        save(tmp_path, {"agent": "old"}, {"a": np.zeros(3)})
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(step)]
        code = subprocess.run(command, cwd=ROOT).returncode
        try:
            record, arrays = load(tmp_path)
            assert arrays["a"].any() == (record["agent"] == "new")
            states.append(record["agent"])
        except ValueError as error:
            assert "No such file" in str(error)
            states.append("none")
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert list(dict.fromkeys(states)) == ["old", "none", "new"]
    save(tmp_path, {"agent": "newest"}, {})
    assert {file.name for file in tmp_path.iterdir()} == {RECORD, WEIGHTS}


def test_a_failed_save_leaves_the_old_content_and_no_other_file(folder, monkeypatch):
    def full(_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_agent(folder, "new", {}, {})
    assert read_agent(folder)[0] == "some"
    assert {file.name for file in folder.iterdir()} == {RECORD, WEIGHTS}
