"""Everything fixed about a task, built once a process: texts, vectors, users and their past."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.bundled_encodings import load_encoder_of
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.encoders import Encoder
from llmrec_env.content.phrases import (
    Phrases,
    neighbours,
    phrases_of,
    read_substance,
    substance_probe,
)
from llmrec_env.interface.candidates import Items
from llmrec_env.interface.co_consumption import co_consumption_factors
from llmrec_env.interface.history import (
    HISTORY,
    empty_histories,
    replay,
    start_session,
)
from llmrec_env.simulation.logging_policy import Logs, split_of, write_logs
from llmrec_env.simulation.noise import draw_normals
from llmrec_env.simulation.population import new_users
from llmrec_env.simulation.records import aligned, compiled_view
from llmrec_env.simulation.response import RESPONSE, TASTE_DIM, TRAITS, no_responses, parameters
from llmrec_env.simulation.users import COMMUNITY_TOPICS, NUM_COMMUNITIES, Interests
from llmrec_env.world_size import fitting_sizes, needed_items

_PROBE_AGREEMENT = 0.86  # correlation of probe and substance where the catalogue has no labels
_SUBSTANCE_SPREAD = 0.6


class SubstanceWarning(UserWarning):
    """A table of items has no labels of substance: goodwill and the lure of clickbait are off."""


@dataclass(frozen=True)
class TextSpace:
    """A catalogue, its interest phrases, and where they lie: the same for every world seed."""

    catalog: Catalog  # with vectors
    phrases: Phrases
    phrase_vectors: npt.NDArray[np.float32]  # (phrases, d)
    neighbours: npt.NDArray[np.int32]  # (phrases, 6)
    space: Space
    probe: npt.NDArray[np.float32]  # (items,), standardised substance as the probe reads it
    encoder: Encoder


@dataclass(frozen=True)
class PublicData:
    """What a recommender may learn from: texts, and the logs of training users. Nothing hidden."""

    catalog: Catalog  # with vectors, without labels of substance: see items.substance
    phrases: Phrases
    phrase_vectors: npt.NDArray[np.float32]  # (phrases, d), to read queries with
    space: Space  # where the encodings of other texts lie
    items: Items
    logs: Logs  # of the training users
    users: npt.NDArray[np.int64]  # ids of the training users, the rows of logs

    def records(self) -> npt.NDArray[np.void]:
        """Returns all records of the training users: user, item, event, value, timestamp."""
        table = self.logs.table()
        table["user"] = self.users[table["user"]]
        return table


@dataclass(frozen=True)
class World:
    """What all sessions of a task share; read-only."""

    text: TextSpace
    items: Items
    traits: npt.NDArray[np.void]  # HIDDEN, (items,)
    interests: Interests  # HIDDEN
    community_taste: npt.NDArray[np.float32]  # HIDDEN, (communities, TASTE_DIM)
    users: npt.NDArray[np.void]  # HIDDEN, state of every user at the start of a session
    params: npt.NDArray[np.void]  # (1,)
    histories: npt.NDArray[np.void]  # public history of every user at the start of a session
    logs: Logs
    config: EnvConfig  # what the world is built from

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of an environment shares the world, or builds it again in another process.
        return _build_world, (self.config,)

    @property
    def catalog(self) -> Catalog:
        """The items' texts and vectors."""
        return self.text.catalog

    @property
    def phrases(self) -> Phrases:
        """The texts that interests are made of."""
        return self.text.phrases

    def public(self) -> PublicData:
        """Returns what a recommender may learn from."""
        users = self.users_of("train")
        logs = Logs._make(column[users] for column in self.logs)
        catalog = self.text.catalog.public()
        phrases, vectors, space = self.text.phrases, self.text.phrase_vectors, self.text.space
        return PublicData(catalog, phrases, vectors, space, self.items, logs, users)

    def relevance(
        self, interests: npt.ArrayLike, taste: npt.ArrayLike, items: Any = slice(None)
    ) -> npt.NDArray[np.floating]:
        """Returns f(u, a, y) of items, (..., items), as `users.relevance_of` computes it.

        Args:
            interests: u, (..., d).
            taste: a, (..., TASTE_DIM).
            items: ids; all by default.
        """
        text = np.asarray(interests) @ self.items.vectors[items].T / self.params["scale"][0]
        liking = np.asarray(taste) @ self.traits["taste"][items].T
        return np.maximum(text + self.params["relevance_taste"][0] * liking, 0.0)

    def users_of(self, split: str) -> npt.NDArray[np.int64]:
        """Returns the ids of the users of a split."""
        ids = np.arange(len(self.users))
        return ids[split_of(ids, split)]


def load_world(config: EnvConfig) -> World:
    """Returns the world of a configuration, built at its first use in the process.

    Raises:
        ConfigError: the catalogue is too small for the configuration.
    """
    world = _build_world(config.of_world())
    needed, count = needed_items(config), len(world.catalog)
    if count < needed:
        fitting = ", ".join(f"{name}={size}" for name, size in fitting_sizes(count, config).items())
        raise ConfigError(
            f"the catalogue {config.catalog!r} has {count} items, but candidates="
            f"{config.candidates}, impression_cap={config.impression_cap}, slate_size="
            f"{config.slate_size} and horizon={config.horizon} can use up {needed}; "
            f"lower one of them or add items. It fits with {fitting}."
        )
    return world


@lru_cache(maxsize=4)
def load_text_space(
    catalog: str, num_items: int | None, encoder: str, dim: int, device: str
) -> TextSpace:
    """Returns the encoded catalogue and phrases, made at their first use in the process."""
    items = Catalog.load(catalog, num_items=num_items)
    reader, axes = load_encoder_of(items, encoder, device)
    raw_items = reader.encode(items.texts)
    items, phrases = phrases_of(items, raw_items)
    raw_phrases = reader.encode(phrases.texts)
    space = Space.fit(raw_items, raw_phrases, dim, axes)
    vectors, phrase_vectors = space.project_items(raw_items), space.project_phrases(raw_phrases)
    phrase_vectors = aligned(phrase_vectors)
    close = neighbours(phrase_vectors, phrases.topics)
    probe = items.probe
    if probe is None:
        probe = read_substance(vectors, substance_probe(reader.encode, space))
    # Read-only from the first world on: numba compiles the warm-up anew for other flags.
    for array in (phrase_vectors, close, phrases.topic_start):
        array.setflags(write=False)
    return TextSpace(
        catalog=items.with_vectors(vectors),
        phrases=phrases,
        phrase_vectors=phrase_vectors,
        neighbours=close,
        space=space,
        probe=probe,
        encoder=reader,
    )


@lru_cache(maxsize=4)
def _build_world(config: EnvConfig) -> World:
    text = load_text_space(
        config.catalog, config.num_items, config.encoder, config.dim, config.device
    )
    _tell_without_substance(config, text.catalog)
    vectors = text.catalog.vectors
    assert vectors is not None  # load_text_space encoded them
    rng = np.random.default_rng([config.world_seed, 1])
    interests = _interests(text, rng)
    traits = _traits(text, config.effective().taste_shared, rng)
    community_taste = draw_normals(rng, NUM_COMMUNITIES, TASTE_DIM).astype(np.float32)
    params = parameters(config, text.space.scale)
    users = new_users(config, interests, community_taste)
    logs = write_logs(config, users, params, interests, vectors, traits)
    everyone = np.arange(config.num_users)
    user, item, satisfied = logs.clicks(everyone[split_of(everyone, "train")])
    items = items_of(text, user[satisfied == 1], item[satisfied == 1])
    histories = histories_of(config, logs, items, interests)
    fixed = (users, traits, params, histories, *items, *interests, *logs, community_taste)
    for array in fixed:
        array.setflags(write=False)
    return World(
        text,
        items,
        traits,
        interests,
        community_taste,
        users,
        params,
        histories,
        logs,
        config,
    )


def _tell_without_substance(config: EnvConfig, catalog: Catalog) -> None:
    unlabelled = catalog.substance is not None and not catalog.substance.any()
    # A saved world, which has authored phrases, said it when it was made.
    if unlabelled and catalog.interests is None and config.effective().goodwill_gain:
        warnings.warn(
            f"{catalog.name} has no labels of substance: goodwill and the lure of clickbait are "
            "off; write a column substance (-1 to 1) to have them, or off=['goodwill'].",
            SubstanceWarning,
            stacklevel=2,
        )


def _interests(text: TextSpace, rng: np.random.Generator) -> Interests:
    num_topics = len(text.phrases.topic_start) - 1
    share = portable_math.power(range(1, num_topics + 1), -1.1)
    share = rng.permutation(share / np.cumsum(share)[-1])
    if text.catalog.topic_share is not None:
        share = text.catalog.topic_share
    communities = np.stack(
        [
            rng.choice(num_topics, COMMUNITY_TOPICS, num_topics < COMMUNITY_TOPICS, share)
            for _ in range(NUM_COMMUNITIES)
        ]
    ).astype(np.int32)
    return Interests(text.phrase_vectors, text.neighbours, text.phrases.topic_start, communities)


def _traits(text: TextSpace, taste_shared: float, rng: np.random.Generator) -> npt.NDArray[np.void]:
    n, substance = len(text.catalog), text.catalog.substance
    if substance is None:  # then the truth is what the probe reads, and something it misses
        missed = (1.0 - _PROBE_AGREEMENT**2) ** 0.5 * draw_normals(rng, n)
        substance = _SUBSTANCE_SPREAD * (_PROBE_AGREEMENT * text.probe + missed)
    traits = np.zeros(n, TRAITS)
    own_taste = draw_normals(rng, n, TASTE_DIM)
    quality = draw_normals(rng, n)
    traits["quality"] = quality if text.catalog.quality is None else text.catalog.quality
    traits["substance"] = np.clip(substance, -1.0, 1.0)
    facets = text.catalog.facets  # known of every item: `phrases_of` clusters what has no labels
    common_taste = draw_normals(rng, int(facets.max()) + 1, TASTE_DIM)[facets]
    taste = taste_shared**0.5 * common_taste + (1.0 - taste_shared) ** 0.5 * own_taste
    traits["taste"] = taste / TASTE_DIM**0.5
    return traits


def items_of(text: TextSpace, user: npt.NDArray[np.int64], item: npt.NDArray[np.int64]) -> Items:
    """Returns what a recommender may derive from the texts, and from who was satisfied with what.

    Args:
        text: of the catalogue, with vectors.
        user: of each click that satisfied, (m,).
        item: of each click that satisfied, (m,).
    """
    vectors = text.catalog.vectors
    assert vectors is not None  # a text space has encoded its catalogue
    substance = np.clip(text.probe / 2.0, -1.0, 1.0).astype(np.float32)
    return Items(vectors, substance=substance, **consumption_of(user, item, len(vectors)))


def consumption_of(
    user: npt.NDArray[np.int64], item: npt.NDArray[np.int64], num_items: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the fields of Items that say who consumed what: `factors` and `popularity`."""
    count = portable_math.log1p(np.bincount(item, minlength=num_items))
    return {
        "factors": aligned(co_consumption_factors(user, item, num_items)),
        "popularity": (count / max(count.max(), 1e-9)).astype(np.float32),
    }


def histories_of(
    config: EnvConfig, logs: Logs, items: Items, interests: Interests
) -> npt.NDArray[np.void]:
    """Returns the public history of the users of logs at the start of a session, (U,)."""
    histories = empty_histories(len(logs.slates), config)
    scratch = compiled_view(no_responses(1, config.slate_size), RESPONSE)
    replay(
        compiled_view(histories, HISTORY),
        logs.slates,
        logs.feedback,
        logs.queries,
        items.vectors,
        items.factors,
        interests.vectors,
        scratch,
    )
    start_session(histories)
    return histories
