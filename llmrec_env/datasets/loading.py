"""Records from a file of one's own."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrec_env.config import ConfigError, unknown
from llmrec_env.datasets.cells import (
    MISSING,
    TIME_UNITS,
    Numbering,
    identifier,
    number,
    seconds,
    text,
)
from llmrec_env.datasets.records import CLICK, QUERY, RATING, UNKNOWN, Records
from llmrec_env.datasets.rows import MalformedError, Refusal, read_rows
from llmrec_env.simulation.logging_policy import EVENTS


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
    for name, given, allowed in (
        ("time_unit", time_unit, TIME_UNITS),
        ("malformed", malformed, ("raise", "drop")),
        ("default_event", default_event, (None, *EVENTS)),
        *(("event", ours, EVENTS) for ours in (events or {}).values()),
    ):
        if given not in allowed:
            raise ConfigError(unknown(name, given, [str(each) for each in allowed]))
    names = {"user": user, "item": item, "event": event}
    names |= {"value": value, "timestamp": timestamp, "text": text}
    needed = ("user", "item") if default_event else ("user", "item", "event")
    required = tuple(role for role, name in names.items() if role in needed or name != role)
    refuse = Refusal(path, count_only=malformed == "drop")
    collected = _Collected(events or {}, default_event, TIME_UNITS[time_unit])
    for line, cells in read_rows(names, required, refuse):
        try:
            collected.add(*cells)
        except MalformedError as error:
            refuse(line, str(error))
    return collected.records(refuse.count)


class _Collected:
    """Columns that grow by one record at a time."""

    def __init__(self, events: Mapping[str, str], default: str | None, ticks: float) -> None:
        self._events = {name: place for place, name in enumerate(EVENTS)}
        self._events |= {name.lower(): EVENTS.index(ours) for name, ours in events.items()}
        self._default, self._ticks = default, ticks
        self._users, self._items = Numbering(identifier), Numbering(identifier)
        self._queries = Numbering(text)
        self._user, self._item, self._event = array("q"), array("q"), array("b")
        self._value, self._time = array("d"), array("d")
        self._texts: dict[int, str] = {}
        self._other_texts, self._timed = 0, False

    def add(self, user: Any, item: Any, event: Any, value: Any, when: Any, words: Any) -> None:
        """Adds a record, or raises `MalformedError`."""
        kind = self._kind(event)
        words = text(words)
        who = self._users(user)
        if kind == QUERY:
            what = self._queries(words or identifier(item))
        else:
            what = self._items(item)
            if words and what != MISSING and self._texts.setdefault(what, words) != words:
                self._other_texts += 1
        given = kind >= 0 and kind in (CLICK, RATING) and value is not None and value != ""
        self._user.append(who)
        self._item.append(what)
        self._event.append(kind)
        self._value.append(number(value) if given else np.nan if kind == RATING else 1.0)
        self._time.append(seconds(when, self._ticks))
        self._timed |= when is not None and when != ""

    def _kind(self, event: Any) -> int:
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
