"""Drift-aware ranking: recent content against what was skipped, with collaborative scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agents.rankers.als import Collaborative
from agents.rankers.ranker import UNAVAILABLE, Floats, look_up, score, standardise
from agents.saving import write_agent


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
        self.weights = {"recent": recent, "interest": interest, "skipped": -skipped}
        self.collaborative, self.popular = collaborative, popular

    def scores(self, observation: Any) -> Floats:
        """Returns the blend of content, collaborative and popularity scores."""
        candidates, vectors = observation["candidates"], self.data.items.vectors
        direction = sum(weight * observation[name] for name, weight in self.weights.items())
        blend = score(np.asarray(direction, np.float32), candidates, vectors)
        blend += self.collaborative * standardise(super().scores(observation))
        blend += self.popular * standardise(look_up(self.data.items.popularity, candidates))
        return np.where(candidates < 0, UNAVAILABLE, blend)

    def save(self, path: Path) -> None:
        """Writes settings and item factors."""
        config = self._config() | {"recent": self.weights["recent"]}
        config |= {"interest": self.weights["interest"], "skipped": -self.weights["skipped"]}
        config |= {"collaborative": self.collaborative, "popular": self.popular}
        write_agent(path, self.name, config, {"item_factors": self.item_factors})
