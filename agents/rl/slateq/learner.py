"""The reference learner: decomposed values of slates over a recurrent belief about the user.

A slate is worth Σ_k P(choose k) (E[R | k] + advantage of the future with k): the choice and reward
heads are those of the user model, the third is `future.py`'s. All learn online, from sessions with
training users, after a start from their logs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.base import learn_in_segments, segment_seed
from agents.registry import defaults_of
from agents.rl.slateq.future import Future, add_future, state_features, targets
from agents.rl.slateq.slates import SLATES
from agents.rl.slateq.tracking import Tracker
from agents.rl.slateq.unrolling import Rollout, unrolled
from agents.rl.slateq.user_model import UserModel
from agents.rl.slateq.warm_up import learn_logs
from agents.saving import write_agent
from llmrec_env.config import unknown
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.users import relative_weights

_KEPT = 6  # rollouts
_AS_BEFORE = (
    "if it was learning, the agent is as it was before this segment; lower learning_rate, or look "
    "for rewards that are not numbers."
)
_HUGE = 1e6  # a weight as large is no longer a number that anything can be made of


@dataclass(frozen=True)
class Settings:
    """Of the learner; their values are in `agents/registry.py`."""

    gamma: float
    """Discount; 0 looks no further than the step."""
    trace: float
    """λ of the returns that V learns from."""
    slates: str
    """How a slate is made of values, of SLATES."""
    mmr: float
    """Penalty for likeness to what is above on the slate."""
    explore: float
    """Share of slots filled at random while learning."""
    steps: int
    """Of each session between two updates, through which gradients flow."""
    learning_rate: float
    """Of the user model, at its height."""
    future_rate: float
    """Learning rate of the future."""
    half: int
    """User-steps after which learning rates have halved; they fall as 1 / (1 + steps / half)."""
    shrinkage: float
    """Strength, in steps, of the prior that items are what their texts say."""
    blind: int
    """Updates before the future begins to count."""
    ramp: int
    """Updates in which it then comes to count in full."""
    log_epochs: int
    """Passes over the logs before acting."""


class SlateQ:
    """Learns who wants what, what it brings, and what it does to the future."""

    name = "slateq"
    observation = "dict"
    action = "slate"
    privileged = False
    model: UserModel
    future: Future

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings.

        Raises:
            ValueError: there is no such way to make slates, or not with this mmr.
        """
        self.seed, self.settings = seed, Settings(**defaults_of("slateq") | settings)
        if self.settings.slates not in SLATES:
            raise ValueError(unknown("slates", self.settings.slates, list(SLATES)))
        if self.settings.slates == "exact" and self.settings.mmr > 0:
            raise ValueError(
                f"slates='exact' knows no penalty for likeness, but mmr={self.settings.mmr}; set "
                "mmr=0, or slates='greedy'."
            )
        self.on_steps: Callable[[int], None] | None = None
        self.log_folder: Path | None = None
        self.updates = 0
        self._state: dict[str, Any] | None = None
        self._made = False

    # --- acting

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k), best first.

        Raises:
            RuntimeError: before `fit`.
        """
        if not self._made:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        return self._decide(observation, episode_starts)[0]

    def interest(self, observation: Any) -> npt.NDArray[np.float32]:
        """Returns the believed interest of each session, from which `act` acted last, (n, d)."""
        return self.tracker.belief @ self.tracker.model.phrases

    def _decide(
        self, observation: Any, starts: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Slates, SEEN of all candidates, and features of the states."""
        tracker = self.tracker
        tracker.observe(observation, starts)
        self._correct(tracker.belief)
        odds, seen = tracker.appraise(observation["candidates"])
        states = state_features(observation, tracker)
        q = tracker.model.parameters[0]
        value = q["reward"] * (seen[..., 0] * seen[..., 1]).astype(np.float64)
        if self.settings.gamma > 0:
            add_future(*self.future.exported(), states, seen, self._lookahead(), value)
        if not (np.isfinite(odds).all() and np.isfinite(value).all()):
            raise FloatingPointError(f"the value of a candidate is not finite; {_AS_BEFORE}")
        examined = np.arange(1, self.slate_size + 1) ** -q["position"]
        make = SLATES[self.settings.slates]
        vectors, mmr = tracker.model.vectors, self.settings.mmr
        slates = make(odds, value, examined, observation["candidates"], vectors, mmr)
        return slates, seen, states

    def _lookahead(self) -> float:
        counted = (self.updates - self.settings.blind) / max(self.settings.ramp, 1)
        return float(np.clip(counted, 0.0, 1.0))

    def _correct(self, belief: npt.NDArray[np.float32]) -> None:
        """Leaves the belief as it is; what knows better changes it."""

    # --- learning

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` user-steps in `env`, which resets in the same step."""
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
                learn_logs(self.model, env.public_data(), self.settings, self.seed)
            taken = self._learn_by_acting(env, num_steps, segment, done)
        except FloatingPointError:
            self._take(before)
            raise
        self._state = self.state()
        return taken

    def _learn_by_acting(self, env: Any, num_steps: int, segment: int, done: int) -> int:
        """Plays and updates in turn; returns the user-steps it took."""
        self._rng = np.random.default_rng([self.seed, segment, 3])
        self.tracker = Tracker(self.model.exported())
        size = self.settings.steps * env.num_envs
        rollouts: list[Rollout] = []
        place = self._begin(env, segment)
        for update in range(max(round(num_steps / size), 1)):
            place, rollout = self._play(env, place)
            rollouts = [*rollouts, rollout][-_KEPT:]
            total = self._update(rollouts, done + (update + 1) * size)
            if not np.isfinite(total) or not self._finite():
                raise FloatingPointError(
                    f"the loss is {total}, or a weight is not finite, after "
                    f"{done + (update + 1) * size} user-steps; {_AS_BEFORE}"
                )
            self.updates += 1
            self.tracker.model = self.model.exported()
            if self.on_steps:
                self.on_steps(done + (update + 1) * size)
        return max(round(num_steps / size), 1) * size

    def _finite(self) -> bool:
        weights = (*self.model.parameters(), *self.future.parameters())
        return all(bool((weight.abs() < _HUGE).all()) for weight in weights)

    def _prepare(self, env: RecVectorEnv) -> None:
        self.slate_size = env.config.slate_size
        self._logged_steps = env.public_data().logs.items.size
        if self._made:
            return
        self.model = UserModel(env.public_data(), self.seed)
        with torch.random.fork_rng(devices=[]):  # the caller's luck is not ours to use up
            torch.manual_seed(self.seed)
            self.future = Future()
        self.optimisers = _optimisers(self.model, self.future, self.settings)
        self.tracker = Tracker(self.model.exported())
        self._made = True

    def _begin(self, env: RecVectorEnv, segment: int) -> tuple[Any, npt.NDArray[np.bool_]]:
        observation, _ = env.reset(seed=segment_seed(self.seed, segment))
        return observation, np.ones(env.num_envs, np.bool_)

    def _play(self, env: Any, place: Any) -> tuple[Any, Rollout]:
        """Plays the steps of an update from a place, and returns the place after them."""
        (observation, starts), rollout = place, Rollout()
        for _ in range(self.settings.steps):
            slates, seen, states = self._decide(observation, starts)
            slates = self._explored(slates, observation["candidates"].shape[1])
            rollout.begin(self.tracker, starts, states, seen, slates, observation["candidates"])
            observation, reward, terminated, truncated, info = env.step(slates)
            starts = terminated | truncated
            rollout.end(reward, starts, info, observation["recent_queries"][:, 0])
        rollout.last_states = state_features(observation, self.tracker)
        return (observation, starts), rollout.stacked()

    def _explored(
        self, slates: npt.NDArray[np.int64], num_candidates: int
    ) -> npt.NDArray[np.int64]:
        """Replaces some slots by random candidates that are not on the slate."""
        if self.settings.explore == 0:
            return slates
        random = self._rng.random(slates.shape) < self.settings.explore
        for i, k in zip(*np.nonzero(random), strict=True):
            other = self._rng.integers(num_candidates)
            if other not in slates[i]:
                slates[i, k] = other
        return slates

    def _update(self, rollouts: list[Rollout], steps: int) -> float:
        """Learns from the last rollouts; returns the sum of the losses."""
        rate = 1.0 / (1.0 + steps / self.settings.half)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full"] * rate * min(1.0, (self.updates + 1) / 5)
        chosen = [rollouts[-1]]
        if len(rollouts) > 1:
            chosen.append(rollouts[self._rng.integers(len(rollouts) - 1)])
        loss = unrolled(self.model, chosen, self.privileged)
        loss = loss + self.model.penalty(self.settings.shrinkage, steps + self._logged_steps)
        total = _descend(self.optimisers[0], self.model, loss)
        if self.settings.gamma > 0:
            total += self._learn_future(rollouts)
        return total

    def _learn_future(self, rollouts: list[Rollout]) -> float:
        batch = [self._batch(rollout) for rollout in rollouts]
        columns = {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        order, total = self._rng.permutation(len(columns["returns"])), 0.0
        for rows in np.array_split(order[: 2 * len(order) // 3], max(len(order) // 1536, 1)):
            some = {name: torch.from_numpy(column[rows]) for name, column in columns.items()}
            total = _descend(self.optimisers[1], self.future, self.future.loss(some))
        return total

    def _batch(self, rollout: Rollout) -> dict[str, npt.NDArray[np.float32]]:
        states = np.concatenate([rollout.states, rollout.last_states[None]])
        value = self.future.value(states)
        reward, done = rollout.reward, rollout.done
        returns, future = targets(value, reward, done, self.settings.gamma, self.settings.trace)
        columns = {"state": rollout.states, "item": rollout.item_seen, "returns": returns}
        columns |= {"future": future, "consumed": rollout.consumed.astype(np.float32)}
        return {name: x.reshape(-1, *x.shape[2:]) for name, x in columns.items()}

    # --- keeping

    def state(self) -> dict[str, Any]:
        """Returns weights, optimisers and the number of updates."""
        parts = {"model": dict(self.model.named_parameters()), "future": self.future.state_dict()}
        state = {name: {k: v.detach() for k, v in part.items()} for name, part in parts.items()}
        optimisers = [optimiser.state_dict() for optimiser in self.optimisers]
        return copy.deepcopy({**state, "optimisers": optimisers, "updates": self.updates})

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned; it counts from the next segment on."""
        self._state = state
        if self._made:
            self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"], strict=False)
        self.future.load_state_dict(state["future"])
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(copy.deepcopy(own))
        self.updates = state["updates"]
        self.tracker = Tracker(self.model.exported())

    def save(self, path: Path) -> None:
        """Writes settings and weights."""
        parts = {"model": dict(self.model.named_parameters()), "future": self.future.state_dict()}
        weights = {
            f"{part}.{name}": value.detach().numpy()
            for part, values in parts.items()
            for name, value in values.items()
        }
        weights["updates"] = np.array(self.updates)
        write_agent(path, self.name, {"seed": self.seed, **asdict(self.settings)}, weights)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes weights that `save` wrote."""
        self._prepare(env)
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "future": {}}
        for key, value in weights.items():
            part, _, name = key.partition(".")
            if part in parts:
                parts[part][name] = torch.tensor(value)
        self.model.load_state_dict(parts["model"], strict=False)
        self.future.load_state_dict(parts["future"])
        self.updates = int(weights["updates"])
        self.tracker = Tracker(self.model.exported())


def _optimisers(
    model: UserModel, future: Future, settings: Settings
) -> tuple[torch.optim.Optimizer, ...]:
    slow = [model.shared_taste]
    rest = [x for name, x in model.named_parameters() if name != "shared_taste"]
    rate = settings.learning_rate
    groups = [{"params": rest, "full": rate}, {"params": slow, "full": 0.2 * rate}]
    own = [{"params": list(future.parameters()), "full": settings.future_rate}]
    return torch.optim.Adam(groups), torch.optim.Adam(own)


def _descend(optimiser: torch.optim.Optimizer, module: torch.nn.Module, loss: Any) -> float:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


class PrivilegedSlateQ(SlateQ):
    """The learner with the true interests as its belief: what is left is choosing and planning.

    A test of the learner, not an agent to compare.
    """

    privileged = True
    _simulator: Any

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment whose users it reads."""
        self._simulator = env.simulator

    def _prepare(self, env: RecVectorEnv) -> None:
        super()._prepare(env)
        self.attach(env)

    def _correct(self, belief: npt.NDArray[np.float32]) -> None:
        """Writes the true weights of the phrases into the belief."""
        weights = np.empty(self._simulator.users["weight"].shape[1], np.float32)
        for row, user in zip(belief, self._simulator.users, strict=True):
            relative_weights(user, weights)
            row[:] = 0.0
            row[user["phrase"]] = weights
