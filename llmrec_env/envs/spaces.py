"""BOUNDARY: the observation spaces, and observations as the arrays that lie in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from llmrec_env.config import EnvConfig
from llmrec_env.envs.description import text_of_session, texts_of_sessions
from llmrec_env.envs.privileged import flat_hidden, flat_length, hidden_blocks, hidden_spaces
from llmrec_env.interface.candidates import FEATURES, blocks_added, candidate_freshness
from llmrec_env.interface.familiarity import candidate_familiarity
from llmrec_env.interface.history import HISTORY_LENGTH, QUERY, RECENT_STEPS, SATISFIED
from llmrec_env.interface.instructions import (
    BLOCKS,
    NUM_WORDINGS,
    WORDINGS,
    instruction_blocks,
)
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS, named_blocks
from llmrec_env.interface.text_answer import PROBLEMS
from llmrec_env.interface.text_prompt import Prompt
from llmrec_env.simulation.simulator import TRANSITION_FIELDS, USER_FIELDS, Simulator

Observation = npt.NDArray[np.float32] | dict[str, Any] | str | tuple[str, ...]


def observation_space(simulator: Simulator) -> spaces.Space[Any]:
    """Returns the observation space of one session: flat Box, Dict of named blocks, or Text."""
    config, buffers = simulator.config, simulator.buffers
    if simulator.prompt_writer:
        return simulator.prompt_writer.space()
    if config.observation == "vector":
        bounds = np.full(buffers.vector.shape[1], _BOUND, np.float32)
        added = added_length(config) + instruction_length(config)
        bounds = np.append(bounds, np.full(added, _BOUND, np.float32))
        bounds = np.append(bounds, np.full(flat_length(config), np.inf, np.float32))
        return spaces.Box(-bounds, bounds, dtype=np.float32)
    num_items = len(simulator.world.catalog)
    last_id = max(num_items, len(simulator.world.phrases.texts)) - 1
    blocks: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(-_BOUND, _BOUND, (config.dim,), np.float32) for name in VECTOR_BLOCKS
    }
    blocks["session"] = spaces.Box(0.0, 1.0, (len(SESSION_NUMBERS),), np.float32)
    blocks["user_id"] = spaces.Discrete(config.num_users)
    blocks["candidates"] = spaces.Box(-1, num_items - 1, buffers.ids.shape[1:], np.int32)
    if config.candidates:
        shape = (config.candidates, len(FEATURES))
        blocks["candidate_features"] = spaces.Box(-_BOUND, _BOUND, shape, np.float32)
    for name in blocks_added(config):
        blocks[name] = spaces.Box(0.0, 1.0, buffers.ids.shape[1:], np.float32)
    blocks["history"] = spaces.Box(-1, last_id, (HISTORY_LENGTH,), np.int32)
    blocks["history_feedback"] = spaces.Box(-1, QUERY, (HISTORY_LENGTH,), np.int32)
    steps, last_phrase = (RECENT_STEPS,), len(simulator.world.phrases.texts) - 1
    slates = (RECENT_STEPS, config.slate_size)
    blocks["recent_slates"] = spaces.Box(-1, num_items - 1, slates, np.int32)
    blocks["recent_items"] = spaces.Box(-1, num_items - 1, steps, np.int32)
    blocks["recent_satisfied"] = spaces.Box(-1, SATISFIED, steps, np.int32)
    blocks["recent_queries"] = spaces.Box(-1, last_phrase, steps, np.int32)
    if config.response == "cascade":
        blocks["recent_feedback"] = spaces.Box(-1, SATISFIED, slates, np.int32)
    if config.instructs():
        blocks |= _instruction_spaces(simulator)
    if config.privileged_observation:
        blocks |= hidden_spaces(simulator)
    return spaces.Dict(blocks)


_BOUND = 1.0 + 1e-3  # cosines and unit vectors, and what rounding adds


def observation_of(simulator: Simulator, sessions: Any) -> Observation:
    """Returns copies of the observations of sessions: an index gives one, a slice gives a batch."""
    buffers, config = simulator.buffers, simulator.config
    if config.observation == "text":
        prompts = simulator.prompts[sessions]
        return prompts.text if isinstance(prompts, Prompt) else tuple(p.text for p in prompts)
    hidden = hidden_blocks(simulator, sessions) if config.privileged_observation else {}
    if config.observation == "vector":
        vector = buffers.vector[sessions].copy()
        for name in blocks_added(config) if added_length(config) else ():
            vector = np.append(vector, _ADDED[name](simulator, sessions), axis=-1)
        if config.instructs():
            leading = leading_numbers(_instructions(simulator, sessions), config)
            vector = np.append(vector, leading, axis=-1)
        return np.append(vector, flat_hidden(hidden, config), axis=-1) if hidden else vector
    blocks = named_blocks(
        buffers.vector[sessions],
        buffers.history[sessions],
        buffers.feedback[sessions],
        buffers.recent[sessions],
        buffers.recent_feedback[sessions] if config.response == "cascade" else None,
    )
    blocks["user_id"] = simulator.users["user_id"][sessions].copy()
    blocks["candidates"] = buffers.ids[sessions].copy()
    if config.candidates:
        blocks["candidate_features"] = buffers.features[sessions].copy()
    for name in blocks_added(config):
        blocks[name] = _ADDED[name](simulator, sessions)
    if config.instructs():
        blocks |= _instructions(simulator, sessions)
        blocks["recent_instructions"] = buffers.instructions[sessions].copy()
    return blocks | hidden


def added_length(config: EnvConfig) -> int:
    """Returns how many numbers the blocks that mechanisms add have in a `vector` observation."""
    shown = config.action in ("slate", "item", "text")
    return config.candidates * len(blocks_added(config)) * shown


def instruction_length(config: EnvConfig) -> int:
    """Returns how many numbers of a `vector` observation tell what instructions were typed."""
    return config.instructs() * (2 * min(config.observation_dim, config.dim) + 1)


def leading_numbers(blocks: Mapping[str, Any], config: EnvConfig) -> npt.NDArray[np.float32]:
    """Returns what a `vector` observation tells of instructions, (..., `instruction_length`)."""
    parts = [blocks[name][..., : config.observation_dim] for name in BLOCKS]
    return np.concatenate(parts, axis=-1)


def _instruction_spaces(simulator: Simulator) -> dict[str, spaces.Space[Any]]:
    dim, last_phrase = simulator.config.dim, len(simulator.world.phrases.texts) - 1
    lengths = dict(zip(BLOCKS, (dim, dim, 1), strict=True))
    blocks: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(-_BOUND, _BOUND, (length,), np.float32) for name, length in lengths.items()
    }
    last = np.tile(np.array([len(WORDINGS), last_phrase + 1, NUM_WORDINGS]) - 1, (RECENT_STEPS, 1))
    low = np.full_like(last, -1)
    blocks["recent_instructions"] = spaces.Box(
        low.astype(np.int32), last.astype(np.int32), dtype=np.int32
    )
    return blocks


def _instructions(simulator: Simulator, sessions: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the blocks of instructions: an index gives one session, a slice a batch."""
    typed = simulator.buffers.instructions[sessions]
    phrases = simulator.world.item_space.phrase_vectors
    if typed.ndim == 3:
        return instruction_blocks(typed, phrases)
    return {name: block[0] for name, block in instruction_blocks(typed[None], phrases).items()}


def _freshness(simulator: Simulator, sessions: Any) -> npt.NDArray[np.float32]:
    """Returns the freshness of the candidates: an index gives one session, a slice a batch."""
    ids, steps = simulator.buffers.ids[sessions], simulator.histories["step"][sessions]
    half_life = simulator.config.freshness_half_life
    items = simulator.world.items
    return candidate_freshness(items, np.atleast_2d(ids), np.atleast_1d(steps), half_life).reshape(
        ids.shape
    )


def _familiarity(simulator: Simulator, sessions: Any) -> npt.NDArray[np.float32]:
    """Returns the familiarity with the candidates' creators, of one session or a batch."""
    ids, histories = simulator.buffers.ids[sessions], simulator.histories[sessions]
    creator = simulator.world.items.creator
    some = np.atleast_1d(np.asarray(histories, simulator.histories.dtype))
    return candidate_familiarity(some, creator, np.atleast_2d(ids)).reshape(ids.shape)


_ADDED = {"candidate_freshness": _freshness, "candidate_familiarity": _familiarity}


def info_of(simulator: Simulator, session: int) -> dict[str, Any]:
    """Returns the last transition of one session, and hidden truth for evaluation."""
    response, user = simulator.transition_info.item(session), simulator.user_info.item(session)
    info = dict(zip(_NUMBERS, (*response, *user), strict=True))
    for name, rows in simulator.slot_info.items():
        info[name] = rows[session].copy()
    info |= {name: column[session] for name, column in _text_columns(simulator).items()}
    return info | text_of_session(simulator, session) if simulator.config.info_texts else info


def infos_of(simulator: Simulator, sessions: Any) -> dict[str, Any]:
    """Returns the same of several sessions, as arrays over all of them with masks of who has it."""
    infos: dict[str, Any] = {}
    has = np.zeros(simulator.n, np.bool_)
    has[sessions] = True
    absent = np.flatnonzero(~has)
    columns = {name: simulator.responses[name] for name in TRANSITION_FIELDS}
    columns |= {name: simulator.users[name] for name in USER_FIELDS}
    slots = simulator.slot_info
    columns |= slots
    for name, column in columns.items():
        infos[name] = column.astype(column.dtype if name in slots else _KINDS[column.dtype.kind])
        if len(absent):
            infos[name][absent] = 0
        infos[f"_{name}"] = has.copy()
    for name, values in _text_columns(simulator).items():
        is_number = isinstance(values[0], int)
        infos[name] = np.array(values, np.int64 if is_number else object)
        infos[name][absent] = 0 if is_number else None
        infos[f"_{name}"] = has.copy()
    if simulator.config.info_texts:
        for name, texts in texts_of_sessions(simulator, sessions).items():
            infos[name], infos[f"_{name}"] = texts, has.copy()
    return infos


def _text_columns(simulator: Simulator) -> dict[str, list[Any]]:
    """What `info` tells of prompts and answers, a value a session."""
    columns: dict[str, list[Any]] = {}
    if simulator.config.observation == "text":
        for name in ("cut_steps", "cut_items", "cut_titles"):
            columns[name] = [getattr(prompt, name) for prompt in simulator.prompts]
    if simulator.config.action == "text":
        codes = simulator.parse_problems.tolist()
        columns["parse_error"] = [int(code > 0) for code in codes]
        columns["parse_problem"] = [PROBLEMS[code] for code in codes]
    return columns


_NUMBERS = (*TRANSITION_FIELDS, *USER_FIELDS)
_KINDS = {"i": np.int64, "f": np.float64}  # what Gymnasium makes of Python numbers
