"""Baselines: random and popular items, the texts of the past, and a drift-aware blend."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.attribution import Attribution, public_parts, vectors_of_entries
from agents.instructions import instruction_term
from agents.item_links import LinkedShare
from agents.open_questions import Texts, candidate_answers
from agents.rankers.als import Collaborative
from agents.rankers.ranker import (
    UNAVAILABLE,
    Floats,
    Ranker,
    added_terms,
    look_up,
    pool,
    score,
    standardise,
)
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.candidates import FAMILIARITY, FRESHNESS
from llmrec_env.interface.history import EMPTY, SATISFIED, UNSATISFIED

QUESTION = 1.6
"""Weight of an answer to an open question beside a cosine, where answers resolve them.

Hand-set, by one grid for `content`, `content-recency` and `drift-aware` on 200 validation users of
world 100 of `Support`, 0, .4, .8, 1.2, 1.6: from .8 on they are hardly told apart.
"""


class Random(Ranker):
    """Shows random candidates."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        """Args: seed: of the generator the slates are drawn from."""
        super().__init__(seed)
        self._rng = np.random.default_rng([seed, 17])

    def scores(self, observation: Any) -> Floats:
        """Returns random numbers."""
        candidates = observation["candidates"]
        noise = self._rng.random(candidates.shape, dtype=np.float32)
        return np.where(candidates < 0, UNAVAILABLE, noise)


class Popular(Ranker):
    """Shows what satisfied most training users."""

    name = "popular"

    def scores(self, observation: Any) -> Floats:
        """Returns the popularity of each candidate."""
        return look_up(self.data.items.popularity, observation["candidates"])


class Content(Ranker):
    """Shows what is nearest to the mean of all texts that the user liked or typed.

    Like all rankers of texts here it may add what anyone can read off public data: depth of
    content, popularity, freshness, familiarity with the creator, answers to open questions,
    likeness to what was skipped, and to what users tell they want.
    All of them are given these terms, with weights tuned alike, so that none is better than another
    by a hand-set term alone.
    """

    name = "content"
    kind_weights = (0.15, 1.0, 1.0)  # unsatisfied, satisfied, query

    def __init__(
        self,
        seed: int = 0,
        decay: float = 1.0,
        substance: float = 0.0,
        skipped: float = 0.0,
        popular: float = 0.0,
        freshness: float = FRESHNESS,
        familiarity: float = FAMILIARITY,
        question: float = QUESTION,
        neighbours: float = 0.0,
        instruction: float = 1.0,
        **settings: Any,
    ) -> None:
        """Takes the weights of the public terms beside a cosine.

        Args:
            seed: nothing is drawn; recorded only.
            decay: factor of the past for each item consumed since; 1 weighs all of it alike.
            substance: weight of the substance that is read off the text, -1 to 1.
            skipped: weight lost by the cosine to what was skipped.
            popular: weight of popularity, 0 to 1.
            freshness: weight of freshness, 0 to 1, in worlds whose items age.
            familiarity: weight of the familiarity with the creator, 0 to 1, where users mind it.
            question: weight of how well it answers an open one, 0 to 1, where answers resolve them.
            neighbours: weight of what a knowledge graph links to what satisfied: `LinkedShare`.
            instruction: weight of what users tell, where they do: `agents/instructions.py`.
            **settings: of the class that follows in the order of inheritance.
        """
        super().__init__(seed, **settings)
        self.decay, self.substance = decay, substance
        self.skipped, self.popular, self.freshness = skipped, popular, freshness
        self.familiarity, self.question = familiarity, question
        self.neighbours, self.instruction = neighbours, instruction

    @cached_property
    def _linked(self) -> LinkedShare:
        return LinkedShare(self.data.links, len(self.data.items.vectors))

    def scores(self, observation: Any) -> Floats:
        """Returns v . y and the public terms of each candidate, (n, c)."""
        items, candidates = self.data.items, observation["candidates"]
        direction = self.belief(observation) - np.float32(self.skipped) * observation["skipped"]
        worth = self.substance * items.substance + self.popular * items.popularity
        terms = look_up(np.asarray(worth, np.float32), candidates)
        added = {"freshness": self.freshness, "familiarity": self.familiarity}
        terms += added_terms(observation, added)
        if self.resolves:
            terms += np.float32(self.question) * self._answers(observation)
        terms += instruction_term(observation, items, self.instruction)
        if self.neighbours:
            terms = terms + np.float32(self.neighbours) * self._linked(observation)
        return score(direction, candidates, items.vectors) + terms

    def _answers(self, observation: Any) -> Floats:
        return candidate_answers(observation, Texts.of(self.data))

    def belief(self, observation: Any) -> Floats:
        """Returns v of each session, (n, d)."""
        return pool(
            observation["history"],
            observation["history_feedback"],
            np.array(self.kind_weights, np.float32),
            self.decay,
            self.data.items.vectors,
            self.data.phrase_vectors,
        )

    def attribute(self, observation: Any, slots: npt.NDArray[np.integer]) -> Attribution:
        """Returns what moved the scores of candidates: texts by their cosines, and public terms."""
        items, ids = self.data.items, observation["candidates"][0, slots]
        kinds = observation["history_feedback"][0]
        consumed = (kinds == SATISFIED) | (kinds == UNSATISFIED)
        age = np.cumsum(consumed) - consumed
        weights = np.where(kinds == EMPTY, 0.0, np.array(self.kind_weights)[kinds])
        past = vectors_of_entries(observation, items.vectors, self.data.phrase_vectors)
        past *= (weights * self.decay**age)[:, None]
        past /= max(float(np.linalg.norm(past.sum(axis=0))), 1e-6)
        read = items.vectors[ids].astype(np.float64)
        others = public_parts(self, observation, slots)
        others["popularity"] = self.popular * items.popularity[ids].astype(np.float64)
        if self.resolves:
            answers = self._answers(observation)[0, slots]
            others["open questions"] = self.question * answers.astype(np.float64)
        if self.neighbours:
            linked = self._linked(observation)[0, slots]
            others["neighbours"] = self.neighbours * linked.astype(np.float64)
        return Attribution(read @ past.T, others)


class ContentRecency(Content):
    """Like `content`, but the past loses half its weight with every four items consumed since."""

    name = "content-recency"

    def __init__(self, seed: int = 0, decay: float = 0.85, **settings: Any) -> None:
        """Takes what `content` takes."""
        super().__init__(seed, decay, **settings)


class DriftAware(ContentRecency, Collaborative):
    """Content by what satisfied or was typed lately, and a little of everybody's taste."""

    name = "drift-aware"

    def __init__(
        self,
        seed: int = 0,
        recent: float = 0.5,
        query: float = 0.3,
        collaborative: float = 0.06,
        **settings: Any,
    ) -> None:
        """Takes the weights of its scores, and the settings of the rankers it joins.

        Args:
            seed: of the item factors.
            recent: weight of the observed recent interest, which turns against what was consumed
                and did not satisfy, beside 1 of the texts that satisfied.
            query: weight of what was typed last, a text of an interest itself.
            collaborative: weight of the standardised score of `collaborative`.
            **settings: of ContentRecency and Collaborative.
        """
        super().__init__(seed, **settings)
        self.recent, self.query, self.collaborative = recent, query, collaborative

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Takes the item factors where items are the same; of others it reads the texts alone."""
        factors = weights["item_factors"]
        if not same_items:
            factors = np.zeros((len(env.public_data().catalog), self.rank))
        self.load({"item_factors": factors}, env)

    def belief(self, observation: Any) -> Floats:
        """Returns the direction in which it takes interests to lie, (n, d)."""
        recent, query = np.float32(self.recent), np.float32(self.query)
        turned_to = recent * observation["recent"] + query * observation["query"]
        return super().belief(observation) + turned_to

    def scores(self, observation: Any) -> Floats:
        """Returns the blend of content, public terms and collaborative scores."""
        taste = standardise(Collaborative.scores(self, observation))
        blend = super().scores(observation) + np.float32(self.collaborative) * taste
        return np.where(observation["candidates"] < 0, UNAVAILABLE, blend)

    def attribute(self, observation: Any, slots: npt.NDArray[np.integer]) -> Attribution:
        """Returns what moved the scores of candidates; what is recent is told as a whole."""
        parts = super().attribute(observation, slots)
        read = self.data.items.vectors[observation["candidates"][0, slots]].astype(np.float64)
        taste = standardise(Collaborative.scores(self, observation))[0, slots]
        others = {
            "recent interest": self.recent * (read @ observation["recent"][0]),
            "typed last": self.query * (read @ observation["query"][0]),
            "who consumed what together": self.collaborative * taste.astype(np.float64),
        }
        return parts._replace(others=parts.others | others)
