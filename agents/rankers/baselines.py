"""Baselines: random and popular items, the texts of the past, and a drift-aware blend."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.rankers.als import Collaborative
from agents.rankers.ranker import (
    UNAVAILABLE,
    Floats,
    Ranker,
    look_up,
    pool,
    score,
    standardise,
)


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
