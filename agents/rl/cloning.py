"""Behaviour cloning: an offline baseline that imitates logged slates and plays no step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.registry import defaults_of
from agents.rl.slate_policy import SlatePolicy
from llmrec_env.config import unknown
from llmrec_env.envs.vector import RecVectorEnv

IMITATED = ("shown", "satisfied")


@dataclass(frozen=True)
class Settings:
    """Of the learner; their values are in `agents/registry.py`.

    Raises:
        ValueError: there is no such thing to imitate.
    """

    imitated: Any
    """`shown`: the logging policy; `satisfied`: which of what it showed satisfied."""
    learning_rate: float
    """At its height."""
    scale: float
    """By which scores are multiplied."""
    ema_decay: float
    """What the averaged weights keep of themselves with each update."""
    log_epochs: int
    """Passes over the logs."""

    def __post_init__(self) -> None:
        if self.imitated not in IMITATED:
            raise ValueError(unknown("imitated:", self.imitated, list(IMITATED)))


class BehaviourCloning(SlatePolicy):
    """Shows what the logs of training users suggest."""

    name = "cloning"
    settings: Settings

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings."""
        super().__init__(seed, Settings(**defaults_of(self.name) | settings))

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users; plays no step."""
        self._prepare(env)
        self._rng = np.random.default_rng([self.seed, 3])
        self._imitate(env, self.settings.imitated)
