"""Records of what people did, from a file of one's own."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llmrec_env.config import ConfigError, unknown
from llmrec_env.content.cells import MalformedError, identifier_of, number_of, seconds_of, text_of
from llmrec_env.content.table_reader import TableReader
from llmrec_env.datasets.records import (
    CLICK,
    MISSING,
    QUERY,
    RATING,
    UNKNOWN,
    Records,
    RecordsError,
)
from llmrec_env.simulation.logging_policy import EVENTS

TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Ticks of a second by the unit of times."""


def load_records(
    path: str | os.PathLike[str],
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
) -> Records:
    """Returns the records of a .csv, .jsonl or .parquet file; `clean` is the next step.

    Args:
        path: the file, in UTF-8.
        user: column of user identifiers; this and the next five name columns.
        item: column of item identifiers.
        event: column of browse, click, rating or query.
        value: column of the rating, or of 1 or 0 for a click that satisfied or not (default 1).
        timestamp: column of times: Unix time, or ISO 8601 (in UTC if it names no zone).
        text: column of the item's text; of a query, what was typed.
        events: what their events are called here, {"view": "click"}.
        default_event: event of records that name none; the column `event` may then be missing.
        time_unit: of times that are numbers: s, ms, us or ns.
        malformed: `raise` at a row that cannot be read, or `drop` and count it.

    Raises:
        RecordsError: the file, its header or a row cannot be used; says the line and why.
        ConfigError: an argument is none of those allowed.
    """
    _check_arguments(events or {}, default_event, time_unit, malformed)
    names = dict(user=user, item=item, event=event, value=value, timestamp=timestamp, text=text)
    if len(set(names.values())) < len(names):
        raise RecordsError(
            f"{os.fspath(path)}: two roles have one column; give each a name of its own."
        )
    needed = ("user", "item") if default_event else ("user", "item", "event")
    required = tuple(role for role, name in names.items() if role in needed or name != role)
    reader = TableReader(path, RecordsError, count_malformed=malformed == "drop")
    columns = _RecordColumns(events or {}, default_event, TICKS[time_unit])
    for line, cells in reader.rows(names, required):
        try:
            columns.add(*cells)
        except MalformedError as error:
            reader.refuse(line, str(error))
    return columns.records(reader.malformed)


def _check_arguments(
    events: Mapping[str, str], default_event: str | None, time_unit: str, malformed: str
) -> None:
    for name, value, allowed in (
        ("time_unit", time_unit, TICKS),
        ("malformed", malformed, ("raise", "drop")),
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

    def __init__(self, events: Mapping[str, str], default: str | None, ticks: float) -> None:
        self._events = {name: number for number, name in enumerate(EVENTS)}
        self._events |= {name.lower(): EVENTS.index(ours) for name, ours in events.items()}
        self._default, self._ticks = default, ticks
        self._users, self._items = _Numbering(identifier_of), _Numbering(identifier_of)
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
        self._user.append(user_number)
        self._item.append(item_number)
        self._event.append(event)
        if event in (CLICK, RATING) and value is not None and value != "":
            self._value.append(number_of(value))
        else:
            self._value.append(np.nan if event == RATING else 1.0)
        self._time.append(seconds_of(timestamp, self._ticks))
        self._timed |= timestamp is not None and timestamp != ""

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
