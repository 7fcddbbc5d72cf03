"""A belief in the tiny world, and steps for it to follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agents.rankers.belief_oracle.belief import Belief
from agents.rankers.belief_oracle.knowledge import draw_pool, knowledge_of
from llmrec_env.config import EnvConfig
from llmrec_env.world import load_world


@pytest.fixture(scope="session")
def new_belief(tiny: dict[str, Any]) -> Callable[..., Belief]:
    """Makes beliefs about a user of the tiny world whose session begins."""

    def make(particles: int = 8, moves: int = 0, key: int = 1, **changes: Any) -> Belief:
        config = EnvConfig(**(tiny | changes))
        world = load_world(config)
        known = knowledge_of(world, config.slate_size)
        belief = Belief(config, known, draw_pool(config, world, 0), particles, moves, key)
        belief.begin_session(0)
        return belief

    return make


@pytest.fixture(scope="session")
def show() -> Callable[..., None]:
    """Shows a belief random slates, from which nothing is consumed."""

    def shown(belief: Belief, steps: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            slate = rng.choice(600, 5, replace=False).astype(np.int32)
            belief.follow(slate, np.full(5, -1, np.int32), -1)

    return shown
