"""Likeness of candidates to what a user liked, by what a knowledge graph links both to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from llmrec_env.content.item_graph import Links
from llmrec_env.interface.history import SATISFIED

Floats = npt.NDArray[np.float32]


class LinkedShare:
    """The share of what satisfied a user that a candidate is linked to, by each thing they share.

    An item is a row of length 1 with 1 / √(items of the thing) for each of its things, so that what
    many share tells little; the feature is the mean product of the candidate with the items that
    satisfied: 1 if all of them share all of their things with it, 0 if none shares any.
    """

    def __init__(self, links: Links | None, num_items: int) -> None:
        """Takes the public links of a world.

        Raises:
            ValueError: the world has none.
        """
        if links is None:
            raise ValueError(
                "neighbours are those of a knowledge graph, which this world lacks; give the "
                "environment item_graph='triples.csv', or leave them out."
            )
        matrix = links.matrix(num_items)
        rare = np.asarray(matrix.sum(axis=0)).ravel() ** -0.5
        values = rare[matrix.indices]
        row = np.repeat(np.arange(num_items), np.diff(matrix.indptr))
        lengths = np.sqrt(np.bincount(row, values**2, num_items))
        of_items = (values / lengths[row], matrix.indices, matrix.indptr)
        self._rows: Any = sparse.csr_matrix(of_items, matrix.shape)

    def __call__(self, observation: Any) -> Floats:
        """Returns the feature of each candidate, (n, c), of a batch of `dict` observations."""
        user, age = np.nonzero(observation["history_feedback"] == SATISFIED)
        n, liked = len(observation["history"]), observation["history"][user, age]
        count = np.maximum(np.bincount(user, minlength=n), 1)
        shape = (n, self._rows.shape[0])
        past = sparse.csr_matrix((1.0 / count[user], (user, liked)), shape) @ self._rows
        candidates = observation["candidates"]
        offered = self._rows[np.maximum(candidates, 0).ravel()]
        row = np.repeat(np.arange(offered.shape[0]), np.diff(offered.indptr))
        shared = offered.data * past.toarray()[row // candidates.shape[1], offered.indices]
        share = np.bincount(row, shared, offered.shape[0]).reshape(candidates.shape)
        return np.where(candidates < 0, 0.0, share).astype(np.float32)
