"""A cell of a sweep, what is kept of it, and its line in a file.

A line is plain JSON data: numbers, ids of items and phrases, names. Never what a user wrote.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import llmrec_env
from experiments.store import Episode, ResultsError
from llmrec_env.simulation.kernel_cache import source_digest


@dataclass(frozen=True)
class RunSpec:
    """What is trained and evaluated once."""

    task: str
    agent: str
    world: int
    seed: int = 0
    train_steps: int = 0
    split: str = "test"
    users: int | None = None
    """Held-out users, the first of the split; None: all."""
    env: dict[str, Any] = field(default_factory=dict)
    """Overrides of EnvConfig fields."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The agent's own settings."""
    label: str = ""
    """Name of the task in tables, where `env` makes it another one."""
    watched: int = 0
    """Users, the first of the split, whose sessions are kept step by step."""

    @property
    def name(self) -> str:
        """The name of the task in tables."""
        return self.label or self.task


@dataclass(frozen=True, slots=True)
class RunResult:
    """What is kept of a cell; of one that failed, the error alone."""

    spec: RunSpec
    episodes: list[Episode] = field(default_factory=list)
    sums: dict[str, list[float]] = field(default_factory=dict)
    """Over sessions, by step: reward, alive, angle, angle_count (sessions that had one); by lag:
    adaptation_reward, adaptation_count."""
    values: dict[str, float] = field(default_factory=dict)
    """What is measured over all sessions together; NaN: not defined."""
    learning: list[list[float]] = field(default_factory=list)
    """(user-steps of training, return on validation users) some way into training."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Sessions step by step, of the watched users."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by what was done."""
    error: str | None = None


_CELL = {field.name for field in dataclasses.fields(RunSpec)}
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def key_of(spec: RunSpec) -> str:
    """Returns the digest of everything that the result of a cell depends on but the code.

    Raises:
        ResultsError: the cell is not JSON data.
    """
    return _key(dataclasses.asdict(spec))


def to_line(key: str, result: RunResult) -> bytes:
    """Returns the line of a result in a file."""
    fields = {name: getattr(result, name) for name in ("learning", "sessions", "seconds", "error")}
    fields["episodes"] = [_nulls(dataclasses.astuple(row)) for row in result.episodes]
    fields["sums"] = {name: _nulls(sums) for name, sums in result.sums.items()}
    fields["values"] = dict(zip(result.values, _nulls(result.values.values()), strict=True))
    code = dict(version=llmrec_env.__version__, dynamics=source_digest())
    spec = dataclasses.asdict(result.spec)
    return _JSON(dict(key=key, spec=spec, **code, **fields)).encode() + b"\n"


def from_line(where: str, line: bytes) -> tuple[str, RunResult]:
    """Returns key and result of a line.

    Raises:
        ResultsError: the line is damaged, or of other code; the message begins with `where`.
    """
    try:
        record = json.loads(line.decode())
        if not (other := _differences(record)):
            if record["key"] != _key(record["cell"]):
                raise ValueError
            fields = {name: record[name] for name in ("learning", "sessions", "seconds", "error")}
            fields["episodes"] = [Episode(*_nans(row)) for row in record["episodes"]]
            fields["sums"] = {name: _nans(sums) for name, sums in record["sums"].items()}
            names, values = record["values"].keys(), _nans(record["values"].values())
            fields["values"] = dict(zip(names, values, strict=True))
            return record["key"], RunResult(RunSpec(**record["cell"]), **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ResultsError(f"{where}: torn or altered; delete that line, run again.") from None
    raise ResultsError(f"{where}: differs in {', '.join(other)}; name another folder.")


def _differences(record: dict[str, Any]) -> list[str]:
    """What tells the code that wrote a line from this one."""
    other = [f"field {name} of a cell" for name in sorted({*record["cell"]} ^ _CELL)]
    if (version := record["version"]) != llmrec_env.__version__:
        other.append(f"version ({version}, this is {llmrec_env.__version__})")
    elif record["dynamics"] != source_digest():
        other.append("the sources of the dynamics (edited without a new version)")
    return other


def _key(spec: dict[str, Any]) -> str:
    try:
        text = _JSON({"cell": spec, "version": llmrec_env.__version__})
    except (TypeError, ValueError) as error:
        raise ResultsError(f"a cell is not JSON data ({error}); pass plain values.") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _nulls(values: Iterable[Any]) -> list[Any]:
    return [None if isinstance(x, float) and math.isnan(x) else x for x in values]


def _nans(values: Iterable[Any]) -> list[Any]:
    return [math.nan if x is None else x for x in values]
