"""Rankers without learning by trial: random, popular, content, content-recency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rankers.ranking import Floats, best_slots, look_up, pool, score
from agents.saving import write_agent
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.world import PublicData


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
        return best_slots(self.scores(observation), self.slate_size)

    def scores(self, observation: Any) -> Floats:
        """Returns the score of each candidate, (n, c)."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Writes the agent; what it knows beside its settings is the world's public data."""
        write_agent(path, self.name, {"seed": self.seed}, {})

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data, and what `save` wrote; learns nothing."""
        self.data, self.slate_size = env.public_data(), env.config.slate_size


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
        return np.where(candidates < 0, np.float32(-1e9), noise)


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
        return score(self.interest(observation), observation["candidates"], self.data.items.vectors)

    def interest(self, observation: Any) -> Floats:
        """Returns v of each session, (n, d)."""
        return pool(
            *(observation["history"], observation["history_feedback"]),
            *(np.array(self.kind_weights, np.float32), self.decay),
            *(self.data.items.vectors, self.data.phrase_vectors),
        )


class ContentRecency(Content):
    """Like `content`, but the past loses half its weight with every four items consumed since."""

    name = "content-recency"
    decay = 0.85
