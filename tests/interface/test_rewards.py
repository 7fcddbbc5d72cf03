from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.interface.rewards import REWARDS
from llmrec_env.simulation.response import response_dtype

N, STEPS = 60, 20


@pytest.mark.parametrize("vector", REWARDS)
def test_the_reward_is_satisfaction_times_relevance(new_simulator, draw_actions, vector):
    simulator = new_simulator(N, reward_vector=vector)
    rng = np.random.default_rng(1)
    scale, vectors = simulator.world.text.space.scale, simulator.world.items.vectors
    positive = 0
    for _ in range(STEPS):
        if vector == "true":
            v = simulator.interests().astype(np.float64)
        else:
            recent = simulator.histories["recent"].astype(np.float64)
            v = recent / np.linalg.norm(recent, axis=1, keepdims=True)
        rewards = simulator.step(draw_actions(simulator, rng))
        response = simulator.responses
        relevance = np.vecdot(vectors[response["item"]], v) / scale
        if vector == "true":
            taste = np.vecdot(
                simulator.world.traits["taste"][response["item"]], simulator.users["taste"]
            )
            relevance += simulator.config.relevance_taste * taste
        relevance = np.maximum(relevance, 0)
        expected = np.where(response["satisfied"] == 1, relevance, 0)
        np.testing.assert_allclose(rewards, expected, atol=1e-5)
        assert rewards.dtype == np.float32 and (rewards >= 0).all()
        assert (rewards[response["item"] < 0] == 0).all()
        positive += int((rewards > 0).sum())
    assert positive > 50


def test_the_reward_vector_changes_the_reward_and_nothing_else(new_simulator, draw_actions):
    true, observed = (new_simulator(N, reward_vector=vector) for vector in REWARDS)
    rng = np.random.default_rng(2)
    differ = False
    for _ in range(STEPS):
        actions = draw_actions(true, rng)
        differ |= bool((true.step(actions) != observed.step(actions)).any())
    assert differ
    assert true.users.tobytes() == observed.users.tobytes()
    assert true.buffers.vector.tobytes() == observed.buffers.vector.tobytes()


def test_rewards_are_never_negative_whatever_the_responses():
    responses = np.zeros(4, response_dtype(5))
    responses["satisfied"] = [0, 1, 0, 1]
    responses["relevance"] = responses["observed_relevance"] = [0.5, 0.25, 0, 0]
    for reward in REWARDS.values():
        np.testing.assert_array_equal(reward(responses), np.float32([0, 0.25, 0, 0]))
