"""Own logs as public data: a rating or click becomes a logged step to learn from."""

from __future__ import annotations

import numpy as np

from agents.dataset import Ids
from llmrec_env.config import EnvConfig
from llmrec_env.datasets import CLICK, RATING, Records
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.world import PublicData, TextSpace, items_of


def own_data(
    records: Records,
    texts: TextSpace,
    *,
    slate_size: int = 5,
    steps: int = 50,
    threshold: float = 4.0,
    seed: int = 0,
) -> tuple[PublicData, EnvConfig]:
    """Returns public data as of an environment, and the configuration that its histories have.

    Each click or rating is a step whose slate is the item and others that the user never met, drawn
    at random: what was really shown beside it is not in such logs.

    Args:
        records: clean, with times; items are numbered as in the catalogue of `texts`.
        texts: the catalogue and its encodings.
        slate_size: items of a step.
        steps: of a user, the latest.
        threshold: ratings from there on are satisfied.
        seed: of the items drawn.

    Raises:
        ValueError: records name an item that the catalogue does not have, or have no times.
    """
    if len(records) and int(records.item.max()) >= len(texts.catalog):
        raise ValueError(
            f"records name item {int(records.item.max())}, the catalogue has "
            f"{len(texts.catalog)}; clean the records, or load the catalogue they belong to."
        )
    if records.timestamp is None:
        raise ValueError("the records have no times; load them with timestamp=COLUMN.")
    consumed = np.flatnonzero((records.event == CLICK) | (records.event == RATING))
    order = consumed[np.lexsort((records.timestamp[consumed], records.user[consumed]))]
    user, item, satisfied = records.take(order).clicks(threshold)
    rows = order[_rows_of(records, order, user, item)]
    rating = np.where(records.event[rows] == RATING, records.value[rows], 0.0)
    users, num_items = len(records.user_ids), len(texts.catalog)
    logs = _empty(users, steps, slate_size)
    generator = np.random.default_rng([seed, 3])
    bounds = np.searchsorted(user, np.arange(users + 1))  # the records are in order of user
    for row in range(users):
        own = np.arange(bounds[row], bounds[row + 1])
        met = np.unique(item[own])
        latest = own[-steps:]
        columns = slice(steps - len(latest), steps)
        slates = _slates(item[latest], met, slate_size, num_items, generator)
        clicked = slates == item[latest, None]
        logs.slates[row, columns] = slates
        logs.feedback[row, columns] = np.where(clicked, satisfied[latest, None], -1)
        stars = np.clip(np.rint(rating[latest]), 1, 5)
        logs.ratings[row, columns] = np.where(rating[latest] > 0, stars, 0)
    config = EnvConfig(
        catalog="video", dim=texts.space.dim, slate_size=slate_size, warmup_slates=steps
    )
    return _public(texts, logs, user, item, satisfied), config


def _rows_of(records: Records, order: Ids, user: Ids, item: Ids) -> Ids:
    """The last record of each (user, item), as an index into `order`."""
    pair = records.user[order] * len(records.item_ids) + records.item[order]
    last = np.argsort(pair, kind="stable")
    wanted = user * len(records.item_ids) + item
    return last[np.searchsorted(pair[last], wanted, side="right") - 1]


def _slates(
    items: Ids, met: Ids, slate_size: int, num_items: int, generator: np.random.Generator
) -> Ids:
    """A slate for each item, in any slot of it, with items that the user never met."""
    others = np.setdiff1d(np.arange(num_items), met)
    if not len(others):
        raise ValueError("a user met every item of the catalogue; add items, or drop that user.")
    slates = generator.choice(others, (len(items), slate_size))
    slates[np.arange(len(items)), generator.integers(0, slate_size, len(items))] = items
    return slates


def _empty(users: int, steps: int, slate_size: int) -> Logs:
    return Logs(
        slates=np.full((users, steps, slate_size), -1, np.int32),
        feedback=np.full((users, steps, slate_size), -1, np.int8),
        ratings=np.zeros((users, steps), np.int32),
        queries=np.full((users, steps), -1, np.int32),
    )


def _public(texts: TextSpace, logs: Logs, user: Ids, item: Ids, satisfied: Ids) -> PublicData:
    liked = satisfied == 1
    items = items_of(texts, user[liked], item[liked])
    users = np.arange(len(logs.slates))
    phrases, vectors = texts.phrases, texts.phrase_vectors
    return PublicData(texts.catalog, phrases, vectors, texts.space, items, logs, users)
