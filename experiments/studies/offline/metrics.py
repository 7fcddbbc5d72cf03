"""Ranking metrics of the study of logs: each user's NDCG, recall and AUC on later records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from llmrec_env import metrics
from llmrec_env.datasets import Records

K = 10
METRICS = (f"ndcg@{K}", f"recall@{K}", "auc")
_KEPT = 8 * K  # items of each user that a metric of the K best looks at

Floats = npt.NDArray[np.float64]
Values = dict[str, Floats]
"""Metrics by name, (users who like something), and `user`, their numbers."""


def user_values(
    scores: Floats,
    train: Records,
    test: Records,
    threshold: float,
    among: npt.NDArray[np.bool_] | None = None,
    wanted: Sequence[str] = METRICS,
) -> Values:
    """Returns metrics of each user who likes something in the test that was not met before.

    Args:
        scores: of all items, (users, items).
        train: what users have met.
        test: what they like later.
        threshold: ratings from there on are liked.
        among: items that are candidates, (items,); None: all.
        wanted: names of METRICS.
    """
    relevant = np.zeros(scores.shape, np.bool_)
    user, item, satisfied = test.clicks(threshold)
    relevant[user[satisfied == 1], item[satisfied == 1]] = True
    hidden = np.zeros(scores.shape, np.bool_)
    hidden[train.user, train.item] = True
    if among is not None:
        hidden |= ~among
    relevant &= ~hidden
    some = np.flatnonzero(relevant.any(axis=1))
    ranked = np.where(hidden, -np.inf, scores)[some]
    values = {"user": some.astype(np.float64)}
    if METRICS[0] in wanted:
        values[METRICS[0]] = _at_k(metrics.ndcg_at_k, ranked, relevant[some])
    if METRICS[1] in wanted:
        values[METRICS[1]] = _at_k(metrics.recall_at_k, ranked, relevant[some])
    if METRICS[2] in wanted:
        rows = [
            roc_auc_score(relevant[row, ~hidden[row]], scores[row, ~hidden[row]]) for row in some
        ]
        values[METRICS[2]] = np.array(rows)
    return values


def _at_k(metric: Callable[..., Floats], ranked: Floats, relevant: npt.NDArray[Any]) -> Floats:
    """A metric of the K best, (n,), by the best items alone where no tie reaches beyond them."""
    if ranked.shape[1] <= _KEPT:
        return metric(ranked, relevant, K)
    best = np.argpartition(-ranked, _KEPT, axis=1)[:, :_KEPT]
    scores, gains = (np.take_along_axis(x, best, axis=1) for x in (ranked, relevant))
    values = metric(scores, gains, K, relevant.sum(axis=1) - gains.sum(axis=1))
    ordered = np.sort(scores, axis=1)
    tied = ordered[:, 0] == ordered[:, -K]
    if tied.any():
        values[tied] = metric(ranked[tied], relevant[tied], K)
    return values
