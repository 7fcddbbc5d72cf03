"""The joint model and its losses: beliefs about users, vectors of items, and three heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import nn

from agents.dataset import NUM_EVENTS, Dataset, Floats
from llmrec_env.interface.history import QUERY
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS

SATIATION, SKIPPED = VECTOR_BLOCKS.index("satiation"), VECTOR_BLOCKS.index("skipped")
_START = {"interest": 2.0, "recent": 1.0, "query": 0.5}  # weights in the belief before training
_HEADS, _KEY = 2, 32
Tensor = torch.Tensor
Batch = dict[str, torch.Tensor]
"""Columns of logged steps, or of observations, by name."""


def batch_of(dataset: Dataset, rows: npt.NDArray[np.integer]) -> Batch:
    """Returns some observed steps as tensors: see `Dataset.with_observations`."""
    steps = dataset.take(rows)
    known = steps.observations
    integers = {"history": known["history"], "feedback": known["feedback"]}
    integers |= {"slate": steps.slates, "choice": steps.choices}
    numbers = {"blocks": known["blocks"], "session": known["session"]}
    numbers |= {"satisfied": steps.satisfied, "rating": steps.ratings}
    batch = {name: torch.from_numpy(x.astype(np.int64)) for name, x in integers.items()}
    return batch | {name: torch.from_numpy(x.astype(np.float32)) for name, x in numbers.items()}


def batch_observed(observation: Any) -> Batch:
    """Returns of `dict` observations what they have in common with observed steps."""
    blocks = np.stack([observation[name] for name in VECTOR_BLOCKS], axis=1)
    batch = {"blocks": torch.from_numpy(blocks)}
    batch["session"] = torch.from_numpy(observation["session"])
    for name, column in (("history", "history"), ("feedback", "history_feedback")):
        batch[name] = torch.from_numpy(observation[column][:, :NUM_EVENTS].astype(np.int64))
    return batch


class JointModel(nn.Module):
    """Beliefs about users, vectors of items, and the heads of the three losses."""

    vectors: Tensor  # (N, d)
    phrases: Tensor  # (P, d)
    substance: Tensor  # (N,)

    def __init__(
        self,
        vectors: Floats,
        phrases: Floats,
        substance: Floats,
        dropout: float = 0.1,
        evolves: bool = False,
    ) -> None:
        """Takes what is known of the texts.

        Args:
            vectors: encodings of the items, (N, d).
            phrases: encodings of the interest phrases, (P, d).
            substance: of the items, as read from their texts, (N,).
            dropout: share of the numbers of the past that are left out in training.
            evolves: whether the order of the past is part of the belief.
        """
        super().__init__()
        self.evolves = evolves
        num_items, d = vectors.shape
        for name, values in (("vectors", vectors), ("phrases", phrases), ("substance", substance)):
            self.register_buffer(name, torch.tensor(values))
        blocks = torch.tensor([_START.get(name, 0.0) for name in VECTOR_BLOCKS])
        self.block_weights = nn.Parameter(blocks)
        self.projection = nn.Parameter(torch.zeros(d, d))
        self.deviation = nn.Embedding(num_items, d)
        self.click_bias, self.text_bias = nn.Embedding(num_items, 1), nn.Embedding(num_items, 1)
        self.deviations = (self.deviation, self.click_bias, self.text_bias)
        for table in self.deviations:
            nn.init.zeros_(table.weight)
        self.lure, self.position = nn.Parameter(torch.zeros(())), nn.Parameter(torch.tensor(0.5))
        self.null_item = nn.Linear(len(SESSION_NUMBERS), 1)  # utility of no click
        self.session_bias = nn.Linear(len(SESSION_NUMBERS), 1)  # log-odds of satisfaction by it
        for linear, start in ((self.null_item, 3.0), (self.session_bias, -1.0)):
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, start)
        self.relevance = nn.Parameter(torch.tensor(0.7))
        self.satiated, self.skipped = (nn.Parameter(torch.zeros(())) for _ in range(2))
        self.quality = nn.Parameter(torch.zeros(()))
        self.rating = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.evolution = Evolution(d)
        self.dropout = nn.Dropout(dropout)

    def encode(self, ids: Tensor) -> Tensor:
        """Returns the encodings e_y of items, (..., d); the language model replaces this."""
        return self.vectors[ids]

    def consumed(self, ids: Tensor) -> Tensor:
        """Returns what consuming items says of a user, (..., d): text, and what it went with."""
        return self.vectors[ids] + self.deviation(ids)

    def items(self, ids: Tensor) -> Tensor:
        """Returns a_y, (..., d): the text, a projection of it, and what consumption adds."""
        encoded = self.encode(ids)
        return encoded + encoded @ self.projection + self.deviation(ids)

    def belief(self, batch: Batch) -> Tensor:
        """Returns b, the estimated current interest of each sample, (m, d)."""
        past = (self.block_weights[:, None] * self.dropout(batch["blocks"])).sum(-2)
        if not self.evolves:
            return past
        return past + self.evolution.share * self.next_interest(batch)

    def next_interest(self, batch: Batch) -> Tensor:
        """Returns what the ordered past says about what comes next, (m, d)."""
        ids = batch["history"].clamp(min=0)
        query = (batch["feedback"] == QUERY)[..., None]
        phrases = self.phrases[ids.clamp(max=len(self.phrases) - 1)]
        events = torch.where(query, phrases, self.consumed(ids.clamp(max=len(self.vectors) - 1)))
        return self.evolution(events, batch["feedback"], batch["blocks"])

    def utility(self, belief: Tensor, ids: Tensor) -> Tensor:
        """Returns the utility of consuming each item, (m, k)."""
        match = (belief[:, None] * self.items(ids)).sum(-1)
        return match + self.click_bias(ids)[..., 0] + self.lure * self.substance[ids]

    def satisfaction(self, belief: Tensor, batch: Batch, ids: Tensor) -> Tensor:
        """Returns the log-odds that each item would satisfy, (m, k)."""
        against = self._against(batch["blocks"])
        match = (self.relevance * belief[:, None] * self.items(ids)).sum(-1)
        match = match + (against[:, None] * self.encode(ids)).sum(-1)
        own = self.text_bias(ids)[..., 0] + self.quality * self.substance[ids]
        return match + own + self.session_bias(batch["session"])

    def _against(self, blocks: Tensor) -> Tensor:
        return self.satiated * blocks[:, SATIATION] + self.skipped * blocks[:, SKIPPED]

    @torch.no_grad()
    def alpha(self, ranking: str) -> Tensor:
        """Returns α of every item, (N, 2 d + 1)."""
        ids = torch.arange(len(self.vectors))
        if ranking == "choice":
            own = self.click_bias.weight + self.lure * self.substance[:, None]
        else:
            own = self.text_bias.weight + self.quality * self.substance[:, None]
        return torch.cat([self.items(ids), self.encode(ids), own], dim=1)

    @torch.no_grad()
    def v(self, batch: Batch, ranking: str) -> Tensor:
        """Returns v of every sample, (m, 2 d + 1).

        αᵀv is the utility of the choice, or the log-odds of satisfaction but for the session bias.
        """
        belief, against = self.belief(batch), self._against(batch["blocks"])
        if ranking == "choice":
            against = torch.zeros_like(against)
        else:
            belief = self.relevance * belief
        return torch.cat([belief, against, torch.ones(len(belief), 1)], dim=1)


class Evolution(nn.Module):
    """Attention over the ordered past with recency; says what a user turns to next."""

    def __init__(self, d: int) -> None:
        """Takes the length of interest vectors."""
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))  # of it in the belief
        self.query = nn.Linear(len(VECTOR_BLOCKS) * d, _HEADS * _KEY)
        self.key = nn.Linear(d, _KEY, bias=False)
        self.age = nn.Parameter(torch.linspace(0.02, 0.3, _HEADS)[:, None])
        self.kind = nn.Parameter(torch.zeros(_HEADS, 3))  # attention to a kind of event
        self.gain = nn.Parameter(torch.tensor([0.0, 1.0, 1.0]).repeat(_HEADS, 1))  # and its sign
        nn.init.normal_(self.query.weight, std=0.01)

    def forward(self, events: Tensor, feedback: Tensor, blocks: Tensor) -> Tensor:
        """Returns the next interest, (m, d), from events (m, e, d), kinds (m, e) and blocks."""
        kinds, present = feedback.clamp(min=0).long(), feedback >= 0
        query = self.query(blocks.flatten(1)).unflatten(-1, (_HEADS, _KEY))
        attention = torch.einsum("mhk,mek->mhe", query, self.key(events)) / _KEY**0.5
        attention = attention - self.age * torch.arange(feedback.shape[1], dtype=torch.float32)
        attention = attention + self.kind[:, kinds].movedim(0, 1)
        share = attention.masked_fill(~present[:, None], -1e9).softmax(-1)
        share = share * present.any(1)[:, None, None]
        gain = self.gain[:, kinds].movedim(0, 1)
        return torch.einsum("mhe,med->md", share * gain, events) / _HEADS


# --- losses: each takes the model, its beliefs and a batch, and returns a mean


def choice_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the choice among what was shown and the null item (McFadden 1974)."""
    ranks = torch.arange(1, batch["slate"].shape[1] + 1, dtype=belief.dtype)
    shown = model.utility(belief, batch["slate"]) - model.position.abs() * ranks.log()
    utilities = torch.cat([shown, model.null_item(batch["session"])], dim=1)
    return functional.cross_entropy(utilities, batch["choice"])


def bpr_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Bayesian personalised ranking of what was clicked over what was only browsed.

    Rendle et al., BPR, UAI 2009.
    """
    chosen = batch["choice"] < batch["slate"].shape[1]
    if not chosen.any():
        return belief.sum() * 0.0
    utilities = model.utility(belief[chosen], batch["slate"][chosen])
    slot = batch["choice"][chosen][:, None]
    better = utilities.gather(1, slot) - utilities
    return -functional.logsigmoid(better).scatter(1, slot, 0.0).sum(1).mean()


def softmax_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Softmax of what was clicked over all clicks of the batch, corrected for their popularity.

    Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations,
    RecSys 2019.
    """
    chosen = batch["choice"] < batch["slate"].shape[1]
    if not chosen.any():
        return belief.sum() * 0.0
    clicked = batch["slate"][chosen].gather(1, batch["choice"][chosen][:, None])[:, 0]
    utilities = belief[chosen] @ model.items(clicked).T + model.click_bias(clicked).T
    often = torch.bincount(clicked, minlength=len(model.vectors))[clicked]
    same = (clicked[:, None] == clicked) & ~torch.eye(len(clicked), dtype=torch.bool)
    corrected = (utilities - often.log()).masked_fill(same, -1e9)
    return functional.cross_entropy(corrected, torch.arange(len(clicked)))


def text_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Log-loss of satisfaction with what was chosen, and of its rating where there is one."""
    chosen = batch["choice"] < batch["slate"].shape[1]
    if not chosen.any():
        return belief.sum() * 0.0
    steps: Batch = {name: values[chosen] for name, values in batch.items()}
    ids = steps["slate"].gather(1, steps["choice"][:, None])
    odds = model.satisfaction(belief[chosen], steps, ids)[:, 0]
    loss = functional.binary_cross_entropy_with_logits(odds, steps["satisfied"])
    rated = steps["rating"] > 0
    if not rated.any():
        return loss
    level = model.rating[0] * odds[rated] + model.rating[1]
    target = (steps["rating"][rated] - 1.0) / 4.0
    return loss + 0.5 * functional.binary_cross_entropy_with_logits(level, target)


def evolution_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Softmax of what satisfied next over what satisfied others, from the ordered past alone."""
    satisfied = (batch["choice"] < batch["slate"].shape[1]) & (batch["satisfied"] > 0)
    if not satisfied.any():
        return belief.sum() * 0.0
    steps: Batch = {name: values[satisfied] for name, values in batch.items()}
    following = model.encode(steps["slate"].gather(1, steps["choice"][:, None])[:, 0])
    likeness = 5.0 * model.next_interest(steps) @ following.T
    return functional.cross_entropy(likeness, torch.arange(len(following)))


CLICK_LOSSES: dict[str, Callable[[JointModel, Tensor, Batch], Tensor]] = {
    "choice": choice_loss,
    "bpr": bpr_loss,
    "softmax": softmax_loss,
}


def calibrated(
    odds: npt.NDArray[np.float64], satisfied: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns slope and offset of log-odds, (2,), that fit outcomes; Platt 1999.

    Args:
        odds: log-odds that something satisfies, (m,).
        satisfied: whether it did, 0 or 1, (m,).
    """
    slope_offset, design = np.array([1.0, 0.0]), np.stack([odds, np.ones_like(odds)], axis=1)
    for _ in range(20):  # Newton's method
        probability = 1.0 / (1.0 + np.exp(-design @ slope_offset))
        gradient = design.T @ (probability - satisfied)
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design
        slope_offset = slope_offset - np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
    return slope_offset.astype(np.float64)
