"""Sources of items: the bundled catalogues (generated videos, MovieLens films), and tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llmrec_env.content.cells import MalformedError, number_of, text_of
from llmrec_env.content.table_reader import Names, TableReader

MIN_ITEMS = 20
MAX_ROWS = 2_000_000


class CatalogError(ValueError):
    """A table of items cannot be used; the message says where, why and what to do."""


@dataclass(frozen=True)
class Columns:
    """Items as plain columns, one entry an item; a column that the source lacks is None."""

    texts: Sequence[str]
    topics: Sequence[str] | None = None
    facets: Sequence[str] | None = None
    substance: Sequence[float] | None = None
    titles: Sequence[str] | None = None
    genres: Sequence[tuple[str, ...]] | None = None
    interests: dict[tuple[str, str], tuple[str, ...]] | None = None
    """Authored interest phrases by (topic, facet)."""


def read_items(
    path: str | os.PathLike[str],
    names: Names,
    *,
    required: tuple[str, ...] = ("text",),
    limit: int | None = None,
) -> Columns:
    """Returns the items of a table.

    Args:
        path: a .csv, .jsonl or .parquet file in UTF-8.
        names: column of each role: text, topic, substance, title; None where there is none.
        required: roles whose column must exist; the others are left out if no row has a value.
        limit: read only the first rows.

    Raises:
        CatalogError: the file, a line or a cell cannot be used.
    """
    reader = TableReader(path, CatalogError)
    values: dict[str, list[Any]] = {role: [] for role in names}
    first_without: dict[str, int] = {}
    line_of: dict[str, int] = {}
    for line, cells in islice(reader.rows(names, required), limit):
        if len(line_of) >= MAX_ROWS:
            reader.fail(line, f"there are more than {MAX_ROWS} rows; pass num_items to stop")
        for role, cell in zip(names, cells, strict=True):
            if cell is None and role not in required:
                first_without.setdefault(role, line)
                continue
            try:
                values[role].append(_value(role, cell))
            except MalformedError as error:
                reader.fail(line, str(error))
        text = values["text"][-1]
        if text in line_of:
            first = f"{reader.unit} {line_of[text]}"
            reader.fail(line, f"the text is that of {first}; delete one of the two rows")
        line_of[text] = line
    for role, line in first_without.items():
        if values[role]:
            reader.fail(line, f"the {role} is missing; write it in every row, or drop the column")
    return Columns(
        texts=values["text"],
        topics=values["topic"] or None,
        substance=values["substance"] or None,
        titles=values["title"] or None,
    )


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
    text = text_of(cell, f"a {role}")
    if not text:
        raise MalformedError(f"the {role} is missing or empty; write one, or delete the row")
    return text
