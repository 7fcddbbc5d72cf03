"""Regimes of the market: interests of all users move together, at the same steps, and only then."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agent
from llmrec_env.simulation.counterfactual import without_recommendations
from llmrec_env.simulation.regimes import NUM_REGIMES, REGIME_TOPICS, regime_changes, regime_topic
from llmrec_env.simulation.response import parameters

CALM = {"switch_rate": 0.0, "refine_rate": 0.0, "off": ["churn"]}
USERS, KEYS = np.arange(60), np.arange(60, dtype=np.uint64) + np.uint64(7)


def params_of(world, **changes):
    """The parameters of a configuration in which regimes change at some steps."""
    return parameters(world.config.__class__(regime_rate=0.1, **changes), 1.0)[0]


def changes_of(params, steps):
    return [step for step in steps if regime_changes(params, step)]


def likeness(interests):
    """Mean cosine between the interests of different users."""
    unit = interests / np.linalg.norm(interests, axis=1, keepdims=True)
    n = len(unit)
    return float(((unit @ unit.T).sum() - n) / (n * (n - 1)))


def alone(new_simulator, **changes):
    simulator = new_simulator(1, **(CALM | changes))
    return without_recommendations(simulator.world, USERS, KEYS, 30), simulator.world


def test_regimes_change_at_their_rate_and_are_a_worlds_own(world):
    steps = range(-20, 4_000)
    changes = changes_of(params_of(world), steps)
    assert len(changes) / len(steps) == pytest.approx(0.1, abs=0.015)
    assert changes != changes_of(params_of(world, world_seed=1), steps)
    assert changes_of(params_of(world, off=["regimes"]), steps) == []
    assert changes_of(params_of(world, off=["drift"]), steps) == []


def test_a_world_has_a_few_regimes_that_return(world):
    params = params_of(world)
    regimes = {
        tuple(int(regime_topic(params, step, j, 24)) for j in range(REGIME_TOPICS))
        for step in range(500)
    }
    assert len(regimes) == NUM_REGIMES and all(0 <= x < 24 for r in regimes for x in r)


def test_interests_of_all_users_move_to_the_topics_of_the_regime_at_its_step(new_simulator):
    simulator = new_simulator(60, regime_rate=0.2, **CALM)
    starts, params = simulator.world.interests.topic_start, simulator.world.params[0]
    topic_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    changed = 0
    for step in range(15):
        active = simulator.users["active"] == 1
        before = np.where(active, simulator.users["phrase"], -1)
        simulator.step(np.tile(np.arange(5), (60, 1)))
        responses, moved = simulator.responses, simulator.users["last_switch"] == step
        assert (
            moved.mean() == pytest.approx(1.0, abs=0.1)
            if regime_changes(params, step)
            else (not moved.any())
        )
        if not regime_changes(params, step):
            continue
        changed += 1
        topics = {int(regime_topic(params, step, j, len(starts) - 1)) for j in range(3)}
        born = responses["born"][moved]
        assert np.isin(topic_of[born], list(topics)).mean() > 0.7  # some are held already
        died = responses["died"][moved]
        assert (died[:, None] == before[moved]).any(axis=1).mean() > 0.5
    assert changed > 1


def test_regimes_make_interests_of_different_users_alike(new_simulator):
    with_regimes, world = alone(new_simulator, regime_rate=0.2, warmup_slates=1)
    without, _ = alone(new_simulator, warmup_slates=1)
    first = next(t for t in range(30) if regime_changes(world.params[0], t))
    rose = [likeness(x[:, first + 1]) - likeness(x[:, first]) for x in (with_regimes, without)]
    assert rose[0] > rose[1] + 0.02
    # switches as many at steps of their own do not
    apart, _ = alone(new_simulator, switch_rate=0.4, warmup_slates=1)
    assert likeness(with_regimes[:, -1]) > likeness(apart[:, -1]) + 0.02


def test_nothing_else_of_a_session_changes_until_the_first_regime(new_simulator):
    one, other = (
        new_simulator(20, warmup_slates=1),
        new_simulator(20, warmup_slates=1, regime_rate=0.05),
    )
    params = other.world.params[0]
    assert not regime_changes(params, -1)
    first = next(t for t in range(100) if regime_changes(params, t))
    assert first >= 2
    for step in range(first + 1):
        for simulator in (one, other):
            simulator.step(np.tile(np.arange(5), (20, 1)))
        same = (one.users["phrase"] == other.users["phrase"]).all()
        assert same == (step < first)


def test_the_belief_oracle_follows_sessions_with_regimes(new_vec):
    env = new_vec(3, observation="dict", regime_rate=0.3, off=["churn"])
    agent = make_agent("belief-oracle", env.config, particles=6, moves=3)
    agent.attach(env)
    observation, starts = env.reset(seed=0)[0], np.ones(3, bool)
    for _ in range(8):
        actions = agent.act(observation, starts)
        observation, starts = env.step(actions)[0], np.zeros(3, bool)
    assert np.isfinite(agent.belief(observation)).all()
