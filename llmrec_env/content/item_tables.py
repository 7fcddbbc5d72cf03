"""Strict reading of tables of items: CSV, JSON Lines, Parquet.

A message gives the file, the line, what is wrong and the fix. It never repeats a cell: cells are
what people wrote.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

from llmrec_env.config import unknown
from llmrec_env.content.columns import CatalogError, Columns

MAX_BYTES = 4_000_000_000
MAX_ROWS = 2_000_000
MAX_LINE = 1_000_000  # characters
MAX_TEXT = 10_000  # characters; encoders read a few hundred words

SUFFIXES = (".csv", ".jsonl", ".parquet")

_SURROGATE = re.compile("[\ud800-\udfff]")
_Row = tuple[str, Mapping[str, Any]]  # ("line 3", {column: cell})


class _BadCellError(ValueError):
    """What is wrong with a cell, and the fix."""


def read_table(
    path: str | os.PathLike[str],
    names: Mapping[str, str | None],
    *,
    required: tuple[str, ...] = ("text",),
    limit: int | None = None,
) -> Columns:
    """Returns the items of a table.

    Args:
        path: a .csv, .jsonl or .parquet file in UTF-8.
        names: column of each role: text, topic, substance, title; None where there is none.
        required: roles whose column must exist; the others are left out if it does not.
        limit: read only the first rows.

    Raises:
        CatalogError: the file, a line or a cell cannot be used.
    """
    path = Path(path)
    read = _reader(path)
    columns: dict[str, str] | None = None
    values: dict[str, list[Any]] = {role: [] for role in names}
    seen: dict[str, str] = {}
    for place, row in islice(read(path), limit):
        if columns is None:
            columns = _columns(path, row, names, required)
        if len(values["text"]) >= MAX_ROWS:
            _fail(path, place, f"there are more than {MAX_ROWS} rows", "pass num_items to stop")
        for role, column in columns.items():
            values[role].append(_value(path, place, row, role, column))
        text = values["text"][-1]
        if text in seen:
            _fail(path, place, f"the text is that of {seen[text]}", "delete one of the two rows")
        seen[text] = place
    return Columns(
        texts=values["text"],
        topics=values["topic"] or None,
        substance=values["substance"] or None,
        titles=values["title"] or None,
    )


def _reader(path: Path) -> Callable[[Path], Iterator[_Row]]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise CatalogError(
            f"{path}: a table must be one of {', '.join(SUFFIXES)}; convert it to one of them."
        )
    if not path.is_file():
        raise CatalogError(f"{path}: there is no such file; check the path.")
    if path.stat().st_size > MAX_BYTES:
        raise CatalogError(f"{path}: the file is larger than {MAX_BYTES} bytes; split it.")
    return readers[path.suffix.lower()]


def _columns(
    path: Path,
    row: Mapping[str, Any],
    names: Mapping[str, str | None],
    required: tuple[str, ...],
) -> dict[str, str]:
    """The columns to read by role."""
    columns = {role: name for role, name in names.items() if name is not None and name in row}
    for role in required:
        name = names[role]
        if role not in columns and name is not None:
            # Without a header the first row's texts stand here: name only what looks like a name.
            known = [column for column in row if re.fullmatch(r"[\w .-]{1,32}", column)]
            raise CatalogError(
                f"{path}: {unknown('column', name, known)} Give its name as {role}=... to "
                "Catalog.from_table."
            )
    return columns


def _value(path: Path, place: str, row: Mapping[str, Any], role: str, column: str) -> Any:
    if column not in row:
        _fail(path, place, f"the column {_short(column)} is missing", "add it to every row")
    try:
        return _CELLS[role](row[column])
    except _BadCellError as error:
        raise CatalogError(f"{path}, {place}: the {role} {error}.") from None


def _fail(path: Path, place: str, what: str, fix: str) -> NoReturn:
    raise CatalogError(f"{path}, {place}: {what}; {fix}.")


def _short(name: str) -> str:
    return repr(name if len(name) <= 32 else name[:29] + "...")


# --- files to rows


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file without NUL bytes or a byte-order mark."""
    # surrogateescape lets a bad byte through as a surrogate, so that its line can be named.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), ""), 1):
            place = f"line {number}"
            if number == 1 and line.startswith("\ufeff"):
                _fail(path, place, "a byte-order mark", "save the file as UTF-8 without BOM")
            if len(line) > MAX_LINE:
                _fail(path, place, f"more than {MAX_LINE} characters", "shorten the line")
            if _SURROGATE.search(line):
                _fail(path, place, "bytes that are not UTF-8", "save the file as UTF-8")
            if "\0" in line:
                _fail(path, place, "a NUL character", "remove it, or save the file as UTF-8")
            yield line


def _read_csv(path: Path) -> Iterator[_Row]:
    reader = csv.reader(_lines(path), strict=True)
    header: list[str] | None = None
    while True:
        place = f"line {reader.line_num + 1}"  # where the record starts
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "a quote that is never closed" if "unexpected end" in str(error) else str(error)
            _fail(path, place, what, 'close every quote, and write a quote inside a field as ""')
        if not record:
            continue
        if header is None:
            header = record
            if len(set(header)) < len(header):
                _fail(path, place, "two columns have one name", "rename one")
        elif len(record) != len(header):
            what = f"{len(record)} fields where the header has {len(header)}"
            _fail(path, place, what, "put fields with commas or line breaks in quotes")
        else:
            yield place, dict(zip(header, record, strict=True))


def _read_jsonl(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_lines(path), 1):
        place = f"line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
        except json.JSONDecodeError as error:
            what = f"not JSON at column {error.colno} ({error.msg})"
            _fail(path, place, what, "write one JSON object a line")
        except _BadCellError as error:
            raise CatalogError(f"{path}, {place}: {error}.") from None
        except (ValueError, RecursionError):  # a number of thousands of digits; nesting
            _fail(
                path, place, "a value beyond what can be read", "write one flat JSON object a line"
            )
        if not isinstance(row, dict):
            _fail(path, place, "not a JSON object", 'write {"text": "..."} on every line')
        yield place, cast(dict[str, Any], row)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _BadCellError("a key occurs twice in one object; delete one of the two")
    return row


def _constant(name: str) -> NoReturn:
    raise _BadCellError(f"{name} is not JSON; write a number, or leave the row out")


def _read_parquet(path: Path) -> Iterator[_Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise CatalogError(
            f"{path}: Parquet needs pyarrow; run: pip install 'llmrec-env[data]', "
            "or save the table as .csv or .jsonl."
        ) from None
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = type(error).__name__
        _fail(path, f"after row {number}", f"not a Parquet file ({kind})", "write the file again")


# --- cells to values


def _text(cell: Any) -> str:
    """The text in Unicode normal form C, with single spaces."""
    if cell is None or cell != cell:  # NaN is what a data frame writes for nothing
        raise _BadCellError("is missing; write one, or delete the row")
    if not isinstance(cell, str):
        raise _BadCellError(f"is of type {type(cell).__name__}; write a string")
    if _SURROGATE.search(cell):
        raise _BadCellError("holds a lone surrogate, which is no character; remove it")
    if "\0" in cell:
        raise _BadCellError("holds a NUL character; remove it")
    text = " ".join(unicodedata.normalize("NFC", cell).split())
    if not text:
        raise _BadCellError("is empty; write one, or delete the row")
    if len(text) > MAX_TEXT:
        raise _BadCellError(f"has {len(text)} characters; shorten it to {MAX_TEXT}")
    return text


def _topic(cell: Any) -> str:
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else _text(cell)


def _substance(cell: Any) -> float:
    fix = "write a number from -1 (clickbait) to 1 (in-depth) in every row, or drop the column"
    try:
        value = math.nan if cell is None or isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if math.isnan(value):
        raise _BadCellError(f"is not a number; {fix}")
    if not -1.0 <= value <= 1.0:
        raise _BadCellError(f"is out of range; {fix}")
    return value


_CELLS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "topic": _topic,
    "substance": _substance,
    "title": _text,
}
