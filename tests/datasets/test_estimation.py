"""Estimates from logs come back to what made the logs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmrec_env.datasets.estimation import estimate
from llmrec_env.datasets.records import BROWSE, CLICK, RATING, Records

N, TOPICS = 200, 10
TOPIC_OF = np.arange(N) % TOPICS


def records(user: Any, item: Any, value: Any = 1.0, event: Any = CLICK) -> Records:
    m = len(user)
    return Records(
        user=np.asarray(user),
        item=np.asarray(item),
        event=np.broadcast_to(event, m),
        value=np.broadcast_to(np.float32(value), m),
        timestamp=np.arange(m, dtype=float),
        user_ids=tuple(map(str, range(int(np.max(user)) + 1))),
        item_ids=tuple(map(str, range(N))),
    )


def drawn(spread: float, users: int = 400, each: int = 40, seed: int = 0) -> tuple[Any, Any, Any]:
    """Clicks with probabilities exp(spread * quality), without replacement, and the quality."""
    rng = np.random.default_rng(seed)
    quality = rng.standard_normal(N)
    scores = spread * quality + rng.gumbel(size=(users, N))
    items = np.argsort(-scores, axis=1)[:, :each]
    return np.repeat(np.arange(users), each), items.ravel(), quality


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_popularity_comes_back(spread: float):
    user, item, quality = drawn(spread)
    found = estimate(records(user, item), TOPIC_OF, threshold=4.0)
    assert found.parameters["choice_quality"] == pytest.approx(spread, abs=0.12)
    assert found.parameters["num_users"] == 400
    if spread:
        assert np.corrcoef(found.quality, quality)[0, 1] > 0.9
        assert found.quality.mean() == pytest.approx(0, abs=1e-9)
        assert found.quality.std() == pytest.approx(1)
    assert "popularity includes what the service showed" in found.notes[0]


def test_what_was_shown_is_no_popularity():
    rng = np.random.default_rng(0)
    users = 300
    shown = rng.random((users, N)) < np.where(np.arange(N) < 50, 0.8, 0.2)  # half of it: 50 items
    clicked = shown & (rng.random((users, N)) < 0.3)
    parts = [np.nonzero(shown), np.nonzero(clicked)]
    user = np.concatenate([part[0] for part in parts])
    item = np.concatenate([part[1] for part in parts])
    event = np.repeat([BROWSE, CLICK], [len(part[0]) for part in parts])
    aware = estimate(records(user, item, event=event), TOPIC_OF, threshold=4.0)
    blind = estimate(records(*parts[1]), TOPIC_OF, threshold=4.0)
    assert blind.parameters["choice_quality"] > 0.4 > 0.12 > aware.parameters["choice_quality"]
    assert not any("showed" in note for note in aware.notes)


@pytest.mark.parametrize("slope", [0.0, 0.6, -0.6])
def test_the_quality_in_satisfaction_comes_back_and_is_not_negative(slope: float):
    user, item, quality = drawn(0.6)
    rng = np.random.default_rng(1)
    satisfied = rng.random(len(item)) < 1 / (1 + np.exp(-slope * quality[item]))
    logs = records(user, item, np.where(satisfied, 5.0, 2.0), RATING)
    found = estimate(logs, TOPIC_OF, threshold=4.0)
    assert found.parameters["satisfaction_quality"] == pytest.approx(max(slope, 0.0), abs=0.15)
    alike = estimate(records(user, item, 5.0, RATING), TOPIC_OF, threshold=4.0)
    assert "satisfaction_quality" not in alike.parameters and "all outcomes" in alike.notes[-1]


@pytest.mark.parametrize("active", [1, 2, 3, 5])
def test_the_number_of_interests_comes_back(active: int):
    rng = np.random.default_rng(active)
    users, items = [], []
    for user in range(150):
        topics = rng.choice(TOPICS, active, replace=False)
        weight = np.exp(0.8 * rng.standard_normal(active))
        chosen = rng.choice(topics, 30, p=weight / weight.sum())
        users += [user] * 30
        items += [int(topic + TOPICS * rng.integers(N // TOPICS)) for topic in chosen]
    found = estimate(records(users, items), TOPIC_OF, threshold=4.0).parameters
    middle = (found["active_min"] + found["active_max"]) / 2
    assert middle == pytest.approx(active, abs=1.0)
    assert 1 <= found["active_min"] <= found["active_max"] <= 6


def test_topics_have_their_shares_and_none_is_without():
    user = np.repeat(np.arange(50), 4)
    item = np.tile([0, 10, 20, 1], 50)  # topics 0, 0, 0, 1
    found = estimate(records(user, item), TOPIC_OF, threshold=4.0)
    assert found.topic_share.sum() == pytest.approx(1) and found.topic_share.min() > 0
    assert found.topic_share[:2].tolist() == pytest.approx([151 / 210, 51 / 210])
    assert "active_min" not in found.parameters
    assert any("fewer than 10 users consumed 10 items" in note for note in found.notes)


def test_few_users_make_the_least_world():
    found = estimate(records([0, 1], [3, 4]), TOPIC_OF, threshold=4.0)
    assert found.parameters["num_users"] == 20 and np.isfinite(found.quality).all()
