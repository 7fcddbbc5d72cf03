"""Users in thirds by hidden traits, and what an agent adds in each third."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest

import llmrec_env  # noqa: F401, registers the tasks
from experiments.runs.spec import RunSpec
from experiments.store import Episode
from experiments.studies.user_groups import group_members, improvements_by_group, user_traits

TASK = "llmrec/Drift-v1"


@pytest.fixture(scope="module")
def spec(tiny):
    return RunSpec(TASK, "joint", 0, env=tiny | {"num_users": 60})


def episodes(spec, users, returns):
    rows = zip(users.tolist(), returns, strict=True)
    return [Episode(TASK, "joint", spec.world, 0, user, x, 9, 9, 9, 1.0, True) for user, x in rows]


def test_thirds_are_by_rank_and_as_large_as_can_be():
    assert group_members(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])).tolist() == [1, 0, 0, 2, 2, 1]
    assert np.bincount(group_members(np.zeros(7))).tolist() == [3, 2, 2]
    assert len(group_members(np.zeros(0))) == 0


def test_traits_are_those_of_the_users_before_their_session(spec):
    users = np.array([39, 9])
    traits = user_traits(spec, users)
    env: Any = gymnasium.make(TASK, observation="dict", **spec.env).unwrapped
    for i, user in enumerate(users):
        observation, _ = env.reset(seed=5, options={"user_id": int(user)})
        v, u = observation["interest"], env.simulator.interests()[0]
        cosine = v @ u / np.linalg.norm(v) / np.linalg.norm(u)
        assert traits["text clarity"][i] == pytest.approx(cosine, abs=1e-5)
        strength = np.linalg.norm(env.simulator.users["taste"][0])
        assert traits["taste strength"][i] == pytest.approx(strength, abs=1e-5)


def test_improvements_are_within_each_third_of_each_world(spec):
    users, own, others = np.arange(9, 60, 10), [], []
    earned = np.arange(1.0, 7.0)
    gains = {"low": 2.0, "middle": 1.0, "high": 0.5}
    for world in (0, 1):
        here = dataclasses.replace(spec, world=world)
        names = np.array(list(gains))[group_members(user_traits(here, users)["taste strength"])]
        others += episodes(here, users, earned)
        own += episodes(here, users, earned * [gains[x] for x in names])
    table = improvements_by_group(spec, own, {"another": others})
    labels = [f"{x}: {y}" for x in ("taste strength", "text clarity") for y in gains]
    assert list(table) == labels
    for name, gain in gains.items():
        added = table[f"taste strength: {name}"]["another"]
        assert added is not None and added.value == pytest.approx(gain - 1.0)


def test_a_third_of_one_user_tells_nothing(spec):
    users = np.array([9, 19, 29, 39])
    sessions = episodes(spec, users, [1.0, 2.0, 3.0, 4.0])
    table = improvements_by_group(spec, sessions, {"another": sessions})
    added = table["taste strength: low"]["another"]
    assert added is not None and added.value == 0.0
    assert table["taste strength: high"]["another"] is None
