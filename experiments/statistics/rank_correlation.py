"""Rank correlation of two leaderboards, with an interval over held-out users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.statistics.intervals import Scores
from experiments.statistics.resampling import (
    DEFAULT,
    Floats,
    Interval,
    Resampling,
    draw_counts,
    percentiles,
)


def rank_correlation(
    one: Sequence[Scores], other: Sequence[Scores], resampling: Resampling = DEFAULT
) -> Interval:
    """Returns Kendall's tau of the mean scores of the same agents on two leaderboards.

    Users are drawn alike on both: they are the same ones, or different ones, who have nothing in
    common. Training seeds are not drawn: each agent stands with the mean over its seeds.

    Args:
        one: of each agent, all on the same users.
        other: of the same agents in the same order, on as many users of as many worlds.
        resampling: of the interval.

    Raises:
        ValueError: fewer than two agents, or leaderboards of other agents or numbers of users.
    """
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(
            f"leaderboards of {len(one)} and {len(other)} agents have no rank correlation; give "
            "the same two or more agents on both."
        )
    sizes = [np.unique(x.worlds, return_counts=True)[1].tolist() for x in (*one, *other)]
    if any(size != sizes[0] for size in sizes):
        raise ValueError("leaderboards have other numbers of users; evaluate as many on both.")
    tables = [np.stack([x.values.mean(axis=1) for x in side], axis=1) for side in (one, other)]
    value = kendall(*(table.mean(axis=0) for table in tables))
    counts = draw_counts(one[0].worlds, 1, resampling)
    drawn = [kendall(*(users @ table for table in tables)) for users, _ in counts]
    return Interval(float(value), *percentiles(np.concatenate(drawn), resampling).tolist())


def kendall(one: Floats, other: Floats) -> Floats:
    """Returns Kendall's tau-a of scores, (..., agents): pairs in the same order less the others."""
    first, second = np.triu_indices(one.shape[-1], 1)
    signs = (np.sign(x[..., first] - x[..., second]) for x in (one, other))
    return np.prod([*signs], axis=0).mean(axis=-1)
