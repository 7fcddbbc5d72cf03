"""Values of slates: what items add to the future, and its targets.

E[gamma V(s') | consumed y] = null(s) + advantage(s, y): the advantage says what consuming an
item changes about the future, against consuming nothing. Only the consumed item moves a user much,
so a slate's long-term value decomposes into those of its items (SlateQ: Ie et al., IJCAI 2019).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agents.item_noise import new_keys
from agents.rl.slateq.tracking import ITEM_FEATURES, Tracker
from llmrec_env.interface.actions import random_candidate
from llmrec_env.interface.observation import SESSION_NUMBERS
from llmrec_env.simulation.compilation import kernel

_HIDDEN, _WIDE = 16, 32
STATE_LENGTH = len(SESSION_NUMBERS) + 7
Tensor = torch.Tensor


class Future(nn.Module):
    """Values of states, of consuming nothing there, and what consuming an item adds."""

    def __init__(
        self, state_length: int = STATE_LENGTH, item_length: int = len(ITEM_FEATURES)
    ) -> None:
        """Starts with a future that no item changes.

        Args:
            state_length: numbers that a state is judged by.
            item_length: numbers that an item is judged by.
        """
        super().__init__()
        self.values = nn.Sequential(
            nn.Linear(state_length, _WIDE), nn.Tanh(), nn.Linear(_WIDE, 2)
        )  # V(s), null(s)
        self.skip = nn.Linear(item_length, 1, bias=False)
        self.inner = nn.Linear(item_length + state_length, _HIDDEN)
        self.outer = nn.Linear(_HIDDEN, 1, bias=False)
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.outer.weight)

    def advantage(self, states: Tensor, items: Tensor) -> Tensor:
        """Returns what consuming each item adds to the future, (m,)."""
        hidden = torch.relu(self.inner(torch.cat([items, states], 1)))
        return (self.skip(items) + self.outer(hidden))[:, 0]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Returns squared errors: of V against returns, of the future against gamma V(s')."""
        value, null = self.values(batch["state"]).unbind(1)
        future = null + batch["consumed"] * self.advantage(batch["state"], batch["item"])
        return (value - batch["returns"]).square().mean() + (
            future - batch["future"]
        ).square().mean()

    @torch.no_grad()
    def value(self, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns V of states, (...,)."""
        return self.values(torch.from_numpy(states))[..., 0].numpy()

    def exported(self) -> Advantage:
        """Returns the advantage's weights as arrays."""
        weights = (self.skip.weight, self.inner.weight, self.inner.bias, self.outer.weight)
        return Advantage(*(np.ascontiguousarray(x.detach().numpy()) for x in weights))


class Advantage(NamedTuple):
    """Weights of the advantage."""

    skip: npt.NDArray[np.float32]  # (1, items)
    inner: npt.NDArray[np.float32]  # (hidden, items + states)
    bias: npt.NDArray[np.float32]  # (hidden,)
    outer: npt.NDArray[np.float32]  # (1, hidden)


class Values(NamedTuple):
    """What the candidates of n users are worth."""

    odds: npt.NDArray[np.float64]  # (n, c), of choosing it at rank 1 against nothing
    value: npt.NDArray[np.float64]  # (n, c), of consuming it, the future included
    items: npt.NDArray[np.float32]  # (n, c, 4), ITEM_FEATURES
    states: npt.NDArray[np.float32]  # (n, STATE_LENGTH)


@kernel
def add_future(skip, inner, bias, outer, states, features, weight, value):
    """Adds `weight` times the advantage of each candidate to its value, (n, c)."""
    hidden, inputs = inner.shape[0], features.shape[2]
    base = np.empty(hidden, np.float32)
    for i in range(value.shape[0]):
        for h in range(hidden):
            base[h] = bias[h]
            for j in range(states.shape[1]):
                base[h] += inner[h, inputs + j] * states[i, j]
        for c in range(value.shape[1]):
            total = np.float32(0.0)
            for j in range(inputs):
                total += skip[0, j] * features[i, c, j]
            for h in range(hidden):
                x = base[h]
                for j in range(inputs):
                    x += inner[h, j] * features[i, c, j]
                total += outer[0, h] * max(x, np.float32(0.0))
            value[i, c] += weight * total


def state_features(observation: Any, tracker: Tracker) -> npt.NDArray[np.float32]:
    """Returns what the future is judged by, (n, STATE_LENGTH): public numbers and beliefs.

    The numbers of the session, how often it went well, badly or not at all (what patience is made
    of), goodwill as it can be estimated, and how much the user is believed to want.
    """
    session = observation["session"]
    shares = dict(zip(SESSION_NUMBERS, session.T, strict=True))
    consumed = shares["progress"] * shares["consumption_rate"]
    satisfied = consumed * shares["satisfaction_rate"]
    belief = tracker.belief
    columns = [
        satisfied,
        consumed - satisfied,
        shares["progress"] - consumed,
        0.2 * tracker.goodwill,
        0.2 * belief.sum(1),
        belief.max(1),
        np.square(belief).sum(1),
    ]
    return np.concatenate([session, np.stack(columns, axis=1)], axis=1).astype(np.float32)


def targets(
    value: npt.NDArray[np.float32],
    reward: npt.NDArray[np.float32],
    done: npt.NDArray[np.bool_],
    gamma: float,
    td_lambda: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns λ-returns, and gamma V(s') mixed with gamma times the return of s', both (T, n).

    The target is of the *next* state. A session's end ends the return, the horizon too: its
    progress is part of the state, so that V knows how much is left.

    Args:
        value: V of the states, one more than steps, (T + 1, n).
        reward: of the steps, (T, n).
        done: whether a session ended with the step, (T, n).
        gamma: discount.
        td_lambda: λ.
    """
    returns, future = np.empty_like(reward), np.empty_like(reward)
    following = value[-1]
    for t in range(len(reward) - 1, -1, -1):
        left = gamma * (1.0 - done[t])
        future[t] = left * 0.5 * (value[t + 1] + following)
        returns[t] = reward[t] + left * ((1.0 - td_lambda) * value[t + 1] + td_lambda * following)
        following = returns[t]
    return returns, future


def explore_slots(
    slates: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int32],
    share: float,
    rng: np.random.Generator,
) -> None:
    """Replaces a share of the slots, (n, k), by random candidates that are not on the slate.

    Which items these are depends on the ids that are offered, not on their order.
    """
    if share > 0:
        _explore(slates, candidates, rng.random(slates.shape) < share, new_keys(rng, *slates.shape))


@kernel
def _explore(slates, candidates, explored, keys):
    for i in range(slates.shape[0]):
        for slot in range(slates.shape[1]):
            if explored[i, slot]:
                ids = candidates[i]
                drawn = random_candidate(ids, keys[i, slot], ids[slates[i]])
                if drawn >= 0:
                    slates[i, slot] = drawn
