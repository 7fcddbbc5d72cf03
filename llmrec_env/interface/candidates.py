"""BOUNDARY: the candidate items offered at a step, and what a ranker may know about each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
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
from llmrec_env.simulation.freshness import freshness
from llmrec_env.simulation.inner_products import (
    LANES,
    block4x4,
    block16x1,
    inverse_norm,
    products_with,
)
from llmrec_env.simulation.ordering import best_of, order_of
from llmrec_env.simulation.table import prefetch

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
MORE_BLOCKS = ("candidate_freshness", "candidate_familiarity")
"""Blocks of a number for each candidate that mechanisms add; see `blocks_added`."""
FRESHNESS, FAMILIARITY = 0.5, 0.1
"""Weights of these blocks beside a cosine, by which whoever ranks texts may begin.

Hand-set, by one grid for all rankers of texts on 400 validation users of world 100. `News`, 0, .1,
.2, .4, .6, .8: .4 or .6 earned most with `content`, `content-recency` and `drift-aware`. `Social`,
0, .1, .2, .4: hardly told apart. `ease-text`, whose scores are smaller, has weights of its own.
"""
UNIFORM, TWO_STAGE = 0, 1
RECALLS = {"uniform": UNIFORM, "two-stage": TWO_STAGE}

_TWO_STAGE_SHARES = (0.50, 0.20, 0.15, 0.10)  # recent, interest, co-consumption, popular
_LAST_SHOWN = 5
# Rows behind the features: products with the user's vectors, and with the items shown last.
_TO_INTEREST, _TO_RECENT, _TO_SATIATION, _TO_SKIPPED, _TO_SHOWN = range(8, 13)
_COLUMNS = _TO_SHOWN + _LAST_SHOWN
_NEAR = 1 << 20  # bytes of a matrix that is read fast enough from the second-level cache


class Items(NamedTuple):
    """What everybody may know about the items of a catalogue."""

    vectors: npt.NDArray[np.float32]  # (items, d), unit
    factors: npt.NDArray[np.float32]  # (items, 16), unit or zero: who consumed it in the logs
    popularity: npt.NDArray[np.float32]  # (items,), in [0, 1], from the logs
    substance: npt.NDArray[np.float32]  # (items,), in [-1, 1], read off the text by a probe
    published: npt.NDArray[np.int32]  # (items,), step of a session, long ago if items do not age
    creator: npt.NDArray[np.int32]  # (items,), number, -1 if users do not mind who made an item


def blocks_added(config: EnvConfig) -> tuple[str, ...]:
    """Returns those of MORE_BLOCKS that observations of a configuration have."""
    has = dict(zip(MORE_BLOCKS, (config.ages(), config.attaches()), strict=True))
    return tuple(name for name in MORE_BLOCKS if has[name])


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


@inlined
def mark_unpublished(history, published, newest_first, unavailable, generation):
    """Marks the items that do not exist at the coming step.

    Args:
        newest_first: ids in order of publication, (items,).
    """
    for place in range(newest_first.shape[0]):
        item = newest_first[place]
        if published[item] <= history.step:
            break
        unavailable[item] = generation


@kernel
def write_freshness(ids, published, steps, half_life, out):
    """Writes the freshness of each candidate, (n, c), 0 where there is none."""
    for i in range(ids.shape[0]):
        for c in range(ids.shape[1]):
            item = ids[i, c]
            fresh = freshness(published[max(item, 0)], steps[i], half_life)
            out[i, c] = fresh if item >= 0 else np.float32(0.0)


def candidate_freshness(
    items: Items,
    ids: npt.NDArray[np.int32],
    steps: npt.NDArray[np.integer],
    half_life: float,
) -> npt.NDArray[np.float32]:
    """Returns the freshness of candidates in [0, 1], (n, c), as it is part of their choice.

    Args:
        items: that the ids are of.
        ids: of the candidates, (n, c), -1 for none.
        steps: of a session, negative in the logs, (n,).
        half_life: in steps.
    """
    out = np.empty(ids.shape, np.float32)
    write_freshness(ids, items.published, np.asarray(steps, np.int64), half_life, out)
    return out


@kernel
def recall_uniform(key, first, unavailable, generation, ids):
    """Fills ids[first:] with distinct available items drawn uniformly."""
    num_items, size, draw = unavailable.shape[0], ids.shape[0], first
    for c in range(first, size):  # as if all were available: a loop without a branch
        ids[c] = noise.below(key, noise.CANDIDATES + c - first, num_items)
    for c in range(first, size):
        item = drawn(key, first, draw, num_items, ids)
        draw += 1
        while unavailable[item] == generation and draw - first < 16 * size:
            item = drawn(key, first, draw, num_items, ids)
            draw += 1
        while unavailable[item] == generation:  # a small catalogue, nearly used up
            item = (item + 1) % num_items
        unavailable[item] = generation
        ids[c] = item


@inlined
def drawn(key, first, draw, num_items, ids):
    """Returns the item of a draw: a number of `ids`, or a new one behind their end."""
    if draw < ids.shape[0]:
        return np.int64(ids[draw])
    return np.int64(noise.below(key, noise.CANDIDATES + draw - first, num_items))


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
def describe(history, items, ids, in_order, out, i, start):
    """Writes the features of the candidates into out[i, start:], (c · 8,); see FEATURES.

    Args:
        in_order: 1 first orders `ids` by cosine to the recent interest, so that an index has a
            meaning.
    """
    count = ids.shape[0]
    prefetch(out.ctypes.data + i * out.strides[0] + 4 * start, 4 * len(FEATURES) * count)
    columns, order = feature_columns(history, items, ids), np.empty(count, np.int32)
    if in_order == 1:
        order_of(columns[_TO_RECENT, :count], ids, order)
    else:
        for c in range(count):
            order[c] = c
    for c in range(count):
        column, first = order[c], start + c * len(FEATURES)
        for f in range(len(FEATURES)):
            out[i, first + f] = columns[f, column]
        order[c] = ids[column]
    for c in range(count):
        ids[c] = order[c]


@kernel
def feature_columns(history, items, ids):
    """Returns the features of the candidates, (8 + scratch, c + padding), in the order of FEATURES.

    Every candidate's row is read from memory once, and asked for ahead of that.
    """
    count, zero = ids.shape[0], np.float32(0.0)
    columns = np.empty((_COLUMNS, count + LANES), np.float32)
    prefetch_rows(items.factors, ids)
    compare_with_history(history, items.vectors, ids, columns)
    products_with(history.factor, items.factors, ids, columns[CO_CONSUMPTION])
    slow, fast = inverse_norm(interest_of(history)), inverse_norm(recent_of(history))
    factor_scale = inverse_norm(history.factor)
    for c in range(count):
        columns[INTEREST, c] = columns[_TO_INTEREST, c] * slow
        columns[RECENT, c] = columns[_TO_RECENT, c] * fast
        columns[CO_CONSUMPTION, c] = columns[CO_CONSUMPTION, c] * factor_scale
    for c in range(count):
        columns[SATIATION, c] = one_minus_exp32(max(columns[_TO_SATIATION, c], zero))
        columns[SKIPPED, c] = tanh32(max(columns[_TO_SKIPPED, c], zero))
    for c in range(count):
        nearest = max(columns[_TO_SHOWN, c], columns[_TO_SHOWN + 1, c], columns[_TO_SHOWN + 2, c])
        nearest = max(nearest, columns[_TO_SHOWN + 3, c], columns[_TO_SHOWN + 4, c], zero)
        columns[REPETITION, c] = nearest
    for c in range(count):
        columns[POPULARITY, c] = items.popularity[ids[c]]
        columns[SUBSTANCE, c] = items.substance[ids[c]]
    return columns


@kernel
def compare_with_history(history, vectors, ids, columns):
    """Writes the products of the candidates with the user's vectors and the items shown last.

    Before the first slate is shown, the latter are 0.
    """
    last, shown = min(history.num_shown, history.cap_slots), shown_of(history)
    d, before = vectors.shape[1], np.empty(_LAST_SHOWN, np.int32)
    for j in range(_LAST_SHOWN if last > 0 else 0):  # fewer: the first of them again
        before[j] = shown[(history.num_shown - 1 - min(j, last - 1)) % history.cap_slots]
    if last > 0:
        prefetch_rows(vectors, before)
    prefetch_rows(vectors, ids)
    user = (interest_of(history), recent_of(history), satiation_of(history), skipped_of(history))
    for first in range(0, ids.shape[0], LANES):
        for c in range(first, min(first + LANES, ids.shape[0]), 4):
            block4x4(vectors, (ids, c), user, None, d, columns, _TO_INTEREST, c)
            if last > 0:
                block4x4(vectors, (ids, c), vectors, (before[:4], 0), d, columns, _TO_SHOWN, c)
        if last > 0:
            oldest = (before[4],)
            block16x1(vectors, (ids, first), vectors, oldest, d, columns, _TO_SHOWN + 4, first)
    if last == 0:
        columns[_TO_SHOWN : _TO_SHOWN + _LAST_SHOWN] = 0.0


@inlined
def prefetch_rows(rows, ids):
    """Asks the memory for the rows of a matrix named in `ids`, unless all of it is near anyway."""
    start, size = rows.ctypes.data, rows.strides[0]
    if rows.shape[0] * size > _NEAR:
        for c in range(ids.shape[0]):
            prefetch(start + ids[c] * size, size)
