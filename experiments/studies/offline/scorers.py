"""Recommenders of the study of logs: each learns from records and scores all items for users."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.dataset import UNSATISFIED_WEIGHT, Dataset
from agents.joint.without_slates import without_slates
from agents.neural.next_item import TwoTower
from agents.neural.sasrec import SelfAttentive
from agents.rankers.als import alternating_least_squares, solve_factors
from agents.rankers.ease_text import EaseText
from agents.rankers.history_ranker import HistoryRanker, consumption
from agents.rankers.item_models import Ease, ItemNeighbours
from llmrec_env.datasets import Records
from llmrec_env.text_space import TextSpace

Floats = npt.NDArray[np.float64]
Scorer = Callable[[Records], Floats]
"""Scores of all items for users by their records, (users, items)."""
_HISTORY = 128  # items of a user that rankers by history see


@dataclass(frozen=True)
class Learnt:
    """What recommenders learn from."""

    records: Records
    texts: TextSpace
    threshold: float
    seed: int
    fitted: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)
    """The last agent learnt from them, for settings that change nothing but how it acts."""

    def interactions(self, records: Records) -> Dataset:
        """Returns what the users of some records consumed, by time.

        Raises:
            ValueError: a user has no record.
        """
        assert records.timestamp is not None  # split_by_time needs it
        order = np.lexsort((records.timestamp, records.user))
        user, item, satisfied = records.take(order).clicks(self.threshold)
        weights = np.where(satisfied == 1, 1.0, UNSATISFIED_WEIGHT)
        data = Dataset.from_columns(
            user, item, weights, np.arange(len(user)), len(records.item_ids)
        )
        if data.num_users != len(records.user_ids):
            raise ValueError("some users have no record to learn from; lower test_share.")
        return data


def of_users(records: Records, users: npt.NDArray[np.int64]) -> Records:
    """Returns the records of some users, who are numbered by their place among them.

    Args:
        records: of them and others.
        users: their numbers, ascending.
    """
    own = records.take(np.isin(records.user, users))
    ids = tuple(records.user_ids[user] for user in users)
    return dataclasses.replace(own, user=np.searchsorted(users, own.user), user_ids=ids)


# --- recommenders


def _popular(learnt: Learnt) -> Scorer:
    popularity = learnt.interactions(learnt.records).popularity().astype(np.float64)
    return lambda records: np.tile(popularity, (len(records.user_ids), 1))


def _content(learnt: Learnt, decay: float = 0.95, popular: float = 0.5) -> Scorer:
    """The mean of the texts consumed, and popularity."""
    vectors = learnt.texts.catalog.vectors
    assert vectors is not None  # its texts are encoded
    popularity = learnt.interactions(learnt.records).popularity()

    def scores(records: Records) -> Floats:
        past = learnt.interactions(records).histories(_HISTORY)
        v = consumption(*past, len(vectors), decay) @ vectors
        v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9)
        return v @ vectors.T + popular * popularity

    return scores


def _by_history(kind: Callable[..., HistoryRanker]) -> Callable[..., Scorer]:
    def learn(learnt: Learnt, decay: float | None = None, **settings: Any) -> Scorer:
        key = (kind, tuple(sorted(settings.items())))
        if learnt.fitted.get("key") != key:
            agent = kind(learnt.seed, **settings)
            agent.learn(learnt.interactions(learnt.records), learnt.texts.catalog.vectors)
            learnt.fitted.update(key=key, agent=agent)
        agent = copy(learnt.fitted["agent"])
        if decay is not None:  # of the past when acting: nothing is learnt anew
            agent.decay = decay

        def scores(records: Records) -> Floats:
            past = learnt.interactions(records).histories(_HISTORY)
            return agent.score_items(*past).astype(np.float64)

        return scores

    return learn


def _factorised(
    learnt: Learnt, rank: int = 24, regularisation: float = 3.0, confidence: float = 8.0
) -> Scorer:
    options: dict[str, Any] = {"regularisation": regularisation, "confidence": confidence}
    data = learnt.interactions(learnt.records)
    shape = (data.num_users, data.num_items)
    entries = (data.users, data.items, data.weights.astype(np.float64))
    items = alternating_least_squares(*entries, shape, rank=rank, **options, seed=learnt.seed)

    def scores(records: Records) -> Floats:
        own = learnt.interactions(records)
        weights = own.weights.astype(np.float64)
        return (
            solve_factors(items, own.users, own.items, weights, own.num_users, **options) @ items.T
        )

    return scores


def _implicit(
    learnt: Learnt, rank: int = 24, regularisation: float = 3.0, confidence: float = 8.0
) -> Scorer:
    """The ALS of the library `implicit`, to check ours against."""
    from implicit.als import AlternatingLeastSquares
    from scipy import sparse

    def matrix(records: Records) -> Any:
        data = learnt.interactions(records)
        entries = (confidence * data.weights, (data.users, data.items))
        return sparse.csr_matrix(entries, (data.num_users, data.num_items))

    model: Any = AlternatingLeastSquares(
        factors=rank,
        regularization=regularisation,
        iterations=6,
        num_threads=1,
        random_state=learnt.seed,
    )
    model.fit(matrix(learnt.records), show_progress=False)

    def scores(records: Records) -> Floats:
        own = matrix(records)
        return model.recalculate_user(np.arange(own.shape[0]), own) @ model.item_factors.T

    return scores


SCORERS: dict[str, Callable[..., Scorer]] = {
    "popular": _popular,
    "content": _content,
    "item-knn": _by_history(ItemNeighbours),
    "ease": _by_history(Ease),
    "ease-near": _by_history(Ease),
    "ease-text": _by_history(EaseText),
    "collaborative": _factorised,
    "implicit-als": _implicit,
    "two-tower": _by_history(TwoTower),
    "sasrec": _by_history(SelfAttentive),
    "joint": _by_history(without_slates),
}
"""Recommenders by name; `ease-near` is `ease` that may weigh pairs as `ease-text` does."""
DETERMINISTIC = ("popular", "content", "item-knn", "ease", "ease-near", "ease-text", "joint")
"""These learn the same with every seed."""

_DECAYS = (0.9, 0.95, 0.98)
_LAMBDAS = (100.0, 200.0, 400.0)
_CLOSED = {"regularisation": _LAMBDAS, "decay": _DECAYS}
_WEIGHTS = (0.5, 1.0, 2.0)
_NEAR = {"gap_decay": (0.97, 0.99)}
_FACTORS = {"regularisation": (3.0, 10.0, 30.0, 100.0), "confidence": (2.0, 8.0, 32.0)}
GRIDS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "content": {"popular": (0.5, 1.0, 2.0, 4.0, 8.0), "decay": _DECAYS},
    "item-knn": {"neighbours": (50, 200), "shrinkage": (5.0, 20.0), "decay": _DECAYS},
    "ease": _CLOSED,
    "ease-near": _CLOSED | _NEAR,
    "ease-text": _CLOSED | _NEAR | {"text": (0.005, 0.01, 0.02)},
    "collaborative": _FACTORS | {"rank": (24, 48, 96)},
    "implicit-als": _FACTORS | {"rank": (24, 48, 96)},
    "two-tower": {"epochs": (8, 16)},
    "sasrec": {"epochs": (8, 16)},
    "joint": {"click": _WEIGHTS, "decay": _DECAYS, **_NEAR, "text": _WEIGHTS},
}
"""Settings that a search on validation records tries, one after the other."""
