"""Intervals and comparisons over held-out users, by a bootstrap that knows what was drawn.

What is resampled, and so what an interval speaks about:

* **Users**, with replacement, within their world. Worlds are strata: each keeps its number of
  users in every resample, and an interval says nothing about worlds that were not run.
* **Training seeds**, where an agent has several: independently of the users and jointly in all
  worlds, so that every drawn user meets every drawn seed (Owen 2007, "The pigeonhole bootstrap").
  Of S seeds S - 1 are drawn, so that their variance is unbiased (Rao and Wu 1988, "Resampling
  inference with complex survey data"); drawing S would lose a fifth of it at five seeds.
* With **one seed** the interval is about that trained agent, not about training it again.

Values pool the sessions of all users and seeds; intervals are percentile intervals. Simulated, 95 %
intervals cover 93-96 % where users and sessions vary most, but only 83, 89 and 94 % with 3, 5 and
10 seeds that vary as much as single users do: report many seeds of an agent that trains unevenly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import trim_mean

_BLOCK_CELLS = 1_000_000  # counts held at a time
_LISTED = 5  # missing sessions an error names
_PLACE = ("first", "second", "third")

Statistic = Literal["mean", "iqm"]
_Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn; numbers out of range raise ValueError."""

    level: float = 0.95
    """Share of repetitions of the experiment whose interval should hold the truth."""
    resamples: int = 2000
    rng: int | np.random.Generator = 0
    """A seed, which gives the same interval every time, or the generator to draw from."""

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must be between 0 and 1, not {self.level}; 0.95 is usual.")
        if self.resamples < 100:
            raise ValueError(f"resamples must be at least 100, not {self.resamples}.")


DEFAULT = Resampling()


class RatioError(ValueError):
    """A relative comparison is asked for against something that is not above zero."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one agent earned: a row for every held-out user, a column for every training seed."""

    values: _Floats  # (users, seeds)
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
            ValueError: lengths differ, a value is not finite, a session is there twice or is
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
    scores: Scores, statistic: Statistic = "mean", how: Resampling = DEFAULT
) -> Interval:
    """Returns the mean or the interquartile mean over users, with its bootstrap interval."""
    if statistic not in ("mean", "iqm"):
        raise ValueError(f"statistic must be 'mean' or 'iqm', not {statistic!r}.")
    if statistic == "mean":
        return _interval(scores, [scores.values], lambda means: means[0], how)
    drawn = [_iqms(scores.values, *draw) for draw in _draws(scores, len(scores.seeds), how)]
    return _percentiles(iqm(scores.values), np.concatenate(drawn), how)


def paired_gain(a: Scores, b: Scores, how: Resampling = DEFAULT) -> Interval:
    """Returns the relative gain mean(a) / mean(b) - 1, both resampled together.

    Users are paired by (world, user), and seeds by seed; an agent of one seed stands against every
    seed of the other.

    Raises:
        ValueError: a session of one has no partner; the message lists the missing ones.
        RatioError: the mean of b is not above zero, or not in every resample.
    """
    return _interval(a, _paired(a, b), _gain, how)


def paired_difference(a: Scores, b: Scores, how: Resampling = DEFAULT) -> Interval:
    """Returns mean(a) - mean(b), both resampled together; for pairs see `paired_gain`."""
    pair = _paired(a, b)
    return _interval(a, [pair[0] - pair[1]], lambda means: means[0], how)


def probability_of_improvement(a: Scores, b: Scores, how: Resampling = DEFAULT) -> Interval:
    """Returns the probability that a user's session with a beats the same session with b.

    Unlike that of Agarwal et al. 2021 it is paired; a tie counts half. Errors as in `paired_gain`.
    """
    pair = _paired(a, b)
    wins = 0.5 + 0.5 * np.sign(pair[0] - pair[1])
    return _interval(a, [wins], lambda means: means[0], how)


def normalised_score(
    scores: Scores, low: Scores, high: Scores, how: Resampling = DEFAULT
) -> Interval:
    """Returns (mean - mean(low)) / (mean(high) - mean(low)): 0 is `low`, 1 is `high`.

    Raises:
        ValueError: a session of one has no partner.
        RatioError: the mean of `high` is not above that of `low`, or not in every resample.
    """
    return _interval(scores, _paired(scores, low, high), _normalised, how)


# --- pairs


def _paired(*scores: Scores) -> list[_Floats]:
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


def _check_same(kind: str, found: dict[int, set]) -> None:
    everything = set.union(*found.values())
    for i, keys in sorted(found.items()):
        if missing := sorted(everything - keys):
            what = f"{len(missing)} missing, first {missing[:_LISTED]}"
            raise ValueError(
                f"The {_PLACE[i]} agent lacks a {kind}: {what}; evaluate it there too."
            )


def _gain(means: list[_Floats]) -> _Floats:
    if (means[1] <= 0.0).any():
        raise RatioError("The mean to compare with must be above zero; use paired_difference.")
    return means[0] / means[1] - 1.0


def _normalised(means: list[_Floats]) -> _Floats:
    if (means[2] <= means[1]).any():
        raise RatioError("The mean of `high` must be above that of `low`; evaluate more users.")
    return (means[0] - means[1]) / (means[2] - means[1])


# --- resampling


def _interval(
    frame: Scores,
    values: list[_Floats],
    combine: Callable[[list[_Floats]], _Floats],
    how: Resampling,
) -> Interval:
    """What `combine` makes of the means of `values`, each (users, seeds), all resampled alike."""
    table = np.stack(values, axis=1)  # (users, values, seeds)
    value = float(combine([np.array([x.mean()]) for x in values])[0])
    drawn = []
    for users, seeds in _draws(frame, table.shape[2], how):
        sums = (users @ table.reshape(len(table), -1)).reshape(-1, *table.shape[1:])
        means = np.einsum("bvs,bs->vb", sums, seeds) / (len(table) * seeds[0].sum())
        drawn.append(combine(list(means)))
    return _percentiles(value, np.concatenate(drawn), how)


def _draws(frame: Scores, num_seeds: int, how: Resampling) -> Iterator[tuple[_Floats, _Floats]]:
    """How often each user (block, users) and each seed (block, seeds) is drawn, block by block."""
    generator = np.random.default_rng(how.rng)
    num_users = len(frame.users)
    _, starts, sizes = np.unique(frame.worlds, return_index=True, return_counts=True)
    size = max(1, _BLOCK_CELLS // (num_users * num_seeds))
    for first in range(0, how.resamples, size):
        block = min(size, how.resamples - first)
        users = [
            start + generator.integers(count, size=(block, count), dtype=np.int32)
            for start, count in zip(starts, sizes, strict=True)
        ]
        seeds = generator.integers(num_seeds, size=(block, max(1, num_seeds - 1)))
        yield _counts(np.concatenate(users, axis=1), num_users), _counts(seeds, num_seeds)


def _counts(drawn: npt.NDArray[np.integer], size: int) -> _Floats:
    """How often each of `size` indices stands in each row, (rows, size)."""
    rows = len(drawn)
    flat = (drawn + size * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(np.float64)


def _iqms(values: _Floats, users: _Floats, seeds: _Floats) -> _Floats:
    """Interquartile mean of `values`, (users, seeds), under each row of counts, (block,)."""
    order = np.argsort(values, axis=None)
    row, column = np.unravel_index(order, values.shape)
    weights = users[:, row] * seeds[:, column] if len(seeds[0]) > 1 else users[:, row]
    below = np.cumsum(weights, axis=1)
    total = below[:, -1:]
    cut = np.floor(0.25 * total)  # as scipy's trim_mean: whole sessions only
    kept = np.diff(np.clip(below, cut, total - cut), axis=1, prepend=cut)
    return (kept @ values.ravel()[order]) / (total - 2.0 * cut)[:, 0]


def _percentiles(value: float, drawn: _Floats, how: Resampling) -> Interval:
    low, high = np.quantile(drawn, [(1.0 - how.level) / 2.0, (1.0 + how.level) / 2.0])
    return Interval(float(value), float(low), float(high))


def _finite(values: npt.ArrayLike) -> _Floats:
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


def _table(values: _Floats, keys: npt.NDArray[np.int64]) -> Scores:
    """Sessions of keys (world, user, seed), (m, 3), as (users, seeds); none twice, none missing."""
    pairs, row = np.unique(keys[:, :2], axis=0, return_inverse=True)
    columns, column = np.unique(keys[:, 2], return_inverse=True)
    counts = np.zeros((len(pairs), len(columns)), np.int64)
    np.add.at(counts, (row, column), 1)
    for wrong, what in ((counts > 1, "there more than once"), (counts == 0, "missing")):
        if wrong.any():
            at = [(*pairs[i].tolist(), int(columns[j])) for i, j in np.argwhere(wrong)[:_LISTED]]
            raise ValueError(f"{wrong.sum()} sessions are {what}; first (world, user, seed): {at}.")
    each, sizes = np.unique(pairs[:, 0], return_counts=True)
    if (sizes < 2).any():
        raise ValueError(f"World {each[sizes < 2][0]} has one user; evaluate at least two a world.")
    table = np.empty(counts.shape)
    table[row, column] = values
    return Scores(table, pairs[:, 0], pairs[:, 1], columns)
