"""Sessions followed by the world model: states of users, kept from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.added_blocks import AddedBlocks
from agents.rl.world_model.network import Event, State, WorldModel
from llmrec_env.interface.observation import SESSION_NUMBERS
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import cosines

_PROGRESS = SESSION_NUMBERS.index("progress")


class Follower:
    """States of n sessions, kept from step to step."""

    relevance = None  # that of a rollout: it is not told

    def __init__(self, blocks: AddedBlocks) -> None:
        """Takes the blocks of the task."""
        self.blocks, self.horizon = blocks, blocks.config.horizon
        self.current: State | None = None

    @torch.no_grad()
    def observe(self, model: WorldModel, observation: Any, starts: npt.NDArray[np.bool_]) -> State:
        """Returns the states after what came since the last observation, at a start all of it."""
        n = len(observation["candidates"])
        steps = tuple(
            torch.from_numpy(observation[f"recent_{name}"].astype(np.int64))
            for name in ("slates", "items", "satisfied", "queries")
        )
        self.added = self.blocks.of_candidates(observation)
        current = self.current
        if current is None or len(current.time) != n:
            starts, current = np.ones(n, np.bool_), model.begin(torch.zeros(n))
        since = steps[0].shape[1] if starts.any() else 1
        steps += (torch.from_numpy(self.blocks.of_recent(observation, since)),)
        if not starts.all():
            current = model.step(current, _event(steps, slice(None), 0))[2]
        rows = np.flatnonzero(starts)
        if len(rows):
            there = (steps[0][rows, :, 0] >= 0).sum(1)
            now = torch.from_numpy(observation["session"][rows, _PROGRESS] * self.horizon).round()
            state = model.begin(now - there)
            for age in range(int(there.max()) - 1, -1, -1):
                state = model.step(state, _event(steps, rows, age))[2]
            for part, values in zip(current, state, strict=True):
                part[rows] = values
        self.current = current
        return current

    @property
    def state(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Parts of the states, not copied."""
        return tuple(part.numpy() for part in self.current or ())

    def taste(self, items: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Returns zeros: what rollouts keep of taste is part of the states here."""
        return np.zeros(items.shape, np.float32)


def _event(steps: tuple[torch.Tensor, ...], rows: Any, age: int) -> Event:
    """The step of some sessions that is `age` steps old."""
    slate, item, satisfied, query, added = (column[rows, age] for column in steps)
    slot = (slate == item[:, None]).long().argmax(1)
    choice = torch.where(item >= 0, slot, slate.shape[1])
    return Event(slate, choice, (satisfied == 1).float(), query, added)


@kernel
def write_products(sums, vectors, candidates, close):
    """Writes the products of each user's sums, (n, S, d), with its candidates, (n, S, c)."""
    rows = np.arange(sums.shape[1]).astype(np.int32)
    for i in range(sums.shape[0]):
        cosines(rows, sums[i], np.maximum(candidates[i], 0), vectors, close[i])
