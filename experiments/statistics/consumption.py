"""What timestamped logs say of their users: how interests move, concentration, popularity, taste.

The same code reads real logs and the simulator's. The clock is a user's consumption: lag 5 is five
items later. Every number is a function of sums over users, which are resampled for intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import svds

from experiments.statistics.resampling import (
    DEFAULT,
    Interval,
    Resampling,
    draw_counts,
    percentiles,
)

BANDS = ((1, 2), (3, 6), (7, 12), (13, 24), (25, 40))
"""Lags, first to last, over which likeness is averaged; those shorter than the logs."""
BLOCK = 10
"""Items of which the leading topic is counted."""
RANK = 8
"""Collaborative factors."""
HELD_OUT = 0.2
"""Latest share of a user's items, which factors and texts are to tell from others."""
LEAST_USERS = 20
_DRAW = 47

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Sums = dict[str, Floats]
"""Sums of each user, (U, ...); `counts` (U, N) and `likeness` (U, U) are taken as they are."""


@dataclass(frozen=True)
class Consumption:
    """The latest items of users who consumed at least so many, oldest first."""

    items: Ids
    """(U, M), no item twice of a user."""
    satisfied: npt.NDArray[np.bool_]
    """(U, M)."""
    activity: Floats
    """Items that each of all users consumed, those with fewer than M included, (users,)."""


def latest(
    user: Ids, item: Ids, satisfied: npt.NDArray[Any], length: int, most_users: int = 0
) -> Consumption:
    """Returns the latest `length` different items of each user who consumed as many.

    Args:
        user: of each consumption, in the order of user and time, (m,).
        item: likewise, (m,).
        satisfied: likewise, 0 or 1, (m,).
        length: M, at least two blocks.
        most_users: users to keep, the first ones; 0: all.

    Raises:
        ValueError: a length out of range, or fewer than 20 users consumed as many.
    """
    if length < 2 * BLOCK:
        raise ValueError(f"length={length} is out of range; give {2 * BLOCK} or more.")
    pair = user * (int(item.max(initial=0)) + 1) + item
    first = np.sort(np.unique(pair, return_index=True)[1])
    user, item, satisfied = user[first], item[first], satisfied[first]
    count = np.bincount(user)
    from_end = np.searchsorted(user, user, side="right") - np.arange(len(user))
    rows = (from_end <= length) & (count[user] >= length)
    items = item[rows].reshape(-1, length)[: most_users or None]
    if len(items) < LEAST_USERS:
        raise ValueError(
            f"{len(items)} users consumed length={length} items; {LEAST_USERS} are needed: lower "
            "length, or give more logs."
        )
    liked = satisfied[rows].reshape(-1, length)[: len(items)] == 1
    return Consumption(items, liked, count[count > 0].astype(np.float64))


def measured(
    consumption: Consumption,
    vectors: npt.NDArray[np.floating],
    topics: npt.NDArray[np.integer],
    resampling: Resampling = DEFAULT,
) -> dict[str, Interval]:
    """Returns every statistic with its interval over users.

    Intervals are percentile intervals less the bias of resampling, by which users drawn twice
    make popularity more unequal than it is.

    Args:
        consumption: of U users.
        vectors: of the items, unit rows, (N, d).
        topics: of the items, (N,).
        resampling: of the users.
    """
    sums = sums_of(consumption, vectors, topics)
    users = len(consumption.items)
    value = statistics_of(sums, np.ones((1, users)))
    drawn: dict[str, list[Floats]] = {name: [] for name in value}
    for counts, _ in draw_counts(np.zeros(users, np.int64), 1, resampling):
        for name, values in statistics_of(sums, counts).items():
            drawn[name].append(values)
    intervals = {}
    for name, parts in drawn.items():
        values, middle = np.concatenate(parts), float(value[name][0])
        ends = percentiles(values, resampling) - values.mean() + middle
        intervals[name] = Interval(middle, *ends.tolist())
    return intervals | {"activity (Gini)": _of_activity(consumption.activity, resampling)}


def sums_of(
    consumption: Consumption,
    vectors: npt.NDArray[np.floating],
    topics: npt.NDArray[np.integer],
) -> Sums:
    """Returns what the statistics are functions of, by name; see `Sums`."""
    items = consumption.items
    rows = np.asarray(vectors, np.float64)[items]  # (U, M, d)
    total = rows.mean(axis=1)
    likeness = total @ total.T
    np.fill_diagonal(likeness, 0.0)
    counts = np.zeros((len(items), len(topics)))
    counts[np.arange(len(items))[:, None], items] = 1.0
    return {
        "counts": counts,
        "likeness": likeness,
        "bands": _by_lag(rows),
        "topics": _of_topics(topics[items]),
        "satisfied": consumption.satisfied.mean(axis=1),
        "clicks tell": _told(_factor_scores(items, len(topics)), items),
        "texts tell": _told(_text_scores(items, np.asarray(vectors, np.float64)), items),
    }


def statistics_of(sums: Sums, counts: Floats) -> dict[str, Floats]:
    """Returns every statistic of each resample, (B,).

    Args:
        sums: of U users.
        counts: how often each user is drawn, (B, U).
    """
    users = counts.sum(axis=1)
    pairs = users**2 - (counts**2).sum(axis=1)
    base = np.vecdot(counts @ sums["likeness"], counts) / np.maximum(pairs, 1.0)
    bands = (counts @ sums["bands"]) / users[:, None] - base[:, None]
    long_run, short_run, changes = ((counts @ sums["topics"]) / users[:, None]).T
    statistics = {"likeness of neighbours": bands[:, 0]}
    for (low, high), band in zip(BANDS[1:], bands.T[1:], strict=False):
        statistics[f"autocorrelation at lag {low}-{high}"] = band / bands[:, 0]
    statistics |= {
        "concentration, all items": long_run,
        f"concentration in {BLOCK}": short_run,
        "leading topic changes": changes,
        **_of_popularity(counts @ sums["counts"]),
        "satisfaction rate": (counts @ sums["satisfied"]) / users,
    }
    for name in ("clicks tell", "texts tell"):
        statistics[f"{name} (R²)"] = _squared_correlation(counts @ sums[name])
    return statistics


def _by_lag(rows: Floats) -> Floats:
    """Mean cosine of two items of a user by lag, (U, bands)."""
    cosines = rows @ rows.transpose(0, 2, 1)
    step = np.arange(rows.shape[1])
    lag = step - step[:, None]
    return np.stack(
        [
            cosines[:, (lag >= low) & (lag <= high)].mean(axis=1)
            for low, high in BANDS
            if high < rows.shape[1]
        ],
        axis=1,
    )


def _of_topics(topics: npt.NDArray[np.integer]) -> Floats:
    """Share of pairs of one topic, over all items and in blocks, and of changed leaders, (U, 3)."""
    same = topics[:, :, None] == topics[:, None, :]
    m = topics.shape[1]
    block = np.arange(m) // BLOCK
    near = (block[:, None] == block) & ~np.eye(m, dtype=bool)
    long_run = (same.sum(axis=(1, 2)) - m) / (m * (m - 1))
    blocks = topics[:, : m // BLOCK * BLOCK].reshape(len(topics), -1, BLOCK)
    count = (blocks[..., None] == np.arange(topics.max() + 1)).sum(axis=2)
    leader = count.argmax(axis=2)
    changes = (leader[:, 1:] != leader[:, :-1]).mean(axis=1)
    return np.column_stack([long_run, same[:, near].mean(axis=1), changes])


def _of_popularity(consumed: Floats) -> dict[str, Floats]:
    """Inequality of items in each resample, (B, N)."""
    ranked = np.sort(consumed, axis=1)
    top = max(ranked.shape[1] // 100, 1)
    share = ranked[:, -top:].sum(axis=1) / ranked.sum(axis=1)
    return {"popularity (Gini)": _gini(ranked), "popularity, top 1 %": share}


def _of_activity(activity: Floats, resampling: Resampling) -> Interval:
    rng = np.random.default_rng(_DRAW)
    drawn = rng.choice(activity, (resampling.resamples, len(activity)))
    ends = percentiles(_gini(np.sort(drawn, axis=1)), resampling)
    return Interval(float(_gini(np.sort(activity))), *ends.tolist())


def _gini(ranked: Floats) -> Floats:
    """Of rising counts, (..., n); as `metrics.gini`, of many rows at once."""
    n = ranked.shape[-1]
    return ranked @ np.arange(1 - n, n, 2) / (n * ranked.sum(axis=-1))


def _known(items: Ids) -> int:
    return items.shape[1] - max(int(HELD_OUT * items.shape[1]), 1)


def _factor_scores(items: Ids, num_items: int) -> Callable[[Ids], Floats]:
    """Scores of collaborative factors of the earlier items, (U, c) of items (U, c)."""
    known = items[:, : _known(items)]
    row = np.repeat(np.arange(len(items)), known.shape[1])
    matrix = sparse.csr_matrix((np.ones(row.size), (row, known.ravel())), (len(items), num_items))
    count = np.asarray(matrix.sum(axis=0)).ravel()
    weight = (count + count.mean()) ** -0.5
    scaled = matrix @ sparse.diags(weight)
    start = np.ones(min(len(items), num_items))  # not drawn: the same factors each time
    left, size, right = svds(scaled, RANK, v0=start)
    users, factors = np.asarray(left) * size, np.asarray(right).T / weight[:, None]
    expected = np.outer(np.ones(len(items)), count / len(items))
    return lambda chosen: (
        np.einsum("ur,ucr->uc", users, factors[chosen]) - np.take_along_axis(expected, chosen, 1)
    )


def _text_scores(items: Ids, vectors: Floats) -> Callable[[Ids], Floats]:
    """Cosines to the mean of the earlier items, (U, c) of items (U, c)."""
    mean = vectors[items[:, : _known(items)]].mean(axis=1)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    return lambda chosen: np.einsum("ud,ucd->uc", mean, vectors[chosen])


def _told(scores: Callable[[Ids], Floats], items: Ids) -> Floats:
    """Sums over what a user held out and as many items that others held out, (U, 5).

    Of one, label, score, its square, and its product with the label. As others' items are drawn
    from what was held out, both are equally popular; what the user consumed is none of them.
    """
    held_out = items[:, _known(items) :]
    others = np.random.default_rng(_DRAW).permutation(held_out.ravel()).reshape(held_out.shape)
    is_other = ~(others[:, :, None] == items[:, None, :]).any(axis=2)
    score = np.concatenate([scores(held_out), scores(others)], axis=1)
    valid = np.concatenate([np.ones_like(is_other), is_other], axis=1)
    label = np.where(np.arange(score.shape[1]) < held_out.shape[1], 1.0, -1.0)
    parts = np.stack([np.ones_like(score), label + 0.0 * score, score, score**2, score * label])
    return (parts * valid).sum(axis=2).T


def _squared_correlation(sums: Floats) -> Floats:
    """R² of a label of ±1 regressed on a score, (B,), from sums (B, 5)."""
    n, label, score, square, product = sums.T
    covariance = product / n - score * label / n**2
    variance = (square / n - (score / n) ** 2) * (1.0 - (label / n) ** 2)
    return covariance**2 / np.maximum(variance, 1e-12)


def distances(
    real: Mapping[str, Interval], simulated: Mapping[str, Any], tolerance: float = 0.02
) -> dict[str, float]:
    """Returns simulated - real of each statistic, in standard errors of the real one.

    Args:
        real: with intervals, whose half width is 1.96 standard errors.
        simulated: by name, numbers or intervals.
        tolerance: relative, of the real value, added in quadrature: closer is not asked for.
    """
    result = {}
    for name, interval in real.items():
        if name not in simulated:
            continue
        other = simulated[name]
        value = other.value if isinstance(other, Interval) else float(other)
        error = np.hypot(
            (interval.high - interval.low) / (2.0 * 1.96), tolerance * abs(interval.value)
        )
        result[name] = float((value - interval.value) / max(error, 1e-9))
    return result
