"""Slates of highest mean value over hypotheses of who the user is: hedged, not for their mean."""

from __future__ import annotations

import numpy as np

from agents.rankers.oracles import best_cascade, best_slate, continuation
from llmrec_env.simulation.compilation import kernel

_PASSES = 4
_LEAST_GAIN = 1e-9  # of an exchange: below it is rounding


@kernel
def slate_value(params, odds, satisfaction, value, weights, slate, length):
    """Returns the mean value of the first `length` slots of a slate.

    Args:
        odds: of consuming each candidate at rank 1, by hypothesis, (N, candidates); likewise
            satisfaction and value, what consuming it is worth.
        weights: of the hypotheses, (N,).
    """
    total = 0.0
    for i in range(weights.shape[0]):
        above, below = 0.0, 1.0
        if params.cascade == 1:
            for k in range(length - 1, -1, -1):
                c = slate[k]
                consumed = odds[i, c] / (1.0 + odds[i, c])
                goes_on = continuation(params, consumed, satisfaction[i, c])
                above = consumed * value[i, c] + goes_on * above
        else:
            for k in range(length):
                share = odds[i, slate[k]] * params.examined[k]
                above += share * value[i, slate[k]]
                below += share
        total += weights[i] * above / below
    return total


@kernel
def slate_of_means(params, odds, satisfaction, value, weights, ids, slate):
    """Writes the slate that is best for the mean odds, and for mean values given consumption."""
    count = ids.shape[0]
    mean, happy, worth = np.zeros(count), np.zeros(count), np.zeros(count)
    for c in range(count):
        for i in range(weights.shape[0]):
            share = weights[i] * odds[i, c]
            mean[c] += share
            happy[c] += share * satisfaction[i, c]
            worth[c] += share * value[i, c]
        if mean[c] > 0.0:
            happy[c], worth[c] = happy[c] / mean[c], worth[c] / mean[c]
    if params.cascade == 1:
        best_cascade(mean, happy, worth, ids, params, slate)
    else:
        best_slate(mean, worth, ids, params.examined, slate)


@kernel
def greedy_slate(params, odds, satisfaction, value, weights, ids, slate):
    """Writes the slate that slot after slot takes the candidate that adds most."""
    for k in range(slate.shape[0]):
        best, most = -1, -np.inf
        for c in range(ids.shape[0]):
            if ids[c] < 0 or index_of(slate, k, c) >= 0:
                continue
            slate[k] = c
            gained = slate_value(params, odds, satisfaction, value, weights, slate, k + 1)
            if gained > most:
                best, most = c, gained
        slate[k] = best


@kernel
def index_of(slate, length, candidate):
    """Returns the slot of a candidate, or -1."""
    for k in range(length):
        if slate[k] == candidate:
            return k
    return -1


@kernel
def exchange(params, odds, satisfaction, value, weights, ids, slate):
    """Improves a slate by single exchanges, of a slot with another or with a new candidate."""
    length = slate.shape[0]
    best = slate_value(params, odds, satisfaction, value, weights, slate, length)
    for _ in range(_PASSES):
        before = best
        for k in range(length):
            for c in range(ids.shape[0]):
                old, other = slate[k], index_of(slate, length, c)
                if ids[c] < 0 or other == k:
                    continue
                slate[k] = c
                if other >= 0:
                    slate[other] = old
                gained = slate_value(params, odds, satisfaction, value, weights, slate, length)
                if gained > best + _LEAST_GAIN:
                    best = gained
                else:
                    slate[k] = old
                    if other >= 0:
                        slate[other] = c
        if best == before:
            break
    return best


@kernel
def hedged_slate(params, odds, satisfaction, value, weights, ids, slate):
    """Writes the slate of highest mean value that exchanges find.

    They begin with the slate for means, which is the best one if all hypotheses are one, and with
    the greedy one, which has something for several; the better end is kept.
    """
    other = np.zeros_like(slate)
    slate_of_means(params, odds, satisfaction, value, weights, ids, slate)
    greedy_slate(params, odds, satisfaction, value, weights, ids, other)
    best = exchange(params, odds, satisfaction, value, weights, ids, slate)
    if exchange(params, odds, satisfaction, value, weights, ids, other) > best + _LEAST_GAIN:
        slate[:] = other
