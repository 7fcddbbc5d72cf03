"""Rankers by what a user consumed: they learn from logs, and score all items for a user's past."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.dataset import UNSATISFIED_WEIGHT, Dataset, Floats, Ids
from agents.rankers.ranker import BLOCK, UNAVAILABLE, Ranker
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import QUERY, SATISFIED, UNSATISFIED


class HistoryRanker(Ranker):
    """Scores items from what a user consumed; subclasses say how to learn and to score."""

    knows_items = True
    """What it learnt of items by their ids is of one world: see `agents.base.ItemAgent`."""

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users; plays no step."""
        super().fit(env, num_steps)
        self.learn(Dataset.from_logs(self.data), self.data.items.vectors)

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Learns from logs.

        Args:
            dataset: what users consumed.
            vectors: encodings of the items' texts, (num_items, d), for agents that read texts.
        """
        raise NotImplementedError

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the score of every item for each user, (n, num_items).

        Args:
            items: what each user consumed, newest first, -1 where there is none, (n, h).
            weights: of these, (n, h); 1 for what satisfied.
        """
        raise NotImplementedError

    def read(self, observation: Any) -> tuple[Ids, Floats]:
        """Returns the items and weights to score each session by, both (n, h)."""
        return past(observation)

    def scores(self, observation: Any) -> Floats:
        """Returns the score of each candidate, (n, c)."""
        candidates = observation["candidates"]
        items, weights = self.read(observation)
        scores = np.empty(candidates.shape, np.float32)
        for start in range(0, len(items), BLOCK):
            rows = slice(start, start + BLOCK)
            size = len(items[rows])
            # Always BLOCK sessions: matrix products of another shape add up in another order, and
            # a session's scores would depend on how many others there are.
            missing = ((0, BLOCK - size), (0, 0))
            padded = np.pad(items[rows], missing, constant_values=-1)
            every_score = self.score_items(padded, np.pad(weights[rows], missing))[:size]
            scores[rows] = np.take_along_axis(every_score, np.maximum(candidates[rows], 0), 1)
        return np.where(candidates < 0, UNAVAILABLE, scores)


def check_vectors(name: str, vectors: Floats | None, num_items: int) -> Floats:
    """Returns the encodings of the items' texts, if there is one for each item.

    Raises:
        ValueError: no vectors, or not one for each item.
    """
    if vectors is None or len(vectors) != num_items:
        given = "no vectors" if vectors is None else f"{len(vectors)} vectors"
        raise ValueError(
            f"{name} reads texts, but got {given} for {num_items} items; "
            "pass the encodings of all items as vectors."
        )
    return vectors


def past(observation: Any, first_phrase: int | None = None) -> tuple[Ids, Floats]:
    """Returns what each session's user consumed, newest first, and its weights.

    Both (n, h); -1 and 0 where there is none.

    Args:
        observation: batch of n observations.
        first_phrase: id that stands for the first phrase, to count phrases typed as items that
            satisfied; None leaves them out.
    """
    weights = entry_weights(observation, first_phrase is not None)
    items = observation["history"].astype(np.int64)
    if first_phrase is not None:
        items[observation["history_feedback"] == QUERY] += first_phrase
    items[weights == 0] = -1
    order = np.argsort(items < 0, axis=1, kind="stable")  # closes the gaps
    return np.take_along_axis(items, order, 1), np.take_along_axis(weights, order, 1)


def entry_weights(observation: Any, phrases: bool) -> Floats:
    """Returns what each entry of the history counts, (n, h); phrases typed 1, or nothing."""
    kinds = observation["history_feedback"]
    weights = np.zeros(kinds.shape, np.float32)
    weights[kinds == SATISFIED], weights[kinds == UNSATISFIED] = 1.0, UNSATISFIED_WEIGHT
    if phrases:
        weights[kinds == QUERY] = 1.0
    return weights


def consumption(items: Ids, weights: Floats, num_items: int, decay: float = 1.0) -> Any:
    """Returns histories, newest first, (n, h), as a sparse matrix (n, num_items).

    Args:
        items: ids, -1 where there is none.
        weights: of the items.
        num_items: columns.
        decay: factor for each item consumed since.
    """
    from scipy import sparse

    user, age = np.nonzero(items >= 0)
    values = weights[user, age] * np.float32(decay) ** age.astype(np.float32)
    shape = (len(items), num_items)
    return sparse.coo_matrix((values, (user, items[user, age])), shape).tocsr()
