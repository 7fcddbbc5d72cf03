"""What mechanisms add to items: the past is told as it was when it was shown."""

from __future__ import annotations

import numpy as np
import pytest

from agents.added_blocks import AddedBlocks

ALL = {"new_items": 0.4, "creator_growth": 0.5, "resolution": 0.2, "query_rate": 0.5}
N, STEPS = 6, 14


@pytest.fixture(params=["logit", "cascade"])
def env(new_vec, request):
    return new_vec(N, observation="dict", response=request.param, warmup_slates=16, **ALL)


def _blocks(env):
    return AddedBlocks(env.config, env.public_data())


def test_recent_slates_were_told_as_candidates(env):
    blocks, told = _blocks(env), []
    observation = env.reset(seed=0)[0]
    for step in range(STEPS):
        own = np.tile(np.arange(5) + step % 3, (N, 1))
        offered = blocks.of_candidates(observation)
        assert offered.shape == (N, 20, 3)
        told.append(np.take_along_axis(offered, own[..., None], 1))
        observation = env.step(own)[0]
    recent = blocks.of_recent(observation, STEPS)
    assert recent.shape == (N, STEPS, 5, 3)
    assert (observation["recent_items"][:, :STEPS] >= 0).any()
    assert (recent > 0).any(axis=(0, 1, 2)).all()
    np.testing.assert_allclose(recent, np.stack(told[::-1], 1), atol=2e-6)
    np.testing.assert_array_equal(blocks.of_recent(observation, 3), recent[:, :3])


def test_logged_slates_are_told_as_a_session_remembers_them(env):
    blocks, data = _blocks(env), env.public_data()
    observation = env.reset(seed=0)[0]
    users, logs = observation["user_id"], data.logs
    rows = [int(np.flatnonzero(data.users == user)[0]) for user in users]
    logged = blocks.of_logs(logs.slates[rows], logs.feedback[rows], logs.queries[rows])
    recent = blocks.of_recent(observation, 16)
    assert logged.shape == recent.shape == (N, 16, 5, 3)
    np.testing.assert_allclose(logged[:, ::-1], recent, atol=2e-6)


def test_a_task_without_such_mechanisms_has_blocks_of_no_width(new_vec):
    env = new_vec(N, observation="dict")
    blocks, observation = _blocks(env), env.reset(seed=0)[0]
    logs = env.public_data().logs
    assert blocks.names == ()
    assert blocks.of_candidates(observation).shape == (N, 20, 0)
    assert blocks.of_recent(observation, 4).shape == (N, 4, 5, 0)
    assert blocks.of_logs(logs.slates, logs.feedback, logs.queries).shape == (*logs.slates.shape, 0)
