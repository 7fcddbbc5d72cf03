"""Offline reinforcement learning on SB3: learners that never act while they learn.

A fixed logging policy acts for them, whose propensities are known; what it did is all they have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

_WITHOUT_NOISE = (
    "TD3BC has action_noise=None, so that its logging policy would do the same in every step and "
    "nothing could be learnt; set action_noise to a standard deviation, as 0.5."
)


class TD3BC(TD3):
    """TD3 whose actor is held to the logged actions (Fujimoto and Gu, 2021, TD3+BC).

    The logging policy does what action 0 does, with Gaussian noise of `action_noise`.
    """

    def __init__(self, *args: Any, alpha: float = 2.5, **settings: Any) -> None:
        """Takes what TD3 takes, and the weight of values; 0 is behaviour cloning.

        Raises:
            ValueError: the weight is negative.
        """
        self.alpha = _not_negative("alpha", alpha)
        super().__init__(*args, **settings)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        if action_noise is None:
            raise ValueError(_WITHOUT_NOISE)
        shape = (n_envs, *(self.action_space.shape or ()))
        scaled = np.clip(np.broadcast_to(action_noise(), shape), -1.0, 1.0).astype(np.float32)
        return self.policy.unscale_action(scaled), scaled

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Updates critics, and every `policy_delay` times the actor, from the replay buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = _sample(self, batch_size)
            values = self.critic(batch.observations, batch.actions)
            target = self._target(batch)
            loss = torch.stack([functional.mse_loss(value, target) for value in values]).sum()
            _descend(self.critic.optimizer, loss)
            self.logger.record("train/critic_loss", loss.item())
            if self._n_updates % self.policy_delay == 0:
                actions = self.actor(batch.observations)
                value = self.critic.q1_forward(batch.observations, actions)
                weight = self.alpha / value.abs().mean().detach()  # rewards have no scale of ours
                cloning = functional.mse_loss(actions, batch.actions)
                _descend(self.actor.optimizer, cloning - weight * value.mean())
                self.logger.record("train/cloning_loss", cloning.item())
                for own, slow in (
                    (self.critic, self.critic_target),
                    (self.actor, self.actor_target),
                ):
                    polyak_update(own.parameters(), slow.parameters(), self.tau)

    def _target(self, batch: Any) -> torch.Tensor:
        """Returns what the critics should say: rewards, and the less hopeful of two futures."""
        with torch.no_grad():
            noise = (torch.randn_like(batch.actions) * self.target_policy_noise).clamp(
                -self.target_noise_clip, self.target_noise_clip
            )
            actions = (self.actor_target(batch.next_observations) + noise).clamp(-1.0, 1.0)
            values = torch.cat(self.critic_target(batch.next_observations, actions), dim=1)
            future = values.min(dim=1, keepdim=True).values
            return _bellman(self, batch, future)


class CQL(DQN):
    """DQN that keeps the values of actions that were not logged low (Kumar et al., 2020, CQL).

    With `exploration_final_eps` and `exploration_initial_eps` of 1 the logging policy picks each
    action with the same probability.
    """

    def __init__(self, *args: Any, alpha: float = 1.0, **settings: Any) -> None:
        """Takes what DQN takes, and the weight of the penalty.

        Raises:
            ValueError: the weight is negative.
        """
        self.alpha = _not_negative("alpha", alpha)
        super().__init__(*args, **settings)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Updates the values from the replay buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = _sample(self, batch_size)
            with torch.no_grad():
                future = self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values
                target = _bellman(self, batch, future)
            values = self.q_net(batch.observations)
            logged = values.gather(1, batch.actions.long())
            error = functional.smooth_l1_loss(logged, target)
            penalty = (values.logsumexp(dim=1, keepdim=True) - logged).mean()
            _descend(
                self.policy.optimizer,
                error + self.alpha * penalty,
                self.policy.parameters(),
                self.max_grad_norm,
            )
            self.logger.record("train/loss", error.item())
            self.logger.record("train/penalty", penalty.item())


def _not_negative(name: str, value: float) -> float:
    if not value >= 0.0:
        raise ValueError(f"{name} is {value}; it weighs a term of the loss: 0 or more.")
    return float(value)


def _sample(model: Any, batch_size: int) -> Any:
    return model.replay_buffer.sample(batch_size, env=model._vec_normalize_env)


def _bellman(model: Any, batch: Any, future: torch.Tensor) -> torch.Tensor:
    discounts = model.gamma if batch.discounts is None else batch.discounts
    return batch.rewards + (1.0 - batch.dones) * discounts * future


def _descend(
    optimiser: torch.optim.Optimizer,
    loss: torch.Tensor,
    clipped: Any = (),
    max_norm: float = float("inf"),
) -> None:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(clipped, max_norm)
    optimiser.step()
