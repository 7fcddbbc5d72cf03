"""Own tables of items and logs, read and checked together."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_env.config import ConfigError
from llmrec_env.content.catalogues import MIN_ITEMS, CatalogError
from llmrec_env.content.catalogues.item_table import ItemTable, read_items
from llmrec_env.content.table_reader import Table, TableReader
from llmrec_env.datasets.cleaning import Report, clean
from llmrec_env.datasets.formats import LayoutReader, format_of
from llmrec_env.datasets.loading import Allowed, check_reading, read_records
from llmrec_env.datasets.records import QUERY, Records, RecordsError
from llmrec_env.datasets.renaming import ITEM_ROLES, LOG_ROLES, check_renaming, columns_of

_HINT = "on_error='drop' (--on-error drop) leaves such rows out and reports them."


@dataclass(frozen=True)
class Reading:
    """How own tables are read.

    Raises:
        ConfigError: a value is none of those allowed.
    """

    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    on_error: str = "raise"
    events: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_event: str | None = None
    time_unit: str = "s"
    rating_range: tuple[float, float] = (1.0, 5.0)
    delimiter: str | None = None
    encoding: str = "utf-8"
    format: str | None = None

    @classmethod
    def of(cls, **given: Any) -> Reading:
        """Returns how tables are read: as a format says, if one is given, or as the rest says.

        Raises:
            ConfigError: a format is unknown, or something that it decides is given too.
        """
        given = {name: value for name, value in given.items() if value not in (None, {})}
        if "format" not in given:
            return cls(**given)
        decided = format_of(given["format"]).options
        taken = sorted({*given} - {"format", "on_error"})
        if taken:
            raise ConfigError(
                f"format={given['format']!r} says how its files are read; leave out "
                f"{', '.join(taken)}."
            )
        return cls(**{**decided, **given})

    def __post_init__(self) -> None:
        check_reading(self.events, self.default_event, self.time_unit, "on_error", self.on_error)
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"delimiter={self.delimiter!r} is not one character; write one.")
        low, high = self.rating_range
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"rating_range={self.rating_range} is no range; give (least, most).")

    def plain_reader(self, table: Table, error: type[ValueError] = CatalogError) -> TableReader:
        """Returns a reader of a table that is of no published format."""
        drop, delimiter = self.on_error == "drop", self.delimiter
        reader = TableReader(table, error, drop, delimiter=delimiter, encoding=self.encoding)
        reader.hint = _HINT
        return reader

    def reader(self, table: Table, error: type[ValueError]) -> TableReader:
        """Returns a reader of a table."""
        if self.format is None:
            return self.plain_reader(table, error)
        form = format_of(self.format)
        layout = form.items if error is CatalogError else form.logs
        reader = LayoutReader(layout, table, error, self.on_error == "drop")
        reader.hint = _HINT
        return reader

    def headers(self, items: Table, logs: Table) -> list[list[str]]:
        """Returns the columns of both tables, or of the items alone; checks the renaming."""
        headers = [self.reader(items, CatalogError).header()]
        if logs is not None:
            headers.append(self.reader(logs, RecordsError).header())
        check_renaming(self.rename, headers)
        return headers


def read_own_items(
    items: Table, header: list[str], how: Reading, needs_names: bool
) -> tuple[ItemTable, list[str]]:
    """Returns the items of a table, and what to tell of it.

    Args:
        items: the table.
        header: its columns.
        how: it is read.
        needs_names: whether records will name items.

    Raises:
        CatalogError: it cannot be used, or has too few items.
    """
    names = columns_of(header, ITEM_ROLES, how.rename)
    required = ["text", *(["item"] if needs_names else [])]
    required += [role for role, name in names.items() if name != role and role not in required]
    reader = how.reader(items, CatalogError)
    table = read_items(reader, names, required=tuple(required), gaps=("substance",))
    count = len(table.columns.texts)
    if count < MIN_ITEMS:
        dropped = "".join(f"\n  left out: {problem}" for problem in table.problems)
        raise CatalogError(
            f"{_name(items)}: {count} items; a world needs {MIN_ITEMS}; add items.{dropped}"
        )
    told = [f"{_name(items)}: {count:,} items of {table.rows:,} rows"]
    return table, told + [f"  left out: {problem}" for problem in table.problems]


def read_own_logs(
    logs: Table, header: list[str], how: Reading, table: ItemTable
) -> tuple[Records, list[str]]:
    """Returns clean records, items numbered as in their table, and what to tell of them.

    Args:
        logs: the table.
        header: its columns.
        how: it is read.
        table: the items.

    Raises:
        RecordsError: it cannot be used.
    """
    names = columns_of(header, LOG_ROLES, how.rename)
    default = how.default_event
    report = []
    if default is None and names["event"] not in header:
        default = "rating" if names["value"] in header else "click"
        report = [f"  no column of events: each record is a {default}"]
    required = ["user", "item", *(["event"] if default is None else [])]
    required += [role for role, name in names.items() if name != role and role not in required]
    ids = {name: name for name in table.columns.ids or ()} | table.aliases
    reader = how.reader(logs, RecordsError)
    raw = read_records(
        reader,
        names | {"text": None},
        tuple(required),
        how.events,
        default,
        how.time_unit,
        Allowed(ids, how.rating_range),
    )
    records, cleaned = clean(raw, rating_range=how.rating_range)
    is_query = records.event == QUERY
    records = records.take(~is_query)
    if not len(records):
        raise RecordsError(f"{_name(logs)}: no record is left to learn from.\n{cleaned}")
    users = len(np.unique(records.user))
    told = [f"{_name(logs)}: {len(records):,} of {cleaned.read:,} records, {users:,} users"]
    if how.format is not None and format_of(how.format).note:
        report.append(f"  note: {format_of(how.format).note}")
    told += report + [f"  left out: {problem}" for problem in reader.problems.table(reader.unit)]
    told += _left_out(cleaned, int(is_query.sum()))
    return _numbered_as(table, records), told + [f"  note: {note}" for note in cleaned.notes]


def _numbered_as(table: ItemTable, records: Records) -> Records:
    """The records, without texts of their own; their items are the rows of a table of items."""
    row_of = {name: row for row, name in enumerate(table.columns.ids or ())}
    rows = np.array([row_of[name] for name in records.item_ids])
    return dataclasses.replace(
        records,
        item=rows[records.item],
        item_ids=tuple(table.columns.ids or ()),
        item_texts=None,
        query_texts=(),
    )


def _left_out(cleaned: Report, queries: int) -> list[str]:
    """Lines of how many records were left out, by reason; malformed rows are told elsewhere."""
    dropped = {reason: count for reason, count in cleaned.dropped.items() if count}
    dropped.pop("malformed row", None)
    if queries:
        dropped["query: what users typed is not kept"] = queries
    return [f"  left out: {count:,} x {reason}" for reason, count in dropped.items()]


def _name(table: Table) -> str:
    return Path(table).name if isinstance(table, str | os.PathLike) else "DataFrame"
