"""Any Stable-Baselines3 algorithm as an agent. A new one is one entry of ALGORITHMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.base import write_agent
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


class StableBaselines:
    """Trains an SB3 algorithm on training users and acts with its deterministic policy."""

    observation = "vector"

    def __init__(self, name: str, seed: int = 0, **settings: Any) -> None:
        """Takes the algorithm of ALGORITHMS and overrides of its settings."""
        algorithm = ALGORITHMS[name]
        self.name, self.seed, self.action = name, seed, algorithm.action
        self.class_name = algorithm.class_name
        self.settings = {**algorithm.settings, **settings}
        self.model: Any = None
        self.on_steps: Callable[[int], None] | None = None

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` user-steps in `env`, which resets in the same step."""
        import stable_baselines3
        from stable_baselines3.common.vec_env import VecNormalize

        from llmrec_env.sb3 import Sb3VecEnv

        vec_env = Sb3VecEnv(env)
        vec_env.seed(self.seed * 1_000_003 + 1)
        gamma = float(self.settings.get("gamma", 0.99))
        normalised = VecNormalize(vec_env, norm_obs=False, norm_reward=True, gamma=gamma)
        self.model = getattr(stable_baselines3, self.class_name)(
            *("MlpPolicy", normalised),
            **dict(seed=self.seed, device="cpu", verbose=0, **self.settings),
        )
        self.model.learn(num_steps, callback=_reporter(self.on_steps))

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Returns the most likely actions, (n, ...).

        Raises:
            RuntimeError: before `fit`.
        """
        if self.model is None:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        actions, _ = self.model.predict(observation, deterministic=True)
        return actions

    def save(self, path: Path) -> None:
        """Writes settings, and the policy's weights as safetensors."""
        state = self.model.policy.state_dict()
        weights = {name: tensor.numpy() for name, tensor in state.items()}
        config = {"seed": self.seed, "class": self.class_name, "action": self.action}
        write_agent(path, self.name, {**config, "settings": self.settings}, weights)


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
