"""Own logs as logged steps: who did what in which order, and what stands beside it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.own_logs import own_data
from llmrec_env.datasets import BROWSE, CLICK, RATING, Records
from llmrec_env.world import World

USERS = 12


def made(num_items: int, **changes: Any) -> Records:
    """Ratings and clicks of 12 users in mixed order of time; user 11 did nothing."""
    generator = np.random.default_rng(0)
    user = generator.integers(0, USERS - 1, 300)
    pairs = np.unique(np.stack([user, generator.integers(0, 200, 300)]), axis=1)
    user, item = generator.permutation(pairs, axis=1)
    event = generator.choice([CLICK, RATING, BROWSE], len(user)).astype(np.int8)
    stars = generator.integers(1, 6, len(user))
    columns: dict[str, Any] = {
        "user": user,
        "item": item,
        "event": event,
        "value": np.where(event == RATING, stars, np.where(event == CLICK, stars > 3, 1.0)),
        "timestamp": generator.permutation(len(user)).astype(np.float64),
        "user_ids": tuple(map(str, range(USERS))),
        "item_ids": tuple(map(str, range(num_items))),
    }
    return Records(**{**columns, **changes})


@pytest.fixture(scope="module")
def records(world):
    return made(len(world.catalog))


def done(records: Records, user: int) -> list[tuple[int, int, float]]:
    """(item, event, value) of what a user clicked or rated, in order of time."""
    assert records.timestamp is not None
    rows = [i for i in np.argsort(records.timestamp) if records.user[i] == user]
    found = [(int(records.item[i]), int(records.event[i]), float(records.value[i])) for i in rows]
    return [x for x in found if x[1] in (CLICK, RATING)]


def test_steps_are_the_latest_clicks_and_ratings_in_order(records, world):
    data, config = own_data(records, world.text, steps=10, slate_size=6)
    assert config.warmup_slates == 10 and config.slate_size == 6 and config.dim == 32
    assert data.logs.slates.shape == (USERS, 10, 6)
    full = 0
    for user in range(USERS):
        latest = done(records, user)[-10:]
        full += len(latest) == 10
        empty = 10 - len(latest)
        assert data.logs.items[user].tolist() == [-1] * empty + [item for item, *_ in latest]
        satisfied_events = [value >= (4 if event == RATING else 0.5) for _, event, value in latest]
        assert data.logs.satisfied[user, empty:].tolist() == satisfied_events
        assert (data.logs.slates[user, :empty] == -1).all()
        assert not data.logs.satisfied[user, :empty].any()
    assert full and not done(records, USERS - 1)  # both kinds of users are there
    assert (data.logs.queries == -1).all()


def test_slates_hold_the_item_and_else_nothing_that_the_user_met(records, world):
    data, _ = own_data(records, world.text, steps=20, slate_size=6)
    places = set()
    for user in range(USERS):
        met = {item for item, *_ in done(records, user)}
        for slate, item in zip(data.logs.slates[user], data.logs.items[user], strict=True):
            if item >= 0:
                places.add(int(np.flatnonzero(slate == item)[0]))
                assert set(slate.tolist()) & met == {item}
                assert (slate == item).sum() == 1
                assert 0 <= slate.min() and slate.max() < len(world.catalog)
    assert places == set(range(6))


def rated(records: Records, world: World) -> list[tuple[int, float, int]]:
    """(event, value, logged rating) of every step."""
    logs, found = own_data(records, world.text, steps=60)[0].logs, []
    for user in range(USERS):
        for (_, event, value), rating in zip(
            done(records, user), logs.ratings[user][logs.items[user] >= 0].tolist(), strict=True
        ):
            found.append((event, value, rating))
    return found


def test_ratings_are_kept(records, world):
    ratings = [(value, rating) for event, value, rating in rated(records, world) if event == RATING]
    assert len(ratings) > 50 and all(value == rating for value, rating in ratings)


def test_clicks_are_not_rated(records, world):
    clicks = [rating for event, _, rating in rated(records, world) if event == CLICK]
    assert len(clicks) > 50 and not any(clicks)


def test_halves_of_stars_are_rounded_into_the_range(records, world):
    half = made(len(world.catalog), rating_range=(0.5, 5.0))
    half = dataclasses.replace(half, value=np.where(half.event == RATING, 0.5, half.value))
    data, _ = own_data(half, world.text)
    ratings = data.logs.ratings[(data.logs.items >= 0) & (data.logs.satisfied == 0)]
    assert len(ratings) > 50 and ratings.max() <= 1 and ratings.min() >= 0


def test_the_threshold_says_what_satisfied(records, world):
    shares = [
        own_data(records, world.text, threshold=threshold)[0].logs.satisfied.mean()
        for threshold in (1.0, 4.0, 5.5)
    ]
    assert shares[0] > shares[1] > shares[2] > 0.0  # clicks satisfy whatever the threshold


def test_popularity_comes_from_what_satisfied(records, world):
    data, _ = own_data(records, world.text)
    _, item, satisfied = records.clicks(4.0)
    count = np.bincount(item[satisfied == 1], minlength=len(world.catalog))
    assert data.items.popularity.argmax() in np.flatnonzero(count == count.max())
    assert (data.items.popularity > 0).tolist() == (count > 0).tolist()
    assert not data.items.factors[count == 0].any()
    np.testing.assert_array_equal(data.items.vectors, world.items.vectors)


def test_only_the_items_beside_depend_on_the_seed(records, world):
    one, same, other = (own_data(records, world.text, seed=seed)[0].logs for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.slates, same.slates)
    np.testing.assert_array_equal(one.items, other.items)
    assert not np.array_equal(one.slates, other.slates)


def test_they_are_steps_to_learn_from(records, world):
    data, _ = own_data(records, world.text, steps=20)
    logged = Dataset.from_logs(data)
    steps = [min(20, len(done(records, user))) for user in range(USERS)]
    assert np.bincount(logged.users, minlength=USERS).tolist() == steps
    assert (logged.choices < 5).all()  # in every step something was consumed


def test_records_of_other_catalogues_or_without_times_are_refused(records, world):
    names = tuple(map(str, range(900)))
    wide = dataclasses.replace(records, item=records.item + 590, item_ids=names)
    with pytest.raises(ValueError, match=r"records name item \d+, the catalogue has 600"):
        own_data(wide, world.text)
    with pytest.raises(ValueError, match="have no times; load them with timestamp=COLUMN"):
        own_data(dataclasses.replace(records, timestamp=None), world.text)
