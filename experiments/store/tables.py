"""Tables of records: written and read with every value checked."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.store.folder import SESSIONS, Folder, ResultsError, read_text, write_file
from experiments.store.schema import FILES, Record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+/:=@-]{0,63}")
_WHOLE, _REAL = re.compile(r"-?[0-9]{1,18}"), re.compile(r"nan|-?[0-9.]+(e[-+]?[0-9]+)?")
_MAY_BE_NAN = (
    "tracking_error",
    "belief_error",
    "reward",
    "diversity",
    "topics",
    "novelty",
    "ceiling",
    "shift",
    "goodwill",
)


def check_name(name: str) -> str:
    """Returns a name that tables take; another raises ResultsError."""
    if not _NAME.fullmatch(name):
        raise ResultsError(
            f"{name!r} cannot name a row of a table; allowed: at most 64 letters, digits, blanks "
            "and _.+/:=@-, the first of them a letter or digit."
        )
    return name


def write_table(folder: Folder, kind: type[Record], records: Iterable[Record]) -> Path:
    """Writes records into the file of their kind, and returns its path.

    Raises:
        ResultsError: a name is not a plain one, or a number is not finite.
    """
    path, fields = Path(folder) / FILES[kind], dataclasses.fields(kind)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(kind))
    for number, record in enumerate(records, 2):
        texts = [_written(str(field.type), getattr(record, field.name)) for field in fields]
        _parsed(path, number, kind, texts)
        writer.writerow(texts)
    return write_file(path, text.getvalue().encode())


def write_sessions(folder: Folder, sessions: Sequence[dict[str, Any]]) -> Path:
    """Writes `sessions.json`: sessions step by step, ids of items and phrases, never their texts.

    Raises:
        ResultsError: a session is not JSON data.
    """
    try:
        text = json.dumps(list(sessions), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{SESSIONS}: not JSON data ({error}); pass plain values.") from None
    return write_file(Path(folder) / SESSIONS, text.encode() + b"\n")


def read_table(folder: Folder, kind: type[Record]) -> list[Record]:
    """Returns the records in the file of their kind.

    Raises:
        ResultsError: the file is missing or torn, or a value is wrong; it names file and line.
    """
    path = Path(folder) / FILES[kind]
    text = read_text(path)
    reader = csv.reader(io.StringIO(text), quoting=csv.QUOTE_NONE)  # no name needs a quote
    records: list[Record] = []
    try:
        if next(reader, None) != _columns(kind):
            raise ResultsError(f"{path}, line 1: the columns must be {', '.join(_columns(kind))}.")
        for texts in reader:
            records.append(_parsed(path, reader.line_num, kind, texts))
    except csv.Error as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}; run again.") from None
    return records


def _written(kind: str, value: Any) -> str:
    if value is None or kind.startswith("str"):
        return "" if value is None else str(value)
    return repr(float(value)) if kind.startswith("float") else str(int(value))


def _columns(kind: type) -> list[str]:
    return ["return" if x.name == "ret" else x.name for x in dataclasses.fields(kind)]


def _parsed(path: Path, line: int, kind: type[Record], texts: Sequence[str]) -> Record:
    fields = dataclasses.fields(kind)
    if len(texts) != len(fields):
        raise ResultsError(
            f"{path}, line {line}: {len(texts)} values, not {len(fields)}; run again."
        )
    values: list[Any] = []
    for field, text in zip(fields, texts, strict=True):
        what, optional = str(field.type).removesuffix(" | None"), str(field.type).endswith("None")
        try:
            values.append(None if optional and not text else _PARSERS[what](text))
            if what == "float" and text == "nan" and field.name not in _MAY_BE_NAN:
                raise ValueError
        except ValueError:  # the value is not repeated: it may be anything
            raise ResultsError(
                f"{path}, line {line}: {field.name} is not a valid {what}; run again."
            ) from None
    return kind(*values)


def _like(pattern: re.Pattern[str], text: str) -> str:
    """The text, if it has this form: int() and float() themselves take blanks and underscores."""
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def _real(text: str) -> float:
    value = float(_like(_REAL, text))
    if math.isinf(value):
        raise ValueError
    return value


_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": lambda text: _like(_NAME, text),
    "int": lambda text: int(_like(_WHOLE, text)),
    "float": _real,
    "bool": lambda text: bool(("0", "1").index(text)),
}
