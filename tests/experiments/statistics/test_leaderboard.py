"""Leaderboard: rows by hand, by the statistics they are made of, and against rows of worlds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from made_up import MEANS, scaled_episodes

from experiments.statistics import intervals
from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import (
    LADDER,
    group,
    in_order,
    leaderboard,
    scores_of,
    world_rows,
)
from experiments.store import Episode, WorldRow

FAST = Resampling(resamples=200)
ORDER = ("random", "content", "ppo", "oracle-planning")
SHARED = [x.name for x in dataclasses.fields(WorldRow) if x.name != "world"]


def rollout(worlds: int = 1, users: int = 20, seeds: int = 3) -> list[Episode]:
    """Sessions of four agents; `content` earns twice as much as random in world 0, then less."""
    generator = np.random.default_rng(0)
    episodes = []
    for world in range(worlds):
        user = generator.gamma(4.0, 1.0, users)
        means = {"random": 1.0, "content": 2.0 - 1.5 * world, "ppo": 3.0, "oracle-planning": 9.0}
        for agent, mean in means.items():
            for seed in range(seeds if agent == "ppo" else 1):
                own = mean * user + (generator.normal(size=users) if agent == "ppo" else 0.0)
                episodes += [
                    Episode("task", agent, world, seed, i, ret, 20, 8, 4, 40.0, True)
                    for i, ret in enumerate(own.tolist())
                ]
    return episodes


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


def test_a_world_that_an_agent_did_not_meet_is_refused() -> None:
    episodes = [x for x in rollout(worlds=2) if (x.agent, x.world) != ("content", 1)]
    with pytest.raises(ValueError, match=r"content has no session in world 1"):
        world_rows(episodes, ORDER, FAST)
    with pytest.raises(ValueError, match=r"agent lacks a \(world, user\): 20 missing"):
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


def test_order_is_canonical_whatever_the_values() -> None:
    agents = ["oracle-planning", "zeta", "ppo", "random", "alpha", "drift-aware"]
    expected = ["random", "drift-aware", "alpha", "zeta", "ppo", "oracle-planning"]
    assert in_order(agents) == expected
    assert in_order(agents, ("ppo", "random"))[:2] == ["ppo", "random"]


def test_leaderboard_numbers() -> None:
    rows = leaderboard(scaled_episodes(), LADDER, {"ppo": 1000}, FAST)
    by_agent = {row.agent: row for row in rows}
    assert list(by_agent) == list(MEANS)
    for agent, row in by_agent.items():
        assert row.mean == pytest.approx(MEANS[agent])
        assert row.ci_low < row.mean < row.ci_high
        assert row.iqm_low <= row.iqm <= row.iqm_high
        assert row.normalised == pytest.approx((MEANS[agent] - 2) / 16)
        assert (row.worlds, row.users, row.seeds) == (2, 60, 2 if agent == "ppo" else 1)
        assert row.steps == pytest.approx(11.0)
        assert row.ctr == pytest.approx(3 / 11)
        assert (row.satisfaction_rate, row.survive, row.tracking_error) == pytest.approx(
            (2 / 3, 1.0, 40.0)
        )
    assert by_agent["random"].improvement is by_agent["random"].improvement_over is None
    content = by_agent["content"]
    assert content.improvement_over == "random"
    assert (content.improvement, content.improvement_low, content.p_improve) == pytest.approx(
        (3.0, 3.0, 1.0)
    )
    assert by_agent["ppo"].improvement == pytest.approx(0.0)
    assert by_agent["ppo"].p_improve == pytest.approx(0.5)
    assert by_agent["ppo"].train_steps == 1000
    assert content.train_steps == 0


def test_leaderboard_without_ends_or_with_nothing_earned() -> None:
    rows = leaderboard(scaled_episodes({"random": 0.0, "content": 1.0}), resampling=FAST)
    assert rows[1].improvement is None
    assert rows[1].improvement_over == "random"
    assert rows[1].normalised is None
    silent = [
        dataclasses.replace(x, consumed=0, satisfied=0, tracking_error=math.nan)
        for x in scaled_episodes()
    ]
    row = leaderboard(silent, resampling=FAST)[0]
    assert (row.ctr, row.satisfaction_rate, row.tracking_error) == (0.0, None, None)


def test_tasks_are_compared_apart() -> None:
    both = scaled_episodes() + [
        dataclasses.replace(x, task="b", ret=2 * x.ret) for x in scaled_episodes()
    ]
    rows = leaderboard(both, resampling=FAST)
    assert [row.task for row in rows] == ["task-a"] * 5 + ["b"] * 5
    assert rows[5].improvement is None
    assert rows[5].mean == pytest.approx(2 * rows[0].mean)
