"""The environment as Gymnasium's users meet it."""

from __future__ import annotations

import copy
import json
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeAwareObservation

from llmrec_env.envs.single import RecEnv


def _episode(env, seed, steps=40):
    """Takes actions drawn from the seed and returns all that came back."""
    rng, env = np.random.default_rng(seed), env.unwrapped
    transitions = [env.reset(seed=seed)]
    for _ in range(steps):
        transitions.append(env.step(_action(env, rng)))
        if transitions[-1][2] or transitions[-1][3]:
            transitions.append(env.reset())
    return transitions


def _action(env, rng):
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Box):
        return rng.uniform(-1, 1, space.shape).astype(np.float32)
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(rng.integers(space.n))
    return rng.integers(0, space.nvec)


@pytest.mark.parametrize("candidates", [20, 0])
def test_gymnasium_check_env_passes_without_a_warning(new_env, acting, observing, candidates):
    env = new_env(candidates=candidates, **acting, **observing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_results_are_plain_python(new_env):
    env = new_env()
    _, info = env.reset(seed=0)
    for _ in range(5):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert [type(x) for x in (reward, terminated, truncated)] == [float, bool, bool]
    kinds = {name: type(value) for name, value in info.items()}
    assert kinds.pop("slate") is np.ndarray
    assert set(kinds.values()) == {int, float}
    reserved = {"episode", "final_obs", "final_info", "terminal_observation"}
    assert not reserved & set(kinds) and not any(name.startswith("_") for name in kinds)


def test_a_seed_decides_everything(new_env, acting, observing, assert_same):
    one, other = (new_env(**acting, **observing) for _ in range(2))
    for left, right in zip(_episode(one, 3), _episode(other, 3), strict=True):
        assert_same(left, right)
    assert one.unwrapped.np_random_seed == 3


def test_different_seeds_differ_and_resets_without_seed_go_on(new_env):
    env = new_env()
    infos = [env.reset(seed=0)[1], *(env.reset()[1] for _ in range(20))]
    assert len({info["user_id"] for info in infos}) > 5
    one, other = (env.reset(seed=seed)[0] for seed in (1, 2))
    assert (one != other).any()


def test_options_choose_the_user_and_keep_the_noise(new_env, assert_same):
    env = new_env(split="train")
    observation, info = env.reset(seed=1, options={"user_id": 59})
    assert info["user_id"] == 59  # also of another split
    again = env.reset(seed=1, options={"user_id": np.int64(59)})
    assert_same((observation, info), again)
    assert env.reset(seed=1, options={})[1]["user_id"] == env.reset(seed=1)[1]["user_id"]


@pytest.mark.parametrize("user", [60, -1, 1.0, "3", True, [3]])
def test_users_that_do_not_exist_are_refused(new_env, user):
    with pytest.raises(ValueError, match="user_id"):
        new_env().unwrapped.reset(options={"user_id": user})


def test_an_unknown_option_is_refused_with_the_nearest_name(new_env):
    with pytest.raises(ValueError, match=r"'user'\. Did you mean 'user_id'\? Allowed: user_id"):
        new_env().unwrapped.reset(options={"user": 3})


@pytest.mark.parametrize("options", [3, ["user_id"], "user_id"])
def test_options_that_are_no_dict_are_refused(new_env, new_vec, options):
    for env in (new_env().unwrapped, new_vec(2)):
        with pytest.raises(TypeError, match=r"options=.* write options=\{'user_id': 3\}"):
            env.reset(options=options)


def test_stepping_without_a_running_session_is_refused(new_env):
    env, ended = new_env().unwrapped, (False,)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(env.action_space.sample())
    env.reset(seed=0)
    while not any(ended):
        _, _, *ended, _ = env.step(env.action_space.sample())
    with pytest.raises(RuntimeError, match="reset"):
        env.step(env.action_space.sample())


@pytest.mark.parametrize("action", [None, "first", np.zeros(5), np.zeros(4, int), [0, 1, 2, 3, 20]])
def test_bad_actions_are_refused_and_the_session_goes_on(new_env, action):
    env = new_env().unwrapped
    env.reset(seed=0)
    with pytest.raises((TypeError, ValueError), match="action"):
        env.step(action)
    env.step(np.arange(5))


def test_endings_are_truncation_at_the_horizon_and_termination_at_no_patience(new_env):
    for kwargs, expected in (
        ({"off": ["churn"]}, (False, True)),
        ({"patience_start": 1.0}, (True, False)),
    ):
        env = new_env(**kwargs)
        for seed in range(5):
            _, info = env.reset(seed=seed)
            steps, ended = 0, (False, False)
            while not any(ended):
                _, _, *ended, info = env.step(env.action_space.sample())
                steps += 1
            if steps < 30:
                assert tuple(ended) == expected == (True, False)
                assert info["patience"] <= 0
            else:
                assert ended[1] and ended[0] == (info["patience"] <= 0)


def test_a_user_who_leaves_with_the_last_step_is_both(new_env):
    bored = dict.fromkeys(("patience_ignored", "patience_dissatisfied"), 0.1)
    bored |= {"satisfaction_bias": -10.0, "satisfaction_relevance": 0.0, "patience_start": 2.95}
    env = new_env(**bored)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(True, True)]


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_made_within_an_episode_goes_on_identically(new_env, assert_same, observing, copier):
    env = new_env(**observing).unwrapped
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(5):
        env.step(_action(env, rng))
    twin = copier(env)
    for _ in range(40):
        action = _action(env, rng)
        left, right = env.step(action), twin.step(action)
        assert_same(left, right)
        if left[2] or left[3]:
            assert_same(env.reset(), twin.reset())


def test_a_pickle_shares_the_world_instead_of_carrying_it(new_env):
    env = new_env().unwrapped
    env.reset(seed=0)
    data = pickle.dumps(env)
    assert len(data) < 100_000
    assert pickle.loads(data).simulator.world is env.simulator.world


def test_the_spec_survives_json(new_env, assert_same):
    env = new_env(off=["goodwill"], action="weights", split="test")
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    json.loads(env.spec.to_json())
    assert again.unwrapped.config == env.unwrapped.config
    assert_same(env.reset(seed=2), again.reset(seed=2))


@pytest.mark.parametrize(
    ("limits", "last"),
    [
        ({"horizon": 12}, 12),
        ({"horizon": 120}, 120),
        ({"horizon": 12, "max_episode_steps": 5}, 5),
        ({"horizon": 12, "max_episode_steps": -1}, 12),
    ],
)
def test_the_spec_tells_the_last_step_to_wrappers(new_env, limits, last):
    env = TimeAwareObservation(new_env(off=["churn"], **limits))
    assert env.spec.max_episode_steps == env.max_timesteps == last
    env.reset(seed=0)
    steps, ended, observation = 0, False, np.zeros(0)
    while not ended:
        observation, _, terminated, ended, _ = env.step(env.action_space.sample())
        steps += 1
        assert not terminated
    assert steps == observation[-1] == last
    assert gymnasium.make(env.unwrapped.spec).spec.max_episode_steps == limits["horizon"]


def test_unknown_render_modes_are_refused(tiny):
    with pytest.raises(ValueError, match=r"render_mode='human'.*'ansi'"):
        RecEnv(render_mode="human", **tiny)


def test_public_data_tells_texts_and_logs(new_env):
    data = new_env().unwrapped.public_data()
    assert len(data.catalog) == 600 and data.catalog.vectors is not None
    assert len(data.logs.items) == len(data.users) == 48
