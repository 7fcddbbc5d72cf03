"""Offline ranking of hidden clicks: nothing hidden is seen, and knowing helps."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agent
from agents.rankers.baselines import Content
from experiments.runs import offline_ranking
from experiments.runs.spec import RunSpec
from llmrec_env.config import EnvConfig

USERS = np.arange(60)


@pytest.fixture(scope="module")
def spec(tiny):
    return RunSpec("llmrec/Drift-v1", "content", 0, split="all", env=tiny)


def _fitted(name, tiny, new_vec, **settings):
    agent = make_agent(name, EnvConfig(**tiny), **settings)
    agent.fit(new_vec(4, autoreset_mode="same_step", action=agent.action), 0)
    return agent


class Clairvoyant(Content):
    """Ranks by what the hidden slates will satisfy, or refuses to."""

    def __init__(self, world, sign=1.0):
        super().__init__()
        self.world, self.sign = world, sign

    def scores(self, observation):
        scores = np.zeros(observation["candidates"].shape)
        items, satisfied = (x[:, -5:] for x in (self.world.logs.items, self.world.logs.satisfied))
        user, step = np.nonzero(satisfied == 1)
        scores[user, items[user, step]] = self.sign
        return np.where(observation["candidates"] < 0, -1e9, scores)


def test_who_knows_the_hidden_clicks_ranks_them_first(spec, world, new_vec):
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0)):
        agent = Clairvoyant(world, sign)
        agent.fit(new_vec(4, observation="dict"), 0)
        values = offline_ranking.offline_values(agent, spec, USERS)
        assert values["ndcg@10"] == pytest.approx(expected)
        assert values["recall@10"] == pytest.approx(expected)


def test_the_hidden_slates_are_not_in_the_history(spec, world, new_vec):
    seen = []

    class Spy(Content):
        def scores(self, observation):
            seen.append({name: np.array(x) for name, x in observation.items()})
            return super().scores(observation)

    agent = Spy()
    agent.fit(new_vec(4, observation="dict"), 0)
    offline_ranking.offline_values(agent, spec, USERS)
    assert len(seen) == 2  # two pages of five
    before, hidden = world.logs.items[:, :-5], world.logs.items[:, -5:]
    for user in USERS:
        known = {*before[user].tolist()} - {-1}
        coming = {*hidden[user].tolist()} - {-1} - known
        history = seen[0]["history"][user][seen[0]["history_feedback"][user] < 2]
        assert not coming & {*history.tolist()}
        offered = {*seen[0]["candidates"][user].tolist()}
        assert coming <= offered and not known & offered


def test_pages_hold_different_items(spec, tiny, new_vec):
    agent = _fitted("content", tiny, new_vec)
    env = offline_ranking._environment(agent, spec, 60)
    ranked = offline_ranking._ranked(
        agent, env, USERS, offline_ranking._past(env.simulator.world, USERS)
    )
    assert ranked.shape == (60, 10)
    assert all(len({*row}) == 10 for row in ranked.tolist())


def test_content_beats_random_and_policies_of_weights_are_ranked_too(spec, tiny, new_vec):
    values = {
        name: offline_ranking.offline_values(_fitted(name, tiny, new_vec), spec, USERS)["recall@10"]
        for name in ("random", "content")
    }
    assert values["content"] > values["random"]
    ppo = make_agent("ppo", EnvConfig(**tiny), n_steps=8, batch_size=32, n_epochs=1)
    ppo.fit(new_vec(4, autoreset_mode="same_step", action="weights"), 32)
    assert 0.0 <= offline_ranking.offline_values(ppo, spec, USERS)["ndcg@10"] <= 1.0


def test_agents_that_name_places_among_candidates_have_no_offline_value(spec):
    class Pointer:
        observation, action = "vector", "slate"
        fixed_candidates = True

    values = offline_ranking.offline_values(Pointer(), spec, USERS)
    assert all(np.isnan(value) for value in values.values())
