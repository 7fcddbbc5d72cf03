"""HIDDEN: `response="llm"`, P(z = 1) of what users consume, as a language model reads it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.content.encoders import WeightsError
from llmrec_env.content.encoding_classifier import EncodingClassifier
from llmrec_env.content.profiles import Profile
from llmrec_env.content.satisfaction_models import SatisfactionModel, load_satisfaction_model
from llmrec_env.interface.text_prompt import one_line
from llmrec_env.simulation.dynamics import dynamics_table
from llmrec_env.simulation.logging_policy import Logs, phrase_item_cosines, shelf_of, warm_up
from llmrec_env.simulation.profile_writer import ProfileWriter
from llmrec_env.simulation.response import no_responses
from llmrec_env.world import World, load_world

_CACHE_PAIRS = 2**18
"""Pairs whose probability is kept, in about 40 MB."""
FIT_USERS, FIT_SLATES = 2000, 20
"""Training users of whose clicks the classifier of encoded texts learns, and slates of each."""
_FIT_KEYS = 59


class ResponseModel:
    """Reads users and items as texts to a language model, and keeps what it said of each pair.

    A pair has the same probability always: what is kept changes the speed and nothing else. It is
    kept under a digest of both texts.

    Attributes:
        model: what reads.
        num_asked: pairs that were asked about so far.
        num_read: those of them that the model had to read.
    """

    def __init__(self, world: World, model: SatisfactionModel) -> None:
        """Takes a world and what reads its texts."""
        self.model, self.num_asked, self.num_read = model, 0, 0
        self._writer = ProfileWriter(world)
        self._texts = [one_line(text) for text in world.catalog.texts]
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def probabilities(
        self, users: npt.NDArray[np.void], items: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float64]:
        """Returns P(z = 1) of the item that each user consumes, (n,).

        Args:
            users: hidden state before the consumption, (n,) records.
            items: ids, (n,).

        Raises:
            WeightsError: the model says what is no probability.
        """
        profiles = self._writer.profiles(users)
        texts = [self._texts[item] for item in items.tolist()]
        keys = [_key(*pair) for pair in zip(profiles, texts, strict=True)]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = list(new.values())
            said = self.model.probabilities(
                [profiles[row] for row in rows], [texts[row] for row in rows]
            )
            self._known.update(zip(new, _checked(said, self.model.name), strict=True))
        self.num_asked, self.num_read = self.num_asked + len(keys), self.num_read + len(new)
        chances = np.array([self._known[key] for key in keys])
        for key in keys:
            self._known.move_to_end(key)
        while len(self._known) > _CACHE_PAIRS:
            self._known.popitem(last=False)
        return chances

    def forget(self) -> None:
        """Forgets what the model said, as at first."""
        self._known.clear()


def _key(profile: Profile, text: str) -> bytes:
    return hashlib.blake2b(f"{profile.text}\0{text}".encode(), digest_size=16).digest()


def _checked(said: npt.NDArray[np.float64], name: str) -> list[float]:
    if not ((said >= 0.0) & (said <= 1.0)).all():
        raise WeightsError(
            f"response_model {name} says what is no probability, such as NaN; its weights are "
            "damaged or too coarse: use another one."
        )
    return said.tolist()


def load_response_model(config: EnvConfig) -> ResponseModel:
    """Returns the response model of a configuration, made at its first use in the process.

    Raises:
        WeightsError: the directory of `response_model` holds no model that can be used.
        DeviceError: the device is not here, or its memory is too small.
    """
    return _load(config.of_world(), config.response_model)


@lru_cache(maxsize=4)
def _load(config: EnvConfig, directory: str | None) -> ResponseModel:
    world = load_world(config)
    if directory is None:
        return ResponseModel(world, fitted_classifier(world))
    return ResponseModel(world, _load_weights(directory, config.device))


@lru_cache(maxsize=1)
def _load_weights(directory: str, device: str) -> SatisfactionModel:
    """One model serves all worlds: it may be large."""
    return load_satisfaction_model(directory, device)


def fitted_classifier(world: World) -> EncodingClassifier:
    """Returns the classifier of encoded texts, fitted to `training_clicks` of a world."""
    clicks = training_clicks(world)
    classifier = EncodingClassifier(vectors_by_text(world))
    classifier.learn(clicks.profiles, clicks.items, clicks.satisfied)
    return classifier


def vectors_by_text(world: World) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the vector of each item, topic and phrase; a topic's is the mean of its phrases'."""
    phrases, starts = world.interests.vectors, world.phrases.topic_start
    means = [phrases[a:b].mean(axis=0) for a, b in pairwise(starts)]
    texts = [*world.catalog.texts, *world.catalog.topic_names, *world.phrases.texts]
    vectors = [*world.text_vectors, *means, *phrases]
    return dict(zip(map(one_line, texts), vectors, strict=True))


class TrainingClicks(NamedTuple):
    """What training users clicked and whether it satisfied as built in, in order of time."""

    users: list[int]  # ids
    profiles: list[Profile]  # before the click
    items: list[str]  # texts, as a model reads them
    satisfied: list[int]  # 0 or 1


def training_clicks(world: World, num_users: int = FIT_USERS) -> TrainingClicks:
    """Returns clicks of the first `num_users` training users.

    They respond as built in, to more slates of the logging policy, from the state in which their
    sessions begin.
    """
    ids = world.users_of("train")[:num_users]
    users, n, k = world.users[ids], len(ids), world.config.slate_size
    responses = np.broadcast_to(no_responses(1, k), n)  # the same one of every user
    interests, vectors = world.interests, world.text_vectors
    table = dynamics_table(users, responses, world.params, interests, vectors, world.traits)
    cosines, shelf = phrase_item_cosines(interests.vectors, vectors), shelf_of(world.traits)
    logs = Logs(
        slates=np.empty((n, 1, k), np.int32),
        feedback=np.empty((n, 1, k), np.int8),
        ratings=np.empty((n, 1), np.int32),
        queries=np.empty((n, 1), np.int32),
    )
    keys = np.random.default_rng([world.config.world_seed, _FIT_KEYS])
    writer, texts = ProfileWriter(world), [one_line(text) for text in world.catalog.texts]
    clicks = TrainingClicks([], [], [], [])
    for _ in range(FIT_SLATES):
        before = users.copy()
        users["noise_key"] = keys.integers(0, 2**63, n, dtype=np.uint64)
        warm_up(table.words, interests, cosines, shelf, logs)
        clicked = np.flatnonzero(logs.items[:, 0] >= 0)
        clicks.users.extend(ids[clicked].tolist())
        clicks.profiles.extend(writer.profiles(before[clicked]))
        clicks.items.extend(texts[item] for item in logs.items[clicked, 0].tolist())
        clicks.satisfied.extend(logs.satisfied[clicked, 0].tolist())
    return clicks
