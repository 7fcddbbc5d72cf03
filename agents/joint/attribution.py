"""Attribution of the joint recommender's relevance to the texts of a user's past.

It replays what `memory.py` keeps with the weight of every text in place of the sums. Relevance
before it bends at 0 is linear in these weights but for the likeness to the last texts, of which the
nearest one counts; so the parts add up to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.attribution import Attribution, Doubles, vectors_of_entries
from agents.joint import memory
from agents.joint.memory import DISLIKED, LAST, LIKED, MEANS, SKIPPED, TYPED, Texts


def attribute_relevance(
    weights: npt.NDArray[np.float64], texts: Texts, observation: Any, ids: npt.NDArray[Any]
) -> Attribution:
    """Returns what the texts of the newest steps add to the relevance of items.

    Args:
        weights: of memory.TEXT_FEATURES.
        texts: encodings.
        observation: a batch of one.
        ids: of the items, (k,).
    """
    num_items, num_entries = len(texts.read), observation["history"].shape[1]
    past = vectors_of_entries(observation, texts.rows[:num_items], texts.rows[num_items:])
    replayed = _Replay(num_entries, texts.rows.shape[1])
    for slate, item, satisfied, query in _steps(observation):
        slate_mean = texts.rows[slate].astype(np.float64).mean(axis=0)
        replayed.step(slate_mean, item, satisfied, query)
    means = np.asarray(weights[:MEANS]) / (replayed.counts + memory.PRIOR_EVENTS)
    read = texts.read[ids].astype(np.float64)
    entries = (read @ past.T) * (means @ replayed.shares)
    if replayed.last:  # of the last texts the one counts that is most alike
        newest, fading = (np.array(column) for column in zip(*replayed.last, strict=True))
        alike = fading * (texts.rows[ids].astype(np.float64) @ past[newest].T)
        nearest = alike.argmax(axis=1)
        row = np.arange(len(ids))
        entries[row, newest[nearest]] += weights[MEANS] * np.maximum(alike[row, nearest], 0.0)
    return Attribution(entries, {"skipped slates": means[SKIPPED] * (read @ replayed.skipped)})


def _steps(observation: Any) -> list[tuple[Any, int, bool, int]]:
    """Slate, entry of the item, whether it satisfied, and entry of the query, oldest step first.

    Entries are numbered as in the observation's `history`; -1: none.
    """
    steps, entry = [], 0
    columns = (observation[f"recent_{name}"][0] for name in ("slates", "items", "satisfied"))
    slots = observation.get("recent_feedback")
    for j, (slate, item, satisfied) in enumerate(zip(*columns, strict=True)):
        if slate[0] < 0:
            continue
        typed = observation["recent_queries"][0, j] >= 0
        query, entry = (entry, entry + 1) if typed else (-1, entry)
        steps.append((slate, entry if item >= 0 else -1, satisfied == 1, query))
        entry += int(item >= 0) if slots is None else int((slots[0, j] >= 0).sum())
    return steps[::-1]


class _Replay:
    """The memory of one user, with shares of entries in place of sums of their encodings."""

    def __init__(self, num_entries: int, dim: int) -> None:
        self.shares: Doubles = np.zeros((MEANS, num_entries))
        self.counts: Doubles = np.zeros(MEANS)
        self.skipped: Doubles = np.zeros(dim)
        self.last: list[tuple[int, float]] = []  # entries and their fading, newest first

    def step(self, slate_mean: Doubles, item: int, satisfied: bool, query: int) -> None:
        """Moves it as `memory.remember` does; items and queries are entries here."""
        if item >= 0:
            for kind in (LIKED, DISLIKED):
                self._fade(kind, memory.LONG_DECAY)
                self._fade(kind + 1, memory.LATELY_DECAY)
            self._fade(TYPED, memory.TYPED_DECAY)
            kind = LIKED if satisfied else DISLIKED
            self._add(kind, item)
            self._add(kind + 1, item)
        else:
            self._fade(SKIPPED, memory.SKIPPED_DECAY)
            self.skipped = self.skipped * float(memory.SKIPPED_DECAY) + slate_mean
            self.counts[SKIPPED] += 1.0
        age = 1.0 if item >= 0 else float(memory.IGNORED_AGE)
        faded = float(np.exp(float(memory.FADING) * age))
        self.last = [(entry, fading * faded) for entry, fading in self.last]
        if item >= 0 and satisfied:
            self.last.insert(0, (item, 1.0))
        if query >= 0:
            self._add(TYPED, query)
            self.last.insert(0, (query, 1.0))
        del self.last[LAST:]

    def _fade(self, kind: int, factor: np.float32) -> None:
        self.shares[kind] *= float(factor)
        self.counts[kind] *= float(factor)

    def _add(self, kind: int, entry: int) -> None:
        self.shares[kind, entry] += 1.0
        self.counts[kind] += 1.0
