"""The files of a run, and the leaderboard: numbers and names of agents, never what a user wrote.

Each file is written whole or not at all, so that a run that dies leaves the old one or the new one.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import statistics
from experiments.statistics import DEFAULT, Resampling, Scores

MANIFEST, REPORT = "manifest.json", "report.html"
LADDER = ("random", "popular", "collaborative", "content", "content-recency", "drift-aware", "ppo")
LADDER += ("oracle-myopic", "oracle-planning")

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
    held = [path / name for name in (*FILES.values(), MANIFEST, REPORT) if (path / name).exists()]
    if held and not (resume or overwrite):
        names = ", ".join(file.name for file in held)
        fix = "name another folder, go on with that run (resume), or delete it (overwrite)"
        raise ResultsError(f"{path}: already holds {names}; {fix}.")
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


# --- the leaderboard


def leaderboard(
    episodes: Iterable[Episode],
    order: Sequence[str] = LADDER,
    train_steps: Mapping[str, int] | None = None,
    how: Resampling = DEFAULT,
) -> list[Row]:
    """Returns a row for every task and agent, tasks as they come, agents in canonical order.

    Args:
        episodes: sessions of all agents on the same users.
        order: agents in canonical order; others follow `drift-aware`, by name.
        train_steps: user-steps an agent was trained for, by agent; 0 where it is not named.
        how: of the intervals.

    Raises:
        ValueError: agents met different sessions, or a return is not finite.
    """
    rows = []
    for task, agents in group(episodes).items():
        names = in_order(agents, order)
        scores = {name: scores_of(agents[name]) for name in names}
        for above, name in zip([None, *names[:-1]], names, strict=True):
            numbers = _compared(scores, name, above, how) | _described(agents[name], scores[name])
            steps = (train_steps or {}).get(name, 0)
            rows.append(Row(task=task, agent=name, train_steps=steps, **numbers))
    return rows


def in_order(agents: Iterable[str], order: Sequence[str] = LADDER) -> list[str]:
    """Returns agents in canonical order; those without a place follow `drift-aware`, by name."""
    place = {name: (i, "") for i, name in enumerate(order)}
    rest = place.get("drift-aware", (len(order), ""))[0]
    return sorted(set(agents), key=lambda name: place.get(name, (rest, name)))


def group(episodes: Iterable[Episode]) -> dict[str, dict[str, list[Episode]]]:
    """Returns the sessions by task, and by agent within it."""
    found: dict[str, dict[str, list[Episode]]] = {}
    for episode in episodes:
        found.setdefault(episode.task, {}).setdefault(episode.agent, []).append(episode)
    return found


def scores_of(episodes: Sequence[Episode]) -> Scores:
    """Returns the returns of one agent on one task as (users, seeds)."""
    keys = np.array([(x.world, x.user, x.seed) for x in episodes], np.int64)
    return Scores.of([x.ret for x in episodes], keys[:, 0], keys[:, 1], keys[:, 2])


def _compared(
    scores: Mapping[str, Scores], name: str, above: str | None, how: Resampling
) -> dict[str, Any]:
    """The numbers of a row that need an interval or another agent."""
    own = scores[name]
    mean = statistics.bootstrap_interval(own, "mean", how)
    iqm = statistics.bootstrap_interval(own, "iqm", how)
    gain = better = normalised = None
    if above is not None:
        better = statistics.probability_of_improvement(own, scores[above], how).value
        with contextlib.suppress(statistics.RatioError):
            gain = statistics.paired_gain(own, scores[above], how)
    if {"random", "oracle-planning"} <= scores.keys():
        with contextlib.suppress(statistics.RatioError):
            ends = scores["random"], scores["oracle-planning"]
            normalised = statistics.normalised_score(own, *ends, how).value
    found = {"mean": mean.value, "ci_low": mean.low, "ci_high": mean.high}
    found |= {"iqm": iqm.value, "iqm_low": iqm.low, "iqm_high": iqm.high}
    found |= dict(zip(("gain", "gain_low", "gain_high"), gain or (None,) * 3, strict=True))
    return found | {"gain_over": above, "p_improve": better, "normalised": normalised}


def _described(episodes: Sequence[Episode], scores: Scores) -> dict[str, Any]:
    """The numbers of a row that are plain means and counts."""
    steps = sum(x.steps for x in episodes)
    consumed = sum(x.consumed for x in episodes)
    angles = [x.angle for x in episodes if not math.isnan(x.angle)]
    return {
        "survive": sum(x.survived for x in episodes) / len(episodes),
        "steps": steps / len(episodes),
        "ctr": consumed / max(1, steps),
        "satisfaction_rate": sum(x.satisfied for x in episodes) / consumed if consumed else None,
        "angle": sum(angles) / len(angles) if angles else None,
        "worlds": len(np.unique(scores.worlds)),
        "seeds": len(scores.seeds),
        "users": len(scores.users),
    }


# --- tables to read

HEADER = ("agent", "return [95 %]", "IQM", "paired gain [95 %]")


def cells_of(row: Row) -> tuple[str, str, str, str]:
    """Returns what tables show of a row, in the order of `HEADER`; empty where there is nothing."""
    mean = f"{row.mean:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"
    if row.gain is None or row.gain_low is None or row.gain_high is None:
        return row.agent, mean, f"{row.iqm:.2f}", ""
    gain = f"{100 * row.gain:+.1f} % [{100 * row.gain_low:+.1f}, {100 * row.gain_high:+.1f}]"
    return row.agent, mean, f"{row.iqm:.2f}", gain


def is_clear(row: Row) -> bool:
    """Returns whether the interval of the gain leaves out zero."""
    low, high = row.gain_low, row.gain_high
    return low is not None and high is not None and (low > 0.0 or high < 0.0)


def print_table(rows: Sequence[Row], console: Console | None = None) -> None:
    """Prints a table a task; bold gains are those whose interval leaves out zero."""
    for task in dict.fromkeys(row.task for row in rows):
        table = Table(
            title=f"{escape(task)}: return per session; gain over the row above",
            title_justify="left",
            box=box.SIMPLE,
        )
        for name in HEADER:
            table.add_column(escape(name), justify="left" if name == "agent" else "right")
        for row in (row for row in rows if row.task == task):
            cells = [*map(escape, cells_of(row))]
            if is_clear(row):
                cells[3] = f"[bold]{cells[3]}[/bold]"
            table.add_row(*cells)
        (console or Console()).print(table)


def latex_table(rows: Sequence[Row]) -> str:
    """Returns the leaderboard as a LaTeX tabular for the package booktabs."""
    lines = [r"\begin{tabular}{lrrr}", r"\toprule"]
    lines.append(" & ".join(map(_latex, (name[:1].upper() + name[1:] for name in HEADER))) + r" \\")
    for task in dict.fromkeys(row.task for row in rows):
        lines += [r"\midrule", rf"\multicolumn{{4}}{{l}}{{\emph{{{_latex(task)}}}}} \\"]
        for row in (row for row in rows if row.task == task):
            cells = [*map(_latex, cells_of(row))]
            if is_clear(row):
                cells[3] = rf"\textbf{{{cells[3]}}}"
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
