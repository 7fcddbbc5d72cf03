"""Item-to-item models, item-knn and ease, against dense numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.rankers.history_ranker import consumption
from agents.rankers.item_models import Ease, ItemNeighbours, gram_of_near, inverse_of

MODELS = {"item-knn": ItemNeighbours, "ease": Ease}


@pytest.fixture
def log():
    rng = np.random.default_rng(0)
    cells = rng.permutation(30 * 12)[:140]  # item 12 is never consumed
    weights = rng.choice([0.2, 1.0], 140)
    return Dataset.from_columns(cells // 12, cells % 12, weights, np.arange(140), 13)


def _dense(log):
    matrix = np.zeros((log.num_users, log.num_items))
    matrix[log.users, log.items] = log.weights
    return matrix


def _every_item_alone(num_items):
    return np.arange(num_items)[:, None], np.ones((num_items, 1), np.float32)


def test_consumption_weighs_recent_items_more():
    items, weights = np.array([[3, 1, 3, -1]]), np.array([[1.0, 0.2, 1.0, 0.0]], np.float32)
    dense = consumption(items, weights, 5, decay=0.5).toarray()
    np.testing.assert_allclose(dense, [[0, 0.1, 0, 1.25, 0]])


@pytest.mark.parametrize("neighbours", [2, 20])
def test_neighbours_are_the_nearest_by_shrunk_cosine(log, neighbours):
    agent = ItemNeighbours(neighbours=neighbours, shrinkage=3.0, popular=0.0)
    agent.learn(log)
    matrix = _dense(log)
    norms = np.linalg.norm(matrix, axis=0)
    cosine = matrix.T @ matrix / (norms[:, None] * norms + 3.0)
    np.fill_diagonal(cosine, 0.0)
    bar = -np.sort(-cosine, axis=1)[:, min(neighbours, 12) - 1 : min(neighbours, 12)]
    expected = np.where(cosine >= bar, cosine, 0.0)
    np.testing.assert_allclose(agent.score_items(*_every_item_alone(13)), expected, atol=1e-6)


def test_ease_is_the_least_squares_without_self_similarity(log):
    """Each column solves a ridge regression on the other items, by the definition of the model."""
    agent = Ease(regularisation=2.0, popular=0.0)
    agent.learn(log)
    matrix, expected = _dense(log), np.zeros((13, 13))
    for item in range(13):
        others = np.arange(13) != item
        left = matrix[:, others].T @ matrix[:, others] + 2.0 * np.eye(12)
        expected[others, item] = np.linalg.solve(left, matrix[:, others].T @ matrix[:, item])
    np.testing.assert_allclose(agent.score_items(*_every_item_alone(13)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 600])
def test_the_inverse_is_symmetric_and_whole(size):
    rows = np.random.default_rng(0).normal(size=(size, size))
    gram = rows @ rows.T + size * np.eye(size)
    inverse = inverse_of(gram.copy())
    np.testing.assert_allclose(inverse @ gram, np.eye(size), atol=1e-9)
    np.testing.assert_array_equal(inverse, inverse.T)


def test_a_matrix_without_inverse_is_refused():
    with pytest.raises(ValueError, match="use a regularisation above 0"):
        inverse_of(np.zeros((3, 3)))


def test_items_consumed_near_each_other_count_more():
    columns = ([0, 0, 0, 1, 1], [3, 0, 2, 2, 3], [1.0, 1.0, 0.2, 1.0, 1.0], [0, 1, 2, 5, 6])
    log = Dataset.from_columns(*columns, num_items=5)
    gram = gram_of_near(log, np.array([0, 2, 3]), 0.5)
    expected = [[1.0, 0.5 * 0.2, 0.5], [0.1, 0.04 + 1.0, 0.25 * 0.2 + 0.5], [0.5, 0.55, 2.0]]
    np.testing.assert_allclose(gram, expected, rtol=1e-6)


def test_without_decay_of_gaps_the_gram_matrix_is_that_of_the_log(log):
    dense = _dense(log)
    np.testing.assert_allclose(gram_of_near(log, np.arange(13), 1.0), dense.T @ dense, atol=1e-6)


def test_an_item_that_comes_again_counts_once_from_its_last_time():
    columns = ([0, 0, 0], [1, 0, 1], [1.0, 1.0, 0.2], [0, 1, 2])
    gram = gram_of_near(Dataset.from_columns(*columns, num_items=2), np.arange(2), 0.5)
    np.testing.assert_allclose(gram, [[1.0, 0.5], [0.5, 1.0]])


def test_ease_over_few_items_ranks_the_rest_by_popularity(log):
    agent = Ease(regularisation=2.0, popular=0.5, most_items=4)
    agent.learn(log)
    assert agent.item_weights.shape == (4, 4)
    best = set(np.argsort(-np.bincount(log.items, log.weights, 13), kind="stable")[:4].tolist())
    assert set(agent.items.tolist()) == best
    scores = agent.score_items(*_every_item_alone(13))
    rest = np.setdiff1d(np.arange(13), agent.items)
    np.testing.assert_allclose(scores[:, rest], np.tile(0.5 * agent.popularity[rest], (13, 1)))


@pytest.mark.parametrize("name", MODELS)
def test_an_item_that_comes_twice_counts_once_with_its_larger_weight(name):
    columns = ([0, 0, 0, 1, 1], [0, 1, 1, 1, 2], [1.0, 0.2, 1.0, 1.0, 0.2], [0, 1, 2, 0, 1])
    twice, once = MODELS[name](), MODELS[name]()
    twice.learn(Dataset.from_columns(*columns, num_items=3))
    once.learn(Dataset.from_columns(*(np.delete(column, 1) for column in columns), num_items=3))
    once.popularity = twice.popularity
    scored = (agent.score_items(*_every_item_alone(3)) for agent in (twice, once))
    np.testing.assert_array_equal(*scored)


@pytest.mark.parametrize("name", MODELS)
def test_what_was_only_shown_teaches_nothing(name, log):
    weights = np.where(log.users < 15, 0.0, log.weights).astype(np.float32)
    shown = dataclasses.replace(log, weights=weights)
    agents = MODELS[name](), MODELS[name]()
    agents[0].learn(shown)
    agents[1].learn(shown.consumed())
    scored = (agent.score_items(*_every_item_alone(13)) for agent in agents)
    np.testing.assert_array_equal(*scored)


@pytest.mark.parametrize("name", MODELS)
def test_a_user_without_a_past_gets_what_is_popular(name, log):
    agent = MODELS[name]()
    agent.learn(log)
    scores = agent.score_items(np.full((1, 8), -1), np.zeros((1, 8), np.float32))[0]
    np.testing.assert_array_equal(np.argsort(-scores), np.argsort(-log.popularity()))
