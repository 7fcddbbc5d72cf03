"""Who consumed what, from public data and from own logs, and scores for any number of sessions."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.als import UNSATISFIED_WEIGHT
from agents.rankers.history_ranker import HistoryRanker, interactions_of, logged_interactions, past
from llmrec_env.interface.observation import EMPTY, QUERY, SATISFIED, UNSATISFIED


class LastItem(HistoryRanker):
    """Likes the items after the last one consumed."""

    name = "last-item"

    def learn(self, interactions, vectors=None):
        self.interactions, self.vectors = interactions, vectors

    def score_items(self, items, weights):
        assert len(items) == 64  # whole blocks
        distance = np.arange(self.interactions.num_items) - items[:, :1]
        return -np.abs(distance - 1).astype(np.float32)


def test_own_logs_are_sorted_by_user_and_time_and_users_become_rows():
    log = interactions_of([7, 3, 7, 3], [4, 1, 2, 0], [1.0, 0.2, 1.0, 1.0], [9, 5, 8, 6], 5)
    assert (log.num_users, log.num_items) == (2, 5)
    np.testing.assert_array_equal(log.users, [0, 0, 1, 1])
    np.testing.assert_array_equal(log.items, [1, 0, 2, 4])
    np.testing.assert_array_equal(log.times, [5, 6, 8, 9])
    np.testing.assert_allclose(log.weights, [0.2, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"items": [0, 5]}, "items holds 5; ids are 0 to 4"),
        ({"items": [-1, 0]}, "items holds -1"),
        ({"weights": [1.0, np.nan]}, "weights holds nan"),
        ({"weights": [-1.0, 1.0]}, "weights holds -1.0"),
        ({"times": [1]}, "shapes"),
    ],
)
def test_own_logs_that_do_not_fit_are_refused(changed, message):
    columns = {"users": [0, 1], "items": [0, 1], "weights": [1.0, 1.0], "times": [0, 1]}
    with pytest.raises(ValueError, match=message):
        interactions_of(**{**columns, **changed}, num_items=5)


def test_no_logs_are_no_users():
    log = interactions_of([], np.zeros(0, int), [], [], 5)
    assert log.num_users == 0 and log.histories(3)[0].shape == (0, 3)
    assert (log.popularity() == 0).all()


def test_histories_are_the_last_items_newest_first():
    log = interactions_of([0, 0, 0, 2], [4, 1, 2, 0], [1, 0.5, 1, 1], [1, 2, 3, 0], 5)
    items, weights = log.histories(2)
    np.testing.assert_array_equal(items, [[2, 1], [0, -1]])
    np.testing.assert_allclose(weights, [[1, 0.5], [1, 0]])


def test_logged_interactions_are_the_clicks_of_the_training_users(new_vec):
    data = new_vec(4, observation="dict").public_data()
    log = logged_interactions(data)
    user, item, satisfied = data.logs.clicks(np.arange(48))
    np.testing.assert_array_equal(log.users, user)
    np.testing.assert_array_equal(log.items, item)
    np.testing.assert_allclose(log.weights, np.where(satisfied == 1, 1.0, UNSATISFIED_WEIGHT))
    assert (log.num_users, log.num_items) == (48, 600)
    assert (np.diff(log.times)[np.diff(log.users) == 0] > 0).all() and log.times.max() < 0


def test_browsed_items_are_negatives(new_vec):
    data = new_vec(4, observation="dict").public_data()
    log = logged_interactions(data, browsed=True)
    assert len(log.items) == data.logs.slates.size
    for kept, expected in zip(log.consumed()[:4], logged_interactions(data)[:4], strict=True):
        np.testing.assert_array_equal(kept, expected)
    first = (log.users == 0) & (log.times == -20)
    np.testing.assert_array_equal(np.sort(log.items[first]), np.sort(data.logs.slates[0, 0]))


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
    there = observation["candidates"] >= 0
    np.testing.assert_array_equal(scores[there], expected[there])
    assert (scores[~there] < -1e8).all()
