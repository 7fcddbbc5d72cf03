"""Memory of a user's public past, compiled: what the joint recommender's text half reads.

It keeps decayed sums of the encodings of what was liked, disliked, skipped and typed, the last
liked or typed texts one by one, how tired a user is of what was consumed, and goodwill as its
substance tells. Logs and sessions pass through the same functions, so that what is learnt from is
what is acted on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import cosines, products_with, row_dot

Floats = npt.NDArray[np.float32]

LIKED, LIKED_LATELY, DISLIKED, DISLIKED_LATELY, SKIPPED, TYPED, TIRED = range(7)
"""Sums that are kept."""
MEANS = 6
"""All sums but that of tiredness are read as means."""
TEXT_FEATURES = ("liked", "liked_lately", "disliked", "disliked_lately", "skipped", "typed", "last")
"""Cosines of an item with the means, and the largest with the last liked or typed texts."""
NUM_FEATURES = len(TEXT_FEATURES)
LAST = 6
"""Texts, the latest liked or typed, that are kept one by one."""
LONG_DECAY, LATELY_DECAY, TYPED_DECAY, SKIPPED_DECAY = (
    np.float32(x) for x in (0.97, 0.85, 0.93, 0.92)
)
_REST, _GOODWILL = np.float32(0.85), np.float32(0.95)  # a step, of tiredness and of goodwill
FADING = np.float32(math.log(0.93))  # of the last texts, with each item consumed since
IGNORED_AGE = np.float32(0.25)  # of the age that a consumption adds, when nothing was consumed
PRIOR_EVENTS = np.float32(2.0)  # events of which nothing is known that each mean begins with


class Memory(NamedTuple):
    """What is remembered of n users."""

    sums: Floats  # (n, 7, d)
    counts: Floats  # (n, 7), decayed numbers of events in the sums
    last: npt.NDArray[np.int32]  # (n, LAST), rows of the texts, newest first, -1 for none
    ages: Floats  # (n, LAST), items consumed since
    goodwill: Floats  # (n,)


class Texts(NamedTuple):
    """Encodings of the texts, and what they say of the items."""

    rows: Floats  # (N + P, d): items as the environment encodes them, then phrases
    read: Floats  # (N, d): items as the agent reads them; the same but for a trained tower
    substance: Floats  # (N,)
    popularity: Floats  # (N,)


def empty_memory(n: int, dim: int) -> Memory:
    """Returns the memory of n users of whom nothing is known."""
    sums = np.zeros((n, MEANS + 1, dim), np.float32)
    ages = np.zeros((n, LAST), np.float32)
    last = np.full((n, LAST), -1, np.int32)
    return Memory(sums, np.zeros((n, MEANS + 1), np.float32), last, ages, np.zeros(n, np.float32))


@kernel
def _put_first(memory, i, row):
    for j in range(LAST - 1, 0, -1):
        memory.last[i, j], memory.ages[i, j] = memory.last[i, j - 1], memory.ages[i, j - 1]
    memory.last[i, 0], memory.ages[i, 0] = row, 0.0


@kernel
def _add(memory, i, kind, row, weight, rows):
    for c in range(rows.shape[1]):
        memory.sums[i, kind, c] += weight * rows[row, c]
    memory.counts[i, kind] += weight


@kernel
def _fade(memory, i, kind, factor):
    for c in range(memory.sums.shape[2]):
        memory.sums[i, kind, c] *= factor
    memory.counts[i, kind] *= factor


@kernel
def remember(memory, i, texts, slate, item, satisfied, query):
    """Moves what is remembered of user i by a step."""
    rows, phrases = texts.rows, texts.read.shape[0]
    _fade(memory, i, TIRED, _REST)
    memory.goodwill[i] *= _GOODWILL
    age = IGNORED_AGE
    if item >= 0:
        age = np.float32(1.0)
        for kind in (LIKED, DISLIKED):
            _fade(memory, i, kind, LONG_DECAY)
            _fade(memory, i, kind + 1, LATELY_DECAY)
        _fade(memory, i, TYPED, TYPED_DECAY)
        kind = LIKED if satisfied else DISLIKED
        _add(memory, i, kind, item, np.float32(1.0), rows)
        _add(memory, i, kind + 1, item, np.float32(1.0), rows)
        _add(memory, i, TIRED, item, np.float32(1.0), rows)
        memory.goodwill[i] += texts.substance[item]
    else:
        _fade(memory, i, SKIPPED, SKIPPED_DECAY)
        for k in range(slate.shape[0]):
            _add(memory, i, SKIPPED, slate[k], np.float32(1.0 / slate.shape[0]), rows)
    for j in range(LAST):
        memory.ages[i, j] += age
    if item >= 0 and satisfied:
        _put_first(memory, i, item)
    if query >= 0:
        _add(memory, i, TYPED, phrases + query, np.float32(1.0), rows)
        _put_first(memory, i, phrases + query)


@kernel
def write_interest(memory, i, weights, interest):
    """Writes the believed interest of user i, (d,): the weighted means of the texts of its past."""
    interest[:] = 0.0
    for kind in range(MEANS):
        scale = np.float32(weights[kind]) / (memory.counts[i, kind] + PRIOR_EVENTS)
        for c in range(interest.shape[0]):
            interest[c] += scale * memory.sums[i, kind, c]


@kernel
def write_interests(memory, weights, interests):
    """Writes the believed interests of all users, (n, d)."""
    for i in range(interests.shape[0]):
        write_interest(memory, i, weights, interests[i])


@kernel
def write_likeness(memory, i, texts, ids, scratch, nearest, tired):
    """Writes the likeness of items to the last texts, and how tired user i is of them, (ids,).

    Args:
        scratch: room, (LAST + 1, ids rounded up to 16).
    """
    known = 0
    last = np.empty(LAST, np.int32)
    for j in range(LAST):
        if memory.last[i, j] >= 0:
            last[known] = memory.last[i, j]
            known += 1
    cosines(last[:known], texts.rows, ids, texts.rows, scratch)
    for k in range(ids.shape[0]):
        nearest[k] = 0.0
    for j in range(known):  # the known ones come first, newest first
        fading = math.exp(FADING * memory.ages[i, j])
        for k in range(ids.shape[0]):
            nearest[k] = max(nearest[k], fading * scratch[j, k])
    products_with(memory.sums[i, TIRED], texts.rows, ids, scratch[0])
    for k in range(ids.shape[0]):
        tired[k] = 1.0 - math.exp(-max(scratch[0, k], np.float32(0.0)))


@kernel
def write_text_scores(memory, i, texts, weights, ids, interest, scratch, scores, tired):
    """Writes what the texts say of items to user i, and how tired of them it is, both (ids,)."""
    write_interest(memory, i, weights, interest)
    write_likeness(memory, i, texts, ids, scratch, scores, tired)
    products_with(interest, texts.read, ids, scratch[0])
    for k in range(ids.shape[0]):
        scores[k] = weights[MEANS] * scores[k] + scratch[0, k]


def text_scores(
    memory: Memory, weights: npt.NDArray[np.float64], texts: Texts, ids: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Returns what the texts say of items to the first user, (ids,)."""
    scratch = np.empty((LAST + 1, len(ids) + 16), np.float32)
    interest, scores = np.empty(texts.rows.shape[1], np.float32), np.empty((2, len(ids)))
    write_text_scores(memory, 0, texts, weights, ids, interest, scratch, *scores)
    return scores[0]


@kernel
def read_logs(texts, steps, features, tired, goodwill):
    """Writes what was known before each logged step about the items on its slate.

    Args:
        steps: slates (n, W, K), items, feedback and queries (n, W), oldest first.
        features: receives TEXT_FEATURES, (n, W, K, 7).
        tired: receives tiredness, (n, W, K).
        goodwill: receives goodwill, (n, W).
    """
    slates, items, feedback, queries = steps
    n, steps_of, k = slates.shape
    d = texts.rows.shape[1]
    scratch, nearest = np.empty((LAST + 1, k + 16), np.float32), np.empty(k)
    one_hot, interest = np.zeros(MEANS), np.empty(d, np.float32)
    memory = _empty(d)
    for i in range(n):
        _clear(memory)
        for t in range(steps_of):
            slate = slates[i, t]
            if slate[0] < 0:
                continue
            write_likeness(memory, 0, texts, slate, scratch, nearest, tired[i, t])
            for kind in range(MEANS):
                one_hot[:] = 0.0
                one_hot[kind] = 1.0
                write_interest(memory, 0, one_hot, interest)
                for s in range(k):
                    features[i, t, s, kind] = row_dot(interest, texts.read, slate[s])
            for s in range(k):
                features[i, t, s, MEANS] = nearest[s]
            goodwill[i, t] = memory.goodwill[0]
            remember(memory, 0, texts, slate, items[i, t], feedback[i, t] == 1, queries[i, t])


@kernel
def read_interests(texts, steps, weights, user, step, interests):
    """Writes the believed interest of users before some of their logged steps, (m, d).

    Args:
        steps: as in `read_logs`.
        weights: of TEXT_FEATURES.
        user: rows of the logs, (m,).
        step: numbers of the steps, (m,).
    """
    slates, items, feedback, queries = steps
    d = texts.rows.shape[1]
    memory = _empty(d)
    for i in range(user.shape[0]):
        _clear(memory)
        for t in range(step[i]):
            u = user[i]
            if slates[u, t, 0] >= 0:
                remember(
                    memory, 0, texts, slates[u, t], items[u, t], feedback[u, t] == 1, queries[u, t]
                )
        write_interest(memory, 0, weights, interests[i])


@kernel
def _empty(d):
    return Memory(
        np.zeros((1, MEANS + 1, d), np.float32),
        np.zeros((1, MEANS + 1), np.float32),
        np.full((1, LAST), -1, np.int32),
        np.zeros((1, LAST), np.float32),
        np.zeros(1, np.float32),
    )


@kernel
def _clear(memory):
    memory.sums[:], memory.counts[:], memory.goodwill[:] = 0.0, 0.0, 0.0
    memory.last[:], memory.ages[:] = -1, 0.0
