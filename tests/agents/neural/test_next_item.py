"""Next-item models: training against numpy, what two towers make of texts, and sequences."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.neural.next_item import LENGTH, TwoTower
from agents.neural.sasrec import SelfAttentive
from llmrec_env.interface.history import QUERY

torch = pytest.importorskip("torch")

NUM_ITEMS, DIM = 40, 6
CYCLE, WIDTH = 24, 70


def _unit_vectors(*shape):
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    return _unit_vectors(NUM_ITEMS, DIM)


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(30), 10)
    items = (NUM_ITEMS * rng.random(300) ** 2).astype(int)
    return Dataset.from_columns(
        users, items, rng.choice([0.2, 1.0], 300), np.arange(300), NUM_ITEMS
    )


@pytest.fixture
def untrained(log, vectors):
    agent = TwoTower(epochs=0)
    agent.learn(log, vectors)
    return agent


def test_it_starts_as_the_mean_of_texts_by_age(untrained, log, vectors):
    items, weights = np.array([[5, 9, 2, -1]]), np.array([[1.0, 0.2, 1.0, 0.0]], np.float32)
    slope, unsatisfied, scale, popular = (
        float(untrained.parameters[name]) for name in ("slope", "unsatisfied", "scale", "popular")
    )
    share = np.exp(-slope * np.arange(3)) * [1.0, unsatisfied, 1.0]
    user = share @ vectors[[5, 9, 2]]
    cosine = vectors @ user / np.linalg.norm(user)
    expected = np.exp(scale) * cosine + popular * log.popularity()
    np.testing.assert_allclose(untrained.score_items(items, weights)[0], expected, rtol=1e-4)


def test_the_loss_is_the_cross_entropy_without_the_share_of_the_draw(untrained, vectors):
    items = torch.full((2, LENGTH + 1), -1)
    items[0, -3:], items[1, -2:] = torch.tensor([3, 8, 4]), torch.tensor([7, 3])
    weights = torch.ones(items.shape)
    weights[0, -1] = 0.2
    drawn, share = torch.tensor([8, 1, 30]), np.linspace(1, 2, NUM_ITEMS) / 60
    got = untrained.loss(items, weights, drawn, torch.from_numpy(np.log(share)).float())
    entropy = []
    for past, right in (([3], 8), ([3, 8], 4), ([7], 3)):
        newest = np.array([past[::-1]])
        logits = untrained.score_items(newest, np.ones(newest.shape, np.float32))[0] - np.log(share)
        negatives = [item for item in (8, 1, 30) if item != right]
        odds = np.exp(logits[[right, *negatives]])
        entropy.append(-np.log(odds[0] / odds.sum()))
    expected = np.average(entropy, weights=[1.0, 0.2, 1.0])
    assert float(got) == pytest.approx(expected, rel=1e-4)


def test_it_learns_which_part_of_the_texts_matters(vectors):
    """Users stay on one side of the first component; the other components are noise."""
    rng = np.random.default_rng(2)
    sides = [np.flatnonzero(side) for side in (vectors[:, 0] > 0, vectors[:, 0] <= 0)]
    items = np.concatenate([rng.choice(sides[user % 2], 8) for user in range(200)])
    log = Dataset.from_columns(
        np.repeat(np.arange(200), 8), items, np.ones(1600), np.arange(1600), NUM_ITEMS
    )
    liked = np.stack([rng.choice(sides[user % 2], 3) for user in range(50)])
    right = np.stack([np.isin(np.arange(NUM_ITEMS), sides[user % 2]) for user in range(50)])
    quality = []
    for epochs in (0, 20):
        agent = TwoTower(epochs=epochs, batch=64, learning_rate=1e-2)
        agent.learn(log, vectors)
        scores = agent.score_items(liked, np.ones(liked.shape, np.float32))
        best = np.argsort(-scores, axis=1)[:, :15]
        quality.append(np.take_along_axis(right, best, 1).mean())
    assert quality[1] > 0.95 and quality[1] > quality[0] + 0.1


def test_gaps_at_the_end_and_what_is_too_old_change_nothing(untrained):
    rng = np.random.default_rng(3)
    items = rng.integers(0, NUM_ITEMS, (4, 60))
    weights = rng.choice([0.2, 1.0], items.shape).astype(np.float32)
    recent = untrained.score_items(items[:, :LENGTH], weights[:, :LENGTH])
    np.testing.assert_array_equal(untrained.score_items(items, weights), recent)
    short = untrained.score_items(items[:, :5], weights[:, :5])
    items[:, 5:], weights[:, 5:] = -1, 0.0
    np.testing.assert_array_equal(untrained.score_items(items, weights), short)
    assert np.abs(short - recent).max() > 1e-3


def test_without_vectors_it_says_what_is_missing(log, vectors):
    with pytest.raises(ValueError, match="two-tower reads texts, but got no vectors for 40 items"):
        TwoTower().learn(log)
    with pytest.raises(ValueError, match="got 39 vectors for 40 items"):
        TwoTower().learn(log, vectors[:39])


def test_it_leaves_the_vectors_as_they_were(log, vectors):
    before = vectors.copy()
    TwoTower(epochs=2).learn(log, vectors)
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("agent", [TwoTower, SelfAttentive])
def test_a_phrase_typed_turns_it_to_what_the_phrase_says(new_vec, agent):
    env = new_vec(1, observation="dict", candidates=0)
    agent = agent(epochs=1)
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    before = agent.scores(observation)[0]
    phrase = 11
    for name, newest in (("history", phrase), ("history_feedback", QUERY)):
        observation[name] = np.roll(observation[name], 1, axis=1)
        observation[name][0, 0] = newest
    gain = agent.scores(observation)[0] - before
    offered = observation["candidates"][0] >= 0
    nearness = agent.data.items.vectors @ agent.data.phrase_vectors[phrase]
    assert np.corrcoef(gain[offered], nearness[offered])[0, 1] > 0.5


# --- sequences


@pytest.fixture(scope="module")
def wide_vectors():
    return _unit_vectors(CYCLE, WIDTH)


@pytest.fixture(scope="module")
def cycle():
    """Every user goes on from item i to item i + 1, from wherever the user starts."""
    steps = np.arange(12)
    items = (np.arange(120)[:, None] * 7 + steps) % CYCLE
    times = np.tile(steps, 120)
    return Dataset.from_columns(
        np.repeat(np.arange(120), 12), items.ravel(), np.ones(1440), times, CYCLE
    )


@pytest.fixture(scope="module")
def trained(cycle, wide_vectors):
    agent = SelfAttentive(epochs=30, learning_rate=3e-3)
    agent.learn(cycle, wide_vectors)
    return agent


def _ranks_of_the_next(agent):
    newest = (np.arange(CYCLE)[:, None] - np.arange(6)) % CYCLE
    scores = agent.score_items(newest, np.ones(newest.shape, np.float32))
    following = (np.arange(CYCLE) + 1) % CYCLE
    own = np.take_along_axis(scores, following[:, None], 1)
    return (scores > own).sum(1)


def test_sasrec_learns_what_follows_what(trained):
    assert (_ranks_of_the_next(trained) == 0).mean() > 0.9


def test_a_model_without_ids_and_order_does_not(cycle, wide_vectors):
    agent = TwoTower(epochs=3)
    agent.learn(cycle, wide_vectors)
    assert (_ranks_of_the_next(agent) == 0).mean() < 0.5


def test_sasrec_starts_near_the_recent_texts(cycle, wide_vectors):
    agent = SelfAttentive(epochs=0)
    agent.learn(cycle, wide_vectors)
    scores = agent.score_items(np.array([[3, 8]]), np.ones((1, 2), np.float32))[0]
    assert set(np.argsort(-scores)[:2].tolist()) == {3, 8}


def test_no_event_sees_those_after_it(trained):
    rng = np.random.default_rng(1)
    events = torch.from_numpy(rng.integers(0, CYCLE, (3, LENGTH)))
    weights = torch.ones(3, LENGTH)
    before = trained.encode_users(events, weights)
    changed, lighter = events.clone(), weights.clone()
    changed[:, 20:], lighter[:, 20:] = (changed[:, 20:] + 5) % CYCLE, 0.2
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
