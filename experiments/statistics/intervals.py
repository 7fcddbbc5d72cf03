"""Intervals and comparisons over held-out users, by a bootstrap that knows what was drawn.

Users are drawn within their world, and training seeds where there are several: `resampling.py` says
what an interval speaks about.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import trim_mean

from experiments.statistics.resampling import (
    DEFAULT,
    Floats,
    Interval,
    Resampling,
    draw_counts,
    percentiles,
)

_LISTED = 5  # missing sessions an error names
_ORDINALS = ("first", "second", "third")

Statistic = Literal["mean", "iqm"]


class Profile(NamedTuple):
    """A value for each threshold, and the pointwise interval around it; each (thresholds,)."""

    share: Floats
    low: Floats
    high: Floats


class RatioError(ValueError):
    """A relative comparison is asked for against something that is not above zero."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one agent earned: a row for every held-out user, a column for every training seed."""

    values: Floats  # (users, seeds)
    worlds: npt.NDArray[np.int64]  # (users,), ascending
    users: npt.NDArray[np.int64]  # (users,), ascending within a world
    seeds: npt.NDArray[np.int64]  # (seeds,), ascending

    @classmethod
    def of(
        cls,
        values: npt.ArrayLike,
        worlds: npt.ArrayLike | None = None,
        users: npt.ArrayLike | None = None,
        seeds: npt.ArrayLike | None = None,
    ) -> Scores:
        """Returns the scores of sessions in any order.

        Args:
            values: score of every session, (m,).
            worlds: world of every session, (m,); None: one world.
            users: held-out user of every session, (m,); None: every session has its own.
            seeds: training seed of every session, (m,); None: one seed.

        Raises:
            ValueError: lengths differ, a value is not finite, a session is held twice or is
                missing for one of the seeds, or a world has fewer than two users.
        """
        flat = _finite(values)
        zeros, own = np.zeros(len(flat), np.int64), np.arange(len(flat))
        given = ((worlds, zeros), (users, own), (seeds, zeros))
        columns = [np.asarray(other if x is None else x, np.int64) for x, other in given]
        shapes = [column.shape for column in (flat, *columns)]
        if set(shapes) != {(len(flat),)}:
            raise ValueError(f"values, worlds, users, seeds must be of one length, not {shapes}.")
        return _table(flat, np.stack(columns, axis=1))


def mean(values: npt.ArrayLike) -> float:
    """Returns the mean; a value that is not finite, or no value, raises ValueError."""
    return float(_finite(values).mean())


def iqm(values: npt.ArrayLike) -> float:
    """Returns the interquartile mean: the mean of what is left without a quarter at each end.

    The recommended aggregate of Agarwal et al. 2021, "Deep reinforcement learning at the edge of
    the statistical precipice". A value that is not finite, or no value, raises ValueError.
    """
    return float(trim_mean(_finite(values).ravel(), 0.25))


def bootstrap_interval(
    scores: Scores, statistic: Statistic = "mean", resampling: Resampling = DEFAULT
) -> Interval:
    """Returns the mean or the interquartile mean over users, with its bootstrap interval."""
    if statistic not in ("mean", "iqm"):
        raise ValueError(f"statistic must be 'mean' or 'iqm', not {statistic!r}.")
    if statistic == "mean":
        return _interval(scores, [scores.values], lambda means: means[0], resampling)
    ordered, below = np.sort(scores.values, axis=None), _below(scores, resampling)
    drawn = np.concatenate([_iqms(ordered, counts) for counts in below])
    return Interval(iqm(scores.values), *percentiles(drawn, resampling).tolist())


def performance_profile(
    scores: Scores, at: npt.ArrayLike, resampling: Resampling = DEFAULT
) -> Profile:
    """Returns the share of sessions whose score exceeds each threshold.

    The run-score distribution of Agarwal et al. 2021, with intervals that hold for one threshold
    at a time.

    Args:
        scores: of one agent.
        at: thresholds, in any order, (m,).
        resampling: of the intervals.

    Raises:
        ValueError: a threshold is NaN, or thresholds are not a list.
    """
    thresholds = np.asarray(at, np.float64)
    if thresholds.ndim != 1 or np.isnan(thresholds).any():
        raise ValueError(f"at must be a list of thresholds, none NaN, not {at!r:.60}.")
    # The rank of each threshold among the sessions: so many do not exceed it.
    rank = np.searchsorted(np.sort(scores.values, axis=None), thresholds, side="right")
    share = 1.0 - rank / scores.values.size
    drawn = [1.0 - below[:, rank] / below[:, -1:] for below in _below(scores, resampling)]
    return Profile(share, *percentiles(np.concatenate(drawn), resampling))


def ratio(a: Scores, b: Scores, resampling: Resampling = DEFAULT) -> Interval:
    """Returns mean(a) / mean(b), both resampled together.

    Pairs and errors are those of `relative_improvement`.
    """
    return _interval(a, _paired(a, b), _ratio, resampling)


def relative_improvement(a: Scores, b: Scores, resampling: Resampling = DEFAULT) -> Interval:
    """Returns the relative improvement mean(a) / mean(b) - 1, both resampled together.

    Users are paired by (world, user), and seeds by seed; an agent of one seed stands against every
    seed of the other.

    Raises:
        ValueError: a session of one has no partner; the message lists the missing ones.
        RatioError: the mean of b is not above zero, or not in every resample.
    """
    return Interval(*(x - 1.0 for x in ratio(a, b, resampling)))


def improvement_if_defined(
    a: Scores, b: Scores, resampling: Resampling = DEFAULT
) -> Interval | None:
    """Returns the relative improvement; None where b earns next to nothing."""
    with contextlib.suppress(RatioError):
        return relative_improvement(a, b, resampling)
    return None


def paired_difference(a: Scores, b: Scores, resampling: Resampling = DEFAULT) -> Interval:
    """Returns mean(a) - mean(b), both resampled together; for pairs see `relative_improvement`."""
    pair = _paired(a, b)
    return _interval(a, [pair[0] - pair[1]], lambda means: means[0], resampling)


def probability_of_improvement(a: Scores, b: Scores, resampling: Resampling = DEFAULT) -> Interval:
    """Returns the probability that a user's session with a beats the same session with b.

    Unlike that of Agarwal et al. 2021 it is paired; a tie counts half. Errors are those of
    `relative_improvement`.
    """
    pair = _paired(a, b)
    wins = 0.5 + 0.5 * np.sign(pair[0] - pair[1])
    return _interval(a, [wins], lambda means: means[0], resampling)


def normalised_score(
    scores: Scores, low: Scores, high: Scores, resampling: Resampling = DEFAULT
) -> Interval:
    """Returns (mean - mean(low)) / (mean(high) - mean(low)): 0 is `low`, 1 is `high`.

    Raises:
        ValueError: a session of one has no partner.
        RatioError: the mean of `high` is not above that of `low`, or not in every resample.
    """
    return _interval(scores, _paired(scores, low, high), _normalised, resampling)


# --- pairs


def _paired(*scores: Scores) -> list[Floats]:
    """The values of the same users and seeds, each (users, seeds)."""
    most = max(range(len(scores)), key=lambda i: len(scores[i].seeds))
    users = [set(zip(x.worlds.tolist(), x.users.tolist(), strict=True)) for x in scores]
    seeds = [set(x.seeds.tolist()) for x in scores]
    for i in range(len(scores)):
        _check_same("(world, user)", {most: users[most], i: users[i]})
        if len(seeds[i]) > 1:
            _check_same("training seed", {most: seeds[most], i: seeds[i]})
    shape = (len(users[0]), len(seeds[most]))
    return [np.broadcast_to(x.values, shape) for x in scores]


def _check_same(kind: str, keys_of: dict[int, set]) -> None:
    everything = set.union(*keys_of.values())
    for i, keys in sorted(keys_of.items()):
        if missing := sorted(everything - keys):
            what = f"{len(missing)} missing, first {missing[:_LISTED]}"
            raise ValueError(
                f"The {_ORDINALS[i]} agent lacks a {kind}: {what}; evaluate it on those too."
            )


def _ratio(means: list[Floats]) -> Floats:
    if (means[1] <= 0.0).any():
        raise RatioError("The mean to compare with must be above zero; use paired_difference.")
    return means[0] / means[1]


def _normalised(means: list[Floats]) -> Floats:
    if (means[2] <= means[1]).any():
        raise RatioError("The mean of `high` must be above that of `low`; evaluate more users.")
    return (means[0] - means[1]) / (means[2] - means[1])


# --- resampling


def _interval(
    frame: Scores,
    values: list[Floats],
    combine: Callable[[list[Floats]], Floats],
    resampling: Resampling,
) -> Interval:
    """What `combine` makes of the means of `values`, each (users, seeds), all resampled alike."""
    table = np.stack(values, axis=1)  # (users, values, seeds)
    value = float(combine([np.array([x.mean()]) for x in values])[0])
    drawn = []
    for users, seeds in draw_counts(frame.worlds, table.shape[2], resampling):
        sums = (users @ table.reshape(len(table), -1)).reshape(-1, *table.shape[1:])
        means = np.einsum("bvs,bs->vb", sums, seeds) / (len(table) * seeds[0].sum())
        drawn.append(combine(list(means)))
    return Interval(value, *percentiles(np.concatenate(drawn), resampling).tolist())


def _below(scores: Scores, resampling: Resampling) -> Iterator[Floats]:
    """How many drawn sessions are among the lowest 0, 1, ... of all, (block, sessions + 1)."""
    row, column = np.unravel_index(np.argsort(scores.values, axis=None), scores.values.shape)
    for users, seeds in draw_counts(scores.worlds, len(scores.seeds), resampling):
        below = np.zeros((len(users), len(row) + 1))
        weights = users[:, row] * seeds[:, column] if len(scores.seeds) > 1 else users[:, row]
        np.cumsum(weights, axis=1, out=below[:, 1:])
        yield below


def _iqms(ordered: Floats, below: Floats) -> Floats:
    """Interquartile mean of each row of counts of ascending values, (block,)."""
    total = below[:, -1:]
    cut = np.floor(0.25 * total)  # as scipy's trim_mean: whole sessions only
    counts = np.diff(np.clip(below, cut, total - cut), axis=1)
    return (counts @ ordered) / (total - 2.0 * cut)[:, 0]


def _finite(values: npt.ArrayLike) -> Floats:
    array = np.atleast_1d(np.asarray(values, np.float64))
    bad = np.flatnonzero(~np.isfinite(array))
    if not array.size:
        raise ValueError("There is no value to average.")
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {array.size} values are not finite, the first at index {bad[0]}; "
            "repeat those sessions, or leave the agent out."
        )
    return array


def _table(values: Floats, keys: npt.NDArray[np.int64]) -> Scores:
    """Sessions of keys (world, user, seed), (m, 3), as (users, seeds); none twice, none missing."""
    pairs, row = np.unique(keys[:, :2], axis=0, return_inverse=True)
    columns, column = np.unique(keys[:, 2], return_inverse=True)
    counts = np.zeros((len(pairs), len(columns)), np.int64)
    np.add.at(counts, (row, column), 1)
    for wrong, what in ((counts > 1, "held more than once"), (counts == 0, "missing")):
        if wrong.any():
            at = [(*pairs[i].tolist(), int(columns[j])) for i, j in np.argwhere(wrong)[:_LISTED]]
            raise ValueError(f"{wrong.sum()} sessions are {what}; first (world, user, seed): {at}.")
    each, sizes = np.unique(pairs[:, 0], return_counts=True)
    if (sizes < 2).any():
        raise ValueError(f"World {each[sizes < 2][0]} has one user; evaluate at least two a world.")
    table = np.empty(counts.shape)
    table[row, column] = values
    return Scores(table, pairs[:, 0], pairs[:, 1], columns)
