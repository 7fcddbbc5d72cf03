"""Instructions that users type, as agents read them: a term of candidates, or a phrase typed.

Every ranker of texts adds the same term, so that none is better than another by reading alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rankers.ranker import Floats, score
from llmrec_env.interface.candidates import Items
from llmrec_env.interface.instructions import BLOCKS, MORE

INSTRUCTIONS = "instructions"
"""What the blocks of an observation are called together where agents name what they may see."""

WEIGHTS = np.array([1.0, -0.3, 0.2], np.float32)
"""Beside a cosine: of likeness to what users want more of, of likeness to what they have had enough
of, and of substance after a complaint about clickbait.

Hand-set with `drift-aware`, by one grid (400 validation users of each of the worlds 100 and 101):
from 1 to 2.5, -.3 to -1 and 0 to .4 nothing differs by more than chance."""


def instruction_columns(observation: Any, items: Items) -> Floats:
    """Returns what the instructions of each kind say of each candidate, (n, c, 3).

    Likeness to what more is wanted of, likeness to what there was enough of, and the substance that
    is read off the text, as much as a complaint about clickbait is remembered; 0 where users type
    no instructions.
    """
    candidates = np.maximum(observation["candidates"], 0)
    columns = np.zeros((*candidates.shape, len(BLOCKS)), np.float32)
    if BLOCKS[0] in observation:
        more, enough, clickbait = (observation[name] for name in BLOCKS)
        columns[..., 0] = score(more, candidates, items.vectors)
        columns[..., 1] = score(enough, candidates, items.vectors)
        columns[..., 2] = clickbait * items.substance[candidates]
    return columns


def typed_phrases(observation: Any) -> npt.NDArray[np.int32]:
    """Returns the phrase typed at each of the newest steps, (n, 32), -1 for none.

    A query, or else the phrase that the user wants more of, which is as much an interest.
    """
    queries = observation["recent_queries"]
    if "recent_instructions" not in observation:
        return queries
    kinds, phrases, _ = np.moveaxis(observation["recent_instructions"], -1, 0)
    return np.where((queries < 0) & (kinds == MORE), phrases, queries)


def with_typed_phrases(observation: Any, hears: bool) -> Any:
    """Returns an observation whose queries are the phrases typed, for agents that read queries.

    Args:
        observation: of `dict` observations.
        hears: whether the agent reads instructions; if not, it is the observation as it is.
    """
    if not hears or "recent_instructions" not in observation:
        return observation
    return observation | {"recent_queries": typed_phrases(observation)}


def instruction_term(observation: Any, items: Items, weight: float) -> Floats:
    """Returns a weight times what instructions add to a cosine, (n, c)."""
    if weight == 0.0 or BLOCKS[0] not in observation:
        return np.zeros(observation["candidates"].shape, np.float32)
    return np.float32(weight) * (instruction_columns(observation, items) @ WEIGHTS)
