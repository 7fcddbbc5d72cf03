"""The sequence model looks back only, and learns an order that no bag of items shows."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.neural.next_item import LENGTH
from agents.neural.sasrec import SelfAttentive
from agents.neural.two_tower import TwoTower

torch = pytest.importorskip("torch")

NUM_ITEMS, DIM = 24, 70


@pytest.fixture(scope="module")
def vectors():
    rows = np.random.default_rng(0).normal(size=(NUM_ITEMS, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def cycle():
    """Every user goes on from item i to item i + 1, from wherever the user starts."""
    steps = np.arange(12)
    items = (np.arange(120)[:, None] * 7 + steps) % NUM_ITEMS
    times = np.tile(steps, 120)
    return Dataset.from_columns(
        np.repeat(np.arange(120), 12), items.ravel(), np.ones(1440), times, NUM_ITEMS
    )


@pytest.fixture(scope="module")
def trained(cycle, vectors):
    agent = SelfAttentive(epochs=30, learning_rate=3e-3)
    agent.learn(cycle, vectors)
    return agent


def _ranks_of_the_next(agent):
    newest = (np.arange(NUM_ITEMS)[:, None] - np.arange(6)) % NUM_ITEMS
    scores = agent.score_items(newest, np.ones(newest.shape, np.float32))
    following = (np.arange(NUM_ITEMS) + 1) % NUM_ITEMS
    own = np.take_along_axis(scores, following[:, None], 1)
    return (scores > own).sum(1)


def test_it_learns_what_follows_what(trained):
    assert (_ranks_of_the_next(trained) == 0).mean() > 0.9


def test_a_model_without_ids_and_order_does_not(cycle, vectors):
    agent = TwoTower(epochs=3)
    agent.learn(cycle, vectors)
    assert (_ranks_of_the_next(agent) == 0).mean() < 0.5


def test_it_starts_near_the_recent_texts(cycle, vectors):
    agent = SelfAttentive(epochs=0)
    agent.learn(cycle, vectors)
    scores = agent.score_items(np.array([[3, 8]]), np.ones((1, 2), np.float32))[0]
    assert set(np.argsort(-scores)[:2].tolist()) == {3, 8}


def test_no_event_sees_those_after_it(trained):
    rng = np.random.default_rng(1)
    events = torch.from_numpy(rng.integers(0, NUM_ITEMS, (3, LENGTH)))
    weights = torch.ones(3, LENGTH)
    before = trained.encode_users(events, weights)
    changed, lighter = events.clone(), weights.clone()
    changed[:, 20:], lighter[:, 20:] = (changed[:, 20:] + 5) % NUM_ITEMS, 0.2
    after = trained.encode_users(changed, lighter)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert (before[:, 20:] - after[:, 20:]).abs().amax(-1).min() > 1e-3


def test_gaps_before_a_history_change_nothing(trained):
    items = np.array([[3, 8, 1]])
    weights = np.array([[1.0, 0.2, 1.0]], np.float32)
    short = trained.score_items(items, weights)
    longer = np.pad(items, ((0, 0), (0, 90)), constant_values=-1)
    padded = trained.score_items(longer, np.pad(weights, ((0, 0), (0, 90))))
    np.testing.assert_array_equal(short, padded)


def test_while_acting_nothing_is_dropped(trained):
    items, weights = np.array([[3, 8, 1]]), np.ones((1, 3), np.float32)
    twice = [trained.score_items(items, weights) for _ in range(2)]
    np.testing.assert_array_equal(*twice)
