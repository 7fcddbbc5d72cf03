"""Rows of worlds against pooled rows, and pooled rows against the statistics they are made of."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from experiments.statistics import intervals
from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import group, leaderboard, scores_of, world_rows
from experiments.store import Episode, Row, WorldRow

FAST = Resampling(resamples=200)
ORDER = ("random", "content", "ppo", "oracle-planning")
SHARED = [x.name for x in dataclasses.fields(WorldRow) if x.name != "world"]


def rollout(worlds: int = 1, users: int = 20, seeds: int = 3) -> list[Episode]:
    """Sessions of four agents; `content` earns twice as much as random in world 0, then less."""
    generator = np.random.default_rng(0)
    found = []
    for world in range(worlds):
        user = generator.gamma(4.0, 1.0, users)
        means = {"random": 1.0, "content": 2.0 - 1.5 * world, "ppo": 3.0, "oracle-planning": 9.0}
        for agent, mean in means.items():
            for seed in range(seeds if agent == "ppo" else 1):
                own = mean * user + (generator.normal(size=users) if agent == "ppo" else 0.0)
                found += [
                    Episode("task", agent, world, seed, i, ret, 20, 8, 4, 40.0, True)
                    for i, ret in enumerate(own.tolist())
                ]
    return found


def test_in_one_world_its_rows_are_the_pooled_ones() -> None:
    episodes = rollout()
    pooled, apart = leaderboard(episodes, ORDER, resampling=FAST), world_rows(episodes, ORDER, FAST)
    assert [x.agent for x in apart] == list(ORDER)
    for row, own in zip(pooled, apart, strict=True):
        assert own.world == 0
        for name in SHARED:
            assert getattr(own, name) == getattr(row, name), name


def test_gains_of_worlds_tell_what_the_pooled_gain_hides() -> None:
    episodes = rollout(worlds=2)
    rows = {(x.world, x.agent): x for x in world_rows(episodes, ORDER, FAST)}
    assert len(rows) == 8
    gains = [rows[world, "content"].improvement for world in range(2)]
    assert gains == pytest.approx([1.0, -0.5])
    (pooled,) = (x for x in leaderboard(episodes, ORDER, resampling=FAST) if x.agent == "content")
    assert pooled.improvement is not None and -0.5 < pooled.improvement < 1.0
    assert rows[0, "random"].improvement_over is None
    assert rows[1, "ppo"].improvement_over == "content"
    assert (rows[1, "ppo"].seeds, rows[1, "ppo"].users) == (3, 20)
    means = [rows[world, "ppo"].mean for world in range(2)]
    whole = scores_of([x for x in episodes if x.agent == "ppo"])
    assert np.mean(means) == pytest.approx(whole.values.mean())


def test_a_row_holds_what_the_statistics_say() -> None:
    episodes = rollout(worlds=2)
    scores = {name: scores_of(own) for name, own in group(episodes)["task"].items()}
    ppo, content = scores["ppo"], scores["content"]
    row = next(x for x in leaderboard(episodes, ORDER, resampling=FAST) if x.agent == "ppo")
    mean = intervals.bootstrap_interval(ppo, "mean", FAST)
    iqm = intervals.bootstrap_interval(ppo, "iqm", FAST)
    gain = intervals.relative_improvement(ppo, content, FAST)
    ends = scores["random"], scores["oracle-planning"]
    assert (row.mean, row.ci_low, row.ci_high) == mean
    assert (row.iqm, row.iqm_low, row.iqm_high) == iqm
    assert (row.improvement, row.improvement_low, row.improvement_high, row.improvement_over) == (
        *gain,
        "content",
    )
    assert row.p_improve == intervals.probability_of_improvement(ppo, content, FAST).value
    assert row.normalised == intervals.normalised_score(ppo, *ends, FAST).value
    assert (row.worlds, row.seeds, row.users) == (2, 3, 40)


def test_ends_are_normalised_to_zero_and_one() -> None:
    rows: dict[str, Row] = {x.agent: x for x in leaderboard(rollout(), ORDER, resampling=FAST)}
    assert rows["random"].normalised == 0.0
    assert rows["oracle-planning"].normalised == 1.0
    assert rows["content"].normalised == pytest.approx((2 - 1) / (9 - 1))


def test_a_world_that_an_agent_did_not_meet_is_refused() -> None:
    episodes = [x for x in rollout(worlds=2) if (x.agent, x.world) != ("content", 1)]
    with pytest.raises(ValueError, match=r"content has no session in world 1"):
        world_rows(episodes, ORDER, FAST)
    with pytest.raises(ValueError, match="lacks a"):
        leaderboard(episodes, ORDER, resampling=FAST)


def test_plain_numbers_ignore_what_is_unknown() -> None:
    change = {"tracking_error": math.nan, "consumed": 0, "satisfied": 0, "survived": False}
    episodes = [dataclasses.replace(x, **change) if x.user % 2 else x for x in rollout()]
    row = leaderboard(episodes, ORDER, resampling=FAST)[0]
    assert (row.tracking_error, row.survive, row.ctr, row.satisfaction_rate) == (
        40.0,
        0.5,
        0.2,
        0.5,
    )


def test_scores_are_in_place_whatever_the_order() -> None:
    episodes = rollout(worlds=2)
    own = [x for x in episodes if x.agent == "ppo"]
    scores, turned = scores_of(own), scores_of(own[::-1])
    np.testing.assert_array_equal(scores.values, turned.values)
    assert scores.values.shape == (40, 3)
    (one,) = (x.ret for x in own if (x.world, x.user, x.seed) == (1, 7, 2))
    assert scores.values[27, 2] == one
    assert scores_of(own, lambda x: x.steps).values.tolist() == [[20.0] * 3] * 40
