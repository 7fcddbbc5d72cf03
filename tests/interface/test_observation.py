"""What an agent sees: nothing hidden, within its space, and what its names say."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.envs.spaces import observation_of, observation_space
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS, observations_of

PUBLIC = {"noise_key", "user_id", "step"}
"""Fields of a user that are no state of the person; all others are hidden."""
ALL = slice(None)


def _some_steps(simulator, draw_actions, steps=6):
    rng = np.random.default_rng(4)
    for _ in range(steps):
        simulator.step(draw_actions(simulator, rng))


@pytest.mark.parametrize("recall", ["uniform", "two-stage"])
def test_observations_do_not_depend_on_hidden_state(
    new_simulator, draw_actions, assert_same, acting, observing, recall
):
    simulator = new_simulator(20, recall=recall, **acting, **observing)
    _some_steps(simulator, draw_actions)
    simulator.show(np.arange(20))
    before = observation_of(simulator, ALL)
    for name in {*simulator.users.dtype.names} - PUBLIC:
        simulator.users[name] = simulator.users[name][::-1].copy()
    simulator.users["active"], simulator.users["weight"] = 1, 0.3
    simulator.buffers.vector[:] = np.nan
    simulator.show(np.arange(20))
    assert_same(observation_of(simulator, ALL), before)


@pytest.mark.parametrize("candidates", [20, 0])
def test_observations_lie_in_their_space(
    new_simulator, draw_actions, acting, observing, candidates
):
    simulator = new_simulator(20, candidates=candidates, **acting, **observing)
    space = observation_space(simulator)
    rng = np.random.default_rng(0)
    for _ in range(25):
        assert all(space.contains(observation_of(simulator, i)) for i in range(20))
        simulator.step(draw_actions(simulator, rng))


def test_dict_blocks_begin_with_the_vector_blocks(new_simulator, draw_actions):
    vector = new_simulator(20, observation_dim=12)
    blocks = new_simulator(20, observation="dict", observation_dim=12)
    for simulator in (vector, blocks):
        _some_steps(simulator, draw_actions)
    flat, named = observation_of(vector, ALL), observation_of(blocks, ALL)
    for index, name in enumerate(VECTOR_BLOCKS):
        np.testing.assert_array_equal(flat[:, index * 12 : (index + 1) * 12], named[name][:, :12])
    end = len(VECTOR_BLOCKS) * 12
    np.testing.assert_array_equal(flat[:, end : end + 10], named["session"])
    features = named["candidate_features"].reshape(20, -1)
    np.testing.assert_array_equal(flat[:, end + 10 :], features)
    assert flat.shape[1] == end + 10 + 20 * 8


@pytest.mark.parametrize("mode", ["weights", "query", "recipe"])
def test_modes_that_pick_no_candidates_do_not_see_them(new_simulator, mode):
    assert new_simulator(1, action=mode).buffers.vector.shape[1] == 6 * 32 + 10


def test_observations_are_copies(new_simulator, observing):
    simulator = new_simulator(2, **observing)
    seen = observation_of(simulator, 0)
    for array in seen.values() if isinstance(seen, dict) else [seen]:
        assert not any(np.shares_memory(array, buffer) for buffer in simulator.buffers)
        assert not np.shares_memory(array, simulator.users)


def _unit(vector):
    norm = np.linalg.norm(vector)
    return vector / norm if norm > 1e-6 else vector


class Follower:
    """One session's vectors, recomputed in float64 from what was public."""

    def __init__(self, world, user):
        self.world = world
        history = world.histories[user]
        names = ("interest", "recent", "satiation", "skipped", "factor")
        self.state = {name: history[name].astype(np.float64) for name in names}

    def follow(self, response):
        state, items = self.state, self.world.items
        if response["item"] >= 0:
            y, z = items.vectors[response["item"]], response["satisfied"] == 1
            slow, fast = (1.0, 1.0) if z else (0.15, -0.4)
            state["interest"] = 0.97 * state["interest"] + slow * y
            state["recent"] = 0.85 * state["recent"] + fast * y
            state["satiation"] = 0.90 * state["satiation"] + y
            state["skipped"] = 0.92 * state["skipped"]
            state["factor"] = 0.97 * state["factor"] + slow * items.factors[response["item"]]
        else:
            mean = items.vectors[response["slate"]].mean(0)
            state["recent"] = 0.85**0.25 * state["recent"] - 0.25 * mean
            state["satiation"] = 0.90 * state["satiation"]
            state["skipped"] = 0.92 * state["skipped"] + mean
        if response["query"] >= 0:
            state["interest"] = state["interest"] + self._phrase(response)
            state["recent"] = state["recent"] + self._phrase(response)

    def _phrase(self, response):
        return self.world.text.phrase_vectors[response["query"]]


def test_vectors_follow_their_definitions(new_simulator, draw_actions):
    simulator = new_simulator(10, observation="dict", query_rate=0.3)
    followers = [Follower(simulator.world, user) for user in range(10)]
    rng = np.random.default_rng(7)
    for _ in range(15):
        simulator.step(draw_actions(simulator, rng))
        for follower, response in zip(followers, simulator.responses, strict=True):
            follower.follow(response)
    seen = observation_of(simulator, ALL)
    for i, follower in enumerate(followers):
        for name in ("interest", "recent", "satiation", "skipped"):
            np.testing.assert_allclose(seen[name][i], _unit(follower.state[name]), atol=1e-5)
        factor = simulator.histories["factor"][i]
        np.testing.assert_allclose(factor, follower.state["factor"], atol=1e-5)
        query, item = simulator.histories["query"][i], simulator.histories["last_item"][i]
        phrases = simulator.world.text.phrase_vectors
        np.testing.assert_array_equal(
            seen["query"][i], phrases[query] if query >= 0 else 0 * phrases[0]
        )
        items = simulator.world.items.vectors
        np.testing.assert_array_equal(
            seen["last_item"][i], items[item] if item >= 0 else 0 * items[0]
        )


def _diversity(vectors):
    cosines = vectors @ vectors.T
    return 1 - cosines[~np.eye(len(vectors), dtype=bool)].mean()


def test_session_numbers_follow_their_definitions(new_simulator, draw_actions):
    simulator = new_simulator(1, query_rate=0.2)
    rng, past = np.random.default_rng(0), []
    for t in range(1, 26):
        simulator.step(draw_actions(simulator, rng))
        past.append(simulator.responses[0].copy())
        got = dict(zip(SESSION_NUMBERS, simulator.buffers.vector[0, 192:202], strict=True))
        consumed = [s for s, r in enumerate(past) if r["item"] >= 0]
        satisfied = [s for s, r in enumerate(past) if r["satisfied"]]
        asked = [s for s, r in enumerate(past) if r["query"] >= 0]
        last, items = past[-1], simulator.world.items.vectors
        expected = {
            "progress": t / 30,
            "consumption_rate": len(consumed) / t,
            "satisfaction_rate": len(satisfied) / max(len(consumed), 1),
            "since_satisfied": min((t - max(satisfied, default=-1)) / 20, 1),
            "since_consumed": min((t - max(consumed, default=-1)) / 20, 1),
            "last_rank": 1 / (last["choice"] + 1) if last["choice"] >= 0 else 0,
            "last_satisfied": last["satisfied"],
            "last_consumed": float(last["item"] >= 0),
            "query_age": min((t - asked[-1]) / 20, 1) if asked else 1,
            "slate_diversity": np.clip(_diversity(items[last["slate"]]), 0, 1),
        }
        assert got == pytest.approx(expected, abs=1e-5)
    assert consumed and satisfied and asked


def test_observations_of_histories_are_what_an_environment_shows(
    new_simulator, draw_actions, assert_same
):
    simulator = new_simulator(20, observation="dict", query_rate=0.3)
    _some_steps(simulator, draw_actions)
    world, shown = simulator.world, observation_of(simulator, ALL)
    again = observations_of(
        simulator.histories,
        world.items,
        world.text.phrase_vectors,
        simulator.config.horizon,
        shown["candidates"],
    )
    assert again.keys() == shown.keys() - {"user_id"}
    for name, block in again.items():
        np.testing.assert_allclose(block, shown[name], atol=1e-6, err_msg=name)
    without = observations_of(
        simulator.histories, world.items, world.text.phrase_vectors, simulator.config.horizon
    )
    assert_same(without, {name: again[name] for name in without})
    assert again.keys() - without.keys() == {"candidates", "candidate_features"}
