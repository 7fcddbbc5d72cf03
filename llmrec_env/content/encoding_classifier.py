"""Classifier of satisfaction on encoded texts: a logistic regression that needs no torch.

It reads a pair as the frozen bi-encoder of `agents.joint.satisfaction` does: by the vectors of
both texts, their product and their cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from llmrec_env.content.profiles import Profile

_Floats = npt.NDArray[np.float64]
_SHARES = (1 / 6, 1 / 2, 5 / 6)
"""Weight of an interest by its level: the middle of what the level stands for."""
_SCALE = 0.3  # of the vectors beside their likeness, so that likeness is learnt first
_RIDGE = 1.0
_ROUNDS, _CLOSE = 50, 1e-10


class EncodingClassifier:
    """Logistic regression of satisfaction on encodings of a profile's words and an item's text.

    Attributes:
        name: for tables and errors.
        weights: of the features, once it has learnt, (m,).
    """

    name = "encodings"

    def __init__(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Takes the unit vector of every phrase, topic and item by its text, (d,)."""
        self._vectors = vectors
        self._dim = len(next(iter(vectors.values())))
        self.weights: _Floats | None = None

    def learn(
        self, profiles: Sequence[Profile], items: Sequence[str], satisfied: npt.ArrayLike
    ) -> None:
        """Fits the weights by Newton's method, with a ridge on all but the constant.

        Args:
            profiles: (n,).
            items: their texts, (n,).
            satisfied: z, (n,), 0 or 1.
        """
        features, z = self.features(profiles, items), np.asarray(satisfied, np.float64)
        ridge = np.full(features.shape[1], _RIDGE)
        ridge[0] = 1e-6
        weights = np.zeros(features.shape[1])
        for _ in range(_ROUNDS):
            chance = _sigmoid(features @ weights)
            gradient = features.T @ (z - chance) - ridge * weights
            curved = features * (chance * (1.0 - chance))[:, None]
            step = np.linalg.solve(curved.T @ features + np.diag(ridge), gradient)
            weights += step
            if np.abs(step).max() < _CLOSE:
                break
        self.weights = weights

    def probabilities(self, profiles: Sequence[Profile], items: Sequence[str]) -> _Floats:
        """Returns P(z = 1) of pairs of a profile and an item's text, (n,).

        Raises:
            RuntimeError: it has not learnt.
        """
        if self.weights is None:
            raise RuntimeError("the classifier knows nothing yet; call learn first.")
        # Row by row: a product of matrices sums in an order that depends on their shapes.
        return _sigmoid(np.vecdot(self.features(profiles, items), self.weights))

    def features(self, profiles: Sequence[Profile], items: Sequence[str]) -> _Floats:
        """Returns what the regression reads of each pair, (n, 6 + 2 d).

        A constant; likeness of the interests and the item, and of the likeliest one; likeness of
        tiring topics; trust; whether nothing is alike; vector of the item, and its product with
        the interests'.
        """
        rows = np.zeros((len(items), 6 + 2 * self._dim))
        for row, profile, item in zip(rows, profiles, items, strict=True):
            vector = self._vectors[item].astype(np.float64)
            interests = np.zeros(self._dim)
            best = 0.0
            for level, phrase in profile.interests:
                part = _SHARES[level] * self._vectors[phrase].astype(np.float64)
                interests += part
                best = max(best, float((part * vector).sum()))
            product = interests * vector
            likeness = float(product.sum())
            tiring = [
                (1 + level) * max(float((self._vectors[topic] * vector).sum()), 0.0)
                for level, topic in profile.tired
            ]
            row[:6] = 1.0, max(likeness, 0.0), best, sum(tiring), profile.trust, likeness <= 0.0
            row[6 : 6 + self._dim] = _SCALE * vector
            row[6 + self._dim :] = _SCALE * self._dim**0.5 * product
        rows[:, 1:4] *= 4.0  # likeness is of the size of 1/4
        return rows


def _sigmoid(x: _Floats) -> _Floats:
    return 1.0 / (1.0 + np.exp(-x))
