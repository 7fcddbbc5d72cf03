"""The upper bounds: the best slate by brute force, and that knowing more wins more."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from agents import AGENTS, make_agent
from agents.rankers.baselines import Content, Random
from agents.rankers.oracles import (
    Lookahead,
    Oracle,
    OracleWarning,
    best_cascade,
    best_slate,
    worth,
)
from agents.rollout import rollout
from llmrec_env.config import EnvConfig
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import parameters
from llmrec_env.simulation.user_record import USER

EXAMINED = np.arange(1, 21) ** -0.5
PLANNING = Lookahead(**AGENTS["oracle-planning"].defaults)


def _value(slate, odds, value):
    share = odds[list(slate)] * EXAMINED[: len(slate)]
    return (share * value[list(slate)]).sum() / (1 + share.sum())


@pytest.mark.parametrize("seed", range(30))
def test_the_slate_is_the_best_of_all_slates(seed):
    rng = np.random.default_rng(seed)
    odds, value = rng.lognormal(0, 2, 8), rng.normal(0.3, 0.4, 8)
    slate = np.empty(3, np.int64)
    best_slate(odds, value, np.arange(8), EXAMINED, slate)
    best = max(_value(order, odds, value) for order in itertools.permutations(range(8), 3))
    assert len(set(slate)) == 3
    assert _value(slate, odds, value) == pytest.approx(best, abs=1e-6)


def test_items_that_are_not_there_are_never_chosen():
    odds, value = np.array([0.0, 9.0, 1.0, 2.0, 0.0]), np.array([0.0, 1.0, 0.01, 0.02, 0.0])
    slate = np.empty(3, np.int64)
    best_slate(odds, value, np.array([-1, 7, 3, 9, -1]), EXAMINED, slate)
    assert set(slate) == {1, 2, 3}


def _cascade_value(slate, odds, satisfaction, value, continuation):
    """Expected value of a slate, by what may happen in each slot."""
    total, examined = 0.0, 1.0
    skipped, satisfied, dissatisfied = continuation
    for item in slate:
        p, z = odds[item] / (1 + odds[item]), satisfaction[item]
        total += examined * p * value[item]
        examined *= (1 - p) * skipped + p * (z * satisfied + (1 - z) * dissatisfied)
    return total


@pytest.mark.parametrize("continuation", [(0.8, 0.7, 0.5), (1.0, 0.1, 0.9), (0.3, 1.0, 1.0)])
@pytest.mark.parametrize("seed", range(10))
def test_the_slate_of_a_cascade_is_the_best_of_all_slates(seed, continuation, tiny):
    rng = np.random.default_rng(seed)
    odds, value = rng.lognormal(0, 2, 8), rng.normal(0.3, 0.4, 8)
    satisfaction = rng.random(8)
    odds[3] = 0.0  # not available
    names = ("cascade_skipped", "cascade_satisfied", "cascade_dissatisfied")
    chances = dict(zip(names, continuation, strict=True))
    params = parameters(EnvConfig(**tiny, response="cascade", **chances), 1.0)
    available = [item for item in range(8) if item != 3]
    for k in (1, 2, 3, 7):
        slate = np.full(k, -1)
        best_cascade(odds, satisfaction, value, np.arange(8), params[0], slate)
        known = (odds, satisfaction, value, continuation)
        orders = itertools.permutations(available, k)
        best = max(_cascade_value(order, *known) for order in orders)
        assert len(set(slate)) == k and set(slate) <= set(available)
        assert _cascade_value(slate, *known) == pytest.approx(best, abs=1e-6)


def _worth(simulator, i, lookahead):
    world, c = simulator.world, simulator.buffers.ids.shape[1]
    odds, satisfaction, value = np.empty((3, c))
    weights = np.empty(8, np.float32)
    worth(
        compiled_view(simulator.users, USER)[i],
        *(world.params[0], world.interests.vectors, world.items.vectors),
        *(world.traits, lookahead, weights, simulator.buffers.ids, i, odds, satisfaction, value),
    )
    return odds, satisfaction, value


def _by_formula(simulator, i, lookahead):
    user, world, config = simulator.users[i], simulator.world, simulator.config
    y, traits = (
        world.items.vectors[simulator.buffers.ids[i]],
        world.traits[simulator.buffers.ids[i]],
    )
    text = y @ simulator.interests()[i] / world.params["scale"][0]
    relevance = np.maximum(text + config.relevance_taste * (traits["taste"] @ user["taste"]), 0)
    tired = np.maximum(y @ user["satiation"], 0)
    utility = 6 * relevance - 1.2 * (1 - np.exp(-tired)) + 0.25 * traits["quality"]
    utility -= config.lure * traits["substance"] + config.choice_null
    logit = config.satisfaction_bias + config.satisfaction_relevance * relevance
    logit -= config.satiation_satisfaction * (1 - np.exp(-tired))
    logit += 0.25 * traits["quality"]
    logit += config.goodwill_satisfaction * user["goodwill"]
    satisfies = 1 / (1 + np.exp(-logit))
    active = np.where(user["active"] == 1, user["weight"], -np.inf)
    weak = (1 - np.exp(active - active.max())) @ world.interests.vectors[user["phrase"]]
    value = satisfies * relevance + lookahead.substance * traits["substance"]
    value += lookahead.discovery * np.maximum(y @ weak - 0.2, 0)
    value += lookahead.satisfaction * (satisfies - 0.5) - lookahead.satiation * np.minimum(tired, 4)
    return np.exp(utility), satisfies, value


@pytest.mark.parametrize("lookahead", [Lookahead(), PLANNING])
def test_worth_follows_the_choice_and_satisfaction_models(new_simulator, draw_actions, lookahead):
    fixed = {"choice_relevance": 6, "satiation_choice": 1.2}
    fixed |= {"choice_quality": 0.25, "satisfaction_quality": 0.25}
    simulator = new_simulator(6, observation="dict", **fixed)
    for seed in range(4):
        simulator.step(draw_actions(simulator, np.random.default_rng(seed)))
    for i in range(6):
        odds, satisfaction, value = _worth(simulator, i, lookahead)
        expected_odds, expected_satisfaction, expected_value = _by_formula(simulator, i, lookahead)
        np.testing.assert_allclose(odds, expected_odds, rtol=1e-3)
        np.testing.assert_allclose(satisfaction, expected_satisfaction, atol=1e-4)
        np.testing.assert_allclose(value, expected_value, atol=1e-4)


def test_the_myopic_slate_is_the_best_by_brute_force(new_vec):
    env = new_vec(3, observation="dict", candidates=8)
    agent = Oracle("oracle-myopic", Lookahead())
    agent.attach(env)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation, np.ones(3, bool))
    examined = env.simulator.world.params["examined"][0]
    np.testing.assert_allclose(examined, EXAMINED)
    for i in range(3):
        odds, _, value = _worth(env.simulator, i, Lookahead())
        best = max(_value(order, odds, value) for order in itertools.permutations(range(8), 5))
        assert _value(actions[i], odds, value) == pytest.approx(best, rel=1e-6)


def test_oracles_never_show_what_is_not_there(new_vec):
    env = new_vec(6, observation="dict", candidates=0)
    agent = Oracle("oracle-planning", PLANNING)
    agent.attach(env)
    observation, _ = env.reset(seed=0)
    for _ in range(12):
        actions = agent.act(observation, np.zeros(6, bool))
        assert (np.take_along_axis(observation["candidates"], actions, 1) >= 0).all()
        observation = env.step(actions)[0]


@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_the_oracle_beats_content_beats_random(new_vec, response):
    users = np.arange(60)
    env = new_vec(60, observation="dict", split="all", response=response)
    returns = {}
    for agent in (Random(), Content(), Oracle("oracle-myopic", Lookahead())):
        agent.fit(env, 0)
        returns[agent.name] = np.concatenate(
            [rollout(agent, env, users, seed).reward.sum(1) for seed in range(3)]
        )
    for weaker, stronger in (("random", "content"), ("content", "oracle-myopic")):
        gain = returns[stronger] - returns[weaker]
        assert returns[stronger].mean() > 1.2 * returns[weaker].mean()
        assert gain.mean() / (gain.std() / math.sqrt(len(gain))) > 4


@pytest.mark.parametrize("name", ["oracle-myopic", "belief-oracle"])
def test_an_oracle_says_that_it_is_no_bound_of_another_satisfaction(new_vec, name):
    env = new_vec(2, observation="dict", response="llm")
    agent = make_agent(name, env.config)
    with pytest.warns(OracleWarning, match="are no bounds"):
        agent.attach(env)
