"""Attribution: which texts of a user's past moved the scores of items, and by how much.

Scores that are linear in the texts of the past are taken apart exactly: the parts add up to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from agents.instructions import instruction_term
from agents.rankers.ranker import added_terms
from llmrec_env.interface.history import EMPTY, QUERY
from llmrec_env.interface.instructions import BLOCKS
from llmrec_env.world import PublicData

Doubles = npt.NDArray[np.float64]


class Attribution(NamedTuple):
    """What moved the scores of k items."""

    entries: Doubles  # (k, h), each entry of the observation's `history`, newest first
    others: dict[str, Doubles]  # (k,) by name, what no single text moved

    def total(self) -> Doubles:
        """Returns the scores, (k,)."""
        scores = self.entries.sum(axis=1)
        return scores + sum(self.others.values(), np.zeros(len(scores)))


@runtime_checkable
class AttributingAgent(Protocol):
    """An agent that can tell which texts moved the relevance that it believes in."""

    def attribute(self, observation: Any, slots: npt.NDArray[np.integer]) -> Attribution:
        """Returns what moved the scores of some candidates.

        Args:
            observation: a batch of one `dict` observation.
            slots: indices of the candidates, (k,).
        """
        ...


class PublicTerms(Protocol):
    """A ranker with weights of what anyone can read off public data."""

    data: PublicData
    substance: float
    skipped: float
    freshness: float
    familiarity: float
    instruction: float


def public_parts(
    ranker: PublicTerms, observation: Any, slots: npt.NDArray[np.integer]
) -> dict[str, Doubles]:
    """Returns what the public terms that all rankers of texts have add to candidates, (k,)."""
    items, ids = ranker.data.items, observation["candidates"][0, slots]
    likeness = items.vectors[ids].astype(np.float64) @ observation["skipped"][0]
    parts = {
        "skipped slates": -ranker.skipped * likeness,
        "depth": ranker.substance * items.substance[ids].astype(np.float64),
    }
    for name in ("freshness", "familiarity"):
        if f"candidate_{name}" in observation:
            added = added_terms(observation, {name: getattr(ranker, name)})[0, slots]
            parts[name] = added.astype(np.float64)
    if BLOCKS[0] in observation:
        told = instruction_term(observation, items, ranker.instruction)[0, slots]
        parts["instructions"] = told.astype(np.float64)
    return parts


def vectors_of_entries(
    observation: Any, item_vectors: npt.NDArray[Any], phrase_vectors: npt.NDArray[Any]
) -> Doubles:
    """Returns the encodings of the texts of the entries, (h, d), zeros where there is none."""
    ids, kinds = observation["history"][0], observation["history_feedback"][0]
    vectors = np.zeros((len(ids), item_vectors.shape[1]))
    typed, consumed = kinds == QUERY, (kinds != QUERY) & (kinds != EMPTY)
    vectors[typed] = phrase_vectors[ids[typed]]
    vectors[consumed] = item_vectors[ids[consumed]]
    return vectors
