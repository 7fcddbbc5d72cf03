"""Metrics of slates, sessions and rankings: pure functions of ids, rewards, scores and vectors.

Axes written `...` are kept. Ids are integers, -1 for none. What is not defined, as the diversity of
one item, is NaN: average with `np.nanmean`, and say over how many. Arguments that do not fit raise
ValueError. Sources: intra-list diversity, Ziegler et al. 2005; effective topics (the Hill number of
order 1), Jost 2006; coverage, Ge et al. 2010; Gini index of exposure, Fleder and Hosanagar 2009;
novelty, Zhou et al. 2010; preference shift, Carroll et al. 2022; discounted gain, Järvelin and
Kekäläinen 2002; its ties, McSherry and Najork 2008. The AUC is scikit-learn's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]
_Ids = NDArray[np.int64]


class AdaptationCurve(NamedTuple):
    """Rewards by the number of steps since the latest switch."""

    reward: _Floats  # (max_lag + 1,), mean, NaN where counts are 0
    counts: _Ids  # (max_lag + 1,), rewards averaged


class InterestChange(NamedTuple):
    """How many interests each user gained and lost."""

    discovered: _Ids  # (...), active at the end, not at the start
    lost: _Ids  # (...), active at the start, not at the end


def intra_list_diversity(slate: ArrayLike) -> _Floats:
    """Returns 1 - the mean cosine between two items of a slate, (...), from 0 to k / (k - 1).

    The slate holds item vectors of any length, (..., k, d); one item or a zero vector gives NaN.
    """
    units = _units(_numbers("slate", slate, axes=2))
    k, total = units.shape[-2], units.sum(axis=-2)
    cosines = np.vecdot(total, total) - k  # summed over the k (k - 1) ordered pairs
    return (
        np.maximum(1.0 - cosines / (k * (k - 1)), 0.0) if k > 1 else np.full_like(cosines, np.nan)
    )


def effective_topics(topics: ArrayLike) -> _Floats:
    """Returns exp(entropy) of the topics each user consumed, (n,): 3.0 for three in equal parts.

    Topic ids come in any order, (n, T); a user who consumed nothing gets NaN.
    """
    ids = _ids("topics", topics)
    if ids.ndim != 2:
        raise ValueError(f"topics has shape {ids.shape}; pass one row a user, (n, T).")
    user, step = np.nonzero(ids >= 0)
    pairs, count = np.unique(np.stack([user, ids[user, step]]), axis=1, return_counts=True)
    total = np.bincount(user, minlength=len(ids))
    share = count / total[pairs[0]]
    entropy = np.bincount(pairs[0], weights=-share * np.log(share), minlength=len(ids))
    return np.where(total > 0, np.exp(entropy), np.nan)


def exposure(items: ArrayLike, num_items: int) -> _Ids:
    """Returns how often each item of the catalogue occurs in `items`, (num_items,)."""
    _check("num_items", num_items, 1)
    ids = _ids("items", items, num_items)
    return np.bincount(ids[ids >= 0], minlength=num_items)


def coverage(items: ArrayLike, num_items: int) -> float:
    """Returns the share of the catalogue, 0 to 1, that occurs in `items`, ids of any shape."""
    return float(np.mean(exposure(items, num_items) > 0))


def gini(counts: ArrayLike) -> float:
    """Returns how unequal exposure is: 0 all alike, 1 - 1/m all on one of m items; NaN if all 0.

    Counts, (m,), are 0 for the items never shown; `exposure` gives them.
    """
    ranked = np.sort(_numbers("counts", counts, least=0.0), axis=None)
    m = len(ranked)
    return float(_ratio(np.arange(1 - m, m, 2) @ ranked, m * ranked.sum()))


def novelty(items: ArrayLike, popularity: ArrayLike) -> _Floats:
    """Returns the mean self-information -log2 p of item ids (..., T), (...), bits; NaN for none.

    Popularity is the probability p that an item is consumed, (items,), in (0, 1].
    """
    probability = _numbers("popularity", popularity)
    ids = _ids("items", items, len(probability))
    chosen = np.where(ids >= 0, probability[ids], 1.0)
    bad = chosen[(chosen <= 0.0) | (chosen > 1.0)]
    if bad.size:
        raise ValueError(f"popularity is {bad[0]:g}; pass (0, 1]: (count + 1) / (total + items).")
    return _ratio(np.abs(np.log2(chosen)).sum(axis=-1), (ids >= 0).sum(axis=-1))


def tracking_error(u: ArrayLike, v: ArrayLike) -> _Floats:
    """Returns the angle between true interests u and estimates v, (...), 0 to 180 degrees.

    Both (..., d) and of any length; a zero vector points nowhere and gives NaN.
    """
    return _angle(*_pair(u=u, v=v))


def preference_shift(u_end: ArrayLike, u_end_null: ArrayLike) -> _Floats:
    """Returns how far an agent turned interests, (...), degrees: beyond what they do by themselves.

    Interests, (..., d), of the same users at the same step of sessions with the same seed: under
    the agent, and under the null policy. A zero vector gives NaN.
    """
    return _angle(*_pair(u_end=u_end, u_end_null=u_end_null))


def discovered_and_lost(start: ArrayLike, end: ArrayLike) -> InterestChange:
    """Returns how many interests are new at the end, and how many of the start are gone.

    Phrase ids of the active interests, (..., p) and (..., q), -1 for other slots. A refined phrase
    is another phrase: one lost, one discovered. A dormant interest that woke is discovered, unless
    `start` holds the dormant ones too.
    """
    before, after = _ids("start", start), _ids("end", end)
    if not before.ndim or not after.ndim or before.shape[:-1] != after.shape[:-1]:
        raise ValueError(f"start has shape {before.shape}, end {after.shape}; pass one row a user.")
    return InterestChange(discovered=_newly(after, before), lost=_newly(before, after))


def adaptation_curve(
    reward: ArrayLike, switched: ArrayLike, alive: ArrayLike, max_lag: int = 30
) -> AdaptationCurve:
    """Returns the mean reward 0 to `max_lag` steps after the latest switch of the same user.

    Users change after they respond: lag 0 is the last reward before the change, lag 1 the first
    after it. The next switch begins again at lag 0. Means are over users who are still there, so
    look at the counts; with `alive` all true and rewards 0 after the end, all users count.

    Args:
        reward: of each step, or anything else measured a step, (n, T).
        switched: whether an interest died in the step, `info["died"] >= 0`, bool, (n, T).
        alive: whether the session still ran, bool, (n, T); other steps are not read.
        max_lag: steps, 0 or more.
    """
    _check("max_lag", max_lag, 0)
    values = np.asarray(reward, np.float64)
    switches, steps = np.asarray(switched), np.asarray(alive)
    for name, mask in (("switched", switches), ("alive", steps)):
        if values.ndim != 2 or mask.shape != values.shape or mask.dtype != np.bool_:
            problem = f"{name} is {mask.dtype} {mask.shape}, reward has shape {values.shape}"
            raise ValueError(f"{problem}; pass all as (n, T), {name} as bool.")
    step = np.arange(values.shape[1])
    latest = np.maximum.accumulate(np.where(switches & steps, step, -1), axis=1)
    recent = steps & (latest >= 0) & (step - latest <= max_lag)
    lag = (step - latest)[recent]
    count = np.bincount(lag, minlength=max_lag + 1)
    total = np.bincount(lag, weights=values[recent], minlength=max_lag + 1)
    return AdaptationCurve(_ratio(total, count), count)


def regret(returns: ArrayLike, oracle_returns: ArrayLike) -> _Floats:
    """Returns the oracle's return minus the agent's, (...): both of the same sessions in order."""
    own, oracle = _pair(axes=0, returns=returns, oracle_returns=oracle_returns)
    return oracle - own


def recall_ceiling(candidates: ArrayLike, catalogue: ArrayLike, k: int = 1) -> _Floats:
    """Returns the share of the best slate's relevance that the candidates allow, (...), 0 to 1.

    Relevance, 0 or more, of the candidates, (..., c), and of all items, (..., m), of which they
    are part; k items make a slate. NaN where no item is relevant.
    """
    offered = _numbers("candidates", candidates, least=0.0)
    items = _numbers("catalogue", catalogue, least=0.0)
    if offered.shape[:-1] != items.shape[:-1] or offered.shape[-1] > items.shape[-1]:
        problem = f"candidates has shape {offered.shape}, catalogue {items.shape}"
        raise ValueError(f"{problem}; pass (..., c) and (..., m), c <= m.")
    _check("k", k, 1, offered.shape[-1])
    best, possible = (np.sort(x, axis=-1)[..., -k:].sum(axis=-1) for x in (offered, items))
    return _ratio(np.minimum(best, possible), possible)


def discounted_gain(gains: ArrayLike) -> _Floats:
    """Returns the sum of gain / log2(rank + 1), (...), of gains in the order shown, (..., k)."""
    values = _numbers("gains", gains)
    return np.vecdot(values, 1.0 / np.log2(np.arange(2, values.shape[-1] + 2)))


def ndcg_at_k(scores: ArrayLike, relevant: ArrayLike, k: int, missing: ArrayLike = 0) -> _Floats:
    """Returns the discounted gain of the k best-scored items over the best possible, (...), 0 to 1.

    Tied items count by their mean over all orders. NaN where nothing is relevant.

    Args:
        scores: of the items, (..., m), higher is better; -inf is allowed, NaN is not.
        relevant: whether each item is relevant, (..., m), bool or 0 and 1.
        k: length of the list, 1 to m.
        missing: number of relevant items without a score, as not recalled, (...).
    """
    gains, total = _expected_gains(scores, relevant, k, missing)
    ideal = np.arange(k) < total[..., None]
    return _ratio(discounted_gain(gains[..., :k]), discounted_gain(ideal))


def recall_at_k(scores: ArrayLike, relevant: ArrayLike, k: int, missing: ArrayLike = 0) -> _Floats:
    """Returns the share of all relevant items among the k best, (...); arguments: `ndcg_at_k`."""
    gains, total = _expected_gains(scores, relevant, k, missing)
    return _ratio(gains[..., :k].sum(axis=-1), total)


def _expected_gains(
    scores: ArrayLike, relevant: ArrayLike, k: int, missing: ArrayLike
) -> tuple[_Floats, _Ids]:
    """The relevance to expect at each rank, (..., m), and how many items are relevant, (...)."""
    values, positive = np.asarray(scores, np.float64), np.asarray(relevant)
    if not values.ndim or not values.shape[-1] or np.isnan(values).any():
        raise ValueError(f"scores {values.shape} is empty or holds NaN; pass numbers, (..., m).")
    if positive.shape != values.shape or not np.isin(positive, (0, 1)).all():
        raise ValueError(f"relevant {positive.shape} must be 0 or 1 for each of {values.shape}.")
    _check("k", k, 1, values.shape[-1])
    order = np.argsort(-values, axis=-1)
    ranked, gain = (np.take_along_axis(x, order, axis=-1) for x in (values, positive))
    first = np.ones(values.shape, np.bool_)  # of its ties
    first[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
    tie = np.cumsum(first) - 1
    mean = np.bincount(tie, weights=gain.ravel()) / np.bincount(tie)
    total = positive.sum(axis=-1, dtype=np.int64) + _ids("missing", missing, least=0)
    return mean[tie].reshape(values.shape), total


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        limit = "or more" if most is None else f"to {most}, the number of items"
        raise ValueError(f"{name}={value}; pass {least} {limit}.")


def _numbers(name: str, values: ArrayLike, axes: int = 1, least: float = -np.inf) -> _Floats:
    array = np.asarray(values, np.float64)
    if array.ndim < axes or 0 in array.shape[array.ndim - axes :] or not np.isfinite(array).all():
        problem = f"{name} has shape {array.shape}"
        raise ValueError(f"{problem}; pass finite numbers on {axes} or more axes, none empty.")
    if array.min(initial=np.inf) < least:
        raise ValueError(f"{name} holds {array.min():g}; pass {least:g} or more.")
    return array


def _pair(axes: int = 1, **named: ArrayLike) -> tuple[_Floats, _Floats]:
    one, two = (_numbers(name, values, axes) for name, values in named.items())
    if one.shape != two.shape:
        names = " and ".join(named)
        raise ValueError(f"{names} have shapes {one.shape} and {two.shape}; pass the same users.")
    return one, two


def _ids(name: str, values: ArrayLike, num: int | None = None, least: int = -1) -> _Ids:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}; pass integers of {least} or more.")
    bad = array[(array < least) | (num is not None and array >= num)]
    if bad.size:
        limit = "or more" if num is None else f"to {num - 1}"
        raise ValueError(f"{name} holds {bad[0]}; pass {least} {limit}.")
    return array.astype(np.int64)


def _newly(ids: _Ids, others: _Ids) -> _Ids:
    """How many distinct ids are not among the others, (...)."""
    known = (ids[..., :, None] == others[..., None, :]).any(axis=-1)
    again = np.tril(ids[..., :, None] == ids[..., None, :], k=-1).any(axis=-1)
    return ((ids >= 0) & ~known & ~again).sum(axis=-1)


def _units(vectors: _Floats) -> _Floats:
    """The vectors at length 1; largest number first, so that no square over- or underflows."""
    with np.errstate(invalid="ignore"):  # zero vectors become NaN
        scaled = vectors / np.abs(vectors).max(axis=-1, keepdims=True)
        return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def _angle(one: _Floats, two: _Floats) -> _Floats:
    """Degrees; unlike the arccos of a cosine exact near 0 and 180 (Kahan)."""
    a, b = _units(one), _units(two)
    half = np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.degrees(2.0 * half)


def _ratio(above: NDArray[np.generic], below: NDArray[np.generic]) -> _Floats:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return np.true_divide(above, below)
