"""A batch is, bit for bit, as many single environments."""

from __future__ import annotations

import copy
import pickle
import threading

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from llmrec_env.config import ConfigError

STEPS = 45  # beyond the horizon of 30, and beyond early departures


def _sync(new_env, n, mode=AutoresetMode.NEXT_STEP, **kwargs):
    return SyncVectorEnv([lambda: new_env(**kwargs) for _ in range(n)], autoreset_mode=mode)


def _actions(env, rng):
    space = env.action_space
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return rng.integers(0, space.nvec)
    if space.dtype == np.float32:
        return rng.uniform(-1, 1, space.shape).astype(np.float32)
    return rng.integers(space.low, space.high + 1)


def _states(env):
    return [generator.bit_generator.state for generator in env.np_random]


def _compare(native, other, assert_same, steps=STEPS, seed=11):
    """Plays the same random actions in both; returns how many sessions ended."""
    rng, ended = np.random.default_rng(seed), 0
    assert_same(native.reset(seed=seed), other.reset(seed=seed))
    for _ in range(steps):
        actions = _actions(native, rng)
        left, right = native.step(actions), other.step(actions)
        assert_same(left, right)
        ended += int((left[2] | left[3]).sum())
    return ended


def test_native_is_sync_bit_for_bit_across_autoresets(
    new_env, new_vec, acting, observing, assert_same
):
    kwargs = {"patience_start": 2.0, **acting, **observing}
    native, sync = new_vec(4, **kwargs), _sync(new_env, 4, **kwargs)
    assert native.action_space == sync.action_space
    assert native.observation_space == sync.observation_space
    assert _compare(native, sync, assert_same) > 4
    assert native.observation_space.contains(native.reset(seed=1)[0])


@pytest.mark.parametrize(
    ("n", "changes"),
    [
        (1, {}),
        (1, {"observation": "vector"}),
        (3, {"candidates": 0}),
        (3, {"recall": "two-stage"}),
        (3, {"history": "document"}),
    ],
)
def test_native_is_sync_with_other_settings_too(new_env, new_vec, assert_same, n, changes):
    kwargs = {"patience_start": 2.0, "observation": "dict", **changes}
    assert _compare(new_vec(n, **kwargs), _sync(new_env, n, **kwargs), assert_same, 32) >= n


def test_same_step_is_syncs_same_step_with_final_obs_and_info(
    new_env, new_vec, observing, assert_same
):
    kwargs = {"patience_start": 2.0, **observing}
    native = new_vec(4, autoreset_mode="same_step", **kwargs)
    sync = _sync(new_env, 4, AutoresetMode.SAME_STEP, **kwargs)
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert _compare(native, sync, assert_same) > 4


def test_three_of_eight_sessions_are_three_alone(new_vec, assert_same):
    three, eight = new_vec(3, patience_start=4.0), new_vec(8, patience_start=4.0)
    rng = np.random.default_rng(0)
    three.reset(seed=2), eight.reset(seed=2)
    for _ in range(STEPS):
        actions = rng.integers(0, 20, (8, 5))
        few, many = three.step(actions[:3]), eight.step(actions)
        for left, right in zip(few[:4], many[:4], strict=True):
            np.testing.assert_array_equal(left, right[:3])
        for name in few[4]:
            np.testing.assert_array_equal(few[4][name], many[4][name][:3])


@pytest.mark.parametrize("seed", [7, [3, 9, 4], None])
def test_seeds_are_those_of_single_environments(new_vec, new_env, seed):
    batch, env = new_vec(3), new_env().unwrapped
    assert batch.np_random_seed == (None,) * 3
    observation, _ = batch.reset(seed=seed)
    if seed is not None:
        expected = tuple(seed) if isinstance(seed, list) else (7, 8, 9)
        assert batch.np_random_seed == expected
    for i, one in enumerate(batch.np_random_seed):
        np.testing.assert_array_equal(observation[i], env.reset(seed=one)[0])


def test_a_list_of_seeds_may_leave_some_out(new_vec):
    batch = new_vec(2)
    batch.reset(seed=1)
    state = batch.np_random[1].bit_generator.state
    batch.reset(seed=[5, None])
    assert batch.np_random_seed == (5, 2)
    assert batch.np_random[1].bit_generator.state != state  # went on, from where it was
    with pytest.raises(ValueError, match="3 entries"):
        batch.reset(seed=[1, 2, 3])


def test_disabled_resets_only_whom_the_mask_says_and_spares_the_callers_dict(
    new_env, new_vec, assert_same
):
    kwargs = {"patience_start": 2.0}
    native = new_vec(4, autoreset_mode="disabled", **kwargs)
    sync = _sync(new_env, 4, AutoresetMode.DISABLED, **kwargs)
    assert_same(native.reset(seed=1), sync.reset(seed=1))
    rng, resets = np.random.default_rng(0), 0
    for _ in range(40):
        actions = rng.integers(0, 20, (4, 5))
        left, right = native.step(actions), sync.step(actions)
        assert_same(left, right)
        mask = left[2] | left[3]
        if mask.any():
            options = {"reset_mask": mask}
            again = native.reset(options=options)
            assert options == {"reset_mask": mask}
            assert_same(again, sync.reset(options=dict(options)))
            np.testing.assert_array_equal(again[0][~mask], left[0][~mask])
            resets += 1
    assert resets > 2


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False], TypeError),
        (np.array([1, 0]), TypeError),
        (np.array([True]), ValueError),
        (np.array([[True, False]]), ValueError),
        (np.array([False, False]), ValueError),
    ],
)
def test_bad_masks_are_refused(new_vec, mask, error):
    batch = new_vec(2, autoreset_mode="disabled")
    batch.reset(seed=0)
    with pytest.raises(error, match="reset_mask"):
        batch.reset(options={"reset_mask": mask})


def test_disabled_refuses_to_step_ended_sessions(new_vec):
    batch = new_vec(3, autoreset_mode="disabled", patience_start=0.01)
    with pytest.raises(RuntimeError, match="3 of 3"):
        batch.step(np.zeros((3, 5), int))
    batch.reset(seed=0)
    ended = np.zeros(3, bool)
    for _ in range(30):
        _, _, terminated, truncated, _ = batch.step(np.tile(np.arange(5), (3, 1)))
        ended = terminated | truncated
        if ended.any():
            break
    with pytest.raises(RuntimeError, match="reset"):
        batch.step(np.zeros((3, 5), int))


def test_options_choose_users_of_some_or_all_sessions(new_vec):
    batch = new_vec(3)
    assert (batch.reset(seed=0, options={"user_id": 7})[1]["user_id"] == 7).all()
    _, infos = batch.reset(seed=0, options={"user_id": np.array([5, 59, 5])})
    assert infos["user_id"].tolist() == [5, 59, 5]
    mask = np.array([False, True, False])
    batch.reset(options={"user_id": 8, "reset_mask": mask})
    assert batch.simulator.users["user_id"].tolist() == [5, 8, 5]
    for bad in ([1, 2], 60, 1.5, [0, 1, 99]):
        with pytest.raises(ValueError, match="user_id"):
            batch.reset(options={"user_id": bad})
    with pytest.raises(ValueError, match=r"'user'\. Did you mean 'user_id'\? Allowed: reset_mask"):
        batch.reset(options={"user": 3})


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_frames_of_a_batch_are_those_of_single_environments(new_env, new_vec, mode):
    kwargs = {"patience_start": 2.0, "render_mode": "ansi"}
    native, sync = new_vec(3, autoreset_mode=mode, **kwargs), _sync(new_env, 3, mode, **kwargs)
    native.reset(seed=5), sync.reset(seed=5)
    rng, ended = np.random.default_rng(0), 0
    for _ in range(20):
        assert native.render() == sync.render()
        actions = _actions(native, rng)
        ended += int(native.step(actions)[2].sum())
        sync.step(actions)
    assert ended > 2


def test_a_batch_renders_pictures_in_every_mode_it_declares(new_vec):
    assert new_vec(2).metadata["render_modes"] == ["ansi", "rgb_array"]
    native = new_vec(2, render_mode="rgb_array")
    native.reset(seed=0)
    frames = native.render()
    assert [frame.shape for frame in frames] == [(720, 1280, 3)] * 2
    assert (frames[0] != frames[1]).any()


def test_a_refused_action_changes_nothing(new_vec):
    batch = new_vec(2, patience_start=0.01)
    batch.reset(seed=0)
    for _ in range(10):
        batch.step(np.tile(np.arange(5), (2, 1)))
    users, states = batch.simulator.users.tobytes(), _states(batch)
    with pytest.raises(ValueError, match="action"):
        batch.step(np.full((2, 5), 20))
    assert batch.simulator.users.tobytes() == users and _states(batch) == states


def test_max_episode_steps_truncates_at_that_step(tiny, new_env, assert_same):
    kwargs = {"max_episode_steps": 4, "off": ["churn"]}
    native = gymnasium.make_vec("llmrec/Drift-v1", num_envs=3, **tiny, **kwargs)
    native.reset(seed=0)
    ends = [native.step(native.action_space.sample())[3].tolist() for _ in range(4)]
    assert ends == [[False] * 3] * 3 + [[True] * 3]
    assert _compare(native, _sync(new_env, 3, **kwargs), assert_same, 12) == 6


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_envs": 0},
        {"num_envs": 2.0},
        {"num_envs": True},
        {"num_envs": 2, "autoreset_mode": "sometimes"},
        {"num_envs": 2, "render_mode": "human"},
        {"num_envs": 2, "max_episode_steps": 0},
        {"num_envs": 2, "threads": 0},
        {"num_envs": 2, "threads": 3},
        {"num_envs": 2, "threads": 1.0},
        {"num_envs": 2, "threads": True},
        {"num_envs": 2, "horizn": 3},
    ],
)
def test_bad_arguments_are_refused(tiny, kwargs):
    with pytest.raises(ConfigError):
        gymnasium.make_vec(
            "llmrec/Drift-v1", vectorization_mode="vector_entry_point", **(tiny | kwargs)
        )


@pytest.mark.parametrize("reset", ["next_step", "same_step"])
def test_threads_change_no_bit(new_vec, acting, observing, draw_actions, assert_same, reset):
    kwargs = {**acting, **observing, "autoreset_mode": reset}
    one, three = new_vec(7, **kwargs), new_vec(7, threads=3, **kwargs)
    assert_same(one.reset(seed=0), three.reset(seed=0))
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = draw_actions(one.simulator, rng)
        assert_same(one.step(actions), three.step(actions))
    assert_same(one.step(actions), copy.deepcopy(three).step(actions))
    three.close()


def test_closing_ends_the_threads(new_vec):
    env = new_vec(4, threads=2)
    env.reset(seed=0)
    running = [thread.name for thread in threading.enumerate()]
    assert any("llmrec_env" in name for name in running)
    env.close()
    assert not any("llmrec_env" in thread.name for thread in threading.enumerate())


def test_too_many_threads_are_refused_with_what_is_allowed(new_vec):
    with pytest.raises(ConfigError, match="threads=5 is not an integer from 1 to num_envs=4"):
        new_vec(4, threads=5)


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled", *AutoresetMode])
def test_autoreset_modes_go_by_name_and_by_member(new_vec, mode):
    expected = AutoresetMode[mode.upper()] if type(mode) is str else mode
    assert new_vec(1, autoreset_mode=mode).metadata["autoreset_mode"] is expected


def test_async_works_and_agrees(new_env, tiny, assert_same):
    def make():
        return gymnasium.make("llmrec/Drift-v1", **tiny)

    batch = AsyncVectorEnv([make, make])
    try:
        assert (
            _compare(gymnasium.make_vec("llmrec/Drift-v1", 2, **tiny), batch, assert_same, 5) == 0
        )
    finally:
        batch.close()


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_a_running_batch_goes_on_identically(new_vec, assert_same, copier):
    batch = new_vec(3, patience_start=3.0)
    batch.reset(seed=0)
    rng = np.random.default_rng(0)
    batch.step(rng.integers(0, 20, (3, 5)))
    twin = copier(batch)
    for _ in range(STEPS):
        actions = rng.integers(0, 20, (3, 5))
        assert_same(batch.step(actions), twin.step(actions))


def test_results_of_different_steps_share_no_memory(new_vec):
    batch = new_vec(2)
    first, _ = batch.reset(seed=0)
    second, _, _, _, infos = batch.step(np.tile(np.arange(5), (2, 1)))
    third = batch.step(np.tile(np.arange(5), (2, 1)))
    assert not np.shares_memory(first, second) and not np.shares_memory(second, third[0])
    assert not np.shares_memory(infos["slate"], third[4]["slate"])
    assert not np.shares_memory(infos["_item"], infos["_satisfied"])


def test_the_wrapper_of_statistics_works_on_top(new_vec):
    batch = gymnasium.wrappers.vector.RecordEpisodeStatistics(new_vec(3, patience_start=3.0))
    batch.reset(seed=0)
    rng = np.random.default_rng(0)
    episodes = 0
    for _ in range(STEPS):
        infos = batch.step(rng.integers(0, 20, (3, 5)))[4]
        episodes += int(infos.get("_episode", np.zeros(1)).sum())
    assert episodes > 2


def test_a_refused_user_leaves_the_generators_alone(new_vec):
    env = new_vec(2)
    env.reset(seed=3)
    states = _states(env)
    with pytest.raises(ValueError, match="does not exist"):
        env.reset(options={"user_id": 10**9})
    assert _states(env) == states
