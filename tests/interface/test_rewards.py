from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.interface.rewards import REWARDS
from llmrec_env.simulation.response import response_dtype

N, STEPS = 60, 20


@pytest.mark.parametrize("model", ["logit", "cascade"])
@pytest.mark.parametrize("vector", REWARDS)
def test_the_reward_is_satisfaction_times_relevance(new_simulator, draw_actions, vector, model):
    simulator = new_simulator(N, reward_vector=vector, response=model)
    rng = np.random.default_rng(1)
    world, kappa = simulator.world, simulator.config.relevance_taste
    positive = several = 0
    for _ in range(STEPS):
        if vector == "true":
            v, taste = simulator.interests().astype(np.float64), simulator.users["taste"].copy()
        else:
            recent = simulator.histories["recent"].astype(np.float64)
            v, taste = recent / np.linalg.norm(recent, axis=1, keepdims=True), np.zeros((N, 4))
        rewards = simulator.step(draw_actions(simulator, rng))
        response = simulator.responses
        slate, satisfied = response["slate"], response["feedback"] == 1
        text = np.vecdot(world.items.vectors[slate], v[:, None]) / world.text.space.scale
        relevance = text + kappa * np.vecdot(world.traits["taste"][slate], taste[:, None])
        expected = np.where(satisfied, np.maximum(relevance, 0), 0).sum(axis=1)
        several += int((satisfied.sum(axis=1) > 1).sum())
        np.testing.assert_allclose(rewards, expected, atol=1e-5)
        assert rewards.dtype == np.float32 and (rewards >= 0).all()
        assert (rewards[response["item"] < 0] == 0).all()
        positive += int((rewards > 0).sum())
    assert positive > 50 and (several > 10) == (model == "cascade")


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
    responses["satisfied_relevance"] = responses["satisfied_observed_relevance"] = [0, 0.25, 0, 0]
    for reward in REWARDS.values():
        np.testing.assert_array_equal(reward(responses), np.float32([0, 0.25, 0, 0]))
