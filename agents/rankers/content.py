"""Content-based ranking: the items nearest to the texts that a user liked."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.rankers.ranker import Floats, Ranker, pool, score


class Content(Ranker):
    """Shows what is nearest to the mean of all texts that the user liked or typed."""

    name = "content"
    kind_weights = (0.15, 1.0, 1.0)  # unsatisfied, satisfied, query
    decay = 1.0

    def scores(self, observation: Any) -> Floats:
        """Returns v . y of each candidate."""
        return score(self.belief(observation), observation["candidates"], self.data.items.vectors)

    def belief(self, observation: Any) -> Floats:
        """Returns v of each session, (n, d)."""
        return pool(
            observation["history"],
            observation["history_feedback"],
            np.array(self.kind_weights, np.float32),
            self.decay,
            self.data.items.vectors,
            self.data.phrase_vectors,
        )


class ContentRecency(Content):
    """Like `content`, but the past loses half its weight with every four items consumed since."""

    name = "content-recency"
    decay = 0.85
