import gymnasium
import numpy as np
import pytest

from agents.attribution import AttributingAgent
from agents.joint.memory import LAST, write_text_scores
from agents.joint.posterior import add_taste
from agents.registry import make_agent, spec_of

SMALL = {"encoder": "hashing", "num_items": 300, "num_users": 300, "candidates": 30, "dim": 16}
AGENTS = ("content", "content-recency", "drift-aware", "ease", "ease-text", "joint")


ADDED = {"new_items": 0.3, "creator_growth": 0.5, "horizon": 15, "candidates": 20}


@pytest.fixture(scope="module", params=[{}, ADDED], ids=["plain", "added terms"])
def env(request):
    sizes = SMALL | request.param
    made = gymnasium.make_vec("llmrec/Drift-v1", num_envs=64, observation="dict", **sizes)
    return made.unwrapped


@pytest.fixture(scope="module", params=AGENTS)
def agent(request, env):
    name = request.param
    new = make_agent(name, env.config, **spec_of(name).defaults)
    new.fit(env, 0)
    return new


def observations(env, agent, steps=12):
    """One observation of a session each, after steps with the agent's slates."""
    observation, _ = env.reset(seed=3)
    for _ in range(steps):
        actions = agent.act(observation, np.zeros(env.num_envs, np.bool_))
        observation, *_ = env.step(actions)
    for i in range(0, env.num_envs, 8):
        yield {name: np.asarray(block)[i : i + 1] for name, block in observation.items()}


def relevance(joint, observation, ids):
    """The relevance by the compiled functions, before it bends."""
    joint._followed = None
    memory, posterior = joint.follow(observation)
    scores, tired = np.empty(len(ids)), np.empty(len(ids))
    write_text_scores(
        memory,
        0,
        joint.texts,
        joint.parameters[0]["weights"],
        ids,
        np.empty(joint.texts.rows.shape[1], np.float32),
        np.empty((LAST + 1, len(ids) + 16), np.float32),
        scores,
        tired,
    )
    add_taste(posterior, 0, joint.learnt.taste, ids, scores)
    return scores


def test_the_parts_add_up_to_the_scores(env, agent):
    assert isinstance(agent, AttributingAgent)
    slots = np.array([0, 7, 19])
    for observation in observations(env, agent):
        ids = observation["candidates"][0, slots]
        expected = (
            relevance(agent, observation, ids)
            if agent.name == "joint"
            else agent.scores(observation)[0, slots]
        )
        parts = agent.attribute(observation, slots)
        np.testing.assert_allclose(parts.total(), expected, rtol=1e-4, atol=2e-5)


def test_texts_have_a_part_and_empty_entries_have_none(env, agent):
    for observation in observations(env, agent):
        parts = agent.attribute(observation, np.arange(5))
        empty = observation["history_feedback"][0] < 0
        assert not parts.entries[:, empty].any()
        assert np.abs(parts.entries[:, ~empty]).max() > 0.001
