"""A small results folder, made of numbers that are easy to check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import leaderboard
from experiments.store import CurvePoint, Episode, Row, write_manifest, write_table

AGENTS = {"random": 2.0, "drift-aware": 9.0, "ppo": 9.1, "oracle-planning": 20.0}


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four agents on two worlds of 30 users, without any file that older runs lack."""
    return fill(tmp_path)


@pytest.fixture(scope="session")
def fill_folder() -> Callable[[Path], Path]:
    """Writes the files of `folder` into another one."""
    return fill


def fill(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    episodes = [
        Episode("Task-v0", agent, world, 0, user, float(mean * part), 20, 8, 4, 45.0, True)
        for agent, mean in AGENTS.items()
        for world in range(2)
        for user, part in enumerate(generator.gamma(9.0, 1 / 9.0, 30))
    ]
    points = [
        CurvePoint("Task-v0", agent, t, 0.1, 1.0, 45.0) for agent in AGENTS for t in range(20)
    ]
    write_table(folder, Episode, episodes)
    write_table(folder, CurvePoint, points)
    write_table(folder, Row, leaderboard(episodes, resampling=Resampling(resamples=200)))
    write_manifest(
        folder,
        config={"users": 30, "note": "</pre><script>alert('x')</script>"},
        command=["/somewhere/experiments/__main__.py", "benchmark", "--output", "a b; rm"],
        wall_seconds=90,
        git_commit="0123456789" * 4,
    )
    return folder


@pytest.fixture(scope="session")
def kept_session(tiny: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Makes a session in the tiny world: slates count up, and an interest switches in step 3."""

    def make(
        agent: str, user: int = 9, num_steps: int = 8, first_item: int = 0, **changes: Any
    ) -> dict[str, Any]:
        steps = [
            {
                "interests": [[0, 1.0], [7 if t < 3 else 8, 0.25]],
                "slate": [first_item + 5 * t + k for k in range(5)],
                "choice": t % 6 - 1,
                "satisfied": t % 2,
                "query": 7 if t == 1 else -1,
                "events": [["died", 7], ["born", 8]] if t == 2 else [],
                "goodwill": -0.1,
                "patience": 10.0 - t,
                "tracking_error": 40.0 + t,
                "belief_error": 20.0 + t,
                "reward": 0.25 * (t % 2),
            }
            for t in range(num_steps)
        ]
        about = {"label": "Task-v0", "task": "llmrec/Drift-v1", "env": dict(tiny)}
        about |= {"agent": agent, "world": 0, "seed": 0, "user": user, "survived": False}
        return about | {"steps": steps} | changes

    return make
