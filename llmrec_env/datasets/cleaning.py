"""Cleaning of records, with a report of what was dropped and why."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from llmrec_env.config import ConfigError
from llmrec_env.config import unknown as unknown_name
from llmrec_env.content.cells import seconds_of
from llmrec_env.datasets.records import (
    BROWSE,
    CLICK,
    MISSING,
    QUERY,
    RATING,
    UNKNOWN,
    Records,
    RecordsError,
)
from llmrec_env.simulation.logging_policy import EVENTS

Mask = npt.NDArray[np.bool_]
Moment = float | str | datetime | None
"""Unix time in seconds, or a date and time (ISO 8601 where a string)."""


@dataclass
class Report:
    """How many records came in, were dropped, by reason in the order of the steps, and stayed."""

    read: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was seen and not dropped."""

    @property
    def kept(self) -> int:
        """Number of records that stayed."""
        return self.read - sum(self.dropped.values())

    def __str__(self) -> str:
        """A table, one line for each reason that dropped something, then the notes."""
        dropped = {reason: -count for reason, count in self.dropped.items() if count}
        lines = {"records read": self.read} | dropped | {"kept": self.kept}
        width = max(map(len, lines))
        table = [f"{name:<{width}}  {count:>14,}" for name, count in lines.items()]
        return "\n".join([*table, *(f"note: {note}" for note in self.notes)])


class _Filter:
    """Mask of the records that stay; every record is dropped for one reason, its first."""

    def __init__(self, records: Records) -> None:
        self.mask = np.ones(len(records), np.bool_)
        self.report = Report(len(records) + records.malformed)
        self.report.dropped["malformed row"] = records.malformed

    def drop(self, reason: str, bad: Mask) -> None:
        self.report.dropped[reason] = int(np.count_nonzero(self.mask & bad))
        self.mask &= ~bad


def clean(
    records: Records,
    *,
    min_user: int = 0,
    min_item: int = 0,
    drop_duplicates: bool = True,
    earliest: Moment = None,
    latest: Moment = None,
    unknown: str = "drop",
    rating_range: tuple[float, float] | None = None,
) -> tuple[Records, Report]:
    """Returns the records fit to learn from, users and items numbered anew, and what was dropped.

    Args:
        records: as they were read.
        min_user: different items that a user must have clicked or rated to be kept.
        min_item: different users that must have clicked or rated an item; both hold at the end.
        drop_duplicates: keep the first of the records with one user, item, event and time.
        earliest: time before which no record can be; None: none is.
        latest: time after which no record can be; None: now.
        unknown: `drop` and count events that are none of `EVENTS`, or `raise`.
        rating_range: least and greatest possible rating; None: that of the records.

    Raises:
        ConfigError: an argument is out of range.
        RecordsError: there are unknown events, and `unknown` is `raise`.
    """
    low, high = records.rating_range if rating_range is None else rating_range
    start, end = _moment("earliest", earliest, -math.inf), _moment("latest", latest, time.time())
    _check_arguments(min_user, min_item, unknown, (low, high), (start, end))
    selection = _Filter(records)
    _drop_incomplete(records, selection, unknown)
    _drop_by_time(records, selection, start, end)
    _drop_by_value(records, selection, low, high)
    if drop_duplicates:
        _drop_duplicates(records, selection)
    if min_user or min_item:
        _drop_outside_core(records, selection, min_user, min_item)
    clean_records = dataclasses.replace(records.take(selection.mask), rating_range=(low, high))
    clean_records = _renumbered(clean_records)
    _note_texts_and_classes(records, clean_records, selection.report)
    return clean_records, selection.report


def _moment(name: str, moment: Moment, default: float) -> float:
    if moment is None:
        return default
    value = seconds_of(moment)
    if math.isnan(value):
        raise ConfigError(f"{name}={moment!r} is no time; give Unix time in seconds or ISO 8601.")
    return value


def _check_arguments(
    min_user: int,
    min_item: int,
    unknown: str,
    ratings: tuple[float, float],
    times: tuple[float, float],
) -> None:
    for name, least in (("min_user", min_user), ("min_item", min_item)):
        if least < 0:
            raise ConfigError(f"{name}={least} is out of range; give 0 (keep all) or more.")
    if unknown not in ("drop", "raise"):
        raise ConfigError(unknown_name("unknown", unknown, ["drop", "raise"]))
    if not -math.inf < ratings[0] < ratings[1] < math.inf:
        raise ConfigError(f"rating_range={ratings} is no range; give (least, greatest).")
    if not times[0] <= times[1]:
        raise ConfigError(f"earliest={times[0]} is after latest={times[1]}; swap them.")


def _drop_incomplete(records: Records, selection: _Filter, unknown: str) -> None:
    selection.drop("no user", records.user == MISSING)
    selection.drop("no item", records.item == MISSING)
    selection.drop("no event", records.event == MISSING)
    selection.drop("unknown event", records.event == UNKNOWN)
    number = selection.report.dropped["unknown event"]
    if number and unknown == "raise":
        raise RecordsError(
            f"{number} records have an event that is none of {', '.join(EVENTS)}; say what theirs "
            'are called, load_records(events={"view": "click"}), or pass unknown="drop".'
        )


def _drop_by_time(records: Records, selection: _Filter, start: float, end: float) -> None:
    timestamp, report = records.timestamp, selection.report
    if timestamp is None:
        report.notes.append("no record has a time: none was checked, and no split by time is")
        return
    selection.drop("no time, or not a number", ~np.isfinite(timestamp))
    selection.drop("time before the earliest", timestamp < start)
    selection.drop("time after the latest", timestamp > end)
    if report.dropped["time after the latest"] > len(records) // 2:
        report.notes.append("most times are in the future; are they in ms? time_unit='ms'")


def _drop_by_value(records: Records, selection: _Filter, low: float, high: float) -> None:
    value = records.value
    click, rating = records.event == CLICK, records.event == RATING
    selection.drop("no value, or not a number", ~np.isfinite(value))
    selection.drop("value of a click not from 0 to 1", click & ((value < 0) | (value > 1)))
    outside = (value < np.float32(low)) | (value > np.float32(high))
    selection.drop(f"rating not from {low:g} to {high:g}", rating & outside)


def _drop_duplicates(records: Records, selection: _Filter) -> None:
    rows = np.flatnonzero(selection.mask)
    keys = [records.user[rows], records.item[rows], records.event[rows]]
    if records.timestamp is not None:
        keys.append(records.timestamp[rows])
    order = np.lexsort(keys)  # stable: the first that was read comes first among equals
    first = first_of_run([key[order] for key in keys])
    is_repeated = first != np.arange(len(rows))
    value = records.value[rows][order]
    duplicate, contradiction = np.zeros((2, len(records)), np.bool_)
    duplicate[rows[order]] = is_repeated & (value == value[first])
    contradiction[rows[order]] = is_repeated & (value != value[first])
    selection.drop("duplicate", duplicate)
    selection.drop("duplicate with another value", contradiction)


def first_of_run(keys: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.int64]:
    """Returns the index of the first of the equal neighbours of each entry, (m,)."""
    starts = np.ones(len(keys[0]), np.bool_)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def _drop_outside_core(records: Records, selection: _Filter, min_user: int, min_item: int) -> None:
    num_users, num_items = len(records.user_ids), len(records.item_ids)
    rows = selection.mask & ((records.event == CLICK) | (records.event == RATING))
    pairs = np.unique(records.user[rows] * num_items + records.item[rows])
    previous = -1
    few_user, few_item = np.zeros(num_users, np.bool_), np.zeros(num_items, np.bool_)
    while len(pairs) != previous:  # dropping a user can leave an item with too few, and so on
        previous = len(pairs)
        few_user |= np.bincount(pairs // num_items, minlength=num_users) < min_user
        pairs = pairs[~few_user[pairs // num_items]]
        few_item |= np.bincount(pairs % num_items, minlength=num_items) < min_item
        pairs = pairs[~few_item[pairs % num_items]]
    about_item = selection.mask & (records.event != QUERY)
    rare_user, rare_item = np.zeros((2, len(records)), np.bool_)
    rare_user[selection.mask] = few_user[records.user[selection.mask]]
    rare_item[about_item] = few_item[records.item[about_item]]
    selection.drop(f"user with fewer than {min_user} items", rare_user)
    selection.drop(f"item with fewer than {min_item} users", rare_item)


def _renumbered(records: Records) -> Records:
    """The records, and only the users, items and queries that they mention."""
    is_query = records.event == QUERY
    users, user = np.unique(records.user, return_inverse=True)
    item = np.empty_like(records.item)
    items, item[~is_query] = np.unique(records.item[~is_query], return_inverse=True)
    queries, item[is_query] = np.unique(records.item[is_query], return_inverse=True)
    texts = records.item_texts
    return dataclasses.replace(
        records,
        user=user,
        item=item,
        user_ids=tuple(records.user_ids[number] for number in users),
        item_ids=tuple(records.item_ids[number] for number in items),
        item_texts=None if texts is None else tuple(texts[number] for number in items),
        query_texts=tuple(records.query_texts[number] for number in queries),
        malformed=0,
        other_texts=0,
    )


def _note_texts_and_classes(records: Records, clean_records: Records, report: Report) -> None:
    if records.other_texts:
        report.notes.append(
            f"{records.other_texts:,} records give their item another text; the first is kept"
        )
    satisfied = clean_records.clicks()[2]
    if not len(clean_records):
        report.notes.append("nothing is left")
    elif len(np.unique(satisfied)) < 2 and not (clean_records.event == BROWSE).any():
        outcome = "satisfied" if satisfied.any() else "not satisfied (ratings from 4 on are)"
        report.notes.append(
            f"one class only: every click and rating is {outcome} and nothing is browsed; "
            "a classifier cannot learn from that"
        )
