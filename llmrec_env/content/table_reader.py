"""Strict reader of tables: CSV, JSON Lines and Parquet, a row at a time.

A message gives the file, the line, what is wrong and the fix. It never repeats a cell or a header:
cells are what people wrote, and the first line of a table without a header holds cells.
"""

from __future__ import annotations

import csv
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn, TextIO

from llmrec_env.content.cells import SURROGATE, MalformedError

MAX_BYTES = 4_000_000_000
MAX_LINE = 1_000_000  # characters

SUFFIXES = (".csv", ".jsonl", ".parquet")

Names = Mapping[str, str | None]
"""Column of each role, in the order of the cells; None where there is none."""
Row = tuple[int, tuple[Any, ...]]
"""The line (Parquet: row) where it begins, and one cell a role; None where the row has none."""


class TableReader:
    """The rows of a file; a malformed one ends the reading, or is counted and left out."""

    def __init__(
        self, path: str | os.PathLike[str], error: type[ValueError], count_malformed: bool = False
    ) -> None:
        """Reads nothing yet.

        Args:
            path: a .csv, .jsonl or .parquet file in UTF-8.
            error: raised with a message for what cannot be used.
            count_malformed: count malformed rows in `malformed` instead of raising.
        """
        self.path = Path(path)
        self.malformed = 0
        self._error, self._count_malformed = error, count_malformed
        self.unit = "row" if self.path.suffix.lower() == ".parquet" else "line"

    def rows(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        """Yields the rows of the file.

        Args:
            names: see `Names`.
            required: roles whose column must exist: in the header, or in some JSON object.

        Raises:
            error: the file, its header or a row cannot be used.
        """
        path = self.path
        readers = {".csv": self._csv, ".jsonl": self._jsonl, ".parquet": self._parquet}
        if path.suffix.lower() not in readers:
            raise self._error(
                f"{path}: a table must be one of {', '.join(SUFFIXES)}; convert it to one of them."
            )
        if not path.is_file():
            raise self._error(f"{path}: there is no such file; check the path.")
        if path.stat().st_size > MAX_BYTES:
            raise self._error(f"{path}: the file is larger than {MAX_BYTES} bytes; split it.")
        return readers[path.suffix.lower()](names, required)

    def refuse(self, number: int, problem: str) -> None:
        """Counts a malformed row, or raises."""
        if not self._count_malformed:
            self.fail(number, problem)
        self.malformed += 1

    def fail(self, number: int, problem: str) -> NoReturn:
        """Raises for what no other row can make good."""
        raise self._error(f"{self.path}, {self.unit} {number}: {problem}.")

    def _check_header(
        self, number: int, header: list[str], names: Names, required: tuple[str, ...]
    ) -> None:
        if len(set(header)) < len(header):
            self.fail(number, "two columns have one name; rename one")
        for role in required:
            if names[role] not in header:
                self.fail(
                    number,
                    f"none of the {len(header)} columns is called {names[role]!r}; give the name "
                    f"of that column as {role}=..., or write a header",
                )

    def _csv(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        pick: itemgetter[Any] | None = None
        width = 0
        for number, record in self._csv_records():
            if pick is None:
                self._check_header(number, record, names, required)
                width = len(record)
                # The last index is one beyond the row, where None is appended.
                indices = [
                    record.index(name) if name in record else width for name in names.values()
                ]
                pick = itemgetter(*indices)
            elif len(record) != width:
                self.refuse(
                    number,
                    f"{len(record)} fields where the header has {width}; "
                    "put fields with commas or line breaks in quotes",
                )
            else:
                yield number, pick([*record, None])
        if pick is None:
            self.fail(1, "the file is empty; write a header and rows")

    def _csv_records(self) -> Iterator[tuple[int, list[str]]]:
        """The header and the records; a malformed record is followed by its own second line."""
        with _open(self.path) as file:
            lines = _Lines(file)
            reader = csv.reader(lines, strict=True)
            refuse = self.fail  # without the header no row means anything
            while True:
                number = lines.begin()
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except (csv.Error, MalformedError) as error:
                    refuse(number, _csv_problem(error))
                    lines.back()
                    reader = csv.reader(lines, strict=True)
                    continue
                if record:
                    refuse = self.refuse
                    yield number, record

    def _jsonl(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        absent = list(required)
        with _open(self.path) as file:
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
                    self.refuse(number, str(error))
                    continue
                if absent:  # objects may leave out a key that has no value
                    absent = [role for role in absent if names[role] not in row]
                yield number, tuple(map(row.get, names.values()))
        if absent:
            role = absent[0]
            self.fail(max(number - 1, 1), f"no key is called {names[role]!r}; give it as {role}=")

    def _parquet(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise self._error(
                f"{self.path}: Parquet needs pyarrow; run: pip install 'llmrec-env[data]', "
                "or save the table as .csv or .jsonl."
            ) from None
        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                header = file.schema_arrow.names
                self._check_header(0, header, names, required)
                columns = [name for name in dict.fromkeys(names.values()) if name in header]
                for batch in file.iter_batches(batch_size=65_536, columns=columns):
                    cells = {name: _python_values(pa, batch.column(name)) for name in columns}
                    empty = [None] * batch.num_rows
                    by_role = [cells.get(name, empty) for name in names.values()]
                    for row in zip(*by_role, strict=True):
                        number += 1
                        yield number, row
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            kind = type(error).__name__
            self.fail(number + 1, f"not a Parquet file that can be read ({kind}); write it again")


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


def _csv_problem(error: Exception) -> str:
    if isinstance(error, MalformedError):
        return str(error)
    problem = str(error)
    if "unexpected end" in problem or "field larger" in problem:
        problem = "a field that is too large, or a quote that is never closed"
    return f'{problem}; close every quote, and write a quote inside a field as ""'


def _json_object(line: str) -> dict[Any, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"not JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        ) from None
    except MalformedError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting
        raise MalformedError(
            "a value beyond what can be read; write one flat JSON object a line"
        ) from None
    if not isinstance(row, dict):
        raise MalformedError("not a JSON object; write one JSON object a line")
    return row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise MalformedError("a key occurs twice in one object; delete one of the two")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON; write a number or null")


def _python_values(pa: Any, column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):  # finer ones have no counterpart in the standard library
        column = column.cast(pa.timestamp("us", "UTC"), safe=False)
    return column.to_pylist()
