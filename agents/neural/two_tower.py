"""Two-tower model: towers of consumed texts and of items that meet in a dot product."""

from __future__ import annotations

import torch

from agents.neural.next_item import NextItemRanker, Parameters, Tensor, attention


class TwoTower(NextItemRanker):
    """Shows the texts nearest to what the user consumed, as both are learnt to be read.

    The user tower is an attention over the encodings of the consumed texts and a projection, the
    item tower a projection of the encoding. Both start as they are: as the mean of texts.
    """

    name = "two-tower"

    def initial(self, num_items: int, dim: int, generator: torch.Generator) -> Parameters:
        """Returns projections that change nothing, and an attention to all alike."""
        return {
            "user": torch.eye(dim),
            "item": torch.eye(dim),
            "query": torch.zeros(dim),
            "slope": torch.tensor(0.1),
            "unsatisfied": torch.tensor(0.2),
            "scale": torch.tensor(2.0),
            "popular": torch.tensor(1.0),
        }

    def encode_users(self, events: Tensor, weights: Tensor) -> Tensor:
        """Returns the projected attention over the texts so far, (n, LENGTH, d)."""
        texts = self.texts[events.clamp(min=0)] * (events >= 0)[:, :, None]
        liked = (weights >= 1.0).float()[:, :, None]
        values = texts * (liked + (1.0 - liked) * self.parameters["unsatisfied"])
        scores = (texts @ self.parameters["query"])[:, None]
        mixed = attention(scores, events[:, None], self.parameters["slope"]) @ values
        users = self.drop(mixed, 0.1) @ self.parameters["user"]
        return torch.nn.functional.normalize(users, dim=-1) * self.parameters["scale"].exp()

    def encode_items(self, items: Tensor) -> Tensor:
        """Returns the projected texts, (..., d)."""
        return torch.nn.functional.normalize(self.texts[items] @ self.parameters["item"], dim=-1)
