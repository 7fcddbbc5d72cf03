"""Privileged slateq: the learner with the true interests as its belief, a test of its planning."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rl.slateq.learner import SlateQ
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.users import relative_weights


class PrivilegedSlateQ(SlateQ):
    """The learner with the true interests as its belief: what is left is choosing and planning.

    A test of the learner, not an agent to compare.
    """

    privileged = True
    _simulator: Any

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment whose users it reads."""
        self._simulator = env.simulator

    def _prepare(self, env: RecVectorEnv) -> None:
        super()._prepare(env)
        self.attach(env)

    def _correct(self, belief: npt.NDArray[np.float32]) -> None:
        """Writes the true weights of the phrases into the belief."""
        weights = np.empty(self._simulator.users["weight"].shape[1], np.float32)
        for row, user in zip(belief, self._simulator.users, strict=True):
            relative_weights(user, weights)
            row[:] = 0.0
            row[user["phrase"]] = weights
