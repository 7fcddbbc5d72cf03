"""Users who are shown nothing: the random numbers of real sessions, and nothing but drift."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.config import EnvConfig
from llmrec_env.simulation.counterfactual import without_recommendations
from llmrec_env.world import load_world

USERS, KEYS, STEPS = np.array([3, 8, 19]), np.array([5, 6, 7], np.uint64), 30


def test_a_session_that_nothing_reaches_is_undisturbed(new_simulator):
    """With choices, exposure and discovery off, showing slates must change nothing."""
    mute = {"choice_null": 20.0, "exposure": 0.0, "discovery": 0.0, "choice_relevance": 0.0}
    mute |= {"choice_quality": 0.0, "lure": 0.0, "off": ["churn"]}
    simulator = new_simulator(3, **mute)
    simulator.start(np.arange(3), USERS, KEYS)
    simulator.show(np.arange(3))
    interests = [simulator.interests()]
    for _ in range(STEPS):
        simulator.step(np.tile(np.arange(5), (3, 1)))
        assert (simulator.responses["item"] == -1).all()
        interests.append(simulator.interests())
    alone = without_recommendations(simulator.world, USERS, KEYS, STEPS)
    np.testing.assert_array_equal(alone, np.stack(interests, axis=1))


def test_what_is_shown_moves_interests_away(new_simulator):
    simulator = new_simulator(3, off=["churn"])
    simulator.start(np.arange(3), USERS, KEYS)
    simulator.show(np.arange(3))
    for _ in range(STEPS):
        simulator.step(np.tile(np.arange(5), (3, 1)))
    alone = without_recommendations(simulator.world, USERS, KEYS, STEPS)
    assert (np.linalg.norm(simulator.interests() - alone[:, -1], axis=1) > 1e-3).all()


def test_the_world_is_not_changed_and_drift_can_be_off(world, tiny):
    before = world.users.copy()
    one, same = (without_recommendations(world, USERS, KEYS, 10) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(world.users, before)
    assert one.shape == (3, 11, tiny["dim"])
    still = load_world(EnvConfig(**tiny, off=("drift",)))
    path = without_recommendations(still, USERS, KEYS, 10)
    assert path == pytest.approx(np.repeat(path[:, :1], 11, axis=1))
