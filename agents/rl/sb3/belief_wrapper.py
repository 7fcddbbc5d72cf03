"""The SB3 environment of policies that act on a belief."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from agents.rankers.ranker import Floats
from agents.rl.sb3.wrappers import StepResult, encode_last

Bools = npt.NDArray[np.bool_]


class Interface(Protocol):
    """What a policy sees of a belief, and what its actions become."""

    @property
    def space(self) -> spaces.Box[Any]:
        """The space of what it sees of one session."""
        ...

    @property
    def actions(self) -> spaces.Space[Any]:
        """The space of one action."""
        ...

    def encode(self, observation: Any, starts: Bools) -> Floats:
        """Follows the sessions, and returns what the policy sees of them, (n, length)."""
        ...

    def slates(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Returns the slates that actions stand for in what was encoded last, (n, k)."""
        ...

    def fresh(self) -> Interface:
        """Returns the same for other sessions."""
        ...


class BeliefWrapper(VecEnvWrapper):
    """An SB3 environment of slates that shows what is believed, and takes actions on it."""

    venv: Any  # its observations are dicts

    def __init__(self, venv: VecEnv, interface: Interface) -> None:
        """Takes the environment, and what stands between it and a policy."""
        super().__init__(venv, interface.space, interface.actions)
        self.interface = interface

    def reset(self) -> Floats:
        """Begins all sessions and returns what is believed of them, (n, length)."""
        return self.interface.encode(self.venv.reset(), np.ones(self.num_envs, np.bool_))

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Shows the slates that the actions stand for."""
        self.venv.step_async(self.interface.slates(actions))

    def step_wait(self) -> StepResult:
        """Advances every session and returns (features, rewards, dones, infos)."""
        observations, rewards, dones, infos = self.venv.step_wait()
        encode_last(infos, dones, self._encode_last)
        return self.interface.encode(observations, dones), rewards, dones, infos

    def _encode_last(self, observation: Any) -> Floats:
        """What is believed at the end of sessions, by the steps that the observation tells."""
        starts = np.ones(len(observation["session"]), np.bool_)
        return self.interface.fresh().encode(observation, starts)
