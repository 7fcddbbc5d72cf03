"""Privileged observations: the hidden truth, whole, of the right session, and only if asked for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import llmrec_env
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.envs.privileged import flat_hidden

N = 4
DICT = {"observation": "dict", "action": "slate", "privileged_observation": True}


def _played(env, steps=8, seed=1):
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        observation, *_ = env.step(np.stack([rng.permutation(20)[:5] for _ in range(N)]))
    return observation


def test_the_blocks_are_the_state_that_the_next_step_begins_from(new_vec):
    env = new_vec(N, **DICT)
    observation = _played(env)
    users, world = env.simulator.users, env.simulator.world
    assert env.observation_space.contains(observation)
    np.testing.assert_array_equal(observation["true_interest"], env.simulator.interests())
    for block, field in (("true_satiation", "satiation"), ("true_taste", "taste")):
        np.testing.assert_array_equal(observation[block], users[field])
    np.testing.assert_array_equal(observation["true_goodwill"][:, 0], users["goodwill"])
    assert observation["true_satiation"].any() and observation["true_goodwill"].any()
    interest = observation["true_weights"] @ world.interests.vectors
    np.testing.assert_allclose(interest, observation["true_interest"], atol=1e-5)
    relevance = world.relevance(observation["true_interest"], users["taste"])
    expected = np.take_along_axis(relevance, observation["candidates"], 1)
    np.testing.assert_allclose(observation["true_relevance"], expected, atol=1e-5)


def test_a_session_that_ends_in_the_step_tells_its_own_last_state(new_vec):
    quick = DICT | {"patience_start": 1.0}
    same = new_vec(N, autoreset_mode="same_step", **quick)
    apart = new_vec(N, autoreset_mode="next_step", **quick)
    same.reset(seed=2), apart.reset(seed=2)
    for _ in range(20):
        actions = np.tile(np.arange(5), (N, 1))
        infos = same.step(actions)[4]
        last, _, terminated, *_ = apart.step(actions)
        if terminated.any():
            break
    i = int(np.flatnonzero(terminated)[0])
    for name in ("true_interest", "true_goodwill", "true_relevance"):
        np.testing.assert_array_equal(infos["final_obs"][i][name], last[name][i])


@pytest.mark.parametrize("action", ["slate", "weights"])
def test_a_vector_is_the_public_one_and_the_truth_behind_it(new_vec, new_env, action):
    hidden = {"privileged_observation": True, "action": action}
    told, public = new_vec(N, **hidden), new_vec(N, action=action)
    blocks = new_vec(N, **(DICT | {"action": action}))
    vector, plain = told.reset(seed=3)[0], public.reset(seed=3)[0]
    truth = flat_hidden(blocks.reset(seed=3)[0], blocks.config)
    np.testing.assert_array_equal(vector, np.append(plain, truth, axis=1))
    assert truth.shape[1] == 2 * 32 + 4 + 1 + (20 if action == "slate" else 0)
    single = new_env(**hidden).reset(seed=3)[0]
    np.testing.assert_array_equal(single, vector[0])


def test_it_is_never_a_default(new_vec):
    assert not EnvConfig().privileged_observation
    assert not any("privileged_observation" in changes for changes in llmrec_env.TASKS.values())
    observation, _ = new_vec(1, observation="dict").reset(seed=0)
    assert not [name for name in observation if name.startswith("true_")]


def test_the_environment_keeps_the_rules_of_gymnasium(new_env, observing):
    env = new_env(privileged_observation=True, **observing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity")  # hidden state has no bounds
        check_env(env.unwrapped, skip_render_check=True)


def test_what_is_no_switch_is_refused():
    with pytest.raises(ConfigError, match="privileged_observation='yes' is neither True nor False"):
        EnvConfig(privileged_observation="yes")  # type: ignore[arg-type]


def test_sb3_is_told_too(tiny):
    pytest.importorskip("stable_baselines3")
    from llmrec_env.sb3 import make_sb3_env

    kwargs = tiny | {"privileged_observation": True, "patience_start": 1.0}
    env = make_sb3_env("llmrec/Drift-v1", num_envs=N, seed=0, **kwargs)
    assert env.reset().shape == (N, *env.observation_space.shape)
    for _ in range(20):
        _, _, dones, infos = env.step(np.tile(np.arange(5), (N, 1)))
        if dones.any():
            break
    last = infos[int(np.flatnonzero(dones)[0])]["terminal_observation"]
    assert last.shape == env.observation_space.shape and last[-20:].any()
