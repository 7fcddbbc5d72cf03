"""Base of online learners that act by averages of the weights that learn.

A segment is rollouts and updates in turn. It begins from the state that the last one left, and one
that fails leaves the learner as it was.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.base import OnlineAgent, learn_in_segments, segment_seed
from agents.rl.slateq.unrolling import Rollout
from llmrec_env.envs.vector import RecVectorEnv

_HUGE = 1e6  # a weight as large is no longer a number that anything can be made of


class AveragedLearner(OnlineAgent):
    """Learns in segments of rollouts and updates."""

    observation = "dict"
    action = "slate"
    knows_items = True
    settings: Any
    num_rollouts: int
    """The latest, which an update learns from."""

    def __init__(self, seed: int) -> None:
        """Takes the seed of training."""
        self.seed = seed
        self.on_steps = self.log_folder = None
        self.updates = 0
        self._state: dict[str, Any] | None = None
        self._built = False

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k), best first.

        Raises:
            RuntimeError: before `fit`.
        """
        if not self._built:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        return self._decide(observation, episode_starts)[0]

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` environment steps in `env`, which resets in the same step."""
        learn_in_segments(self, env, max(num_steps, 1))

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment; the first one begins with the logs of the training users.

        Raises:
            FloatingPointError: a loss is not finite; the agent is as it was before the segment.
        """
        self._prepare(env)
        if self._state:
            self._take(self._state)
        before = self.state()
        try:
            if not self._state and segment == 0:
                self._learn_logs(env)
                self._average()
            steps = self._learn_online(env, num_steps, segment, done)
        except FloatingPointError:
            self._take(before)
            raise
        self._state = self.state()
        return steps

    def _learn_online(self, env: Any, num_steps: int, segment: int, done: int) -> int:
        """Collects rollouts and updates in turn; returns the environment steps it took."""
        self._rng = np.random.default_rng([self.seed, segment, 3])
        size = self.settings.steps * env.num_envs
        rollouts: list[Rollout] = []
        observation, _ = env.reset(seed=segment_seed(self.seed, segment))
        position = self._first_position(env, observation)
        updates = math.ceil(num_steps / size)  # so that what is left for the last one is not short
        for steps in range(done + size, done + (updates + 1) * size, size):
            position, rollout = self._collect(env, position)
            rollouts = [*rollouts, rollout][-self.num_rollouts :]
            self._check(self._update(rollouts, steps), steps)
            self.updates += 1
            self._average()
            if self.on_steps:
                self.on_steps(steps)
        return updates * size

    def _check(self, loss: float, steps: int) -> None:
        weights = self._learners.parameters()
        if not (np.isfinite(loss) and all(bool((x.abs() < _HUGE).all()) for x in weights)):
            raise FloatingPointError(
                f"the loss is {loss}, or a weight is not finite, after {steps} environment steps; "
                "the agent is as it was before this segment; lower learning_rate, or look for "
                "rewards that are not numbers."
            )

    def _sampled(self, rollouts: list[Rollout]) -> list[Rollout]:
        """Returns the latest rollout, and one of the others if there are any."""
        others = rollouts[:-1]
        return [rollouts[-1], *([others[self._rng.integers(len(others))]] if others else [])]

    def _learn_by(
        self, learners: dict[str, nn.Module], optimisers: Sequence[torch.optim.Optimizer]
    ) -> None:
        """Takes what learns and its optimisers, and begins to average it."""
        self._learners, self.optimisers = nn.ModuleDict(learners), optimisers
        average = get_ema_multi_avg_fn(self.settings.ema_decay)
        self.averaged = AveragedModel(self._learners, multi_avg_fn=average)

    def _average(self) -> None:
        self.averaged.update_parameters(self._learners)

    @property
    def _acting(self) -> Any:
        """What acts: averages of what learns, by the same names."""
        return self.averaged.module

    def state(self) -> dict[str, Any]:
        """Returns weights, optimisers and the number of updates."""
        optimisers = [optimiser.state_dict() for optimiser in self.optimisers]
        return copy.deepcopy(self._weights() | {"optimisers": optimisers, "updates": self.updates})

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned; it counts from the next segment on."""
        self._state = state
        if self._built:
            self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        state = copy.deepcopy(state)  # the optimisers would go on with the tensors themselves
        self._take_weights(state, state["updates"])
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(own)

    # --- what each has of its own

    @abstractmethod
    def _decide(self, observation: Any, starts: npt.NDArray[np.bool_]) -> tuple[Any, ...]:
        """Returns slates first."""

    @abstractmethod
    def _prepare(self, env: RecVectorEnv) -> None:
        """Builds what learns, if it is not there."""

    @abstractmethod
    def _learn_logs(self, env: RecVectorEnv) -> None:
        """Learns from the logs of the training users."""

    @abstractmethod
    def _first_position(self, env: RecVectorEnv, observation: Any) -> Any:
        """Returns where `_collect` begins in sessions that begin."""

    @abstractmethod
    def _collect(self, env: Any, position: Any) -> tuple[Any, Rollout]:
        """Collects the steps of an update from a position, and returns that after them."""

    @abstractmethod
    def _update(self, rollouts: list[Rollout], steps: int) -> float:
        """Learns from the last rollouts; returns the sum of the losses."""

    @abstractmethod
    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Returns the weights of each part, those that learn and those that act."""

    @abstractmethod
    def _take_weights(self, parts: dict[str, dict[str, torch.Tensor]], updates: int) -> None:
        """Takes what `_weights` returned after a number of updates."""
