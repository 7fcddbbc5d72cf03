"""Any Stable-Baselines3 algorithm as an agent. A new one is one entry of ALGORITHMS."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.base import SEGMENT, write_agent
from llmrec_env.candidates import FEATURES
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.vector_env import RecVectorEnv


@dataclass(frozen=True)
class Algorithm:
    """An SB3 algorithm, the action mode it acts in, and its settings."""

    class_name: str
    """Name in `stable_baselines3`."""
    action: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the algorithm."""


ALGORITHMS = {
    "ppo": Algorithm(
        "PPO",
        "weights",
        {
            **{"n_steps": 64, "batch_size": 1024, "n_epochs": 5, "learning_rate": 3e-4},
            **{"gamma": 0.98, "gae_lambda": 0.9, "ent_coef": 0.0, "target_kl": 0.04},
            "policy_kwargs": {"log_std_init": -1.0, "net_arch": [64, 64]},
        },
    ),
}
"""Agents by name; tuned on validation users of worlds that are not reported on."""


BLOCKS = (*VECTOR_BLOCKS, "session", "candidates")
"""Parts of a `vector` observation, in order."""


class StableBaselines:
    """Trains an SB3 algorithm on training users and acts with its deterministic policy."""

    observation = "vector"

    def __init__(
        self, name: str, seed: int = 0, without: Sequence[str] = (), **settings: Any
    ) -> None:
        """Takes the algorithm of ALGORITHMS and overrides of its settings.

        Args:
            name: of ALGORITHMS.
            seed: of training.
            without: blocks of the observation that it does not see, to learn what they are worth.
            **settings: keyword arguments of the algorithm.

        Raises:
            ValueError: there is no such block.
        """
        for block in without:
            if block not in BLOCKS:
                raise ValueError(unknown("observation block", block, list(BLOCKS)))
        self.without = tuple(without)
        algorithm = ALGORITHMS[name]
        self.name, self.seed, self.action = name, seed, algorithm.action
        self.class_name = algorithm.class_name
        self.settings = {**algorithm.settings, **settings}
        self.model: Any = None
        self.on_steps: Callable[[int], None] | None = None
        self.log_folder: Path | None = None
        self._state: dict[str, Any] = {}
        self._visible: npt.NDArray[np.float32] = np.ones(1, np.float32)

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` user-steps in `env`, which resets in the same step."""
        done = segment = 0
        while done < num_steps:
            done += self.learn(env, min(SEGMENT, num_steps - done), segment, done)
            segment += 1

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment: a new model that takes the weights of the one before."""
        from stable_baselines3.common.vec_env import VecNormalize

        from llmrec_env.sb3 import Sb3VecEnv

        seed = (self.seed * 1_000_003 + segment * 7_919 + 1) % 2**31
        vec_env = Sb3VecEnv(env)
        vec_env.seed(seed)
        gamma = float(self.settings.get("gamma", 0.99))
        self._visible = _visible(env.config, self.without)
        seen = masked(vec_env, self._visible) if self.without else vec_env
        normalised = VecNormalize(seen, norm_obs=False, norm_reward=True, gamma=gamma)
        self._build(normalised, seed)
        if self._state:
            self.restore(self._state)
        self.model.num_timesteps = done
        self.model.learn(num_steps, callback=_reporter(self.on_steps), reset_num_timesteps=False)
        self._state = self.state()
        return self.model.num_timesteps - done

    def _build(self, vec_env: Any, seed: int) -> None:
        import stable_baselines3

        log = None if self.log_folder is None else str(self.log_folder)
        self.model = getattr(stable_baselines3, self.class_name)(
            *("MlpPolicy", vec_env),
            **dict(seed=seed, device="cpu", verbose=0, tensorboard_log=log, **self.settings),
        )

    def state(self) -> dict[str, Any]:
        """Returns weights, optimiser and the statistics of the rewards."""
        rewards = self.model.get_vec_normalize_env().ret_rms
        statistics = {name: float(getattr(rewards, name)) for name in ("mean", "var", "count")}
        parameters = copy.deepcopy(self.model.get_parameters())
        return {"parameters": parameters, "rewards": statistics}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned; it counts from the next segment on."""
        self._state = state
        if self.model is not None:
            # The optimiser would go on in the tensors that it is given.
            self.model.set_parameters(copy.deepcopy(state["parameters"]), device="cpu")
            rewards = self.model.get_vec_normalize_env().ret_rms
            for name, value in state["rewards"].items():
                setattr(rewards, name, np.float64(value))

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Returns the most likely actions, (n, ...).

        Raises:
            RuntimeError: before `fit`.
        """
        if self.model is None:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        seen = observation * self._visible if self.without else observation
        actions, _ = self.model.predict(seen, deterministic=True)
        return actions

    def save(self, path: Path) -> None:
        """Writes settings, and the policy's weights as safetensors."""
        state = self.model.policy.state_dict()
        weights = {name: tensor.numpy() for name, tensor in state.items()}
        config = {"seed": self.seed, "class": self.class_name, "action": self.action}
        config["without"] = list(self.without)
        write_agent(path, self.name, {**config, "settings": self.settings}, weights)


def _visible(config: EnvConfig, without: Sequence[str]) -> npt.NDArray[np.float32]:
    """1 for each number of a `vector` observation that may be seen, 0 for others."""
    length = min(config.observation_dim, config.dim)
    appended = config.candidates * len(FEATURES) if config.action in ("slate", "item") else 0
    lengths = [*(length for _ in VECTOR_BLOCKS), len(SESSION_NUMBERS), appended]
    seen = [block not in without for block in BLOCKS]
    return np.repeat(np.array(seen, np.float32), lengths)


def masked(vec_env: Any, visible: npt.NDArray[np.float32]) -> Any:
    """Returns an SB3 environment that shows 0 where `visible` is 0."""
    from stable_baselines3.common.vec_env import VecEnvWrapper

    class Masked(VecEnvWrapper):
        """Multiplies every observation by the mask, the last ones of sessions too."""

        venv: Any  # its observations are arrays

        def reset(self) -> Any:
            return self.venv.reset() * visible

        def step_wait(self) -> Any:
            observations, rewards, dones, infos = self.venv.step_wait()
            for info in infos:
                if "terminal_observation" in info:
                    info["terminal_observation"] = info["terminal_observation"] * visible
            return observations * visible, rewards, dones, infos

    return Masked(vec_env)


def _reporter(on_steps: Callable[[int], None] | None) -> Any:
    from stable_baselines3.common.callbacks import BaseCallback

    class Reporter(BaseCallback):
        """Reports the user-steps done at the end of each rollout."""

        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            if on_steps:
                on_steps(self.num_timesteps)

    return Reporter()
