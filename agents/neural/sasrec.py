"""SASRec: a self-attentive sequence model of what users consume next, over texts and ids."""

from __future__ import annotations

from typing import Any

import torch

from agents.neural.next_item import LENGTH, NextItemRanker, Parameters, Tensor, attention

WIDTH = 64
HEADS = 2


class SelfAttentive(NextItemRanker):
    """Shows what follows in the order in which users consumed.

    Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018, on texts: an item is the
    projection of its encoding and a learnt deviation of its id, and the order is in the attention.
    It starts as the mean of the recent texts.
    """

    name = "sasrec"

    def __init__(
        self,
        seed: int = 0,
        blocks: int = 2,
        dropout: float = 0.2,
        deviation_dropout: float = 0.8,
        batch: int = 64,
        **settings: Any,
    ) -> None:
        """Takes the settings of the blocks.

        Args:
            seed: see NextItemRanker.
            blocks: of self-attention.
            dropout: share dropped of what a block adds.
            deviation_dropout: share dropped of the deviations, for which clicks are few.
            batch: see NextItemRanker.
            **settings: see NextItemRanker.
        """
        super().__init__(seed, batch=batch, **settings)
        self.blocks, self.dropout, self.deviation_dropout = blocks, dropout, deviation_dropout

    def initial(self, num_items: int, dim: int, generator: torch.Generator) -> Parameters:
        """Returns a projection to the leading components, a block that averages, and idle ones."""
        parameters = {
            "text": torch.eye(dim, WIDTH),
            "deviation": torch.zeros(num_items, WIDTH),
            "unsatisfied": torch.zeros(WIDTH),
            "scale": torch.tensor(2.0),
            "popular": torch.tensor(1.0),
        }
        for block in range(self.blocks):
            attend, wide = 0.1 * torch.randn(2, WIDTH, 2 * WIDTH, generator=generator)
            first = torch.eye(WIDTH) if block == 0 else torch.zeros(WIDTH, WIDTH)
            parameters |= {
                f"{block}.attend": torch.cat([attend, torch.eye(WIDTH)], 1),
                f"{block}.mixed": first,
                f"{block}.slope": torch.tensor([0.05, 0.15])[:, None, None],
                f"{block}.wide": wide.clone(),
                f"{block}.narrow": torch.zeros(2 * WIDTH, WIDTH),
            }
        return parameters

    def encode_items(self, items: Tensor) -> Tensor:
        """Returns projected texts and deviations, (..., WIDTH)."""
        deviation = self.parameters["deviation"]
        known = (items < len(deviation))[..., None]  # phrases have none
        deviation = deviation[items.clamp(max=len(deviation) - 1)] * known
        deviation = self.drop(deviation, self.deviation_dropout)
        return self.texts[items] @ self.parameters["text"] + deviation

    def encode_users(self, events: Tensor, weights: Tensor) -> Tensor:
        """Returns what the blocks make of the events so far, (n, LENGTH, WIDTH)."""
        present = (events >= 0)[:, :, None]
        state = self.encode_items(events.clamp(min=0))
        state = (state + (weights < 1.0)[:, :, None] * self.parameters["unsatisfied"]) * present
        state = self.drop(state, self.dropout)
        for block in range(self.blocks):
            state = state + self.drop(self._attend(block, state, events), self.dropout)
            wide = torch.relu(_normalised(state) @ self.parameters[f"{block}.wide"])
            state = state + self.drop(wide @ self.parameters[f"{block}.narrow"], self.dropout)
        return torch.nn.functional.normalize(state, dim=-1) * self.parameters["scale"].exp()

    def _attend(self, block: int, state: Tensor, events: Tensor) -> Tensor:
        parts = (_normalised(state) @ self.parameters[f"{block}.attend"]).split(WIDTH, -1)
        shape = (len(state), LENGTH, HEADS, WIDTH // HEADS)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
        scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5
        share = attention(scores, events[:, None, None], self.parameters[f"{block}.slope"])
        heads = (share @ value).transpose(1, 2).reshape(state.shape)
        return heads @ self.parameters[f"{block}.mixed"]


def _normalised(state: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(state, (WIDTH,))
