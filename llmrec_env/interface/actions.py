"""BOUNDARY: action -> slate. Each mode is a space, and how its actions are read."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from llmrec_env.config import EnvConfig
from llmrec_env.interface.candidates import FEATURES, feature_columns
from llmrec_env.interface.history import recent_of
from llmrec_env.interface.text_answer import answer_space, read_answers
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.inner_products import inverse_norm, products_with, rows_dot
from llmrec_env.simulation.ordering import best_of

PICK, RANK, NEAREST = 0, 1, 2
MMR, EXPLORE = len(FEATURES), len(FEATURES) + 1
_SHORTLIST = 128
_CHOSEN = 1 << 30


class Decision(NamedTuple):
    """Actions of n sessions in the form the compiled decoder reads; unused parts are empty."""

    picks: npt.NDArray[np.int64]  # (n, k) candidate indices
    plans: npt.NDArray[np.float32]  # (n, F + 2) ranking weights, MMR weight, exploration slots
    residuals: npt.NDArray[np.float32]  # (n, q) added to the observed interest


def _plan(mmr: float, explore: float, **weights: float) -> npt.NDArray[np.float32]:
    values = [weights.get(name, 0.0) for name in FEATURES]
    return np.array([*values, mmr, explore], np.float32)


CONTENT_PLAN = _plan(
    mmr=0.15,
    explore=0.0,
    recent=1.0,
    interest=0.3,
    co_consumption=0.1,
    popularity=0.1,
    satiation=-0.1,
    skipped=-0.2,
    substance=0.1,
)
"""The ranking of the zero action of `weights`: a sensible content ranker."""


def _recipes() -> dict[str, npt.NDArray[np.float32]]:
    sources = {
        "recent": {"recent": 1.0, "skipped": -0.3},
        "interest": {"interest": 1.0, "satiation": -0.2},
        "blend": {"recent": 0.7, "interest": 0.5, "co_consumption": 0.2, "skipped": -0.2},
        "popular": {"popularity": 1.0},
    }
    table: dict[str, npt.NDArray[np.float32]] = {}
    switches = itertools.product(sources, (0.0, 0.3), (0.0, 0.2), (0.0, 1.0))
    for source, mmr, substance, explore in switches:
        parts = [source, *(["diverse"] if mmr else []), *(["substance"] if substance else [])]
        name = "+".join([*parts, *(["explore"] if explore else [])])
        table[name] = _plan(mmr, explore, **sources[source], substance=substance)
    return table


RECIPES = _recipes()
"""Named slate recipes: recall source, then diverse, substance, explore where they are on."""
_RECIPE_PLANS = np.stack(list(RECIPES.values()))


def query_dim(config: EnvConfig) -> int:
    """Returns q, the length of a `query` action."""
    return min(config.observation_dim, config.dim)


class ActionMode:
    """One way to act: its space, and how a batch of its actions becomes a Decision.

    Raises:
        TypeError: the actions have the wrong dtype.
        ValueError: the actions have the wrong shape, or lie outside the space. Texts outside it
            are picks below 0: see `text_answer.settle`.
    """

    def __init__(self, config: EnvConfig, num_items: int) -> None:
        """Prepares the mode that `config.action` names, over `num_items` items."""
        self.name, self.kind = config.action, _KINDS[config.action]
        self.size = config.candidates or num_items
        self.space = _space(config, self.size)
        self._bound = len(RECIPES) if self.name == "recipe" else self.size
        self._inner, self._slots = self.space.shape or (), config.slate_size
        self._integers = not isinstance(self.space, spaces.Box)

    def decide(self, actions: Any, n: int) -> Decision:
        """Returns the checked actions of n sessions, (n, ...), as a Decision."""
        if self.name == "text":  # as array of characters, one long answer would make all long
            picks = read_answers(actions, n, self._slots, self.size)
            return Decision(picks, _NO_FLOATS, _NO_FLOATS)
        array = np.asarray(actions)
        if array.shape != (n, *self._inner):
            raise ValueError(
                f"action has shape {array.shape[1:] if array.ndim else ()} for each of "
                f"{len(array) if array.ndim else 1} sessions; action={self.name!r} needs shape "
                f"{self._inner} for each of {n}: {self.space}."
            )
        if self._integers:
            return self._indices(array)
        return self._weights(array)

    def _indices(self, array: npt.NDArray[np.generic]) -> Decision:
        if array.dtype.kind not in "iu":
            raise TypeError(
                f"action has dtype {array.dtype}; {self.name!r} needs integers: {self.space}."
            )
        picks = np.ascontiguousarray(array.reshape(len(array), -1), np.int64)
        bad = first_outside(picks, self._bound)
        if bad >= 0:
            raise ValueError(
                f"action holds {picks.flat[bad]}; {self.name!r} needs 0 to {self._bound - 1}."
            )
        if self.kind == PICK:
            return Decision(picks, _NO_FLOATS, _NO_FLOATS)
        return Decision(_NO_INTS, _RECIPE_PLANS[picks[:, 0]], _NO_FLOATS)

    def _weights(self, array: npt.NDArray[np.generic]) -> Decision:
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"action has dtype {array.dtype}; action={self.name!r} needs floats: {self.space}."
            )
        size = np.abs(array.astype(np.float64))  # float32 could overflow, and |int8(-128)| is -128
        if not (size <= 1.0 + 1e-6).all():
            raise ValueError(
                f"action={self.name!r} needs finite values in [-1, 1]; the largest absolute value "
                f"of {size.max()}. Clip the action, or squash it with tanh."
            )
        offsets = np.ascontiguousarray(array, np.float32)
        if self.kind == NEAREST:
            return Decision(_NO_INTS, _NO_FLOATS, offsets)
        plans = np.tile(CONTENT_PLAN, (len(offsets), 1))
        plans[:, : len(FEATURES)] += offsets
        return Decision(_NO_INTS, plans, _NO_FLOATS)


_NO_INTS = np.zeros((0, 0), np.int64)
_NO_FLOATS = np.zeros((0, 0), np.float32)
_KINDS = {"slate": PICK, "item": PICK, "text": PICK, "weights": RANK, "recipe": RANK}
_KINDS["query"] = NEAREST


def _space(config: EnvConfig, size: int) -> spaces.Space[object]:
    if config.action == "slate":
        return spaces.MultiDiscrete([size] * config.slate_size)
    if config.action == "text":
        return answer_space(config.slate_size, size)
    if config.action == "item":
        return spaces.Discrete(size)
    if config.action == "recipe":
        return spaces.Discrete(len(RECIPES))
    length = len(FEATURES) if config.action == "weights" else query_dim(config)
    return spaces.Box(-1.0, 1.0, (length,), np.float32)


@kernel
def first_outside(picks, bound):
    """Returns the flat position of the first index outside 0 .. bound - 1, or -1."""
    for i in range(picks.shape[0]):
        for k in range(picks.shape[1]):
            if picks[i, k] < 0 or picks[i, k] >= bound:
                return i * picks.shape[1] + k
    return -1


@inlined
def pick(picks, i, ids, slate):
    """Writes the picked candidates; one picked twice becomes the next best one still free.

    Args:
        picks: candidate indices, (n, k), of which row i is read.
        ids: candidate item ids, (n, c), of which row i is read.
    """
    for k in range(slate.shape[0]):
        index = picks[i, k]
        while True:
            item, free = ids[i, index], True
            for earlier in range(k):
                if slate[earlier] == item:
                    free = False
            if free:
                break
            index = index + 1 if index + 1 < ids.shape[1] else 0
        slate[k] = item


@kernel
def rank(history, items, plans, i, ids, terms, key, slate):
    """Writes the best candidates by weighted features, less their likeness to those above.

    The penalty is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Args:
        plans: ranking weights, (n, F + 2), of which row i is read.
        terms: added to the scores, (c,), or nothing, (0,).
    """
    mmr, count, vectors = plans[i, MMR], ids.shape[0], items.vectors
    scores = weighted(plans, i, feature_columns(history, items, ids), count)
    add(terms, scores)
    best_first = best_of(scores, ids, min(count, _SHORTLIST))
    likeness = np.zeros(best_first.shape[0], np.float32)  # to the `compared` first slots
    compared = np.zeros(best_first.shape[0], np.int32)
    for k in range(slate.shape[0]):
        best, best_value = -1, np.float32(0.0)
        for j in range(best_first.shape[0]):
            if best >= 0 and scores[best_first[j]] <= best_value:
                break  # sorted: without its penalty already no better
            while compared[j] < k and mmr > 0.0:
                close = rows_dot(vectors, slate[compared[j]], vectors, ids[best_first[j]])
                likeness[j] = max(likeness[j], close)
                compared[j] += 1
            value = scores[best_first[j]] - mmr * likeness[j]
            if compared[j] <= k and (best < 0 or value > best_value):
                best, best_value = j, value
        slate[k] = ids[best_first[best]]
        compared[best] = _CHOSEN
    if plans[i, EXPLORE] > 0.0:
        explore(ids, key, slate)


@kernel
def weighted(plans, i, columns, count):
    """Returns the features of the candidates, weighted by plan i, (c,); neighbours added first."""
    scores, w = np.empty(count, np.float32), plans[i]
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    for c in range(count):
        first = w0 * columns[0, c] + w1 * columns[1, c]
        second = w2 * columns[2, c] + w3 * columns[3, c]
        third = w4 * columns[4, c] + w5 * columns[5, c]
        fourth = w6 * columns[6, c] + w7 * columns[7, c]
        scores[c] = (first + second) + (third + fourth)
    return scores


@kernel
def explore(ids, key, slate):
    """Replaces the last slot by a random candidate that is not on the slate yet."""
    drawn = random_candidate(ids, noise.step_key(key, noise.EXPLORE), slate)
    if drawn >= 0:
        slate[slate.shape[0] - 1] = ids[drawn]


@kernel
def random_candidate(ids, key, slate):
    """Returns the index of a random candidate that is not on the slate, -1 where there is none.

    An item is drawn, not an index: it does not depend on the order of the candidates.

    Args:
        ids: of the candidates, -1 where one is missing, (c,).
        key: of the draw.
        slate: ids of the items on it, (k,).
    """
    drawn, least = -1, ~np.uint64(0)
    for c in range(ids.shape[0]):
        bits, item = noise.hashed(key, ids[c]), ids[c]
        if item >= 0 and bits < least:
            on_slate = False
            for k in range(slate.shape[0]):
                on_slate = on_slate or slate[k] == item
            if not on_slate:
                drawn, least = c, bits
    return drawn


@inlined
def add(terms, scores):
    """Adds terms, (c,) or (0,), to scores."""
    for c in range(terms.shape[0]):
        scores[c] += terms[c]


@kernel
def nearest(history, residuals, i, ids, vectors, terms, slate):
    """Writes the candidates nearest to the recent interest plus the residual query.

    Args:
        terms: added to the products, (c,), or nothing, (0,).
    """
    recent, length = recent_of(history), residuals.shape[1]
    scale = inverse_norm(recent)
    target = np.empty(length, np.float32)
    for j in range(length):
        target[j] = scale * recent[j] + residuals[i, j]
    count = ids.shape[0]
    scores = np.empty(count + 8, np.float32)
    products_with(target, vectors, ids, scores)
    add(terms, scores)
    best_first = best_of(scores[:count], ids, slate.shape[0])
    for k in range(slate.shape[0]):
        slate[k] = ids[best_first[k]]
