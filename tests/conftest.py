"""One tiny world for the whole suite, so that kernels are compiled for few shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from llmrec_env.config import EnvConfig
from llmrec_env.simulator import Simulator
from llmrec_env.vector_env import RecVectorEnv
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


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Keyword arguments of the tiny world."""
    return dict(TINY)


@pytest.fixture(scope="session")
def world() -> World:
    return load_world(EnvConfig(**TINY))


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
        simulator = Simulator(EnvConfig(**{**TINY, **changes}), n)
        keys = np.random.default_rng(seed).integers(0, 2**63, n, dtype=np.uint64)
        simulator.start(np.arange(n), np.arange(n) % simulator.config.num_users, keys)
        simulator.show(np.arange(n))
        return simulator

    return make


@pytest.fixture(scope="session")
def new_env() -> Callable[..., gymnasium.Env]:
    """Makes single environments as users do."""

    def make(task: str = "llmrec/Drift-v0", **changes: Any) -> gymnasium.Env:
        return gymnasium.make(task, **{**TINY, **changes})

    return make


@pytest.fixture(scope="session")
def new_vec() -> Callable[..., RecVectorEnv]:
    """Makes native batches of n sessions."""

    def make(n: int, **changes: Any) -> RecVectorEnv:
        return RecVectorEnv(n, **{**TINY, **changes})

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
