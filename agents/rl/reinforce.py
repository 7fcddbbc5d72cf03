"""REINFORCE with the top-K off-policy correction: a policy over items that fills whole slates.

M. Chen et al., Top-K Off-Policy Correction for a REINFORCE Recommender System, WSDM 2019. A slate
is K draws from a softmax over the candidates. The gradient of what an item consumed brought, R, is

    π(a|s) / β(a|s) · λ_K(s, a) · R · ∇ log π(a|s)    with λ_K = K (1 - π(a|s))^(K - 1)

where β is the policy that drew the slate, known here because it is an earlier one of the agent's
own, and λ_K turns the gradient of one draw into that of the chance to be on the slate: an item that
is nearly sure to be there needs no more weight, and the next best ones get it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from agents.base import learn_in_segments, segment_seed
from agents.item_noise import gumbel_of_items, new_keys
from agents.rankers.ranker import best_slots
from agents.registry import defaults_of
from agents.rl.slate_policy import SlatePolicy, log_policy
from agents.rl.slateq.slate_values import targets
from llmrec_env.envs.vector import RecVectorEnv

Tensor = torch.Tensor


@dataclass(frozen=True)
class Settings:
    """Of the learner; their values are in `agents/registry.py`."""

    gamma: float
    """Discount; 0 looks no further than the step."""
    td_lambda: float
    """λ of the returns: how far rewards are counted before the baseline stands for the rest."""
    clip: float
    """Largest π / β: bounds the variance, at the price of a bias."""
    entropy: float
    """Weight of the entropy of the policy, which keeps it exploring."""
    steps: int
    """Of each session between two updates."""
    num_rollouts: int
    """Rollouts, the latest, that an update learns from."""
    learning_rate: float
    """At its height."""
    lr_half_life: int
    """Environment steps after which it has halved; it falls as 1 / (1 + steps / lr_half_life)."""
    scale: float
    """By which scores are multiplied; the larger, the less is explored at first."""
    ema_decay: float
    """What the averaged weights, which act, keep of themselves with each update."""
    log_epochs: int
    """Passes over the logs before acting."""


def entropy(scores: Tensor) -> Tensor:
    """Returns the mean entropy of policies by their scores, (m, c)."""
    logs = scores.log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean()


def slate_multiplier(probability: Tensor, slots: int) -> Tensor:
    """Returns λ_K = K (1 - π)^(K - 1): how being on a slate changes with one draw's probability."""
    return slots * (1.0 - probability) ** (slots - 1)


def corrected_loss(
    logs: Tensor, log_beta: Tensor, credit: Tensor, slots: int, clip: float
) -> Tensor:
    """Returns a number for each step whose gradient is minus that of the corrected return, (m,).

    Args:
        logs: log π of what was consumed, (m,).
        log_beta: of the same, (m,).
        credit: what it brought beyond the baseline, (m,); 0 where nothing was consumed.
        slots: K.
        clip: largest π / β.
    """
    now = logs.detach()
    ratio = (now - log_beta).exp().clamp(max=clip)
    return -ratio * slate_multiplier(now.exp(), slots) * credit * logs


class Rollout(NamedTuple):
    """m environment steps, those of all sessions at one time side by side."""

    features: Tensor  # (m, length)
    chosen: Tensor  # (m,), index of the candidate consumed; if none was, of the first one shown
    consumed: Tensor  # (m,), bool
    log_beta: Tensor  # (m,), of it
    reward: npt.NDArray[np.float32]  # (t, n)
    done: npt.NDArray[np.bool_]  # (t, n), whether a session ended with the step
    last: Tensor  # (n, length), features after the last step
    candidates: npt.NDArray[np.int32]  # (n, c), offered then


class TopKReinforce(SlatePolicy):
    """Draws slates from a softmax and credits the consumed item with all that followed."""

    name = "reinforce-topk"
    settings: Settings

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings."""
        super().__init__(seed, Settings(**defaults_of(self.name) | settings))
        self.on_steps: Callable[[int], None] | None = None
        self.log_folder: Path | None = None
        self._state: dict[str, Any] | None = None

    # --- learning

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` environment steps in `env`, which resets in the same step."""
        learn_in_segments(self, env, max(num_steps, 1))

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment; the first one begins with the logs of the training users.

        Raises:
            FloatingPointError: a loss is not finite; the agent is as it was before the segment.
        """
        self._prepare(env)
        before = self.state()
        size = self.settings.steps * env.num_envs
        updates = max(round(num_steps / size), 1)
        self._rng = np.random.default_rng([self.seed, segment, 3])
        try:
            if segment == 0:
                self._imitate(env, "satisfied")
            features, candidates = self._encode(env.reset(seed=segment_seed(self.seed, segment))[0])
            rollouts: list[Rollout] = []
            for update in range(1, updates + 1):
                rollout = self._collect(env, features, candidates)
                rollouts = [*rollouts, rollout][-self.settings.num_rollouts :]
                features, candidates = rollout.last, rollout.candidates
                self._update(rollouts, done + update * size)
                if self.on_steps:
                    self.on_steps(done + update * size)
        except FloatingPointError:
            self._take(before)
            raise
        return updates * size

    def _prepare(self, env: RecVectorEnv) -> None:
        if self.policy is None:
            super()._prepare(env)
            if self._state:
                self._take(self._state)

    def _encode(self, observation: Any) -> tuple[Tensor, npt.NDArray[np.int32]]:
        """Features, (n, length), and the ids of the candidates, (n, c)."""
        return torch.from_numpy(self.extractor.encode(observation)), observation["candidates"]

    @torch.no_grad()
    def _collect(
        self, env: RecVectorEnv, features: Tensor, candidates: npt.NDArray[np.int32]
    ) -> Rollout:
        """Collects the steps between two updates, with slates drawn from the policy."""
        steps: list[tuple[Any, ...]] = []
        for _ in range(self.settings.steps):
            scores = self.policy.scores(features)
            # The K largest of scores with Gumbel noise are K draws, none of them twice.
            noise = gumbel_of_items(new_keys(self._rng, len(candidates)), candidates)
            slates = best_slots(scores.numpy() + noise, candidates, self.slots)
            observation, reward, terminated, truncated, info = env.step(slates)
            done, choice = terminated | truncated, info["choice"].copy()
            if done.any():  # what `info` says of these is of their next session
                choice[done] = info["final_info"]["choice"][done]
            chosen = torch.from_numpy(slates[np.arange(len(slates)), np.maximum(choice, 0)])
            log_beta, consumed = log_policy(scores, chosen), torch.from_numpy(choice >= 0)
            steps.append((features, chosen, consumed, log_beta, reward, done))
            features, candidates = self._encode(observation)
        columns: Any = list(zip(*steps, strict=True))
        encoded, chosen, consumed, log_beta = (torch.cat(column) for column in columns[:4])
        rewards, ends = np.stack(columns[4]).astype(np.float32), np.stack(columns[5])
        return Rollout(encoded, chosen, consumed, log_beta, rewards, ends, features, candidates)

    def _update(self, rollouts: list[Rollout], steps: int) -> None:
        """Learns once from each step of the last rollouts, in random order."""
        returns = torch.cat([self._returns(rollout) for rollout in rollouts])
        columns: Any = zip(*(rollout[:4] for rollout in rollouts), strict=True)
        features, chosen, consumed, log_beta = (torch.cat(column) for column in columns)
        with torch.no_grad():
            credit = (returns - self.policy.predict_values(features)[:, 0]) * consumed
        self.policy.set_training_mode(True)  # averages the weights so far
        spread = (credit.square().sum() / consumed.sum().clamp(min=1)).sqrt()
        credit = credit / spread.clamp(min=1e-6)  # rewards of any size ask for the same entropy
        rate = self.settings.learning_rate / (1.0 + steps / self.settings.lr_half_life)
        clip = self.settings.clip
        for rows in self._batches(len(features)):
            scores, values = self.policy.scores_and_values(features[rows])
            logs = log_policy(scores, chosen[rows])
            loss = corrected_loss(logs, log_beta[rows], credit[rows], self.slots, clip)
            error = values[:, 0] - returns[rows]
            loss = loss.mean() - self.settings.entropy * entropy(scores)
            self._descend(loss + 0.5 * error.square().mean(), rate)

    @torch.no_grad()
    def _returns(self, rollout: Rollout) -> Tensor:
        gamma, td_lambda = self.settings.gamma, self.settings.td_lambda
        values = self.policy.predict_values(torch.cat([rollout.features, rollout.last]))
        values = values.numpy().reshape(-1, rollout.reward.shape[1])
        returns, _ = targets(values, rollout.reward, rollout.done, gamma, td_lambda)
        return torch.from_numpy(returns).flatten()

    # --- state

    def state(self) -> dict[str, Any]:
        """Returns the weights, their average, and what the optimiser knows."""
        parts = {"policy": self.policy, "optimiser": self.policy.optimizer}
        return copy.deepcopy({name: part.state_dict() for name, part in parts.items()})

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        self._state = state
        if self.policy is not None:
            self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        state = copy.deepcopy(state)  # the optimiser would go on with the tensors themselves
        self.policy.load_state_dict(state["policy"])
        self.policy.optimizer.load_state_dict(state["optimiser"])
