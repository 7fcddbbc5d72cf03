"""From runs made by hand to the tables of a run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_up import SESSION, STEPS, USERS, fake, plan

from experiments.runs.spec import RunResult, RunSpec
from experiments.statistics.intervals import (
    Resampling,
    Scores,
    bootstrap_interval,
    paired_difference,
)
from experiments.statistics.leaderboard import LADDER, leaderboard, scores_of, world_rows
from experiments.statistics.summary import (
    METRICS,
    OF_RUNS,
    OF_SESSIONS,
    ORACLES,
    adaptation_points,
    check_metric,
    curve_points,
    learning_points,
    metrics_of,
)
from experiments.store import Metric

FAST = Resampling(resamples=200)
VALUES = {"coverage": 0.5, "gini": 0.25, "ndcg@10": 0.125, "recall@10": 0.75}


def spec(
    agent: str = "content",
    returns: Sequence[float] = (1.0, 2.0, 3.0, 6.0),
    world: int = 0,
    seed: int = 0,
    sums: dict[str, list[float]] | None = None,
    values: dict[str, float] = VALUES,
    learning: list[list[float]] | None = None,
    task: str = "task",
    **columns: Sequence[Any],
) -> RunResult:
    """The result of a run: a session for each return, other columns by name."""
    about = {"task": task, "agent": agent, "world": world, "seed": seed}
    episodes = [
        dataclasses.replace(
            SESSION, **about, user=i, ret=ret, **{name: x[i] for name, x in columns.items()}
        )
        for i, ret in enumerate(returns)
    ]
    return RunResult(
        RunSpec("llmrec/Drift-v1", agent, world, seed, label=task),
        episodes,
        sums or {},
        values,
        learning or [],
    )


def by_name(metrics: list[Metric], agent: str = "content") -> dict[str, Metric]:
    return {line.metric: line for line in metrics if line.agent == agent}


def interval(line: Metric) -> tuple[float | None, ...]:
    return line.value, line.low, line.high


def test_names_and_order_are_those_of_metrics() -> None:
    oracles = [spec(name, [9.0, 9.0, 9.0, 9.0]) for name in ORACLES.values()]
    lines = metrics_of([spec(), *oracles], FAST)
    names = [line.metric for line in lines if line.agent == "content"]
    assert names == [name for name in METRICS if name != "return"]
    assert len(set(METRICS)) == len(METRICS)
    assert [(x.task, x.agent) for x in lines[:: len(names)]] == [
        ("task", "content"),
        *(("task", name) for name in ORACLES.values()),
    ]


def test_each_metric_is_the_mean_of_its_column() -> None:
    columns = ("diversity", "topics", "novelty", "ceiling", "tracking_error", "shift")
    columns += ("discovered", "lost", "goodwill", "belief_error")
    own = {name: [i, i + 1, i + 2, i + 5] for i, name in enumerate(columns)}
    metrics = by_name(metrics_of([spec(**own)], FAST))
    for i, name in enumerate(OF_SESSIONS):
        line = metrics[name]
        assert line.value == pytest.approx(i + 2.0)
        assert line.low is not None and line.high is not None
        assert line.low < line.value < line.high
    for name in OF_RUNS:
        assert interval(metrics[name]) == (VALUES[name], None, None)


def test_regret_is_the_paired_difference_to_the_oracle() -> None:
    generator = np.random.default_rng(0)
    own = [spec("ppo", generator.gamma(2, 1, 30).tolist(), seed=seed) for seed in range(3)]
    best = spec("oracle-planning", generator.gamma(9, 1, 30).tolist())
    metrics = metrics_of([*own, best], FAST)
    episodes = [row for result in own for row in result.episodes]
    expected = paired_difference(scores_of(best.episodes), scores_of(episodes), FAST)
    assert interval(by_name(metrics, "ppo")["regret to planning"]) == pytest.approx(expected)
    assert expected.value > 3.0  # what the oracle earns more counts as above zero
    assert interval(by_name(metrics, "oracle-planning")["regret to planning"]) == (0.0, 0.0, 0.0)
    assert "regret to myopic" not in by_name(metrics, "ppo")  # it was not played


def test_reward_per_step_is_the_ratio_of_sums() -> None:
    line = by_name(metrics_of([spec(returns=[1.0, 8.0], steps=[10, 20])], FAST))["reward per step"]
    assert line.value == pytest.approx(9 / 30)  # the mean of ratios is 0.25
    assert line.low == pytest.approx(0.1)  # the first user alone
    assert line.high == pytest.approx(0.4)
    even = spec(returns=[1.0, 8.0, 2.5], steps=[2, 16, 5])
    line = by_name(metrics_of([even], FAST))["reward per step"]
    assert interval(line) == pytest.approx((0.5, 0.5, 0.5))


def test_a_metric_of_complete_sessions_has_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 20))  # seeds, worlds, users
    results = [
        spec("ppo", [1.0] * 20, world, seed, goodwill=values[seed, world].tolist())
        for seed in range(2)
        for world in range(3)
    ]
    seeds, worlds, users = (x.ravel() for x in np.indices(values.shape))
    expected = bootstrap_interval(Scores.of(values.ravel(), worlds, users, seeds), "mean", FAST)
    assert interval(by_name(metrics_of(results, FAST), "ppo")["goodwill"]) == pytest.approx(
        expected
    )


def test_sessions_without_the_value_are_left_out_of_value_and_interval() -> None:
    generator = np.random.default_rng(0)
    topics = generator.normal(5.0, 1.0, 200)
    gaps = np.where(np.arange(200) % 2, topics, math.nan)
    line = by_name(metrics_of([spec(returns=[1.0] * 200, topics=gaps)], FAST))["effective topics"]
    known = gaps[1::2]
    alone = bootstrap_interval(Scores.of(known), "mean", Resampling(resamples=2000))
    assert line.value == pytest.approx(known.mean())
    assert line.low is not None and line.high is not None
    assert line.high - line.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_undefined_is_none_and_too_little_has_no_interval() -> None:
    nothing = [math.nan] * 4
    once = [math.nan, math.nan, 3.5, math.nan]  # resamples without the third user: nothing at all
    result = spec(diversity=nothing, topics=once, values={"coverage": 0.5, "ndcg@10": math.nan})
    metrics = by_name(metrics_of([result], FAST))
    for name in ("diversity", "ndcg@10", "recall@10", "gini"):
        assert interval(metrics[name]) == (None, None, None)
    assert interval(metrics["effective topics"]) == (3.5, None, None)
    assert interval(metrics["coverage"]) == (0.5, None, None)


def test_metrics_of_cells_are_means_over_the_cells_that_have_them() -> None:
    values = [{"coverage": 0.25, "gini": 0.5}, {"coverage": 0.75, "gini": math.nan}]
    results = [spec(world=i, values=x) for i, x in enumerate(values)]
    metrics = by_name(metrics_of(results, FAST))
    assert metrics["coverage"].value == 0.5
    assert metrics["gini"].value == 0.5


def test_tasks_are_measured_apart() -> None:
    lines = metrics_of([spec(goodwill=[1.0] * 4), spec(task="other", goodwill=[2.0] * 4)], FAST)
    assert [(x.task, x.value) for x in lines if x.metric == "goodwill"] == [
        ("task", 1.0),
        ("other", 2.0),
    ]


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    assert [check_metric(name) for name in METRICS] == list(METRICS)
    with pytest.raises(ValueError, match=r"metric 'regret to planing'.*'regret to planning'"):
        check_metric("regret to planing")


@pytest.mark.slow
def test_a_ladder_in_three_worlds_takes_seconds() -> None:
    returns = np.random.default_rng(0).gamma(4.0, 1.0, 400).tolist()
    results = [
        spec(agent, returns, world, seed)
        for agent in LADDER
        for world in range(3)
        for seed in range(5 if agent == "ppo" else 1)
    ]
    episodes = [row for result in results for row in result.episodes]
    started = time.process_time()
    assert len(leaderboard(episodes)) == len(LADDER)
    assert len(world_rows(episodes)) == 3 * len(LADDER)
    untold = 2  # the return is in the leaderboard; there is no belief oracle to regret
    assert len(metrics_of(results)) == len(LADDER) * (len(METRICS) - untold)
    assert time.process_time() - started < 15.0


# --- curves


def curve_cells(alive: list[int]) -> list[RunResult]:
    """Two worlds of 20 users; a reward of 0.5 and an angle of 30 for each user who is there."""
    sums = {"reward": [0.5 * n for n in alive], "alive": [1.0 * n for n in alive]}
    sums["tracking_error"], sums["tracking_error_count"] = (
        [30.0 * n for n in alive],
        [1.0 * n for n in alive],
    )
    return [spec(returns=[1.0] * 20, world=world, sums=sums) for world in range(2)]


def test_curves_are_means_over_the_sessions_of_all_worlds() -> None:
    results = [fake(spec) for spec in plan(2)]
    points = [point for point in curve_points(results) if point.agent == "ppo"]
    first, second = (result.sums for result in results if result.spec.agent == "ppo")
    alive = np.add(first["alive"], second["alive"])
    reward = np.add(first["reward"], second["reward"]) / (2 * USERS)
    error = np.add(first["tracking_error"], second["tracking_error"]) / alive
    assert [point.step for point in points] == list(range(STEPS))
    np.testing.assert_allclose([point.reward for point in points], reward)
    np.testing.assert_allclose([point.alive for point in points], alive / (2 * USERS))
    assert alive[-1] < 20 < alive[0]
    np.testing.assert_allclose(
        [point.tracking_error for point in points], np.where(alive >= 20, error, math.nan)
    )


def test_curves_are_means_over_all_users_and_angles_over_those_there() -> None:
    first, second, third = curve_points(curve_cells([20, 10, 9]))
    assert (first.step, first.reward, first.alive, first.tracking_error) == (0, 0.5, 1.0, 30.0)
    assert (second.step, second.reward, second.alive, second.tracking_error) == (1, 0.25, 0.5, 30.0)
    assert third.alive == pytest.approx(18 / 40)
    assert math.isnan(third.tracking_error)  # 18 sessions are too few


def test_agents_of_different_beliefs_have_different_curves() -> None:
    results = []
    for agent, error in (("joint", 10.0), ("slateq", 50.0), ("random", None)):
        for result in curve_cells([20, 9]):
            result = dataclasses.replace(result, spec=dataclasses.replace(result.spec, agent=agent))
            if error:
                result.sums["belief_error"] = [20 * error, 9 * error]
                result.sums["belief_error_count"] = [20.0, 9.0]
            results.append(result)
    points = {(point.agent, point.step): point for point in curve_points(results)}
    assert {point.tracking_error for (_, step), point in points.items() if step == 0} == {30.0}
    assert [points[agent, 0].belief_error for agent in ("joint", "slateq")] == [10.0, 50.0]
    assert math.isnan(points["random", 0].belief_error)
    assert math.isnan(points["joint", 1].belief_error)  # 18 sessions are too few


def test_adaptation_pools_rewards_and_asks_for_enough_of_them() -> None:
    sums = [
        {"adaptation_count": [30.0, 15.0, 0.0], "adaptation_reward": [6.0, 3.0, 0.0]},
        {"adaptation_count": [10.0, 4.0, 0.0], "adaptation_reward": [6.0, 3.0, 0.0]},
    ]
    points = adaptation_points([spec(world=i, sums=x) for i, x in enumerate(sums)])
    assert [(p.lag, p.count) for p in points] == [(0, 40), (1, 19), (2, 0)]
    assert points[0].reward == pytest.approx(12 / 40)  # not the mean of 0.2 and 0.6
    assert math.isnan(points[1].reward) and math.isnan(points[2].reward)


def test_learning_points_name_world_seed_and_steps() -> None:
    results = [
        spec("ppo", world=1, seed=4, learning=[[1000, 2.5], [2000, 3.5]]),
        spec("content"),
    ]
    points = learning_points(results)
    assert [dataclasses.astuple(p) for p in points] == [
        ("task", "ppo", 1, 4, 1000, 2.5),
        ("task", "ppo", 1, 4, 2000, 3.5),
    ]
