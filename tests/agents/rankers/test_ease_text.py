"""EASE drawn to texts, against dense numpy, and what it knows where there are no clicks."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.rankers.ease_text import EaseText
from agents.rankers.item_models import Ease
from llmrec_env.interface.history import QUERY

NUM_ITEMS = 13


@pytest.fixture
def log():
    rng = np.random.default_rng(0)
    cells = rng.permutation(30 * 12)[:140]  # item 12 is never consumed
    weights = rng.choice([0.2, 1.0], 140)
    return Dataset.from_columns(cells // 12, cells % 12, weights, np.arange(140), NUM_ITEMS)


@pytest.fixture
def texts():
    vectors = np.random.default_rng(1).normal(size=(NUM_ITEMS, 4))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _weights(agent):
    """What each item alone says of the others; what it says of itself is never used."""
    scores = agent.score_items(np.arange(NUM_ITEMS)[:, None], np.ones((NUM_ITEMS, 1), np.float32))
    np.fill_diagonal(scores, 0.0)
    return scores


def _off_diagonal(matrix):
    return np.where(np.eye(NUM_ITEMS, dtype=bool), 0.0, matrix)


def test_it_is_the_least_squares_drawn_to_texts(log, texts):
    """Each column solves a ridge regression on the other items, around c times its cosines."""
    agent = EaseText(regularisation=2.0, popular=0.0, text=0.3, gap_decay=1.0)
    agent.learn(log, texts)
    matrix, cosines = np.zeros((30, NUM_ITEMS)), texts @ texts.T
    matrix[log.users, log.items] = log.weights
    expected = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for item in range(12):
        others = np.delete(np.arange(NUM_ITEMS), item)
        left = matrix[:, others].T @ matrix[:, others] + 2.0 * np.eye(12)
        right = matrix[:, others].T @ matrix[:, item] + 2.0 * 0.3 * cosines[others, item]
        expected[others, item] = np.linalg.solve(left, right)
    expected[:12, 12] = 0.3 * cosines[:12, 12]  # nobody could consume it yet
    np.testing.assert_allclose(_weights(agent), expected, atol=1e-5)


def test_without_texts_it_is_ease(log, texts):
    agent, ease = EaseText(decay=0.95, text=0.0), Ease(regularisation=200.0, gap_decay=0.97)
    agent.learn(log, texts)
    ease.learn(log)
    np.testing.assert_allclose(_weights(agent), _weights(ease), atol=1e-6)


def test_where_clicks_are_not_believed_texts_decide(log, texts):
    agent = EaseText(regularisation=1e7, popular=0.0, text=0.3)
    agent.learn(log, texts)
    np.testing.assert_allclose(_weights(agent), _off_diagonal(0.3 * texts @ texts.T), atol=1e-4)


def test_items_beyond_the_most_consumed_are_known_by_their_texts(log, texts):
    agent = EaseText(regularisation=2.0, popular=0.0, text=0.3, most_items=4)
    agent.learn(log, texts)
    assert agent.item_weights.shape == (4, 4)
    rest = np.setdiff1d(np.arange(NUM_ITEMS), agent.items)
    expected, weights = _off_diagonal(0.3 * texts @ texts.T), _weights(agent)
    np.testing.assert_allclose(weights[rest], expected[rest], atol=1e-6)
    np.testing.assert_allclose(weights[:, rest], expected[:, rest], atol=1e-6)


def test_a_user_without_a_past_gets_what_is_popular(log, texts):
    agent = EaseText()
    agent.learn(log, texts)
    scores = agent.score_items(np.full((1, 8), -1), np.zeros((1, 8), np.float32))[0]
    np.testing.assert_array_equal(np.argsort(-scores), np.argsort(-log.popularity()))


@pytest.mark.parametrize("vectors", [None, np.ones((3, 4), np.float32)])
def test_it_needs_a_vector_for_each_item(log, vectors):
    with pytest.raises(ValueError, match="pass the encodings of all items as vectors"):
        EaseText().learn(log, vectors)


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(6, observation="dict")


def _scores(env, observation, **settings):
    agent = EaseText(popular=0.0, **settings)
    agent.fit(env, 0)
    return agent.scores(observation)


def test_a_phrase_typed_counts_as_its_text(env):
    observation, _ = env.reset(seed=0)
    data = env.public_data()
    kinds = np.zeros_like(observation["history_feedback"])
    history = np.full_like(observation["history"], -1)
    kinds[:, 0], history[:, 0] = QUERY, np.arange(6)
    typed = observation | {"history": history, "history_feedback": kinds}
    cosines = data.phrase_vectors[:6] @ data.items.vectors.T
    expected = 0.5 * np.take_along_axis(cosines, np.maximum(observation["candidates"], 0), 1)
    np.testing.assert_allclose(_scores(env, typed, text=0.5), expected, atol=1e-5)


def test_public_terms_are_added(env):
    observation, _ = env.reset(seed=0)
    items, candidates = env.public_data().items, observation["candidates"]
    plain = _scores(env, observation)
    deep = _scores(env, observation, substance=0.5) - plain
    np.testing.assert_allclose(deep, 0.5 * items.substance[candidates], atol=1e-4)
    observation["skipped"][:] = items.vectors[candidates[:, 0]]
    less = plain - _scores(env, observation, skipped=0.5)
    assert (less.argmax(axis=1) == 0).all()
    np.testing.assert_allclose(less[:, 0], 0.5, atol=1e-4)
