"""Statistics of users' public histories, compiled: features of online agents."""

from __future__ import annotations

import numpy as np

from agents.clustering import spherical_k_means
from agents.rankers.ranker import Floats, Ints
from llmrec_env.interface.history import HISTORY_LENGTH, QUERY, SATISFIED
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import cosines

SATISFIED_ITEMS = 4
"""Items that satisfied, the latest, that are kept one by one."""
TOPICS = 16
"""Clusters of items whose consumptions are counted."""
OUTCOMES = ("satisfied", "unsatisfied", "ignored", "substance")
"""What is counted of the last steps; substance is that of what was consumed."""


def topics_of(vectors: Floats, rounds: int = 20) -> Ints:
    """Returns a cluster, 0 to TOPICS - 1, of each item, (items,): k-means without a draw.

    The first centre is the item farthest from the mean, each further one the item least like all
    centres before it.
    """
    chosen = [int((vectors @ vectors.mean(0)).argmin())]
    likeness = vectors @ vectors[chosen[0]]
    for _ in range(TOPICS - 1):
        chosen.append(int(likeness.argmin()))
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
    return spherical_k_means(vectors, vectors[chosen], rounds)[1]


@kernel
def last_satisfied(history, feedback):
    """Returns the items that satisfied last, newest first, (n, SATISFIED_ITEMS), -1 for none."""
    ids = np.full((history.shape[0], SATISFIED_ITEMS), -1, np.int32)
    for i in range(history.shape[0]):
        count = 0
        for j in range(history.shape[1]):
            if count < SATISFIED_ITEMS and feedback[i, j] == SATISFIED:
                ids[i, count] = history[i, j]
                count += 1
    return ids


@kernel
def write_rows(vectors, ids, length, out):
    """Writes the leading components of the vectors of items side by side; zeros for -1."""
    for i in range(ids.shape[0]):
        for k in range(ids.shape[1]):
            for j in range(length):
                y = vectors[ids[i, k], j] if ids[i, k] >= 0 else np.float32(0.0)
                out[i, k * length + j] = y


@kernel
def count_outcomes(slates, items, satisfied, substance, decays, out):
    """Writes decayed shares of OUTCOMES for each decay into out, (n, decays · OUTCOMES).

    Args:
        slates: items shown at the last steps, newest first, (n, s, k), -1 for no step.
        items: consumed at these steps, (n, s), -1 for none.
        satisfied: whether they satisfied, (n, s).
        substance: of all items, (items,).
        decays: what is left of an outcome after a step.
    """
    steps, kinds = items.shape[1], len(OUTCOMES)
    for i in range(items.shape[0]):
        for a in range(decays.shape[0]):
            decay, weight = decays[a], np.float32(1.0)
            liked = disliked = ignored = depth = np.float32(0.0)
            for j in range(steps):
                if slates[i, j, 0] < 0:
                    break
                item = items[i, j]
                if item < 0:
                    ignored += weight
                else:
                    depth += weight * substance[item]
                    if satisfied[i, j] == 1:
                        liked += weight
                    else:
                        disliked += weight
                weight *= decay
            scale = np.float32(1.0) - decay if decay < 1.0 else np.float32(1.0 / steps)
            out[i, kinds * a], out[i, kinds * a + 1] = scale * liked, scale * disliked
            out[i, kinds * a + 2], out[i, kinds * a + 3] = scale * ignored, scale * depth


@kernel
def count_topics(history, feedback, topics, out):
    """Writes log(1 + consumptions) of each cluster of items, between 0 and 1, into out."""
    scale = np.float32(1.0 / np.log(1.0 + HISTORY_LENGTH))
    for i in range(history.shape[0]):
        for a in range(out.shape[1]):
            out[i, a] = 0.0
        for j in range(history.shape[1]):
            if 0 <= feedback[i, j] < QUERY:
                out[i, topics[history[i, j]]] += 1.0
        for a in range(out.shape[1]):
            out[i, a] = scale * np.log(np.float32(1.0) + out[i, a])


@kernel
def nearest(vectors, ids, candidates):
    """Returns the cosine of each candidate to the nearest of `ids`, (n, c); 0 where all are -1."""
    n, c = candidates.shape
    similarity = np.zeros((n, c), np.float32)
    likeness = np.empty((c, ids.shape[1]), np.float32)
    for i in range(n):
        known = np.int64((ids[i] >= 0).sum())
        if known == 0:
            continue
        cosines(candidates[i], vectors, ids[i, :known], vectors, likeness)
        for k in range(c):
            best = likeness[k, 0]
            for j in range(1, known):
                best = max(best, likeness[k, j])
            similarity[i, k] = best
    return similarity


@kernel
def pool_columns(about, out):
    """Writes the mean and the largest of each column of (n, c, f) into out, (n, 2 f)."""
    n, c, f = about.shape
    for i in range(n):
        for j in range(f):
            out[i, j], out[i, f + j] = np.float32(0.0), about[i, 0, j]
        for k in range(c):
            for j in range(f):
                out[i, j] += about[i, k, j] / np.float32(c)
                out[i, f + j] = max(out[i, f + j], about[i, k, j])
