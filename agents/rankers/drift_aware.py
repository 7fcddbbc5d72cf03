"""Drift-aware ranking: recent content against what was skipped, with collaborative scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.rankers.als import Collaborative
from agents.rankers.ranker import UNAVAILABLE, Floats, look_up, score, standardise


class DriftAware(Collaborative):
    """Content by what satisfied lately, against what did not, and a little of everybody's taste."""

    name = "drift-aware"

    def __init__(
        self,
        seed: int = 0,
        recent: float = 1.0,
        interest: float = 0.33,
        skipped: float = 0.06,
        collaborative: float = 0.02,
        popular: float = 0.05,
        **settings: Any,
    ) -> None:
        """Takes the weights of its five scores, and the settings of Collaborative."""
        super().__init__(seed, **settings)
        self.recent, self.interest, self.skipped = recent, interest, skipped
        self.collaborative, self.popular = collaborative, popular

    def belief(self, observation: Any) -> Floats:
        """Returns the direction in which it takes interests to lie, (n, d)."""
        blocks = {"recent": self.recent, "interest": self.interest, "skipped": -self.skipped}
        direction = sum(weight * observation[name] for name, weight in blocks.items())
        return np.asarray(direction, np.float32)

    def scores(self, observation: Any) -> Floats:
        """Returns the blend of content, collaborative and popularity scores."""
        candidates, vectors = observation["candidates"], self.data.items.vectors
        blend = score(self.belief(observation), candidates, vectors)
        blend += self.collaborative * standardise(super().scores(observation))
        blend += self.popular * standardise(look_up(self.data.items.popularity, candidates))
        return np.where(candidates < 0, UNAVAILABLE, blend)
