"""Stable-Baselines3 meets the batch as it would meet DummyVecEnv."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

sb3 = pytest.importorskip("stable_baselines3")
from gymnasium import spaces  # noqa: E402
from stable_baselines3.common.env_checker import check_env  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize  # noqa: E402

from llmrec_env.sb3 import Sb3VecEnv, make_sb3_env  # noqa: E402


@pytest.fixture
def new_sb3(tiny):
    def make(num_envs, seed=0, **changes):
        return make_sb3_env("llmrec/Drift-v1", num_envs, seed, **(tiny | changes))

    return make


def test_sb3_check_env_passes_without_a_warning(new_env, acting, observing):
    env = new_env(**acting, **observing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if observing["observation"] == "dict":  # tables: advice for the default policies
            warnings.filterwarnings(
                "ignore", ".*(candidate_features|recent_slates) has an unconventional"
            )
        check_env(env.unwrapped, skip_render_check=True)


def _draw(space, n, rng):
    if isinstance(space, spaces.Box):
        return rng.uniform(-1, 1, (n, *space.shape)).astype(np.float32)
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, n)
    return rng.integers(0, space.nvec, (n, len(space.nvec)))


def test_bit_equal_to_dummy_vec_env_over_many_episodes(
    new_env, new_sb3, acting, observing, assert_same
):
    kwargs = {"patience_start": 2.0, **acting, **observing}
    ours, dummy = new_sb3(3, seed=5, **kwargs), DummyVecEnv([lambda: new_env(**kwargs)] * 3)
    dummy.seed(5)
    rng, ended = np.random.default_rng(0), 0
    first, other = ours.reset(), dummy.reset()
    assert_same(first, other if isinstance(other, np.ndarray) else dict(other))
    for _ in range(70):
        actions = _draw(ours.action_space, 3, rng)
        (observed, reward, done, infos), (observed2, reward2, done2, infos2) = (
            env.step(actions) for env in (ours, dummy)
        )
        assert_same(observed, observed2 if isinstance(observed2, np.ndarray) else dict(observed2))
        assert_same(reward, reward2), assert_same(done, done2)
        ended += int(done.sum())
        for info, info2 in zip(infos, infos2, strict=True):
            assert_same(info, info2)
        for info, info2 in zip(ours.reset_infos, dummy.reset_infos, strict=True):
            assert_same(info, info2)
    assert ended >= 6


def test_terminal_observations_are_no_views(new_sb3):
    env = new_sb3(4, patience_start=1.0)
    env.reset()
    while True:
        observation, _, done, infos = env.step(_draw(env.action_space, 4, np.random.default_rng(0)))
        if done.any():
            break
    last = infos[int(np.argmax(done))]["terminal_observation"]
    assert last.base is None and not np.shares_memory(last, observation)
    assert not np.shares_memory(last, env.env.simulator.buffers.vector)
    copied = last.copy()
    env.step(_draw(env.action_space, 4, np.random.default_rng(1)))
    np.testing.assert_array_equal(last, copied)


def test_truncated_sessions_say_so_and_departed_ones_do_not(new_sb3):
    bored = dict.fromkeys(("patience_ignored", "patience_dissatisfied"), 0.1)
    bored |= {"satisfaction_bias": -10.0, "satisfaction_relevance": 0.0, "patience_start": 2.95}
    # the bored leave with the last step: both, and so not "truncated" to SB3
    cases = (({"off": ["churn"]}, True), ({"patience_start": 0.2}, False), (bored, False))
    for kwargs, said in cases:
        env = new_sb3(4, **kwargs)
        env.reset()
        for _ in range(30):
            _, _, done, infos = env.step(_draw(env.action_space, 4, np.random.default_rng(0)))
            if done.any():
                break
        assert all(infos[i]["TimeLimit.truncated"] is said for i in np.flatnonzero(done))


def test_seeds_are_used_once(new_sb3):
    env = new_sb3(2, seed=9)
    first, second = env.reset(), env.reset()
    assert (first != second).any()
    assert env.seed(9) == [9, 10]
    np.testing.assert_array_equal(env.reset(), first)
    assert len(env.seed(None)) == 2
    assert env.env.np_random_seed == (9, 10)


@pytest.mark.parametrize("options", [{"user_id": 7}, [{"user_id": 7}, {}]])
def test_options_reach_the_sessions_named(new_sb3, options):
    env = new_sb3(2, seed=9)
    env.reset()
    drawn = env.env.simulator.users["user_id"].copy()
    env.seed(9)
    env.set_options(options)
    env.reset()
    expected = [7, 7] if isinstance(options, dict) else [7, drawn[1]]
    assert env.env.simulator.users["user_id"].tolist() == expected
    env.seed(9)
    env.reset()
    assert env.env.simulator.users["user_id"].tolist() == drawn.tolist()


def test_an_unknown_option_is_refused(new_sb3):
    env = new_sb3(2)
    env.set_options({"user": 7})
    with pytest.raises(ValueError, match=r"'user'\. Did you mean 'user_id'"):
        env.reset()


def test_images_are_those_of_every_session(new_sb3):
    env = new_sb3(2, render_mode="rgb_array")
    env.reset()
    assert [image.shape for image in env.get_images()] == [(720, 1280, 3)] * 2
    assert new_sb3(2).get_images() == [None, None]


def test_attributes_and_methods(new_sb3):
    env = new_sb3(3)
    assert env.get_attr("render_mode") == [None] * 3
    assert len(env.get_attr("config", indices=[0, 2])) == 2
    with pytest.raises(AttributeError):
        env.get_attr("no_such_attribute")
    with pytest.raises(AttributeError):
        env.env_method("no_such_method")
    env.set_attr("favourite", 3)
    assert env.get_attr("favourite", indices=1) == [3]
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    env.close()


def test_other_autoresets_are_refused(new_vec):
    with pytest.raises(ValueError, match="same_step"):
        Sb3VecEnv(new_vec(2))


@pytest.mark.filterwarnings("ignore:.*You are trying to run PPO on the GPU")
@pytest.mark.parametrize(
    ("algorithm", "changes", "arguments"),
    [
        ("PPO", {"action": "slate"}, {"n_steps": 16, "batch_size": 64}),
        ("PPO", {"action": "weights"}, {"n_steps": 16, "batch_size": 64}),
        ("PPO", {"action": "item", "slate_size": 1}, {"n_steps": 16, "batch_size": 64}),
        ("DQN", {"action": "recipe"}, {"learning_starts": 50, "buffer_size": 1000}),
        ("SAC", {"action": "query"}, {"learning_starts": 50, "buffer_size": 1000}),
    ],
)
def test_algorithms_learn_on_it(new_sb3, algorithm, changes, arguments):
    env = VecNormalize(VecMonitor(new_sb3(4, patience_start=3.0, **changes)), norm_obs=False)
    policy = {"net_arch": [16]}
    learner = getattr(sb3, algorithm)(
        "MlpPolicy", env, seed=1, device="cpu", policy_kwargs=policy, **arguments
    )
    before = [p.detach().clone() for p in learner.policy.parameters()]
    learner.learn(256)
    pairs = zip(before, learner.policy.parameters(), strict=True)
    assert any((old != new).any() for old, new in pairs)
    assert len(learner.ep_info_buffer) > 0
    action, _ = learner.predict(env.reset(), deterministic=True)
    assert env.action_space.contains(action[0])
