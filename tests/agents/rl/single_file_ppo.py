"""PPO in one file, as scripts elsewhere have it: it knows Gymnasium, and nothing of this project.

Schulman et al., Proximal policy optimization algorithms, 2017. Sessions reset in the step after the
one that ended them (NEXT_STEP): that step ignores its action, so it is left out of the loss, and
the observation of a truncated step is still that of its own session, whose value counts.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn
from torch.distributions import Categorical, Independent, Normal


def make_envs(task: str, num_envs: int, native: bool = True, **kwargs: Any) -> Any:
    """Returns a batch of environments: one that is a batch by itself, or single ones in a row."""
    if native:
        envs = gym.make_vec(task, num_envs=num_envs, **kwargs)
    else:
        envs = SyncVectorEnv([lambda: gym.make(task, **kwargs) for _ in range(num_envs)])
    return RecordEpisodeStatistics(envs)


class ActorCritic(nn.Module):
    def __init__(self, envs: Any) -> None:
        super().__init__()
        size = int(np.prod(envs.single_observation_space.shape))
        self.discrete = isinstance(envs.single_action_space, gym.spaces.Discrete)
        space = envs.single_action_space
        outputs = int(space.n) if self.discrete else int(np.prod(space.shape))
        self.critic = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, outputs))
        nn.init.zeros_(self.actor[2].weight)
        nn.init.zeros_(self.actor[2].bias)
        self.log_std = nn.Parameter(torch.full((outputs,), -1.0))

    def policy(self, observations: torch.Tensor) -> Any:
        if self.discrete:
            return Categorical(logits=self.actor(observations))
        return Independent(Normal(self.actor(observations), self.log_std.exp()), 1)

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        return self.critic(observations)[:, 0]


def train(
    envs: Any,
    updates: int,
    rollout: int = 64,
    epochs: int = 4,
    minibatch: int = 512,
    rate: float = 1e-3,
    gamma: float = 0.98,
    smoothing: float = 0.9,
    seed: int = 1,
) -> tuple[ActorCritic, list[float]]:
    """Returns the trained networks, and the returns of the sessions in the order they ended."""
    torch.manual_seed(seed)
    n, network = envs.num_envs, ActorCritic(envs)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    low, high = (getattr(envs.single_action_space, x, None) for x in ("low", "high"))
    observation, ended = torch.tensor(envs.reset(seed=seed)[0]), torch.zeros(n, dtype=torch.bool)
    returns: list[float] = []
    for _ in range(updates):
        keep: dict[str, list[torch.Tensor]] = {name: [] for name in "owarlvdt"}
        for _ in range(rollout):
            with torch.no_grad():
                policy, value = network.policy(observation), network.value(observation)
                action = policy.sample()
                log_probability = policy.log_prob(action)
            played = action.numpy() if low is None else np.clip(action.numpy(), low, high)
            after, reward, terminated, truncated, info = envs.step(played)
            done = torch.tensor(terminated | truncated)
            if "episode" in info:
                returns += info["episode"]["r"][info["_episode"]].tolist()
            row = (observation, ~ended, action, torch.tensor(reward).float())
            row += (log_probability, value, done, torch.tensor(terminated))
            for name, column in zip("owarlvdt", row, strict=True):
                keep[name].append(column)
            observation, ended = torch.tensor(after), done
        batch = {name: torch.stack(columns) for name, columns in keep.items()}
        with torch.no_grad():
            following = torch.cat([batch["v"][1:], network.value(observation)[None]])
        change = batch["r"] + gamma * following * ~batch["t"] - batch["v"]
        advantage, total = torch.zeros_like(change), torch.zeros(n)
        for t in reversed(range(rollout)):
            total = change[t] + gamma * smoothing * total * ~batch["d"][t]
            advantage[t] = total
        target = advantage + batch["v"]
        flat = {name: column[batch["w"]] for name, column in batch.items()}
        gain, target = advantage[batch["w"]], target[batch["w"]]
        for _ in range(epochs):
            for rows in torch.randperm(len(gain)).split(minibatch):
                policy = network.policy(flat["o"][rows])
                ratio = (policy.log_prob(flat["a"][rows]) - flat["l"][rows]).exp()
                scaled = (gain[rows] - gain[rows].mean()) / (gain[rows].std() + 1e-8)
                clipped = torch.min(ratio * scaled, ratio.clamp(0.8, 1.2) * scaled).mean()
                error = (network.value(flat["o"][rows]) - target[rows]).square().mean()
                optimiser.zero_grad()
                (0.5 * error - clipped).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                optimiser.step()
    return network, returns
