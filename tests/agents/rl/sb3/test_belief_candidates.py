"""Candidates as a belief appraises them: where a pointer begins, and what moves it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stable_baselines3 import PPO  # noqa: E402

from agents.base import WorldError  # noqa: E402
from agents.checkpoint import load_agent, save_agent  # noqa: E402
from agents.rl.belief_models import open_model  # noqa: E402
from agents.rl.sb3 import StableBaselines  # noqa: E402
from agents.rl.sb3.belief_candidates import (  # noqa: E402
    BLOCKS,
    BeliefCandidates,
    candidates_on_belief,
    slateq_belief,
)
from agents.rl.sb3.pointer import PointerPolicy  # noqa: E402
from agents.rl.slateq.learner import SlateQ  # noqa: E402
from agents.saving import agent_record  # noqa: E402
from llmrec_env.sb3 import Sb3VecEnv  # noqa: E402

N = 16
STARTS = np.ones(N, bool)
MODES = {"observation": "dict", "action": "slate"}
SHORT = {"n_steps": 4, "batch_size": 32, "n_epochs": 1}


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(N, autoreset_mode="same_step", **MODES)


@pytest.fixture(scope="module", params=[0.1, 0.0], ids=["with a penalty for likeness", "without"])
def expert(request, env):
    """A slateq that has learnt a little."""
    agent = SlateQ(3, steps=8, log_epochs=1, warm_up=0, ramp=1, mmr=request.param)
    agent.fit(env, 256)
    return agent


@pytest.fixture(scope="module")
def folder(expert, env, tmp_path_factory):
    path = tmp_path_factory.mktemp("slateq")
    save_agent(expert, env.config, path)
    return str(path)


@pytest.fixture
def candidates(env, folder):
    def make(ablated=()):
        belief = slateq_belief(open_model(folder, env, 0, {}))
        return BeliefCandidates(belief, env.config, ablated)

    return make


def _table(interface, features):
    columns = len(interface.columns)
    table = features[:, -columns * interface.config.candidates :]
    return table.reshape(len(features), -1, columns)


def test_untrained_it_shows_the_slates_of_the_agent_whose_belief_it_is(env, expert, folder):
    agent = StableBaselines("ppo-pointer", 3, belief=folder, learning_rate=0.0, **SHORT)
    agent.learn(env, 64, 0, 0)
    (observation, _), starts, ended = env.reset(seed=5), STARTS, 0
    for _ in range(40):
        slates = expert.act(observation, starts)
        np.testing.assert_array_equal(agent.act(observation, starts), slates)
        observation, _, terminated, truncated, _ = env.step(slates)
        starts = terminated | truncated
        ended += starts.sum()
    assert ended >= N


def test_a_slate_of_one_slot_is_an_item_on_a_belief(new_vec, tmp_path):
    env = new_vec(N, autoreset_mode="same_step", slate_size=1, **MODES)
    expert = SlateQ(3, steps=8, log_epochs=1, warm_up=0, ramp=1)
    expert.fit(env, 256)
    save_agent(expert, env.config, tmp_path)
    agents = [
        StableBaselines("ppo-pointer", 3, belief=str(tmp_path), learning_rate=rate, **SHORT)
        for rate in (0.0, 0.1)
    ]
    for agent in agents:
        agent.learn(env, 128, 0, 0)
    observation, _ = env.reset(seed=5)
    shown = expert.act(observation, STARTS)
    assert shown.shape == (N, 1)
    still, moved = (agent.act(observation, STARTS) for agent in agents)
    np.testing.assert_array_equal(still, shown)
    assert (moved != shown).any()


def test_it_learns_to_show_others_and_keeps_them_when_saved(env, folder, new_vec, tmp_path):
    agent = StableBaselines("ppo-pointer", 3, belief=folder, learning_rate=0.1, **SHORT)
    still = StableBaselines("ppo-pointer", 3, belief=folder, learning_rate=0.0, **SHORT)
    for one in (agent, still):
        one.learn(env, 128, 0, 0)
    save_agent(agent, env.config, tmp_path)
    loaded, (observation, _) = load_agent(tmp_path, env), env.reset(seed=5)
    slates = agent.act(observation, STARTS)
    np.testing.assert_array_equal(loaded.act(observation, STARTS), slates)
    assert (slates != still.act(observation, STARTS)).any()
    assert folder not in str(agent_record(tmp_path))
    with pytest.raises(WorldError, match="the items of world 0, and this is world 7"):
        load_agent(tmp_path, new_vec(N, world_seed=7, **MODES))


@pytest.mark.parametrize("column", ["satisfaction", "substance", "taste_deviation", "information"])
def test_a_weight_of_a_column_moves_slates_to_what_has_more_of_it(env, candidates, column):
    interface, (observation, _) = candidates(), env.reset(seed=5)
    table = _table(interface, interface.encode(observation, STARTS))
    gain, by_column = (table[..., interface.columns.index(x)] for x in ("gain", column))
    odds, belief = interface.belief.appraise().odds, interface.belief
    worth = getattr(belief.appraise(), column, None)
    worth = getattr(belief.outlook(), column) if worth is None else worth

    def expected(weight):
        """Of what is chosen, 0 where nothing is."""
        slates = np.argsort(-(gain + weight * by_column), axis=1)[:, :5]
        share = np.take_along_axis(odds, slates, 1) * np.arange(1, 6) ** -belief.position
        chosen = share / (1.0 + share.sum(axis=1, keepdims=True))
        return (chosen * np.take_along_axis(worth, slates, 1)).sum(axis=1).mean()

    assert expected(-1.0) < expected(0.0) < expected(1.0)


def test_blocks_can_be_hidden_and_the_start_is_then_another(env, candidates):
    observation, _ = env.reset(seed=5)
    whole, blind = candidates(), candidates(BLOCKS[:2])
    seen, hidden = (x.encode(observation, STARTS) for x in (whole, blind))
    user = whole.space.shape[0] - len(whole.columns) * env.config.candidates
    assert whole.space.contains(seen[0]) and whole.space == blind.space
    assert seen[:, :user].any() and not hidden[:, :user].any()
    np.testing.assert_array_equal(seen[:, user:], hidden[:, user:])
    public = candidates(["outlook"])
    table = _table(public, public.encode(observation, STARTS))
    assert not table[..., : whole.columns.index("interest")].any() and table.any()
    start = public.policy_kwargs()["start"]
    assert start[0] == 0.0 and any(start) and whole.policy_kwargs()["start"][0] == 1.0


def test_a_script_of_ones_own_trains_a_pointer_on_it(env, folder):
    wrapped = candidates_on_belief(Sb3VecEnv(env), folder)
    keywords = wrapped.interface.policy_kwargs()
    model = PPO(PointerPolicy, wrapped, policy_kwargs=keywords, device="cpu", **SHORT)
    model.learn(128)
    slates, _ = model.predict(wrapped.reset(), deterministic=True)
    assert all(len(set(slate)) == 5 for slate in slates.tolist())


def test_what_a_pointer_cannot_act_on_is_refused(env, folder, candidates, new_vec):
    agent = StableBaselines("ppo-pointer", 3, belief="joint", **SHORT)
    with pytest.raises(ValueError, match=r"a joint's, .* that of a slateq: belief=runs/slateq"):
        agent.learn(env, 64, 0, 0)
    with pytest.raises(ValueError, match="observation block 'outlooks'"):
        candidates(["outlooks"])
    with pytest.raises(ValueError, match="observation block 'interest'"):
        StableBaselines("ppo-pointer", belief=folder, ablated=("interest",))
    with pytest.raises(ValueError, match=r"cannot act in action='levels' on belief=.* in slate"):
        StableBaselines("ppo-pointer", action="levels", belief=folder)
    whole = new_vec(2, candidates=0, **MODES)
    with pytest.raises(ValueError, match=r"candidates=0 offers the whole catalogue; set"):
        BeliefCandidates(candidates().belief, whole.config)
