"""The files of a run: numbers and names of agents, never what a user wrote.

Each file is written whole or not at all, so that a run that dies leaves the old one or the new one.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

MANIFEST, REPORT, CELLS = "manifest.json", "report.html", "cells.jsonl"

_PACKAGES = ("numpy", "scipy", "numba", "torch", "gymnasium", "stable-baselines3", "transformers")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+/:=-]{0,63}")
_WHOLE, _REAL = re.compile(r"-?[0-9]{1,18}"), re.compile(r"nan|-?[0-9.]+(e[-+]?[0-9]+)?")
_MAY_BE_NAN = ("angle", "reward")
_MAX_BYTES = 4_000_000_000


class ResultsError(ValueError):
    """A results folder or one of its files cannot be used."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One session of one held-out user with one trained agent; `episodes.csv`."""

    task: str
    agent: str
    world: int
    seed: int  # of the agent's training
    user: int
    ret: float  # undiscounted return; the column is called `return`
    steps: int
    consumed: int  # steps in which an item was consumed
    satisfied: int  # steps in which it satisfied
    angle: float  # degrees, mean over steps, between estimated and true interests; NaN: unknown
    survived: bool  # still there at the horizon


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Means over the users of an agent at one step; `curves.csv`."""

    task: str
    agent: str
    step: int
    reward: float  # NaN where nobody is left to measure
    alive: float  # share of users who have not left
    angle: float  # degrees; NaN where nobody is left to measure


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """Return on users that are not trained on, some way into training; `learning.csv`."""

    task: str
    agent: str
    seed: int
    train_steps: int
    ret: float


@dataclass(frozen=True, slots=True)
class Row:
    """One agent on one task; None where there is nothing to measure; `leaderboard.csv`."""

    task: str
    agent: str
    mean: float
    ci_low: float  # 95 % interval of the mean
    ci_high: float
    iqm: float
    iqm_low: float
    iqm_high: float
    gain: float | None  # paired, relative: mean / mean - 1
    gain_low: float | None
    gain_high: float | None
    gain_over: str | None  # the agent of the row above
    p_improve: float | None  # that a session beats the same session of `gain_over`
    normalised: float | None  # 0 is random, 1 is oracle-planning
    survive: float
    steps: float
    ctr: float  # of the steps, those in which something was consumed
    satisfaction_rate: float | None  # of what was consumed
    angle: float | None  # degrees
    worlds: int
    seeds: int
    users: int  # in all worlds together
    train_steps: int


FILES: dict[type, str] = {
    Episode: "episodes.csv",
    CurvePoint: "curves.csv",
    LearningPoint: "learning.csv",
    Row: "leaderboard.csv",
}
_Record = TypeVar("_Record", Episode, CurvePoint, LearningPoint, Row)
_Folder = str | os.PathLike[str]

# --- writing


def open_folder(
    folder: _Folder, config: Any = None, *, resume: bool = False, overwrite: bool = False
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
    path.mkdir(parents=True, exist_ok=True)
    names = (*FILES.values(), MANIFEST, REPORT, CELLS)
    held = [path / name for name in names if (path / name).exists()]
    if held and not (resume or overwrite):
        there = ", ".join(file.name for file in held)
        fix = "name another folder, go on with that run (resume), or delete it (overwrite)"
        raise ResultsError(f"{path}: already holds {there}; {fix}.")
    if overwrite:
        for file in held:
            file.unlink()
    elif config is not None and path / MANIFEST in held:
        if read_manifest(path).get("config") != json.loads(json.dumps(config)):
            raise ResultsError(f"{path}: holds a run of other settings; name another folder.")
    return path


def write_file(path: Path, content: bytes) -> Path:
    """Writes a file whole or not at all, and returns its path."""
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


def write_table(folder: _Folder, kind: type[_Record], records: Iterable[_Record]) -> Path:
    """Writes records into the file of their kind, and returns its path.

    Raises:
        ResultsError: a name is not a plain one, or a number is not finite.
    """
    path, fields = Path(folder) / FILES[kind], dataclasses.fields(kind)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(kind))
    for number, record in enumerate(records, 2):
        cells = [_written(str(field.type), getattr(record, field.name)) for field in fields]
        _parsed(path, number, kind, cells)
        writer.writerow(cells)
    return write_file(path, text.getvalue().encode())


def write_manifest(folder: _Folder, **fields: Any) -> Path:
    """Writes `manifest.json`: fields such as config, encoder and wall_seconds, code and machine.

    Raises:
        ResultsError: a field is not JSON data.
    """
    status = _git("status", "--porcelain")
    found = {
        "command": sys.argv,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git("rev-parse", "--verify", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": list(os.getloadavg()),
    }
    try:
        text = json.dumps(found | fields, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{MANIFEST}: not JSON data ({error}); pass plain values.") from None
    return write_file(Path(folder) / MANIFEST, text.encode() + b"\n")


def _written(kind: str, value: Any) -> str:
    if value is None or kind.startswith("str"):
        return "" if value is None else str(value)
    return repr(float(value)) if kind.startswith("float") else str(int(value))


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


# --- reading


def read_table(folder: _Folder, kind: type[_Record]) -> list[_Record]:
    """Returns the records in the file of their kind.

    Raises:
        ResultsError: the file is missing or torn, or a cell is wrong; it names file and line.
    """
    path = Path(folder) / FILES[kind]
    text = _text(path)
    reader = csv.reader(io.StringIO(text), quoting=csv.QUOTE_NONE)  # no name needs a quote
    records: list[_Record] = []
    try:
        if next(reader, None) != _columns(kind):
            raise ResultsError(f"{path}, line 1: the columns must be {', '.join(_columns(kind))}.")
        for cells in reader:
            records.append(_parsed(path, reader.line_num, kind, cells))
    except csv.Error as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}; run again.") from None
    return records


def read_manifest(folder: _Folder) -> dict[str, Any]:
    """Returns the manifest; a missing or torn file raises ResultsError."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(_text(path))
    except ValueError as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{path}: not JSON ({error}); run again.") from None
    if not isinstance(manifest, dict):
        raise ResultsError(f"{path}: must hold one JSON object; run again.")
    return manifest


def _text(path: Path) -> str:
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


def _columns(kind: type) -> list[str]:
    return ["return" if x.name == "ret" else x.name for x in dataclasses.fields(kind)]


def _parsed(path: Path, line: int, kind: type[_Record], cells: Sequence[str]) -> _Record:
    fields = dataclasses.fields(kind)
    if len(cells) != len(fields):
        raise ResultsError(
            f"{path}, line {line}: {len(cells)} cells, not {len(fields)}; run again."
        )
    values: list[Any] = []
    for field, cell in zip(fields, cells, strict=True):
        what, optional = str(field.type).removesuffix(" | None"), str(field.type).endswith("None")
        try:
            values.append(None if optional and not cell else _PARSERS[what](cell))
            if what == "float" and cell == "nan" and field.name not in _MAY_BE_NAN:
                raise ValueError
        except ValueError:  # the cell is not repeated: it may be anything
            text = f"{path}, line {line}: {field.name} is not a valid {what}"
            raise ResultsError(f"{text}; run again.") from None
    return kind(*values)


def _like(pattern: re.Pattern[str], cell: str) -> str:
    """The cell, if it has this form: int() and float() themselves take blanks and underscores."""
    if not pattern.fullmatch(cell):
        raise ValueError
    return cell


def _real(cell: str) -> float:
    value = float(_like(_REAL, cell))
    if math.isinf(value):
        raise ValueError
    return value


_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": lambda cell: _like(_NAME, cell),
    "int": lambda cell: int(_like(_WHOLE, cell)),
    "float": _real,
    "bool": lambda cell: bool(("0", "1").index(cell)),
}
