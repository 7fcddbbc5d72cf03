import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec_env.config import ConfigError
from llmrec_env.content.catalog import Catalog
from llmrec_env.datasets import (
    BROWSE,
    CLICK,
    MISSING,
    QUERY,
    RATING,
    UNKNOWN,
    Records,
    RecordsError,
    clean,
    split_by_time,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "own_logs.md"

NUMBERS = 6  # users, items and queries of the drawn records
CELLS = {
    "user": st.integers(MISSING, NUMBERS - 1),
    "item": st.integers(MISSING, NUMBERS - 1),
    "event": st.integers(UNKNOWN, 3),
    "value": st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1.0, 3.0, 5.0, 6.0]),
    "timestamp": st.sampled_from([np.nan, np.inf, -5.0, 0.0, 1.0, 2.0, 3.0, 1e12]),
}
CLEAN_CELLS = {
    "user": st.integers(0, NUMBERS - 1),
    "item": st.integers(0, NUMBERS - 1),
    "event": st.integers(0, 3),
    "value": st.just(1.0),
    "timestamp": st.integers(0, 12),
}


def drawn(cells: dict[str, Any], most: int = 60) -> st.SearchStrategy[Records]:
    """Draws records with such cells."""
    rows = st.lists(st.tuples(*cells.values()), max_size=most)
    return rows.map(lambda rows: made(*rows))


def made(*rows: tuple[Any, ...], **changes: Any) -> Records:
    """Records of (user, item, event, value, timestamp)."""
    columns = np.array(rows, np.float64).reshape(len(rows), 5).T
    user, item, event = columns[:3].astype(np.int64)
    names = tuple(f"name {i}" for i in range(NUMBERS))
    records = Records(
        user=user,
        item=item,
        event=event,
        value=columns[3],
        timestamp=columns[4],
        user_ids=names,
        item_ids=names,
        item_texts=names,
        query_texts=names,
    )
    return dataclasses.replace(records, **changes)


def rows_of(records: Records) -> list[tuple[Any, ...]]:
    """The records with what users, items and queries are called."""
    names = [
        records.query_texts[item] if event == QUERY else records.item_ids[item]
        for item, event in zip(records.item, records.event, strict=True)
    ]
    users = [records.user_ids[user] for user in records.user]
    times = [None] * len(records) if records.timestamp is None else records.timestamp.tolist()
    return list(
        zip(users, names, records.event.tolist(), records.value.tolist(), times, strict=True)
    )


def dropped(records: Records, **arguments: Any) -> dict[str, int]:
    """What cleaning drops, by reason."""
    return {reason: n for reason, n in clean(records, **arguments)[1].dropped.items() if n}


# --- clean


@given(
    records=drawn(CELLS),
    timed=st.booleans(),
    malformed=st.integers(0, 3),
    arguments=st.fixed_dictionaries(
        {
            "min_user": st.integers(0, 3),
            "min_item": st.integers(0, 3),
            "drop_duplicates": st.booleans(),
            "earliest": st.sampled_from([None, 0.0, 1.0]),
            "rating_range": st.sampled_from([None, (0.0, 6.0)]),
        }
    ),
)
def test_kept_and_dropped_add_up_and_what_is_kept_is_clean(
    records: Records, timed: bool, malformed: int, arguments: dict[str, Any]
):
    timestamp = records.timestamp if timed else None
    records = dataclasses.replace(records, malformed=malformed, timestamp=timestamp)
    cleaned, report = clean(records, **arguments)
    assert report.read == len(records) + malformed
    assert len(cleaned) + sum(report.dropped.values()) == report.read
    assert len(cleaned) == report.kept and min(report.dropped.values()) >= 0
    rows = rows_of(cleaned)
    assert set(cleaned.user_ids) == {row[0] for row in rows}
    assert set(cleaned.item_ids) == {row[1] for row in rows if row[2] != QUERY}
    assert cleaned.item_texts == cleaned.item_ids  # as in `made`
    low, high = arguments["rating_range"] or (1.0, 5.0)
    assert all(low <= row[3] <= high for row in rows if row[2] == RATING)
    assert all(row[2] >= 0 and np.isfinite(row[3]) for row in rows)
    if timed:
        start = -np.inf if arguments["earliest"] is None else arguments["earliest"]
        assert all(start <= row[4] <= time.time() for row in rows)
    if arguments["drop_duplicates"]:
        keys = [(*row[:3], row[4]) for row in rows]
        assert len(set(keys)) == len(keys)
    used = {row[:2] for row in rows if row[2] in (CLICK, RATING)}
    for name in cleaned.user_ids:
        assert sum(user == name for user, _ in used) >= arguments["min_user"]
    for name in cleaned.item_ids:
        assert sum(item == name for _, item in used) >= arguments["min_item"]
    assert rows_of(clean(cleaned, **arguments)[0]) == rows  # nothing more to do


@given(records=drawn(CELLS))
def test_clean_records_keep_their_order_and_content(records: Records):
    rows = iter(rows_of(records))
    for row in rows_of(clean(records)[0]):
        assert any(other == row for other in rows)  # consumes what was dropped in between


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((MISSING, 0, CLICK, 1, 1), "no user"),
        ((0, MISSING, CLICK, 1, 1), "no item"),
        ((0, 0, MISSING, 1, 1), "no event"),
        ((0, 0, UNKNOWN, 1, 1), "unknown event"),
        ((0, 0, CLICK, 1, np.nan), "no time, or not a number"),
        ((0, 0, CLICK, 1, -np.inf), "no time, or not a number"),
        ((0, 0, CLICK, 1, -9), "time before the earliest"),
        ((0, 0, CLICK, 1, 101), "time after the latest"),
        ((0, 0, RATING, np.nan, 1), "no value, or not a number"),
        ((0, 0, CLICK, np.inf, 1), "no value, or not a number"),
        ((0, 0, CLICK, 2, 1), "value of a click not from 0 to 1"),
        ((0, 0, RATING, 0.5, 1), "rating not from 1 to 5"),
        ((0, 0, RATING, 5.5, 1), "rating not from 1 to 5"),
        ((1, 1, CLICK, 1, 2), "duplicate"),
        ((1, 1, CLICK, 0, 2), "duplicate with another value"),
    ],
)
def test_every_fault_is_dropped_for_its_reason(bad: tuple[Any, ...], reason: str):
    good = [(1, 1, CLICK, 1, 2), (1, 2, RATING, 5, 3), (1, 3, BROWSE, 1, 3)]
    cleaned, report = clean(made(*good, bad), earliest=0, latest=100)
    assert {name: n for name, n in report.dropped.items() if n} == {reason: 1}
    assert rows_of(cleaned) == rows_of(made(*good))


def test_a_record_falls_once_for_the_first_reason():
    assert dropped(made((MISSING, MISSING, UNKNOWN, np.nan, np.nan))) == {"no user": 1}


def test_the_future_begins_now():
    now = time.time()
    records = made((0, 0, CLICK, 1, now - 60), (0, 1, CLICK, 1, now + 3600))
    assert dropped(records) == {"time after the latest": 1}
    assert dropped(records, latest="2999-01-01") == {}
    assert dropped(records, earliest="2100-01-01", latest="2999-01-01T00:00:00Z") == {
        "time before the earliest": 2
    }


def test_times_in_milliseconds_are_pointed_out():
    records = made(*((0, item, CLICK, 1, 1.7e12) for item in range(3)))
    assert "time_unit='ms'" in str(clean(records)[1])


def test_the_core_is_what_remains_when_dropping_ends():
    # A chain: user i took items i and i + 1. At 2 and 2 its end unravels it; the square stays.
    chain = [(user, item, CLICK, 1, 1) for user in range(3) for item in (user, user + 1)]
    square = [(user, item, RATING, 5, 1) for user in (3, 4) for item in (4, 5)]
    browsed = [(3, 0, BROWSE, 1, 1), (0, 0, QUERY, 1, 1)]
    cleaned, report = clean(made(*chain, *square, *browsed), min_user=2, min_item=2)
    assert rows_of(cleaned) == rows_of(made(*square))
    assert report.dropped["user with fewer than 2 items"] == 7
    assert report.dropped["item with fewer than 2 users"] == 1


def test_the_number_of_a_query_is_not_that_of_an_item():
    # Item 0 falls; the query numbered 0 is another thing, and stays with its user.
    rows = [(0, 0, CLICK, 1, 1), (0, 1, CLICK, 1, 2), (1, 1, CLICK, 1, 3), (0, 0, QUERY, 1, 4)]
    cleaned, _ = clean(made(*rows), min_item=2)
    assert rows_of(cleaned) == rows_of(made(*rows[1:]))
    rows = [(0, 0, CLICK, 1, 1), (0, 5, QUERY, 1, 2)]
    split = split_by_time(made(*rows), 0.5, 0.0, unseen="drop")
    assert rows_of(split.test) == rows_of(made(rows[1]))


def test_a_click_and_its_rating_are_one_item_of_a_user():
    records = made((0, 0, CLICK, 1, 1), (0, 0, RATING, 5, 2), (0, 1, BROWSE, 1, 2))
    assert len(clean(records, min_user=2)[0]) == 0
    assert len(clean(records, min_user=1)[0]) == 3


def test_unknown_events_can_be_refused():
    with pytest.raises(RecordsError, match=r"2 records .* browse, click, rating, query"):
        clean(made(*[(0, 0, UNKNOWN, 1, 1)] * 2), unknown="raise")
    assert len(clean(made((0, 0, CLICK, 1, 1)), unknown="raise")[0]) == 1


@pytest.mark.parametrize(("value", "outcome"), [(1, "is satisfied"), (0, "is not satisfied")])
def test_one_class_is_pointed_out_and_kept(value: int, outcome: str):
    records = made((0, 0, CLICK, value, 1), (1, 0, CLICK, value, 1))
    cleaned, report = clean(records)
    assert len(cleaned) == 2 and outcome in str(report) and "one class only" in str(report)
    for other in ((1, 1, CLICK, 1 - value, 1), (1, 1, BROWSE, 1, 1)):
        report = clean(made((0, 0, CLICK, value, 1), other))[1]
        assert "one class" not in str(report)


def test_without_times_none_is_checked():
    records = made((0, 0, CLICK, 1, 0), (0, 0, CLICK, 1, 1), timestamp=None)
    cleaned, report = clean(records)
    assert report.dropped["duplicate"] == 1 and "no record has a time" in str(report)
    with pytest.raises(RecordsError, match="time"):
        split_by_time(cleaned)


def test_the_report_is_a_table_in_the_order_of_the_steps():
    records = made(
        *[(0, 0, CLICK, 1, 1)] * 3, (MISSING, 0, CLICK, 1, 1), (0, 1, BROWSE, 1, 1), malformed=1200
    )
    assert re.sub(" +", " ", str(clean(records)[1])).splitlines() == [
        "records read 1,205",
        "malformed row -1,200",
        "no user -1",
        "duplicate -2",
        "kept 2",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_user": -1},
        {"min_item": -1},
        {"unknown": "ignore"},
        {"rating_range": (5, 1)},
        {"rating_range": (1, np.inf)},
        {"earliest": "soon"},
        {"earliest": 5, "latest": 4},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ConfigError):
        clean(made((0, 0, CLICK, 1, 1)), **wrong)


# --- split


SHARES = st.sampled_from([(0.2, 0.1), (0.0, 0.0), (0.5, 0.3), (0.29, 0.0), (0.0, 0.4)])


@given(records=drawn(CLEAN_CELLS), shares=SHARES, per=st.sampled_from(["user", "global"]))
def test_no_part_sees_the_time_of_a_later_part(
    records: Records, shares: tuple[float, float], per: str
):
    split = split_by_time(records, *shares, per=per)
    parts = split[:3]
    assert sorted(row for part in parts for row in rows_of(part)) == sorted(rows_of(records))
    groups = range(NUMBERS) if per == "user" else [None]
    for group in groups:
        times = [_times(part, group) for part in parts]
        count = sum(map(len, times))
        for part in times:
            assert np.all(np.diff(part) >= 0)
        for i, earlier in enumerate(times):
            for later in times[i + 1 :]:
                if len(earlier) and len(later):
                    assert earlier.max() < later.min()  # strictly: no tie straddles the cut
        assert len(times[2]) <= shares[0] * count + 1e-6
        assert len(times[1]) + len(times[2]) <= sum(shares) * count + 1e-6
        assert not count or len(times[0])


def _times(records: Records, user: int | None) -> np.ndarray:
    assert records.timestamp is not None
    return records.timestamp if user is None else records.timestamp[records.user == user]


def test_the_shares_are_met_where_times_differ():
    records = made(*((0, 0, CLICK, 1, t) for t in range(100)))
    for per in ("user", "global"):
        split = split_by_time(records, test_share=0.29, validation_share=0.01, per=per)
        assert [len(part) for part in split[:3]] == [70, 1, 29]
        assert split.test.timestamp is not None and split.test.timestamp.tolist() == [
            *range(71, 100)
        ]


def test_a_user_is_cut_alone_or_with_all():
    early = [(0, 0, CLICK, 1, t) for t in range(10)]
    late = [(1, 0, CLICK, 1, t) for t in range(100, 110)]
    split = split_by_time(made(*late, *early))
    assert np.bincount(split.test.user).tolist() == [2, 2]
    split = split_by_time(made(*late, *early), per="global")
    assert np.bincount(split.test.user).tolist() == [0, 4]


@given(records=drawn(CLEAN_CELLS), per=st.sampled_from(["user", "global"]))
def test_what_is_unseen_in_training_is_counted_and_can_go(records: Records, per: str):
    keeping = split_by_time(records, 0.3, 0.2, per=per)
    split = split_by_time(records, 0.3, 0.2, per=per, unseen="drop")
    users, items = set(split.train.user), set(split.train.item[split.train.event != QUERY])
    for name in ("validation", "test"):
        part, whole = getattr(split, name), getattr(keeping, name)
        assert set(part.user) <= users and set(part.item[part.event != QUERY]) <= items
        gone = [n for reason, n in split.report.dropped.items() if reason.startswith(name)]
        assert len(part) + sum(gone) == len(whole)
        noted = [note for note in keeping.report.notes if note.startswith(name)]
        assert len(noted) == sum(n > 0 for n in gone)
    assert split.report.kept == sum(map(len, split[:3])) and keeping.report.kept == len(records)


@pytest.mark.parametrize(
    "wrong",
    [
        {"test_share": 0.9, "validation_share": 0.1},
        {"test_share": -0.1},
        {"test_share": np.nan},
        {"per": "item"},
        {"unseen": "ignore"},
    ],
)
def test_splits_out_of_range_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ConfigError):
        split_by_time(made((0, 0, CLICK, 1, 1)), **wrong)


@pytest.mark.parametrize("row", [(MISSING, 0, CLICK, 1, 1), (0, 0, CLICK, 1, np.nan)])
def test_what_is_not_clean_is_not_split(row: tuple[Any, ...]):
    with pytest.raises(RecordsError, match="clean"):
        split_by_time(made(row))


# --- the page


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    example = next(body for kind, body in blocks if kind == "csv")
    header, *rows = example.strip().splitlines()
    rows += [f"u{i % 7},i{i},browse,,{i},text number {i}" for i in range(60)]
    (tmp_path / "my_log.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    names: dict[str, Any] = {}
    for kind, body in blocks:
        if kind == "python" and "gym.make" not in body:
            exec(body, names)
    assert isinstance(names["split"].train, Records)
    assert len(Catalog.load("my_items.csv")) == len(names["rows"]) >= 60
