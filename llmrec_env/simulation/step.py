"""Compiled step of n sessions; `advance` reads as the data's path."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.actions import NEAREST, PICK, ActionMode, Decision, nearest, pick, rank
from llmrec_env.interface.candidates import (
    FEATURES,
    RECALLS,
    Items,
    describe,
    mark_unavailable,
    offer,
)
from llmrec_env.interface.history import (
    HISTORY_LENGTH,
    RECENT_STEPS,
    newest_first,
    newest_steps,
    recent_of,
    record,
)
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS, observe
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.inner_products import inverse_norm, row_dot
from llmrec_env.simulation.response import new_scratch, respond
from llmrec_env.simulation.users import Interests, compare, evolve, tire

IDLE, OBSERVE, STEP, STEP_UNOBSERVED = 0, 1, 2, 3
"""Modes of a session in `advance`: nothing, only an observation, a step and its observation, only
a step."""

SETTINGS = np.dtype(
    [
        ("action", np.int64),  # PICK, RANK or NEAREST
        ("recall", np.int64),  # UNIFORM or TWO_STAGE
        ("impression_cap", np.int64),
        ("horizon", np.int64),
        ("full_catalogue", np.int64),  # 1: every item is a candidate
        ("sort_candidates", np.int64),  # 1: best recent match first
        ("write_features", np.int64),  # 1: of the candidates
        ("append_features", np.int64),  # 1: to the vector, as `vector` observations have them
        ("list_history", np.int64),  # 1: as `dict` observations have it
        ("vector_length", np.int64),  # components of each vector block
    ]
)
"""What the configuration says about the interface of a step: one record, never written."""


class Buffers(NamedTuple):
    """Arrays that the compiled step reads and writes; the first axis is the session."""

    mode: npt.NDArray[np.int8]  # (n,), IDLE, OBSERVE, STEP or STEP_UNOBSERVED
    unavailable: npt.NDArray[np.int64]  # (items,), generation that last marked the item
    generation: npt.NDArray[np.int64]  # (1,), of the marks; a new one for each use of them
    ids: npt.NDArray[np.int32]  # (n, c) candidates
    features: npt.NDArray[np.float32]  # (n, c, F)
    vector: npt.NDArray[np.float32]  # (n, length of the observation)
    history: npt.NDArray[np.int32]  # (n, 128), newest first
    feedback: npt.NDArray[np.int32]  # (n, 128)
    recent: npt.NDArray[np.int32]  # (n, 32, K + 3), steps newest first
    recent_feedback: npt.NDArray[np.int32]  # (n, 32, K), of each slot


@kernel
def advance(
    items, interests, traits, params, settings, users, histories, responses, buffers, decision
):
    """Advances every session by one step, or as its mode says, and shows what comes next.

    A plain loop over users: the bits of one session do not depend on the others.

    Args:
        items: fields of Items as a plain tuple, which passes in half the time of a named one; so
            are interests, buffers and decision.
        interests: fields of Interests.
        traits: hidden traits of the items, (items,).
        params: parameters of the dynamics, (1,).
        settings: see SETTINGS, (1,).
        users: hidden state, (n,).
        histories: public histories, (n,).
        responses: receives the responses, (n,).
        buffers: fields of Buffers.
        decision: fields of Decision.
    """
    items, interests = Items(*items), Interests(*interests)
    buffers, decision = Buffers(*buffers), Decision(*decision)
    settings, params = settings[0], params[0]
    vectors, factors, phrases = items.vectors, items.factors, interests.vectors
    scratch = new_scratch(responses[0].slots, vectors.shape[1])
    for i in range(users.shape[0]):
        user, history, response, mode = users[i], histories[i], responses[i], buffers.mode[i]
        if mode == STEP or mode == STEP_UNOBSERVED:
            key = noise.step_key(user.noise_key, user.step)
            slate = response.slate[: response.slots]
            choose_slate(i, settings, items, history, buffers, decision, key, slate)
            compare(user, phrases, vectors, traits, slate, params, scratch)
            respond(user, params, vectors, traits, key, response, scratch)  # feedback
            score_as_observed(history, vectors, params, response)
            evolve(user, params, interests, vectors, traits, scratch, key, response)  # user, born
            tire(user, params, response)  # patience, terminated, truncated
            record(history, vectors, factors, phrases, response, scratch.slate_mean)  # history
        if mode == STEP or mode == OBSERVE:
            show(i, settings, items, phrases, user, history, buffers)  # buffers: ids, vector, ...


@inlined
def next_generation(buffers):
    """Begins a new generation of marks: every item is available again."""
    buffers.generation[0] += 1
    return buffers.generation[0]


@inlined
def choose_slate(i, settings, items, history, buffers, decision, key, slate):
    """Reads the action of session i as a slate of item ids."""
    generation = next_generation(buffers)
    if settings.full_catalogue == 1:
        mark_unavailable(history, settings.impression_cap, buffers.unavailable, generation)
    if settings.action == PICK:
        marks = generation if settings.full_catalogue == 1 else 0
        pick(decision.picks, i, buffers.ids, buffers.unavailable, marks, slate)
    elif settings.full_catalogue == 0:
        ids = buffers.ids[i]
        if settings.action == NEAREST:
            nearest(history, decision.residuals, i, ids, items.vectors, slate)
        else:
            rank(decision.plans, i, ids, buffers.features, i, items.vectors, key, slate)
    else:
        search(i, settings, items, history, buffers, decision, key, slate)


@kernel
def search(i, settings, items, history, buffers, decision, key, slate):
    """Chooses a slate from the full catalogue, for the actions that say what to look for."""
    ids = np.flatnonzero(buffers.unavailable != buffers.generation[0]).astype(np.int32)
    if settings.action == NEAREST:
        nearest(history, decision.residuals, i, ids, items.vectors, slate)
    else:
        features = np.empty((1, ids.shape[0], len(FEATURES)), np.float32)
        describe(history, items, ids, features, 0)
        rank(decision.plans, i, ids, features, 0, items.vectors, key, slate)


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
def show(i, settings, items, phrases, user, history, buffers):
    """Offers candidates for the coming step and writes the observation."""
    cap, generation = settings.impression_cap, next_generation(buffers)
    ids, unavailable = buffers.ids[i], buffers.unavailable
    if settings.full_catalogue == 0:
        key = noise.step_key(user.noise_key, user.step)
        sort = settings.sort_candidates
        offer(history, items, settings.recall, cap, sort, key, unavailable, generation, ids)
    elif settings.list_history == 1:
        mark_unavailable(history, cap, unavailable, generation)
        for item in range(buffers.ids.shape[1]):
            buffers.ids[i, item] = item if unavailable[item] != generation else -1
    if settings.write_features == 1:
        describe(history, items, ids, buffers.features, i)
    length, horizon = settings.vector_length, settings.horizon
    end = observe(history, items.vectors, phrases, length, horizon, buffers.vector, i)
    if settings.append_features == 1:
        for c in range(buffers.features.shape[1]):
            for f in range(len(FEATURES)):
                buffers.vector[i, end + c * len(FEATURES) + f] = buffers.features[i, c, f]
    if settings.list_history == 1:
        newest_first(history, buffers.history, buffers.feedback, i)
        newest_steps(history, buffers.recent, buffers.recent_feedback, i)


def settings_of(config: EnvConfig, mode: ActionMode) -> npt.NDArray[np.void]:
    """Returns what a configuration says about the interface, one record, (1,)."""
    settings = np.zeros(1, SETTINGS)
    listed, full = config.observation == "dict", config.candidates == 0
    settings["action"], settings["recall"] = mode.kind, RECALLS[config.recall]
    settings["impression_cap"] = config.effective().impression_cap
    settings["horizon"] = config.horizon
    settings["full_catalogue"], settings["list_history"] = full, listed
    settings["vector_length"] = config.dim if listed else min(config.observation_dim, config.dim)
    settings["append_features"] = not listed and not full and mode.kind == PICK
    settings["sort_candidates"] = listed or mode.kind == PICK  # others never name one by its index
    settings["write_features"] = not full and (listed or mode.kind != NEAREST)
    return settings


def new_buffers(config: EnvConfig, settings: np.void, n: int, num_items: int) -> Buffers:
    """Returns the buffers of n sessions; what the configuration does not ask for is empty."""
    full, listed = bool(settings["full_catalogue"]), bool(settings["list_history"])
    several = listed and config.response == "cascade"  # items may be consumed in a step
    offered = config.candidates if not full else num_items * listed
    described = offered if settings["write_features"] else 0
    length = len(VECTOR_BLOCKS) * int(settings["vector_length"]) + len(SESSION_NUMBERS)
    if settings["append_features"]:
        length += described * len(FEATURES)
    return Buffers(
        mode=np.full(n, IDLE, np.int8),
        unavailable=np.zeros(num_items, np.int64),
        generation=np.zeros(1, np.int64),
        ids=np.full((n, offered), -1, np.int32),
        features=np.zeros((n, described, len(FEATURES)), np.float32),
        vector=np.zeros((n, length), np.float32),
        history=np.full((n, HISTORY_LENGTH if listed else 0), -1, np.int32),
        feedback=np.full((n, HISTORY_LENGTH if listed else 0), -1, np.int32),
        recent=np.full((n, RECENT_STEPS * listed, config.slate_size + 3), -1, np.int32),
        recent_feedback=np.full((n, RECENT_STEPS * several, config.slate_size), -1, np.int32),
    )
