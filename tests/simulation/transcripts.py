"""Digests of sessions in a world of whole numbers, which no library of mathematics had a part in.

Run as a program, it prints the digest of each mode that is named:
`python tests/simulation/transcripts.py slate=300 weights=20`; with `callees` first, it calls the
innermost kernels before those that call them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation import elementary, inner_products, noise, ordering, simulator
from llmrec_env.simulation.interests import Interests
from llmrec_env.simulation.logging_policy import write_logs
from llmrec_env.simulation.response import TRAITS, parameters
from llmrec_env.simulation.user_record import user_dtype
from llmrec_env.world import World, histories_of, load_world

SETTINGS: dict[str, Any] = {
    "encoder": "hashing",
    "num_items": 700,
    "num_users": 60,
    "dim": 40,  # no multiple of 16: the ends of rows matter
    "candidates": 20,
    "horizon": 30,
    "observation": "dict",
}
MODES: dict[str, dict[str, Any]] = {
    "slate": {},
    "item": {"action": "item", "slate_size": 1},
    "weights": {"action": "weights"},
    "query": {"action": "query", "recall": "two-stage"},
    "recipe": {"action": "recipe"},
    "catalogue": {"action": "recipe", "candidates": 0},
    "cascade": {"response": "cascade"},
}


def integers(bound: int, *shape: int, salt: int = 0) -> npt.NDArray[np.int64]:
    """Returns well-mixed integers in 0 .. bound - 1: the same on every machine."""
    x = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64((salt + 1) * 0x632BE59BD9B4E019 % 2**64)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return ((x ^ (x >> np.uint64(32))) % np.uint64(bound)).astype(np.int64).reshape(shape)


def _units(rows: int, dim: int, salt: int) -> npt.NDArray[np.float32]:
    """Returns rows near a few common directions, of length about 1; sixteenths of integers."""
    common = integers(5, 12, dim, salt=salt) - 2
    own = integers(5, rows, dim, salt=salt + 1) - 2
    return ((2 * common[np.arange(rows) % 12] + own) / 20.0).astype(np.float32)


def whole_number_world(config: EnvConfig) -> World:
    """Returns a world of the configuration's shapes whose numbers are made of integers."""
    world = load_world(config)
    config, dim, phrases = world.config, config.dim, len(world.phrases.texts)
    neighbours, start = world.text.neighbours, world.interests.topic_start
    topics = integers(len(start) - 1, *world.interests.community_topics.shape, salt=1)
    vectors, phrase_vectors = _units(len(world.catalog), dim, 2), _units(phrases, dim, 2)
    interests = Interests(
        phrase_vectors, _same_topic(start, neighbours), start, topics.astype(np.int32)
    )
    traits = np.zeros(len(vectors), TRAITS)
    for name in ("published", "creator"):
        traits[name] = world.traits[name]
    users = np.zeros(config.num_users, user_dtype(config))
    n, slots = users["phrase"].shape
    users["dim"], users["slots"] = dim, slots
    users["user_id"], users["noise_key"] = np.arange(n), integers(2**62, n, salt=3)
    users["community"] = integers(len(topics), n, salt=4)
    users["phrase"] = (integers(phrases, n, 1, salt=5) + 7 * np.arange(slots)) % phrases
    users["active"] = np.arange(slots) < 2 + integers(4, n, 1, salt=6)
    users["rest"] = users["weight"] = (integers(17, n, slots, salt=7) - 8) / 16
    users["taste"] = (integers(33, n, 4, salt=8) - 16) / 16
    users["patience"], users["consumed"], users["last_switch"] = config.patience_start, -1, -1
    params = parameters(config, 1.0)
    traits["taste"] = (integers(33, len(vectors), 4, salt=9) - 16) / 32
    traits["substance"] = (integers(33, len(vectors), salt=10) - 16) / 16
    logs = write_logs(config, users, params, interests, vectors, traits)
    traits["quality"] = (integers(65, len(vectors), salt=11) - 32) / 16  # not for exp of numpy
    factors = ((integers(3, len(vectors), 16, salt=12) - 1) / 4).astype(np.float32)
    popularity = (integers(9, len(vectors), salt=13) / 8).astype(np.float32)  # full of ties
    items = world.items._replace(vectors=vectors, factors=factors, popularity=popularity)
    items = items._replace(substance=traits["substance"].copy())
    histories = histories_of(config, logs, items, phrase_vectors)
    for array in (users, traits, params, histories, *items, *interests, *logs):
        array.setflags(write=False)
    return dataclasses.replace(
        world,
        text=dataclasses.replace(world.text, catalog=world.catalog.with_vectors(vectors)),
        item_space=world.item_space._replace(vectors=vectors, phrase_vectors=phrase_vectors),
        items=items,
        traits=traits,
        interests=interests,
        users=users,
        params=params,
        histories=histories,
        logs=logs,
    )


def _same_topic(
    start: npt.NDArray[np.int32], neighbours: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Returns neighbours of every phrase that lie in its topic, whatever their vectors are."""
    ids = np.arange(start[-1])
    topic = np.searchsorted(start, ids, side="right") - 1
    first, size = start[topic], start[topic + 1] - start[topic]
    steps = np.arange(1, neighbours.shape[1] + 1)
    near = first[:, None] + (ids[:, None] - first[:, None] + steps) % size[:, None]
    return np.ascontiguousarray(near, np.int32)


def new_env(mode: str, n: int, **changes: Any) -> RecVectorEnv:
    """Returns n sessions of the world of whole numbers."""
    with mock.patch.object(simulator, "load_world", whole_number_world):
        return RecVectorEnv(n, **(SETTINGS | MODES[mode] | changes))


def actions_of(env: RecVectorEnv, seeds: npt.ArrayLike, step: int) -> npt.NDArray[Any]:
    """Returns an action of each session that depends on its seed and the step alone."""
    mode, seeds = env.simulator.mode, np.asarray(seeds)
    length = int(np.prod(env.single_action_space.shape or ()))
    drawn = np.stack([integers(2**31, length, salt=int(s) * 9973 + step) for s in seeds])
    drawn = drawn.reshape(env.action_space.shape or (len(seeds),))
    if mode.name in ("weights", "query"):
        return ((drawn % 65 - 32) / 32).astype(np.float32)
    return drawn % (32 if mode.name == "recipe" else mode.size)


def digest(env: RecVectorEnv, steps: int, seed: int = 0) -> str:
    """Returns a digest of all that `steps` steps show: observations, rewards, ends and infos."""
    seeds, total = seed + np.arange(env.num_envs), hashlib.sha256()
    seen: list[Any] = [*env.reset(seed=seed)]
    for step in range(steps):
        observation, *numbers, infos = seen[0], *seen[1:]
        for part in (observation, infos):
            for name in sorted(part):
                total.update(np.ascontiguousarray(part[name]).tobytes())
        for array in numbers:
            total.update(array.tobytes())
        seen = [*env.step(actions_of(env, seeds, step))]
    return total.hexdigest()[:16]


def call_callees() -> None:
    """Calls kernels that others are made of, so that machine code of their own is loaded first."""
    rows, ids = np.ones((20, 40), np.float32), np.arange(20, dtype=np.int32)
    inner_products.cosines(ids, rows, ids, rows, np.empty((20, 20), np.float32))
    inner_products.products_with(rows[0], rows, ids, np.empty(24, np.float32))
    inner_products.inverse_norm(rows[0])
    ordering.best_of(rows[0, :20], ids, 5)
    elementary.exp32(np.float32(0.5))
    noise.gumbel(np.uint64(1), noise.normal(np.uint64(1), 2) > 0)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument == "callees":
            call_callees()
        else:
            name, length = argument.split("=")
            print(name, digest(new_env(name, 64), int(length)), flush=True)
