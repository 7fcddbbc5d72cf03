"""What the world model learns from: logged steps of training users, and rollouts of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import orthogonal_procrustes

from agents.added_blocks import AddedBlocks
from agents.joint.recommender import Joint
from agents.rl.slateq.unrolling import Rollout, descend, entered, first_states, logged_steps
from agents.rl.world_model.network import Event, State, WorldModel
from llmrec_env.config import EnvConfig
from llmrec_env.world import PublicData

Floats = npt.NDArray[np.float32]
_BATCH = 128  # users of the logs


def item_factors(data: PublicData, config: EnvConfig, seed: int) -> Floats:
    """Returns what either half of the users tells of the items, (2, N, r + 2): factors and biases.

    They are those of `joint`, turned so that they agree. A network that learns from users whose own
    clicks are in the factors would trust them too much; so it learns from one half with the
    factors of the other, and acts by their mean. Logs that cannot tell them give none, r = 0.
    """
    halves, users = [], np.arange(len(data.users))
    split = [users[users % 2 == half] for half in (0, 1)]
    if not all(_tells_apart(data, rows) for rows in split):
        return np.zeros((2, len(data.items.vectors), 2), np.float32)
    for rows in split:
        logs = type(data.logs)._make(column[rows] for column in data.logs)
        joint = Joint(seed)
        joint.learn(dataclasses.replace(data, logs=logs, users=data.users[rows]), config)
        halves.append(joint.learnt.taste)
    first, second = (half.factors for half in halves)
    factors = [first, second @ orthogonal_procrustes(second, first)[0]]
    size = np.sqrt(np.square((factors[0] + factors[1]) / 2).sum(1).mean()) + 1e-9
    columns = [
        np.column_stack([x / size, half.click_bias, half.text_bias])
        for x, half in zip(factors, halves, strict=True)
    ]
    return np.stack(columns).astype(np.float32)


def _tells_apart(data: PublicData, rows: npt.NDArray[np.integer]) -> bool:
    """Says whether some of these users' clicks satisfied and some did not."""
    satisfied = data.logs.satisfied[rows][data.logs.items[rows] >= 0] == 1
    return bool(satisfied.any() and not satisfied.all())


def learn_logs(
    model: WorldModel,
    optimiser: torch.optim.Optimizer,
    data: PublicData,
    blocks: AddedBlocks,
    settings: Any,
    seed: int,
) -> None:
    """Fits the model to logged slates, each half of the users by the other's factors.

    Args:
        model: learns in place.
        optimiser: of it.
        data: with the logs of the training users.
        blocks: of the task.
        settings: `log_epochs` and `learning_rate` of the learner.
        seed: of the order of users.
    """
    steps = logged_steps(data, blocks)
    logged = [Event(*(getattr(step, name) for name in Event._fields)) for step in steps]
    rng, users = np.random.default_rng([seed, 11]), np.arange(len(data.users))
    for epoch in range(settings.log_epochs):
        batches = []
        for half in (0, 1):
            own = rng.permutation(users[users % 2 == half])
            batches += [(half, rows) for rows in np.array_split(own, len(own) // _BATCH + 1)]
        for index, batch in enumerate(rng.permutation(len(batches))):
            half, rows = batches[batch]
            done = (epoch + index / len(batches)) / settings.log_epochs
            set_rates(optimiser, 0.5 * (1.0 + math.cos(math.pi * done)))
            model.fold = 1 - half
            steps = [Event(*(column[rows] for column in step)) for step in logged]
            there = torch.stack([step.slate[:, 0] >= 0 for step in steps]).sum(0)
            state, parts = model.begin(-there.float()), []
            for step in steps:
                logs, expected, state = model.step(state, step)
                parts.append(model.losses(logs, expected, step, None))
            descend(optimiser, model, torch.stack(parts).mean(0).sum())
    model.fold = None


def set_rates(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Sets learning rates to a share of their height."""
    for group in optimiser.param_groups:
        group["lr"] = group["full"] * share


def unrolled(model: WorldModel, rollouts: list[Rollout]) -> torch.Tensor:
    """Returns the mean losses of choice, satisfaction and reward, (3,), through rollouts.

    Args:
        model: learns.
        rollouts: of equal shape.
    """
    (steps, n), parts = rollouts[0].reward.shape, []
    state = State(*first_states(rollouts))
    for t in range(steps):
        state = entered(state, rollouts, t, n)
        names = (*Event._fields, "reward")
        *columns, reward = (
            torch.from_numpy(np.concatenate([getattr(r, x)[t] for r in rollouts])) for x in names
        )
        event = Event(*columns)
        logs, expected, state = model.step(state, event)
        parts.append(model.losses(logs, expected, event, reward))
    return torch.stack(parts).mean(0)
