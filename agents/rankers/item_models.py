"""Item-to-item models: nearest neighbours by who consumed them, and EASE in closed form.

`ease_text.py` draws the weights of EASE to the likeness of texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.attribution import Attribution
from agents.dataset import Dataset, Floats, Ids
from agents.rankers.history_ranker import HistoryRanker, consumption, entry_weights
from llmrec_env.envs.vector import RecVectorEnv

_ROWS = 512  # of a matrix, copied at a time


class ItemNeighbours(HistoryRanker):
    """Shows what is nearest, by who consumed it, to what the user consumed.

    Sarwar, Karypis, Konstan and Riedl, Item-based collaborative filtering, WWW 2001.
    """

    name = "item-knn"

    def __init__(
        self,
        seed: int = 0,
        neighbours: int = 200,
        shrinkage: float = 5.0,
        decay: float = 0.95,
        popular: float = 0.05,
    ) -> None:
        """Takes the settings of the neighbourhood.

        Args:
            seed: nothing is drawn; recorded only.
            neighbours: most similar items kept of each.
            shrinkage: added to the norms of a cosine, so that few common users count less.
            decay: factor for each item consumed since.
            popular: weight of popularity, for what has no common users.
        """
        super().__init__(seed)
        self.neighbours, self.shrinkage = neighbours, shrinkage
        self.decay, self.popular = decay, popular

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Counts who consumed what together; reads no texts."""
        from scipy import sparse

        matrix = dataset.matrix()
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(0)).ravel())
        common = (matrix.T @ matrix).tocoo()
        different = common.row != common.col
        row, column = common.row[different], common.col[different]
        cosine = common.data[different] / (norms[row] * norms[column] + self.shrinkage)
        order = np.lexsort((column, -cosine, row))
        row, column, cosine = row[order], column[order], cosine[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        nearest = rank < self.neighbours
        shape = (dataset.num_items, dataset.num_items)
        entries = (cosine[nearest].astype(np.float32), (row[nearest], column[nearest]))
        self.similarity = sparse.csr_matrix(entries, shape)
        self.popularity = dataset.popularity()

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the summed similarity to the user's items, (n, num_items)."""
        users = consumption(items, weights, len(self.popularity), self.decay)
        return (users @ self.similarity).toarray() + self.popular * self.popularity

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the neighbours of each item."""
        parts = {name: getattr(self.similarity, name) for name in ("data", "indices", "indptr")}
        return parts | {"popularity": self.popularity}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the neighbours of each item."""
        from scipy import sparse

        super().load(weights, env)
        self.popularity = weights["popularity"]
        parts = (weights[name] for name in ("data", "indices", "indptr"))
        shape = (len(self.popularity), len(self.popularity))
        self.similarity = sparse.csr_matrix(tuple(parts), shape)


class Ease(HistoryRanker):
    """Shows what a linear model without self-similarity reconstructs from the user's items.

    Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019. With items that nobody
    consumed the closed form has nothing but zeros: it is solved over the others. Over more than
    `most_items` of them it is solved over the most consumed, an approximation: the rest is ranked
    by popularity. Learning takes about 32 most_items^2 bytes, acting 4 most_items^2.

    With `gap_decay` below 1 two items of a user count as consumed together by how near each other
    they were consumed: the model learns from the past as weighted as it is read when acting.
    """

    name = "ease"

    def __init__(
        self,
        seed: int = 0,
        regularisation: float = 100.0,
        decay: float = 0.95,
        popular: float = 0.01,
        most_items: int = 8000,
        gap_decay: float = 1.0,
    ) -> None:
        """Takes the settings of the closed form.

        Args:
            seed: nothing is drawn; recorded only.
            regularisation: lambda, weight of the squared norm.
            decay: factor for each item consumed since.
            popular: weight of popularity, for what has no common users.
            most_items: items that the closed form is solved over.
            gap_decay: factor of a pair of items for each step from one to the other; 1 counts all
                pairs of a user alike.
        """
        super().__init__(seed)
        self.gap_decay = gap_decay
        self.regularisation, self.most_items = regularisation, most_items
        self.decay, self.popular = decay, popular

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Solves the closed form; reads no texts."""
        matrix = dataset.matrix()
        consumed = np.asarray(matrix.sum(0)).ravel()
        best = np.argsort(-consumed, kind="stable")[: self.most_items]
        self.items = np.sort(best[consumed[best] > 0])
        if self.gap_decay == 1.0:
            part = matrix[:, self.items]
            gram = (part.T @ part).toarray()
        else:
            gram = gram_of_near(dataset, self.items, self.gap_decay)
        gram[np.diag_indices_from(gram)] += self.regularisation
        self.item_weights = self._item_weights(inverse_of(gram))
        np.fill_diagonal(self.item_weights, 0.0)
        self.popularity = dataset.popularity()

    def _item_weights(self, inverse: npt.NDArray[np.float64]) -> Floats:
        """B up to its diagonal, (m, m), of the inverse of the regularised Gram matrix."""
        inverse /= -np.diag(inverse)
        return inverse.astype(np.float32, order="C")

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the reconstructed consumption, (n, num_items)."""
        users = consumption(items, weights, len(self.popularity), self.decay)
        scores = np.tile(self.popular * self.popularity, (len(items), 1))
        scores[:, self.items] += users[:, self.items] @ self.item_weights
        return scores

    def attribute(self, observation: Any, slots: npt.NDArray[np.integer]) -> Attribution:
        """Returns what moved the scores of candidates: each item by its weights, and popularity."""
        ids = observation["candidates"][0, slots]
        items, weights = (x[0] for x in self.read(observation))
        known = np.flatnonzero(items >= 0)
        one_each = np.full((len(known), len(items)), -1, np.int64)
        one_each[known, known] = items[known]  # where it is, for that is its age
        popularity = self.popular * self.popularity[ids].astype(np.float64)
        alone = self.score_items(one_each, np.tile(weights, (len(known), 1)))[:, ids]
        entries = np.zeros((len(ids), observation["history"].shape[1]))
        entries[:, self.counted(observation)] = (alone - popularity).T
        return Attribution(entries, {"popularity": popularity})

    def counted(self, observation: Any) -> npt.NDArray[np.intp]:
        """Returns the entries of the history of one observation that are read."""
        return np.flatnonzero(entry_weights(observation, phrases=False)[0])

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the item-to-item weights."""
        weights = {"items": self.items, "item_weights": self.item_weights}
        return weights | {"popularity": self.popularity}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the item-to-item weights."""
        super().load(weights, env)
        self.items, self.item_weights = weights["items"], weights["item_weights"]
        self.popularity = weights["popularity"]


def inverse_of(gram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the inverse of a symmetric positive definite matrix, in its own memory.

    By its Cholesky factor, which takes half as long as an inverse of any matrix.
    """
    from scipy.linalg import get_lapack_funcs

    if not len(gram):
        return gram  # LAPACK refuses it
    dpotrf, dpotri = get_lapack_funcs(("potrf", "potri"), (gram,))
    factor, failed = dpotrf(gram.T, lower=1, clean=0, overwrite_a=1)
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ValueError("the Gram matrix is not positive definite; use a regularisation above 0.")
    for start in range(0, len(inverse), _ROWS):  # only its lower half is written
        own, later = slice(start, start + _ROWS), slice(start + _ROWS, None)
        lower = np.tril(inverse[own, own])
        inverse[own, own] = lower + np.tril(lower, -1).T
        inverse[own, later] = inverse[later, own].T
    return inverse


def gram_of_near(dataset: Dataset, items: Ids, gap_decay: float) -> npt.NDArray[np.float64]:
    """Returns sums over users of w_i w_j gap_decay^|t_i - t_j|, (m, m).

    Args:
        dataset: what users consumed; of an item that comes again the last time counts.
        items: of the rows and columns, ascending, (m,).
        gap_decay: factor for each item consumed in between, and for the step itself.
    """
    log, gram = dataset.consumed(), np.zeros((len(items), len(items)))
    place = np.full(dataset.num_items, -1)
    place[items] = np.arange(len(items))
    bounds = np.searchsorted(log.users, np.arange(log.num_users + 1))
    for start, stop in pairwise(bounds.tolist()):
        own, newest = np.unique(log.items[start:stop][::-1], return_index=True)
        weights = np.zeros(dataset.num_items)
        np.maximum.at(weights, log.items[start:stop], log.weights[start:stop])
        known = place[own] >= 0
        rows, age = place[own[known]], newest[known]
        pairs = gap_decay ** np.abs(age[:, None] - age, dtype=np.float64)
        gram[np.ix_(rows, rows)] += np.outer(weights[own[known]], weights[own[known]]) * pairs
    return gram
