"""Table of a step: all arrays that the compiled step reads and writes, and the stages it calls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.actions import EXPLORE, NEAREST, PICK, RANK, Decision, query_dim
from llmrec_env.interface.candidates import FEATURES, Items
from llmrec_env.interface.history import HISTORY, HISTORY_LENGTH, RECENT_STEPS
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.simulation.compilation import inlined
from llmrec_env.simulation.dynamics import DYNAMICS
from llmrec_env.simulation.response import PARAMETERS, RESPONSE
from llmrec_env.simulation.table import Layout
from llmrec_env.simulation.user_record import USER

IDLE, OBSERVE, STEP, STEP_UNOBSERVED = 0, 1, 2, 3
"""Modes of a session in `advance`: nothing, only an observation, a step and its observation, only
a step."""

STEP_TABLE = Layout(
    arrays={
        "vectors": (np.float32, 2),  # fields of Items
        "factors": (np.float32, 2),
        "popularity": (np.float32, 1),
        "substance": (np.float32, 1),
        "published": (np.int32, 1),
        "creator": (np.int32, 1),
        "newest_first": (np.int32, 1),  # ids in order of publication
        "phrases": (np.float32, 2),
        "mode": (np.int8, 1),  # fields of Buffers
        "unavailable": (np.int64, 1),
        "generation": (np.int64, 1),
        "ids": (np.int32, 2),
        "features": (np.float32, 2),  # (n, ... + c · F): of Buffers.features or .vector
        "vector": (np.float32, 2),
        "history": (np.int32, 2),
        "feedback": (np.int32, 2),
        "recent": (np.int32, 3),
        "recent_feedback": (np.int32, 3),
        "instructions": (np.int32, 3),
        "picks": (np.int64, 2),  # fields of Decision
        "plans": (np.float32, 2),
        "residuals": (np.float32, 2),
        "slate_mean": (np.float32, 1),  # scratch, (d,)
    },
    records={
        "users": USER,
        "histories": HISTORY,
        "responses": RESPONSE,
        "params": PARAMETERS,
        "dynamics": DYNAMICS.dtype,
    },
    numbers=(
        "first",  # sessions to advance: first .. last - 1
        "last",
        "impression_cap",
        "horizon",
        "ages",  # 1: items are published in the course of time
        "full_catalogue",  # 1: every item is a candidate
        "features_start",  # place of the first in a row of `features`
        "vector_length",  # components of each vector block
        "choose",  # a stage, as are those that follow; 0: none is called
        "offer",
        "describe",
        "list_events",
    ),
)
"""What a step reads and writes; what the configuration does not ask for is empty."""
array, record = STEP_TABLE.array, STEP_TABLE.record


class Buffers(NamedTuple):
    """Arrays that the compiled step reads and writes; the first axis is the session."""

    mode: npt.NDArray[np.int8]  # (n,), IDLE, OBSERVE, STEP or STEP_UNOBSERVED
    ids: npt.NDArray[np.int32]  # (n, c) candidates
    features: npt.NDArray[np.float32]  # (n, c, F), unless they are in `vector`
    vector: npt.NDArray[np.float32]  # (n, length of the observation)
    history: npt.NDArray[np.int32]  # (n, 128), newest first
    feedback: npt.NDArray[np.int32]  # (n, 128)
    recent: npt.NDArray[np.int32]  # (n, 32, K + 3), steps newest first
    recent_feedback: npt.NDArray[np.int32]  # (n, 32, K), of each slot
    instructions: npt.NDArray[np.int32]  # (n, 32, 3), steps of this session newest first


class Appearance(NamedTuple):
    """What the configuration says about the observation of a step."""

    full_catalogue: bool
    listed: bool  # the history as lists, as `dict` and `text` observations have it
    write_features: bool  # of the candidates, best recent match first
    append_features: bool  # to the vector, as `vector` observations have them
    vector_length: int  # components of each vector block

    @property
    def features_start(self) -> int:
        """Place in the vector behind the blocks and numbers of the session."""
        return len(VECTOR_BLOCKS) * self.vector_length + len(SESSION_NUMBERS)


def appearance_of(config: EnvConfig, action: int) -> Appearance:
    """Returns what the observations of a configuration hold.

    Args:
        action: PICK, RANK or NEAREST.
    """
    listed, full = config.observation != "vector", config.candidates == 0
    ordered = config.observation == "dict" or (not listed and action == PICK)
    return Appearance(
        full_catalogue=full,
        listed=listed,
        write_features=not full and ordered,  # a prompt lists candidates as they are drawn
        append_features=not listed and not full and action == PICK,
        vector_length=config.dim if listed else min(config.observation_dim, config.dim),
    )


def new_buffers(config: EnvConfig, appearance: Appearance, n: int, num_items: int) -> Buffers:
    """Returns the buffers of n sessions; what the configuration does not ask for is empty."""
    listed = appearance.listed
    several = listed and config.response == "cascade"  # items may be consumed in a step
    offered = num_items * listed if appearance.full_catalogue else config.candidates
    appended = offered * appearance.append_features
    described = offered * appearance.write_features - appended
    return Buffers(
        mode=np.full(n, IDLE, np.int8),
        ids=np.full((n, offered), -1, np.int32),
        features=np.zeros((n, described, len(FEATURES)), np.float32),
        vector=np.zeros((n, appearance.features_start + appended * len(FEATURES)), np.float32),
        history=np.full((n, HISTORY_LENGTH * listed), -1, np.int32),
        feedback=np.full((n, HISTORY_LENGTH * listed), -1, np.int32),
        recent=np.full((n, RECENT_STEPS * listed, config.slate_size + 3), -1, np.int32),
        recent_feedback=np.full((n, RECENT_STEPS * several, config.slate_size), -1, np.int32),
        instructions=np.full((n, RECENT_STEPS * config.instructs(), 3), -1, np.int32),
    )


def new_decision(config: EnvConfig, action: int, n: int) -> Decision:
    """Returns room for the actions of n sessions; what the action does not use is empty."""
    return Decision(
        picks=np.zeros((n * (action == PICK), config.slate_size), np.int64),
        plans=np.zeros((n * (action == RANK), EXPLORE + 1), np.float32),
        residuals=np.zeros((n * (action == NEAREST), query_dim(config)), np.float32),
    )


@inlined
def items_of(table):
    """Returns what everybody may know about the items, as Items."""
    return Items(
        array(table, "vectors"),
        array(table, "factors"),
        array(table, "popularity"),
        array(table, "substance"),
        array(table, "published"),
        array(table, "creator"),
    )


@inlined
def next_generation(table):
    """Begins a new generation of marks: every item is available again."""
    generation = array(table, "generation")
    generation[0] += 1
    return generation[0]
