"""Simulator of n sessions over one world: it draws, starts, shows and steps them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.actions import ActionMode
from llmrec_env.interface.documents import DocumentReader
from llmrec_env.interface.history import slot_feedback
from llmrec_env.interface.rewards import REWARDS
from llmrec_env.interface.text_answer import settle
from llmrec_env.interface.text_prompt import Prompt, PromptWriter
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.dynamics import dynamics_table
from llmrec_env.simulation.interests import interest_vector
from llmrec_env.simulation.records import aligned, as_bytes, compiled_view
from llmrec_env.simulation.response import no_responses
from llmrec_env.simulation.response_model import ResponseModel, load_response_model
from llmrec_env.simulation.step import advance, preview, stages_of
from llmrec_env.simulation.step_table import (
    IDLE,
    OBSERVE,
    STEP,
    STEP_TABLE,
    STEP_UNOBSERVED,
    appearance_of,
    new_buffers,
    new_decision,
)
from llmrec_env.simulation.table import Table
from llmrec_env.simulation.user_record import USER
from llmrec_env.text_space import load_item_space, load_text_space
from llmrec_env.world import World, load_world

TRANSITION_FIELDS = ["choice", "item", "satisfied", "relevance", "died", "born", "woken"]
USER_FIELDS = ["user_id", "goodwill", "patience"]
"""Fields of the response and of the user that `info` carries."""


@kernel
def true_interests(users, phrases, out):
    """Writes u of every user, (n, d)."""
    weights = np.empty(users[0].slots, np.float32)
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
        slot_info: the fields of `responses` with a number for each slot, by name, (n, k).
        ends: whether each session was terminated and truncated, (n,) records.
        prompt_writer: of `text` observations.
        prompts: which it wrote last, (n,).
        response_model: HIDDEN, of `response="llm"`; None otherwise.
        parse_problems: codes of `text_answer.PROBLEMS` of the last `text` actions, (n,).
    """

    def __init__(self, config: EnvConfig, n: int, threads: int = 1) -> None:
        """Prepares n sessions; `start` begins each.

        Args:
            config: the task.
            n: sessions.
            threads: that share the sessions of a step; the bits do not depend on them.

        Raises:
            ConfigError: the configuration does not fit the catalogue.
        """
        self.config, self.n, self._threads = config, n, threads
        self.world: World = load_world(config)
        self.population = self.world.users_of(config.split)
        first = np.full(n, self.population[0])
        self.users = aligned(self.world.users[first])
        self.histories = aligned(self.world.histories[first])
        self._no_response = no_responses(1, config.slate_size)
        self.responses = aligned(np.repeat(self._no_response, n))
        self.mode = ActionMode(config, len(self.world.catalog))
        self._appearance = appearance_of(config, self.mode.kind)
        self.buffers = new_buffers(config, self._appearance, n, len(self.world.catalog))
        self._reward = REWARDS[config.reward_vector]
        self.prompts = [Prompt("")] * n
        self.parse_problems = np.zeros(n, np.int64)
        self._link()

    def _link(self) -> None:
        # Views of several fields: reading a row of them at once is ten times faster than by field.
        self.transition_info = self.responses[TRANSITION_FIELDS]
        self.user_info = self.users[USER_FIELDS]
        self.ends = self.responses[["terminated", "truncated"]]
        slots = ("slate", "feedback") if self.config.response == "cascade" else ("slate",)
        self.slot_info = {name: self.responses[name] for name in slots}
        self._bytes = as_bytes(self.users), as_bytes(self.histories), as_bytes(self.responses)
        self._bytes_of_world = as_bytes(self.world.users), as_bytes(self.world.histories)
        self._reader = _document_reader(self.config)
        self.prompt_writer = _prompt_writer(self.config, self.world)
        self.response_model = _response_model(self.config)
        self._chances = np.zeros(self.n) if self.response_model else None  # P(z = 1), (n,)
        self._decision = new_decision(self.config, self.mode.kind, self.n)
        bounds = np.linspace(0, self.n, self._threads + 1, dtype=np.int64)
        self._tables = [self._new_table(int(a), int(b)) for a, b in pairwise(bounds)]
        self._pool: ThreadPoolExecutor | None = None

    def _new_table(self, first: int, last: int) -> Table:
        """Returns the table with which `advance` steps some of the sessions."""
        world, config, look = self.world, self.config, self._appearance
        users, responses, vectors = self.users, self.responses, world.text_vectors
        dynamics = dynamics_table(
            users, responses, world.params, world.interests, vectors, world.traits, self._chances
        )
        table = Table(
            STEP_TABLE,
            first=first,
            last=last,
            impression_cap=config.effective().impression_cap,
            horizon=config.horizon,
            ages=config.ages(),
            full_catalogue=look.full_catalogue,
            features_start=look.features_start * look.append_features,
            vector_length=look.vector_length,
        )
        table.enter(**world.items._asdict(), phrases=world.item_space.phrase_vectors)
        table.enter(newest_first=world.newest_first)
        buffers = self.buffers._asdict()
        features = buffers["vector" if look.append_features else "features"]
        table.enter(**buffers | {"features": features.reshape(self.n, -1)})
        table.enter(**self._decision._asdict())
        table.enter(users=users, histories=self.histories, responses=responses)
        table.enter(params=world.params, dynamics=dynamics)
        table.enter(
            unavailable=np.zeros(len(world.catalog), np.int64),
            generation=aligned(np.zeros(8, np.int64)),  # a cache line that no thread shares
            slate_mean=np.empty(config.dim, np.float32),
        )
        two_stage = config.recall == "two-stage"
        return table.enter_stages(**stages_of(look, self.mode.kind, two_stage))

    def __getstate__(self) -> dict[str, Any]:
        # A copy needs views of its own arrays, not copies of the views: `_link` makes them.
        links = {"transition_info", "user_info", "slot_info", "ends", "_bytes", "_bytes_of_world"}
        links |= {"_decision", "_tables", "_pool", "_reader", "prompt_writer"}
        links |= {"response_model", "_chances"}
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
        users, histories, responses = self._bytes
        first_users, first_histories = self._bytes_of_world
        users[sessions], histories[sessions] = first_users[user_ids], first_histories[user_ids]
        self.users["noise_key"][sessions] = noise_keys
        responses[sessions] = as_bytes(self._no_response)
        self.parse_problems[sessions] = 0
        self.buffers.instructions[sessions] = -1
        if self._reader:
            self._reader.read(self.histories, sessions)

    def show(self, sessions: npt.NDArray[np.intp]) -> None:
        """Offers candidates to these sessions and writes their observations, and no others'."""
        self.buffers.mode[:] = IDLE
        self.buffers.mode[sessions] = OBSERVE
        self._advance()

    def step(
        self, actions: Any, resting: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float32]:
        """Advances every session by one step and returns the rewards, (n,).

        Args:
            actions: one action a session, (n, ...).
            resting: sessions that only show a new observation; their actions are ignored.

        Raises:
            TypeError: actions of the wrong dtype.
            ValueError: actions of the wrong shape or outside the space.
        """
        given = self.mode.decide(actions, self.n)
        if self.mode.name == "text":
            self._settle(given.picks, resting)
        self._decision[self.mode.kind][...] = given[self.mode.kind]
        self.buffers.mode[:] = STEP_UNOBSERVED if self._reader else STEP
        if resting is not None:
            self.buffers.mode[resting] = OBSERVE
        if self.response_model:
            self._judge(self.response_model)
        self._advance()
        if self._reader:
            stepped = np.flatnonzero(self.buffers.mode == STEP_UNOBSERVED)
            self._reader.read(self.histories, stepped)
            self.show(stepped)
        return self._reward(self.responses)

    def _judge(self, model: ResponseModel) -> None:
        """Writes the chance that what each user is about to consume satisfies, as texts tell it."""
        self._run(preview)
        stepping = (self.buffers.mode == STEP) | (self.buffers.mode == STEP_UNOBSERVED)
        consuming = np.flatnonzero(stepping & (self.responses["item"] >= 0))
        if self._chances is not None and len(consuming):
            items = self.responses["item"][consuming]
            self._chances[consuming] = model.probabilities(self.users[consuming], items)

    def _settle(self, picks: npt.NDArray[np.int64], resting: npt.NDArray[np.intp] | None) -> None:
        """Puts the slates of the fallback policy where answers could not be read."""
        policy, popularity = self.config.text_fallback, self.world.items.popularity
        problems = settle(picks, policy, self.buffers.ids, self.users, popularity)
        if resting is not None:
            problems[resting] = 0
        self.parse_problems[:] = problems

    def _advance(self) -> None:
        self._run(advance)
        if self.prompt_writer:
            self._write_prompts(self.prompt_writer)

    def _write_prompts(self, writer: PromptWriter) -> None:
        mode, recent = self.buffers.mode, self.buffers.recent
        for i in np.flatnonzero((mode == OBSERVE) | (mode == STEP)).tolist():
            slates, items, satisfied, queries = np.split(recent[i], (-3, -2, -1), axis=1)
            feedback = slot_feedback(slates, items[:, 0], satisfied[:, 0])
            if self.config.response == "cascade":
                feedback = self.buffers.recent_feedback[i]
            told = self.buffers.instructions[i]
            self.prompts[i] = writer.write(
                self.buffers.ids[i], slates, feedback, queries[:, 0], told
            )

    def _run(self, compiled: Any) -> None:
        """Calls a compiled function of STEP_TABLE on all sessions, in as many threads as asked."""
        if self._threads == 1:
            compiled(self._tables[0].words)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "llmrec_env")
        for _ in self._pool.map(compiled, [table.words for table in self._tables]):
            pass  # raises what a thread raised

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def interests(self, as_read: bool = False) -> npt.NDArray[np.float32]:
        """Returns u, the true interest vector of every session, (n, d): hidden, for evaluation.

        Args:
            as_read: in the space of the item vectors that agents see, to compare with what they
                believe; it is another one where items carry more than a text.
        """
        world = self.world
        phrases = world.item_space.phrase_vectors if as_read else world.interests.vectors
        out = np.empty((self.n, self.config.dim), np.float32)
        true_interests(compiled_view(self.users, USER), phrases, out)
        return out


def _prompt_writer(config: EnvConfig, world: World) -> PromptWriter | None:
    if config.observation != "text":
        return None
    titles = world.catalog.titles or world.catalog.texts
    return PromptWriter(config, titles, world.phrases.texts, config.text_budget)


def _response_model(config: EnvConfig) -> ResponseModel | None:
    return load_response_model(config) if config.response == "llm" else None


def _document_reader(config: EnvConfig) -> DocumentReader | None:
    if config.history != "document":
        return None
    return _shared_reader(EnvConfig(**{name: getattr(config, name) for name in _READ}))


_READ = (
    *("catalog", "num_items", "encoder", "device", "dim", "document_size", "document_dtype"),
    *("item_vectors", "item_graph", "fusion", "channel_weight"),
)
"""Fields that decide the vector of a document."""


@lru_cache(maxsize=2)
def _shared_reader(config: EnvConfig) -> DocumentReader:
    text = load_text_space(
        config.catalog, config.num_items, config.encoder, config.dim, config.device
    )
    return DocumentReader(
        config, text.catalog.texts, text.phrases.texts, load_item_space(config).space
    )
