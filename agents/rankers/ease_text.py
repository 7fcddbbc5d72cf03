"""EASE whose item-to-item weights are drawn to the likeness of texts instead of to zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.attribution import Attribution, public_parts
from agents.dataset import Dataset, Floats, Ids
from agents.instructions import instruction_term
from agents.rankers.history_ranker import check_vectors, consumption, entry_weights, past
from agents.rankers.item_models import Ease
from agents.rankers.ranker import added_terms, look_up, score
from llmrec_env.envs.vector import RecVectorEnv

_ROWS = 512  # of the weights, computed at a time


class EaseText(Ease):
    """Shows what a linear model reconstructs, which believes of rare items what their texts say.

        min |X - X B|^2 + lambda |B - c V V'|^2,  diag B = 0

    X is who consumed what, V V' the cosines of the items' texts. With P = (X'X + lambda I)^-1 its
    solution is B = I - lambda P + lambda c P V V' - P diag(g), g such that the diagonal is 0; c = 0
    is `ease`. V V' has the rank of V, so that it takes no more memory than `ease`. X'X counts items
    by how near each other they were consumed: see `gap_decay`.

    What nobody consumed, what lies beyond `most_items`, and phrases typed are known by their texts
    alone: there B = c V V'. Jeunen, Van Balen and Goethals (Closed-form models for collaborative
    filtering with side-information, RecSys 2020) stack texts under X instead.
    """

    name = "ease-text"

    def __init__(
        self,
        seed: int = 0,
        regularisation: float = 200.0,
        decay: float = 0.9,
        popular: float = 0.01,
        most_items: int = 8000,
        gap_decay: float = 0.97,
        text: float = 0.01,
        substance: float = 0.0,
        skipped: float = 0.0,
        freshness: float = 0.1,
        familiarity: float = 0.03,
        instruction: float = 0.2,
    ) -> None:
        """Takes the settings of the closed form, and the weights of public terms beside it.

        Args:
            seed: nothing is drawn; recorded only.
            regularisation: lambda, weight of the squared distance to the texts.
            decay: factor for each item consumed or phrase typed since.
            popular: weight of popularity, for what has no common users.
            most_items: items that the closed form is solved over.
            gap_decay: factor of a pair of items for each step from one to the other.
            text: c, weight of a cosine of texts.
            substance: weight of the substance that is read off the text, -1 to 1.
            skipped: weight lost by the cosine to what was skipped.
            freshness: weight of freshness, 0 to 1, in worlds whose items age.
            familiarity: weight of the familiarity with the creator, 0 to 1, where users mind it.
            instruction: weight of what users tell, where they do.
        """
        super().__init__(seed, regularisation, decay, popular, most_items, gap_decay)
        self.text, self.substance = text, substance
        self.skipped, self.freshness, self.familiarity = skipped, freshness, familiarity
        self.instruction = instruction
        self.texts: Floats = np.zeros((0, 0), np.float32)

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users, and to read what users type."""
        super().fit(env, num_steps)
        self._read_phrases()

    def _read_phrases(self) -> None:
        self.texts = np.concatenate([self.data.items.vectors, self.data.phrase_vectors])

    def learn(self, dataset: Dataset, vectors: Floats | None = None) -> None:
        """Solves the closed form.

        Raises:
            ValueError: no vectors, or not one for each item.
        """
        self.texts = check_vectors(self.name, vectors, dataset.num_items)
        super().learn(dataset)

    def _item_weights(self, inverse: npt.NDArray[np.float64]) -> Floats:
        texts = self.texts[self.items]
        drawn = self.regularisation * self.text * (inverse @ texts)  # (m, d): lambda c P V
        scale = (1.0 + np.vecdot(drawn, texts)) / np.diag(inverse)
        weights = np.empty(inverse.shape, np.float32)
        for start in range(0, len(weights), _ROWS):
            rows = slice(start, start + _ROWS)
            weights[rows] = drawn[rows] @ texts.T - inverse[rows] * scale
        return weights

    def read(self, observation: Any) -> tuple[Ids, Floats]:
        """Returns consumed items, and phrases typed as if they were items that satisfied."""
        return past(observation, first_phrase=len(self.popularity))

    def score_items(self, items: Ids, weights: Floats) -> Floats:
        """Returns the reconstructed consumption, (n, num_items)."""
        users = consumption(items, weights, len(self.texts), self.decay)
        solved = np.zeros(len(self.texts), np.bool_)
        solved[self.items] = True
        read = self.text * (users @ self.texts)  # what all of the past says, (n, d)
        scores = np.asarray(read @ self.texts[: len(self.popularity)].T, np.float32)
        other = self.text * (users[:, ~solved] @ self.texts[~solved])
        scores[:, self.items] = users[:, self.items] @ self.item_weights
        scores[:, self.items] += other @ self.texts[self.items].T
        return scores + np.float32(self.popular) * self.popularity

    def scores(self, observation: Any) -> Floats:
        """Returns the reconstruction and the public terms of each candidate, (n, c)."""
        items, candidates = self.data.items, observation["candidates"]
        scores = super().scores(observation)
        added = {"freshness": self.freshness, "familiarity": self.familiarity}
        scores += added_terms(observation, added)
        scores += instruction_term(observation, items, self.instruction)
        if self.substance:
            worth = np.asarray(self.substance * items.substance, np.float32)
            scores += look_up(worth, candidates)
        if self.skipped:
            likeness = score(observation["skipped"], candidates, items.vectors)
            scores -= np.float32(self.skipped) * np.where(candidates < 0, 0.0, likeness)
        return scores

    def attribute(self, observation: Any, slots: npt.NDArray[np.integer]) -> Attribution:
        """Returns what moved the scores of candidates: items, phrases typed, public terms."""
        parts = super().attribute(observation, slots)
        return parts._replace(others=parts.others | public_parts(self, observation, slots))

    def counted(self, observation: Any) -> npt.NDArray[np.intp]:
        """Returns the entries of the history of one observation that are read."""
        return np.flatnonzero(entry_weights(observation, phrases=True)[0])

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the item-to-item weights."""
        super().load(weights, env)
        self._read_phrases()
