"""A saved world is whole or not there, and a damaged one is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmrec_env import saved_world
from llmrec_env.config import EnvConfig
from llmrec_env.saved_world import (
    MANIFEST,
    SavedWorldError,
    is_saved_world,
    parameters_of,
    read_file,
    read_manifest,
    write_folder,
)

FILES = {"a.csv": b"one", "b.npz": b"\x00two"}
ABOUT = {"parameters": {"dim": 8, "horizon": 7}}


def test_what_was_written_is_read(tmp_path: Path):
    folder = write_folder(tmp_path / "new" / "w", FILES, ABOUT)
    assert is_saved_world(folder) and is_saved_world(str(folder)) and not is_saved_world(tmp_path)
    assert {name: read_file(folder, name) for name in FILES} == FILES
    assert parameters_of(str(folder)) == ABOUT["parameters"]
    assert parameters_of("video") == parameters_of(None) == parameters_of(3) == {}
    assert sorted(os.listdir(tmp_path / "new")) == ["w"]


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_refused(tmp_path: Path, name: str, damage: str):
    folder = write_folder(tmp_path / "w", FILES, ABOUT)
    path = folder / name
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content[:-2] if damage == "cut" else content.replace(content[1:2], b"~"))
    with pytest.raises(SavedWorldError, match=r"make the world again"):
        for file in FILES:
            read_file(folder, file)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"sha256": 1}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(SavedWorldError, match="make the world again"):
        read_manifest(tmp_path)
    with pytest.raises(SavedWorldError):
        EnvConfig.from_kwargs({"catalog": str(tmp_path)})


def test_an_edited_number_or_another_format_is_refused(tmp_path: Path, monkeypatch):
    folder = write_folder(tmp_path / "w", FILES, ABOUT)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"dim": 8', '"dim": 9'))
    with pytest.raises(SavedWorldError, match="damaged"):
        parameters_of(folder)
    (folder / MANIFEST).write_text(json.dumps(json.loads(text)))  # the layout does not matter
    assert parameters_of(folder) == ABOUT["parameters"]
    monkeypatch.setattr(saved_world, "_FORMAT", 2)
    with pytest.raises(SavedWorldError, match="is of format 1, this version reads 2"):
        parameters_of(folder)


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    folder = write_folder(tmp_path / "w", FILES, ABOUT)
    with pytest.raises(SavedWorldError, match="--overwrite"):
        write_folder(folder, {}, ABOUT)
    write_folder(folder, {"a.csv": b"new"}, ABOUT, overwrite=True)
    assert sorted(os.listdir(folder)) == ["a.csv", MANIFEST]
    assert os.listdir(tmp_path) == ["w"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(SavedWorldError, match="name another folder"):
            write_folder(tmp_path / name, FILES, ABOUT, overwrite=True)
    (tmp_path / "empty").mkdir()
    assert is_saved_world(write_folder(tmp_path / "empty", FILES, ABOUT))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moment", range(6))
def test_an_interruption_leaves_the_old_world_or_none(
    tmp_path: Path, monkeypatch, overwrite: bool, stop: type[BaseException], moment: int
):
    folder = tmp_path / "w"
    if overwrite:
        write_folder(folder, FILES, ABOUT)
    calls = iter(range(100))

    def interrupt(function):
        def call(*arguments, **options):
            if next(calls) == moment:
                raise stop
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as context:
        for name in ("fsync", "replace"):
            context.setattr(saved_world.os, name, interrupt(getattr(os, name)))
        try:
            write_folder(folder, {"a.csv": b"new", "b.npz": b"new"}, ABOUT, overwrite)
        except stop:
            assert moment < 4 + overwrite
    if is_saved_world(folder):
        assert len({read_file(folder, name) == FILES[name] for name in FILES}) == 1
    else:
        assert not overwrite and os.listdir(tmp_path) == []
    assert not list(tmp_path.glob("*.part"))


def test_fields_that_are_not_given_are_those_of_the_world(tmp_path: Path):
    folder = str(write_folder(tmp_path / "w", FILES, ABOUT))
    config = EnvConfig.from_kwargs({"catalog": folder, "horizon": 9})
    assert (config.dim, config.horizon, config.slate_size) == (8, 9, 5)
    assert EnvConfig.from_kwargs(config.to_dict()) == config
