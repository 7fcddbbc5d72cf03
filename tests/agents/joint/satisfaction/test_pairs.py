"""Pairs of behaviour and item from logs."""

from __future__ import annotations

import numpy as np
import pytest

from agents.joint.satisfaction.pairs import Pair, pairs_of, split_pairs


@pytest.fixture(scope="module")
def data(world):
    return world.public()


def test_pairs_are_the_clicks_and_the_liked_texts_before_them(data):
    pairs = pairs_of(data, size=3)
    logs, texts, phrases = data.logs, data.catalog.texts, data.phrases.texts
    assert len(pairs) == (logs.items >= 0).sum()
    row = int(np.argmax((logs.satisfied == 1).sum(axis=1) + (logs.queries >= 0).sum(axis=1)))
    past, expected = [], []
    for step in range(logs.items.shape[1]):
        item, query = logs.items[row, step], logs.queries[row, step]
        if item >= 0:
            satisfied = int(logs.satisfied[row, step])
            behaviour = tuple(reversed(past[-3:]))
            expected.append(Pair(behaviour, texts[item], satisfied, int(data.users[row])))
            past += [texts[item]] if satisfied else []
        past += [phrases[query]] if query >= 0 else []
    assert [pair for pair in pairs if pair.user == data.users[row]] == expected
    assert any(len(pair.behaviour) == 3 for pair in expected)


def test_browsed_items_are_negatives_that_were_shown(data):
    clicks, pairs = pairs_of(data), pairs_of(data, browsed=0.5)
    added = len(pairs) - len(clicks)
    assert 0.4 < added / len(clicks) < 0.6
    assert sum(pair.satisfied for pair in pairs) == sum(pair.satisfied for pair in clicks)
    shown = {}
    for user, slates in zip(data.users, data.logs.slates, strict=True):
        shown[int(user)] = {data.catalog.texts[item] for item in slates.ravel()}
    assert all(pair.item in shown[pair.user] for pair in pairs)
    assert pairs == pairs_of(data, browsed=0.5) != pairs_of(data, browsed=0.5, seed=1)


def test_ratings_are_labels_too(data):
    pairs = pairs_of(data, ratings=True)
    assert len(pairs) == (data.logs.ratings > 0).sum()
    assert sum(pair.satisfied for pair in pairs) == (data.logs.ratings >= 4).sum()


@pytest.mark.parametrize("settings", [{"size": 0}, {"browsed": -1}, {"browsed": 5}])
def test_pairs_out_of_range_are_refused(data, settings):
    with pytest.raises(ValueError, match="use 1 or more, and 0 to 4"):
        pairs_of(data, **settings)


def test_split_shares_no_user():
    pairs = [Pair(("film",), f"item {i}", i % 2, i // 4) for i in range(400)]
    parts = split_pairs(pairs, (0.7, 0.3))
    users = [{pair.user for pair in part} for part in parts]
    assert not users[0] & users[1] and len(users[0]) == 70 and len(users[1]) == 30
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    assert parts != split_pairs(pairs, (0.7, 0.3), seed=1)
