"""Everything fixed about a task, built once a process: texts, vectors, users and their past."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.fusion import ItemSpace
from llmrec_env.content.item_graph import Links
from llmrec_env.content.phrases import Phrases
from llmrec_env.interface.candidates import Items
from llmrec_env.interface.co_consumption import co_consumption_factors
from llmrec_env.interface.history import (
    HISTORY,
    empty_histories,
    replay,
    start_session,
)
from llmrec_env.simulation.creators import NOBODY
from llmrec_env.simulation.freshness import ALWAYS, published_at_first
from llmrec_env.simulation.interests import COMMUNITY_TOPICS, NUM_COMMUNITIES, Interests
from llmrec_env.simulation.item_traits import item_traits
from llmrec_env.simulation.logging_policy import Logs, split_of, write_logs
from llmrec_env.simulation.noise import draw_normals
from llmrec_env.simulation.population import new_users
from llmrec_env.simulation.records import aligned, compiled_view
from llmrec_env.simulation.response import RESPONSE, TASTE_DIM, no_responses, parameters
from llmrec_env.text_space import (
    TextSpace,
    load_channel,
    load_item_space,
    load_links,
    load_text_space,
)
from llmrec_env.world_size import fitting_sizes, needed_items


class SubstanceWarning(UserWarning):
    """A table of items has no labels of substance: goodwill and the lure of clickbait are off."""


@dataclass(frozen=True)
class PublicData:
    """What a recommender may learn from: texts, and the logs of training users. Nothing hidden."""

    catalog: Catalog  # with vectors, without labels of substance: see items.substance
    phrases: Phrases
    phrase_vectors: npt.NDArray[np.float32]  # (phrases, d), to read queries with
    space: Space  # where the encodings of other texts lie: that of items.vectors
    items: Items
    logs: Logs  # of the training users
    users: npt.NDArray[np.int64]  # ids of the training users, the rows of logs
    links: Links | None = None  # what items are linked to in a knowledge graph

    def records(self) -> npt.NDArray[np.void]:
        """Returns all records of the training users: user, item, event, value, timestamp."""
        table = self.logs.table()
        table["user"] = self.users[table["user"]]
        return table


@dataclass(frozen=True)
class World:
    """What all sessions of a task share; read-only."""

    text: TextSpace  # its vectors are those of hidden truth
    item_space: ItemSpace  # its vectors are those that agents see
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

    @property
    def text_vectors(self) -> npt.NDArray[np.float32]:
        """What the items' texts say, which decides relevance, satiation and drift, (items, d)."""
        return self.text.vectors

    @cached_property
    def newest_first(self) -> npt.NDArray[np.int32]:
        """Ids of the items in order of publication, the newest first, (items,)."""
        return np.argsort(-self.items.published, kind="stable").astype(np.int32)

    def public(self) -> PublicData:
        """Returns what a recommender may learn from."""
        users = self.users_of("train")
        logs = Logs._make(column[users] for column in self.logs)
        catalog = self.text.catalog.public()
        _, vectors, space = self.item_space
        phrases, links = self.text.phrases, load_links(self.config)
        return PublicData(catalog, phrases, vectors, space, self.items, logs, users, links)

    def relevance(
        self, interests: npt.ArrayLike, taste: npt.ArrayLike, items: Any = slice(None)
    ) -> npt.NDArray[np.floating]:
        """Returns f(u, a, y) of items, (..., items), as `users.relevance_of` computes it.

        Args:
            interests: u, (..., d).
            taste: a, (..., TASTE_DIM).
            items: ids; all by default.
        """
        text = np.asarray(interests) @ self.text_vectors[items].T / self.params["scale"][0]
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
    existing = published_at_first(config, count)
    if existing < min(count, needed):
        raise ConfigError(
            f"new_items={config.new_items} leaves {existing} of the {count} items of the catalogue "
            f"{config.catalog!r} at the beginning, but a session can use up {needed}; lower it, or "
            f"candidates={config.candidates} or horizon={config.horizon}."
        )
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
def _build_world(config: EnvConfig) -> World:
    text = load_text_space(
        config.catalog, config.num_items, config.encoder, config.dim, config.device
    )
    _tell_without_substance(config, text.catalog)
    vectors = text.vectors
    item_space, channel = load_item_space(config), load_channel(config)
    if channel is None and config.taste_channel:
        raise ConfigError(
            f"taste_channel={config.taste_channel}, but items carry nothing beside their texts; "
            "give item_vectors or item_graph, or leave it at 0."
        )
    rng = np.random.default_rng([config.world_seed, 1])
    interests = _interests(text, rng)
    traits = item_traits(config.effective(), text.catalog, text.probe, channel, rng)
    if published_at_first(config, len(traits)) < config.slate_size:
        raise ConfigError(
            f"new_items={config.new_items} leaves too few of {len(traits)} items to begin with for "
            f"slates of slate_size={config.slate_size}; lower either."
        )
    community_taste = draw_normals(rng, NUM_COMMUNITIES, TASTE_DIM).astype(np.float32)
    num_creators = int(traits["creator"].max()) + 1
    params = parameters(config, text.space.scale, num_creators)
    users = new_users(config, interests, community_taste, num_creators)
    logs = write_logs(config, users, params, interests, vectors, traits)
    everyone = np.arange(config.num_users)
    user, item, satisfied = logs.clicks(everyone[split_of(everyone, "train")])
    liked = satisfied == 1
    items = items_of(item_space.vectors, text.probe, user[liked], item[liked])
    items = items._replace(published=traits["published"].copy(), creator=traits["creator"].copy())
    histories = histories_of(config, logs, items, item_space.phrase_vectors)
    fixed = (users, traits, params, histories, *items, *interests, *logs, community_taste)
    for array in fixed:
        array.setflags(write=False)
    return World(
        text,
        item_space,
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


def items_of(
    vectors: npt.NDArray[np.float32],
    probe: npt.NDArray[np.float32],
    user: npt.NDArray[np.int64],
    item: npt.NDArray[np.int64],
) -> Items:
    """Returns what a recommender may derive from the texts, and from who was satisfied with what.

    Args:
        vectors: of the items, unit rows, (items, d).
        probe: substance as read off the texts, standardised, (items,).
        user: of each click that satisfied, (m,).
        item: of each click that satisfied, (m,).
    """
    substance = np.clip(probe / 2.0, -1.0, 1.0).astype(np.float32)
    always, nobody = np.full((2, len(vectors)), [[ALWAYS], [NOBODY]], np.int32)
    consumed = consumption_of(user, item, len(vectors))
    return Items(vectors, substance=substance, published=always, creator=nobody, **consumed)


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
    config: EnvConfig, logs: Logs, items: Items, phrase_vectors: npt.NDArray[np.float32]
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
        phrase_vectors,
        scratch,
    )
    start_session(histories)
    return histories
