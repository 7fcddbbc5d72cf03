"""Actions on a belief: what levels do to slates, what is seen, and agents that act by them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sb3_contrib")

from agents.base import WorldError  # noqa: E402
from agents.checkpoint import load_agent, save_agent  # noqa: E402
from agents.rl.belief_models import open_model  # noqa: E402
from agents.rl.sb3 import StableBaselines  # noqa: E402
from agents.rl.sb3.levels import (  # noqa: E402
    ACTIONS,
    BLOCKS,
    LEVELS,
    RESIDUALS,
    BeliefInterface,
    on_belief,
)
from agents.rl.slateq.learner import SlateQ  # noqa: E402
from agents.saving import agent_record  # noqa: E402
from llmrec_env.sb3 import Sb3VecEnv  # noqa: E402

N = 16
STARTS = np.ones(N, bool)
MODES = {"observation": "dict", "action": "slate"}
SHORT = {"n_steps": 4, "batch_size": 32, "n_epochs": 1}
REPLAYED = {"buffer_size": 256, "learning_starts": 32, "batch_size": 16}


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(N, autoreset_mode="same_step", **MODES)


@pytest.fixture(scope="module")
def slateq(env):
    """One that has learnt a little."""
    agent = SlateQ(3, steps=8, log_epochs=1)
    agent.fit(env, 256)
    return agent


@pytest.fixture(scope="module")
def folder(env, slateq, tmp_path_factory):
    path = tmp_path_factory.mktemp("slateq")
    save_agent(slateq, env.config, path)
    return str(path)


@pytest.fixture
def interface(env, folder):
    def make(action="levels", ablated=()):
        return BeliefInterface(open_model(folder, env, 0, {}).belief, env.config, action, ablated)

    return make


def _moved(interface, level, by):
    actions = np.zeros((N, len(LEVELS)))
    actions[:, [*LEVELS].index(level)] = by
    return interface.slates(actions)


def test_each_level_moves_slates_to_what_it_values(env, interface):
    levels, (observation, _) = interface(), env.reset(seed=5)
    levels.encode(observation, STARTS)
    seen, examined = levels.belief.appraise(), np.arange(1, 6) ** -levels.belief.position

    def expected(column, slates):
        """Of what is chosen, 0 where nothing is."""
        share = np.take_along_axis(seen.odds, slates, 1) * examined
        chosen = share / (1.0 + share.sum(axis=1, keepdims=True))
        return (chosen * np.take_along_axis(column, slates, 1)).sum(axis=1).mean()

    worth = {
        "substance": seen.substance,
        "pleasure": seen.satisfaction - 0.5,
        "satiation": -seen.satiation,
    }
    for level, column in worth.items():
        less, more = (expected(column, _moved(levels, level, by)) for by in (-1, 1))
        assert more > less, level

    def likeness(slates):
        vectors = levels.belief.vectors[np.take_along_axis(observation["candidates"], slates, 1)]
        return np.einsum("nkd,njd->nkj", vectors, vectors).mean()

    assert likeness(_moved(levels, "diversity", 1)) < likeness(_moved(levels, "diversity", -1))


def test_a_query_moves_slates_towards_itself_and_0_is_level_0(env, interface):
    levels, query, (observation, _) = interface(), interface("query"), env.reset(seed=5)
    for one in (levels, query):
        one.encode(observation, STARTS)
    nowhere, dim = query.slates(np.zeros((N, 32))), query.actions.shape[0]
    np.testing.assert_array_equal(nowhere, levels.slates(np.zeros((N, len(LEVELS)))))
    vectors = levels.belief.vectors[observation["candidates"]][:, :, :dim]
    target = vectors[:, 7] / np.abs(vectors[:, 7]).max(axis=1, keepdims=True)
    near = np.einsum("ncd,nd->nc", vectors, target)
    towards = query.slates(target)
    assert np.take_along_axis(near, towards, 1).mean() > np.take_along_axis(near, nowhere, 1).mean()


@pytest.mark.parametrize("column", RESIDUALS)
def test_a_residual_moves_a_slateqs_slates_to_what_is_worth_more(env, interface, slateq, column):
    moved, (observation, _) = interface("residual"), env.reset(seed=5)
    moved.encode(observation, STARTS)
    nowhere = moved.slates(np.zeros((N, len(RESIDUALS))))
    np.testing.assert_array_equal(nowhere, slateq.act(observation, STARTS))
    belief, index = moved.belief, [*RESIDUALS].index(column)
    known = belief.appraise()._asdict() | belief.outlook()._asdict()
    examined = np.arange(1, 6) ** -belief.position

    def expected(by):
        """Of what is chosen, 0 where nothing is."""
        slates = moved.slates(by * np.eye(len(RESIDUALS))[[index] * N])
        share = np.take_along_axis(known["odds"], slates, 1) * examined
        chosen = share / (1.0 + share.sum(axis=1, keepdims=True))
        return (chosen * np.take_along_axis(known[column], slates, 1)).sum(axis=1).mean()

    assert expected(-1.0) < expected(1.0)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_blind_twin_sees_nothing_and_others_see_different_users(env, interface, action):
    observation, _ = env.reset(seed=5)
    blind, one = interface(action, BLOCKS), interface(action)
    assert blind.space == one.space and not blind.encode(observation, STARTS).any()
    features = one.encode(observation, STARTS)
    assert one.space.contains(features[0]) and len(np.unique(features, axis=0)) == N
    half = interface(action, ["belief"]).encode(observation, STARTS)
    np.testing.assert_array_equal(half[:, :10], features[:, :10])
    assert (half != features).any()


def test_actions_outside_the_box_are_refused(env, interface):
    levels = interface()
    levels.encode(env.reset(seed=5)[0], STARTS)
    for bad in (1.5, np.nan):
        with pytest.raises(ValueError, match=r"levels \(substance, .*\[-1, 1\].*Clip"):
            levels.slates(np.full((N, 4), bad))
    with pytest.raises(ValueError, match=r"shape \(16, 3\); 'levels' .* \(16, 4\)"):
        levels.slates(np.zeros((N, 3)))


def test_other_actions_blocks_and_environments_are_refused(env, interface, new_vec):
    with pytest.raises(ValueError, match="Did you mean 'levels'"):
        interface("level")
    with pytest.raises(ValueError, match="observation block 'beliefs'"):
        interface(ablated=["beliefs"])
    vector = new_vec(2, action="weights")
    with pytest.raises(ValueError, match="needs action='slate', observation='dict'"):
        BeliefInterface(interface().belief, vector.config)


def test_the_wrapper_tells_what_was_believed_at_the_end(env, folder):
    wrapper = on_belief(Sb3VecEnv(env), folder)
    wrapper.seed(4)
    features, ended = wrapper.reset(), 0
    for _ in range(35):
        features, _, dones, infos = wrapper.step(np.zeros((N, len(LEVELS))))
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            assert last.shape == features[i].shape and last[0] > features[i, 0]  # progress
            ended += 1
    assert ended >= N


def test_untrained_it_acts_by_the_hand_set_levels_and_then_by_others(env, folder, interface):
    agent = StableBaselines("ppo", 3, belief=folder, learning_rate=0.0, **SHORT)
    agent.learn(env, 64, 0, 0)
    levels, (observation, _) = interface(), env.reset(seed=5)
    levels.encode(observation, STARTS)
    middle = levels.slates(np.zeros((N, len(LEVELS))))
    np.testing.assert_array_equal(agent.act(observation, STARTS), middle)
    other = StableBaselines("ppo", 3, belief=folder, learning_rate=0.5, **SHORT)
    other.learn(env, 64, 0, 0)
    assert (other.act(observation, STARTS) != middle).any()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a2c", {"n_steps": 4}),
        ("recurrent-ppo", SHORT),
        *((name, REPLAYED) for name in ("sac", "td3", "tqc")),
    ],
)
def test_every_algorithm_of_numbers_acts_on_a_belief(env, folder, name, settings):
    agent = StableBaselines(name, 3, action="query", belief=folder, **settings)
    agent.learn(env, 64, 0, 0)
    slates = agent.act(env.reset(seed=5)[0], STARTS)
    assert slates.shape == (N, 5) and all(len(set(slate)) == 5 for slate in slates.tolist())


def test_it_carries_its_belief_and_knows_its_world(env, folder, new_vec, tmp_path):
    agent = StableBaselines("ppo-levels", 3, belief=folder, **SHORT)
    agent.learn(env, 64, 0, 0)
    save_agent(agent, env.config, tmp_path)
    record = agent_record(tmp_path)["config"]["belief"]
    assert record["weights_sha256"] == agent_record(tmp_path.__class__(folder))["weights_sha256"]
    assert (record["agent"], record["world"]) == ("slateq", 0) and folder not in str(record)
    loaded, (observation, _) = load_agent(tmp_path, env), env.reset(seed=5)
    np.testing.assert_array_equal(loaded.act(observation, STARTS), agent.act(observation, STARTS))
    with pytest.raises(WorldError, match="the items of world 0, and this is world 7"):
        load_agent(tmp_path, new_vec(N, world_seed=7, **MODES))


def test_a_training_does_not_go_on_with_another_belief(env, folder, tmp_path):
    agent = StableBaselines("ppo-levels", 3, belief=folder, **SHORT)
    agent.learn(env, 64, 0, 0)
    slateq = SlateQ(4, steps=8, log_epochs=1)
    slateq.fit(env, 128)
    save_agent(slateq, env.config, tmp_path)
    other = StableBaselines("ppo-levels", 3, belief=str(tmp_path), **SHORT)
    other.restore(agent.state())
    with pytest.raises(ValueError, match=r"not the one that this training began with, .*overwrite"):
        other.learn(env, 64, 1, 64)


def test_what_cannot_act_on_a_belief_says_what_can(env, folder):
    with pytest.raises(ValueError, match=r"dqn \(DQN\) cannot act on belief=.* ppo, a2c, sac"):
        StableBaselines("dqn", belief=folder)
    with pytest.raises(
        ValueError, match=r"action='weights' on belief=.*it can in query, levels, r"
    ):
        StableBaselines("ppo", action="weights", belief=folder)
    with pytest.raises(ValueError, match=r"belief is not given; write .*belief=joint"):
        StableBaselines("ppo", action="levels")
    agent = StableBaselines("ppo-levels", action="residual", belief="joint", **SHORT)
    with pytest.raises(ValueError, match=r"moves the values of a slateq; write belief=FOLDER"):
        agent.learn(env, 64, 0, 0)
