"""Numbers of items that mechanisms call for, as freshness: of candidates, recent steps and logs.

They are public, so that whoever values an item may read them; a task without such a mechanism has
none, and arrays of no width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.open_questions import Texts, candidate_answers, logged_answers, recent_answers
from llmrec_env.config import EnvConfig
from llmrec_env.interface.candidates import (
    MORE_BLOCKS,
    blocks_added,
    candidate_freshness,
)
from llmrec_env.interface.familiarity import logged_familiarity, recent_familiarity
from llmrec_env.interface.observation import SESSION_NUMBERS
from llmrec_env.world import PublicData

Floats = npt.NDArray[np.float32]
_FRESHNESS, _FAMILIARITY = MORE_BLOCKS
QUESTION = "open_question"
"""How well an item answers an open question, where answers resolve them: `open_questions.py`."""
BLOCKS = (*MORE_BLOCKS, QUESTION)
_PROGRESS = SESSION_NUMBERS.index("progress")


class AddedBlocks(NamedTuple):
    """The B blocks of a task, in the order of BLOCKS."""

    config: EnvConfig
    data: PublicData

    @property
    def names(self) -> tuple[str, ...]:
        """Those that observations hold as they call them, and QUESTION."""
        return blocks_added(self.config) + (QUESTION,) * self.config.resolves()

    @property
    def _texts(self) -> Texts:
        return Texts.of(self.data)

    def of_candidates(self, observation: Any) -> Floats:
        """Returns those of the candidates, (n, c, B)."""
        blocks = [observation[name] for name in blocks_added(self.config)]
        if QUESTION in self.names:
            blocks.append(candidate_answers(observation, self._texts))
        return _side_by_side(observation["candidates"], blocks)

    def of_recent(self, observation: Any, count: int) -> Floats:
        """Returns those of the newest slates before each step, newest first, (n, count, K, B)."""
        slates, blocks = observation["recent_slates"][:, :count], []
        if _FRESHNESS in self.names:
            progress = observation["session"][:, _PROGRESS].astype(np.float64)
            now = np.rint(progress * self.config.horizon).astype(np.int64)
            blocks.append(self._freshness(slates, now[:, None] - 1 - np.arange(slates.shape[1])))
        if _FAMILIARITY in self.names:
            blocks.append(recent_familiarity(observation, self.data.items.creator, count))
        if QUESTION in self.names:
            blocks.append(recent_answers(observation, self._texts, count))
        return _side_by_side(slates, blocks)

    def of_logs(
        self,
        slates: npt.NDArray[np.int32],
        feedback: npt.NDArray[np.integer],
        queries: npt.NDArray[np.int32],
    ) -> Floats:
        """Returns those of logged slates before each step, oldest first, (U, W, K, B).

        Args:
            slates: of users of whom nothing is known before, the last just before a session.
            feedback: of each slot, (U, W, K).
            queries: phrases typed after each step, -1 for none, (U, W).
        """
        blocks, count = [], slates.shape[1]
        if _FRESHNESS in self.names:
            times = np.broadcast_to(np.arange(-count, 0), slates.shape[:2])
            blocks.append(self._freshness(slates, times))
        if _FAMILIARITY in self.names:
            blocks.append(logged_familiarity(slates, feedback, self.data.items.creator))
        if QUESTION in self.names:
            blocks.append(logged_answers(slates, feedback, queries, self._texts))
        return _side_by_side(slates, blocks)

    def _freshness(self, slates: npt.NDArray[np.int32], times: npt.NDArray[np.integer]) -> Floats:
        """That of slates, (n, s, K), shown at times, (n, s)."""
        half_life, shown = self.config.freshness_half_life, slates.reshape(-1, slates.shape[2])
        fresh = candidate_freshness(self.data.items, shown, times.reshape(-1), half_life)
        return fresh.reshape(slates.shape)


def _side_by_side(slates: npt.NDArray[np.int32], blocks: list[Floats]) -> Floats:
    return np.stack(blocks, axis=-1) if blocks else np.empty((*slates.shape, 0), np.float32)
