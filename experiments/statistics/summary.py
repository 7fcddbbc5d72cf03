"""Summary of the results of runs: the tables other than the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from experiments.runs.spec import RunResult
from experiments.statistics import intervals
from experiments.statistics.intervals import DEFAULT, Interval, RatioError, Resampling
from experiments.statistics.leaderboard import group, scores_of
from experiments.store import AdaptationPoint, CurvePoint, Episode, LearningPoint, Metric
from llmrec_env.config import unknown

_LEAST_SESSIONS = 20
"""Fewer sessions than this make a mean that shows who has stayed by chance."""

_OfSession = Callable[[Episode], float]

OF_SESSIONS: dict[str, _OfSession] = {
    "diversity": lambda x: x.diversity,
    "effective topics": lambda x: x.topics,
    "novelty": lambda x: x.novelty,
    "recall ceiling": lambda x: x.ceiling,
    "tracking error of the pooled history": lambda x: x.tracking_error,
    "preference shift": lambda x: x.shift,
    "discovered": lambda x: x.discovered,
    "lost": lambda x: x.lost,
    "goodwill": lambda x: x.goodwill,
    "tracking error of the belief": lambda x: x.belief_error,
}
"""Metrics that are means over the sessions in which they are defined; one more is one entry."""
OF_RUNS = ("coverage", "gini", "ndcg@10", "recall@10")
"""Metrics that a run measures over all its sessions: they have no interval."""
ORACLES = {
    "regret to belief": "belief-oracle",
    "regret to myopic": "oracle-myopic",
    "regret to planning": "oracle-planning",
}
"""Metrics that are the return which an oracle earns more, on the same sessions."""
METRICS = ("return", "reward per step", *ORACLES, *OF_SESSIONS, *OF_RUNS)
"""All metrics in the order of tables; the return is in the leaderboard, others are `Metric`s."""


def check_metric(name: str) -> str:
    """Returns the name; one that is not in `METRICS` raises ValueError with the nearest."""
    if name not in METRICS:
        raise ValueError(unknown("metric", name, list(METRICS)))
    return name


def by_agent(results: Sequence[RunResult]) -> dict[tuple[str, str], list[RunResult]]:
    """Returns the results of each (task, agent), as named in tables."""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        groups.setdefault((result.spec.name, result.spec.agent), []).append(result)
    return groups


def curve_points(results: Sequence[RunResult]) -> list[CurvePoint]:
    """Returns the means over users, worlds and seeds at each step, for each task and agent."""
    points = []
    for (task, agent), own in by_agent(results).items():
        sessions = sum(len(result.episodes) for result in own)
        reward, alive = (_total(own, name) / sessions for name in ("reward", "alive"))
        errors = (_mean_error(own, name) for name in ("tracking_error", "belief_error"))
        columns = (reward, alive, *errors)
        steps = zip(*(column.tolist() for column in columns), strict=True)
        points += [CurvePoint(task, agent, step, *means) for step, means in enumerate(steps)]
    return points


def adaptation_points(results: Sequence[RunResult]) -> list[AdaptationPoint]:
    """Returns the mean reward by steps since the latest switch, for each task and agent."""
    points = []
    for (task, agent), own in by_agent(results).items():
        count, total = (_total(own, f"adaptation_{x}") for x in ("count", "reward"))
        reward = _mean_of_enough(total, count)
        lags = zip(reward.tolist(), count.tolist(), strict=True)
        points += [
            AdaptationPoint(task, agent, lag, mean, int(n)) for lag, (mean, n) in enumerate(lags)
        ]
    return points


def learning_points(results: Sequence[RunResult]) -> list[LearningPoint]:
    """Returns the returns on validation users during training, of online RL agents."""
    return [
        LearningPoint(spec.name, spec.agent, spec.world, spec.seed, int(steps), ret)
        for spec, learning in ((result.spec, result.learning) for result in results)
        for steps, ret in learning
    ]


def metrics_of(results: Sequence[RunResult], resampling: Resampling = DEFAULT) -> list[Metric]:
    """Returns every metric but the return of each task and agent.

    A metric that is defined for none of an agent's sessions or runs has the value None; a regret
    is left out where the oracle was not played. Intervals are those of means over sessions: they
    are None for metrics of whole runs, and where a resample may hold no session that counts.
    """
    sessions = group(row for result in results for row in result.episodes)
    return [
        Metric(task, agent, name, *(None if math.isnan(x) else x for x in interval))
        for (task, agent), own in by_agent(results).items()
        for name, interval in _measured(own, sessions[task], agent, resampling)
    ]


def _measured(
    results: Sequence[RunResult],
    sessions: Mapping[str, Sequence[Episode]],
    agent: str,
    resampling: Resampling,
) -> Iterator[tuple[str, Interval]]:
    own = sessions[agent]
    yield "reward per step", _ratio(own, lambda x: x.ret, lambda x: x.steps, resampling)
    for name, oracle in ORACLES.items():
        if oracle in sessions:
            best, mine = scores_of(sessions[oracle]), scores_of(own)
            yield name, intervals.paired_difference(best, mine, resampling)
    for name, value in OF_SESSIONS.items():
        yield name, _mean_where_defined(own, value, resampling)
    for name in OF_RUNS:
        values = [result.values.get(name, math.nan) for result in results]
        defined = [x for x in values if not math.isnan(x)]
        yield name, _alone(float(np.mean(defined)) if defined else math.nan)


def _mean_where_defined(
    episodes: Sequence[Episode], value: _OfSession, resampling: Resampling
) -> Interval:
    """A ratio of sums, since resamples differ in how many sessions count."""
    return _ratio(
        episodes,
        lambda x: 0.0 if math.isnan(value(x)) else value(x),
        lambda x: float(not math.isnan(value(x))),
        resampling,
    )


def _ratio(
    episodes: Sequence[Episode], above: _OfSession, below: _OfSession, resampling: Resampling
) -> Interval:
    """Sum over sessions by sum over sessions, NaN where there is nothing to divide by."""
    numerator, denominator = scores_of(episodes, above), scores_of(episodes, below)
    try:
        return intervals.ratio(numerator, denominator, resampling)
    except RatioError:
        total = float(denominator.values.sum())
        return _alone(float(numerator.values.sum()) / total if total > 0.0 else math.nan)


def _alone(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)


def _mean_error(results: Sequence[RunResult], name: str) -> np.ndarray:
    """Means by step; NaN where too few sessions are left, or an error is not known at all."""
    if any(name not in result.sums for result in results):
        return np.full(len(results[0].sums["reward"]), math.nan)
    return _mean_of_enough(_total(results, name), _total(results, f"{name}_count"))


def _mean_of_enough(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count >= _LEAST_SESSIONS, total / np.maximum(count, 1), math.nan)


def _total(results: Sequence[RunResult], name: str) -> np.ndarray:
    return np.sum([result.sums[name] for result in results], axis=0)
