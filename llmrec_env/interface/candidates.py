"""BOUNDARY: the candidate items offered at a step, and what a ranker may know about each."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import cosines, inlined, inverse_norm, kernel, row_dot

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
    slots = history.shown.shape[0]
    for j in range(min(history.num_shown, slots) if cap_slates > 0 else 0):
        unavailable[history.shown[j]] = generation
    for j in range(history.num_consumed_items):
        unavailable[history.consumed_items[j]] = generation


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
    order = np.argsort(-scores)
    for c in range(count):
        ids[first + c] = order[c]
        unavailable[order[c]] = generation
    return first + count


@kernel
def recall_two_stage(history, items, key, unavailable, generation, ids):
    """Fills ids as a retrieval stage would: by text, co-consumption, popularity, at random."""
    size, num_items = ids.shape[0], unavailable.shape[0]
    scores = np.empty(num_items, np.float32)
    first = 0
    for source in range(4):
        for item in range(num_items):
            if source == 0:
                scores[item] = row_dot(history.recent, items.vectors, item)
            elif source == 1:
                scores[item] = row_dot(history.interest, items.vectors, item)
            elif source == 2:
                scores[item] = row_dot(history.factor, items.factors, item)
            else:
                scores[item] = items.popularity[item]
        share = int(_TWO_STAGE_SHARES[source] * size)
        first = take_best(scores, unavailable, generation, ids, first, share)
    recall_uniform(key, first, unavailable, generation, ids)


@kernel
def sort_by_recent(history, vectors, ids):
    """Orders the candidates by cosine to the recent interest, so that an index has a meaning."""
    scores = np.empty(ids.shape[0], np.float32)
    for c in range(ids.shape[0]):
        scores[c] = -row_dot(history.recent, vectors, ids[c])
    ids[:] = ids[np.argsort(scores)]


@kernel
def describe(history, items, ids, features, i):
    """Writes the features of the candidates into features[i], (c, 8); see FEATURES."""
    slow, fast = inverse_norm(history.interest), inverse_norm(history.recent)
    factor_scale = inverse_norm(history.factor)
    last = min(history.num_shown, _LAST_SHOWN, history.shown.shape[0])
    before = np.empty(last, np.int32)
    for j in range(last):
        before[j] = history.shown[(history.num_shown - 1 - j) % history.shown.shape[0]]
    likeness = np.empty((last, ids.shape[0]), np.float32)
    cosines(before, items.vectors, ids, items.vectors, likeness)
    for c in range(ids.shape[0]):
        item = ids[c]
        interest = recent = satiation = skipped = np.float32(0.0)
        for j in range(items.vectors.shape[1]):
            y = items.vectors[item, j]
            interest += history.interest[j] * y
            recent += history.recent[j] * y
            satiation += history.satiation[j] * y
            skipped += history.skipped[j] * y
        repetition = np.float32(0.0)
        for j in range(last):
            repetition = max(repetition, likeness[j, c])
        features[i, c, INTEREST], features[i, c, RECENT] = interest * slow, recent * fast
        shared = row_dot(history.factor, items.factors, item) * factor_scale
        features[i, c, CO_CONSUMPTION] = shared
        features[i, c, POPULARITY] = items.popularity[item]
        features[i, c, SATIATION] = 1.0 - math.exp(-max(satiation, np.float32(0.0)))
        features[i, c, SKIPPED] = math.tanh(max(skipped, np.float32(0.0)))
        features[i, c, SUBSTANCE] = items.substance[item]
        features[i, c, REPETITION] = repetition


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
