"""Stages of a step of which a configuration chooses: how actions are read, and what is shown.

Each is compiled where a configuration first needs it. It takes the table of the step and the number
of a session, and returns 0.
"""

from __future__ import annotations

import numpy as np

from llmrec_env.interface.actions import nearest, pick, rank
from llmrec_env.interface.added_terms import added_terms
from llmrec_env.interface.candidates import (
    describe,
    mark_unavailable,
    mark_unpublished,
    recall_two_stage,
    recall_uniform,
)
from llmrec_env.interface.history import newest_first, newest_steps
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.step_table import array, items_of, next_generation, record


@inlined
def step_key_of(table, i):
    """Returns the noise key of the coming step of session i."""
    user = record(table, "users", i)
    return noise.step_key(user.noise_key, user.step)


@inlined
def slate_of(table, i):
    """Returns the slate of session i, to be written, (k,)."""
    response = record(table, "responses", i)
    return response.slate[: response.slots]


@kernel
def mark(table, i):
    """Marks the items that may not be offered to session i, and returns the marks' generation."""
    generation = next_generation(table)
    history, unavailable = record(table, "histories", i), array(table, "unavailable")
    mark_unavailable(history, table.impression_cap, unavailable, generation)
    if table.ages != 0:
        published, newest_first = array(table, "published"), array(table, "newest_first")
        mark_unpublished(history, published, newest_first, unavailable, generation)
    return generation


@kernel
def pick_of_offered(table, i):
    """Writes the slate of the candidates that the action names by their indices."""
    pick(array(table, "picks"), i, array(table, "ids"), slate_of(table, i))
    return 0


@kernel
def pick_of_all(table, i):
    """Writes the slate of the items that the action names by their ids.

    One that is not available, or on the slate already, becomes the next one that is.
    """
    picks, slate, generation = array(table, "picks"), slate_of(table, i), mark(table, i)
    unavailable = array(table, "unavailable")
    for k in range(slate.shape[0]):
        item = picks[i, k]
        while unavailable[item] == generation:
            item = item + 1 if item + 1 < unavailable.shape[0] else 0
        slate[k] = item
        unavailable[item] = generation
    return 0


@inlined
def rank_among(table, i, ids):
    """Writes the slate that ranks highest among items, (c,)."""
    history, items = record(table, "histories", i), items_of(table)
    terms = added_terms(history, items, record(table, "params", 0), ids)
    key, slate = step_key_of(table, i), slate_of(table, i)
    rank(history, items, array(table, "plans"), i, ids, terms, key, slate)


@inlined
def nearest_among(table, i, ids):
    """Writes the slate of the items, of (c,), nearest to the query."""
    history, items = record(table, "histories", i), items_of(table)
    terms = added_terms(history, items, record(table, "params", 0), ids)
    nearest(history, array(table, "residuals"), i, ids, items.vectors, terms, slate_of(table, i))


@kernel
def rank_offered(table, i):
    """Writes the slate that ranks highest among the candidates."""
    rank_among(table, i, array(table, "ids")[i])
    return 0


@kernel
def nearest_of_offered(table, i):
    """Writes the slate of the candidates nearest to the query."""
    nearest_among(table, i, array(table, "ids")[i])
    return 0


@kernel
def available_of(table, i):
    """Returns the ids of all items that may be offered to session i, (c,)."""
    generation, unavailable = mark(table, i), array(table, "unavailable")
    ids, count = np.empty(unavailable.shape[0], np.int32), 0
    for item in range(unavailable.shape[0]):
        ids[count] = item
        count += 1 if unavailable[item] != generation else 0
    return ids[:count]


@kernel
def rank_all(table, i):
    """Writes the slate that ranks highest in the whole catalogue."""
    rank_among(table, i, available_of(table, i))
    return 0


@kernel
def nearest_of_all(table, i):
    """Writes the slate of the items nearest to the query."""
    nearest_among(table, i, available_of(table, i))
    return 0


@kernel
def offer_uniform(table, i):
    """Offers candidates drawn uniformly."""
    generation, ids = mark(table, i), array(table, "ids")[i]
    recall_uniform(step_key_of(table, i), 0, array(table, "unavailable"), generation, ids)
    return 0


@kernel
def offer_two_stage(table, i):
    """Offers candidates as a retrieval stage would."""
    history, items, ids = record(table, "histories", i), items_of(table), array(table, "ids")[i]
    generation, unavailable = mark(table, i), array(table, "unavailable")
    recall_two_stage(history, items, step_key_of(table, i), unavailable, generation, ids)
    return 0


@kernel
def offer_all(table, i):
    """Offers the whole catalogue, -1 where an item is not available."""
    generation, unavailable, ids = mark(table, i), array(table, "unavailable"), array(table, "ids")
    for item in range(ids.shape[1]):
        ids[i, item] = item if unavailable[item] != generation else -1
    return 0


@kernel
def describe_offered(table, i):
    """Orders the candidates by cosine to the recent interest, and writes their features."""
    history, ids, features = (
        record(table, "histories", i),
        array(table, "ids")[i],
        array(table, "features"),
    )
    describe(history, items_of(table), ids, 1, features, i, table.features_start)
    return 0


@kernel
def list_events(table, i):
    """Writes the history as lists, newest first."""
    history = record(table, "histories", i)
    newest_first(history, array(table, "history"), array(table, "feedback"), i)
    newest_steps(history, array(table, "recent"), array(table, "recent_feedback"), i)
    return 0
