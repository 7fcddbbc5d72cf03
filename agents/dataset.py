"""Dataset of logged interactions: what users were shown, consumed and typed, to learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.candidates import candidate_freshness
from llmrec_env.interface.familiarity import candidate_familiarity
from llmrec_env.interface.history import HISTORY, empty_histories, replay
from llmrec_env.interface.observation import observations_of
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import RESPONSE, no_responses
from llmrec_env.world import PublicData

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

UNSATISFIED_WEIGHT = 0.2
"""Weight of an item that was consumed and did not satisfy."""
_COLUMNS = ("users", "times", "items", "weights", "slates", "ratings", "queries", "feedback")
_MAX_CHOICES = 40_000  # logged steps, the latest, that `logged_choices` reads: bounds memory


@dataclass(frozen=True)
class Dataset:
    """Logged interactions, one row a step, in order of user and time.

    Users with `response="cascade"` may consume several items in a step: `items` and `weights` hold
    the last of them, `feedback` and `consumed` all.
    """

    users: Ids  # (m,), 0 to num_users - 1
    times: Ids  # (m,)
    items: Ids  # (m,), consumed, -1 for none
    weights: Floats  # (m,), of what was consumed: 1 where it satisfied; 0 for nothing
    slates: npt.NDArray[np.int32]  # (m, K), shown; K = 0 where the logs do not say
    ratings: npt.NDArray[np.int32]  # (m,), 1 to 5, 0 where the user did not rate
    queries: npt.NDArray[np.int32]  # (m,), phrase typed, -1 for none
    feedback: npt.NDArray[np.int8]  # (m, K), of each slot: satisfied 1 or 0, -1: not consumed
    num_users: int
    num_items: int

    @classmethod
    def from_logs(cls, data: PublicData) -> Dataset:
        """Returns the logged steps of the training users; users are rows of `data.logs`.

        Times are negative: steps before a user's first session. Steps whose slate is -1 never were.
        """
        logs = data.logs
        num_users, steps, _ = logs.slates.shape
        user, step = np.nonzero(logs.slates[:, :, 0] >= 0)
        items = logs.items[user, step].astype(np.int64)
        weights = np.where(logs.satisfied[user, step] == 1, 1.0, UNSATISFIED_WEIGHT)
        return cls(
            users=user.astype(np.int64),
            times=(step - steps).astype(np.int64),
            items=items,
            weights=np.where(items >= 0, weights, 0.0).astype(np.float32),
            slates=logs.slates[user, step],
            ratings=logs.ratings[user, step],
            queries=logs.queries[user, step],
            feedback=logs.feedback[user, step],
            num_users=num_users,
            num_items=len(data.catalog),
        )

    @classmethod
    def from_columns(
        cls,
        users: npt.ArrayLike,
        items: npt.ArrayLike,
        weights: npt.ArrayLike,
        times: npt.ArrayLike,
        num_items: int,
    ) -> Dataset:
        """Returns own logs, given as columns (m,); users become rows in order of their ids.

        Raises:
            ValueError: columns of different lengths, unknown items, weights that are negative or
                not finite.
        """
        columns = [np.asarray(column) for column in (users, items, weights, times)]
        shapes = [column.shape for column in columns]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise ValueError(f"users, items, weights, times have shapes {shapes}; pass (m,) each.")
        user, item, weight, time = columns
        unknown = item[(item < 0) | (item >= num_items)]
        if len(unknown):
            raise ValueError(
                f"items holds {unknown[0]}; ids are 0 to {num_items - 1}: drop the other records."
            )
        bad = weight[~(np.isfinite(weight) & (weight >= 0))]
        if len(bad):
            raise ValueError(f"weights holds {bad[0]}; pass finite numbers of 0 or more.")
        ids, rows = np.unique(user, return_inverse=True)
        order = np.lexsort((time, rows))
        return cls(
            users=rows[order].astype(np.int64),
            times=time[order].astype(np.int64),
            items=item[order].astype(np.int64),
            weights=weight[order].astype(np.float32),
            slates=np.empty((len(order), 0), np.int32),
            ratings=np.zeros(len(order), np.int32),
            queries=np.full(len(order), -1, np.int32),
            feedback=np.empty((len(order), 0), np.int8),
            num_users=len(ids),
            num_items=num_items,
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.users)

    def take(self, rows: npt.NDArray[Any]) -> Dataset:
        """Returns some of the rows: indices, or a mask."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return dataclasses.replace(self, **columns)

    def consumed(self) -> Dataset:
        """Returns what was consumed with a weight above 0: one row an item, in order of slots."""
        if not self.feedback.shape[1]:
            return self.take(self.weights > 0)
        row, slot = np.nonzero(self.feedback >= 0)
        log, satisfied = self.take(row), self.feedback[row, slot] == 1
        return dataclasses.replace(
            log,
            items=self.slates[row, slot].astype(np.int64),
            weights=np.where(satisfied, 1.0, UNSATISFIED_WEIGHT).astype(np.float32),
        )

    @property
    def satisfied(self) -> npt.NDArray[np.bool_]:
        """Whether what was consumed satisfied, (m,)."""
        return self.weights >= 1.0

    @property
    def choices(self) -> Ids:
        """Slot of the item consumed, (m,), K for none."""
        slots = (self.slates == self.items[:, None]).argmax(axis=1)
        return np.where(self.items >= 0, slots, self.slates.shape[1])

    def popularity(self) -> Floats:
        """Returns log(1 + summed weights) of each item over its largest, (num_items,), 0 to 1."""
        log = self.consumed()
        count = np.log1p(np.bincount(log.items, log.weights, self.num_items))
        return (count / max(count.max(), 1e-9)).astype(np.float32)

    def histories(self, length: int) -> tuple[Ids, Floats]:
        """Returns the last items that each user consumed, newest first, and their weights.

        Both (num_users, length); -1 and 0 where there is none.
        """
        log = self.consumed()
        items = np.full((self.num_users, length), -1, np.int64)
        weights = np.zeros((self.num_users, length), np.float32)
        ends = np.cumsum(np.bincount(log.users, minlength=self.num_users))
        age = ends[log.users] - 1 - np.arange(len(log))
        recent = age < length
        items[log.users[recent], age[recent]] = log.items[recent]
        weights[log.users[recent], age[recent]] = log.weights[recent]
        return items, weights

    def matrix(self) -> Any:
        """Returns the weights of each user's items as a sparse matrix, (num_users, num_items).

        Where a user consumed an item more than once, the largest weight; float64.
        """
        from scipy import sparse

        log = self.consumed()
        key = log.users * self.num_items + log.items
        order = np.lexsort((-log.weights, key))
        entry, first = np.unique(key[order], return_index=True)
        values = log.weights[order][first].astype(np.float64)
        position = (entry // self.num_items, entry % self.num_items)
        return sparse.csr_matrix((values, position), (self.num_users, self.num_items))

    def replayed(
        self, data: PublicData, config: EnvConfig
    ) -> Iterator[tuple[Ids, npt.NDArray[np.void]]]:
        """Yields, for each time, its rows and the public histories of their users before it.

        Args:
            data: what the logs were taken from: see `from_logs`.
            config: of the environment that the histories are of.
        """
        histories = empty_histories(self.num_users, config)
        scratch = compiled_view(no_responses(1, self.slates.shape[1]), RESPONSE)
        for time in np.unique(self.times):
            rows = np.flatnonzero(self.times == time)
            yield rows, histories[self.users[rows]]
            past = histories[self.users[rows]]
            replay(
                compiled_view(past, HISTORY),
                self.slates[rows][:, None],
                self.feedback[rows][:, None],
                self.queries[rows][:, None],
                data.items.vectors,
                data.items.factors,
                data.phrase_vectors,
                scratch,
            )
            histories[self.users[rows]] = past


def logged_choices(
    data: PublicData,
    config: EnvConfig,
    encode: Callable[[Any], Floats],
    rng: np.random.Generator,
    every: bool = False,
) -> tuple[Floats, Ids]:
    """Returns the logged steps in which an item satisfied, as an agent would have observed them.

    Features (m, length), of the slate as the first K candidates and of others drawn, and the slots
    of the items, (m,), K for none.

    Args:
        data: with the logs.
        config: of the environment that the observations are of.
        encode: returns the features of a batch of observations, (n, length).
        rng: draws the candidates that were not on the slate.
        every: whether the other steps are returned too.
    """
    dataset = Dataset.from_logs(data)
    features, choices = [], []
    for rows, histories in dataset.replayed(data, config):
        wanted = dataset.satisfied[rows] | every
        steps = dataset.take(rows[wanted])
        if len(steps) and steps.times[0] >= -(_MAX_CHOICES // dataset.num_users):
            slots = steps.slates.shape[1]
            others = rng.integers(dataset.num_items, size=(len(steps), config.candidates - slots))
            ids = np.concatenate([steps.slates, others], 1).astype(np.int32)
            observations = observations_of(
                histories[wanted],
                data.items,
                data.phrase_vectors,
                config.horizon,
                ids,
                config.response,
            )
            if config.ages():
                half_life = config.freshness_half_life
                fresh = candidate_freshness(data.items, ids, steps.times, half_life)
                observations["candidate_freshness"] = fresh
            if config.attaches():
                familiar = candidate_familiarity(histories[wanted], data.items.creator, ids)
                observations["candidate_familiarity"] = familiar
            features.append(encode(observations))
            choices.append(steps.choices)
    if not choices:
        return np.empty((0, 0), np.float32), np.empty(0, np.int64)
    return np.concatenate(features), np.concatenate(choices)
