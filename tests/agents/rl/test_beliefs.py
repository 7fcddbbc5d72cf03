"""Belief models: they believe what their agents believe, and come from where they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.base import WorldError  # noqa: E402
from agents.checkpoint import save_agent  # noqa: E402
from agents.joint.recommender import Joint  # noqa: E402
from agents.registry import make_agent  # noqa: E402
from agents.rl.belief_models import MODELS, check_source, open_model  # noqa: E402
from agents.rl.slateq.learner import SlateQ  # noqa: E402
from agents.slates import SLATES  # noqa: E402

N = 4
STARTS = np.ones(N, bool)
MODES = {"observation": "dict", "action": "slate"}


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(N, autoreset_mode="same_step", **MODES)


@pytest.fixture(scope="module")
def slateq(env):
    agent = SlateQ(3, steps=8, log_epochs=1)
    agent.fit(env, 64)
    return agent


@pytest.fixture(scope="module")
def joint(env):
    agent = Joint(3, sweeps=2)
    agent.fit(env, 0)
    return agent


@pytest.fixture(scope="module", params=MODELS)
def agent(request, slateq, joint):
    return {"slateq": slateq, "joint": joint}[request.param]


def _belief(agent):
    return MODELS[agent.name](agent)


def test_its_slates_without_a_future_are_those_of_its_agent(agent, env, monkeypatch):
    diversity = agent.settings.mmr if agent.name == "slateq" else 0.0
    changes = {"gamma": 0.0} if agent.name == "slateq" else {"substance": 0.0, "slates": "greedy"}
    monkeypatch.setattr(agent, "settings", dataclasses.replace(agent.settings, **changes))
    belief, (observation, _), starts = _belief(agent), env.reset(seed=5), STARTS
    examined = np.arange(1, 6) ** -belief.position
    for _ in range(40):  # sessions end
        belief.observe(observation, starts)
        seen, ids = belief.appraise(), observation["candidates"]
        slates = SLATES["greedy"](seen.odds, seen.reward, examined, ids, belief.vectors, diversity)
        np.testing.assert_array_equal(slates, agent.act(observation, starts))
        assert belief.certainty().shape == (N, belief.num_certainties)
        observation, _, terminated, truncated, _ = env.step(slates)
        starts = terminated | truncated
    np.testing.assert_allclose(belief.interest(), agent.belief(observation), atol=0.2)


def test_hints_raise_what_they_are_given_for_and_are_forgotten(agent, env):
    belief, (observation, _) = _belief(agent), env.reset(seed=5)
    belief.observe(observation, STARTS)
    before, hints = belief.appraise(), np.zeros(observation["candidates"].shape)
    hints[:, 3] = 0.5
    after, again = belief.appraise(hints), belief.appraise()
    for name in ("odds", "reward", "satisfaction"):
        one, other = getattr(before, name), getattr(after, name)
        assert (other[:, 3] > one[:, 3]).all()
        np.testing.assert_allclose(np.delete(other, 3, 1), np.delete(one, 3, 1), rtol=1e-5)
    for one, same in zip(before, again, strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_fresh_belief_follows_other_sessions(agent, env):
    belief, (observation, _) = _belief(agent), env.reset(seed=5)
    belief.observe(observation, STARTS)
    before = belief.appraise()
    belief.fresh().observe(env.reset(seed=9)[0], STARTS)
    for one, same in zip(before, belief.appraise(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_it_is_carried_in_one_piece(slateq, env, tmp_path):
    save_agent(slateq, env.config, tmp_path)
    opened = open_model(str(tmp_path), env, 0, {})
    carried = open_model(opened.record, env, 0, opened.carried() | {"other": np.zeros(3)})
    assert carried.record == opened.record and opened.record["agent"] == "slateq"
    observation, _ = env.reset(seed=5)
    for model in (opened, carried):
        model.belief.observe(observation, STARTS)
    for one, same in zip(opened.belief.appraise(), carried.belief.appraise(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_belief_of_another_world_is_refused(slateq, env, new_vec, tmp_path):
    save_agent(slateq, env.config, tmp_path)
    other = new_vec(N, world_seed=7, **MODES)
    with pytest.raises(WorldError, match=r"world 0, and this is world 7.* --world 7 .*belief="):
        open_model(str(tmp_path), other, 0, {})
    opened = open_model(str(tmp_path), env, 0, {})
    with pytest.raises(WorldError, match="the slateq that it acts on was trained in world 0"):
        open_model(opened.record, other, 0, opened.carried())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_items": 500}, "num_items is 600 there, 500 here"),
        ({"catalog": "ecommerce"}, "'video' read by 'hashing' there, 'ecommerce' read by"),
        ({"encoder": "word-vectors"}, "read by 'word-vectors' here"),
    ],
)
def test_a_belief_of_other_items_is_refused(changes, said, slateq, env, new_vec, tmp_path):
    save_agent(slateq, env.config, tmp_path)
    with pytest.raises(WorldError, match=said):
        open_model(str(tmp_path), new_vec(N, **changes, **MODES), 0, {})


def test_a_belief_serves_under_other_dynamics(slateq, env, new_vec, tmp_path):
    save_agent(slateq, env.config, tmp_path)
    for changes in ({"response": "cascade"}, {"switch_rate": 0.3}):
        opened = open_model(str(tmp_path), new_vec(N, **changes, **MODES), 0, {})
        assert opened.record["agent"] == "slateq"


def test_what_holds_no_belief_is_refused(env, tmp_path):
    content = make_agent("content", env.config)
    content.fit(env, 0)
    save_agent(content, env.config, tmp_path)
    with pytest.raises(ValueError, match=r"is the agent 'content', .* joint, slateq"):
        check_source(str(tmp_path))
    with pytest.raises(ValueError, match=r"belief='nowhere' is no folder .*train slateq"):
        check_source("nowhere")
    for nonsense in (3, {"agent": "slateq"}, ["joint"]):
        with pytest.raises(ValueError, match="names no belief model; write the folder"):
            check_source(nonsense)
