"""Reward models for off-policy evaluation: Σ_k P(choose k) · P(z = 1 | k) · f of a slate.

All choose and find f as `joint` does. P(z = 1) is `joint`'s own, calibrated, or that of a
classifier which reads behaviour and item as texts, so that R = ẑ · f.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from agents.joint.recommender import Joint
from agents.joint.satisfaction.classifier import SatisfactionClassifier, joined_features
from agents.joint.satisfaction.pairs import pairs_of, split_pairs
from experiments.studies.off_policy.logs import RewardModel
from llmrec_env.envs.vector import RecVectorEnv

Floats = npt.NDArray[np.float64]
_PAIRS = 32_000  # that a classifier learns from
_BEHAVIOUR = 4  # texts that it reads of a user


class JointReward:
    """What slates earn in one step, as `joint` believes."""

    def __init__(self, env: RecVectorEnv) -> None:
        """Learns from the logs that come with the world of an environment."""
        self.joint = Joint(0, substance=0.0, patience=0.0, curiosity=0.0)
        self.joint.fit(env, 0)

    def __call__(self, observation: Any, slates: npt.NDArray[np.int64]) -> Floats:
        """Returns the expected rewards of slates of candidate indices (n, K), (n,)."""
        items = np.take_along_axis(observation["candidates"], slates, 1)
        seen = self.joint.appraised(self.joint.follow(observation), items)
        relevance = seen.value / expit(
            seen.log_odds
        )  # without worth beyond the step, value is z · f
        position = float(self.joint.parameters[0]["position"])
        odds = seen.odds * np.arange(1, slates.shape[1] + 1) ** -position
        chosen = odds / (1.0 + odds.sum(axis=1, keepdims=True))
        return (chosen * self.satisfied(observation, items, seen.log_odds) * relevance).sum(axis=1)

    def satisfied(
        self, observation: Any, items: npt.NDArray[np.integer], log_odds: Floats
    ) -> Floats:
        """Returns P(z = 1) of items (n, K) once they are chosen."""
        slope, offset = self.joint.calibration
        return expit(slope * log_odds + offset)


class ClassifierReward(JointReward):
    """The same with P(z = 1) of a bi-encoder that was trained on pairs of texts."""

    def __init__(self, env: RecVectorEnv) -> None:
        """Learns from the logs that come with the world of an environment."""
        super().__init__(env)
        data = env.public_data()
        pairs = pairs_of(data, size=_BEHAVIOUR)
        order = np.random.default_rng(0).permutation(len(pairs))[:_PAIRS]
        learnt, validation = split_pairs([pairs[row] for row in order], (0.9, 0.1))
        self.classifier = SatisfactionClassifier(env.config.encoder, "frozen")
        self.classifier.learn(learnt, validation)
        with torch.no_grad():
            self._vectors = self.classifier.tower([*data.catalog.texts, *data.phrases.texts])
        self._num_items = len(data.catalog)

    def satisfied(
        self, observation: Any, items: npt.NDArray[np.integer], log_odds: Floats
    ) -> Floats:
        """Returns P(z = 1) of items (n, K) by their texts and those of the users' past."""
        rows = torch.from_numpy(behaviour_rows(observation, self._num_items))
        known = (rows >= 0).unsqueeze(-1)
        past = (self._vectors[rows.clamp(min=0)] * known).sum(dim=1)
        past = past.repeat_interleave(items.shape[1], 0)
        item = self._vectors[torch.from_numpy(items.ravel().astype(np.int64))]
        with torch.no_grad():
            logits = self.classifier.head(joined_features(past, item)).double().numpy()
        margins = (logits[:, 1] - logits[:, 0]) / self.classifier.temperature
        return expit(margins).reshape(items.shape)


def behaviour_rows(observation: Any, num_items: int) -> npt.NDArray[np.int64]:
    """Returns the newest texts that satisfied or were typed, (n, 4), newest first, -1 for none.

    Args:
        observation: `dict` observations of n sessions.
        num_items: phrases are numbered from there on.
    """
    items = np.where(observation["recent_satisfied"] == 1, observation["recent_items"], -1)
    queries = observation["recent_queries"]
    queries = np.where(queries >= 0, queries + num_items, -1)
    both = np.stack([queries, items], axis=2).reshape(len(items), -1)  # typed after the click
    newest = np.argsort(both < 0, axis=1, kind="stable")[:, :_BEHAVIOUR]
    return np.take_along_axis(both, newest, 1).astype(np.int64)


REWARD_MODELS: dict[str, Callable[[RecVectorEnv], RewardModel]] = {
    "joint": JointReward,
    "classifier": ClassifierReward,
}
"""Reward models by name, made from the environment whose logs they learn from."""
