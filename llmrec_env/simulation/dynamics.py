"""HIDDEN: response of a user to a slate, and the change that follows: one stage of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation import instructions, noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.interests import Interests
from llmrec_env.simulation.records import aligned
from llmrec_env.simulation.response import (
    PARAMETERS,
    RESPONSE,
    TRAITS,
    Scratch,
    new_scratch,
    respond,
    satisfy,
)
from llmrec_env.simulation.table import Layout, Table
from llmrec_env.simulation.user_record import USER
from llmrec_env.simulation.users import compare, evolve

DYNAMICS = Layout(
    arrays={
        "vectors": (np.float32, 2),  # of the items
        "traits": (TRAITS, 1),
        "phrases": (np.float32, 2),  # fields of Interests
        "neighbours": (np.int32, 2),
        "topic_start": (np.int32, 1),
        "community_topics": (np.int32, 2),
        "weights": (np.float32, 1),  # fields of Scratch
        "affinity": (np.float32, 2),
        "relevance": (np.float32, 1),
        "satiation": (np.float32, 1),
        "odds": (np.float32, 1),
        "logits": (np.float64, 1),
        "change": (np.float32, 1),
        "slate_mean": (np.float32, 1),
        "slots": (np.int32, 1),
        "chances": (np.float64, 1),  # (n,), P(z = 1) by a response model; empty without one
    },
    records={"users": USER, "responses": RESPONSE, "params": PARAMETERS},
    numbers=("react", "instruct", "consume"),  # the stages
)
"""What the dynamics read and write: all of it hidden, but for the items' vectors."""
array, record = DYNAMICS.array, DYNAMICS.record


def dynamics_table(
    users: npt.NDArray[np.void],
    responses: npt.NDArray[np.void],
    params: npt.NDArray[np.void],
    interests: Interests,
    vectors: npt.NDArray[np.float32],
    traits: npt.NDArray[np.void],
    chances: npt.NDArray[np.float64] | None = None,
) -> Table:
    """Returns the table of a world and of these users, with working memory of its own.

    Args:
        users: hidden state, (n,) records.
        responses: (n,) records.
        params: of the dynamics, (1,).
        interests: what they can be.
        vectors: of the items.
        traits: of the items.
        chances: where to read P(z = 1) of what each user consumes, (n,); None: as built in.
    """
    table = Table(DYNAMICS)
    table.enter(users=users, responses=responses, params=params, vectors=vectors, traits=traits)
    phrases, neighbours, topic_start, community_topics = interests
    table.enter(phrases=phrases, neighbours=neighbours)
    table.enter(topic_start=topic_start, community_topics=community_topics)
    allocate: Any = new_scratch  # not compiled for one call
    scratch = allocate.py_func(responses.dtype["slate"].shape[0], vectors.shape[1])
    table.enter(**{name: aligned(part) for name, part in scratch._asdict().items()})
    if chances is not None:
        table.enter(chances=chances)
        table.enter_stages(react=react_as_judged, consume=consume)
    else:
        table.enter_stages(react=react)
    instructs = params["instruct_rate"][0] > 0.0
    return table.enter_stages(instruct=instruct if instructs else None)


@inlined
def scratch_of(table):
    """Returns the working memory of a table, as Scratch."""
    return Scratch(
        array(table, "weights"),
        array(table, "affinity"),
        array(table, "relevance"),
        array(table, "satiation"),
        array(table, "odds"),
        array(table, "logits"),
        array(table, "change"),
        array(table, "slate_mean"),
        array(table, "slots"),
    )


@inlined
def interests_of(table):
    """Returns what interests can be, as Interests."""
    return Interests(
        array(table, "phrases"),
        array(table, "neighbours"),
        array(table, "topic_start"),
        array(table, "community_topics"),
    )


@inlined
def respond_and_change(table, i, judged, changes):
    """Lets user i respond to the slate of response i, and change.

    Args:
        table: of DYNAMICS.
        i: the user.
        judged: whether the item satisfies is drawn with the chance in the table.
        changes: False: the response alone.
    """
    user, response = record(table, "users", i), record(table, "responses", i)
    params, scratch = record(table, "params", 0), scratch_of(table)
    vectors, traits, interests = (
        array(table, "vectors"),
        array(table, "traits"),
        interests_of(table),
    )
    key, slate = noise.step_key(user.noise_key, user.step), response.slate[: response.slots]
    compare(user, interests.vectors, vectors, traits, slate, params, scratch)
    respond(user, params, vectors, traits, key, response, scratch)
    if judged:
        satisfy(array(table, "chances")[i], key, response, scratch)
    if changes:
        evolve(user, params, interests, vectors, traits, scratch, key, response)


@kernel
def react(table, i):
    """Lets user i respond to the slate of response i, and change."""
    respond_and_change(table, i, False, True)
    return 0


@kernel
def react_as_judged(table, i):
    """The same, and a response model has said with what chance the item consumed satisfies."""
    respond_and_change(table, i, True, True)
    return 0


@kernel
def consume(table, i):
    """Writes what user i will consume of the slate of response i, and changes no user."""
    respond_and_change(table, i, False, False)
    return 0


@kernel
def instruct(table, i):
    """Lets user i, who has responded and changed, type an instruction."""
    user, response = record(table, "users", i), record(table, "responses", i)
    key = noise.step_key(user.noise_key, user.step - 1)  # of the step that has just been
    instructions.instruct(
        user,
        record(table, "params", 0),
        array(table, "phrases"),
        array(table, "vectors"),
        array(table, "weights"),
        key,
        response,
    )
    return 0
