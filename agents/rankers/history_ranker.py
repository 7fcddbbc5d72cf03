"""What rankers by histories share: who consumed what and when, and scores of all items from it.

One model serves twice: in the environment, from the history that an observation holds, and offline
on own logs, from the history of any user, who need not be among those it learnt from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.rankers.als import UNSATISFIED_WEIGHT
from agents.rankers.baselines import Ranker
from agents.rankers.ranking import UNAVAILABLE, Floats
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.observation import QUERY, SATISFIED, UNSATISFIED
from llmrec_env.world import PublicData

BLOCK = 64
"""Sessions scored at once: bounds memory to BLOCK x items, whatever the number of sessions."""

Ids = npt.NDArray[np.int64]


class Interactions(NamedTuple):
    """Who consumed what and when, in order of user and time."""

    users: Ids  # (m,), rows, 0 to num_users - 1
    items: Ids  # (m,)
    weights: Floats  # (m,), 1 for what satisfied; 0 for what was shown and not chosen
    times: Ids  # (m,)
    num_users: int
    num_items: int

    def consumed(self) -> Interactions:
        """Returns them without what was only shown."""
        kept = self.weights > 0
        return self._replace(
            users=self.users[kept],
            items=self.items[kept],
            weights=self.weights[kept],
            times=self.times[kept],
        )

    def popularity(self) -> Floats:
        """Returns log(1 + summed weights) of each item over its largest, (num_items,), 0 to 1."""
        count = np.log1p(np.bincount(self.items, self.weights, self.num_items))
        return (count / max(count.max(), 1e-9)).astype(np.float32)

    def histories(self, length: int) -> tuple[Ids, Floats]:
        """Returns the last items of each user, newest first, and their weights.

        Both (num_users, length); -1 and 0 where there is none.
        """
        items = np.full((self.num_users, length), -1, np.int64)
        weights = np.zeros((self.num_users, length), np.float32)
        ends = np.cumsum(np.bincount(self.users, minlength=self.num_users))
        age = ends[self.users] - 1 - np.arange(len(self.users))
        kept = age < length
        items[self.users[kept], age[kept]] = self.items[kept]
        weights[self.users[kept], age[kept]] = self.weights[kept]
        return items, weights


def interactions_of(
    users: npt.ArrayLike,
    items: npt.ArrayLike,
    weights: npt.ArrayLike,
    times: npt.ArrayLike,
    num_items: int,
) -> Interactions:
    """Returns own logs, given as columns (m,), in order; users become rows in order of their ids.

    Raises:
        ValueError: columns of different lengths, unknown items, weights that are negative or not
            finite.
    """
    columns = [np.asarray(column) for column in (users, items, weights, times)]
    lengths = [column.shape for column in columns]
    if len(set(lengths)) != 1 or len(lengths[0]) != 1:
        raise ValueError(f"users, items, weights, times have shapes {lengths}; pass (m,) each.")
    who, what, weight, when = columns
    unknown = what[(what < 0) | (what >= num_items)]
    if len(unknown):
        raise ValueError(
            f"items holds {unknown[0]}; ids are 0 to {num_items - 1}: drop the other records."
        )
    bad = weight[~(np.isfinite(weight) & (weight >= 0))]
    if len(bad):
        raise ValueError(f"weights holds {bad[0]}; pass finite numbers of 0 or more.")
    ids, rows = np.unique(who, return_inverse=True)
    order = np.lexsort((when, rows))
    return Interactions(
        *(rows[order].astype(np.int64), what[order].astype(np.int64)),
        *(weight[order].astype(np.float32), when[order].astype(np.int64)),
        *(len(ids), num_items),
    )


def logged_interactions(data: PublicData, browsed: bool = False) -> Interactions:
    """Returns the clicks of the training users; rows are those of `data.logs`.

    Args:
        data: of an environment.
        browsed: also what was shown and not chosen, with weight 0: the negatives.
    """
    logs = data.logs
    num_users, steps = logs.items.shape
    user, step = np.nonzero(logs.items >= 0)
    weights = np.where(logs.satisfied[user, step] == 1, 1.0, UNSATISFIED_WEIGHT)
    columns = [user, logs.items[user, step], weights, step - steps]
    if browsed:
        user, step, slot = np.nonzero(logs.slates != logs.items[:, :, None])
        shown = [user, logs.slates[user, step, slot], np.zeros(len(user)), step - steps]
        columns = [np.concatenate(pair) for pair in zip(columns, shown, strict=True)]
    order = np.lexsort((columns[3], columns[0]))
    users, items, weights, times = (column[order] for column in columns)
    return Interactions(
        *(users.astype(np.int64), items.astype(np.int64)),
        *(weights.astype(np.float32), times.astype(np.int64), num_users, len(data.catalog)),
    )


def past(observation: Any, first_phrase: int | None = None) -> tuple[Ids, Floats]:
    """Returns what each session's user consumed, newest first, and its weights.

    Both (n, h); -1 and 0 where there is none.

    Args:
        observation: batch of n observations.
        first_phrase: id that stands for the first phrase, to count phrases typed as items that
            satisfied; None leaves them out.
    """
    kinds = observation["history_feedback"]
    items, weights = observation["history"].astype(np.int64), np.zeros(kinds.shape, np.float32)
    weights[kinds == SATISFIED], weights[kinds == UNSATISFIED] = 1.0, UNSATISFIED_WEIGHT
    if first_phrase is not None:
        weights[kinds == QUERY] = 1.0
        items[kinds == QUERY] += first_phrase
    items[weights == 0] = -1
    order = np.argsort(items < 0, axis=1, kind="stable")  # closes the gaps
    return np.take_along_axis(items, order, 1), np.take_along_axis(weights, order, 1)


class HistoryRanker(Ranker):
    """Scores items from what a user consumed; subclasses say how to learn and to score."""

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users; plays no step."""
        super().fit(env, num_steps)
        self.learn(logged_interactions(self.data), self.data.items.vectors)

    def learn(self, interactions: Interactions, vectors: Floats | None = None) -> None:
        """Learns from logs.

        Args:
            interactions: what users consumed.
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
            there = len(items[rows])
            # Always BLOCK sessions: matrix products of another shape add up in another order, and
            # a session's scores would depend on how many others there are.
            missing = ((0, BLOCK - there), (0, 0))
            padded = np.pad(items[rows], missing, constant_values=-1)
            every = self.score_items(padded, np.pad(weights[rows], missing))[:there]
            scores[rows] = np.take_along_axis(every, np.maximum(candidates[rows], 0), 1)
        return np.where(candidates < 0, UNAVAILABLE, scores)
