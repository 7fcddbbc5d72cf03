"""Slate policy: one network scores every candidate of a session, and can be fitted to logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from agents.dataset import logged_choices
from agents.features import FeatureExtractor, blocks_of
from agents.rl.sb3.pointer import PointerPolicy
from agents.saving import write_agent
from llmrec_env.envs.vector import RecVectorEnv

Tensor = torch.Tensor
Imitated = Literal["shown", "satisfied"]


def log_policy(scores: Tensor, chosen: Tensor) -> Tensor:
    """Returns log π of one candidate of each session, (m,), by scores (m, c)."""
    return scores.log_softmax(1).gather(1, chosen[:, None])[:, 0]


class SlatePolicy:
    """Shows the candidates that its network scores highest; subclasses say how it learns.

    Their settings hold `learning_rate`, `scale`, `ema_decay` and `log_epochs`.
    """

    fixed_candidates = True
    """It can pick from as many candidates as it was trained with, and from no other number."""
    name: str
    observation = "dict"
    action = "slate"

    def __init__(self, seed: int, settings: Any) -> None:
        """Takes the seed of training and a dataclass of settings."""
        self.seed, self.settings = seed, settings
        self.policy: Any = None

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns the most likely candidates, (n, k), best first.

        Raises:
            RuntimeError: before `fit`.
        """
        if self.policy is None:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        return self.policy.predict(self.extractor.encode(observation), deterministic=True)[0]

    def _prepare(self, env: RecVectorEnv) -> None:
        """Makes the network for an environment."""
        self.slots = env.config.slate_size
        self.extractor = FeatureExtractor(blocks_of(env.public_data(), env.config))
        self.extractor.fit(env.public_data(), env.config)
        settings = self.settings
        keywords: dict[str, Any] = {"scale": settings.scale, "ema_decay": settings.ema_decay}
        keywords |= self.extractor.policy_kwargs()
        box = spaces.Box(-np.inf, np.inf, (self.extractor.length,), np.float32)
        with torch.random.fork_rng(devices=[]):  # do not consume the caller's RNG state
            torch.manual_seed(self.seed)
            actions, rate = env.single_action_space, settings.learning_rate
            self.policy = PointerPolicy(box, actions, lambda _: rate, **keywords)

    def _imitate(self, env: RecVectorEnv, imitated: Imitated) -> None:
        """Fits the policy to logged slates.

        Args:
            env: whose public data has the logs.
            imitated: `shown`: what is on a slate, among the candidates; `satisfied`: which item of
                a slate was consumed, where it satisfied.
        """
        data, encode, shown = env.public_data(), self.extractor.encode, imitated == "shown"
        features, choice = logged_choices(data, env.config, encode, self._rng, every=shown)
        logged, slots = torch.from_numpy(features), torch.from_numpy(choice)
        for epoch in range(self.settings.log_epochs if len(slots) else 0):
            rate = self.settings.learning_rate * (1.0 - epoch / self.settings.log_epochs)
            for rows in self._batches(len(slots)):
                scores = self.policy.scores(logged[rows])
                if shown:
                    logs = scores.log_softmax(1)[:, : self.slots].mean(1)
                else:  # what else was offered, and why it was not shown, is unknown
                    logs = log_policy(scores[:, : self.slots], slots[rows])
                self._descend(-logs.mean(), rate)
        self.policy.forget()

    _rng: np.random.Generator
    """Draws candidates and the order of learning; whoever learns sets it."""

    def _batches(self, size: int) -> tuple[Tensor, ...]:
        return torch.from_numpy(self._rng.permutation(size)).split(1024)

    def _descend(self, loss: Tensor, rate: float) -> None:
        optimiser = self.policy.optimizer
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        length = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        if not (torch.isfinite(loss) and torch.isfinite(length)):
            raise FloatingPointError(
                f"the loss is {float(loss.detach())}, its gradient {float(length)} long; the agent "
                f"is as it was before this segment; lower learning_rate={rate}."
            )
        optimiser.step()

    def save(self, path: Path) -> None:
        """Writes settings, the weights and their average, which acts."""
        weights = {name: x.numpy() for name, x in self.policy.state_dict().items()}
        write_agent(path, self.name, {"seed": self.seed, **asdict(self.settings)}, weights)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes weights that `save` wrote."""
        self._prepare(env)
        self.policy.load_state_dict({name: torch.tensor(x) for name, x in weights.items()})
