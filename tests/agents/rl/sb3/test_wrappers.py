"""Policy inputs: ablated blocks are not seen, and only what is offered can be chosen."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")
from agents.rl.sb3.adapter import StableBaselines
from agents.rl.sb3.modes import BLOCKS
from agents.rl.sb3.wrappers import (
    AblationWrapper,
    CandidateEncoder,
    masked_input,
    pointer_input,
    vector_input,
)
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.sb3 import Sb3VecEnv

N = 4
SHORT = {"n_steps": 8, "batch_size": 32, "n_epochs": 1}


def _pair(new_vec, action="item", **changes):
    agent = StableBaselines("maskable-ppo", 3, action=action, ent_coef=1.0, **SHORT)
    modes = {"action": action, "observation": "dict", "slate_size": 1 if action == "item" else 5}
    return agent, new_vec(N, autoreset_mode="same_step", **modes, **changes)


def test_only_what_is_offered_of_a_whole_catalogue_is_chosen(new_vec):
    agent, env = _pair(new_vec, candidates=0, off=["churn"])
    chosen, decide = [], env.simulator.mode.decide

    def recorded(actions, n):
        chosen.append(env.simulator.buffers.ids[np.arange(n), actions])
        return decide(actions, n)

    env.simulator.mode.decide = recorded
    agent.fit(env, 256)
    assert len(chosen) == 64 and (np.stack(chosen) >= 0).all()
    observation, _ = env.reset(seed=0)
    best = agent.act(observation, np.ones(N, bool))
    for i in range(N):
        observation["candidates"][i, best[i]] = -1
    second = agent.act(observation, np.ones(N, bool))
    assert (second != best).all()


def test_masks_are_those_of_the_observation_that_was_shown_last(new_vec):
    _, env = _pair(new_vec, "slate", candidates=0, patience_start=1.0)
    vec_env = masked_input(env, ["session"]).wrap(env)
    vec_env.seed(0)
    seen, ended = vec_env.reset(), 0
    for _ in range(30):
        masks = np.stack(vec_env.env_method("action_masks"))
        assert masks.shape == (N, 5 * 600) and not masks.all()
        np.testing.assert_array_equal(masks[:, :600], env.simulator.buffers.ids >= 0)
        np.testing.assert_array_equal(masks[:, 600:1200], masks[:, :600])
        assert seen.shape == (N, *vec_env.observation_space.shape) and not seen[:, -10:].any()
        seen, _, dones, infos = vec_env.step(np.zeros((N, 5), np.int64))
        for i in np.flatnonzero(dones):
            assert infos[i]["terminal_observation"].shape == seen[i].shape
            ended += 1
    assert ended > 2


def test_masked_picks_see_what_a_vector_observation_shows(new_vec):
    modes = {"action": "slate", "observation_dim": 8}
    seen, _ = new_vec(3, observation="vector", **modes).reset(seed=4)
    env = new_vec(3, observation="dict", **modes)
    blocks, _ = env.reset(seed=4)
    np.testing.assert_array_equal(CandidateEncoder(env.config, []).encode(blocks), seen)


def test_ablated_blocks_are_neither_learnt_from_nor_acted_on(new_vec, tiny):
    agent = StableBaselines("ppo", 3, ["satiation", "session"], **SHORT)
    env = new_vec(4, autoreset_mode="same_step", action="weights")
    agent.fit(env, 64)
    length = tiny["dim"]
    hidden = np.zeros(len(VECTOR_BLOCKS) * length + len(SESSION_NUMBERS), bool)
    place = VECTOR_BLOCKS.index("satiation") * length
    hidden[place : place + length] = hidden[-len(SESSION_NUMBERS) :] = True
    observation, _ = env.reset(seed=0)
    starts = np.ones(4, bool)
    changed = np.where(hidden, 9.0, observation).astype(np.float32)
    np.testing.assert_array_equal(agent.act(observation, starts), agent.act(changed, starts))
    seen = np.where(hidden, observation, 0.5).astype(np.float32)
    assert (agent.act(observation, starts) != agent.act(seen, starts)).any()
    vec_env = AblationWrapper(Sb3VecEnv(env), (~hidden).astype(np.float32))
    vec_env.seed(0)
    assert not vec_env.reset()[:, hidden].any()
    for _ in range(40):
        vec_env.step_async(np.zeros((4, 8), np.float32))
        observations, _, dones, infos = vec_env.step_wait()
        assert not observations[:, hidden].any() and observations[:, ~hidden].any()
        for i in np.flatnonzero(dones):
            assert not infos[i]["terminal_observation"][hidden].any()


def test_an_unknown_block_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"observation block 'satiaton'. Did you mean 'satiation'"):
        StableBaselines("ppo", ablated=["satiaton"])
    assert set(VECTOR_BLOCKS) < set(BLOCKS)


@pytest.mark.parametrize("ablated", [(), ("session",)])
def test_hidden_state_reaches_every_policy_input(new_vec, ablated):
    told = {"privileged_observation": True, "action": "slate"}
    vector = new_vec(N, **told)
    blocks = new_vec(N, observation="dict", **told)
    starts = np.ones(N, bool)
    masked = masked_input(blocks, ablated).encode(blocks.reset(seed=2)[0], starts)
    plain = vector_input(vector, ablated).encode(vector.reset(seed=2)[0], starts)
    np.testing.assert_array_equal(masked, plain)
    truth = blocks.simulator.interests()
    np.testing.assert_array_equal(plain[:, -(20 + 5 + 64) :][:, :32], truth)
    pointer = pointer_input(blocks, ablated)
    assert {"true_state", "candidates"} <= set(pointer.extractor.slices)
