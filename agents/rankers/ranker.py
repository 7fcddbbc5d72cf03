"""Rankers: agents that score every candidate and show the best, and how candidates are scored."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.dataset import UNSATISFIED_WEIGHT, Dataset, Floats, Ids
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

    def __init__(self, seed: int = 0) -> None:
        """Args: seed: of anything the agent draws at random."""
        self.seed = seed

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Takes the public data; plays no step."""
        self.data, self.slate_size = env.public_data(), env.config.slate_size

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
        self.data, self.slate_size = env.public_data(), env.config.slate_size


class HistoryRanker(Ranker):
    """Scores items from what a user consumed; subclasses say how to learn and to score."""

    knows_items = True
    """What it learnt of items by their ids is of one world: see `agents.base.ItemAgent`."""

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users; plays no step."""
        super().fit(env, num_steps)
        self.learn(Dataset.from_logs(self.data), self.data.items.vectors)

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Learns from logs.

        Args:
            dataset: what users consumed.
            vectors: encodings of the items' texts, (num_items, d), for agents that read texts.
        """
        raise NotImplementedError

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the score of every item for each user, (n, num_items).

        Args:
            items: what each user consumed, newest first, -1 where there is none, (n, h).
            weights: of these, (n, h); 1 for what satisfied.
        """
        raise NotImplementedError

    def read(self, observation: Any) -> tuple[Ids, Floats]:
        """Returns the items and weights to score each session by, both (n, h)."""
        return past(observation)

    def scores(self, observation: Any) -> Floats:
        """Returns the score of each candidate, (n, c)."""
        candidates = observation["candidates"]
        items, weights = self.read(observation)
        scores = np.empty(candidates.shape, np.float32)
        for start in range(0, len(items), BLOCK):
            rows = slice(start, start + BLOCK)
            size = len(items[rows])
            # Always BLOCK sessions: matrix products of another shape add up in another order, and
            # a session's scores would depend on how many others there are.
            missing = ((0, BLOCK - size), (0, 0))
            padded = np.pad(items[rows], missing, constant_values=-1)
            every_score = self.score_items(padded, np.pad(weights[rows], missing))[:size]
            scores[rows] = np.take_along_axis(every_score, np.maximum(candidates[rows], 0), 1)
        return np.where(candidates < 0, UNAVAILABLE, scores)


def check_vectors(name: str, vectors: Floats | None, num_items: int) -> Floats:
    """Returns the encodings of the items' texts, if there is one for each item.

    Raises:
        ValueError: no vectors, or not one for each item.
    """
    if vectors is None or len(vectors) != num_items:
        given = "no vectors" if vectors is None else f"{len(vectors)} vectors"
        raise ValueError(
            f"{name} reads texts, but got {given} for {num_items} items; "
            "pass the encodings of all items as vectors."
        )
    return vectors


def past(observation: Any, first_phrase: int | None = None) -> tuple[Ids, Floats]:
    """Returns what each session's user consumed, newest first, and its weights.

    Both (n, h); -1 and 0 where there is none.

    Args:
        observation: batch of n observations.
        first_phrase: id that stands for the first phrase, to count phrases typed as items that
            satisfied; None leaves them out.
    """
    weights = entry_weights(observation, first_phrase is not None)
    items = observation["history"].astype(np.int64)
    if first_phrase is not None:
        items[observation["history_feedback"] == QUERY] += first_phrase
    items[weights == 0] = -1
    order = np.argsort(items < 0, axis=1, kind="stable")  # closes the gaps
    return np.take_along_axis(items, order, 1), np.take_along_axis(weights, order, 1)


def entry_weights(observation: Any, phrases: bool) -> Floats:
    """Returns what each entry of the history counts, (n, h); phrases typed 1, or nothing."""
    kinds = observation["history_feedback"]
    weights = np.zeros(kinds.shape, np.float32)
    weights[kinds == SATISFIED], weights[kinds == UNSATISFIED] = 1.0, UNSATISFIED_WEIGHT
    if phrases:
        weights[kinds == QUERY] = 1.0
    return weights


def consumption(items: Ids, weights: Floats, num_items: int, decay: float = 1.0) -> Any:
    """Returns histories, newest first, (n, h), as a sparse matrix (n, num_items).

    Args:
        items: ids, -1 where there is none.
        weights: of the items.
        num_items: columns.
        decay: factor for each item consumed since.
    """
    from scipy import sparse

    user, age = np.nonzero(items >= 0)
    values = weights[user, age] * np.float32(decay) ** age.astype(np.float32)
    shape = (len(items), num_items)
    return sparse.coo_matrix((values, (user, items[user, age])), shape).tocsr()
