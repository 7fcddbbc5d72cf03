"""Slates made of candidates' odds and values: exact, greedy, or the best items alone."""

from __future__ import annotations

from collections.abc import Callable

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
