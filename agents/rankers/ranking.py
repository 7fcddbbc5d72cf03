"""What rankers share: pooling a history into a vector, scoring candidates, taking the best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmrec_env.interface.observation import EMPTY, QUERY, SATISFIED, UNSATISFIED
from llmrec_env.simulation.compilation import kernel

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

UNAVAILABLE = np.float32(-1e9)


@kernel
def pool(history, feedback, kind_weights, decay, vectors, phrase_vectors):
    """Returns v of each session, the weighted sum of the encodings of its past, as a unit vector.

    Args:
        history: item or phrase ids, newest first, (n, h).
        feedback: kinds of these entries, (n, h).
        kind_weights: weights of an unsatisfied item, a satisfied item and a query, (3,).
        decay: factor for each item consumed since, 1 to weigh all of the past alike.
        vectors: item vectors, (items, d).
        phrase_vectors: (phrases, d).
    """
    n, d = history.shape[0], vectors.shape[1]
    pooled = np.zeros((n, d), np.float32)
    for i in range(n):
        age = np.float32(1.0)
        for j in range(history.shape[1]):
            kind, item = feedback[i, j], history[i, j]
            if kind == EMPTY:
                break
            weight = np.float32(kind_weights[kind]) * age
            for c in range(d):
                y = phrase_vectors[item, c] if kind == QUERY else vectors[item, c]
                pooled[i, c] += weight * y
            if kind == SATISFIED or kind == UNSATISFIED:
                age *= np.float32(decay)
        square = np.float32(0.0)
        for c in range(d):
            square += pooled[i, c] * pooled[i, c]
        scale = np.float32(1.0 / np.sqrt(square)) if square > 1e-12 else np.float32(0.0)
        for c in range(d):
            pooled[i, c] *= scale
    return pooled


@kernel
def score(v, candidates, vectors):
    """Returns v . y of each candidate, (n, c); very low where a candidate is -1."""
    n, c = candidates.shape
    scores = np.empty((n, c), np.float32)
    for i in range(n):
        for k in range(c):
            item = candidates[i, k]
            total = np.float32(0.0)
            if item < 0:
                total = UNAVAILABLE
            else:
                for j in range(v.shape[1]):
                    total += v[i, j] * vectors[item, j]
            scores[i, k] = total
    return scores


def look_up(values: Floats, candidates: Ints) -> Floats:
    """Returns the value of each candidate, (n, c); very low where a candidate is -1."""
    return np.where(candidates < 0, UNAVAILABLE, values[candidates])


def standardise(scores: Floats) -> Floats:
    """Returns the scores of each session with mean 0 and deviation 1 over what is available."""
    available = scores > UNAVAILABLE / 2
    count = available.sum(1, keepdims=True)
    mean = np.where(available, scores, 0).sum(1, keepdims=True) / count
    centred = np.where(available, scores - mean, 0)
    deviation = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    return np.where(available, centred / (deviation + 1e-6), UNAVAILABLE)


def best_slots(scores: Floats, slate_size: int) -> npt.NDArray[np.int64]:
    """Returns the places of the highest scores, best first, (n, k); ties by place."""
    if scores.shape[1] > 512:
        bar = -np.partition(-scores, slate_size - 1, axis=1)[:, slate_size - 1 : slate_size]
        above, level = scores > bar, scores == bar
        room = slate_size - above.sum(1, keepdims=True)
        part = np.nonzero(above | (level & (level.cumsum(1) <= room)))[1].reshape(-1, slate_size)
        order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable")
        return np.take_along_axis(part, order, 1).astype(np.int64)
    return np.argsort(-scores, axis=1, kind="stable")[:, :slate_size].astype(np.int64)
