"""Strict reading of large tables, a row at a time, where a malformed row need not end the file.

A message gives the file, the line, what is wrong and the fix. It never repeats a cell or a header:
the first line of a table without a header holds what people did.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn, TextIO

from llmrec_env.content.item_tables import MAX_BYTES, MAX_LINE, SUFFIXES

Row = tuple[int, tuple[Any, ...]]
"""The line (Parquet: row) where it begins, and one cell a role; None where the row has none."""

SURROGATE = re.compile("[\ud800-\udfff]")


class RecordsError(ValueError):
    """A table of records cannot be used; the message says where, why and what to do."""


class MalformedError(Exception):
    """What is wrong with a row, and the fix."""


class Refusal:
    """Raises what is wrong with a row, or counts it."""

    def __init__(self, path: str | os.PathLike[str], count_only: bool) -> None:
        """Refuses rows of the file `path`; `count_only`: without raising."""
        self.path = Path(path)
        self.count = 0
        self._count_only = count_only
        self._unit = "row" if self.path.suffix.lower() == ".parquet" else "line"

    def __call__(self, number: int, what: str) -> None:
        """Counts a malformed row, or raises."""
        if not self._count_only:
            self.end(number, what)
        self.count += 1

    def end(self, number: int, what: str) -> NoReturn:
        """Raises `RecordsError` for what no other row can make good."""
        raise RecordsError(f"{self.path}, {self._unit} {number}: {what}.")


def read_rows(
    names: Mapping[str, str], required: tuple[str, ...], refuse: Refusal
) -> Iterator[Row]:
    """Yields the rows of the file that `refuse` was made for.

    Args:
        names: column of each role, in the order of the cells.
        required: roles whose column must exist.
        refuse: receives what is malformed.

    Raises:
        RecordsError: the file or its header cannot be used, or `refuse` raised.
    """
    path = refuse.path
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise RecordsError(
            f"{path}: a table must be one of {', '.join(SUFFIXES)}; convert it to one of them."
        )
    if not path.is_file():
        raise RecordsError(f"{path}: there is no such file; check the path.")
    if path.stat().st_size > MAX_BYTES:
        raise RecordsError(f"{path}: the file is larger than {MAX_BYTES} bytes; split it.")
    if len(set(names.values())) < len(names):
        raise RecordsError(f"{path}: two roles have one column; give each a name of its own.")
    return readers[path.suffix.lower()](names, required, refuse)


def _check_columns(
    number: int,
    columns: list[str],
    names: Mapping[str, str],
    required: tuple[str, ...],
    refuse: Refusal,
) -> None:
    for role in required:
        if names[role] not in columns:
            refuse.end(
                number,
                f"none of the {len(columns)} columns is called {names[role]!r}; give the name of "
                f"that column as {role}=..., or write a header",
            )


class _Lines:
    """Lines of a UTF-8 file, which can be taken back to the second line of a record."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._record: list[str] = []
        self._again: deque[str] = deque()
        self._length = 0
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self._number += 1
        self._length += len(line)
        self._record.append(line)
        if self._length > MAX_LINE:
            raise MalformedError(
                f"more than {MAX_LINE} characters, or a quote that is never closed; "
                "shorten the row, or close the quote"
            )
        if not line.isascii():
            if self._number == 1 and line.startswith("\ufeff"):
                raise MalformedError("a byte-order mark; save the file as UTF-8 without BOM")
            if SURROGATE.search(line):
                raise MalformedError("bytes that are not UTF-8; save the file as UTF-8")
        if "\0" in line:
            raise MalformedError("a NUL character; remove it, or save the file as UTF-8")
        return line

    def _read(self) -> str:
        line = part = self._file.readline(MAX_LINE + 1)
        while len(part) > MAX_LINE and part[-1] not in "\r\n":
            part = self._file.readline(MAX_LINE + 1)
        return line

    def begin(self) -> int:
        """Says that a record begins here; returns the number of its first line."""
        self._record.clear()
        self._length = 0
        return self._number + 1

    def back(self) -> None:
        """Goes back to the line after the one where the record began."""
        self._again.extendleft(reversed(self._record[1:]))
        self._number -= max(len(self._record) - 1, 0)


def _open(path: Path) -> TextIO:
    # surrogateescape lets a bad byte through as a surrogate, so that its line can be named.
    return open(path, encoding="utf-8", errors="surrogateescape", newline="")


def _read_csv(
    names: Mapping[str, str], required: tuple[str, ...], refuse: Refusal
) -> Iterator[Row]:
    pick: itemgetter[Any] | None = None
    width = 0
    for number, record in _csv_records(refuse):
        if pick is None:
            width = len(record)
            if len(set(record)) < width:
                refuse.end(number, "two columns have one name; rename one")
            _check_columns(number, record, names, required, refuse)
            # The last place is one beyond the row, where None is appended.
            places = [record.index(name) if name in record else width for name in names.values()]
            pick = itemgetter(*places)
        elif len(record) != width:
            refuse(
                number,
                f"{len(record)} fields where the header has {width}; "
                "put fields with commas or line breaks in quotes",
            )
        else:
            yield number, pick([*record, None])
    if pick is None:
        refuse.end(1, "the file is empty; write a header and records")


def _csv_records(refuse: Refusal) -> Iterator[tuple[int, list[str]]]:
    """The header and the records; after a malformed record, reading goes on at its second line."""
    with _open(refuse.path) as file:
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        complain = refuse.end  # without the header no row means anything
        while True:
            number = lines.begin()
            try:
                record = next(reader)
            except StopIteration:
                return
            except (csv.Error, MalformedError) as error:
                complain(number, _csv_message(error))
                lines.back()
                reader = csv.reader(lines, strict=True)
                continue
            if record:
                complain = refuse
                yield number, record


def _csv_message(error: Exception) -> str:
    if isinstance(error, MalformedError):
        return str(error)
    what = str(error)
    if "unexpected end" in what or "field larger" in what:
        what = "a field that is too large, or a quote that is never closed"
    return f'{what}; close every quote, and write a quote inside a field as ""'


def _read_jsonl(
    names: Mapping[str, str], required: tuple[str, ...], refuse: Refusal
) -> Iterator[Row]:
    absent = list(required)
    with _open(refuse.path) as file:
        lines = _Lines(file)
        while True:
            number = lines.begin()
            try:
                line = next(lines)
                if not line.strip():
                    continue
                row = _json_object(line)
            except StopIteration:
                break
            except MalformedError as error:
                refuse(number, str(error))
                continue
            if absent:  # objects may leave out a key that has no value
                absent = [role for role in absent if names[role] not in row]
            yield number, tuple(map(row.get, names.values()))
    if absent:
        role = absent[0]
        refuse.end(max(number - 1, 1), f"no key is called {names[role]!r}; give it as {role}=...")


def _json_object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"not JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting
        raise MalformedError(
            "a value beyond what can be read; write one flat JSON object a line"
        ) from None
    if not isinstance(row, dict):
        raise MalformedError("not a JSON object; write one JSON object a line")
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise MalformedError("a key occurs twice in one object; delete one of the two")
    return row


def _constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON; write a number or null")


def _read_parquet(
    names: Mapping[str, str], required: tuple[str, ...], refuse: Refusal
) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise RecordsError(
            f"{refuse.path}: Parquet needs pyarrow; run: pip install 'llmrec-env[data]', "
            "or save the table as .csv or .jsonl."
        ) from None
    number = 0
    try:
        with pq.ParquetFile(refuse.path) as file:
            known = file.schema_arrow.names
            if len(set(known)) < len(known):
                refuse.end(0, "two columns have one name; rename one")
            _check_columns(0, known, names, required, refuse)
            wanted = [name for name in names.values() if name in known]
            for batch in file.iter_batches(batch_size=65_536, columns=wanted):
                nothing = [None] * batch.num_rows
                cells = {name: _cells(pa, batch.column(name)) for name in wanted}
                for row in zip(*(cells.get(name, nothing) for name in names.values()), strict=True):
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        kind = type(error).__name__
        refuse.end(number + 1, f"not a Parquet file that can be read ({kind}); write it again")


def _cells(pa: Any, column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):  # finer ones have no counterpart in the standard library
        column = column.cast(pa.timestamp("us", "UTC"), safe=False)
    return column.to_pylist()
