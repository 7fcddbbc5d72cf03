"""Baselines without learning: random and popular items."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.rankers.ranker import UNAVAILABLE, Floats, Ranker, look_up


class Random(Ranker):
    """Shows random candidates."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        """Args: seed: of the generator the slates are drawn from."""
        super().__init__(seed)
        self._rng = np.random.default_rng([seed, 17])

    def scores(self, observation: Any) -> Floats:
        """Returns random numbers."""
        candidates = observation["candidates"]
        noise = self._rng.random(candidates.shape, dtype=np.float32)
        return np.where(candidates < 0, UNAVAILABLE, noise)


class Popular(Ranker):
    """Shows what satisfied most training users."""

    name = "popular"

    def scores(self, observation: Any) -> Floats:
        """Returns the popularity of each candidate."""
        return look_up(self.data.items.popularity, observation["candidates"])
