"""Beliefs: the oracles where nothing is unknown, and probabilities that come true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents import AGENTS
from agents.rankers.belief_oracle import belief as module
from agents.rankers.belief_oracle.agent import BeliefOracle
from agents.rankers.belief_oracle.knowledge import knowledge_of
from agents.rankers.oracles import Lookahead, Oracle, worth
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.user_record import USER

PLANNING = Lookahead(**AGENTS["oracle-planning"].defaults)


@pytest.mark.parametrize("response", ["logit", "cascade"])
@pytest.mark.parametrize("lookahead", [Lookahead(), PLANNING], ids=["myopic", "planning"])
@pytest.mark.parametrize(("hypotheses", "new_items"), [(1, 0.0), (4, 0.0), (2, 0.4)])
def test_a_belief_in_the_truth_acts_as_the_oracles(
    new_vec, response, lookahead, hypotheses, new_items
):
    env = new_vec(4, observation="dict", response=response, new_items=new_items)
    oracle, known = Oracle("oracle", lookahead), knowledge_of(env.simulator.world, 5)
    oracle.attach(env)
    observation, _ = env.reset(seed=2)
    weights = np.full(hypotheses, 1.0 / hypotheses)
    for _ in range(15):
        expected = oracle.act(observation, np.zeros(4, bool))
        for i in range(4):
            users = compiled_view(np.repeat(env.simulator.users[i : i + 1], hypotheses), USER)
            slate, ids = np.empty(5, np.int64), observation["candidates"][i : i + 1]
            module.best_hedged_slate(known, users, weights, lookahead, ids, slate)
            np.testing.assert_array_equal(slate, expected[i])
        observation = env.step(expected)[0]


@kernel
def _predict(users, params, phrases, items, traits, weights, ids, slate, consumed, satisfied):
    """Adds the probability that each slot is consumed, and that it satisfies."""
    c = ids.shape[1]
    odds, satisfaction, value = np.empty(c), np.empty(c), np.empty(c)
    omega = np.empty(users[0].slots, np.float32)
    nothing = Lookahead(0.0, 0.0, 0.0, 0.0)
    for i in range(users.shape[0]):
        worth(
            users[i],
            params,
            phrases,
            items,
            traits,
            nothing,
            omega,
            ids,
            0,
            odds,
            satisfaction,
            value,
        )
        total = 1.0
        for k in range(slate.shape[0]):
            total += odds[slate[k]] * params.examined[k]
        for k in range(slate.shape[0]):
            chance = weights[i] * odds[slate[k]] * params.examined[k] / total
            consumed[k] += chance
            satisfied[k] += chance * satisfaction[slate[k]]


class _Forecasts:
    """What a belief foretold of the slates of a rollout, and what came of them."""

    def __init__(self, env: Any, agent: BeliefOracle) -> None:
        self.env, self.agent, self.rows = env, agent, []

    def play(self, seed: int, steps: int) -> None:
        env, n = self.env, self.env.num_envs
        observation, _ = env.reset(seed=seed)
        starts, rng = np.ones(n, bool), np.random.default_rng(seed)
        world = env.simulator.world
        for _ in range(steps):
            self.agent.act(observation, starts)
            slates = np.stack([rng.permutation(20)[:5] for _ in range(n)])
            foretold = np.zeros((n, 2, 5))
            for i in range(n):
                belief = self.agent._beliefs[i]
                ids = observation["candidates"][i : i + 1]
                arrays = world.interests.vectors, world.items.vectors, world.traits
                target = belief.weights, ids, slates[i], foretold[i, 0], foretold[i, 1]
                _predict(belief.users, world.params[0], *arrays, *target)
            observation, _, terminated, truncated, _ = env.step(slates)
            assert not (terminated | truncated).any()
            feedback = env.simulator.responses["feedback"]
            came = np.stack([feedback >= 0, feedback == 1], axis=1)
            self.rows.append((foretold, came))
            starts = np.zeros(n, bool)


@pytest.mark.slow
def test_what_it_foretells_comes_true(new_vec):
    # With fewer moves a belief is surer than it may be: its particles stay where they began.
    more = {"choice_null": 1.5, "patience_start": 1e3, "patience_max": 1e3}
    env = new_vec(16, observation="dict", split="all", autoreset_mode="next_step", **more)
    agent = BeliefOracle(particles=64, moves=20)
    agent.attach(env)
    forecasts = _Forecasts(env, agent)
    forecasts.play(seed=1, steps=6)
    foretold, came = (np.concatenate([row[j] for row in forecasts.rows]) for j in range(2))
    for j, name in enumerate(("consumed", "satisfied")):
        p, y = foretold[:, j].ravel(), came[:, j].ravel()
        order = np.argsort(p)
        for part in np.array_split(order, 4):  # from what it takes to be rare to what is frequent
            error = np.sqrt((p[part] * (1 - p[part])).sum())
            assert abs(y[part].sum() - p[part].sum()) < 4.0 * error + 1.0, name
    log_loss = -np.log(np.where(came[:, 0], foretold[:, 0], 1 - foretold[:, 0])).mean()
    rate = came[:, 0].mean()
    assert log_loss < -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)) - 0.005


def test_its_interest_is_nearer_to_the_truth_than_the_populations(new_vec):
    env = new_vec(12, observation="dict", split="all")
    cosines = {}
    for moves in (0, 4):
        agent = BeliefOracle(particles=12, moves=moves)
        agent.attach(env)
        observation, _ = env.reset(seed=1)
        agent.act(observation, np.ones(12, bool))
        belief, truth = agent.belief(observation), env.simulator.interests()
        norms = np.linalg.norm(belief, axis=1) * np.linalg.norm(truth, axis=1)
        cosines[moves] = ((belief * truth).sum(1) / norms).mean()
    assert cosines[4] > cosines[0] + 0.1
