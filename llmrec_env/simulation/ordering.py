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
        best = best_of(scores, ids, scores.shape[0])
        for c in range(scores.shape[0]):
            order[c] = best[c]


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
    for c in range(n):
        padded[c] = scores[c]
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
    bar, level, ties, above = kth_highest(scores, count), np.empty(n, ids.dtype), 0, 0
    for c in range(n):
        if scores[c] == bar:
            level[ties] = -ids[c]
            ties += 1
        elif scores[c] > bar:
            above += 1
    last_id = -kth_highest(level[:ties], count - above)
    chosen, found = np.empty(count, np.int32), 0
    for c in range(n):
        if scores[c] > bar or (scores[c] == bar and ids[c] <= last_id):
            chosen[found] = c
            found += 1
    some_scores, some_ids = np.empty(count, scores.dtype), np.empty(count, ids.dtype)
    for j in range(count):
        some_scores[j], some_ids[j] = scores[chosen[j]], ids[chosen[j]]
    order = np.empty(count, np.int32)
    order_few(some_scores, some_ids, order)
    for j in range(count):
        order[j] = chosen[order[j]]
    return order


@kernel
def kth_highest(values, k):
    """Returns the k-th highest of some values, k >= 1 (quickselect: Hoare, 1961).

    Written out, for numpy's own takes three seconds to compile.
    """
    left, first, last = values.copy(), 0, values.shape[0] - 1
    while first < last:
        pivot, i, j = left[(first + last) // 2], first, last
        while i <= j:
            while left[i] > pivot:
                i += 1
            while left[j] < pivot:
                j -= 1
            if i <= j:
                left[i], left[j] = left[j], left[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            last = j
        elif k - 1 >= i:
            first = i
        else:
            break
    return left[k - 1]
