"""Alternating least squares: factors of implicit feedback, with fold-in of new users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.dataset import UNSATISFIED_WEIGHT, Dataset
from agents.rankers.ranker import Floats, Ranker, score
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED
from llmrec_env.simulation.compilation import kernel


def alternating_least_squares(
    users: npt.NDArray[np.int64],
    items: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    shape: tuple[int, int],
    *,
    rank: int = 24,
    regularisation: float = 3.0,
    confidence: float = 8.0,
    iterations: int = 6,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Returns item factors, (items, rank), of a consumption matrix given as its entries.

    Hu, Koren and Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008.

    Args:
        users: row of each entry, (m,).
        items: column of each entry, (m,).
        weights: strength of each entry, (m,); its confidence is 1 + `confidence` * weight.
        shape: numbers of users and items.
        rank: length of the factors.
        regularisation: weight of the squared norms.
        confidence: alpha of the paper.
        iterations: sweeps over users and items.
        seed: of the initial item factors.
    """
    rng = np.random.default_rng(seed)
    item_factors = rng.normal(0.0, 0.1, (shape[1], rank))
    for _ in range(iterations):
        user_factors = solve_factors(
            item_factors, users, items, weights, shape[0], regularisation, confidence
        )
        item_factors = solve_factors(
            user_factors, items, users, weights, shape[1], regularisation, confidence
        )
    return item_factors


def solve_factors(
    factors: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    num_rows: int,
    regularisation: float,
    confidence: float,
) -> npt.NDArray[np.float64]:
    """Returns the factors of rows, (num_rows, rank), given those of columns; see the above."""
    rank = factors.shape[1]
    left = np.tile(factors.T @ factors + regularisation * np.eye(rank), (num_rows, 1, 1))
    right = np.zeros((num_rows, rank))
    accumulate(rows, columns, confidence * weights, factors, left, right)
    solved: npt.NDArray[Any] = np.linalg.solve(left, right[:, :, None])
    return solved[:, :, 0]


@kernel
def accumulate(rows, columns, extra, factors, left, right):
    """Adds each entry to the normal equations of its row."""
    rank = factors.shape[1]
    for m in range(rows.shape[0]):
        row, column = rows[m], columns[m]
        for a in range(rank):
            right[row, a] += (1.0 + extra[m]) * factors[column, a]
            for b in range(rank):
                left[row, a, b] += extra[m] * factors[column, a] * factors[column, b]


@kernel
def fold_in(history, feedback, factors, gram, confidence, unsatisfied):
    """Returns user factors, (n, rank), from the items in each session's history."""
    n, rank = history.shape[0], factors.shape[1]
    users = np.zeros((n, rank), np.float32)
    for i in range(n):
        left, right = gram.copy(), np.zeros(rank)
        for j in range(history.shape[1]):
            if feedback[i, j] == EMPTY:
                break
            if feedback[i, j] == QUERY:
                continue
            weight = 1.0 if feedback[i, j] == SATISFIED else unsatisfied
            item = history[i, j]
            for a in range(rank):
                right[a] += (1.0 + confidence * weight) * factors[item, a]
                for b in range(rank):
                    left[a, b] += confidence * weight * factors[item, a] * factors[item, b]
        users[i] = np.linalg.solve(left, right).astype(np.float32)
    return users


class Collaborative(Ranker):
    """Shows what users with a similar past liked; knows nothing of the texts."""

    name = "collaborative"
    knows_items = True

    def __init__(
        self,
        seed: int = 0,
        rank: int = 24,
        regularisation: float = 3.0,
        confidence: float = 8.0,
        iterations: int = 6,
    ) -> None:
        """Takes the settings of `alternating_least_squares`."""
        super().__init__(seed)
        self.rank, self.regularisation = rank, regularisation
        self.confidence, self.iterations = confidence, iterations
        self.item_factors: npt.NDArray[np.float64] = np.zeros((0, rank))

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Factorises the clicks of the training users; plays no step."""
        super().fit(env, num_steps)
        clicks = Dataset.from_logs(self.data).consumed()
        factors = alternating_least_squares(
            clicks.users,
            clicks.items,
            np.where(clicks.satisfied, 1.0, UNSATISFIED_WEIGHT),
            (clicks.num_users, clicks.num_items),
            rank=self.rank,
            regularisation=self.regularisation,
            confidence=self.confidence,
            iterations=self.iterations,
            seed=self.seed,
        )
        self._take(factors)

    def _take(self, item_factors: npt.NDArray[np.float64]) -> None:
        self.item_factors = item_factors
        identity = self.regularisation * np.eye(self.rank)
        self._gram = self.item_factors.T @ self.item_factors + identity
        self._factors = self.item_factors.astype(np.float32)

    def scores(self, observation: Any) -> Floats:
        """Returns the predicted preference for each candidate."""
        users = fold_in(
            observation["history"],
            observation["history_feedback"],
            self.item_factors,
            self._gram,
            self.confidence,
            UNSATISFIED_WEIGHT,
        )
        return score(users, observation["candidates"], self._factors)

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the item factors."""
        return {"item_factors": self.item_factors}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the item factors."""
        super().load(weights, env)
        self._take(weights["item_factors"])
