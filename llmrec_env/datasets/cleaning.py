"""Records made fit to learn from, and a report of what was dropped and why."""

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
        happened = {reason: -count for reason, count in self.dropped.items() if count}
        lines = {"records read": self.read, **happened, "kept": self.kept}
        width = max(map(len, lines))
        table = [f"{name:<{width}}  {count:>14,}" for name, count in lines.items()]
        return "\n".join([*table, *(f"note: {note}" for note in self.notes)])


class _Sieve:
    """Which records are still there; every record falls for one reason, its first."""

    def __init__(self, records: Records) -> None:
        self.kept = np.ones(len(records), np.bool_)
        self.report = Report(len(records) + records.malformed)
        self.report.dropped["malformed row"] = records.malformed

    def drop(self, reason: str, bad: Mask) -> None:
        self.report.dropped[reason] = int(np.count_nonzero(self.kept & bad))
        self.kept &= ~bad


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
        unknown: `drop` and count events that are none of `logs.EVENTS`, or `raise`.
        rating_range: least and greatest possible rating; None: that of the records.

    Raises:
        ConfigError: an argument is out of range.
        RecordsError: there are unknown events, and `unknown` is `raise`.
    """
    low, high = records.rating_range if rating_range is None else rating_range
    start, end = _moment("earliest", earliest, -math.inf), _moment("latest", latest, time.time())
    _check_arguments(min_user, min_item, unknown, (low, high), (start, end))
    sieve = _Sieve(records)
    _drop_nameless(records, sieve, unknown)
    _drop_untimely(records, sieve, start, end)
    _drop_worthless(records, sieve, low, high)
    if drop_duplicates:
        _drop_duplicates(records, sieve)
    if min_user or min_item:
        _drop_outside_core(records, sieve, min_user, min_item)
    kept = _renumbered(dataclasses.replace(records.take(sieve.kept), rating_range=(low, high)))
    _note_texts_and_classes(records, kept, sieve.report)
    return kept, sieve.report


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


def _drop_nameless(records: Records, sieve: _Sieve, unknown: str) -> None:
    sieve.drop("no user", records.user == MISSING)
    sieve.drop("no item", records.item == MISSING)
    sieve.drop("no event", records.event == MISSING)
    sieve.drop("unknown event", records.event == UNKNOWN)
    number = sieve.report.dropped["unknown event"]
    if number and unknown == "raise":
        raise RecordsError(
            f"{number} records have an event that is none of {', '.join(EVENTS)}; say what theirs "
            'are called, load_records(events={"view": "click"}), or pass unknown="drop".'
        )


def _drop_untimely(records: Records, sieve: _Sieve, start: float, end: float) -> None:
    when, report = records.timestamp, sieve.report
    if when is None:
        report.notes.append("no record has a time: none was checked, and no split by time is")
        return
    sieve.drop("no time, or not a number", ~np.isfinite(when))
    sieve.drop("time before the earliest", when < start)
    sieve.drop("time after the latest", when > end)
    if report.dropped["time after the latest"] > len(records) // 2:
        report.notes.append("most times are in the future; are they in ms? time_unit='ms'")


def _drop_worthless(records: Records, sieve: _Sieve, low: float, high: float) -> None:
    value = records.value
    click, rating = records.event == CLICK, records.event == RATING
    sieve.drop("no value, or not a number", ~np.isfinite(value))
    sieve.drop("value of a click not from 0 to 1", click & ((value < 0) | (value > 1)))
    out = (value < np.float32(low)) | (value > np.float32(high))
    sieve.drop(f"rating not from {low:g} to {high:g}", rating & out)


def _drop_duplicates(records: Records, sieve: _Sieve) -> None:
    there = np.flatnonzero(sieve.kept)
    keys = [records.user[there], records.item[there], records.event[there]]
    if records.timestamp is not None:
        keys.append(records.timestamp[there])
    order = np.lexsort(keys)  # stable: the first that was read comes first among equals
    first = first_of_run([key[order] for key in keys])
    repeated = first != np.arange(len(there))
    value = records.value[there][order]
    duplicate, other = np.zeros((2, len(records)), np.bool_)
    duplicate[there[order]] = repeated & (value == value[first])
    other[there[order]] = repeated & (value != value[first])
    sieve.drop("duplicate", duplicate)
    sieve.drop("duplicate with another value", other)


def first_of_run(keys: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.int64]:
    """Returns the place of the first of the equal neighbours of each place, (m,)."""
    starts = np.ones(len(keys[0]), np.bool_)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def _drop_outside_core(records: Records, sieve: _Sieve, min_user: int, min_item: int) -> None:
    num_users, num_items = len(records.user_ids), len(records.item_ids)
    used = sieve.kept & ((records.event == CLICK) | (records.event == RATING))
    pairs = np.unique(records.user[used] * num_items + records.item[used])
    before = -1
    few_user, few_item = np.zeros(num_users, np.bool_), np.zeros(num_items, np.bool_)
    while len(pairs) != before:  # dropping a user can leave an item with too few, and so on
        before = len(pairs)
        few_user |= np.bincount(pairs // num_items, minlength=num_users) < min_user
        pairs = pairs[~few_user[pairs // num_items]]
        few_item |= np.bincount(pairs % num_items, minlength=num_items) < min_item
        pairs = pairs[~few_item[pairs % num_items]]
    about_item = sieve.kept & (records.event != QUERY)
    bad = np.zeros((2, len(records)), np.bool_)
    bad[0, sieve.kept] = few_user[records.user[sieve.kept]]
    bad[1, about_item] = few_item[records.item[about_item]]
    sieve.drop(f"user with fewer than {min_user} items", bad[0])
    sieve.drop(f"item with fewer than {min_item} users", bad[1])


def _renumbered(records: Records) -> Records:
    """The records, and only the users, items and queries that they mention."""
    typed = records.event == QUERY
    users, user = np.unique(records.user, return_inverse=True)
    item = np.empty_like(records.item)
    items, item[~typed] = np.unique(records.item[~typed], return_inverse=True)
    queries, item[typed] = np.unique(records.item[typed], return_inverse=True)
    texts = records.item_texts
    return dataclasses.replace(
        records,
        user=user,
        item=item,
        user_ids=tuple(records.user_ids[place] for place in users),
        item_ids=tuple(records.item_ids[place] for place in items),
        item_texts=None if texts is None else tuple(texts[place] for place in items),
        query_texts=tuple(records.query_texts[place] for place in queries),
        malformed=0,
        other_texts=0,
    )


def _note_texts_and_classes(records: Records, kept: Records, report: Report) -> None:
    if records.other_texts:
        report.notes.append(
            f"{records.other_texts:,} records give their item another text; the first is kept"
        )
    satisfied = kept.clicks()[2]
    if not len(kept):
        report.notes.append("nothing is left")
    elif len(np.unique(satisfied)) < 2 and not (kept.event == BROWSE).any():
        outcome = "satisfied" if satisfied.any() else "not satisfied (ratings from 4 on are)"
        report.notes.append(
            f"one class only: every click and rating is {outcome} and nothing is browsed; "
            "a classifier cannot learn from that"
        )
