"""Factor model of what texts leave unexplained in logged choices, and how much of taste it tells.

The texts' half of each choice is `joint`'s. What remains of each slot, clicked or not less its
probability, is summed by user and item and factorised by a truncated singular value decomposition.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import svds

from agents.joint.past import Past
from agents.joint.recommender import Joint
from agents.joint.response import SOFTNESS

RANK = 8
SHRINKAGE = 5.0
"""Added to the summed residuals of a user or an item: what is little known counts little."""
FOLDS = 5
"""Parts of the facets, each predicted from the others: a facet's taste cannot be remembered."""
NEAREST = 20
"""Items, nearest by text, that a factor is averaged over."""
_DRAW = 31

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class Residuals(NamedTuple):
    """What the texts leave of the slots of logged slates; each (m,)."""

    users: Ids
    items: Ids
    values: Floats  # 1 where clicked, less the probability


def residuals_of(joint: Joint) -> Residuals:
    """Returns what the texts' half of a fitted `joint` does not explain of logged choices."""
    past = Past.of(joint.data, joint.texts)
    clicks, q = past.clicks(joint.response), joint.parameters[0]
    f = SOFTNESS * np.logaddexp(0.0, clicks.text / SOFTNESS)
    odds = np.exp(q["relevance_choice"] * f + clicks.utility)
    probability = odds / (1.0 + odds.sum(axis=1, keepdims=True))
    slots = past.slates.shape[1]
    clicked = np.arange(slots) == past.choice[:, None]
    users, items = np.repeat(past.users, slots), past.slates.ravel().astype(np.int64)
    return Residuals(users, items, (clicked - probability).ravel())


def factorised(residuals: Residuals, num_users: int, num_items: int) -> Floats:
    """Returns the factors of items, (num_items, RANK)."""
    where = residuals.users, residuals.items
    matrix = sparse.csr_matrix((residuals.values, where), (num_users, num_items))
    size = abs(matrix)
    rows, columns = (
        sparse.diags((SHRINKAGE + np.asarray(size.sum(axis)).ravel()) ** -0.5) for axis in (1, 0)
    )
    start = np.ones(min(num_users, num_items))  # not drawn: the same factors each time
    _, _, right = svds(rows @ matrix @ columns, RANK, v0=start)
    return np.asarray(right, np.float64).T


def explained_known(residuals: Residuals, taste: Floats, facets: Ids, vectors: Floats) -> Floats:
    """Returns the share of each item's taste that logs tell, (items,); the mean is R².

    Told by its own factors, and by the mean factors of those that are nearest by text.

    Args:
        residuals: of the logs.
        taste: b of every item, (items, 4).
        facets: of every item, (items,).
        vectors: of the texts, unit rows, (items, d).
    """
    known = np.full(len(taste), True)
    factors = factorised(residuals, residuals.users.max() + 1, len(taste))
    features = np.c_[factors, _of_nearest(factors, vectors, known)]
    return _explained(taste, predicted(features, taste, facets, known))


def explained_unseen(residuals: Residuals, taste: Floats, facets: Ids, vectors: Floats) -> Floats:
    """Returns the share of each unseen item's taste that its neighbours tell, (items / FOLDS,).

    A part of the items is left out of the logs; the mean factors of those nearest by text, among
    the others, stand for theirs. Arguments as above.
    """
    known = np.full(len(taste), True)
    known[np.random.default_rng(_DRAW).permutation(len(taste))[: len(taste) // FOLDS]] = False
    met = known[residuals.items]
    rest = Residuals(residuals.users[met], residuals.items[met], residuals.values[met])
    factors = factorised(rest, residuals.users.max() + 1, len(taste))
    features = _of_nearest(factors, vectors, known)
    return _explained(taste[~known], predicted(features, taste, facets, known)[~known])


def predicted(features: Floats, taste: Floats, facets: Ids, known: npt.NDArray[np.bool_]) -> Floats:
    """Returns the taste of every item by a regression over items of other facets, (items, 4).

    Args:
        features: of every item, (items, r).
        taste: of every item, (items, 4).
        facets: of every item, (items,).
        known: items that are regressed on, (items,).
    """
    design = np.c_[features, np.ones(len(features))]
    part = np.random.default_rng(_DRAW).permutation(facets.max() + 1)[facets] % FOLDS
    result = np.empty_like(taste)
    for fold in range(FOLDS):
        learnt, other = known & (part != fold), part == fold
        result[other] = design[other] @ np.linalg.lstsq(design[learnt], taste[learnt])[0]
    return result


def _of_nearest(factors: Floats, vectors: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Mean factors of the known items nearest to each item but itself, (items, RANK)."""
    likeness = np.where(known, vectors @ vectors.T, -np.inf)
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argpartition(-likeness, NEAREST, axis=1)[:, :NEAREST]
    return factors[nearest].mean(axis=1)


def _explained(taste: Floats, predictions: Floats) -> Floats:
    spread = ((taste - taste.mean(axis=0)) ** 2).sum(axis=1).mean()
    return 1.0 - ((taste - predictions) ** 2).sum(axis=1) / spread
