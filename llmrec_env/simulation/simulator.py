"""THE CORE: n sessions advanced together. `advance` reads as the data's path, one line a stage."""

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
from llmrec_env.interface.observation import (
    HISTORY_LENGTH,
    RECENT_STEPS,
    SESSION_NUMBERS,
    VECTOR_BLOCKS,
    inverse_norm,
    newest_first,
    newest_steps,
    observe,
    record,
)
from llmrec_env.interface.rewards import REWARDS
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel, row_dot
from llmrec_env.simulation.response import new_scratch, respond, response_dtype
from llmrec_env.simulation.users import MAX_SLATE, Interests, compare, evolve, interest_vector, tire
from llmrec_env.world import World, load_world

SHOW, PLAY, REST, PLAY_UNSEEN = 0, 1, 2, 3
"""What `advance` does with a session: show what comes, step and show, nothing, only step."""

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

_SETTINGS = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("action", "recall", "cap", "horizon"),
            *("whole", "length", "describes", "appends", "lists", "ordered", "clock"),
        )
    ]
)


class Buffers(NamedTuple):
    """Arrays that the compiled step reads and writes; the first axis is the session."""

    playing: npt.NDArray[np.int8]  # (n,), PLAY, SHOW or REST
    taken: npt.NDArray[np.int64]  # (items,), scratch: clock of the session that may not see an item
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
    """Plays one step of every session whose turn it is, and shows what comes next.

    A plain loop over users: the bits of one session do not depend on the others.
    """
    at, vectors, phrases = settings[0], items.vectors, interests.vectors
    p, k, d = users[0].weight.shape[0], responses[0].slate.shape[0], vectors.shape[1]
    scratch = new_scratch(p, k, d)
    for i in range(users.shape[0]):
        user, history, response = users[i], histories[i], responses[i]
        turn = buffers.playing[i]
        if turn == PLAY or turn == PLAY_UNSEEN:
            key = noise.step_key(user.noise_key, user.step)
            choose_slate(i, at, items, history, buffers, decision, key, response.slate)
            compare(user, phrases, vectors, response.slate, params[0], scratch)
            respond(user, params[0], vectors, traits, key, response, scratch)
            score_as_seen(history, vectors, params[0], response)
            evolve(user, params[0], interests, vectors, traits, scratch.affinity, key, response)
            tire(user, params[0], response)
            record(history, vectors, items.factors, phrases, response, scratch.slate_mean)
        if turn == PLAY or turn == SHOW:
            show(i, at, items, phrases, user, history, buffers)


@inlined
def choose_slate(i, at, items, history, buffers, decision, key, slate):
    """Reads the action of session i as a slate of item ids."""
    at.clock += 1
    if at.whole == 1:
        mark_unavailable(history, at.cap, buffers.taken, at.clock)
    if at.action == PICK:
        stamp = at.clock if at.whole == 1 else 0
        pick(decision.picks, buffers.ids, i, buffers.taken, stamp, slate)
    elif at.whole == 0:
        ids = buffers.ids[i]
        if at.action == NEAREST:
            nearest(history, decision.residuals, i, ids, items.vectors, slate)
        else:
            rank(decision.plans, i, ids, buffers.features, i, items.vectors, key, slate)
    else:
        search(i, at, items, history, buffers, decision, key, slate)


@kernel
def search(i, at, items, history, buffers, decision, key, slate):
    """Chooses a slate from the whole catalogue, for the actions that say what to look for."""
    ids = np.flatnonzero(buffers.taken != at.clock).astype(np.int32)
    if at.action == NEAREST:
        nearest(history, decision.residuals, i, ids, items.vectors, slate)
    else:
        features = np.empty((1, ids.shape[0], len(FEATURES)), np.float32)
        describe(history, items, ids, features, 0)
        rank(decision.plans, i, ids, features, 0, items.vectors, key, slate)


@inlined
def score_as_seen(history, vectors, params, response):
    """Writes f(v, y) of the consumed item with the v that the agent saw when it acted."""
    response.observed_relevance = 0.0
    if response.item >= 0:
        cosine = inverse_norm(history.recent) * row_dot(history.recent, vectors, response.item)
        response.observed_relevance = max(cosine, np.float32(0.0)) / params.scale


@inlined
def show(i, at, items, phrases, user, history, buffers):
    """Offers candidates for the coming step and writes the observation."""
    at.clock += 1
    if at.whole == 0:
        key = noise.step_key(user.noise_key, user.step)
        offer(
            history,
            items,
            at.recall,
            at.cap,
            at.ordered,
            key,
            buffers.taken,
            at.clock,
            buffers.ids[i],
        )
    elif at.lists == 1:
        mark_unavailable(history, at.cap, buffers.taken, at.clock)
        for item in range(buffers.ids.shape[1]):
            buffers.ids[i, item] = item if buffers.taken[item] != at.clock else -1
    if at.describes == 1:
        describe(history, items, buffers.ids[i], buffers.features, i)
    end = observe(history, items.vectors, phrases, at.length, at.horizon, buffers.vector, i)
    if at.appends == 1:
        for c in range(buffers.features.shape[1]):
            for f in range(len(FEATURES)):
                buffers.vector[i, end + c * len(FEATURES) + f] = buffers.features[i, c, f]
    if at.lists == 1:
        newest_first(history, buffers.history, buffers.feedback, i)
        newest_steps(history, buffers.recent, i)


@kernel
def advance_arrays(traits, params, settings, users, histories, responses, arrays, decision):
    """Calls `advance`; a plain tuple of arrays passes into compiled code in half the time."""
    items = Items(arrays[0], arrays[1], arrays[2], arrays[3])
    interests = Interests(arrays[4], arrays[5], arrays[6], arrays[7])
    buffers = Buffers(
        *(arrays[8], arrays[9], arrays[10], arrays[11], arrays[12], arrays[13], arrays[14]),
        arrays[15],
    )
    choice = Decision(decision[0], decision[1], decision[2])
    advance(
        items, interests, traits, params, settings, users, histories, responses, buffers, choice
    )


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
        responses: what happened at the last step, (n,) records.
        buffers: candidates and observations of the coming step.
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
        self.buffers = _buffers(config, n, len(self.world.catalog))
        self._settings = _settings(config, self.mode)
        self._reward = REWARDS[config.reward_vector]
        self._link()
        self._reader = DocumentReader(config, self.world) if config.history == "document" else None

    def _link(self) -> None:
        # Views of several fields: reading a row of them at once is ten times faster than by field.
        self.what_happened = self.responses[list(TRANSITION_FIELDS)]
        self.who = self.users[list(USER_FIELDS)]
        self._records: tuple[Any, ...] = (
            *(self.world.traits, self.world.params, self._settings),
            *(self.users, self.histories, self.responses),
        )
        self._arrays = (*self.world.items, *self.world.interests, *self.buffers)

    def __getstate__(self) -> dict[str, Any]:
        # A copy needs views of its own arrays, not copies of the views: `_link` makes them.
        links = ("what_happened", "who", "_records", "_arrays")
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
        self.responses[sessions] = _NOTHING_HAPPENED[self.config.slate_size]
        if self._reader:
            self._reader.read(self.histories, sessions)

    def show(self, sessions: npt.NDArray[np.intp]) -> None:
        """Offers candidates to these sessions and writes their observations, and no others'."""
        self.buffers.playing[:] = REST
        self.buffers.playing[sessions] = SHOW
        self._advance(NO_DECISION)

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
        self.buffers.playing[:] = PLAY_UNSEEN if self._reader else PLAY
        if resting is not None:
            self.buffers.playing[resting] = SHOW
        self._advance(decision)
        if self._reader:
            self._reader.read(self.histories, np.flatnonzero(self.buffers.playing == PLAY_UNSEEN))
            self.show(np.flatnonzero(self.buffers.playing == PLAY_UNSEEN))
        return self._reward(self.responses)

    def _advance(self, decision: Decision) -> None:
        arguments: Any = (*self._records, self._arrays, tuple(decision))
        advance_arrays(*arguments)

    def interests(self) -> npt.NDArray[np.float32]:
        """Returns u, the true interest vector of every session, (n, d): hidden, for evaluation."""
        out = np.empty((self.n, self.config.dim), np.float32)
        true_interests(self.users, self.world.interests.vectors, out)
        return out


def _nothing_happened(slate_size: int) -> npt.NDArray[np.void]:
    response = np.zeros((), response_dtype(slate_size))
    for name in ("slate", "choice", "item", "query", "died", "born", "woken", "slept"):
        response[name] = -1
    response["refined_from"] = response["refined_to"] = -1
    return response


_NOTHING_HAPPENED = {k: _nothing_happened(k) for k in range(1, MAX_SLATE + 1)}


def _settings(config: EnvConfig, mode: ActionMode) -> npt.NDArray[np.void]:
    settings = np.zeros(1, _SETTINGS)
    listed, whole = config.observation == "dict", config.candidates == 0
    settings["action"], settings["recall"] = mode.kind, RECALLS[config.recall]
    settings["cap"] = config.effective().impression_cap
    settings["horizon"] = config.horizon
    settings["whole"], settings["lists"] = whole, listed
    settings["length"] = config.dim if listed else min(config.observation_dim, config.dim)
    settings["appends"] = not listed and not whole and mode.kind == PICK
    settings["ordered"] = listed or mode.kind == PICK  # others never name a candidate by its place
    settings["describes"] = not whole and (listed or mode.kind != NEAREST)
    return settings


def _buffers(config: EnvConfig, n: int, num_items: int) -> Buffers:
    settings = _settings(config, ActionMode(config, num_items))[0]
    whole, lists = bool(settings["whole"]), bool(settings["lists"])
    offered = config.candidates if not whole else num_items * lists
    described = offered if settings["describes"] else 0
    length = len(VECTOR_BLOCKS) * int(settings["length"]) + len(SESSION_NUMBERS)
    if settings["appends"]:
        length += described * len(FEATURES)
    return Buffers(
        playing=np.full(n, REST, np.int8),
        taken=np.zeros(num_items, np.int64),
        ids=np.full((n, offered), -1, np.int32),
        features=np.zeros((n, described, len(FEATURES)), np.float32),
        vector=np.zeros((n, length), np.float32),
        history=np.full((n, HISTORY_LENGTH if lists else 0), -1, np.int32),
        feedback=np.full((n, HISTORY_LENGTH if lists else 0), -1, np.int32),
        recent=np.full((n, RECENT_STEPS * lists, config.slate_size + 3), -1, np.int32),
    )
