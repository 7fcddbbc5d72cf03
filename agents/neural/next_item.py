"""Next-item prediction over texts by sampled softmax, and the two-tower model that learns by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from agents.dataset import Dataset, Floats, Ids
from agents.rankers.history_ranker import HistoryRanker, check_vectors, past
from llmrec_env.envs.vector import RecVectorEnv

LENGTH = 32
"""Events of a history that are read, the last ones."""

Tensor = torch.Tensor
Parameters = dict[str, Tensor]


class NextItemRanker(HistoryRanker):
    """Predicts the next item that satisfies after each event, by sampled softmax.

    Negatives are drawn as often as items are consumed, and the logarithm of that share is taken off
    their logits (Yi et al., Sampling-bias-corrected neural modeling for large corpus item
    recommendations, RecSys 2019). In the environment, phrases typed count as texts that satisfied.
    Subclasses say what parameters there are, and what users and items are made of them.
    """

    def __init__(
        self,
        seed: int = 0,
        epochs: int = 8,
        batch: int = 256,
        learning_rate: float = 1e-3,
        negatives: int = 256,
        shrinkage: float = 0.1,
    ) -> None:
        """Takes the settings of the training.

        Args:
            seed: of initial parameters, order, negatives and dropout.
            epochs: passes over the users.
            batch: users in a step.
            learning_rate: of AdamW.
            negatives: items drawn in a step.
            shrinkage: decay of the parameters towards 0.
        """
        super().__init__(seed)
        self.epochs, self.batch, self.learning_rate = epochs, batch, learning_rate
        self.negatives, self.shrinkage = negatives, shrinkage

    def initial(self, num_items: int, dim: int, generator: torch.Generator) -> Parameters:
        """Returns the parameters to start from, for texts of `dim` numbers."""
        raise NotImplementedError

    def encode_users(self, events: Tensor, weights: Tensor) -> Tensor:
        """Returns the user after each event, (n, LENGTH, d), from this event and those before it.

        Args:
            events: items, then phrases, as rows of `texts`, oldest first, -1 for none, (n, LENGTH).
            weights: of the events, (n, LENGTH).
        """
        raise NotImplementedError

    def encode_items(self, items: Tensor) -> Tensor:
        """Returns the vectors of these items, (..., d)."""
        raise NotImplementedError

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users, and to read what users type."""
        super().fit(env, num_steps)
        self._read_phrases()

    def _read_phrases(self) -> None:
        self.texts = torch.cat([self.texts, torch.from_numpy(self.data.phrase_vectors.copy())])

    def read(self, observation: Any) -> tuple[Ids, Floats]:
        """Returns consumed items, and phrases typed as if they were items that satisfied."""
        return past(observation, first_phrase=len(self.table))

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Learns to predict each user's next item.

        Raises:
            ValueError: no vectors, or not one for each item.
        """
        vectors = check_vectors(self.name, vectors, dataset.num_items)
        self.texts = torch.from_numpy(np.array(vectors, np.float32))
        self.popularity = torch.from_numpy(dataset.popularity())
        self.generator = torch.Generator().manual_seed(self.seed)
        self.parameters = self.initial(len(vectors), vectors.shape[1], self.generator)
        self.dropping = True
        self._descend(dataset)
        self._finish()

    def _finish(self) -> None:
        """Encodes all items, once, as they are read from now on."""
        self.dropping = False
        with torch.no_grad():
            vectors = self.encode_items(torch.arange(len(self.texts)))
        self.table: Floats = vectors.numpy()

    def _descend(self, dataset: Dataset) -> None:
        log = dataset.consumed()
        share = np.bincount(log.items, minlength=log.num_items) + 0.1
        share /= share.sum()
        log_share, rng = torch.from_numpy(np.log(share)).float(), np.random.default_rng(self.seed)
        newest = log.histories(LENGTH + 1)
        items, weights = (torch.from_numpy(x[:, ::-1].copy()) for x in newest)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        optimiser = torch.optim.AdamW(
            self.parameters.values(), self.learning_rate, weight_decay=self.shrinkage
        )
        for _ in range(self.epochs):
            for rows in np.array_split(
                rng.permutation(log.num_users), max(1, log.num_users // self.batch)
            ):
                drawn = torch.from_numpy(rng.choice(log.num_items, self.negatives, p=share))
                loss = self.loss(items[rows], weights[rows], drawn, log_share)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)

    def loss(self, items: Tensor, weights: Tensor, drawn: Tensor, log_share: Tensor) -> Tensor:
        """Returns the mean cross-entropy of the next items, weighted by how they satisfied.

        Args:
            items: ids, oldest first, -1 where there is none, (n, LENGTH + 1).
            weights: of these, (n, LENGTH + 1).
            drawn: ids of the negatives, (m,).
            log_share: logarithm of the share with which each item is drawn, (num_items,).
        """
        events, following = items[:, :-1], items[:, 1:]
        predicted = (events >= 0) & (following >= 0)
        users = self.encode_users(events, weights[:, :-1])[predicted]
        right, weight = following[predicted], weights[:, 1:][predicted]
        positive = (users * self.encode_items(right)).sum(-1)
        positive = positive + self.bias(right) - log_share[right]
        negative = users @ self.encode_items(drawn).T
        negative = negative + self.bias(drawn) - log_share[drawn]
        negative = negative.masked_fill(drawn == right[:, None], -1e9)
        logits = torch.cat([positive[:, None], negative], 1)
        return -(weight * torch.log_softmax(logits, 1)[:, 0]).sum() / weight.sum().clamp(min=1.0)

    def bias(self, items: Tensor) -> Tensor:
        """Returns what popularity adds to the logits of items, (...)."""
        return self.parameters["popular"] * self.popularity[items]

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the logits of the next item, (n, num_items)."""
        recent = np.full((len(items), LENGTH), -1, np.int64)
        weight = np.zeros(recent.shape, np.float32)
        length = min(LENGTH, items.shape[1])
        recent[:, LENGTH - length :] = items[:, length - 1 :: -1] if length else -1
        weight[:, LENGTH - length :] = weights[:, length - 1 :: -1] if length else 0.0
        with torch.no_grad():
            events = torch.from_numpy(recent), torch.from_numpy(weight)
            users = self.encode_users(*events)[:, -1]
            popular = self.bias(torch.arange(len(self.table)))
        return cast(Floats, users.numpy() @ self.table.T + popular.numpy())

    def drop(self, values: Tensor, share: float) -> Tensor:
        """Returns `values` with a share of them set to 0 while it learns."""
        if not self.dropping or share == 0.0:
            return values
        mask = torch.rand(values.shape, generator=self.generator) >= share
        return values * mask / (1.0 - share)

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns parameters and popularity."""
        weights = {name: value.numpy() for name, value in self.parameters.items()}
        return weights | {"popularity": self.popularity.numpy()}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the parameters, and encodes the items."""
        super().load(weights, env)
        self.texts = torch.from_numpy(self.data.items.vectors.copy())
        state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
        self.popularity = state.pop("popularity")
        self.parameters = state
        self._finish()
        self._read_phrases()


def attention(scores: Tensor, events: Tensor, slope: Tensor) -> Tensor:
    """Returns how much each event attends to itself and to those before it, (..., LENGTH, LENGTH).

    Args:
        scores: of each pair, (..., LENGTH or 1, LENGTH).
        events: item ids, -1 where there is none, broadcast against the pairs, (..., 1, LENGTH).
        slope: what each event in between takes off a score, which unlike positions carries over to
            histories longer than those learnt from (Press, Smith and Lewis, ICLR 2022).
    """
    position = torch.arange(LENGTH)
    age = position[:, None] - position
    hidden = (age < 0) | ((events < 0) & (age != 0))
    return torch.softmax((scores - slope * age).masked_fill(hidden, -1e9), -1)


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
