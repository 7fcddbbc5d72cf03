"""The leaderboard of a run: from sessions to rows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from agents import AGENTS
from experiments.statistics import intervals
from experiments.statistics.intervals import DEFAULT, Interval, Resampling, Scores
from experiments.store import Episode, Row, WorldRow

LADDER = tuple(name for name, spec in AGENTS.items() if spec.ladder)


def leaderboard(
    episodes: Iterable[Episode],
    order: Sequence[str] = LADDER,
    train_steps: Mapping[str, int] | None = None,
    resampling: Resampling = DEFAULT,
) -> list[Row]:
    """Returns a row for every task and agent, tasks as they come, agents in canonical order.

    Args:
        episodes: sessions of all agents on the same users.
        order: agents in canonical order; others follow `drift-aware`, by name.
        train_steps: environment steps an agent was trained for, by agent; 0 where it is not named.
        resampling: of the intervals.

    Raises:
        ValueError: agents met different sessions, or a return is not finite.
    """
    rows = []
    for task, agents in group(episodes).items():
        names = in_order(agents, order)
        scores = {name: scores_of(agents[name]) for name in names}
        for above, name in zip([None, *names[:-1]], names, strict=True):
            numbers = _mean_and_improvement(scores, name, above, resampling)
            numbers |= _robust(scores, name, above, resampling) | _described(
                agents[name], scores[name]
            )
            steps = (train_steps or {}).get(name, 0)
            rows.append(Row(task=task, agent=name, train_steps=steps, **numbers))
    return rows


def world_rows(
    episodes: Iterable[Episode], order: Sequence[str] = LADDER, resampling: Resampling = DEFAULT
) -> list[WorldRow]:
    """Returns a row for every task, world and agent: does what holds on the whole hold in each?

    Arguments and errors are those of `leaderboard`.
    """
    rows = []
    for task, agents in group(episodes).items():
        names = in_order(agents, order)
        for world in sorted({x.world for own in agents.values() for x in own}):
            met = {name: [x for x in agents[name] if x.world == world] for name in names}
            if missing := [name for name in names if not met[name]]:
                what = f"{missing[0]} has no session in world {world}"
                raise ValueError(f"{what} of {task}; evaluate it in that world too.")
            scores = {name: scores_of(met[name]) for name in names}
            for above, name in zip([None, *names[:-1]], names, strict=True):
                numbers = _mean_and_improvement(scores, name, above, resampling)
                numbers |= {"seeds": len(scores[name].seeds), "users": len(scores[name].users)}
                rows.append(WorldRow(task=task, agent=name, world=world, **numbers))
    return rows


def in_order(agents: Iterable[str], order: Sequence[str] = LADDER) -> list[str]:
    """Returns agents in canonical order; those that are not in it follow `drift-aware`, by name."""
    ranks = {name: (rank, "") for rank, name in enumerate(order)}
    others, _ = ranks.get("drift-aware", (len(order), ""))
    return sorted(set(agents), key=lambda name: ranks.get(name, (others, name)))


def improvement_of(row: Row | WorldRow) -> Interval | None:
    """Returns the improvement of a row over the one above; None where there is none."""
    if row.improvement is None or row.improvement_low is None or row.improvement_high is None:
        return None
    return Interval(row.improvement, row.improvement_low, row.improvement_high)


def group(episodes: Iterable[Episode]) -> dict[str, dict[str, list[Episode]]]:
    """Returns the sessions by task, and by agent within it."""
    groups: dict[str, dict[str, list[Episode]]] = {}
    for episode in episodes:
        groups.setdefault(episode.task, {}).setdefault(episode.agent, []).append(episode)
    return groups


def scores_of(
    episodes: Sequence[Episode], value: Callable[[Episode], float] = lambda x: x.ret
) -> Scores:
    """Returns a value of the sessions of one agent on one task, the return, as (users, seeds)."""
    keys = np.array([(x.world, x.user, x.seed) for x in episodes], np.int64)
    return Scores.of([value(x) for x in episodes], *keys.T)


def _mean_and_improvement(
    scores: Mapping[str, Scores], name: str, above: str | None, resampling: Resampling
) -> dict[str, Any]:
    """The numbers that pooled rows and rows of a world share."""
    mean = intervals.bootstrap_interval(scores[name], "mean", resampling)
    improvement = None
    if above is not None:
        pair = scores[name], scores[above]
        improvement = intervals.improvement_if_defined(*pair, resampling)
    value, low, high = improvement or (None, None, None)
    return {
        "mean": mean.value,
        "ci_low": mean.low,
        "ci_high": mean.high,
        "improvement": value,
        "improvement_low": low,
        "improvement_high": high,
        "improvement_over": above,
    }


def _robust(
    scores: Mapping[str, Scores], name: str, above: str | None, resampling: Resampling
) -> dict[str, Any]:
    """The numbers that do not hang on the scale, or on the few best sessions."""
    own = scores[name]
    iqm = intervals.bootstrap_interval(own, "iqm", resampling)
    better = normalised = None
    if above is not None:
        better = intervals.probability_of_improvement(own, scores[above], resampling).value
    if {"random", "oracle-planning"} <= scores.keys():
        with contextlib.suppress(intervals.RatioError):
            ends = scores["random"], scores["oracle-planning"]
            normalised = intervals.normalised_score(own, *ends, resampling).value
    return {
        "iqm": iqm.value,
        "iqm_low": iqm.low,
        "iqm_high": iqm.high,
        "p_improve": better,
        "normalised": normalised,
    }


def _described(episodes: Sequence[Episode], scores: Scores) -> dict[str, Any]:
    """The numbers of a row that are plain means and counts."""
    steps = sum(x.steps for x in episodes)
    consumed = sum(x.consumed for x in episodes)
    errors = [x.tracking_error for x in episodes if not math.isnan(x.tracking_error)]
    return {
        "survive": sum(x.survived for x in episodes) / len(episodes),
        "steps": steps / len(episodes),
        "ctr": consumed / max(1, steps),
        "satisfaction_rate": sum(x.satisfied for x in episodes) / consumed if consumed else None,
        "tracking_error": sum(errors) / len(errors) if errors else None,
        "worlds": len(np.unique(scores.worlds)),
        "seeds": len(scores.seeds),
        "users": len(scores.users),
    }
