"""Items from a table of one's own: every row is an item, or is told of."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from llmrec_env.content.catalogues import MAX_ROWS, Columns
from llmrec_env.content.cells import MalformedError, identifier_of, number_of, text_of
from llmrec_env.content.table_reader import Names, TableReader

_Row = dict[str, Any]


@dataclass
class ItemTable:
    """What was read of a table."""

    columns: Columns
    rows: int
    """Rows read, those left out included."""
    problems: list[str]
    """What was left out: a line of text for each kind."""
    places: list[int]
    """Row of each item in the table, from 0."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Names of items left out for the text of another item, to that item's name."""


def read_items(
    reader: TableReader,
    names: Names,
    *,
    required: tuple[str, ...] = ("text",),
    limit: int | None = None,
    gaps: Collection[str] = (),
) -> ItemTable:
    """Returns the items of a table.

    Args:
        reader: of the table.
        names: column of each role: item, text, topic, substance, title; None where there is none.
        required: roles whose column must exist; the others are left out if no row has a value.
        limit: read only the first rows.
        gaps: roles of numbers that some rows may lack; they are nan there.

    Raises:
        CatalogError: the table cannot be used, or some rows, which the reader does not count.
    """
    kept = _Kept(reader)
    count = 0
    for line, cells in islice(reader.rows(names, required), limit):
        count += 1
        if count > MAX_ROWS:
            reader.fail(line, f"there are more than {MAX_ROWS} rows; pass num_items to stop")
        try:
            kept.add(line, dict(_values(names, cells, required, gaps)))
        except MalformedError as error:
            reader.refuse(line, str(error))
    rows = kept.complete(names, gaps)
    reader.finish()

    def column(role: str) -> list[Any] | None:
        return [row[role] for row in rows] if rows and role in rows[0] else None

    columns = Columns(
        texts=column("text") or [],
        topics=column("topic"),
        substance=column("substance"),
        titles=column("title"),
        ids=column("item"),
    )
    problems = reader.problems.table(reader.unit)
    place = {line: row for row, line in enumerate(sorted([*kept.lines, *reader.refused]))}
    places = [place[line] for line in kept.lines]
    return ItemTable(columns, len(place), problems, places, kept.aliases)


class _Kept:
    """Rows by line, no two with one text or one name."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._rows: dict[int, _Row] = {}
        self._line_of: dict[str, dict[Any, int]] = {"item": {}, "text": {}}
        self.aliases: dict[str, str] = {}

    @property
    def lines(self) -> list[int]:
        return list(self._rows)

    def add(self, line: int, row: _Row) -> None:
        for role, line_of in self._line_of.items():
            first = line_of.get(row.get(role))
            if first is None:
                continue
            if role == "text" and row.get("item"):
                self.aliases[row["item"]] = self._rows[first]["item"]
            raise MalformedError(
                f"the {role} is that of {self._reader.unit} {first}; delete one of the two rows"
            )
        self._rows[line] = row
        for role, line_of in self._line_of.items():
            if row.get(role) is not None:
                line_of[row[role]] = line

    def complete(self, names: Names, gaps: Collection[str]) -> list[_Row]:
        """The rows that have all roles that any row has; a role that none has is left out."""
        for role in names:
            without = [line for line, row in self._rows.items() if row[role] is None]
            if len(without) == len(self._rows):
                for row in self._rows.values():
                    del row[role]
                continue
            for line in without:
                if role in gaps:
                    self._rows[line][role] = math.nan
                    continue
                problem = f"the {role} is missing; write it in every row, or drop the column"
                self._reader.refuse(line, problem)
                del self._rows[line]
        return list(self._rows.values())


def _values(
    names: Names, cells: tuple[Any, ...], required: tuple[str, ...], gaps: Collection[str]
) -> list[tuple[str, Any]]:
    """The values of a row by role; None where there is none and need not be."""
    return [
        (role, None if _absent(cell, role not in required, role in gaps) else _value(role, cell))
        for role, cell in zip(names, cells, strict=True)
    ]


def _absent(cell: Any, optional: bool, may_lack: bool) -> bool:
    if may_lack:
        return cell is None or cell == "" or cell != cell  # not a number, as data frames write it
    return optional and cell is None


def _value(role: str, cell: Any) -> str | float:
    """The value of a cell that must have one, or MalformedError."""
    if role == "substance":
        substance = number_of(None if isinstance(cell, bool) else cell)
        if not -1.0 <= substance <= 1.0:
            raise MalformedError(
                "the substance is no number from -1 (clickbait) to 1 (in-depth); write one in "
                "every row, or drop the column"
            )
        return substance
    if role == "topic" and isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    text = identifier_of(cell) if role == "item" else text_of(cell, f"a {role}")
    if not text:
        raise MalformedError(f"the {role} is missing or empty; write one, or delete the row")
    return text
