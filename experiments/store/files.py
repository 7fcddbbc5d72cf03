"""The folder of a run, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.store.schema import FILES

MANIFEST, REPORT, CELLS = "manifest.json", "report.html", "cells.jsonl"
SESSIONS, CHECKPOINTS = "sessions.json", "checkpoints"

Folder = str | os.PathLike[str]

_MAX_BYTES = 4_000_000_000


class ResultsError(ValueError):
    """A results folder or one of its files cannot be used."""


def open_folder(
    folder: Folder, config: Any = None, *, resume: bool = False, overwrite: bool = False
) -> Path:
    """Returns the folder, created, for the results of a run.

    Args:
        folder: where results go.
        config: settings of the run; with `resume` they must equal those in the manifest, if any.
        resume: keep the results that are there.
        overwrite: delete the result files that are there, and nothing else.

    Raises:
        ResultsError: results are there and neither is told, or they are of other settings.
    """
    path = Path(folder)
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)
    names = (*FILES.values(), MANIFEST, REPORT, CELLS, SESSIONS)
    held = [path / name for name in names if (path / name).exists()]
    if held and not (resume or overwrite):
        there = ", ".join(file.name for file in held)
        fix = "name another folder, go on with that run (resume), or delete it (overwrite)"
        raise ResultsError(f"{path}: already holds {there}; {fix}.")
    if overwrite:
        with storing(path):
            for file in (*held, *(path / CHECKPOINTS).glob("*.pt")):
                file.unlink()
    elif config is not None and path / MANIFEST in held:
        there = json.loads(read_text(path / MANIFEST)).get("config")
        wanted = json.loads(json.dumps(config))
        if there != wanted:
            what = ", ".join(_differences(there, wanted))
            raise ResultsError(
                f"{path}: holds a run of other settings: {what}; name another folder."
            )
    return path


def _differences(there: Any, wanted: Any, name: str = "") -> list[str]:
    """Says which settings differ: each by name, with both values."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        keys = sorted({*there, *wanted})
        pairs = ((there.get(key), wanted.get(key), f"{name}.{key}".lstrip(".")) for key in keys)
        return [line for pair in pairs for line in _differences(*pair)]
    return [] if there == wanted else [f"{name or 'settings'} was {there!r}, now {wanted!r}"]


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns an error of the file system into one that names the path and the fix."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "make room and run again, results stay" if full else "name a folder that is writable"
        raise ResultsError(f"{path}: {error.strerror or error}; {fix}.") from None


def write_file(path: Path, content: bytes) -> Path:
    """Writes a file whole or not at all, and returns its path.

    Raises:
        ResultsError: the folder cannot be written, or is full.
    """
    with storing(path):
        return _write(path, content)


def _write(path: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would hide results from those who share the folder
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def read_text(path: Path) -> str:
    """Returns what a file of ours holds; a missing, foreign or torn one raises ResultsError."""
    if not path.is_file():
        raise ResultsError(f"{path}: there is no such file; run the benchmark into this folder.")
    if path.stat().st_size > _MAX_BYTES:
        raise ResultsError(f"{path}: larger than {_MAX_BYTES} bytes.")
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ResultsError(f"{path}, line {line}: not UTF-8; run again.") from None
    if not text.endswith("\n"):
        last = text.count("\n") + 1
        raise ResultsError(f"{path}, line {last}: torn, it ends within a line; run again.")
    return text
