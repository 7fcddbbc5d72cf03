"""Recommenders on real logs: what is judged, and a file from records to a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.studies.offline import evaluation, metrics, scorers
from experiments.studies.offline.records import read_logs
from llmrec_env.config import EnvConfig
from llmrec_env.datasets import CLICK, RATING, Records, RecordsError, load_records, make_world
from llmrec_env.metrics import ndcg_at_k, recall_at_k

NUM_USERS, NUM_ITEMS = 24, 40
TOPICS = ("slow trains", "jazz piano", "pasta cooking", "war history")
CHEAP = ("popular", "item-knn", "ease", "ease-text", "collaborative")


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


def means_of(scores: np.ndarray, test: Records = TEST, threshold: float = 4.0, **options: Any):
    values = metrics.user_values(scores, TRAIN, test, threshold, **options)
    return {k: x.mean() for k, x in values.items() if k != "user"} | {"users": len(values["user"])}


PERFECT = {"ndcg@10": 1.0, "recall@10": 1.0, "auc": 1.0, "users": 2}


def test_what_is_liked_later_first_is_perfect():
    assert means_of(scores_of({0: [2], 1: [4, 5]})) == PERFECT


def test_items_met_before_and_those_rated_low_do_not_count():
    met_first = scores_of({0: [2], 1: [4, 5]})
    met_first[0, [0, 1]], met_first[1, 2] = 500.0, 500.0
    assert means_of(met_first) == PERFECT
    again = made([0, 0, 1, 1, 2], [2, 0, 4, 5, 0], [5, 5, 5, 4, 1])  # user 0 has met item 0
    assert means_of(met_first, again) == PERFECT
    assert means_of(met_first, threshold=1.0)["users"] == 3


def test_items_that_are_no_candidates_do_not_count():
    scores = scores_of({0: [7], 1: [7, 5]})
    among = np.isin(np.arange(12), [4, 5, 6])
    values = metrics.user_values(scores, TRAIN, TEST, 4.0, among, ("recall@10",))
    assert list(values) == ["user", "recall@10"]
    np.testing.assert_array_equal(values["user"], [1.0])  # user 0 likes none of them
    np.testing.assert_array_equal(values["recall@10"], [1.0])


def test_worse_scores_are_worse():
    worse = scores_of({0: [2], 1: [4, 5]})
    worse[0, [3, 6]], worse[1, [7, 8, 9]] = 200.0, 200.0  # before what is liked
    results = means_of(worse)
    discount = 1.0 / np.log2(np.arange(2, 12))
    gains = discount[2], discount[[3, 4]].sum() / discount[:2].sum()
    assert results["ndcg@10"] == pytest.approx(np.mean(gains))
    assert results["recall@10"] == 1.0
    assert results["auc"] == pytest.approx(np.mean([7 / 9, 6 / 9]))


@pytest.mark.parametrize("levels", [3, 40, 10**6])
def test_metrics_are_those_of_all_items_ties_included(levels):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(levels)
    scores, liked = rng.integers(levels, size=(20, 400)) / levels, rng.random((20, 400)) < 0.05
    user, item = np.nonzero(liked)
    everyone = {"user_ids": tuple(map(str, range(20))), "item_ids": tuple(map(str, range(400)))}
    test = made(user, item, np.full(len(user), 5.0), **everyone)
    values = metrics.user_values(scores, made([0], [0], [1], **everyone), test, 4.0)
    scores[0, 0], liked[0, 0] = -np.inf, False  # was met
    expected = [ndcg_at_k(scores, liked, 10), recall_at_k(scores, liked, 10)]
    np.testing.assert_allclose([values["ndcg@10"], values["recall@10"]], expected)
    areas = [roc_auc_score(x, y) for x, y in zip(liked[1:], scores[1:], strict=True)]
    np.testing.assert_allclose(values["auc"][1:], areas)


def test_scores_that_tell_nothing_apart_have_an_auc_of_one_half():
    results = means_of(np.zeros((3, 12)))
    assert results["auc"] == pytest.approx(0.5) and results["ndcg@10"] < 0.7


# --- a file


def write(path: Path, *, text: bool = True, browses: bool = False, users: int = NUM_USERS) -> Path:
    """Users who like one topic of four; one item without a text, two with the same."""
    generator, rows = np.random.default_rng(0), []
    for user in range(users):
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
    return read_logs(str(path), least, "hashing", 32)


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


def judged(path: Path, agents: tuple[str, ...], **options: Any):
    options = {"seeds": 1, "min_ratings": 3, "encoder": "hashing", "dim": 32, "folds": 0} | options
    return evaluation.run(str(path), agents, **options)


def test_a_file_is_judged_and_taste_is_found(tmp_path, capsys):
    path = write(tmp_path / "log.csv", browses=True)
    results = judged(path, CHEAP, cold=False)
    assert list(results) == list(CHEAP)
    for values in results.values():
        assert (
            0.0 <= values["ndcg@10"] <= 1.0 and values["users"] == results["popular"]["users"] > 9
        )
    for name in ("item-knn", "ease", "ease-text", "collaborative"):
        assert results[name]["auc"] > results["popular"]["auc"], name
    printed = capsys.readouterr().out
    assert "records to learn from" in printed and "item-knn" in printed
    assert "the same, minus ease" in printed and "minus implicit-als" not in printed
    assert not any(words in printed for words in ("user1", "words 1", *TOPICS))


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A saved world of the items and logs of `write`."""
    folder = tmp_path_factory.mktemp("shop")
    with write(folder / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    items = {row["item"]: row["text"] for row in rows if row["text"]}
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("item", "text"), *items.items()])
    make_world(
        folder / "items.csv",
        folder / "log.csv",
        output=folder / "world",
        encoder="hashing",
        on_error="drop",
    )
    return folder / "world"


def test_items_of_a_saved_world_are_its_own(shop):
    records, texts = read_logs(str(shop), 12)
    config = EnvConfig.from_kwargs({"catalog": str(shop)})
    assert texts.space.dim == config.dim < 128 and config.encoder == "hashing"
    logged, most = load_records(shop), 0
    assert logged.item_texts is not None
    for item in np.unique(records.item):
        words = texts.catalog.texts[item]
        users = np.unique(logged.user[logged.item == logged.item_texts.index(words)])
        assert len(np.unique(records.user[records.item == item])) == len(users) >= 12
        most = max(most, len(users))
    assert len(np.unique(records.item)) < len(texts.catalog)  # some have fewer than 12 users


def test_a_saved_world_is_judged(shop, capsys):
    results = evaluation.run(str(shop), ("popular", "joint"), seeds=1, min_ratings=3, folds=0)
    assert results["joint"]["auc"] > results["popular"]["auc"]
    assert not any(words in capsys.readouterr().out for words in TOPICS)


def test_what_fewer_than_two_users_like_has_no_interval():
    one = {"user": np.array([3.0]), "ndcg@10": np.array([0.5])}
    none = {name: column[:0] for name, column in one.items()}
    draws = [{"cold items": one, "cold users": one}, {"cold items": one, "cold users": none}]
    pooled = evaluation._pooled(draws, "ndcg@10")
    assert list(pooled) == ["cold items"] and len(pooled["cold items"].values) == 2


def test_every_scorer_runs_on_new_users_and_items_too(tmp_path):
    results = judged(write(tmp_path / "log.csv", users=80), tuple(scorers.SCORERS), seeds=2)
    assert list(results) == [x for x in scorers.SCORERS if x in results]
    assert len(results) >= len(scorers.SCORERS) - 1  # `implicit` may be missing
    for values in results.values():
        assert np.isfinite(list(values.values())).all()
        assert {"cold items", "cold users, 1 known", "cold users, 20 known"} <= set(values)
    assert results["joint"]["auc"] > 0.55
    # What nobody consumed is known by its text alone.
    assert results["ease-text"]["cold items"] > results["ease"]["cold items"]


def test_settings_are_chosen_by_validation_records_alone(tmp_path, monkeypatch):
    grid = {"decay": (0.5, 1.0), "popular": (0.0, 1.0)}
    monkeypatch.setattr(evaluation, "GRIDS", {"content": grid})
    asked = []

    def content(learnt, **settings):
        asked.append(settings)
        scores = np.zeros((3, 12))
        if settings["decay"] == 1.0:
            scores[0, 2] = 1.0  # what user 0 likes
        if settings.get("popular") == 1.0:
            scores[1, [4, 5]] = 1.0  # what user 1 likes
        return lambda records: scores

    monkeypatch.setattr(evaluation, "SCORERS", {"content": content})
    monkeypatch.setattr(evaluation, "_latest", lambda records, share: evaluation.Part(TRAIN, TEST))
    protocol = evaluation.Protocol(None, 4.0)  # type: ignore[arg-type]
    assert evaluation.chosen("content", protocol, TRAIN, 1) == {"decay": 1.0, "popular": 1.0}
    assert asked[0] == {"decay": 0.5} and len(asked) == 4  # not every pair
    assert evaluation.chosen("content", protocol, TRAIN, 0) == {}


def test_cold_users_are_known_by_their_newest_records():
    records = made([0, 0, 0, 1, 2, 2], [0, 1, 2, 3, 4, 5], [5, 5, 5, 5, 5, 5])
    newest = evaluation._newest(records, 2)
    assert sorted(newest.item.tolist()) == [1, 2, 3, 4, 5]
    own = scorers.of_users(records, np.array([0, 2]))
    assert own.user_ids == ("u", "w") and sorted(own.user.tolist()) == [0, 0, 0, 1, 1]


def test_an_unknown_agent_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'joint'"):
        evaluation.run(agents=("joit",))
