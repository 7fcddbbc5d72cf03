"""One tiny world for the whole suite, so that kernels are compiled for few shapes."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from llmrec_env.config import SWITCHES, EnvConfig
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation import noise
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import RESPONSE, new_scratch, no_responses, parameters
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.simulation.user_record import USER
from llmrec_env.simulation.users import evolve, tire
from llmrec_env.world import World, load_world

TINY: dict[str, Any] = {
    "catalog": "video",
    "encoder": "hashing",
    "num_items": 600,
    "num_users": 60,
    "dim": 32,
    "candidates": 20,
    "horizon": 30,
}

MODES: dict[str, dict[str, Any]] = {
    "slate": {"action": "slate"},
    "item": {"action": "item", "slate_size": 1},
    "weights": {"action": "weights"},
    "query": {"action": "query"},
    "recipe": {"action": "recipe"},
}


QUIET = SWITCHES["drift"] | SWITCHES["queries"]


class Crafted:
    """One user whose every number is set by hand, and what evolving does to it."""

    def __init__(self, world: Any, tiny: dict[str, Any], **on: Any) -> None:
        self.world = world
        self.config = EnvConfig(**(tiny | QUIET | on))
        self.params = parameters(self.config, world.text.space.scale)
        self.users = world.users[:1].copy()
        self.users["active"] = np.arange(8) < 4
        self.users["weight"] = self.users["rest"] = 0.0
        self.users["satiation"] = self.users["goodwill"] = 0.0
        self.responses = no_responses(1, 5)
        self.responses["slate"] = np.arange(5)
        self.ignore()
        self.scratch = new_scratch(5, self.config.dim)
        self.affinity = self.scratch.affinity[:, :8].T  # (interests, slots)

    def ignore(self) -> None:
        self.responses["choice"], self.responses["item"] = -1, -1
        self.responses["satisfied"], self.responses["feedback"] = 0, -1
        self.responses["examined"] = 5

    def consume(self, slot: int, satisfied: bool) -> None:
        """Adds an item to what is consumed; later slots after earlier ones."""
        self.responses["choice"], self.responses["satisfied"] = slot, satisfied
        self.responses["feedback"][0, slot] = satisfied
        self.responses["item"] = self.responses["slate"][0, slot]

    def evolve(self, key: int = 1) -> np.void:
        world = self.world
        evolve(
            compiled_view(self.users, USER)[0],
            self.params[0],
            world.interests,
            world.items.vectors,
            world.traits,
            self.scratch,
            np.uint64(key),
            compiled_view(self.responses, RESPONSE)[0],
        )
        return self.users[0]

    def tire(self) -> None:
        user, response = compiled_view(self.users, USER), compiled_view(self.responses, RESPONSE)
        tire(user[0], self.params[0], response[0])

    def outcomes(self, keys: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the user and the response that each of many noise keys leads to from here."""
        user, response = self.users.copy(), self.responses.copy()
        after, responses = np.repeat(user, keys), np.repeat(response, keys)
        for i in range(keys):
            self.users[:], self.responses[:] = user, response
            self.evolve(noise.step_key(np.uint64(i), 0))
            after[i], responses[i] = self.users[0], self.responses[0]
        self.users[:], self.responses[:] = user, response
        return after, responses


@pytest.fixture(autouse=True, scope="session")
def own_token() -> Iterator[None]:
    """Clusters of Ray that tests start let nobody else in, and write no token into the home.

    Ray reads the mode once, when it is imported, by whichever test comes first.
    """
    with pytest.MonkeyPatch.context() as context:
        context.setenv("RAY_AUTH_MODE", "token")
        context.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Keyword arguments of the tiny world."""
    return dict(TINY)


@pytest.fixture(scope="session")
def world() -> World:
    return load_world(EnvConfig(**TINY))


@pytest.fixture
def craft(world: World, tiny: dict[str, Any]) -> Callable[..., Crafted]:
    """Makes crafted users with everything off but the parameters given."""
    return lambda **on: Crafted(world, tiny, **on)


@pytest.fixture(params=list(MODES))
def acting(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each action mode, as keyword arguments."""
    return MODES[request.param]


@pytest.fixture(params=["vector", "dict"])
def observing(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each kind of observation, as keyword arguments."""
    return {"observation": request.param}


@pytest.fixture(scope="session")
def new_simulator() -> Callable[..., Simulator]:
    """Makes simulators whose sessions have begun: user i % num_users, noise key from the seed."""

    def make(n: int = 1, seed: int = 0, **changes: Any) -> Simulator:
        simulator = Simulator(EnvConfig(**(TINY | changes)), n)
        keys = np.random.default_rng(seed).integers(0, 2**63, n, dtype=np.uint64)
        simulator.start(np.arange(n), np.arange(n) % simulator.config.num_users, keys)
        simulator.show(np.arange(n))
        return simulator

    return make


@pytest.fixture(scope="session")
def new_env() -> Callable[..., gymnasium.Env]:
    """Makes single environments as users do."""

    def make(task: str = "llmrec/Drift-v1", **changes: Any) -> gymnasium.Env:
        return gymnasium.make(task, **(TINY | changes))

    return make


@pytest.fixture(scope="session")
def new_vec() -> Callable[..., RecVectorEnv]:
    """Makes native batches of n sessions."""

    def make(n: int, **changes: Any) -> RecVectorEnv:
        return RecVectorEnv(n, **(TINY | changes))

    return make


@pytest.fixture(scope="session")
def draw_actions() -> Callable[..., np.ndarray]:
    """Draws n random actions of a simulator's mode."""

    def draw(simulator: Simulator, rng: np.random.Generator) -> np.ndarray:
        mode, n = simulator.mode, simulator.n
        if mode.name in ("weights", "query"):
            return rng.uniform(-1, 1, (n, *mode.space.shape)).astype(np.float32)
        bound = 32 if mode.name == "recipe" else mode.size
        return rng.integers(0, bound, (n, *(mode.space.shape or ())))

    return draw


def _same(a: Any, b: Any, path: str = "") -> None:
    assert type(a) is type(b), (path, type(a), type(b))
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            _same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (tuple, list)) or (isinstance(a, np.ndarray) and a.dtype == object):
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            _same(left, right, f"{path}[{i}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape, (path, a.dtype, b.dtype)
        np.testing.assert_array_equal(a, b, path)
    else:
        assert a == b, path


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Any, Any], None]:
    """Asserts that two nested structures have the same types, dtypes, shapes and bits."""
    return _same


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Runs code in a new process with these environment variables; returns what it prints."""

    def run(code: str, **environment: str) -> str:
        command, paths = [sys.executable, "-c", code], {"PYTHONPATH": os.pathsep.join(sys.path)}
        answer = subprocess.run(
            command,
            env=os.environ | paths | environment,
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
        )
        return answer.stdout.strip()

    return run
