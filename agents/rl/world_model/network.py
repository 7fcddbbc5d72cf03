"""Recurrent world model: predicts choices, satisfaction and rewards from public events alone.

Nothing in it says what kinds of state a user has. It keeps sums of the vectors of items, which fade
by shares that are learnt, and to which each event adds what a network makes of it: a gated linear
recurrence (fast weights: Schlag, Irie and Schmidhuber, ICML 2021). A GRU (Cho et al., EMNLP 2014)
follows the numbers of the events. Heads, M of them, say each in its own way what comes of a slate;
they learn the likelihood of their mixture, so that they differ where the past leaves things open.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import nn

from llmrec_env.world import PublicData

Tensor = torch.Tensor
Floats = npt.NDArray[np.float32]
_SLOT = 10  # numbers that tell what became of a slot
_WIDE, _NARROW = 48, 32  # units of a head, and of the other hidden layers
_NULL = 3.0  # utility of nothing against an item, at first
_FADING = 0.5, 0.99  # shares of the sums that a step leaves, at first


class State(NamedTuple):
    """What is remembered of n users."""

    texts: Tensor  # (n, S, d), fading sums of items' vectors
    tastes: Tensor  # (n, S, r), of their factors
    hidden: Tensor  # (n, H)
    time: Tensor  # (n,), steps of the session, negative in the logs


class Event(NamedTuple):
    """One step of n users."""

    slate: Tensor  # (n, K), item ids; -1: there is no such step
    choice: Tensor  # (n,), slot, K for none
    satisfied: Tensor  # (n,), 0 or 1
    query: Tensor  # (n,), phrase id, -1 for none
    added: Tensor  # (n, K, B), blocks of mechanisms: see `agents/added_blocks.py`


class Expectation(NamedTuple):
    """What M heads expect of k items that n users are shown."""

    utility: Tensor  # (n, M, k), of the choice at rank 1, against nothing
    log_odds: Tensor  # (n, M, k), of satisfaction
    reward: Tensor  # (n, M, k), once it is chosen


class WorldModel(nn.Module):
    """Memory, heads, and what items are like beside their texts."""

    vectors: Tensor  # (N, d)
    phrases: Tensor  # (P, d)
    numbers: Tensor  # (N, 2), substance and popularity
    folds: Tensor  # (2, N, r + 2)
    start: Tensor  # (N, r + 2)

    def __init__(
        self,
        data: PublicData,
        folds: Floats,
        slate_size: int,
        horizon: int,
        num_added: int,
        sums: int,
        hidden: int,
        heads: int,
    ) -> None:
        """Takes what is public of the items.

        Args:
            data: texts.
            folds: what is known of items beside them, by either half of the logs, (2, N, r + 2).
            slate_size: K.
            horizon: steps of a session.
            num_added: B, blocks that mechanisms add to items.
            sums: S.
            hidden: H.
            heads: M.
        """
        super().__init__()
        self.horizon = horizon
        self.sums, self.heads, self.rank = sums, heads, folds.shape[2] - 2
        self.num_items_in = 3 * sums + 4 + max(num_added, 1)  # without any, a column of zeros
        self.num_states = hidden + 2 * sums + 2
        self._take_items(data, folds)
        self._add_memory(slate_size, hidden)
        self._add_heads(slate_size)
        self._start_plain()

    def _take_items(self, data: PublicData, folds: Floats) -> None:
        items = data.items
        of_world = {
            "vectors": items.vectors,
            "phrases": data.phrase_vectors,
            "numbers": np.stack([items.substance, items.popularity], axis=1),
        }
        for name, values in of_world.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.register_buffer("folds", torch.tensor(folds))
        self.register_buffer("start", torch.tensor(folds.mean(0)))
        self.embedding = nn.Parameter(self.start.clone())
        self.fold: int | None = None  # of the users who are learnt from without their own clicks

    def _add_memory(self, slate_size: int, hidden: int) -> None:
        """Adds what moves the state: shares that stay, what is written, and the GRU."""
        sums, about = self.sums, self.num_items_in
        low, high = (np.log(x / (1.0 - x)) for x in _FADING)
        self.fading = nn.Parameter(torch.linspace(float(low), float(high), sums))
        self.written = nn.Parameter(0.4 * torch.randn(_SLOT, sums))
        self.gate = nn.Sequential(
            nn.Linear(_SLOT + about, _NARROW), nn.Tanh(), nn.Linear(_NARROW, sums)
        )
        self.fade = nn.Linear(hidden, sums)
        self.typed = nn.Parameter(0.5 + 0.2 * torch.randn(sums))
        self.cell = nn.GRUCell(2 * about + slate_size + 7 + sums, hidden)
        self.least = nn.Parameter(torch.zeros(sums))

    def _add_heads(self, slate_size: int) -> None:
        """Adds what foretells: a hidden layer, a linear part and what items have in common."""
        heads, about = self.heads, self.num_items_in
        self.inner = nn.Linear(about, heads * _WIDE, bias=False)
        self.inner_state = nn.Linear(self.num_states, heads * _WIDE)
        self.outer = nn.Parameter(torch.randn(heads, _WIDE, 3) / _WIDE**0.5 * 0.3)
        self.skip = nn.Parameter(0.1 * torch.randn(about, heads * 3))
        self.nothing = nn.Sequential(
            nn.Linear(self.num_states, _NARROW), nn.ReLU(), nn.Linear(_NARROW, 3 * heads)
        )
        self.position = nn.Parameter(-0.5 * torch.arange(1, slate_size + 1).log().repeat(heads, 1))

    @torch.no_grad()
    def _start_plain(self) -> None:
        """Begins without what logs cannot teach: own steps are as logged ones, rewards alike."""
        half, last = _SLOT // 2, slice(-2, None)
        gate: Any = self.gate
        level: Any = self.nothing
        parts: list[Any] = [gate[2].weight, gate[2].bias, self.fade.weight, self.fade.bias]
        parts += [self.written[half:], gate[0].weight[:, half:_SLOT]]
        parts += [self.inner_state.weight[:, last], level[0].weight[:, last]]
        parts += [self.cell.weight_ih[:, -self.sums - 1]]
        parts += [
            self.outer[..., 2],
            self.skip[:, 2::3],
            level[2].weight[2::3],
            level[2].bias[2::3],
        ]
        for part in parts:
            part.zero_()

    def begin(self, time: Tensor) -> State:
        """Returns the state of n users of whom nothing is known, at times (n,)."""
        n = len(time)
        texts = torch.zeros(n, self.sums, self.vectors.shape[1])
        tastes = torch.zeros(n, self.sums, self.rank)
        return State(texts, tastes, torch.zeros(n, self.cell.hidden_size), time)

    def describe_state(self, state: State) -> Tensor:
        """Returns the numbers that a state is judged by, (n, num_states)."""
        lengths = [x.square().sum(2).add(1e-6).sqrt() for x in (state.texts, state.tastes)]
        own = (state.time >= 0).float()
        times = torch.stack([own, own * state.time / self.horizon], 1)
        return torch.cat([state.hidden, *(x.log1p() for x in lengths), times], 1)

    def describe_items(
        self, state: State, ids: Tensor, added: Tensor, close: Tensor | None = None
    ) -> Tensor:
        """Returns the numbers that items, (n, k) ids, are judged by, (n, k, num_items_in).

        Args:
            state: of the users.
            ids: of the items.
            added: what mechanisms add to them, (n, k, B).
            close: their products with the sums, (n, S, k), where they are known.
        """
        if close is None:
            close = state.texts @ self.vectors[ids].transpose(1, 2)
        own = self._beside(ids)
        length = state.texts.square().sum(2).add(1e-6).sqrt() + self.least.exp()
        liking = state.tastes @ own[..., : self.rank].transpose(1, 2)
        columns = torch.cat([close, close / length[..., None], liking], 1).transpose(1, 2)
        if not added.shape[2]:
            added = torch.zeros(*ids.shape, 1)
        return torch.cat([columns, own[..., self.rank :], self.numbers[ids], added], 2)

    def _beside(self, ids: Tensor) -> Tensor:
        """What is known of items beside their texts, (n, k, r + 2)."""
        own = self.embedding[ids]
        return own if self.fold is None else own + self.folds[self.fold][ids] - self.start[ids]

    def expect(self, about: Tensor, items: Tensor) -> Expectation:
        """Returns what each head expects.

        Args:
            about: of `describe_state`.
            items: of `describe_items`.
        """
        n, k, _ = items.shape
        wide = torch.relu(self.inner(items) + self.inner_state(about)[:, None])
        wide = wide.view(n * k, self.heads, _WIDE).transpose(0, 1)
        out = (wide @ self.outer).view(self.heads, n, k, 3).permute(3, 1, 0, 2)
        linear = (items @ self.skip).view(n, k, self.heads, 3).permute(3, 0, 2, 1)
        level = self.nothing(about).view(n, self.heads, 3).permute(2, 0, 1)[..., None]
        utility, log_odds, size = out + linear + level
        worth = torch.sigmoid(log_odds) * functional.softplus(size)
        return Expectation(utility - _NULL, log_odds, worth)

    def choice(self, expected: Expectation) -> Tensor:
        """Returns the log-probability of each slot and of nothing by each head, (n, M, K + 1)."""
        utility = expected.utility + self.position
        return torch.cat([utility, torch.zeros_like(utility[..., :1])], 2).log_softmax(2)

    def step(self, state: State, event: Event) -> tuple[Tensor, Expectation, State]:
        """Returns what was expected of a step, log-probabilities and the rest, and what follows."""
        present, ids = event.slate[:, 0] >= 0, event.slate.clamp(min=0)
        about, items = self.describe_state(state), self.describe_items(state, ids, event.added)
        expected = self.expect(about, items)
        logs = self.choice(expected)
        after = self._after(state, event, ids, items, logs, expected)
        parts = [
            torch.where(present.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(after, state, strict=True)
        ]
        return logs, expected, State(*parts)

    def _after(
        self,
        state: State,
        event: Event,
        ids: Tensor,
        items: Tensor,
        logs: Tensor,
        expected: Expectation,
    ) -> State:
        k = ids.shape[1]
        rank = functional.one_hot(event.choice, k + 1).float()
        chosen, chance = rank[:, :k], logs.exp().mean(1)
        expected_satisfaction = chosen * torch.sigmoid(expected.log_odds).mean(1)
        own = (state.time >= 0).float()[:, None]
        satisfied = chosen * event.satisfied[:, None]
        told = torch.stack(
            [chosen, satisfied, chance[:, :k], expected_satisfaction, torch.ones_like(chosen)], 2
        )
        told = torch.cat([told, told * own[..., None]], 2)  # (n, K, _SLOT)
        weights = told @ self.written + self.gate(torch.cat([told, items], 2))
        asked = (event.query >= 0).float()[:, None]
        phrase = self.phrases[event.query.clamp(min=0)]
        fading = torch.sigmoid(self.fading + self.fade(state.hidden))[..., None]
        texts = fading * state.texts + weights.transpose(1, 2) @ self.vectors[ids]
        texts = texts + (asked * self.typed)[..., None] * phrase[:, None]
        factors = self._beside(ids)[..., : self.rank]
        tastes = fading * state.tastes + weights.transpose(1, 2) @ factors
        match = asked * (state.texts @ phrase[..., None])[..., 0]
        numbers = [
            (chosen[..., None] * items).sum(1),
            items.mean(1),
            rank,
            event.satisfied[:, None],
            (satisfied - expected_satisfaction).sum(1, keepdim=True),
            (chosen * chance[:, :k]).sum(1, keepdim=True),
            chance[:, k:],
            asked,
            own,
            match,
        ]
        hidden = self.cell(torch.cat(numbers, 1), state.hidden)
        return State(texts, tastes, hidden, state.time + 1.0)

    def losses(
        self, logs: Tensor, expected: Expectation, event: Event, reward: Tensor | None
    ) -> Tensor:
        """Returns the mean losses of choice, satisfaction and reward, (3,), of a step.

        The first two are log-losses of the mixture of the heads.
        """
        k = event.slate.shape[1]
        present = (event.slate[:, 0] >= 0).float()
        consumed = present * (event.choice < k)
        slot = event.choice.clamp(max=k - 1)
        picked = logs.gather(2, event.choice[:, None, None].expand(-1, self.heads, 1))[..., 0]
        choice = -(picked.logsumexp(1) - float(np.log(self.heads)))
        index = slot[:, None, None].expand(-1, self.heads, 1)
        odds = expected.log_odds.gather(2, index)[..., 0]
        # Heads that found the choice likely answer for what came of it.
        share = picked.softmax(1).detach()
        happy = (share * torch.sigmoid(odds)).sum(1).clamp(1e-5, 1 - 1e-5)
        satisfaction = -torch.where(event.satisfied > 0, happy, 1.0 - happy).log()
        parts = [choice * present, satisfaction * consumed]
        if reward is not None:
            worth = (share * expected.reward.gather(2, index)[..., 0]).sum(1)
            parts.append((worth - reward).square() * consumed)
        return torch.stack([part.sum() for part in parts]) / present.sum().clamp(min=1)
