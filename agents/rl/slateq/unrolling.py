"""Unrolled user model: its losses through the steps of rollouts, and of the logs before them."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from agents.added_blocks import AddedBlocks
from agents.joint.factors import Clicks
from agents.rl.slateq.slate_values import Future, targets
from agents.rl.slateq.taste import taste_of
from agents.rl.slateq.user_model import State, Transition, UserModel
from llmrec_env.world import PublicData

States = TypeVar("States", bound=tuple[torch.Tensor, ...])
_BATCH = 128  # users of the logs
_COLUMNS = (
    "slate",
    "choice",
    "satisfied",
    "query",
    "taste",
    "added",
    "reward",
    "done",
    "states",
    "item_features",
)


class Tracking(Protocol):
    """What keeps the states of n sessions."""

    @property
    def state(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Parts of the states."""
        ...

    @property
    def relevance(self) -> npt.NDArray[np.float32] | None:
        """That of the candidates, (n, c), where it is told."""
        ...

    @property
    def added(self) -> npt.NDArray[np.float32]:
        """Blocks of the candidates that mechanisms add, (n, c, B)."""
        ...

    def taste(self, items: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Returns what the relevance of items, (n, k) ids, has beside the texts."""
        ...


class Rollout:
    """T steps of n sessions; arrays are (T, n, ...) once stacked."""

    slate: npt.NDArray[np.int64]
    choice: npt.NDArray[np.int64]  # slot, K for none
    satisfied: npt.NDArray[np.float32]
    query: npt.NDArray[np.int64]
    taste: npt.NDArray[np.float32]  # of the slots, beside the texts
    added: npt.NDArray[np.float32]  # blocks of the slots that mechanisms add
    reward: npt.NDArray[np.float32]
    done: npt.NDArray[np.bool_]
    states: npt.NDArray[np.float32]
    item_features: npt.NDArray[np.float32]  # ITEM_FEATURES of the consumed item, 0 for none
    last_states: npt.NDArray[np.float32]

    def __init__(self) -> None:
        """Begins without a step."""
        self._lists: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self.known: list[tuple[npt.NDArray[np.float32], ...]] = []
        """States of all sessions and relevance of their slots at each step, where they are told."""
        self.entries: list[tuple[npt.NDArray[np.intp], list[npt.NDArray[np.float32]]]] = []
        """For each step, the sessions that begin there (all at the first) and their states."""

    def begin(
        self,
        tracker: Tracking,
        starts: npt.NDArray[np.bool_],
        states: npt.NDArray[np.float32],
        item_features: npt.NDArray[np.float32],
        slates: npt.NDArray[np.int64],
        candidates: npt.NDArray[np.int32],
    ) -> None:
        """Records what is known before a step."""
        rows = np.flatnonzero(starts) if self.entries else np.arange(len(starts))
        self.entries.append((rows, [part[rows] for part in tracker.state]))
        self._lists["states"].append(states)
        ids = np.take_along_axis(candidates, slates, 1).astype(np.int64)
        self._lists["slate"].append(ids)
        self._lists["taste"].append(tracker.taste(ids))
        self._lists["added"].append(np.take_along_axis(tracker.added, slates[..., None], 1))
        self._slate_features = np.take_along_axis(item_features, slates[..., None], 1)
        if tracker.relevance is not None:
            relevance = np.take_along_axis(tracker.relevance, slates, 1)
            self.known.append((*(part.copy() for part in tracker.state), relevance))

    def end(
        self,
        reward: npt.NDArray[np.float32],
        done: npt.NDArray[np.bool_],
        info: dict[str, Any],
        query: npt.NDArray[np.int32],
    ) -> None:
        """Records what came of the step."""
        item, satisfied = info["item"].copy(), info["satisfied"].copy()
        for name, column in (("item", item), ("satisfied", satisfied)):
            if done.any():
                column[done] = info["final_info"][name][done]
        slate = self._lists["slate"][-1]
        slot = (slate == item[:, None]).argmax(1)
        features = np.take_along_axis(self._slate_features, slot[:, None, None], 1)[:, 0]
        columns = {
            "choice": np.where(item >= 0, slot, slate.shape[1]),
            "satisfied": (satisfied == 1).astype(np.float32),
            "query": np.where(done, -1, query).astype(np.int64),
            "reward": reward.astype(np.float32),
            "done": done.copy(),
            "item_features": features * (item >= 0)[:, None],
        }
        for name, column in columns.items():
            self._lists[name].append(column)

    def stacked(self) -> Rollout:
        """Returns itself with the columns as arrays."""
        for name, column in self._lists.items():
            setattr(self, name, np.stack(column))
        return self

    @property
    def consumed(self) -> npt.NDArray[np.bool_]:
        """Whether something was consumed, (T, n)."""
        return self.choice < self.slate.shape[2]


def unrolled(model: UserModel, rollouts: list[Rollout]) -> torch.Tensor:
    """Returns the mean loss of choices, satisfaction and rewards, through all steps of rollouts.

    Where rollouts know the state of each step it is taken from there, not from the step before.

    Args:
        model: learns.
        rollouts: of equal shape.
    """
    q, parts = model.parameters_now(), []
    steps, n = rollouts[0].reward.shape
    state = State(*first_states(rollouts))
    for t in range(steps):
        state = entered(state, rollouts, t, n)
        relevance = None
        if rollouts[0].known:
            known = zip(*(rollout.known[t] for rollout in rollouts), strict=True)
            *parts_of_state, relevance = (torch.from_numpy(np.concatenate(x)) for x in known)
            state = State(*parts_of_state)
        names = (*Transition._fields, "reward")
        *row, reward = (
            torch.from_numpy(np.concatenate([getattr(r, x)[t] for r in rollouts])) for x in names
        )
        prediction, state = model.step(q, state, Transition(*row), relevance)
        error = (prediction.reward - reward).square() * prediction.consumed
        parts.append((prediction.choice_loss + prediction.satisfaction_loss + error).mean())
    return torch.stack(parts).mean()


def first_states(rollouts: list[Rollout]) -> list[torch.Tensor]:
    """Returns the parts of the states in which rollouts begin, one rollout behind the other."""
    return [torch.cat(parts) for parts in zip(*(_entry(r, 0) for r in rollouts), strict=True)]


def _entry(rollout: Rollout, t: int) -> list[torch.Tensor]:
    return [torch.from_numpy(part) for part in rollout.entries[t][1]]


def entered(state: States, rollouts: list[Rollout], t: int, n: int) -> States:
    """Returns states, of n sessions a rollout, with those of the sessions that begin at step t."""
    if t == 0 or not any(len(rollout.entries[t][0]) for rollout in rollouts):
        return state
    parts = [part.clone() for part in state]
    for index, rollout in enumerate(rollouts):
        rows, entering = rollout.entries[t]
        for part, values in zip(parts, entering, strict=True):
            part[torch.from_numpy(rows) + index * n] = torch.from_numpy(values)
    return type(state)(*parts)


def learn_future(
    future: Future,
    optimiser: torch.optim.Optimizer,
    rollouts: list[Rollout],
    gamma: float,
    td_lambda: float,
    rng: np.random.Generator,
) -> float:
    """Fits the future to what followed in rollouts; returns the loss of the last minibatch."""
    batches: list[dict[str, npt.NDArray[np.float32]]] = []
    for rollout in rollouts:
        value = future.value(np.concatenate([rollout.states, rollout.last_states[None]]))
        returns, later = targets(value, rollout.reward, rollout.done, gamma, td_lambda)
        columns = {"state": rollout.states, "item": rollout.item_features, "returns": returns}
        columns |= {"future": later, "consumed": rollout.consumed.astype(np.float32)}
        batches.append({name: x.reshape(-1, *x.shape[2:]) for name, x in columns.items()})
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order, total = rng.permutation(len(columns["returns"])), 0.0
    for rows in np.array_split(order[: 2 * len(order) // 3], max(len(order) // 1536, 1)):
        minibatch = {name: torch.from_numpy(column[rows]) for name, column in columns.items()}
        total = descend(optimiser, future, future.loss(minibatch))
    return total


def learn_logs(
    model: UserModel, data: PublicData, blocks: AddedBlocks, settings: Any, seed: int
) -> None:
    """Fits the user model to logged slates by their texts, then taste to what these leave.

    Args:
        model: learns in place.
        data: with the logs of the training users.
        blocks: of the task.
        settings: `log_epochs`, `learning_rate` and `shrinkage` of the learner.
        seed: of the order of users, and of landmarks among the texts.

    Raises:
        FloatingPointError: the model of the texts is not finite.
    """
    logged = logged_steps(data, blocks)
    n, steps = len(logged[0].slate), len(logged)
    optimiser = torch.optim.Adam(model.parameters(), lr=2.0 * settings.learning_rate)
    rng = np.random.default_rng([seed, 11])
    for epoch in range(settings.log_epochs):
        for group in optimiser.param_groups:
            share = 0.5 * (1.0 + math.cos(math.pi * epoch / settings.log_epochs))
            group["lr"] = 2.0 * settings.learning_rate * share
        for rows in np.array_split(rng.permutation(n), max(n // _BATCH, 1)):
            q, state, parts = model.parameters_now(), model.start(len(rows)), []
            for step in logged:
                own = Transition(*(column[rows] for column in step))
                prediction, state = model.step(q, state, own)
                parts.append((prediction.choice_loss + prediction.satisfaction_loss).mean())
            loss = torch.stack(parts).mean() + model.penalty(settings.shrinkage, n * steps)
            descend(optimiser, model, loss)
    clicks = clicks_of(model, logged)
    if not all(np.isfinite(x).all() for x in (clicks.text, clicks.utility, clicks.log_odds)):
        raise FloatingPointError("what was learnt from the logs is not finite; lower learning_rate")
    if (clicks.choice < clicks.items.shape[1]).any():
        q = {name: float(value.detach()) for name, value in model.parameters_now().items()}
        q |= {"relevance_choice": q["relevance"], "relevance_satisfaction": q["satisfaction"]}
        q |= {"click": 1.0, "text": 1.0}
        model.taste, biases = taste_of(clicks, q, data.items.vectors, seed)
        with torch.no_grad():
            model.biases.copy_(torch.tensor(biases))


def logged_steps(data: PublicData, blocks: AddedBlocks) -> list[Transition]:
    """Returns the logged steps of all users, oldest first; their taste is not known yet."""
    logs = data.logs
    slates, items, satisfied = logs.slates.astype(np.int64), logs.items, logs.satisfied == 1
    choice = (slates == items[..., None]).argmax(axis=2)
    choice[items < 0] = slates.shape[2]
    columns = (slates, choice, satisfied.astype(np.float32), logs.queries.astype(np.int64))
    columns += (
        np.zeros(slates.shape, np.float32),
        blocks.of_logs(logs.slates, logs.feedback, logs.queries),
    )
    return [
        Transition(*(torch.from_numpy(x[:, t].copy()) for x in columns))
        for t in range(slates.shape[1])
    ]


@torch.no_grad()
def clicks_of(model: UserModel, logged: list[Transition]) -> Clicks:
    """Returns the logged steps with what the model says of each slot but taste and biases."""
    q, columns = model.parameters_now(), []
    n = len(logged[0].slate)
    for rows in np.array_split(np.arange(n), n // 1024 + 1):
        state = model.start(len(rows))
        for step in (Transition(*(column[rows] for column in step)) for step in logged):
            ids = step.slate.clamp(min=0)
            seen = model.appraise(q, state, ids, step.taste, step.added)
            utility = seen.utility - q["relevance"] * seen.relevance - model.biases[ids][..., 0]
            odds = seen.log_odds - q["satisfaction"] * seen.relevance - model.biases[ids][..., 1]
            there = (step.slate[:, 0] >= 0).numpy()
            parts = (ids, step.choice, step.satisfied == 1, seen.text, utility, odds)
            columns.append([x[there] for x in (rows, *(part.numpy() for part in parts))])
            _, state = model.step(q, state, step)
    users, items, choice, satisfied, *numbers = (
        np.concatenate(x) for x in zip(*columns, strict=True)
    )
    return Clicks(users, items, choice, satisfied, *(x.astype(np.float64) for x in numbers))


def descend(optimiser: torch.optim.Optimizer, module: torch.nn.Module, loss: Any) -> float:
    """Takes a step against the gradient of a loss, which it returns."""
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())
