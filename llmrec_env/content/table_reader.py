"""Strict reader of tables: CSV, JSON Lines, Parquet and data frames, a row at a time.

A message gives the file, the line, what is wrong and the fix. It never repeats a cell, and of a
header only what is nearly the name that was looked for: cells are what people wrote, and the first
line of a table without a header holds cells.
"""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from llmrec_env.content import table_lines
from llmrec_env.content.cells import MalformedError
from llmrec_env.content.json_objects import json_object
from llmrec_env.content.table_lines import Lines, UnreadableError, open_lines
from llmrec_env.content.table_problems import Problems, missing_column

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
DELIMITERS = (",", ";", "\t", "|")
FRAME = "DataFrame"

Names = Mapping[str, str | None]
"""Column of each role, in the order of the cells; None where there is none."""
Row = tuple[int, tuple[Any, ...]]
"""The line (Parquet, data frame: row) where it begins, and a cell for each role, None for none."""
Table = Any
"""The path of a file, or a data frame (of pandas or polars)."""


class TableReader:
    """The rows of a table; malformed ones are left out, and are one error at the end."""

    def __init__(
        self,
        table: Table,
        error: type[ValueError],
        count_malformed: bool = False,
        *,
        delimiter: str | None = None,
        encoding: str = "utf-8",
    ) -> None:
        """Reads nothing yet.

        Args:
            table: a .csv, .tsv, .jsonl (each also .gz) or .parquet file, or a data frame.
            error: raised with a message for what cannot be used.
            count_malformed: keep malformed rows in `problems` and raise nothing for them.
            delimiter: of CSV; None: that of `DELIMITERS` which splits the header best.
            encoding: of CSV and JSON Lines.
        """
        self._frame: Any = None if isinstance(table, str | os.PathLike) else table
        self.path = Path(os.fspath(table) if self._frame is None else FRAME)
        name = Path(self.path.name.lower().removesuffix(".gz"))
        self._kind = name.suffix if self._frame is None else FRAME
        self.unit = "row" if self._kind in (".parquet", FRAME) else "line"
        self.problems = Problems()
        self.refused: list[int] = []  # lines of the rows left out
        self.hint = ""  # what else to do about malformed rows
        self._error, self._count_malformed = error, count_malformed
        self._delimiter, self._encoding = delimiter, encoding

    @property
    def malformed(self) -> int:
        """Rows that were left out."""
        return len(self.problems)

    def rows(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        """Yields the rows of the table; who stops before the last one calls `finish`.

        Args:
            names: see `Names`.
            required: roles whose column must exist: in the header, or in some JSON object.

        Raises:
            error: the file, its header or some rows cannot be used.
        """
        self._check_file()
        readers = {".csv": self._csv, ".tsv": self._csv, ".jsonl": self._jsonl}
        readers |= {".parquet": self._parquet, FRAME: self._data_frame}
        return self._guarded(readers[self._kind](names, required))

    def header(self) -> list[str]:
        """Returns the names of the columns; of JSON Lines, the keys of the first object.

        Raises:
            error: the file or its header cannot be used.
        """
        self._check_file()
        if self._frame is not None:
            return [str(name) for name in self._frame.columns]
        if self._kind == ".parquet":
            keys = next(self._guarded(self._parquet_rows({}, ())), (0, ()))[1]
        elif self._kind == ".jsonl":
            keys = next(self._guarded(self._json_rows()), (1, ({},)))[1][0]
        else:
            keys = next(self._guarded(self._csv_records({})), (1, ()))[1]
        return [str(key) for key in keys]

    def refuse(self, number: int, problem: str) -> None:
        """Leaves out a malformed row."""
        self.refused.append(number)
        self.problems.add(number, problem)

    def finish(self) -> None:
        """Raises one error for all malformed rows, unless they are counted."""
        if self.malformed and not self._count_malformed:
            message = self.problems.message(str(self.path), self.unit)
            raise self._error(f"{message}\n{self.hint}".rstrip())

    def fail(self, number: int, problem: str) -> NoReturn:
        """Raises for what no other row can make good."""
        raise self._error(f"{self.path}, {self.unit} {number}: {problem}.")

    def _check_file(self) -> None:
        path = self.path
        if self._frame is not None:
            return
        if self._kind not in SUFFIXES:
            raise self._error(
                f"{path}: a table must be one of {', '.join(SUFFIXES)}, or such a one as .gz; "
                "convert it to one of them."
            )
        if not path.is_file():
            raise self._error(f"{path}: there is no such file; check the path.")
        if path.stat().st_size > table_lines.MAX_BYTES:
            raise self._error(
                f"{path}: the file is larger than {table_lines.MAX_BYTES} bytes; split it."
            )

    def _guarded(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows; what ends the file early becomes an error, and so do malformed rows."""
        number = 0
        try:
            for row in rows:
                number = row[0]
                yield row
        except UnreadableError as error:
            self.fail(number + 1, str(error))
        except (EOFError, OSError, zlib.error, UnicodeError) as error:
            kind = type(error).__name__
            self.fail(number + 1, f"the file is damaged or cut off ({kind}); write it again")
        self.finish()

    def _check_header(
        self, number: int, header: list[str], names: Names, required: tuple[str, ...]
    ) -> None:
        if len(set(header)) < len(header):
            self.fail(number, "two columns have one name; rename one")
        missing = [role for role in required if names[role] not in header]
        if missing:
            self.fail(number, "; ".join(missing_column(r, str(names[r]), header) for r in missing))

    def _csv(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        pick: itemgetter[Any] | None = None
        width = 0
        for number, record in self._csv_records(names):
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
                    "put fields with delimiters or line breaks in quotes",
                )
            else:
                yield number, pick([*record, None])
        if pick is None:
            self.fail(1, "the file is empty; write a header and rows")

    def _csv_records(self, names: Names) -> Iterator[tuple[int, Any]]:
        """The header and the records; a malformed record is followed by its own second line."""
        delimiter = self._delimiter or self._likely_delimiter(names)
        with open_lines(self.path, self._encoding) as file:
            lines = Lines(file)
            reader = csv.reader(lines, strict=True, delimiter=delimiter)
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
                    reader = csv.reader(lines, strict=True, delimiter=delimiter)
                    continue
                if record:
                    refuse = self.refuse
                    yield number, record

    def _likely_delimiter(self, names: Names) -> str:
        """The delimiter by which the first line has most of the names, then most fields."""
        with open_lines(self.path, self._encoding) as file:
            try:
                line = next(Lines(file), "")
            except MalformedError:
                return DELIMITERS[0]  # the reader says what is wrong
        wanted = set(names.values())

        def fit(delimiter: str) -> tuple[int, int]:
            header = next(csv.reader([line], delimiter=delimiter), [])
            return len(wanted.intersection(header)), len(header)

        return max(DELIMITERS, key=fit)

    def _jsonl(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        absent, keys, number = list(required), dict[str, None](), 1
        for number, (row,) in self._json_rows():
            if absent:  # objects may leave out a key that has no value
                absent = [role for role in absent if names[role] not in row]
                keys |= dict.fromkeys(row) if len(keys) < 1000 else {}
            yield number, tuple(map(row.get, names.values()))
        if absent:
            problems = [missing_column(role, str(names[role]), keys, "keys") for role in absent]
            self.fail(number, "; ".join(problems))

    def _json_rows(self) -> Iterator[Row]:
        with open_lines(self.path, self._encoding) as file:
            lines = Lines(file)
            while True:
                number = lines.begin()
                try:
                    line = next(lines)
                    if line.strip():
                        yield number, (json_object(line),)
                except StopIteration:
                    return
                except MalformedError as error:
                    self.refuse(number, str(error))

    def _data_frame(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        frame = self._frame
        if not hasattr(frame, "columns"):
            raise self._error(
                f"a table of type {type(frame).__name__} is neither a path nor a data frame; "
                "give one of the two."
            )
        header = [*frame.columns]
        self._check_header(0, header, names, required)
        cells = {name: frame[name].to_list() for name in names.values() if name in header}
        empty = [None] * len(frame)
        columns = [cells.get(name, empty) for name in names.values()]
        yield from enumerate(zip(*columns, strict=True), start=1)

    def _parquet(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        rows = self._parquet_rows(names, required)
        next(rows)
        return rows

    def _parquet_rows(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        """The header, then the rows."""
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
                yield 0, tuple(header)
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


def _csv_problem(error: Exception) -> str:
    if isinstance(error, MalformedError):
        return str(error)
    problem = str(error)
    if "unexpected end" in problem or "field larger" in problem:
        problem = "a field that is too large, or a quote that is never closed"
    return f'{problem}; close every quote, and write a quote inside a field as ""'


def _python_values(pa: Any, column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):  # finer ones have no counterpart in the standard library
        column = column.cast(pa.timestamp("us", "UTC"), safe=False)
    return column.to_pylist()
