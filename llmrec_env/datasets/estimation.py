"""Estimates of a world's parameters from logs: population, popularity, spread of interests.

With n_i the users who consumed item i, m_i those who were shown it (where the logs tell), p the
rate of all items, and S the share of pairs of a user's latest items that are of one topic:

    num_users         users of the logs, 20 to 10,000
    topic shares      (1 + consumed of the topic) / (topics + consumed)
    popularity        l_i = ln (n_i + 1/2) / (m_i p + 1/2), with variance v_i = 1 / (n_i + 1/2)
    choice_quality    b = sqrt max(var l - mean v, 0)
    quality           (l_i - mean l) b^2 / (b^2 + v_i), standardised
    satisfaction_quality   slope of an item's log-odds of satisfaction on quality, weighted by n_i
    active_min, active_max: .2 and .8 quantiles over users of the n at which S = E sum omega^2,
        omega the relative weights of n interests with log-weights N(0, base_sd^2)

Without shown items m_i is the same for all: then popularity holds what the service showed, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.datasets.records import BROWSE, Records

_FEWEST_USERS, _MOST_USERS = 20, 10_000
_LATEST = 30  # items of a user: about a session, in which interests hardly drift
_LEAST_ITEMS, _LEAST_USERS = 10, 10
_MOST_ACTIVE, _DRAWS = 6, 20_000
_LARGEST = 5.0  # of the parameters of quality

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimates:
    """What logs tell of a world."""

    parameters: dict[str, float]
    """Fields of `EnvConfig`."""
    quality: Floats
    """Standardised, (N,)."""
    topic_share: Floats
    """(topics,)."""
    notes: list[str] = field(default_factory=list)
    """What was not estimated, and why."""


def estimate(records: Records, topics: npt.NDArray[np.integer], threshold: float) -> Estimates:
    """Returns the estimates of clean records whose items are numbered as in the catalogue.

    Args:
        records: clean.
        topics: of the items of the catalogue, (N,).
        threshold: ratings from there on are satisfied.
    """
    user, item, satisfied = records.clicks(threshold)
    num_items, num_topics = len(topics), int(topics.max()) + 1
    notes: list[str] = []
    consumed = _distinct(user, item, num_items)
    shown = records.event == BROWSE
    exposed = None
    if shown.any():
        users = np.concatenate([user, records.user[shown]])
        exposed = _distinct(users, np.concatenate([item, records.item[shown]]), num_items)
    else:
        notes.append("popularity includes what the service showed: no record says what was shown")
    choice, quality = _popularity(consumed, exposed)
    share = 1.0 + np.bincount(topics, consumed, num_topics)
    parameters: dict[str, float] = {
        "num_users": min(max(len(np.unique(user)), _FEWEST_USERS), _MOST_USERS),
        "choice_quality": round(choice, 3),
    }
    if 0 < satisfied.sum() < len(satisfied):
        slope = _satisfaction_slope(item, satisfied, quality)
        parameters["satisfaction_quality"] = round(slope, 3)
    else:
        notes.append("satisfaction_quality keeps its default: all outcomes are alike")
    spread = _active_interests(*_latest(records), topics)
    parameters |= spread
    if not spread:
        notes.append(
            f"active_min and active_max keep their defaults: fewer than {_LEAST_USERS} users "
            f"consumed {_LEAST_ITEMS} items"
        )
    return Estimates(parameters, quality, share / share.sum(), notes)


def _distinct(user: Ids, item: Ids, num_items: int) -> Floats:
    """Users by item, (N,)."""
    pairs = np.unique(user * num_items + item)
    return np.bincount(pairs % num_items, minlength=num_items).astype(np.float64)


def _popularity(consumed: Floats, exposed: Floats | None) -> tuple[float, Floats]:
    """The spread of popularity [logit], and the standardised quality of every item, (N,)."""
    if exposed is None:
        exposed = np.full(len(consumed), max(consumed.sum(), 1.0))
    rate = consumed.sum() / max(exposed.sum(), 1.0)
    popularity = np.log((consumed + 0.5) / (exposed * rate + 0.5))
    noise = 1.0 / (consumed + 0.5)
    variance = max(float(popularity.var() - noise.mean()), 0.0)
    shrunk = (popularity - popularity.mean()) * variance / (variance + noise)
    quality = (shrunk - shrunk.mean()) / max(float(shrunk.std()), 1e-9)
    return min(variance**0.5, _LARGEST), quality


def _satisfaction_slope(item: Ids, satisfied: Ids, quality: Floats) -> float:
    """Log-odds of satisfaction per unit of quality, by weighted least squares, 0 to 5."""
    count = np.bincount(item, minlength=len(quality))
    good = np.bincount(item, satisfied, len(quality))
    odds = np.log((good + 0.5) / (count - good + 0.5))
    x = quality - np.average(quality, weights=count)
    slope = float((count * x * odds).sum() / max((count * x * x).sum(), 1e-9))
    return min(max(slope, 0.0), _LARGEST)


def _latest(records: Records) -> tuple[Ids, Ids]:
    """User and item of the latest items that each user consumed, each once."""
    rows = np.flatnonzero(records.event != BROWSE)
    time = np.arange(len(records)) if records.timestamp is None else records.timestamp
    rows = rows[np.lexsort((time[rows], records.user[rows]))]
    pair = records.user[rows] * (int(records.item.max()) + 1) + records.item[rows]
    rows = rows[np.sort(np.unique(pair, return_index=True)[1])]
    user, item = records.user[rows], records.item[rows]
    from_end = np.searchsorted(user, user, side="right") - np.arange(len(user))
    return user[from_end <= _LATEST], item[from_end <= _LATEST]


def _active_interests(user: Ids, item: Ids, topics: npt.NDArray[np.integer]) -> dict[str, float]:
    """The fields of how many interests users have at once; none where too little is known."""
    num_topics, num_users = int(topics.max()) + 1, int(user.max(initial=-1)) + 1
    pairs = user * num_topics + topics[item]
    counts = np.bincount(pairs, minlength=num_users * num_topics).reshape(num_users, num_topics)
    n = counts.sum(axis=1)
    enough = n >= _LEAST_ITEMS
    if enough.sum() < _LEAST_USERS:
        return {}
    counts, n = counts[enough], n[enough]
    concentration = (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))  # unbiased for sum omega^2
    expected = _expected_concentration(EnvConfig().base_sd)
    active = 1 + np.abs(concentration[:, None] - expected).argmin(axis=1)
    low, high = np.quantile(active, (0.2, 0.8), method="nearest")
    return {"active_min": int(low), "active_max": int(high)}


def _expected_concentration(base_sd: float) -> Floats:
    """E sum omega^2 of 1 to 6 interests, omega being shares that add up to 1, (6,)."""
    weight = np.exp(base_sd * np.random.default_rng(0).standard_normal((_DRAWS, _MOST_ACTIVE)))
    share = [weight[:, :n] / weight[:, :n].sum(axis=1, keepdims=True) for n in range(1, 7)]
    return np.array([(part**2).sum(axis=1).mean() for part in share])
