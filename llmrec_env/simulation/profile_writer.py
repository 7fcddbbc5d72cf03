"""HIDDEN state of a user as a profile: what a language model reads that says what satisfies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.content.profiles import Profile
from llmrec_env.interface.text_prompt import one_line
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import one_minus_exp32
from llmrec_env.simulation.inner_products import products_with
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.user_record import USER, satiation_vector
from llmrec_env.world import World

FAIRLY, VERY = 1 / 3, 2 / 3
"""Weights relative to the strongest interest from which on a level of INTERESTED is told."""
TIRED, VERY_TIRED = 0.15, 0.4
"""Satiation with a topic, a mean over its items, from which on a level of TIRED is told."""
MOST_TOPICS = 3
_LET_DOWN = (-0.3, -0.1, 0.1, 0.3)  # goodwill between the levels of TRUST


class ProfileWriter:
    """Writes profiles of users of a world; what cannot move satisfaction there is left out."""

    def __init__(self, world: World) -> None:
        """Takes the words of a world."""
        self._world = world
        self._phrases = [one_line(text) for text in world.phrases.texts]
        self._topics = [one_line(name) for name in world.catalog.topic_names]
        params = world.params[0]
        self._tires = bool(params["satiation_satisfaction"] > 0.0)
        self._trusts = bool(params["goodwill_satisfaction"] > 0.0)

    def profiles(self, users: npt.NDArray[np.void]) -> list[Profile]:
        """Returns the profile of each user, records of hidden state, (n,)."""
        satiation = topic_satiation(self._world, users) if self._tires else None
        return [
            Profile(
                self._interests(user),
                () if satiation is None else self._tired(satiation[row]),
                int(np.searchsorted(_LET_DOWN, user["goodwill"])) - 2 if self._trusts else 0,
            )
            for row, user in enumerate(users)
        ]

    def _interests(self, user: np.void) -> tuple[tuple[int, str], ...]:
        active, _ = active_and_dormant(user)
        return tuple(
            (int(weight >= FAIRLY) + int(weight >= VERY), self._phrases[phrase])
            for phrase, weight in active
        )

    def _tired(self, satiation: npt.NDArray[np.float64]) -> tuple[tuple[int, str], ...]:
        return tuple(
            (int(satiation[topic] >= VERY_TIRED), self._topics[topic])
            for topic in most_tiring(satiation)
        )


def active_and_dormant(user: np.void) -> tuple[list[tuple[int, float]], list[int]]:
    """Returns active phrases with omega, strongest first, and dormant phrases.

    A phrase that is held twice is told once, with the sum of its weights.
    """
    awake = user["active"] == 1
    omega = np.exp(user["weight"] - user["weight"][awake].max())
    weights: dict[int, float] = {}
    for phrase, weight in zip(user["phrase"][awake].tolist(), omega[awake].tolist(), strict=True):
        weights[phrase] = weights.get(phrase, 0.0) + weight
    active = sorted(weights.items(), key=lambda entry: (-entry[1], entry[0]))
    return active, [phrase for phrase in user["phrase"][~awake].tolist() if phrase not in weights]


def most_tiring(satiation: npt.NDArray[np.float64]) -> list[int]:
    """Returns the topics a user is most tired of, at most three, most tired first."""
    order = np.argsort(-satiation, kind="stable")[:MOST_TOPICS]
    return [int(topic) for topic in order if satiation[topic] >= TIRED]


def topic_satiation(world: World, users: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """Returns the mean of sat(y) over the items of each topic, (n, topics)."""
    topics = world.catalog.topics
    out = np.zeros((len(users), len(world.catalog.topic_names)))
    _add_satiation(compiled_view(users, USER), world.text_vectors, topics, out)
    return out / np.maximum(np.bincount(topics, minlength=out.shape[1]), 1)


@kernel
def _add_satiation(users: Any, vectors: Any, topics: Any, out: Any) -> None:
    """Adds sat(y) of every item to its topic."""
    count = topics.shape[0]
    items = np.arange(count).astype(np.int32)
    satiation = np.empty((count + 15) // 16 * 16, np.float32)
    for i in range(users.shape[0]):
        products_with(satiation_vector(users[i]), vectors, items, satiation)
        for item in range(satiation.shape[0]):
            satiation[item] = one_minus_exp32(max(satiation[item], np.float32(0.0)))
        for item in range(count):
            out[i, topics[item]] += satiation[item]
