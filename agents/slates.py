"""Slates made of candidates' odds and values: exact, greedy, or the best items alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agents.rankers.oracles import best_slate
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import rows_dot

EXACT, GREEDY, TOP = range(3)


@kernel
def make_slates(odds, value, examined, candidates, vectors, mmr, kind, slates):
    """Writes slates as candidate indices, (n, k); an item's worth falls with likeness above it.

    Ties are broken by item id.

    Args:
        mmr: penalty for likeness to what is above, of each session, (n,).
    """
    k = slates.shape[1]
    for i in range(odds.shape[0]):
        if kind == EXACT:
            best_slate(odds[i], value[i], candidates[i], examined, slates[i])
            continue
        likeness = np.zeros(odds.shape[1], np.float32)
        above, below = 0.0, 1.0
        for slot in range(k):
            best, best_gain = -1, -np.inf
            for c in range(odds.shape[1]):
                worth = value[i, c] - mmr[i] * likeness[c]
                if odds[i, c] <= 0.0 or likeness[c] > 2.0:
                    continue
                share = odds[i, c] * examined[slot]
                gain = odds[i, c] * worth
                if kind != TOP:
                    gain = (above + share * worth) / (below + share)
                level = gain == best_gain and best >= 0
                if gain > best_gain or (level and candidates[i, c] < candidates[i, best]):
                    best, best_gain = c, gain
            slates[i, slot] = best
            share = odds[i, best] * examined[slot]
            above += share * value[i, best]
            below += share
            for c in range(odds.shape[1]):
                if mmr[i] > 0.0 and candidates[i, c] >= 0:
                    close = rows_dot(vectors, candidates[i, best], vectors, candidates[i, c])
                    likeness[c] = max(likeness[c], close)
            likeness[best] = 9.0  # on the slate


Make = Callable[..., npt.NDArray[np.int64]]


def _by(kind: int) -> Make:
    def make(odds, value, examined, candidates, vectors, mmr) -> npt.NDArray[np.int64]:
        slates = np.empty((len(odds), len(examined)), np.int64)
        mmr = np.full(len(odds), mmr, np.float64)
        make_slates(odds, value, examined, candidates, vectors, mmr, kind, slates)
        return slates

    return make


SLATES: dict[str, Make] = {"exact": _by(EXACT), "greedy": _by(GREEDY), "top-k": _by(TOP)}
"""`exact` maximises the ratio of sums by Dinkelbach's method, and knows no mmr; `greedy` fills slot
by slot; `top-k` takes the items of highest odds times value (all three: Ie et al., IJCAI 2019)."""


@kernel
def hedged_slates(odds, value, examined, candidates, slates):
    """Writes slates of high mean value over hypotheses, slot by slot, as candidate indices, (n, k).

    Each hypothesis has a conditional logit of its own, so that after an item for one of them, one
    for another adds more. Ties are broken by item id.

    Args:
        odds: of choosing each candidate at rank 1, (n, M, c); value: what it is then worth.
        examined: how much odds count at each rank, (M, k).
    """
    hypotheses = odds.shape[1]
    above, below = np.empty(hypotheses), np.empty(hypotheses)
    for i in range(odds.shape[0]):
        above[:], below[:] = 0.0, 1.0
        for slot in range(slates.shape[1]):
            best, most = -1, -np.inf
            for c in range(candidates.shape[1]):
                if candidates[i, c] < 0 or (slates[i, :slot] == c).any():
                    continue
                total = 0.0
                for m in range(hypotheses):
                    share = odds[i, m, c] * examined[m, slot]
                    total += (above[m] + share * value[i, m, c]) / (below[m] + share)
                level = total == most and best >= 0
                if total > most or (level and candidates[i, c] < candidates[i, best]):
                    best, most = c, total
            slates[i, slot] = best
            for m in range(hypotheses):
                share = odds[i, m, best] * examined[m, slot]
                above[m] += share * value[i, m, best]
                below[m] += share


Doubles = npt.NDArray[np.float64]
_ABOVE = 1e-6  # by which what is on a slate is worth more than what is not, at the least


class Gains(NamedTuple):
    """What one more item would change of a slate, to first order, (n, c)."""

    gain: Doubles
    """Of its value; but what is on the slate keeps its order above all else."""
    share: Doubles
    """Of the choices, those that would fall to the item."""
    chosen: Doubles
    """How likely the item is chosen now, from the slate; 0: it is not on it."""

    def of(self, worth: Doubles) -> Doubles:
        """Returns what it would change of Σ P(choose y) worth of y, (n, c)."""
        return self.share * (worth - (self.chosen * worth).sum(axis=1, keepdims=True))


def gains(odds: Doubles, worth: Doubles, slates: npt.NDArray[np.int64], position: float) -> Gains:
    """Returns what a place on the slate is worth for each candidate; the best are the slate.

    Slates of the highest value hold what gains most (Dinkelbach 1967). What is on one by a penalty
    or a greedy choice is raised as little as its place needs.

    Args:
        odds: of choosing each candidate at rank 1, (n, c); 0: it is not offered.
        worth: of what is chosen, (n, c).
        slates: candidate indices, best first, (n, k).
        position: what is at rank k is examined k ** -position times as much as what is first.
    """
    n, k = slates.shape
    rows, examined = np.arange(n), np.arange(1, k + 1) ** -position
    chances = np.take_along_axis(odds, slates, axis=1) * examined
    below = 1.0 + chances.sum(axis=1, keepdims=True)
    chosen = np.zeros_like(odds)
    np.put_along_axis(chosen, slates, chances / below, axis=1)
    slopes = Gains(odds, odds / below, chosen)
    gain = np.where(odds > 0.0, slopes.of(worth), -np.inf)
    others = gain.copy()
    np.put_along_axis(others, slates, -np.inf, axis=1)
    least = others.max(axis=1)
    for slot in range(k - 1, -1, -1):
        item = slates[:, slot]
        least = np.maximum(gain[rows, item], least + _ABOVE)
        gain[rows, item] = least
    return slopes._replace(gain=gain)


def likeness_to(slates: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> Doubles:
    """Returns the cosine of each candidate to what is nearest of the others on a slate, (n, c).

    Args:
        slates: candidate indices, (n, k).
        vectors: of the candidates, (n, c, d).
    """
    rows = np.arange(len(slates))
    cosines = vectors @ vectors[rows[:, None], slates].transpose(0, 2, 1)  # (n, c, k)
    for slot in range(slates.shape[1]):
        cosines[rows, slates[:, slot], slot] = -1.0
    return cosines.max(axis=2).astype(np.float64)
