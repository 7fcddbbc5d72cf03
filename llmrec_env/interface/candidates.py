"""BOUNDARY: the candidate items offered at a step, and what a ranker may know about each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.interface.history import (
    consumed_of,
    interest_of,
    recent_of,
    satiation_of,
    shown_of,
    skipped_of,
)
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import one_minus_exp32, tanh32
from llmrec_env.simulation.inner_products import (
    block4x4,
    block5x3,
    inverse_norm,
    products_with,
)
from llmrec_env.simulation.ordering import best_of

FEATURES = (
    "interest",
    "recent",
    "co_consumption",
    "popularity",
    "satiation",
    "skipped",
    "substance",
    "repetition",
)
"""Columns of the candidate features, all about in [-1, 1]."""

INTEREST, RECENT, CO_CONSUMPTION, POPULARITY, SATIATION, SKIPPED, SUBSTANCE, REPETITION = range(8)
UNIFORM, TWO_STAGE = 0, 1
RECALLS = {"uniform": UNIFORM, "two-stage": TWO_STAGE}

_TWO_STAGE_SHARES = (0.50, 0.20, 0.15, 0.10)  # recent, interest, co-consumption, popular
_LAST_SHOWN = 5


class Items(NamedTuple):
    """What everybody may know about the items of a catalogue."""

    vectors: npt.NDArray[np.float32]  # (items, d), unit
    factors: npt.NDArray[np.float32]  # (items, 16), unit or zero: who consumed it in the logs
    popularity: npt.NDArray[np.float32]  # (items,), in [0, 1], from the logs
    substance: npt.NDArray[np.float32]  # (items,), in [-1, 1], read off the text by a probe


@inlined
def mark_unavailable(history, cap_slates, unavailable, generation):
    """Marks the items that may not be offered: shown in the last steps, or consumed before.

    Args:
        unavailable: generation in which each item was last marked, (items,): a new generation
            clears all marks without a pass over the catalogue.
    """
    shown, consumed = shown_of(history), consumed_of(history)
    for j in range(min(history.num_shown, history.cap_slots) if cap_slates > 0 else 0):
        unavailable[shown[j]] = generation
    for j in range(history.num_consumed_items):
        unavailable[consumed[j]] = generation


@kernel
def recall_uniform(key, first, unavailable, generation, ids):
    """Fills ids[first:] with distinct available items drawn uniformly."""
    num_items, draw = unavailable.shape[0], 0
    for c in range(first, ids.shape[0]):
        item = noise.below(key, noise.CANDIDATES + draw, num_items)
        draw += 1
        while unavailable[item] == generation and draw < 16 * ids.shape[0]:
            item = noise.below(key, noise.CANDIDATES + draw, num_items)
            draw += 1
        while unavailable[item] == generation:  # a small catalogue, nearly used up
            item = (item + 1) % num_items
        unavailable[item] = generation
        ids[c] = item


@kernel
def take_best(scores, unavailable, generation, ids, first, count):
    """Appends to `ids` the `count` available items with the highest scores; changes `scores`."""
    for item in range(scores.shape[0]):
        if unavailable[item] == generation:
            scores[item] = -1e9
    best = best_of(scores, np.arange(scores.shape[0]), count)
    for c in range(count):
        ids[first + c] = best[c]
        unavailable[best[c]] = generation
    return first + count


@kernel
def recall_two_stage(history, items, key, unavailable, generation, ids):
    """Fills ids as a retrieval stage would: by text, co-consumption, popularity, at random."""
    size, num_items = ids.shape[0], unavailable.shape[0]
    all_ids, scores = np.arange(num_items), np.empty(num_items + 8, np.float32)
    first = 0
    for source in range(4):
        if source == 0:
            products_with(recent_of(history), items.vectors, all_ids, scores)
        elif source == 1:
            products_with(interest_of(history), items.vectors, all_ids, scores)
        elif source == 2:
            products_with(history.factor, items.factors, all_ids, scores)
        else:
            scores[:num_items] = items.popularity
        share = int(_TWO_STAGE_SHARES[source] * size)
        first = take_best(scores[:num_items], unavailable, generation, ids, first, share)
    recall_uniform(key, first, unavailable, generation, ids)


@kernel
def sort_by_recent(history, vectors, ids):
    """Orders the candidates by cosine to the recent interest, so that an index has a meaning."""
    count = ids.shape[0]
    scores = np.empty(count + 8, np.float32)
    products_with(recent_of(history), vectors, ids, scores)
    ids[:] = ids[best_of(scores[:count], ids, count)]


@kernel
def describe(history, items, ids, features, i):
    """Writes the features of the candidates into features[i], (c, 8); see FEATURES."""
    count, vectors, d = ids.shape[0], items.vectors, items.vectors.shape[1]
    interest, recent = interest_of(history), recent_of(history)
    slow, fast = inverse_norm(interest), inverse_norm(recent)
    factor_scale = inverse_norm(history.factor)
    known, shared = np.empty((count, 4), np.float32), np.empty(count + 8, np.float32)
    user = (interest, recent, satiation_of(history), skipped_of(history))
    for c in range(0, count, 4):
        block4x4(user, None, vectors, (ids, c), d, known, c, 0)
    products_with(history.factor, items.factors, ids, shared)
    likeness = likeness_to_shown(history, vectors, ids)
    for c in range(count):
        item = ids[c]
        features[i, c, INTEREST], features[i, c, RECENT] = known[c, 0] * slow, known[c, 1] * fast
        features[i, c, CO_CONSUMPTION] = shared[c] * factor_scale
        features[i, c, POPULARITY] = items.popularity[item]
        features[i, c, SATIATION] = one_minus_exp32(max(known[c, 2], np.float32(0.0)))
        features[i, c, SKIPPED] = tanh32(max(known[c, 3], np.float32(0.0)))
        features[i, c, SUBSTANCE] = items.substance[item]
        repetition = max(likeness[c, 0], likeness[c, 1], likeness[c, 2])
        features[i, c, REPETITION] = max(
            repetition, likeness[c, 3], likeness[c, 4], np.float32(0.0)
        )


@kernel
def likeness_to_shown(history, vectors, ids):
    """Returns the cosines of the candidates to the items shown last, (c, 5); 0 before the first."""
    likeness = np.zeros((ids.shape[0], _LAST_SHOWN), np.float32)
    last = min(history.num_shown, _LAST_SHOWN, history.cap_slots)
    if last > 0:
        before, shown = np.empty(last, np.int32), shown_of(history)
        for j in range(last):
            before[j] = shown[(history.num_shown - 1 - j) % history.cap_slots]
        for c in range(0, ids.shape[0], 3):
            block5x3(vectors, (before, 0), vectors, (ids, c), vectors.shape[1], likeness, c, 0)
    return likeness


@inlined
def offer(history, items, recall, cap_slates, in_order, key, unavailable, generation, ids):
    """Fills `ids` with the candidates of this step, best recent match first where order matters."""
    mark_unavailable(history, cap_slates, unavailable, generation)
    if recall == TWO_STAGE:
        recall_two_stage(history, items, key, unavailable, generation, ids)
    else:
        recall_uniform(key, 0, unavailable, generation, ids)
    if in_order == 1:
        sort_by_recent(history, items.vectors, ids)
