"""Statistics of logs find what was put into them: movement, concentration, popularity, taste."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.statistics.consumption import Consumption, distances, latest, measured
from experiments.statistics.intervals import Interval
from experiments.statistics.resampling import Resampling

USERS, LENGTH, TOPICS, EACH = 60, 50, 20, 60
FEW = Resampling(resamples=200)
OF_TOPIC = np.repeat(np.arange(TOPICS), EACH)


def topic_vectors(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres, own = rng.standard_normal((TOPICS, 32)), rng.standard_normal((TOPICS * EACH, 32))
    vectors = centres[OF_TOPIC] + 0.5 * own
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def consumption_of(topics: np.ndarray, seed: int = 1) -> Consumption:
    """Different items of these topics, (U, M)."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(EACH), (USERS, 1)), axis=1)[:, :LENGTH]
    satisfied = rng.random(topics.shape) < 0.4
    return Consumption(topics * EACH + order, satisfied, np.arange(50.0, 50.0 + USERS))


def statistics(topics: np.ndarray, vectors: np.ndarray | None = None) -> dict[str, Interval]:
    given = topic_vectors() if vectors is None else vectors
    return measured(consumption_of(topics), given, OF_TOPIC, FEW)


def switching(every: int) -> np.ndarray:
    """Topics of users who take up another one at every so many items."""
    rng = np.random.default_rng(2)
    return rng.integers(0, TOPICS, (USERS, -(-LENGTH // every))).repeat(every, axis=1)[:, :LENGTH]


def test_interests_that_never_move_are_alike_at_every_lag():
    found = statistics(switching(LENGTH))
    for lag in ("3-6", "7-12", "13-24", "25-40"):
        assert found[f"autocorrelation at lag {lag}"].value == pytest.approx(1.0, abs=0.05)
    assert found["leading topic changes"].value == 0.0
    assert found["concentration, all items"].value == 1.0


def test_the_faster_interests_switch_the_sooner_likeness_is_lost():
    slow, fast = statistics(switching(25)), statistics(switching(10))
    for lag in ("3-6", "7-12", "13-24"):
        name = f"autocorrelation at lag {lag}"
        assert fast[name].high < slow[name].low
    assert fast["autocorrelation at lag 25-40"].value == pytest.approx(0.0, abs=0.1)
    assert fast["leading topic changes"].value > slow["leading topic changes"].value
    assert fast["concentration in 10"].value == 1.0 > fast["concentration, all items"].value


def test_satisfaction_and_popularity_are_counted_and_lie_in_their_intervals():
    topics = switching(10)
    found, consumption = statistics(topics), consumption_of(topics)
    assert found["satisfaction rate"].value == pytest.approx(consumption.satisfied.mean())
    count = np.sort(np.bincount(consumption.items.ravel(), minlength=TOPICS * EACH))
    top = count[-TOPICS * EACH // 100 :].sum() / count.sum()
    assert found["popularity, top 1 %"].value == pytest.approx(top)
    for name, (value, low, high) in found.items():
        assert low <= value <= high, name


def test_a_few_popular_items_are_more_unequal():
    even = statistics(switching(LENGTH))
    found = measured(
        Consumption(
            np.tile(np.arange(LENGTH), (USERS, 1)), np.ones((USERS, LENGTH), bool), np.ones(5)
        ),
        topic_vectors(),
        OF_TOPIC,
        FEW,
    )
    assert found["popularity (Gini)"].value > even["popularity (Gini)"].high
    assert found["activity (Gini)"].value == 0.0


def test_clicks_tell_what_texts_do_not_and_the_other_way_round():
    group = np.arange(USERS)[:, None] % 2
    rng = np.random.default_rng(3)
    halves = np.stack([2 * rng.permutation(2 * LENGTH)[:LENGTH] for _ in range(USERS)])
    consumption = Consumption(halves + group, np.ones((USERS, LENGTH), bool), np.ones(USERS))
    noise = rng.standard_normal((TOPICS * EACH, 32))
    side = np.where(np.arange(TOPICS * EACH) % 2, 1.0, -1.0)[:, None] * np.eye(32)[0]
    blind, telling = (
        v / np.linalg.norm(v, axis=1, keepdims=True) for v in (noise, noise + 6 * side)
    )
    unread, read = (measured(consumption, v, OF_TOPIC, FEW) for v in (blind, telling))
    # Some of the others' items are of the user's own group, which nothing can tell apart.
    assert unread["clicks tell (R²)"].low > 0.1 > 0.05 > unread["texts tell (R²)"].value
    assert read["texts tell (R²)"].low > 0.25


def test_the_latest_items_of_each_user_once():
    user, item = np.repeat(np.arange(25), 24), np.arange(24)
    item[[1, 3]] = item[[0, 2]]  # consumed twice, then counted where it was first
    satisfied = np.tile([1, 0], 300)
    kept = latest(user, np.tile(item, 25), satisfied, 20)
    np.testing.assert_array_equal(kept.items, [[*range(4, 24)]] * 25)
    np.testing.assert_array_equal(kept.satisfied, [[True, False] * 10] * 25)
    np.testing.assert_array_equal(kept.activity, [22.0] * 25)
    assert len(latest(user, np.tile(item, 25), satisfied, 22, most_users=21).items) == 21
    with pytest.raises(ValueError, match="0 users consumed length=23 items; 20 are needed"):
        latest(user, np.tile(item, 25), satisfied, 23)
    with pytest.raises(ValueError, match="length=19 is out of range; give 20"):
        latest(user, np.tile(item, 25), satisfied, 19)


def test_distances_are_in_standard_errors_of_the_real_value():
    real = {"a": Interval(1.0, 1.0 - 0.196, 1.0 + 0.196), "b": Interval(1.0, 1.0, 1.0)}
    found = distances(real, {"a": 1.2, "b": Interval(0.98, 0.0, 2.0)}, tolerance=0.0)
    assert found["a"] == pytest.approx(2.0)
    assert distances(real, {"b": 0.98})["b"] == pytest.approx(-1.0)
    assert distances(real, {}) == {}
