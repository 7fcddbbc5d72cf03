"""Results folder of an experiment: its files, written whole or not at all, and its manifest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llmrec_env
from experiments.store.machine import THREADS, code_digest, cpu
from experiments.store.schema import FILES
from llmrec_env.atomic_files import write_atomically
from llmrec_env.simulation.kernel_cache import source_digest

MANIFEST, REPORT, SESSIONS = "manifest.json", "report.html", "sessions.json"
RUNS, CHECKPOINTS = "runs", "checkpoints"
"""Folders of the results of single runs, and of trainings that are not done."""

Folder = str | os.PathLike[str]

_MAX_BYTES = 4_000_000_000
_CODE = (":/llmrec_env", ":/agents", ":/experiments")
_PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "torch",
    "gymnasium",
    "stable-baselines3",
    "transformers",
)
_START, _MIDDLE, _END = b'{"sha256":"', b'","content":', b"}\n"
_CONTENT = slice(len(_START) + 64 + len(_MIDDLE), -len(_END))


class ResultsError(ValueError):
    """A results folder or one of its files cannot be used."""


def open_folder(
    folder: Folder, config: Any = None, *, resume: bool = False, overwrite: bool = False
) -> Path:
    """Returns the folder, created, for the results of an experiment.

    Args:
        folder: where results go.
        config: settings of the experiment; with `resume` they must equal those in the manifest.
        resume: keep the results that are there.
        overwrite: delete the result files that are there, and nothing else.

    Raises:
        ResultsError: results are there and neither is told, or they are of other settings.
    """
    path = Path(folder)
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)
        names = (*FILES.values(), MANIFEST, REPORT, SESSIONS)
        held = [path / name for name in names if (path / name).exists()]
        runs = [*(path / RUNS).glob("*.json")]
    if (held or runs) and not (resume or overwrite):
        listed = ", ".join([*(file.name for file in held), *([f"{RUNS}/"] if runs else [])])
        fix = "name another folder, go on with that run (resume), or delete it (overwrite)"
        raise ResultsError(f"{path}: already holds {listed}; {fix}.")
    if overwrite:
        with storing(path):
            for file in (*held, *_files_of_runs(path)):
                file.unlink()
    elif config is not None and path / MANIFEST in held:
        earlier = read_manifest(path).get("config")
        wanted = json.loads(json.dumps(config))
        if earlier != wanted:
            changes = ", ".join(_differences(earlier, wanted))
            raise ResultsError(
                f"{path}: holds a run of other settings: {changes}; name another folder."
            )
    return path


def _files_of_runs(folder: Path) -> list[Path]:
    """Results, locks, checkpoints, and what killed writes left of them."""
    files = (*(folder / RUNS).glob("*"), *(folder / CHECKPOINTS).glob("*"))
    return [file for file in files if file.suffix in (".json", ".lock", ".pt", ".part")]


def _differences(earlier: Any, wanted: Any, name: str = "") -> list[str]:
    """Says which settings differ: each by name, with both values."""
    if isinstance(earlier, dict) and isinstance(wanted, dict):
        return [
            line
            for key in sorted({*earlier, *wanted})
            for line in _differences(earlier.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if earlier == wanted else [f"{name or 'settings'} was {earlier!r}, now {wanted!r}"]


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
        return write_atomically(path, content)


def with_checksum(content: bytes) -> bytes:
    """Returns content in a frame that tells when a bit of it changes; JSON, if the content is."""
    return _START + hashlib.sha256(content).hexdigest().encode() + _MIDDLE + content + _END


def checked(path: Path, data: bytes) -> bytes:
    """Returns the content in such a frame; ResultsError names the file if it is damaged."""
    content = data[_CONTENT]
    if data != with_checksum(content):
        raise ResultsError(
            f"{path}: damaged, its checksum does not match; delete it and run again."
        )
    return content


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


def write_manifest(folder: Folder, **fields: Any) -> Path:
    """Writes `manifest.json`: fields such as config, encoder and wall_seconds, code and machine.

    Raises:
        ResultsError: a field is not JSON data.
    """
    status = _git("status", "--porcelain", "--", *_CODE)
    record = {
        "command": _command(),
        "version": llmrec_env.__version__,
        "dynamics": source_digest(),
        "code": code_digest(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git("rev-parse", "--verify", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cpu": cpu(),
        "threads": THREADS,
        "load_average": list(os.getloadavg()),
    }
    try:
        text = json.dumps(record | fields, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{MANIFEST}: not JSON data ({error}); pass plain values.") from None
    return write_file(Path(folder) / MANIFEST, text.encode() + b"\n")


def _command() -> list[str]:
    """The command line without the path of this checkout."""
    first, *rest = sys.argv or [""]
    module = Path(first).name == "__main__.py"
    return ["python", "-m", Path(first).parent.name, *rest] if module else [Path(first).name, *rest]


def read_manifest(folder: Folder) -> dict[str, Any]:
    """Returns the manifest; a missing or torn file raises ResultsError."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(read_text(path))
    except ValueError as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{path}: not JSON ({error}); run again.") from None
    if not isinstance(manifest, dict):
        raise ResultsError(f"{path}: must hold one JSON object; run again.")
    return manifest


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None where there is no git, no checkout or no commit."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
