"""Orders of items: by score, highest first, and by item id where scores are equal."""

from __future__ import annotations

import numpy as np

from llmrec_env.simulation.compilation import kernel

_COUNTED = 512
"""Up to so many scores, counting how many are higher is faster than sorting."""


@kernel
def order_of(scores, ids, order):
    """Writes the indices of all scores, best first, into `order`, (n,)."""
    if scores.shape[0] <= _COUNTED:
        order_few(scores, ids, order)
    else:
        order[:] = best_of(scores, ids, scores.shape[0])


@kernel
def order_few(scores, ids, order):
    """Writes the indices of all scores, best first, by counting: n^2 comparisons without a branch.

    Args:
        scores: (n,).
        ids: distinct item ids, (n,).
        order: receives the indices, (n,).
    """
    n, whole = scores.shape[0], (scores.shape[0] + 31) // 32 * 32
    padded, ranks = np.full(whole, -np.inf, scores.dtype), np.empty(n, np.int32)
    padded[:n] = scores
    for c in range(n):
        mine, above = padded[c], np.int32(0)
        for other in range(whole):  # whole vectors: what remains would take a third of the time
            above += np.int32(padded[other] > mine)
        ranks[c], order[c] = above, -1
    for c in range(n):
        index, place = np.int32(c), ranks[c]
        while order[place] >= 0:  # equal to an earlier one: the lower id stays
            if ids[index] < ids[order[place]]:
                index, order[place] = order[place], index
            place += 1
        order[place] = index


@kernel
def best_of(scores, ids, count):
    """Returns the indices of the `count` best scores, best first, (count,).

    Args:
        scores: (n,), n >= count.
        ids: distinct item ids, (n,).
    """
    n = scores.shape[0]
    if n <= _COUNTED:
        order = np.empty(n, np.int32)
        order_few(scores, ids, order)
        return order[:count]
    bar = np.partition(scores, n - count)[n - count]
    chosen = np.empty(count, np.int32)
    above = 0
    for c in range(n):
        if scores[c] > bar:
            chosen[above] = c
            above += 1
    level = np.flatnonzero(scores == bar)
    if level.shape[0] > count - above:
        level = level[np.argsort(ids[level])]
    for j in range(count - above):
        chosen[above + j] = level[j]
    return chosen[best_of_chosen(scores, ids, chosen)]


@kernel
def best_of_chosen(scores, ids, chosen):
    """Returns the order of a few chosen indices, best first."""
    order = np.empty(chosen.shape[0], np.int32)
    order_few(scores[chosen], ids[chosen], order)
    return order
