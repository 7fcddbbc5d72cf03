"""Item-to-item models: nearest neighbours by who consumed them, and EASE in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.dataset import Dataset, Floats, Ids
from agents.rankers.ranker import HistoryRanker, consumption
from llmrec_env.envs.vector import RecVectorEnv


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
    """

    name = "ease"

    def __init__(
        self,
        seed: int = 0,
        regularisation: float = 100.0,
        decay: float = 0.95,
        popular: float = 0.01,
        most_items: int = 8000,
    ) -> None:
        """Takes the settings of the closed form.

        Args:
            seed: nothing is drawn; recorded only.
            regularisation: lambda, weight of the squared norm.
            decay: factor for each item consumed since.
            popular: weight of popularity, for what has no common users.
            most_items: items that the closed form is solved over.
        """
        super().__init__(seed)
        self.regularisation, self.most_items = regularisation, most_items
        self.decay, self.popular = decay, popular

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Solves the closed form; reads no texts."""
        from scipy import linalg

        matrix = dataset.matrix()
        consumed = np.asarray(matrix.sum(0)).ravel()
        best = np.argsort(-consumed, kind="stable")[: self.most_items]
        self.items = np.sort(best[consumed[best] > 0])
        part = matrix[:, self.items]
        gram = (part.T @ part).toarray()
        gram[np.diag_indices_from(gram)] += self.regularisation
        inverse = linalg.inv(gram.T, overwrite_a=True)  # in Fortran's order: in its own memory
        inverse /= -np.diag(inverse)
        self.item_weights = inverse.astype(np.float32, order="C")
        np.fill_diagonal(self.item_weights, 0.0)
        self.popularity = dataset.popularity()

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the reconstructed consumption, (n, num_items)."""
        users = consumption(items, weights, len(self.popularity), self.decay)
        scores = np.tile(self.popular * self.popularity, (len(items), 1))
        scores[:, self.items] += users[:, self.items] @ self.item_weights
        return scores

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the item-to-item weights."""
        weights = {"items": self.items, "item_weights": self.item_weights}
        return weights | {"popularity": self.popularity}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the item-to-item weights."""
        super().load(weights, env)
        self.items, self.item_weights = weights["items"], weights["item_weights"]
        self.popularity = weights["popularity"]
