"""Rankers: agents that score every candidate and show the best, and how candidates are scored."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.dataset import Floats
from agents.saving import write_agent
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED, UNSATISFIED
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import inverse_norm, products_with
from llmrec_env.world import PublicData

Ints = npt.NDArray[np.int32]

BLOCK = 64
"""Sessions scored at once: bounds memory to BLOCK x items, whatever the number of sessions."""
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
        scale = inverse_norm(pooled[i])
        for c in range(d):
            pooled[i, c] *= scale
    return pooled


@kernel
def score(v, candidates, vectors):
    """Returns v . y of each candidate, (n, c); very low where a candidate is -1."""
    n, c = candidates.shape
    scores, row = np.empty((n, c), np.float32), np.empty(c + 8, np.float32)
    for i in range(n):
        products_with(v[i], vectors, np.maximum(candidates[i], 0), row)
        for k in range(c):
            scores[i, k] = row[k] if candidates[i, k] >= 0 else UNAVAILABLE
    return scores


def look_up(values: Floats, candidates: Ints) -> Floats:
    """Returns the value of each candidate, (n, c); very low where a candidate is -1."""
    return np.where(candidates < 0, UNAVAILABLE, values[candidates])


def added_terms(observation: Any, weights: Mapping[str, float]) -> Floats:
    """Returns the sum of weight times block of each candidate, (n, c), 0 where there is none.

    Args:
        observation: batch of n observations.
        weights: of the blocks that mechanisms add, by name without `candidate_`.
    """
    terms = np.zeros(observation["candidates"].shape, np.float32)
    for name, weight in weights.items():
        if f"candidate_{name}" in observation:
            terms += np.float32(weight) * observation[f"candidate_{name}"]
    return terms


def standardise(scores: Floats) -> Floats:
    """Returns the scores of each session with mean 0 and deviation 1 over what is available."""
    available = scores > UNAVAILABLE / 2
    count = available.sum(1, keepdims=True)
    mean = np.where(available, scores, 0).sum(1, keepdims=True) / count
    centred = np.where(available, scores - mean, 0)
    deviation = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    return np.where(available, centred / (deviation + 1e-6), UNAVAILABLE)


def best_slots(scores: Floats, candidates: Ints, slate_size: int) -> npt.NDArray[np.int64]:
    """Returns the indices of the highest scores, best first, (n, k); ties by item id.

    Args:
        scores: of the candidates, (n, c); NaN ranks last.
        candidates: their item ids, (n, c).
        slate_size: k, at most c.
    """
    slates = np.empty((len(scores), slate_size), np.int64)
    _write_best_slots(scores, candidates, slates)
    return slates


@kernel
def _write_best_slots(scores, candidates, slates):
    k = slates.shape[1]
    best = np.empty(k, scores.dtype)
    for i in range(scores.shape[0]):
        filled = 0
        for c in range(scores.shape[1]):
            value, item = scores[i, c], candidates[i, c]
            if np.isnan(value):
                value = -np.inf
            slot = filled
            while slot > 0 and (
                value > best[slot - 1]
                or (value == best[slot - 1] and item < candidates[i, slates[i, slot - 1]])
            ):
                slot -= 1
            if slot == k:
                continue
            filled = min(filled + 1, k)
            for other in range(filled - 1, slot, -1):
                best[other], slates[i, other] = best[other - 1], slates[i, other - 1]
            best[slot], slates[i, slot] = value, c


class Ranker:
    """Scores the offered candidates and shows the best; subclasses say how to score."""

    name = "ranker"
    observation = "dict"
    action = "slate"
    data: PublicData
    slate_size: int
    resolves = False  # whether answers resolve questions in the task

    def __init__(self, seed: int = 0) -> None:
        """Args: seed: of anything the agent draws at random."""
        self.seed = seed

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Takes the public data; plays no step."""
        self._take_world(env)

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k), best first."""
        return best_slots(self.scores(observation), observation["candidates"], self.slate_size)

    def scores(self, observation: Any) -> Floats:
        """Returns the score of each candidate, (n, c)."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """Returns what the constructor takes: the attributes that are called as its parameters."""
        arguments: dict[str, Any] = {}
        for kind in type(self).__mro__:
            for parameter in signature(kind.__init__).parameters.values():
                if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self":
                    arguments[parameter.name] = getattr(self, parameter.name)
        return arguments

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns what was learnt, by name; the rest is the world's public data."""
        return {}

    def save(self, path: Path) -> None:
        """Writes the arguments of its constructor and its weights."""
        write_agent(path, self.name, self.arguments(), self.weights())

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data, and the weights that `save` wrote; learns nothing."""
        self._take_world(env)

    def _take_world(self, env: RecVectorEnv) -> None:
        self.data, self.slate_size = env.public_data(), env.config.slate_size
        self.resolves = env.config.resolves()
