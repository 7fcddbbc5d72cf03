"""Compiled step of n sessions; `advance` reads as the data's path."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec_env.interface.actions import NEAREST, PICK, RANK
from llmrec_env.interface.history import HISTORY, recent_of
from llmrec_env.interface.history import record as remember
from llmrec_env.interface.instructions import push
from llmrec_env.interface.observation import observe
from llmrec_env.simulation import stages
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.inner_products import inverse_norm, row_dot
from llmrec_env.simulation.step_table import (
    OBSERVE,
    STEP,
    STEP_TABLE,
    STEP_UNOBSERVED,
    Appearance,
    array,
    record,
)
from llmrec_env.simulation.table import call, prefetch
from llmrec_env.simulation.users import tire

_AHEAD = 2
"""Sessions between asking the memory for a user's records and their use."""
_HISTORY_SIZE = HISTORY.itemsize
table_of = STEP_TABLE.of


@kernel
def advance(words):
    """Advances sessions by one step, or as their modes say, and shows what comes next.

    A plain loop over users: the bits of one session do not depend on the others.

    Args:
        words: a table of STEP_TABLE.
    """
    table = table_of(words)
    for i in range(table.first, table.last):
        mode = array(table, "mode")[i]
        look_ahead(table, i)
        if mode == STEP or mode == STEP_UNOBSERVED:
            call(table.choose, table, i)  # response: slate
            dynamics = record(table, "dynamics", 0)
            call(dynamics.react, dynamics, i)  # response: feedback; user
            note(table, i)  # user: patience; response: terminated, truncated; history
            if dynamics.instruct != 0:
                call(dynamics.instruct, dynamics, i)  # response: instruction
                push(record(table, "responses", i), array(table, "instructions"), i)
        if mode == STEP or mode == OBSERVE:
            show(table, i)  # buffers: ids, vector, ...


@kernel
def preview(words):
    """Writes the slates of the sessions that step, and what their users will consume of them.

    No user changes: `advance` comes to the same slates and choices after it.

    Args:
        words: a table of STEP_TABLE.
    """
    table = table_of(words)
    for i in range(table.first, table.last):
        mode = array(table, "mode")[i]
        if mode == STEP or mode == STEP_UNOBSERVED:
            call(table.choose, table, i)  # response: slate
            dynamics = record(table, "dynamics", 0)
            call(dynamics.consume, dynamics, i)  # response: choice, item


@inlined
def note(table, i):
    """Ends the session of a user who has had enough, and writes the step into the history."""
    user, response = record(table, "users", i), record(table, "responses", i)
    history, params = record(table, "histories", i), record(table, "params", 0)
    vectors, slate_mean = array(table, "vectors"), array(table, "slate_mean")
    score_as_observed(history, vectors, params, response)
    tire(user, params, response)
    remember(
        history, vectors, array(table, "factors"), array(table, "phrases"), response, slate_mean
    )


@inlined
def score_as_observed(history, vectors, params, response):
    """Writes the sum of z f(v, y) with the v that the agent observed when it acted."""
    response.satisfied_observed_relevance, recent = 0.0, recent_of(history)
    for k in range(response.choice + 1):
        if response.feedback[k] == 1:
            product = row_dot(recent, vectors, response.slate[k])
            cosine = max(inverse_norm(recent) * product, np.float32(0.0))
            response.satisfied_observed_relevance += cosine / params.scale


@inlined
def show(table, i):
    """Offers candidates for the coming step and writes the observation."""
    if table.offer != 0:
        call(table.offer, table, i)
    if table.describe != 0:
        call(table.describe, table, i)
    history, vectors, phrases = (
        record(table, "histories", i),
        array(table, "vectors"),
        array(table, "phrases"),
    )
    vector = array(table, "vector")
    observe(history, vectors, phrases, table.vector_length, table.horizon, vector, i)
    if table.list_events != 0:
        call(table.list_events, table, i)


@inlined
def look_ahead(table, i):
    """Asks the memory for what the next sessions need: their records, and rows of vectors."""
    last = table.last - 1
    if i < last:
        far, near = min(i + _AHEAD, last), i + 1
        users, histories, responses = table.users, table.histories, table.responses
        prefetch(users[0] + far * users[1], users[1])
        prefetch(responses[0] + far * responses[1], responses[1])
        row, shown = 4 * table.vectors[2], record(table, "histories", i).cap_slots
        start = histories[0] + far * histories[1]
        prefetch(start, 192)  # the fixed part without its rings
        prefetch(start + _HISTORY_SIZE, 4 * row + 4 * shown)
        prefetch(start + histories[1] - 512, 512)
        user, vectors, phrases = record(table, "users", near), table.vectors, table.phrases
        for p in range(user.slots):
            prefetch(phrases[0] + row * user.phrase[p], row)
        picks, ids = array(table, "picks"), array(table, "ids")
        if picks.shape[0] > 0:
            for k in range(picks.shape[1]):
                item = picks[near, k]
                if table.full_catalogue == 0:
                    item = ids[near, item]
                prefetch(vectors[0] + row * item, row)


def stages_of(appearance: Appearance, action: int, two_stage: bool) -> dict[str, Any]:
    """Returns the stages that a configuration needs, None where it needs none.

    Args:
        appearance: what observations hold.
        action: PICK, RANK or NEAREST.
        two_stage: candidates are recalled in two stages.
    """
    full = appearance.full_catalogue
    choices = {
        PICK: (stages.pick_of_offered, stages.pick_of_all),
        RANK: (stages.rank_offered, stages.rank_all),
        NEAREST: (stages.nearest_of_offered, stages.nearest_of_all),
    }
    offered = stages.offer_two_stage if two_stage else stages.offer_uniform
    if full:
        offered = stages.offer_all if appearance.listed else None
    return {
        "choose": choices[action][full],
        "offer": offered,
        "describe": stages.describe_offered if appearance.write_features else None,
        "list_events": stages.list_events if appearance.listed else None,
    }
