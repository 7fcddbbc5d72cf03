"""Records of what people did, from a file of one's own."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec_env.config import ConfigError, unknown
from llmrec_env.content.cells import MalformedError, identifier_of, number_of, seconds_of, text_of
from llmrec_env.content.table_reader import Names, Table, TableReader
from llmrec_env.datasets.records import (
    CLICK,
    MISSING,
    QUERY,
    RATING,
    UNKNOWN,
    Records,
    RecordsError,
)
from llmrec_env.datasets.saved_logs import saved_records
from llmrec_env.saved_world import is_saved_world
from llmrec_env.simulation.logging_policy import EVENTS

TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Ticks of a second by the unit of times."""


def load_records(
    path: Table,
    *,
    user: str = "user",
    item: str = "item",
    event: str = "event",
    value: str = "value",
    timestamp: str = "timestamp",
    text: str = "text",
    events: Mapping[str, str] | None = None,
    default_event: str | None = None,
    time_unit: str = "s",
    malformed: str = "raise",
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> Records:
    """Returns the records of a table, or of a saved world; `clean` is the next step.

    Args:
        path: a .csv, .tsv, .jsonl (each also .gz) or .parquet file, a data frame, or the folder of
            a world that `make_world` saved; the arguments below do not concern the last.
        user: column of user identifiers; this and the next five name columns.
        item: column of item identifiers.
        event: column of browse, click, rating or query.
        value: column of the rating, or of 1 or 0 for a click that satisfied or not (default 1).
        timestamp: column of times: Unix time, or ISO 8601 (in UTC if it names no zone).
        text: column of the item's text; of a query, what was typed.
        events: what their events are called here, {"view": "click"}.
        default_event: event of records that name none; the column `event` may then be missing.
        time_unit: of times that are numbers: s, ms, us or ns.
        malformed: `raise` for rows that cannot be read, or `drop` and count them.
        delimiter: of CSV; None: that of comma, semicolon, tab and | which fits the header best.
        encoding: of CSV and JSON Lines.

    Raises:
        RecordsError: the file, its header or some rows cannot be used; says the lines and why.
        ConfigError: an argument is none of those allowed.
    """
    if is_saved_world(path):
        return saved_records(path)
    check_reading(events or {}, default_event, time_unit, "malformed", malformed)
    names = dict(user=user, item=item, event=event, value=value, timestamp=timestamp, text=text)
    needed = ("user", "item") if default_event else ("user", "item", "event")
    required = tuple(role for role, name in names.items() if role in needed or name != role)
    drop = malformed == "drop"
    reader = TableReader(path, RecordsError, drop, delimiter=delimiter, encoding=encoding)
    return read_records(reader, names, required, events or {}, default_event, time_unit)


def read_records(
    reader: TableReader,
    names: Names,
    required: tuple[str, ...],
    events: Mapping[str, str],
    default_event: str | None,
    time_unit: str,
    allowed: Allowed | None = None,
) -> Records:
    """Returns the records of a table.

    Args:
        reader: of the table.
        names: column of user, item, event, value, timestamp and text.
        required: roles whose column must exist.
        events: what events are called in the table.
        default_event: of records that name none.
        time_unit: of times that are numbers.
        allowed: records must be complete, and within this; None: `clean` will see.

    Raises:
        RecordsError: the table cannot be used, or some rows, which the reader does not count.
    """
    if len(set(names.values())) < len(names):
        raise RecordsError(f"{reader.path}: two roles have one column; give each its own.")
    columns = _RecordColumns(events, default_event, TICKS[time_unit], allowed)
    for line, cells in reader.rows(names, required):
        try:
            columns.add(*cells)
        except MalformedError as error:
            reader.refuse(line, str(error))
    return columns.records(reader.malformed)


@dataclass(frozen=True)
class Allowed:
    """What complete records may say."""

    items: Mapping[str, str]
    """The items there are, by every name that a record may have for them."""
    rating_range: tuple[float, float]

    def name_of(self, cell: Any) -> str:
        """Returns the name of the item of a cell, or raises `MalformedError`."""
        name = identifier_of(cell)
        if not name:
            raise MalformedError("no item; write one, or delete the row")
        try:
            return self.items[name]
        except KeyError:
            raise MalformedError("an item that is not among the items; add it to them") from None

    def check(self, user: int, event: int, value: float, time: float, timed: bool) -> None:
        """Raises `MalformedError` unless the record is complete and within range."""
        if user == MISSING:
            raise MalformedError("no user; write one, or delete the row")
        if event == MISSING:
            raise MalformedError("no event; write one, or give default_event")
        if event == UNKNOWN:
            raise MalformedError(
                f"an event that is none of {', '.join(EVENTS)}; name it in events, view=click"
            )
        low, high = self.rating_range if event == RATING else (0.0, 1.0)
        if not low <= value <= high:
            raise MalformedError(
                f"a {EVENTS[event]} whose value is no number from {low:g} to {high:g}; correct it"
                + (", or give rating_range" if event == RATING else "")
            )
        if timed and math.isnan(time):
            raise MalformedError("no time that is a number or ISO 8601; write one")


def check_reading(
    events: Mapping[str, str], default_event: str | None, time_unit: str, switch: str, drop: str
) -> None:
    """Raises ConfigError unless these are allowed; `switch` names the argument of `drop`."""
    for name, value, allowed in (
        ("time_unit", time_unit, TICKS),
        (switch, drop, ("raise", "drop")),
        ("default_event", default_event, (None, *EVENTS)),
        *(("event", event, EVENTS) for event in events.values()),
    ):
        if value not in allowed:
            raise ConfigError(unknown(name, value, [str(choice) for choice in allowed]))


class _Numbering:
    """Numbers names from 0 in the order of their first appearance."""

    def __init__(self, name_of: Callable[[Any], str]) -> None:
        """Numbers what `name_of` makes of a cell."""
        self.names: list[str] = []
        self._name_of = name_of
        self._number: dict[str, int] = {}

    def __call__(self, cell: Any) -> int:
        """Returns the number of a cell's name, `MISSING` for an empty one."""
        # Equal keys of other types would meet in the dictionary: 1 == 1.0 == True.
        if type(cell) is str and (known := self._number.get(cell)) is not None:
            return known
        name = self._name_of(cell)
        if not name:
            return MISSING
        number = self._number.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        if type(cell) is str:
            self._number[cell] = number
        return number


class _RecordColumns:
    """Columns that grow by one record at a time."""

    def __init__(
        self,
        events: Mapping[str, str],
        default: str | None,
        ticks: float,
        allowed: Allowed | None,
    ) -> None:
        self._allowed = allowed
        self._events = {name: number for number, name in enumerate(EVENTS)}
        self._events |= {name.lower(): EVENTS.index(ours) for name, ours in events.items()}
        self._default, self._ticks = default, ticks
        self._users = _Numbering(identifier_of)
        self._items = _Numbering(allowed.name_of if allowed else identifier_of)
        self._queries = _Numbering(text_of)
        self._user, self._item, self._event = array("q"), array("q"), array("b")
        self._value, self._time = array("d"), array("d")
        self._texts: dict[int, str] = {}
        self._other_texts, self._timed = 0, False

    def add(self, user: Any, item: Any, event: Any, value: Any, timestamp: Any, text: Any) -> None:
        """Adds a record of these cells, or raises `MalformedError`."""
        event = self._event_number(event)
        text = text_of(text)
        user_number = self._users(user)
        if event == QUERY:
            item_number = self._queries(text or identifier_of(item))
        else:
            item_number = self._items(item)
            if text and item_number != MISSING:
                self._other_texts += self._texts.setdefault(item_number, text) != text
        if event in (CLICK, RATING) and value is not None and value != "":
            number = number_of(value)
        else:
            number = math.nan if event == RATING else 1.0
        seconds, timed = seconds_of(timestamp, self._ticks), timestamp not in (None, "")
        if self._allowed is not None:
            self._allowed.check(user_number, event, number, seconds, timestamp is not None)
        self._user.append(user_number)
        self._item.append(item_number)
        self._event.append(event)
        self._value.append(number)
        self._time.append(seconds)
        self._timed |= timed

    def _event_number(self, event: Any) -> int:
        if event is None or event == "":
            event = self._default
        if event is None:
            return MISSING
        if not isinstance(event, str):
            return UNKNOWN
        return self._events.get(event.strip().lower(), UNKNOWN)

    def records(self, malformed: int) -> Records:
        """Returns what was added."""
        with np.errstate(over="ignore"):  # to infinity, which `clean` drops and counts
            value = np.frombuffer(self._value).astype(np.float32)
        texts = tuple(self._texts.get(item, "") for item in range(len(self._items.names)))
        return Records(
            user=np.frombuffer(self._user, np.int64),
            item=np.frombuffer(self._item, np.int64),
            event=np.frombuffer(self._event, np.int8),
            value=value,
            timestamp=np.frombuffer(self._time) if self._timed else None,
            user_ids=tuple(self._users.names),
            item_ids=tuple(self._items.names),
            item_texts=texts if self._texts else None,
            query_texts=tuple(self._queries.names),
            malformed=malformed,
            other_texts=self._other_texts,
        )
