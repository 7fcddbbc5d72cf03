"""The public past: complete, consistent, in order, and split without leaks."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.interface.co_consumption import co_consumption_factors
from llmrec_env.simulation import noise
from llmrec_env.simulation.logging_policy import (
    EVENTS,
    RECORD,
    new_search,
    phrase_item_cosines,
    search_items,
    split_of,
)

WARMUP, SLATE = 20, 5


def test_every_user_has_a_hundred_browse_records(world):
    table = world.logs.table()
    assert table.dtype == RECORD and set(table["event"]) == set(EVENTS)
    browsed = table[table["event"] == "browse"]
    np.testing.assert_array_equal(np.bincount(browsed["user"]), np.full(60, WARMUP * SLATE))
    assert browsed["item"].min() >= 0 and browsed["item"].max() < 600
    assert (browsed["value"] == 1).all()
    sorted_slates = np.sort(world.logs.slates, axis=2)
    assert (np.diff(sorted_slates, axis=2) > 0).all()  # no item twice on a slate


def test_records_are_in_order_of_user_and_time_before_the_first_session(world):
    table = world.logs.table()
    assert (np.diff(table["user"]) >= 0).all()
    same = np.diff(table["user"]) == 0
    assert (np.diff(table["timestamp"])[same] >= 0).all()
    assert set(table["timestamp"]) == set(range(-WARMUP, 0))


def test_clicks_ratings_and_queries_agree_with_each_other(world):
    logs = world.logs
    clicked = logs.items >= 0
    on_slate = (logs.slates == logs.items[:, :, None]).any(2)
    assert (on_slate == clicked).all()
    assert (logs.satisfied[~clicked] == 0).all() and (logs.ratings[~clicked] == 0).all()
    rated = logs.ratings > 0
    assert (logs.satisfied[rated] == (logs.ratings[rated] >= 4)).all()
    assert set(logs.ratings[rated]) == {1, 2, 3, 4, 5}
    assert 0.4 < rated.sum() / clicked.sum() < 0.7
    assert logs.queries.max() < len(world.phrases) and (logs.queries >= 0).any()
    assert 0.2 < logs.satisfied[clicked].mean() < 0.9


def test_the_table_holds_what_the_arrays_hold(world):
    logs, table = world.logs, world.logs.table()
    for event, column, occurred in (
        ("click", logs.items, logs.items >= 0),
        ("rating", logs.items, logs.ratings > 0),
        ("query", logs.queries, logs.queries >= 0),
    ):
        rows = table[table["event"] == event]
        user, step = np.nonzero(occurred)
        np.testing.assert_array_equal(rows["user"], user)
        np.testing.assert_array_equal(rows["timestamp"], step - WARMUP)
        np.testing.assert_array_equal(rows["item"], column[user, step])
    clicks = table[table["event"] == "click"]
    np.testing.assert_array_equal(clicks["value"], logs.satisfied[logs.items >= 0])
    ratings = table[table["event"] == "rating"]
    np.testing.assert_array_equal(ratings["value"], logs.ratings[logs.ratings > 0])


def test_table_and_clicks_of_some_users_are_theirs(world):
    users = np.array([3, 17, 42])
    table, part = world.logs.table(), world.logs.table(users)
    expected = table[np.isin(table["user"], users)]
    assert part.tobytes() == expected.tobytes()
    user, item, satisfied = world.logs.clicks(users)
    clicks = expected[expected["event"] == "click"]
    np.testing.assert_array_equal(user, clicks["user"])
    np.testing.assert_array_equal(item, clicks["item"])
    np.testing.assert_array_equal(satisfied, clicks["value"])


def test_users_are_split_80_10_10_without_overlap():
    ids = np.arange(1000)
    masks = {name: split_of(ids, name) for name in ("train", "validation", "test", "all")}
    assert [mask.sum() for mask in masks.values()] == [800, 100, 100, 1000]
    together = sum(masks[name].astype(int) for name in ("train", "validation", "test"))
    assert (together == 1).all()


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_sessions_are_played_by_the_users_of_the_split(new_env, split):
    env = new_env(split=split)
    users = {env.reset(seed=seed)[1]["user_id"] for seed in range(1000)}
    expected = {user for user in range(60) if split_of(np.array(user), split)}
    assert users == expected


def test_public_data_holds_training_users_only(world):
    public = world.public()
    assert split_of(public.users, "train").all() and len(public.users) == 48
    for column, everything in zip(public.logs, world.logs, strict=True):
        np.testing.assert_array_equal(column, everything[public.users])
    hidden = {"traits", "interests", "params", "histories"}
    assert not hidden & set(vars(public))


def test_popularity_and_factors_come_from_satisfied_clicks_of_training_users(world):
    logs, items = world.public().logs, world.items
    user, item, satisfied = logs.clicks(np.arange(48))
    count = np.log1p(np.bincount(item[satisfied == 1], minlength=600))
    np.testing.assert_allclose(items.popularity, count / count.max(), rtol=1e-6)
    users = world.public().users[user[satisfied == 1]]
    factors = co_consumption_factors(users, item[satisfied == 1], 600)
    np.testing.assert_array_equal(items.factors, factors)


def _replayed(world, user):
    """A history from the logs alone: slow interest, events, consumed items."""
    logs, vectors = world.logs, world.items.vectors.astype(np.float64)
    interest, events, consumed = np.zeros(32), [], []
    for step in range(WARMUP):
        item, satisfied = logs.items[user, step], logs.satisfied[user, step]
        if item >= 0:
            interest = 0.97 * interest + (1.0 if satisfied else 0.15) * vectors[item]
            events.append((item, satisfied))
            consumed.append(item)
        if logs.queries[user, step] >= 0:
            interest = interest + world.text.phrase_vectors[logs.queries[user, step]]
            events.append((logs.queries[user, step], 2))
    return interest, events, consumed


def test_histories_are_the_replay_of_the_logs(world):
    for user, history in enumerate(world.histories):
        interest, events, consumed = _replayed(world, user)
        np.testing.assert_allclose(history["interest"], interest, atol=1e-5)
        count = int(history["num_entries"])
        entries = list(zip(history["item"][:count], history["feedback"][:count], strict=True))
        assert entries == events
        assert history["consumed_items"][: history["num_consumed_items"]].tolist() == consumed
        for name in ("step", "consumed", "satisfied", "num_shown"):
            assert history[name] == 0
        for name in ("last_satisfied", "last_consumed", "last_query", "last_rank"):
            assert history[name] == -1


def _found(world, phrase, table, seeds=200, count=400, k=5):
    """Results of searches for a phrase, (seeds, k)."""
    vectors, phrases = world.items.vectors, world.interests.vectors
    search, results = new_search(count, k), np.empty((seeds, k), np.int32)
    every = np.arange(len(vectors), dtype=np.int32)
    for seed in range(seeds):
        key = np.uint64(noise.step_key(np.uint64(seed), 0))
        search_items(vectors, phrases, table, phrase, key, search, results[seed], every)
    return results


def test_a_search_finds_what_is_near_the_phrase_best_first(world):
    table = phrase_item_cosines(world.interests.vectors, world.items.vectors)
    assert table[7, _found(world, 7, table)].mean() > table[7].mean() + 0.2
    search, results = new_search(400, 5), np.empty(5, np.int32)
    arrays = world.items.vectors, world.interests.vectors, table
    every = np.arange(len(world.items.vectors), dtype=np.int32)
    search_items(*arrays, 7, np.uint64(9), search, results, every)
    best = np.argsort(-search.scores[:400], kind="stable")[:5]
    np.testing.assert_array_equal(results, search.items[best])
    noise_of_all = search.scores[:400] - table[7, search.items]
    assert np.std(noise_of_all) == pytest.approx(0.128, rel=0.15)  # .1 pi / sqrt 6


def test_a_search_is_the_same_with_and_without_a_table(world):
    table = phrase_item_cosines(world.interests.vectors, world.items.vectors)
    without = np.empty((0, 0), np.float32)
    for count in (5, 16, 399, 400):
        np.testing.assert_array_equal(
            _found(world, 3, table, 50, count), _found(world, 3, without, 50, count)
        )


def test_phrases_and_items_too_many_for_a_table_get_none(monkeypatch, world):
    monkeypatch.setattr("llmrec_env.simulation.logging_policy._LARGEST_TABLE", 1000)
    assert phrase_item_cosines(world.interests.vectors, world.items.vectors).shape == (0, 0)
