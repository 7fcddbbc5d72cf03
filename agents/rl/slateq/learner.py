"""SlateQ agent: decomposed values of slates over a recurrent belief about the user.

A slate is worth Σ_k P(choose k) (E[R | k] + advantage of the future with k): the choice and reward
heads are those of the user model, the third is that of `slate_values.py`. All learn online, from
sessions with training users, after a start from their logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.added_blocks import AddedBlocks
from agents.instructions import with_typed_phrases
from agents.registry import defaults_of
from agents.rl.averaged_learner import AveragedLearner
from agents.rl.slateq.settings import Settings
from agents.rl.slateq.slate_values import (
    Advantage,
    Future,
    Values,
    add_future,
    explore_slots,
    state_features,
)
from agents.rl.slateq.taste import Taste, of_any_world
from agents.rl.slateq.tracking import Tracker
from agents.rl.slateq.uncertainty import exploration_bonus
from agents.rl.slateq.unrolling import Rollout, descend, learn_future, learn_logs, unrolled
from agents.rl.slateq.user_model import Exported, UserModel
from agents.saving import write_agent
from agents.slates import SLATES
from llmrec_env.envs.vector import RecVectorEnv

_ADVICE = (
    "if it was learning, the agent is as it was before this segment; lower learning_rate, or look "
    "for rewards that are not numbers."
)


class SlateQ(AveragedLearner):
    """Learns who wants what, what it brings, and what it does to the future."""

    name = "slateq"
    num_rollouts = 6
    model: UserModel
    future: Future

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings."""
        super().__init__(seed)
        self.settings = Settings(**defaults_of("slateq") | settings)

    # --- acting

    def belief(self, observation: Any) -> npt.NDArray[np.float32]:
        """Returns the believed interest of each session, from which `act` acted last, (n, d)."""
        return self.tracker.belief @ self.tracker.model.phrases

    def _decide(
        self, observation: Any, starts: npt.NDArray[np.bool_], learning: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Slates, ITEM_FEATURES of all candidates, and features of the states."""
        tracker = self.tracker
        observation = with_typed_phrases(observation, self.settings.instruction)
        tracker.observe(observation, starts, learning)
        values = self.values(observation, tracker)
        slates = self.slates(values.odds, values.value, observation["candidates"])
        return slates, values.items, values.states

    def values(self, observation: Any, tracker: Tracker) -> Values:
        """Returns what candidates are worth by what a tracker believes.

        Raises:
            FloatingPointError: a value is not finite.
        """
        odds, items = tracker.appraise(observation["candidates"])
        states = state_features(observation, tracker)
        value = tracker.model.parameters[0]["reward"]
        value = value * (items[..., 0] * items[..., 1]).astype(np.float64)
        if self.settings.gamma > 0:
            advantage: Advantage = self._acting["future"].exported()
            add_future(*advantage, states, items, self._lookahead(), value)
        optimism = self.settings.interest_optimism, self.settings.taste_optimism
        value += exploration_bonus(tracker, observation["candidates"], *optimism)
        if not (np.isfinite(odds).all() and np.isfinite(value).all()):
            raise FloatingPointError(f"the value of a candidate is not finite; {_ADVICE}")
        return Values(odds, value, items, states)

    def slates(
        self,
        odds: npt.NDArray[np.float64],
        value: npt.NDArray[np.float64],
        candidates: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int64]:
        """Returns the slates that it would show, as candidate indices, (n, k)."""
        model, make = self.tracker.model, SLATES[self.settings.slates]
        examination = np.arange(1, self.slate_size + 1) ** -model.parameters[0]["position"]
        return make(odds, value, examination, candidates, model.vectors, self.settings.mmr)

    def _lookahead(self) -> float:
        share = (self.updates - self.settings.warm_up) / max(self.settings.ramp, 1)
        return float(np.clip(share, 0.0, 1.0))

    # --- learning

    def _learn_logs(self, env: RecVectorEnv) -> None:
        learn_logs(self.model, env.public_data(), self.blocks, self.settings, self.seed)

    def _first_position(self, env: RecVectorEnv, observation: Any) -> Any:
        self.tracker = Tracker(self._exported(), self.blocks)
        return observation, np.ones(env.num_envs, np.bool_)

    def _average(self) -> None:
        super()._average()
        self.tracker.model = self._exported()

    def _prepare(self, env: RecVectorEnv) -> None:
        self.slate_size = env.config.slate_size
        self._logged_steps = env.public_data().logs.items.size
        if self._built:
            return
        data = env.public_data()
        self.blocks = AddedBlocks(env.config, data)
        self.model = UserModel(data, self.blocks.names)
        with torch.random.fork_rng(devices=[]):  # do not consume the caller's RNG state
            torch.manual_seed(self.seed)
            self.future = Future()
        rate = self.settings.learning_rate
        groups = [{"params": [*self.model.parameters()], "full": rate}]
        future = [{"params": [*self.future.parameters()], "full": self.settings.future_rate}]
        optimisers = torch.optim.Adam(groups), torch.optim.Adam(future)
        self._learn_by({"model": self.model, "future": self.future}, optimisers)
        self.tracker = Tracker(self._exported(), self.blocks)
        self._built = True

    def _exported(self) -> Exported:
        return self._acting["model"].exported()._replace(taste=self.model.taste)

    def _collect(self, env: Any, position: Any) -> tuple[Any, Rollout]:
        (observation, starts), rollout = position, Rollout()
        for _ in range(self.settings.steps):
            slates, items, states = self._decide(observation, starts, learning=True)
            candidates = observation["candidates"]
            explore_slots(slates, candidates, self.settings.explore, self._rng)
            rollout.begin(self.tracker, starts, states, items, slates, candidates)
            observation, reward, terminated, truncated, info = env.step(slates)
            starts = terminated | truncated
            heard = with_typed_phrases(observation, self.settings.instruction)
            rollout.end(reward, starts, info, heard["recent_queries"][:, 0])
        rollout.last_states = state_features(observation, self.tracker)
        return (observation, starts), rollout.stacked()

    def _update(self, rollouts: list[Rollout], steps: int) -> float:
        rate = 1.0 / (1.0 + steps / self.settings.lr_half_life)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full"] * rate * min(1.0, (self.updates + 1) / 5)
        loss = unrolled(self.model, self._sampled(rollouts))
        loss = loss + self.model.penalty(self.settings.shrinkage, steps + self._logged_steps)
        total = descend(self.optimisers[0], self.model, loss)
        if self.settings.gamma > 0:
            optimiser, td_lambda = self.optimisers[1], self.settings.td_lambda
            total += learn_future(
                self.future, optimiser, rollouts, self.settings.gamma, td_lambda, self._rng
            )
        return total

    # --- saving

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        parts = {
            "model": dict(self.model.named_parameters()),
            "future": self.future.state_dict(),
            "averaged": dict(self.averaged.named_parameters()),
            "taste": {x: torch.from_numpy(y) for x, y in self.model.taste._asdict().items()},
        }
        parts["averaged"]["n_averaged"] = self.averaged.n_averaged
        return {name: {k: v.detach() for k, v in part.items()} for name, part in parts.items()}

    def _take_weights(self, parts: dict[str, dict[str, torch.Tensor]], updates: int) -> None:
        self.model.load_state_dict(parts["model"], strict=False)
        self.future.load_state_dict(parts["future"])
        self.averaged.load_state_dict(parts["averaged"], strict=False)
        self.model.taste = Taste(**{name: x.numpy().copy() for name, x in parts["taste"].items()})
        self.updates = updates
        self.tracker = Tracker(self._exported(), self.blocks)

    def save(self, path: Path) -> None:
        """Writes settings and weights."""
        weights = {
            f"{part}.{name}": value.numpy()
            for part, values in self._weights().items()
            for name, value in values.items()
        }
        weights["updates"] = np.array(self.updates)
        write_agent(path, self.name, {"seed": self.seed, **asdict(self.settings)}, weights)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes weights that `save` wrote."""
        self._prepare(env)
        names = ("model", "future", "averaged", "taste")
        parts: dict[str, dict[str, torch.Tensor]] = {name: {} for name in names}
        for key, value in weights.items():
            part, _, name = key.partition(".")
            if part in parts:
                parts[part][name] = torch.tensor(value)
        self._take_weights(parts, int(weights["updates"]))

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Takes the user model and the future; where items are others, nothing of single ones.

        These have the mean of biases and factors, phrases the same weight each.
        """
        if not same_items:
            data = env.public_data()
            sizes = len(data.items.vectors), len(data.phrase_vectors)
            weights = {name: of_any_world(name, x, *sizes) for name, x in weights.items()}
        self.load(weights, env)
