"""Records of users' events, from whatever source, and what recommenders learn from them."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.atomic_files import write_atomically
from llmrec_env.content.catalogues.movielens import DEFAULT_ITEMS, movielens_ratings
from llmrec_env.simulation.logging_policy import EVENTS
from llmrec_env.world import PublicData

MISSING = -1
"""Number of a user, an item or an event where there is none."""
UNKNOWN = -2
"""Number of an event that is none of `EVENTS`."""

BROWSE, CLICK, RATING, QUERY = range(len(EVENTS))


class RecordsError(ValueError):
    """A table of records cannot be used; the message says where, why and what to do."""


Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False, repr=False)
class Records:
    """M records in the order they were read; read-only.

    Raises:
        ValueError: columns of different lengths, or numbers out of range.
    """

    user: npt.NDArray[np.int64]
    """(M,), numbers of users, `MISSING` where there is none."""
    item: npt.NDArray[np.int64]
    """(M,), numbers of items, of a query the number of its text; `MISSING` where there is none."""
    event: npt.NDArray[np.int8]
    """(M,), indices into `EVENTS`; `MISSING`, or `UNKNOWN` for any other event."""
    value: npt.NDArray[np.float32]
    """(M,): click: satisfied 1 or 0; rating: stars; otherwise 1."""
    timestamp: npt.NDArray[np.float64] | None
    """(M,), seconds of Unix time (the simulator's: steps), nan where missing; None: no times."""
    user_ids: tuple[str, ...]
    """Private: what users are called, by number."""
    item_ids: tuple[str, ...]
    """What items are called, by number."""
    item_texts: tuple[str, ...] | None = None
    """Texts of the items, "" for an item without; None: no texts."""
    query_texts: tuple[str, ...] = ()
    """Private: what users typed, no text twice."""
    rating_range: tuple[float, float] = (1.0, 5.0)
    """Least and greatest rating that is possible."""
    malformed: int = 0
    """Rows of the file that are not among the records."""
    other_texts: int = 0
    """Records with another text for their item than its first, which is kept."""

    def __post_init__(self) -> None:
        columns = {"user": np.int64, "item": np.int64, "event": np.int8, "value": np.float32}
        if self.timestamp is not None:
            columns["timestamp"] = np.float64
        for name, kind in columns.items():
            column = np.asarray(getattr(self, name), kind).view()
            if column.shape != (len(self.user),):
                raise ValueError(f"{name} has shape {column.shape}, not ({len(self.user)},)")
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        is_query = self.event == QUERY
        _check_numbers("user", self.user, MISSING, len(self.user_ids))
        _check_numbers("item", self.item[~is_query], MISSING, len(self.item_ids))
        _check_numbers("item (of queries)", self.item[is_query], MISSING, len(self.query_texts))
        _check_numbers("event", self.event, UNKNOWN, len(EVENTS))
        if self.item_texts is not None and len(self.item_texts) != len(self.item_ids):
            raise ValueError(f"{len(self.item_texts)} item_texts for {len(self.item_ids)} item_ids")

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        """Sizes alone: users are private."""
        sizes = f"{len(self):,} records, {len(self.user_ids):,} users, {len(self.item_ids):,} items"
        return f"Records({sizes})"

    def take(self, rows: npt.NDArray[Any]) -> Records:
        """Returns the records at these indices, or where a mask is true; the numbers stay."""
        return dataclasses.replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            event=self.event[rows],
            value=self.value[rows],
            timestamp=None if self.timestamp is None else self.timestamp[rows],
        )

    @property
    def satisfying_rating(self) -> float:
        """The rating from which on one satisfies: three quarters of the way up their range."""
        low, high = self.rating_range
        return low + 0.75 * (high - low)

    def clicks(self, threshold: float = 4.0) -> tuple[npt.NDArray[np.int64], ...]:
        """Returns (user, item, satisfied) of clicks and ratings, each (m,), as recommenders learn.

        A click on what the same user rated is left out: the rating says more.

        Args:
            threshold: ratings from there on are satisfied; of clicks, values from 0.5 on.
        """
        pair, is_rating = self._pairs(), self.event == RATING
        mask = is_rating | ((self.event == CLICK) & ~np.isin(pair, pair[is_rating]))
        least = np.where(is_rating, threshold, 0.5)[mask]
        satisfied = (self.value[mask] >= least).astype(np.int64)
        return self.user[mask], self.item[mask], satisfied

    def negatives(self) -> Pairs:
        """Returns (user, item) of what was browsed and never clicked or rated by the user."""
        pair, is_consumed = self._pairs(), (self.event == CLICK) | (self.event == RATING)
        mask = (self.event == BROWSE) & ~np.isin(pair, pair[is_consumed])
        return self.user[mask], self.item[mask]

    def require_complete(self) -> None:
        """Raises `RecordsError` unless every record has a user, an item and a known event."""
        if len(self) and min(self.user.min(), self.item.min(), self.event.min()) < 0:
            raise RecordsError("some records lack a user, an item or an event; pass them to clean.")

    def _pairs(self) -> npt.NDArray[np.int64]:
        self.require_complete()
        return self.user * len(self.item_ids) + self.item

    def write_catalog(self, path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
        """Writes the items that have a text of their own as a CSV that `gym.make(catalog=)` takes.

        Returns:
            The item of each row; an item without a text, or with that of one before, has none.

        Raises:
            RecordsError: the path does not end in .csv, or there are no texts.
        """
        path = Path(path)
        if path.suffix.lower() != ".csv":
            raise RecordsError(f"{path}: the items are written as CSV; end the name in .csv.")
        if self.item_texts is None:
            raise RecordsError("the records hold no texts of items; load them with text=COLUMN.")
        rows: dict[str, int] = {}
        for item, text in enumerate(self.item_texts):
            if text:
                rows.setdefault(text, item)
        content = io.StringIO(newline="")
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(["item", "text"])
        writer.writerows((self.item_ids[item], text) for text, item in rows.items())
        write_atomically(path, content.getvalue().encode())
        return np.array(list(rows.values()), np.int64)


def _check_numbers(name: str, column: npt.NDArray[Any], least: int, count: int) -> None:
    if len(column) and not least <= column.min() <= column.max() < count:
        raise ValueError(f"{name} must be from {least} to {count - 1} everywhere")


def movielens_records(num_items: int | None = None) -> Records:
    """Returns what real users rated of the films of `Catalog.load("movielens", num_items)`.

    Items are called by their number there, where their texts are.

    Raises:
        CatalogError: the data are not installed.
        ConfigError: there are not that many films.
    """
    ratings = movielens_ratings(num_items)
    return Records(
        user=ratings["user"],
        item=ratings["item"],
        event=np.full(len(ratings), RATING),
        value=ratings["rating"],
        timestamp=ratings["timestamp"],
        user_ids=_numbers_as_names(int(ratings["user"].max()) + 1),
        item_ids=_numbers_as_names(DEFAULT_ITEMS if num_items is None else num_items),
        rating_range=(0.5, 5.0),
    )


def records_of(public: PublicData) -> Records:
    """Returns the simulator's records of its training users, in the order of user and time.

    Users and items are called by their number in the world; times are steps, negative.
    """
    table = public.records()
    event = np.select([table["event"] == name for name in EVENTS], range(len(EVENTS)), UNKNOWN)
    return Records(
        user=table["user"],
        item=table["item"],
        event=event,
        value=table["value"],
        timestamp=table["timestamp"],
        user_ids=_numbers_as_names(int(public.users.max()) + 1),
        item_ids=_numbers_as_names(len(public.catalog)),
        item_texts=public.catalog.texts,
        query_texts=public.phrases.texts,
    )


def _numbers_as_names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
