"""Folder of a saved world: files that are all there and whole, and the parameters they call for.

`world.json` names the files with their SHA-256, the fields of `EnvConfig` that the world calls for,
and what its making reported. It is checked by a digest of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "world.json"
_FORMAT = 1


class SavedWorldError(ValueError):
    """A folder is no saved world, or a damaged one; the message says what to do."""


def is_saved_world(path: Any) -> bool:
    """Says whether a path is the folder of a saved world, whole or damaged."""
    return isinstance(path, str | os.PathLike) and Path(path, MANIFEST).is_file()


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what `world.json` says.

    Raises:
        SavedWorldError: it is missing, damaged, or of another version.
    """
    path = Path(folder, MANIFEST)
    try:
        manifest = json.loads(path.read_bytes())
        digest = manifest.pop("sha256")
        intact = digest == _digest(_content(manifest))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise SavedWorldError(
            f"{path} cannot be read ({type(error).__name__}); make the world again."
        ) from None
    if not intact:
        raise SavedWorldError(f"{path} is damaged: its SHA-256 is another; make the world again.")
    if manifest["format"] != _FORMAT:
        raise SavedWorldError(
            f"{path} is of format {manifest['format']}, this version reads {_FORMAT}; make the "
            "world again."
        )
    return manifest


def read_file(folder: str | os.PathLike[str], name: str) -> bytes:
    """Returns the content of a file of a saved world.

    Raises:
        SavedWorldError: the folder lacks it, or it is not the file that was saved.
    """
    path = Path(folder, name)
    expected = read_manifest(folder)["files"].get(name)
    try:
        content = path.read_bytes()
    except OSError:
        raise SavedWorldError(f"{path} is not there; make the world again.") from None
    if _digest(content) != expected:
        raise SavedWorldError(
            f"{path} is damaged or was edited: its SHA-256 is another; make the world again."
        )
    return content


def parameters_of(catalog: Any) -> dict[str, Any]:
    """Returns the fields of `EnvConfig` that a catalogue calls for; none if it is no saved world.

    Raises:
        SavedWorldError: it is a damaged one.
    """
    return dict(read_manifest(catalog)["parameters"]) if is_saved_world(catalog) else {}


def write_folder(
    folder: str | os.PathLike[str],
    files: Mapping[str, bytes],
    manifest: Mapping[str, Any],
    overwrite: bool = False,
) -> Path:
    """Writes a saved world, which is whole or not there at any moment, and returns its folder.

    Everything is written to a folder beside it, to disk, which then gets the name.

    Args:
        folder: its name; the folder around it is made if need be.
        files: content by name.
        manifest: JSON data, among them `parameters`.
        overwrite: replace a saved world of that name.

    Raises:
        SavedWorldError: something of that name is there, and may not be replaced.
        OSError: the folder cannot be written; nothing has changed.
    """
    folder = Path(folder)
    check_free(folder, overwrite)
    said = {"format": _FORMAT, **manifest}
    said["files"] = {name: _digest(content) for name, content in files.items()}
    said["sha256"] = _digest(_content(said))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir()
        for name, content in {**files, MANIFEST: _content(said)}.items():
            with open(temporary / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _take_name(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_free(folder: Path, overwrite: bool) -> None:
    """Raises SavedWorldError if a world may not be written there."""
    if overwrite and is_saved_world(folder):
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        fix = "pass overwrite (--overwrite), or name another folder"
        if not is_saved_world(folder):
            fix = "name another folder"
        raise SavedWorldError(f"{folder}: there is something of that name; {fix}.")


def _take_name(temporary: Path, folder: Path) -> None:
    """Gives the folder its name; a world of that name is away for the moment in between."""
    old = folder.with_name(f"{temporary.name}.old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(temporary, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _content(manifest: Mapping[str, Any]) -> bytes:
    text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    return text.encode() + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
