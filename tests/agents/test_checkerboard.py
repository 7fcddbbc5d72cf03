"""A checkerboard of users and items: every agent that learns from logs must find the colours.

Even users like even items, odd users odd ones. Agents that know items by who consumed them get
texts that say nothing; for those that read texts, an item's vector shows its colour a little.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from agents import AGENTS, make_agent
from agents.dataset import Dataset
from llmrec_env.config import EnvConfig
from llmrec_env.interface.observation import observations_of
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.world import items_of

USERS, STEPS, SHOWN = 120, 20, 60
SETTINGS = {
    "collaborative": {"rank": 4},  # 24 fit the noise of so few users
    "joint": {"slates": "top-k"},  # the best slate has one good item and four that do not distract
    "two-tower": {"batch": 16},
    "sasrec": {"batch": 16},
}
READERS = ("ease-text", "two-tower", "sasrec", "drift-aware", "joint")
"""These read texts too; the others learn from consumption alone."""
LEARNERS = [
    name
    for name, spec in AGENTS.items()
    if spec.learns == "logs" and not spec.trains_encoder and name not in ("popular", "cloning")
]
"""`popular` shows everybody the same, `cloning` what the logging policy would; a language model
would have to read real texts."""


def _logs(users, rng):
    """Slates of both colours; of its own a user likes one, of the other now and then one fails."""
    columns = {"slates": [], "feedback": []}
    for user in users:
        own = rng.permutation(np.arange(user % 2, SHOWN, 2))[:STEPS]
        other = rng.permutation(np.arange(1 - user % 2, SHOWN, 2))[:STEPS]
        liked = rng.random(STEPS) < 0.8
        items = np.where(liked, own, other)
        slates = np.stack([own, other, np.roll(other, 1), np.roll(own, 3), np.roll(other, 2)], 1)
        columns["slates"].append(rng.permuted(slates, axis=1))
        clicked = columns["slates"][-1] == items[:, None]
        columns["feedback"].append(np.where(clicked, liked[:, None], -1))
    slates, feedback = (np.array(column) for column in columns.values())
    return _logs_of(slates, feedback)


def _logs_of(slates, feedback):
    shape = slates.shape[:2]
    return Logs(
        slates=slates.astype(np.int32),
        feedback=feedback.astype(np.int8),
        ratings=np.zeros(shape, np.int32),
        queries=np.full(shape, -1, np.int32),
    )


def _public_data(world, users, texts_tell, rng):
    num_items, dim = world.items.vectors.shape
    vectors = rng.normal(size=(num_items, dim))
    vectors[:, 0] = 3.0 * np.where(np.arange(num_items) % 2, 1.0, -1.0) if texts_tell else 0.0
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    text = dataclasses.replace(world.text, catalog=world.catalog.with_vectors(vectors))
    logs = _logs(users, rng)
    user, step = np.nonzero(logs.satisfied)
    items = items_of(text.vectors, text.probe, user, logs.items[user, step].astype(np.int64))
    return dataclasses.replace(
        world.public(), catalog=text.catalog, items=items, logs=logs, users=np.array(users)
    )


def _first_observation(data, config, colours, rng):
    """New users who liked six items of their colour, and 20 others of both colours to show."""
    n = len(colours)
    liked = np.stack([rng.permutation(np.arange(colour, 20, 2))[:7] for colour in colours])
    slates = np.repeat(liked[:, :, None], 5, axis=2)
    logs = _logs_of(slates, np.where(np.arange(5) == 0, 1, np.full_like(slates, -1)))
    new = dataclasses.replace(data, logs=logs, users=np.arange(n))
    *_, (_, histories) = Dataset.from_logs(new).replayed(new, config)
    candidates = np.stack([20 + rng.permutation(20) for _ in colours]).astype(np.int32)
    return observations_of(histories, data.items, data.phrase_vectors, config.horizon, candidates)


@pytest.mark.parametrize("name", LEARNERS)
def test_new_users_get_the_colour_they_like(name, world, tiny):
    rng = np.random.default_rng(0)
    data = _public_data(world, range(USERS), name in READERS, rng)
    config = EnvConfig(**tiny)
    agent = make_agent(name, config, seed=0, **SETTINGS.get(name, {}))
    agent.fit(SimpleNamespace(public_data=lambda: data, config=config), 0)
    colours = np.array([0, 1, 0, 1])
    observation = _first_observation(data, config, colours, rng)
    slates = agent.act(observation, np.ones(4, bool))
    shown = np.take_along_axis(observation["candidates"], slates, 1)
    np.testing.assert_array_equal(shown % 2, np.tile(colours[:, None], 5))
