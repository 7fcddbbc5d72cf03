"""Past: what is public of a session is as the simulator has it, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.belief_oracle.agent import BeliefOracle
from agents.rankers.belief_oracle.knowledge import knowledge_of, race_times
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.logging_policy import new_search, search_items
from llmrec_env.simulation.noise import step_key
from llmrec_env.simulation.user_record import satiation_vector


@kernel
def _satiation(users, d):
    out = np.empty(d, np.float32)
    out[:] = satiation_vector(users[0])
    return out


@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_satiation_and_goodwill_are_those_of_the_user(new_vec, response):
    env = new_vec(3, observation="dict", response=response, autoreset_mode="next_step")
    agent = BeliefOracle(particles=2, moves=0)
    agent.attach(env)
    observation, _ = env.reset(seed=5)
    starts = np.ones(3, bool)
    for _ in range(8):
        actions = agent.act(observation, starts)
        for i in range(3):
            public, user = agent._beliefs[i].past.public[0], env.simulator.users[i]
            assert public["goodwill"] == user["goodwill"]
            assert agent._beliefs[i].users["goodwill"][0] == user["goodwill"]
            np.testing.assert_array_equal(
                _satiation(agent._beliefs[i].users, 32), user["satiation"]
            )
            assert public["num_consumed"] == user["num_consumed"]
        observation, _, terminated, truncated, _ = env.step(actions)
        starts = np.zeros(3, bool)
        assert not (terminated | truncated).any()


def test_particles_choose_by_the_freshness_of_each_step_as_users_do(new_vec):
    env = new_vec(3, observation="dict", new_items=0.4, off=["churn"])
    agent = BeliefOracle(particles=2, moves=0)
    agent.attach(env)
    observation, _ = env.reset(seed=5)
    starts = np.ones(3, bool)
    for step in range(4):
        actions = agent.act(observation, starts)
        for i in range(3):
            assert (agent._beliefs[i].users["step"] == step).all()
        observation, starts = env.step(actions)[0], np.zeros(3, bool)


def test_logged_slates_are_explained_by_what_was_published(new_vec):
    env = new_vec(1, new_items=0.4)
    world = env.simulator.world
    known = knowledge_of(world, 5)
    assert known.race.shape[0] == 20 == len(known.shelves)
    for age in (0, 19):
        existing = world.items.published < -age
        assert known.shelves[age, 0] == existing.sum()
        attraction = known.attraction[existing].sum()
        assert known.shelves[age, 1] == pytest.approx(attraction)
    assert (known.shelves[0] > known.shelves[19]).all()


def test_the_race_foretells_what_a_search_finds(world):
    phrases, vectors = world.interests.vectors[:1], world.items.vectors
    n, k, searches = len(vectors), 3, 4_000
    times = race_times(phrases, vectors, k)[0]
    rates = np.exp(vectors @ phrases[0] / 0.1)
    found, results = np.zeros((k, n)), np.empty(k, np.int32)
    search, table = new_search(400, k), np.empty((0, 0), np.float32)
    every = np.arange(n, dtype=np.int32)
    for s in range(searches):
        key = np.uint64(step_key(np.uint64(9), s))
        search_items(vectors, phrases, table, 0, key, search, results, every)
        found[np.arange(k), results] += 1 / searches
    for j in range(k):
        foretold = 400 / n * (np.exp(-rates * times[j]) - np.exp(-rates * times[j + 1]))
        assert foretold.sum() == pytest.approx(1.0, abs=1e-4)
        top = np.argsort(-foretold)[:20]
        assert found[j, top].sum() == pytest.approx(foretold[top].sum(), rel=0.15)
        assert np.corrcoef(found[j], foretold)[0, 1] > 0.95
