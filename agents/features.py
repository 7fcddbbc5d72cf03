"""Feature extractor for online RL agents: blocks of numbers that can be switched on and off.

Every block is computed from a `dict` observation and public data. The blocks about the user come
first; the last C · F numbers describe the candidates, F columns each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from agents.instructions import INSTRUCTIONS, WEIGHTS, instruction_columns
from agents.item_links import LinkedShare
from agents.rankers.ranker import Floats, standardise
from agents.user_statistics import (
    OUTCOMES,
    SATISFIED_ITEMS,
    TOPICS,
    count_outcomes,
    count_topics,
    last_satisfied,
    nearest,
    pool_columns,
    topics_of,
    write_rows,
)
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.interface.actions import CONTENT_PLAN
from llmrec_env.interface.candidates import (
    FAMILIARITY,
    FEATURES,
    FRESHNESS,
    MORE_BLOCKS,
    blocks_added,
)
from llmrec_env.interface.instructions import BLOCKS
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.simulation.user_record import TASTE_DIM
from llmrec_env.world import PublicData

LEADING = 32
"""Components of a vector that are kept: the first of a principal component analysis."""
DECAYS = (0.8, 0.95, 1.0)
"""What is left of an outcome after a step; the last counts all steps alike."""

USER_BLOCKS = (
    *VECTOR_BLOCKS,
    "session",
    "satisfied_items",
    "outcomes",
    "topic_counts",
    "pooled",
    "joint",
)
"""About the user; `pooled` is the mean and the largest of each column over the candidates."""
CANDIDATE_BLOCKS = ("candidate_features", "nearest_satisfied", "joint_score", "joint_probability")
NEIGHBOURS = "neighbours"
"""The block of candidates that worlds with a knowledge graph have besides: see `LinkedShare`."""
DEFAULT_BLOCKS = (*USER_BLOCKS[:-1], "candidate_features")
JOINT_BLOCKS = (*USER_BLOCKS, "candidate_features", "joint_score", "joint_probability")
"""The default and what a fitted joint recommender believes of users and candidates."""
HIDDEN_BLOCKS = ("true_state", "true_relevance")
"""Hidden truth of users and of candidates, which privileged observations alone tell."""
_ABOUT_USERS = (*USER_BLOCKS, HIDDEN_BLOCKS[0])
_ABOUT_CANDIDATES = (*CANDIDATE_BLOCKS, NEIGHBOURS, INSTRUCTIONS, HIDDEN_BLOCKS[1])


class JointRecommender(Protocol):
    """What is read of a fitted joint recommender."""

    def belief(self, observation: Any) -> Floats:
        """Returns the believed interest of each session, (n, d)."""
        ...

    def scores(self, observation: Any) -> Floats:
        """Returns the scores of the candidates, (n, c)."""
        ...

    def probability(self, observation: Any) -> Floats:
        """Returns the probability that each candidate would satisfy, (n, c)."""
        ...


def blocks_of(data: PublicData, config: EnvConfig, joint: bool = False) -> tuple[str, ...]:
    """Returns what online agents are shown of a world: its neighbours too, where it has a graph.

    Args:
        data: public data.
        config: of the environment; what users tell is shown where they do.
        joint: also what a fitted joint recommender believes.
    """
    blocks = JOINT_BLOCKS if joint else DEFAULT_BLOCKS
    added = {NEIGHBOURS: data.links is not None, INSTRUCTIONS: config.instructs()}
    return (*blocks, *(name for name, there in added.items() if there))


class FeatureExtractor:
    """Turns `dict` observations into flat arrays, (n, length)."""

    slices: dict[str, slice]
    """Where each block about the user lies in the array, and `candidates` the C · F block."""
    columns: tuple[str, ...]
    """Names of the F columns that describe a candidate."""
    user: int
    """Numbers about the user; they come first."""
    candidates: int
    """C, candidates of a session."""
    length: int
    """Numbers of a session: user + C · F."""

    def __init__(self, blocks: Sequence[str] = DEFAULT_BLOCKS) -> None:
        """Takes the blocks to show; their order plays no part.

        Args:
            blocks: of USER_BLOCKS, CANDIDATE_BLOCKS and HIDDEN_BLOCKS, at least one that describes
                candidates. Those whose names begin with `joint` need a fitted joint recommender.

        Raises:
            ValueError: there is no such block, or nothing describes the candidates.
        """
        known = (*_ABOUT_USERS, *_ABOUT_CANDIDATES)
        for block in blocks:
            if block not in known:
                raise ValueError(unknown("block", block, list(known)))
        self.blocks = tuple(block for block in known if block in blocks)
        if not set(blocks) & set(_ABOUT_CANDIDATES):
            raise ValueError(
                f"blocks={tuple(blocks)} say nothing of the candidates; "
                f"add one of {', '.join(CANDIDATE_BLOCKS)}."
            )

    @property
    def num_features(self) -> int:
        """F, columns that describe a candidate."""
        return len(self.columns)

    def fit(
        self, data: PublicData, config: EnvConfig, joint: JointRecommender | None = None
    ) -> None:
        """Takes what is public of a world; learns nothing but the clusters of its items.

        Args:
            data: texts, their encodings, and logs.
            config: of the environment whose observations will be seen.
            joint: a fitted joint recommender, for the blocks that show what it believes.

        Raises:
            ValueError: the environment offers its whole catalogue or shows `vector` observations,
                or a block needs a joint recommender or a knowledge graph, and there is none.
        """
        _check(config, self.blocks, joint)
        self._items, self._joint, self._dim = data.items, joint, min(LEADING, config.dim)
        if NEIGHBOURS in self.blocks:
            self._linked = LinkedShare(data.links, len(data.items.vectors))
        if "topic_counts" in self.blocks:
            self._topics = topics_of(data.items.vectors)
        blocks = [name for name in _ABOUT_CANDIDATES if name in self.blocks]
        added = (name.removeprefix("candidate_") for name in blocks_added(config))
        several = {"candidate_features": (*FEATURES, *added), INSTRUCTIONS: BLOCKS}
        names = [several.get(name, (name,)) for name in blocks]
        self.columns = tuple(column for group in names for column in group)
        lengths = {name: self._dim for name in (*VECTOR_BLOCKS, "joint")}
        lengths |= {"session": len(SESSION_NUMBERS), "satisfied_items": SATISFIED_ITEMS * self._dim}
        lengths |= {"outcomes": len(DECAYS) * len(OUTCOMES), "topic_counts": TOPICS}
        lengths["pooled"] = 2 * self.num_features
        lengths["true_state"] = 2 * self._dim + TASTE_DIM + 1
        self.slices, self.user = {}, 0
        for name in self.blocks:
            if name in _ABOUT_USERS:
                self.slices[name] = slice(self.user, self.user + lengths[name])
                self.user += lengths[name]
        self.candidates = config.candidates
        self.length = self.user + self.candidates * self.num_features
        self.slices["candidates"] = slice(self.user, self.length)

    def encode(self, observation: Any) -> Floats:
        """Returns the features of a batch of `dict` observations, (n, length)."""
        n = len(observation["session"])
        features = np.empty((n, self.length), np.float32)
        for name, part in self.slices.items():
            if name in VECTOR_BLOCKS:
                features[:, part] = observation[name][:, : self._dim]
            elif name in _WRITERS:
                _WRITERS[name](self, observation, features[:, part])
        table = features[:, self.user :].reshape(n, self.candidates, self.num_features)  # a view
        column = 0
        for name in self.blocks:
            if name in _COLUMNS:
                values = _COLUMNS[name](self, observation)
                width = values.shape[2] if values.ndim == 3 else 1
                table[:, :, column : column + width] = values.reshape(n, self.candidates, width)
                column += width
        if "pooled" in self.slices:
            pool_columns(table, features[:, self.slices["pooled"]])
        return features

    def start(self) -> Floats:
        """Returns the weights of the columns, (F,), by which a sensible ranker would rank.

        True relevance alone where it is shown, or else the joint score, or else the ranking of the
        zero action of `weights`, which counts freshness and familiarity too.
        """
        weights: dict[str, float] = dict(zip(FEATURES, CONTENT_PLAN.tolist(), strict=False))
        weights |= dict(zip(BLOCKS, WEIGHTS.tolist(), strict=True))
        weights |= {"freshness": FRESHNESS, "familiarity": FAMILIARITY}
        if "joint_score" in self.columns:
            weights = {"joint_score": 0.2}  # of standardised scores; the others are cosines
        if "true_relevance" in self.columns:
            weights = {"true_relevance": 1.0}
        return np.array([weights.get(name, 0.0) for name in self.columns], np.float32)

    def policy_kwargs(self) -> dict[str, Any]:
        """Returns what `PointerPolicy` must know of the features, as plain data."""
        return {
            "candidates": self.candidates,
            "features": self.num_features,
            "start": [float(weight) for weight in self.start()],
        }

    # --- blocks about the user: each writes into its part of the array

    def _session(self, observation: Any, out: Floats) -> None:
        out[:] = observation["session"]

    def _satisfied_items(self, observation: Any, out: Floats) -> None:
        ids = last_satisfied(observation["history"], observation["history_feedback"])
        write_rows(self._items.vectors, ids, self._dim, out)

    def _outcomes(self, observation: Any, out: Floats) -> None:
        count_outcomes(
            observation["recent_slates"],
            observation["recent_items"],
            observation["recent_satisfied"],
            self._items.substance,
            np.array(DECAYS, np.float32),
            out,
        )

    def _topic_counts(self, observation: Any, out: Floats) -> None:
        count_topics(observation["history"], observation["history_feedback"], self._topics, out)

    def _belief(self, observation: Any, out: Floats) -> None:
        assert self._joint is not None  # checked in fit
        out[:] = self._joint.belief(observation)[:, : self._dim]

    def _state(self, observation: Any, out: Floats) -> None:
        out[:, : self._dim] = observation["true_interest"][:, : self._dim]
        out[:, self._dim : 2 * self._dim] = observation["true_satiation"][:, : self._dim]
        out[:, 2 * self._dim : -1] = observation["true_taste"]
        out[:, -1:] = observation["true_goodwill"]

    # --- columns of the candidates

    def _features(self, observation: Any) -> Floats:
        return described(observation)

    def _nearest_satisfied(self, observation: Any) -> Floats:
        ids = last_satisfied(observation["history"], observation["history_feedback"])
        return nearest(self._items.vectors, ids, observation["candidates"])

    def _neighbours(self, observation: Any) -> Floats:
        return self._linked(observation)

    def _instructions(self, observation: Any) -> Floats:
        return instruction_columns(observation, self._items)

    def _relevance(self, observation: Any) -> Floats:
        return observation["true_relevance"]

    def _joint_score(self, observation: Any) -> Floats:
        assert self._joint is not None
        return standardise(self._joint.scores(observation))

    def _joint_probability(self, observation: Any) -> Floats:
        assert self._joint is not None
        return self._joint.probability(observation)


def described(observation: Any) -> Floats:
    """Returns what observations say of each candidate: FEATURES, and blocks of mechanisms."""
    features = observation["candidate_features"]
    added = [observation[name] for name in MORE_BLOCKS if name in observation]
    return np.dstack([features, *added]) if added else features


_WRITERS: dict[str, Callable[[FeatureExtractor, Any, Floats], None]] = {
    "session": FeatureExtractor._session,
    "satisfied_items": FeatureExtractor._satisfied_items,
    "outcomes": FeatureExtractor._outcomes,
    "topic_counts": FeatureExtractor._topic_counts,
    "joint": FeatureExtractor._belief,
    "true_state": FeatureExtractor._state,
}
_COLUMNS: dict[str, Callable[[FeatureExtractor, Any], Floats]] = {
    "candidate_features": FeatureExtractor._features,
    "nearest_satisfied": FeatureExtractor._nearest_satisfied,
    NEIGHBOURS: FeatureExtractor._neighbours,
    INSTRUCTIONS: FeatureExtractor._instructions,
    "joint_score": FeatureExtractor._joint_score,
    "joint_probability": FeatureExtractor._joint_probability,
    "true_relevance": FeatureExtractor._relevance,
}


def _check(config: EnvConfig, blocks: Sequence[str], joint: JointRecommender | None) -> None:
    if config.candidates == 0:
        raise ValueError(
            "candidates=0 offers the whole catalogue, which is too much to see at once; "
            "set candidates=100, and recall='two-stage' to choose them well."
        )
    if config.observation != "dict":
        raise ValueError(
            f"observation={config.observation!r} lacks the ids that blocks are computed from; "
            "build the environment with observation='dict'."
        )
    hidden = [block for block in blocks if block in HIDDEN_BLOCKS]
    if hidden and not config.privileged_observation:
        raise ValueError(
            f"blocks {', '.join(hidden)} show hidden truth; build the environment with "
            "privileged_observation=True, or leave them out."
        )
    joint_blocks = [block for block in blocks if block.startswith("joint")]
    if joint_blocks and joint is None:
        raise ValueError(
            f"blocks {', '.join(joint_blocks)} show what a joint recommender believes; "
            "give fit(..., joint=...) a fitted one, or leave them out."
        )
