"""Simulator of n sessions, advanced together; `advance` reads as the data's path."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.actions import (
    NEAREST,
    NO_DECISION,
    PICK,
    ActionMode,
    Decision,
    nearest,
    pick,
    rank,
)
from llmrec_env.interface.candidates import (
    FEATURES,
    RECALLS,
    Items,
    describe,
    mark_unavailable,
    offer,
)
from llmrec_env.interface.documents import DocumentReader
from llmrec_env.interface.history import (
    HISTORY_LENGTH,
    RECENT_STEPS,
    newest_first,
    newest_steps,
    record,
)
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS, observe
from llmrec_env.interface.rewards import REWARDS
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, inverse_norm, kernel, row_dot
from llmrec_env.simulation.response import new_scratch, respond, response_dtype
from llmrec_env.simulation.users import MAX_SLATE, Interests, compare, evolve, interest_vector, tire
from llmrec_env.world import World, load_world

IDLE, OBSERVE, STEP, STEP_UNOBSERVED = 0, 1, 2, 3
"""Modes of a session in `advance`: nothing, only an observation, a step and its observation, only
a step."""

TRANSITION_FIELDS: tuple[str, ...] = (
    "choice",
    "item",
    "satisfied",
    "relevance",
    "died",
    "born",
    "woken",
)
USER_FIELDS: tuple[str, ...] = ("user_id", "goodwill", "patience")
"""Fields of the response and of the user that `info` carries."""

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
    p, k, d = users[0].weight.shape[0], responses[0].slate.shape[0], vectors.shape[1]
    scratch = new_scratch(p, k, d)
    affinity = scratch.affinity
    for i in range(users.shape[0]):
        user, history, response, mode = users[i], histories[i], responses[i], buffers.mode[i]
        if mode == STEP or mode == STEP_UNOBSERVED:
            key = noise.step_key(user.noise_key, user.step)
            choose_slate(i, settings, items, history, buffers, decision, key, response.slate)
            compare(user, phrases, vectors, response.slate, params, scratch)  # affinity, relevance
            respond(user, params, vectors, traits, key, response, scratch)  # item, satisfied
            score_as_observed(history, vectors, params, response)  # observed_relevance
            evolve(user, params, interests, vectors, traits, affinity, key, response)  # user, born
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
    """Writes f(v, y) of the consumed item with the v that the agent observed when it acted."""
    response.observed_relevance = 0.0
    if response.item >= 0:
        cosine = inverse_norm(history.recent) * row_dot(history.recent, vectors, response.item)
        response.observed_relevance = max(cosine, np.float32(0.0)) / params.scale


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
        newest_steps(history, buffers.recent, i)


@kernel
def true_interests(users, phrases, out):
    """Writes u of every user, (n, d)."""
    weights = np.empty(users[0].weight.shape[0], np.float32)
    for i in range(users.shape[0]):
        interest_vector(users[i], phrases, weights, out[i])


class Simulator:
    """n sessions over one world, advanced together.

    Attributes:
        world: texts, vectors and users, shared and read-only.
        population: ids of the users of the split, (u,).
        users: HIDDEN state of the sessions' users, (n,) records.
        histories: public history of the sessions, (n,) records.
        responses: responses of the last step, (n,) records.
        mode: how actions are read.
        buffers: candidates and observations of the coming step.
        transition_info: the fields of `responses` that `info` carries, (n,) records.
        user_info: the fields of `users` that `info` carries, (n,) records.
    """

    def __init__(self, config: EnvConfig, n: int) -> None:
        """Prepares n sessions; `start` begins each.

        Raises:
            ConfigError: the configuration does not fit the catalogue.
        """
        self.config, self.n = config, n
        self.world: World = load_world(config)
        self.population = self.world.users_of(config.split)
        first = np.full(n, self.population[0])
        self.users, self.histories = self.world.users[first], self.world.histories[first]
        self.responses = np.zeros(n, response_dtype(config.slate_size))
        self.mode = ActionMode(config, len(self.world.catalog))
        self._settings = _settings(config, self.mode)
        self.buffers = _buffers(config, self._settings[0], n, len(self.world.catalog))
        self._reward = REWARDS[config.reward_vector]
        self._reader = _document_reader(config, self.world)
        self._link()

    def _link(self) -> None:
        # Views of several fields: reading a row of them at once is ten times faster than by field.
        self.transition_info = self.responses[list(TRANSITION_FIELDS)]
        self.user_info = self.users[list(USER_FIELDS)]
        world = self.world
        self._arrays: Any = (  # arguments of `advance`, but the decision
            tuple(world.items),
            tuple(world.interests),
            world.traits,
            world.params,
            self._settings,
            self.users,
            self.histories,
            self.responses,
            tuple(self.buffers),
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy needs views of its own arrays, not copies of the views: `_link` makes them.
        links = ("transition_info", "user_info", "_arrays")
        return {name: value for name, value in vars(self).items() if name not in links}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._link()

    def draw_session(self, np_random: np.random.Generator) -> tuple[int, int]:
        """Returns the user and the noise key of a new session, drawn from a session's generator."""
        user_bits, noise_bits = np_random.bit_generator.random_raw(2)
        return int(self.population[int(user_bits) % len(self.population)]), int(noise_bits)

    def start(
        self,
        sessions: npt.NDArray[np.intp],
        user_ids: npt.NDArray[np.int64],
        noise_keys: npt.NDArray[np.uint64],
    ) -> None:
        """Begins sessions with these users; `show` or the next `step` writes their observations."""
        self.users[sessions] = self.world.users[user_ids]
        self.users["noise_key"][sessions] = noise_keys
        self.histories[sessions] = self.world.histories[user_ids]
        self.responses[sessions] = _NO_RESPONSE[self.config.slate_size]
        if self._reader:
            self._reader.read(self.histories, sessions)

    def show(self, sessions: npt.NDArray[np.intp]) -> None:
        """Offers candidates to these sessions and writes their observations, and no others'."""
        self.buffers.mode[:] = IDLE
        self.buffers.mode[sessions] = OBSERVE
        advance(*self._arrays, tuple(NO_DECISION))

    def step(
        self, actions: npt.ArrayLike, resting: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float32]:
        """Advances every session by one step and returns the rewards, (n,).

        Args:
            actions: one action a session, (n, ...).
            resting: sessions that only show a new observation; their actions are ignored.

        Raises:
            TypeError: actions of the wrong dtype.
            ValueError: actions of the wrong shape or outside the space.
        """
        decision = self.mode.decide(actions, self.n)
        self.buffers.mode[:] = STEP_UNOBSERVED if self._reader else STEP
        if resting is not None:
            self.buffers.mode[resting] = OBSERVE
        advance(*self._arrays, tuple(decision))
        if self._reader:
            stepped = np.flatnonzero(self.buffers.mode == STEP_UNOBSERVED)
            self._reader.read(self.histories, stepped)
            self.show(stepped)
        return self._reward(self.responses)

    def interests(self) -> npt.NDArray[np.float32]:
        """Returns u, the true interest vector of every session, (n, d): hidden, for evaluation."""
        out = np.empty((self.n, self.config.dim), np.float32)
        true_interests(self.users, self.world.interests.vectors, out)
        return out


def _no_response(slate_size: int) -> npt.NDArray[np.void]:
    response = np.zeros((), response_dtype(slate_size))
    for name in ("slate", "choice", "item", "query", "died", "born", "woken", "slept"):
        response[name] = -1
    response["refined_from"] = response["refined_to"] = -1
    return response


_NO_RESPONSE = {k: _no_response(k) for k in range(1, MAX_SLATE + 1)}


def _document_reader(config: EnvConfig, world: World) -> DocumentReader | None:
    if config.history != "document":
        return None
    return DocumentReader(config, world.catalog.texts, world.phrases.texts, world.text.space)


def _settings(config: EnvConfig, mode: ActionMode) -> npt.NDArray[np.void]:
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


def _buffers(config: EnvConfig, settings: np.void, n: int, num_items: int) -> Buffers:
    full, listed = bool(settings["full_catalogue"]), bool(settings["list_history"])
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
    )
