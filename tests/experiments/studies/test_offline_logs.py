"""Recommenders on real logs: what is judged, and a file from records to a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.studies import offline_logs
from llmrec_env.datasets import CLICK, RATING, Records, RecordsError

NUM_USERS, NUM_ITEMS = 24, 40
TOPICS = ("slow trains", "jazz piano", "pasta cooking", "war history")
CHEAP = ("popular", "item-knn", "ease", "collaborative")


def made(user: Sequence[int], item: Sequence[int], value: Sequence[float], **more: Any) -> Records:
    columns: dict[str, Any] = {
        "user": np.array(user),
        "item": np.array(item),
        "value": np.array(value, np.float32),
        "event": np.full(len(user), RATING, np.int8),
        "timestamp": np.arange(len(user), dtype=np.float64),
        "user_ids": ("u", "v", "w"),
        "item_ids": tuple("abcdefghijkl"),
    }
    return Records(**{**columns, **more})


TRAIN = made([0, 0, 1, 2], [0, 1, 2, 3], [5, 1, 4, 5])
TEST = made([0, 0, 1, 1, 2], [2, 3, 4, 5, 0], [5, 2, 5, 4, 1])
"""User 0 likes item 2 later, user 1 items 4 and 5, user 2 nothing."""


def scores_of(liked: dict[int, Sequence[int]]) -> np.ndarray:
    scores = np.tile(-np.arange(12.0), (3, 1))
    for user, items in liked.items():
        scores[user, list(items)] += 100.0
    return scores


def test_what_is_liked_later_first_is_perfect():
    results = offline_logs.ranking_metrics(scores_of({0: [2], 1: [4, 5]}), TRAIN, TEST, 4.0)
    assert results == {"ndcg@10": 1.0, "recall@10": 1.0, "auc": 1.0, "users": 2.0}


def test_items_met_before_and_those_rated_low_do_not_count():
    met_first = scores_of({0: [2], 1: [4, 5]})
    met_first[0, [0, 1]], met_first[1, 2] = 500.0, 500.0
    results = offline_logs.ranking_metrics(met_first, TRAIN, TEST, 4.0)
    assert results == {"ndcg@10": 1.0, "recall@10": 1.0, "auc": 1.0, "users": 2.0}
    again = made([0, 0, 1, 1, 2], [2, 0, 4, 5, 0], [5, 5, 5, 4, 1])  # user 0 has met item 0
    assert offline_logs.ranking_metrics(met_first, TRAIN, again, 4.0) == results
    assert offline_logs.ranking_metrics(met_first, TRAIN, TEST, 1.0)["users"] == 3.0


def test_worse_scores_are_worse():
    worse = scores_of({0: [2], 1: [4, 5]})
    worse[0, [3, 6]], worse[1, [7, 8, 9]] = 200.0, 200.0  # before what is liked
    results = offline_logs.ranking_metrics(worse, TRAIN, TEST, 4.0)
    discount = 1.0 / np.log2(np.arange(2, 12))
    gains = discount[2], discount[[3, 4]].sum() / discount[:2].sum()
    assert results["ndcg@10"] == pytest.approx(np.mean(gains))
    assert results["recall@10"] == 1.0
    assert results["auc"] == pytest.approx(np.mean([7 / 9, 6 / 9]))


def test_scores_that_tell_nothing_apart_have_an_auc_of_one_half():
    results = offline_logs.ranking_metrics(np.zeros((3, 12)), TRAIN, TEST, 4.0)
    assert results["auc"] == pytest.approx(0.5) and results["ndcg@10"] < 0.7


# --- a file


def write(path: Path, *, text: bool = True, browses: bool = False) -> Path:
    """Users who like one topic of four; one item without a text, two with the same."""
    generator, rows = np.random.default_rng(0), []
    for user in range(NUM_USERS):
        for t, item in enumerate(generator.permutation(NUM_ITEMS)[:24].tolist()):
            stars = 5 if item % 4 == user % 4 else int(generator.integers(1, 4))
            number = item if item != 39 else 35
            words = f"{TOPICS[item % 4]} part {number}" if item != 7 else ""
            event = "rating" if t % 3 else "click"
            value = stars if event == "rating" else int(stars == 5)
            rows.append([f"user{user}", f"item{item}", event, value, 1000 * user + t, words])
            if browses:
                rows.append([f"user{user}", f"item{item}", "browse", "", 1000 * user + t, words])
                rows.append([f"user{user}", "", "query", "", 1000 * user + t, f"words {t}"])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "event", "value", "timestamp", "text"])
        writer.writerows(rows if text else [[*row[:5], ""] for row in rows])
    return path


def read(path: Path, least: int = 3):
    return offline_logs._read(str(path), least, "hashing", 32)


def test_items_are_numbered_as_in_the_catalogue(tmp_path):
    records, texts = read(write(tmp_path / "log.csv"))
    assert len(texts.catalog) == NUM_ITEMS - 2  # one has no text, one the text of another
    assert records.item.min() == 0 and records.item.max() == len(texts.catalog) - 1
    liked = records.value == 5
    topics = [texts.catalog.texts[item].split(" part")[0] for item in records.item[liked]]
    users = [int(records.user_ids[user].removeprefix("user")) for user in records.user[liked]]
    assert topics == [TOPICS[user % 4] for user in users] and len(topics) > 20


def test_what_was_only_browsed_or_typed_is_no_interaction(tmp_path):
    plain, _ = read(write(tmp_path / "plain.csv"))
    more, _ = read(write(tmp_path / "more.csv", browses=True))
    assert set(more.event) == {CLICK, RATING}
    np.testing.assert_array_equal(more.item, plain.item)


def test_a_file_without_texts_is_refused(tmp_path):
    with pytest.raises(RecordsError, match="hold no texts of items"):
        read(write(tmp_path / "log.csv", text=False))


def test_a_file_is_judged_and_taste_is_found(tmp_path, capsys):
    path = write(tmp_path / "log.csv", browses=True)
    results = offline_logs.run(str(path), CHEAP, seeds=1, min_ratings=3, encoder="hashing", dim=32)
    assert list(results) == list(CHEAP)
    for values in results.values():
        assert (
            0.0 <= values["ndcg@10"] <= 1.0 and values["users"] == results["popular"]["users"] > 9
        )
    for name in ("item-knn", "ease", "collaborative"):
        assert results[name]["auc"] > results["popular"]["auc"], name
    printed = capsys.readouterr().out
    assert "records to learn from" in printed and "item-knn" in printed
    assert not any(words in printed for words in ("user1", "words 1", *TOPICS))


def test_every_scorer_runs(tmp_path):
    path = write(tmp_path / "log.csv")
    results = offline_logs.run(
        str(path), tuple(offline_logs.SCORERS), seeds=1, min_ratings=3, encoder="hashing", dim=32
    )
    assert list(results) == list(offline_logs.SCORERS)
    assert all(np.isfinite(list(values.values())).all() for values in results.values())
    assert results["joint"]["auc"] > 0.6


def test_an_unknown_agent_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'joint'"):
        offline_logs.run(agents=("joit",))
