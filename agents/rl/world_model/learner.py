"""World model agent: learns what follows from slates, and shows those of highest expected return.

A slate is worth, by the mean over the heads of the world model, Σ_k P(choose k) (E[R | k] +
advantage of the future with k), as in SlateQ (Ie et al., IJCAI 2019). All is learnt from events:
from the logs of the training users first, then from sessions with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agents.added_blocks import AddedBlocks
from agents.instructions import with_typed_phrases
from agents.joint.factors import mean_of_items
from agents.registry import defaults_of
from agents.rl.averaged_learner import AveragedLearner
from agents.rl.slateq.slate_values import Advantage, Future, add_future, explore_slots
from agents.rl.slateq.unrolling import Rollout, descend, learn_future
from agents.rl.world_model.following import Follower, write_products
from agents.rl.world_model.learning import item_factors, learn_logs, set_rates, unrolled
from agents.rl.world_model.network import Expectation, State, WorldModel
from agents.rl.world_model.settings import Settings
from agents.saving import write_agent
from agents.slates import hedged_slates
from llmrec_env.envs.vector import RecVectorEnv

_AT_ONCE = 64  # sessions whose candidates are appraised side by side: they fit into the cache
_OF_ITEMS = ("embedding", "start")  # weights of single items
_ITEM_NUMBERS = 5  # what the future of an item is judged by


class WorldModelAgent(AveragedLearner):
    """Learns a world model, and what follows from consuming an item there."""

    name = "world-model"
    model: WorldModel
    futures: list[Future]

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings."""
        super().__init__(seed)
        self.settings = Settings(**defaults_of(self.name) | settings)
        self.num_rollouts = self.settings.num_rollouts

    # --- acting

    @torch.no_grad()
    def _decide(
        self, observation: Any, starts: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Slates, _ITEM_NUMBERS of all candidates, and numbers of the states."""
        model: WorldModel = self._acting["model"]
        heard = with_typed_phrases(observation, self.settings.instruction)
        state, candidates = self.follower.observe(model, heard, starts), observation["candidates"]
        slates = np.empty((len(candidates), self.slate_size), np.int64)
        examined = model.position.exp().numpy()
        abouts, numbers = [], []
        for first in range(0, len(candidates), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            part, offered = State(*(x[some] for x in state)), candidates[some]
            close = np.empty((len(offered), model.sums, offered.shape[1]), np.float32)
            write_products(part.texts.numpy(), model.vectors.numpy(), offered, close)
            about, ids = model.describe_state(part), torch.from_numpy(np.maximum(offered, 0))
            added = torch.from_numpy(self.follower.added[some])
            items = model.describe_items(part, ids.long(), added, torch.from_numpy(close))
            expected = model.expect(about, items)
            odds = expected.utility.clamp(-12.0, 12.0).exp().numpy()
            item_numbers = _summary(expected, model.numbers[ids.long()])
            value = expected.reward.double().numpy()
            if self.settings.gamma > 0:
                self._add_futures(about.numpy(), item_numbers, value)
            if not (np.isfinite(odds).all() and np.isfinite(value).all()):
                raise FloatingPointError(
                    "the value of a candidate is not finite; lower learning_rate."
                )
            hedged_slates(odds, value, examined, offered, slates[some])
            abouts.append(about.numpy())
            numbers.append(item_numbers)
        return slates, np.concatenate(numbers), np.concatenate(abouts)

    def _add_futures(self, about: Any, numbers: Any, value: npt.NDArray[np.float64]) -> None:
        """Adds what each candidate does to the future to its value by each head, (n, M, c)."""
        share = (self.updates - self.settings.warm_up) / max(self.settings.ramp, 1)
        for head, future in enumerate(self._acting["futures"]):
            added = np.zeros(numbers.shape[:2])
            advantage: Advantage = future.exported()
            add_future(*advantage, about, numbers, float(np.clip(share, 0.0, 1.0)), added)
            value[:, head] += added

    # --- learning

    def _prepare(self, env: RecVectorEnv) -> None:
        if not self._built:
            held = self._state["learners"]["model.folds"].numpy() if self._state else None
            found = item_factors(env.public_data(), env.config, self.seed) if held is None else held
            self._build(env, found)

    def _learn_logs(self, env: RecVectorEnv) -> None:
        data, optimiser = env.public_data(), self.optimisers[0]
        learn_logs(self.model, optimiser, data, self.blocks, self.settings, self.seed)

    def _first_position(self, env: RecVectorEnv, observation: Any) -> Any:
        self.follower, starts = Follower(self.blocks), np.ones(env.num_envs, np.bool_)
        return observation, starts, self._decide(observation, starts)

    def _collect(self, env: Any, position: Any) -> tuple[Any, Rollout]:
        (observation, starts, decided), rollout = position, Rollout()
        for _ in range(self.settings.steps):
            slates, numbers, states = decided
            candidates = observation["candidates"]
            explore_slots(slates, candidates, self.settings.explore, self._rng)
            rollout.begin(self.follower, starts, states, numbers, slates, candidates)
            observation, reward, terminated, truncated, info = env.step(slates)
            starts = terminated | truncated
            heard = with_typed_phrases(observation, self.settings.instruction)
            rollout.end(reward, starts, info, heard["recent_queries"][:, 0])
            decided = self._decide(observation, starts)
        rollout.last_states = decided[2]
        return (observation, starts, decided), rollout.stacked()

    def _update(self, rollouts: list[Rollout], steps: int) -> float:
        rate, total = 1.0 / (1.0 + steps / self.settings.lr_half_life), 0.0
        for optimiser in self.optimisers:
            set_rates(optimiser, rate)
        for _ in range(self.settings.descents):
            losses = unrolled(self.model, self._sampled(rollouts))
            total += descend(self.optimisers[0], self.model, losses.sum())
        if self.settings.gamma > 0:
            keywords = self.settings.gamma, self.settings.td_lambda, self._rng
            for future, optimiser in zip(self.futures, self.optimisers[1:], strict=True):
                total += learn_future(future, optimiser, rollouts, *keywords)
        return total

    def _build(self, env: RecVectorEnv, folds: npt.NDArray[np.float32]) -> None:
        config, settings = env.config, self.settings
        self.slate_size = config.slate_size
        self.blocks = AddedBlocks(config, env.public_data())
        shape = config.slate_size, config.horizon, len(self.blocks.names)
        sizes = settings.sums, settings.hidden, settings.heads
        with torch.random.fork_rng(devices=[]):  # do not consume the caller's RNG state
            torch.manual_seed(self.seed)
            self.model = WorldModel(env.public_data(), folds, *shape, *sizes)
            states = self.model.num_states, _ITEM_NUMBERS
            self.futures = [Future(*states) for _ in range(settings.heads)]
        rate, own = settings.learning_rate, self.model.embedding
        others = [x for x in self.model.parameters() if x is not own]
        groups = [{"params": others, "full": rate}, {"params": [own], "full": 0.1 * rate}]
        futures = [
            [{"params": [*x.parameters()], "full": settings.future_rate}] for x in self.futures
        ]
        optimisers = [torch.optim.Adam(group) for group in (groups, *futures)]
        self._learn_by({"model": self.model, "futures": nn.ModuleList(self.futures)}, optimisers)
        self.follower = Follower(self.blocks)
        self._built = True

    # --- saving

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"learners": self._learners.state_dict(), "averaged": self.averaged.state_dict()}

    def _take_weights(self, parts: dict[str, dict[str, torch.Tensor]], updates: int) -> None:
        self._learners.load_state_dict(parts["learners"])
        self.averaged.load_state_dict(parts["averaged"])
        self.updates = updates

    def save(self, path: Path) -> None:
        """Writes settings and the weights that act."""
        weights = {name: x.numpy() for name, x in self._acting.state_dict().items()}
        weights["updates"] = np.array(self.updates)
        write_agent(path, self.name, {"seed": self.seed, **asdict(self.settings)}, weights)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes weights that `save` wrote."""
        self._build(env, weights["model.folds"])
        tensors = {name: torch.tensor(x) for name, x in weights.items() if name != "updates"}
        self._learners.load_state_dict(tensors)
        self._acting.load_state_dict(tensors)
        self.updates = int(weights["updates"])

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Takes the network; where items are others, the mean of what it knows of single ones."""
        count = len(env.public_data().items.vectors)
        if not same_items:
            means = {f"model.{x}": mean_of_items(weights[f"model.{x}"], count) for x in _OF_ITEMS}
            folds = np.broadcast_to(means["model.start"], (2, *means["model.start"].shape))
            weights = {**weights, **means, "model.folds": folds.copy()}
        self.load(weights, env)


def _summary(expected: Expectation, numbers: torch.Tensor) -> npt.NDArray[np.float32]:
    """What the future of items is judged by, (n, k, 5): what heads expect, and their numbers."""
    chance = torch.sigmoid(expected.utility).mean(1), torch.sigmoid(expected.log_odds).mean(1)
    return torch.stack([*chance, expected.reward.mean(1), *numbers.unbind(2)], 2).numpy()
