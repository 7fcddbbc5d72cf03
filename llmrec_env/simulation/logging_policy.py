"""Logged interactions of every user before the first session, under a logging policy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.config import EnvConfig
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.dynamics import DYNAMICS, dynamics_table
from llmrec_env.simulation.elementary import log32
from llmrec_env.simulation.inner_products import cosines, products_with
from llmrec_env.simulation.interests import Interests
from llmrec_env.simulation.response import no_responses
from llmrec_env.simulation.table import call

SEARCHED = 400  # items among which the logging policy looks for something near an interest
SEARCH_NOISE = np.float32(0.1)
_LARGEST_TABLE = 1 << 26  # cosines of phrases and items that are computed beforehand
SEARCH_SHARE, POPULAR_SHARE = 0.5, 0.3  # of the logged slots; the rest is uniform
_RATED_SHARE = 0.55  # of the clicks

array, record, table_of = DYNAMICS.array, DYNAMICS.record, DYNAMICS.of

EVENTS = ("browse", "click", "rating", "query")

RECORD = np.dtype(
    [
        ("user", np.int64),
        ("item", np.int64),  # item id; phrase id for a query
        ("event", "U6"),
        ("value", np.float32),  # click: satisfied 1 or 0; rating: 1 to 5; otherwise 1
        ("timestamp", np.int64),  # steps, negative: before the user's first session
    ]
)


class Logs(NamedTuple):
    """Logged slates of U users, W each in order of time, K items each."""

    slates: npt.NDArray[np.int32]  # (U, W, K)
    feedback: npt.NDArray[np.int8]  # (U, W, K), of each slot: satisfied 1 or 0, -1: not clicked
    ratings: npt.NDArray[np.int32]  # (U, W), 1 to 5 of `items`, 0 where the user did not rate
    queries: npt.NDArray[np.int32]  # (U, W), phrase typed, -1 for none

    @property
    def items(self) -> npt.NDArray[np.int32]:
        """The item clicked, the last one where there are several, (U, W), -1 for none."""
        return _last(self.feedback >= 0, self.slates, -1)

    @property
    def satisfied(self) -> npt.NDArray[np.int32]:
        """Whether that item satisfied, (U, W), 0 or 1."""
        return _last(self.feedback >= 0, self.feedback, 0)

    def clicks(self, users: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """Returns (user, item, satisfied) of the clicks of these users, each (m,)."""
        row, step, slot = np.nonzero(self.feedback[users] >= 0)
        user = users[row]
        items = self.slates[user, step, slot].astype(np.int64)
        return user, items, self.feedback[user, step, slot].astype(np.int64)

    def table(self, users: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.void]:
        """Returns the records of `users` (all of them by default), in order of user and time."""
        chosen = np.arange(len(self.slates)) if users is None else users
        _, steps, slots = self.slates.shape
        u, t, _ = np.meshgrid(chosen, np.arange(steps), np.arange(slots), indexing="ij")
        shown = self.slates[chosen].ravel()
        parts = [_records(u.ravel(), shown, "browse", np.ones(shown.size), t.ravel() - steps)]
        row, step, slot = np.nonzero(self.feedback[chosen] >= 0)
        user = chosen[row]
        clicked, values = self.slates[user, step, slot], self.feedback[user, step, slot]
        parts.append(_records(user, clicked, "click", values, step - steps))
        columns = (
            ("rating", self.items, self.ratings > 0, self.ratings),
            ("query", self.queries, self.queries >= 0, np.ones_like(self.queries)),
        )
        for event, ids, occurred, value in columns:
            row, step = np.nonzero(occurred[chosen])
            user = chosen[row]
            values = value[user, step]
            parts.append(_records(user, ids[user, step], event, values, step - steps))
        table = np.concatenate(parts)
        return table[np.lexsort((table["timestamp"], table["user"]))]


def _last(
    clicked: npt.NDArray[np.bool_], values: npt.NDArray[np.signedinteger], none: int
) -> npt.NDArray[np.int32]:
    """The value of the last slot that was clicked, (U, W)."""
    slot = clicked.shape[2] - 1 - clicked[:, :, ::-1].argmax(axis=2)
    last = np.take_along_axis(values, slot[:, :, None], axis=2)[:, :, 0]
    return np.where(clicked.any(axis=2), last, none).astype(np.int32)


def _records(
    users: npt.NDArray[np.int64],
    items: npt.NDArray[np.integer],
    event: str,
    values: npt.NDArray[np.generic],
    timestamps: npt.NDArray[np.int64],
) -> npt.NDArray[np.void]:
    records = np.empty(len(users), RECORD)
    columns = (users, items, event, values, timestamps)
    for name, column in zip(RECORD.names or (), columns, strict=True):
        records[name] = column
    return records


def split_of(users: npt.NDArray[np.int64], split: str) -> npt.NDArray[np.bool_]:
    """Says which user ids belong to a split: ids ending in 8 validation, in 9 test, else train."""
    last = users % 10
    masks = {"train": last < 8, "validation": last == 8, "test": last == 9, "all": last >= 0}
    return masks[split]


class Shelf(NamedTuple):
    """Items in order of publication: those that exist at a step are the first ones."""

    order: npt.NDArray[np.int32]  # (items,), ids; their own order where items do not age
    place: npt.NDArray[np.int32]  # (items,), of each id in `order`
    published: npt.NDArray[np.int32]  # (items,), steps in that order
    popular: npt.NDArray[np.float64]  # (items,), cumulative probabilities in that order


def shelf_of(traits: npt.NDArray[np.void]) -> Shelf:
    """Returns the items of these traits in order of publication."""
    order = np.argsort(traits["published"], kind="stable")
    popular = np.cumsum(portable_math.exp(0.5 * traits["quality"][order]))
    return Shelf(
        order.astype(np.int32),
        np.argsort(order, kind="stable").astype(np.int32),
        traits["published"][order],
        popular / popular[-1],
    )


class Search(NamedTuple):
    """Working memory of a search among random items."""

    items: npt.NDArray[np.int32]  # (n,)
    scores: npt.NDArray[np.float32]  # (n rounded up to 16,)
    uniforms: npt.NDArray[np.float32]  # (n,), in (0, 1)
    best: npt.NDArray[np.float32]  # (k,), scores of the results


@kernel
def new_search(n, k):
    """Returns working memory for a search of k results among n items."""
    return Search(
        np.empty(n, np.int32),
        np.empty((n + 15) // 16 * 16, np.float32),
        np.empty(n, np.float32),
        np.empty(k, np.float32),
    )


@kernel
def search_items(vectors, phrases, table, phrase, key, search, results, existing):
    """Writes the items nearest to a phrase, with some noise, among a few hundred random ones.

    Args:
        table: cosines of phrases and items, (phrases, items), or empty.
        search: working memory.
        results: receives item ids, best first, (k,).
        existing: ids of the items that are published.
    """
    items, scores, uniforms, best = search
    for c in range(items.shape[0]):
        items[c], uniforms[c] = noise.item_and_uniform(
            key, noise.LOGGED_SLATE + 64 + c, existing.shape[0]
        )
        items[c] = existing[items[c]]
    if table.shape[0] > 0:
        for c in range(items.shape[0]):
            scores[c] = table[phrase, items[c]]
    else:
        products_with(phrases[phrase], vectors, items, scores)
    for c in range(items.shape[0]):  # Gumbel noise
        scores[c] -= SEARCH_NOISE * log32(-log32(uniforms[c]))
    best[:] = -np.inf
    for c in range(items.shape[0]):
        k = results.shape[0] - 1
        if scores[c] > best[k]:  # the earlier one of two equal ones stays
            while k > 0 and scores[c] > best[k - 1]:
                best[k], results[k] = best[k - 1], results[k - 1]
                k -= 1
            best[k], results[k] = scores[c], items[c]


@kernel
def logged_slate(user, interests, vectors, table, shelf, key, search, results, slate):
    """Writes what the logging policy shows: search results for one interest, popular, random items.

    Args:
        table: cosines of phrases and items, (phrases, items), or empty.
        shelf: the items.
        search: working memory.
        results: scratch, (k,).
    """
    count = np.searchsorted(shelf.published, user.step, side="right")
    order, popular = shelf.order[:count], shelf.popular[:count]
    slot = noise.below(key, noise.LOGGED_SLATE, user.slots)
    while user.active[slot] == 0:
        slot = (slot + 1) % user.slots
    phrase = user.phrase[slot]
    search_items(vectors, interests.vectors, table, phrase, key, search, results, order)
    for k in range(slate.shape[0]):
        source = noise.uniform(key, noise.LOGGED_SLATE + 1 + k)
        quantile = noise.uniform(key, noise.LOGGED_SLATE + 24 + k)
        if source < SEARCH_SHARE:
            place = np.int64(shelf.place[results[k]])
        elif source < SEARCH_SHARE + POPULAR_SHARE:
            place = min(np.searchsorted(popular, quantile * popular[-1]), count - 1)
        else:
            place = min(int(quantile * count), count - 1)
        on_slate = True
        while on_slate:
            on_slate = False
            for earlier in range(k):
                if slate[earlier] == order[place]:
                    on_slate, place = True, (place + 1) % count
        slate[k] = order[place]


@kernel
def rating_of(satisfied, key):
    """Returns 4 or 5 for a satisfied click, 1 to 3 for another, 0 where the user did not rate."""
    if noise.uniform(key, noise.LOGGED_SLATE + 48) >= _RATED_SHARE:
        return 0
    if satisfied == 1:
        return 4 + noise.below(key, noise.LOGGED_SLATE + 49, 2)
    return 1 + noise.below(key, noise.LOGGED_SLATE + 49, 3)


@kernel
def warm_up(words, interests, cosines, shelf, logs):
    """Plays W logged slates with every user, without churn, and writes them down.

    Args:
        words: a table of DYNAMICS, of whose responses the first is scratch.
        interests: fields of the table as Interests.
        cosines: of phrases and items, (phrases, items), or empty.
        shelf: the items.
        logs: receives what happened.
    """
    table = table_of(words)
    vectors, response = array(table, "vectors"), record(table, "responses", 0)
    k, steps = response.slots, logs.slates.shape[1]
    results, search = np.empty(k, np.int32), new_search(min(SEARCHED, vectors.shape[0]), k)
    for i in range(logs.slates.shape[0]):
        user = record(table, "users", i)
        user.step = -steps
        for t in range(steps):
            key, slate = noise.step_key(user.noise_key, user.step), response.slate[:k]
            logged_slate(user, interests, vectors, cosines, shelf, key, search, results, slate)
            call(table.react, table, i)
            for slot in range(k):
                logs.slates[i, t, slot] = slate[slot]
                logs.feedback[i, t, slot] = response.feedback[slot]
            logs.ratings[i, t] = rating_of(response.satisfied, key) if response.item >= 0 else 0
            logs.queries[i, t] = response.query
        user.step, user.last_switch = 0, -1


def write_logs(
    config: EnvConfig,
    users: npt.NDArray[np.void],
    params: npt.NDArray[np.void],
    interests: Interests,
    vectors: npt.NDArray[np.float32],
    traits: npt.NDArray[np.void],
) -> Logs:
    """Returns the logs of all users, and advances `users` to the start of their sessions."""
    n, steps, k = len(users), config.warmup_slates, config.slate_size
    logs = Logs(
        slates=np.empty((n, steps, k), np.int32),
        feedback=np.empty((n, steps, k), np.int8),
        ratings=np.empty((n, steps), np.int32),
        queries=np.empty((n, steps), np.int32),
    )
    table_of_cosines = phrase_item_cosines(interests.vectors, vectors)
    response = np.broadcast_to(no_responses(1, k), n)  # the same one of every user
    table = dynamics_table(users, response, params, interests, vectors, traits)
    warm_up(table.words, interests, table_of_cosines, shelf_of(traits), logs)
    return logs


def phrase_item_cosines(
    phrases: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Cosines of phrases and items, (phrases, items); (0, 0) where they would fill the memory."""
    if len(phrases) * len(vectors) > _LARGEST_TABLE:
        return np.empty((0, 0), np.float32)
    table = np.empty((len(phrases), len(vectors)), np.float32)
    ids = np.arange(len(phrases), dtype=np.int32), np.arange(len(vectors), dtype=np.int32)
    cosines(ids[0], phrases, ids[1], vectors, table)
    return table
