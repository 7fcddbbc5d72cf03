"""Rankers by what a user consumed: histories as items and weights, and scores of candidates."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import UNSATISFIED_WEIGHT
from agents.rankers.history_ranker import HistoryRanker, past
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED, UNSATISFIED


class LastItem(HistoryRanker):
    """Likes the items after the last one consumed."""

    name = "last-item"

    def learn(self, dataset, vectors=None):
        self.dataset, self.vectors = dataset, vectors

    def score_items(self, items, weights):
        assert len(items) == 64  # whole blocks
        distance = np.arange(self.dataset.num_items) - items[:, :1]
        return -np.abs(distance - 1).astype(np.float32)


def test_the_past_leaves_out_phrases_and_closes_the_gaps():
    history = np.array([[7, 3, 5, -1], [2, 9, 1, 4]], np.int32)
    kinds = np.array([[QUERY, SATISFIED, UNSATISFIED, EMPTY], [SATISFIED, QUERY, QUERY, SATISFIED]])
    items, weights = past({"history": history, "history_feedback": kinds.astype(np.int32)})
    np.testing.assert_array_equal(items, [[3, 5, -1, -1], [2, 4, -1, -1]])
    np.testing.assert_allclose(weights, [[1, UNSATISFIED_WEIGHT, 0, 0], [1, 1, 0, 0]])


def test_phrases_can_stand_for_items_that_satisfied():
    history = np.array([[7, 3, 5, -1]], np.int32)
    kinds = np.array([[QUERY, UNSATISFIED, SATISFIED, EMPTY]], np.int32)
    observation = {"history": history, "history_feedback": kinds}
    items, weights = past(observation, first_phrase=100)
    np.testing.assert_array_equal(items, [[107, 3, 5, -1]])
    np.testing.assert_allclose(weights, [[1, UNSATISFIED_WEIGHT, 1, 0]])
    np.testing.assert_array_equal(history, [[7, 3, 5, -1]])


@pytest.mark.parametrize("n", [1, 63, 65])
@pytest.mark.parametrize("candidates", [20, 0])
def test_scores_are_those_of_the_candidates(new_vec, n, candidates):
    env = new_vec(n, observation="dict", candidates=candidates)
    agent = LastItem()
    agent.fit(env, 0)
    assert agent.vectors is agent.data.items.vectors
    observation, _ = env.reset(seed=0)
    observation["candidates"][:, 0] = -1
    scores = agent.scores(observation)
    items, _ = past(observation)
    expected = -np.abs(observation["candidates"] - items[:, :1] - 1).astype(np.float32)
    offered = observation["candidates"] >= 0
    np.testing.assert_array_equal(scores[offered], expected[offered])
    assert (scores[~offered] < -1e8).all()
