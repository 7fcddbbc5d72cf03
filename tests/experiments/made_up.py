"""Made-up runs and results, and sweeps of them in processes that tests may kill."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import store
from experiments.runs.spec import RunResult, RunSpec
from experiments.statistics import summary
from experiments.statistics.intervals import Resampling, Scores
from experiments.statistics.leaderboard import leaderboard, world_rows
from experiments.store import RUNS, Episode

ROOT = Path(__file__).parents[2]
STEPS, USERS = 6, 25
SESSION = Episode(
    task="task",
    agent="content",
    world=0,
    seed=0,
    user=0,
    ret=4.0,
    steps=8,
    consumed=3,
    satisfied=2,
    tracking_error=40.0,
    survived=True,
    diversity=0.5,
    topics=3.0,
    novelty=11.0,
    ceiling=0.25,
    shift=20.0,
    discovered=2,
    lost=1,
    goodwill=-0.5,
)
MEANS = {"random": 2.0, "content": 8.0, "drift-aware": 10.0, "ppo": 10.0, "oracle-planning": 18.0}


def plan(worlds: int = 4, **settings: Any) -> list[RunSpec]:
    agents = ("random", "content", "ppo")
    return [
        RunSpec("task", agent, world, env={"off": ["goodwill"]}, settings=settings)
        for world in range(worlds)
        for agent in agents
    ]


def fake(spec: RunSpec) -> RunResult:
    """A result that depends on the specification alone; tells a log who ran what."""
    if log := spec.settings.get("log"):
        with open(log, "a") as file:
            file.write(f"{spec.agent}-{spec.world} {os.getpid()}\n")
    time.sleep(spec.settings.get("sleep", 0.0))
    rng = np.random.default_rng([spec.world, len(spec.agent)])
    steps = rng.integers(1, STEPS + 1, USERS)
    alive = np.arange(STEPS) < steps[:, None]
    reward = np.where(alive, rng.random((USERS, STEPS)), 0.0)
    tracking_error = np.where(alive, rng.random((USERS, STEPS)) * 90, 0.0)
    sums = {
        "reward": reward,
        "alive": alive.astype(float),
        "tracking_error": tracking_error,
        "tracking_error_count": alive.astype(float),
    }
    sums |= {"adaptation_reward": reward[:, :4], "adaptation_count": alive[:, :4] * 1.0}
    return RunResult(
        spec,
        [
            _episode(spec, user, float(x.sum()), int(n))
            for user, x, n in zip(range(USERS), reward, steps, strict=True)
        ],
        {name: array.sum(axis=0).tolist() for name, array in sums.items()},
        {"coverage": float(rng.random()), "gini": float(rng.random())},
        [[100.0, float(rng.random())], [200.0, float(rng.random())]],
        [{"steps": [{"item": 3}], "user": 0}],
        {"training": 1.5},
    )


def _episode(spec: RunSpec, user: int, ret: float, steps: int) -> Episode:
    plain: dict[str, Any] = {
        field.name: 0 if field.type == "int" else 0.5 for field in dataclasses.fields(Episode)
    }
    plain.update(task=spec.name, agent=spec.agent, world=spec.world, seed=spec.seed)
    plain.update(user=user, ret=ret, steps=steps, survived=steps == STEPS)
    return Episode(**plain)


def episodes_of(
    agent: str, returns: Sequence[float] | np.ndarray, task: str = "llmrec/Drift-v1", seed: int = 0
) -> list[Episode]:
    """Sessions of users 0, 1, ... in world 0 with these returns."""
    return [
        Episode(task, agent, 0, seed, user, float(ret), 20, 8, 4, 45.0, True)
        for user, ret in enumerate(returns)
    ]


def scaled_episodes(means: dict[str, float] = MEANS, users: int = 30) -> list[Episode]:
    """Sessions in which return is a user's part times the agent's mean; ppo has two seeds."""
    episodes = []
    for agent, mean in means.items():
        for seed in range(2 if agent == "ppo" else 1):
            for world in range(2):
                part = np.random.default_rng(world).gamma(9.0, 1 / 9.0, users)
                about = {"task": "task-a", "agent": agent, "world": world, "seed": seed}
                episodes += [
                    dataclasses.replace(
                        SESSION, **about, user=i, ret=ret, steps=10 + i % 3, belief_error=30.0
                    )
                    for i, ret in enumerate((mean * part / part.mean()).tolist())
                ]
    return episodes


def crossed(values: np.ndarray, worlds: int = 1) -> Scores:
    """Scores of a table (users, seeds)."""
    users, seeds = np.indices(values.shape)
    return Scores.of(values.ravel(), users.ravel() % worlds, users.ravel(), seeds.ravel())


def tables(folder: Path, results: list[RunResult], resamples: int = 100) -> bytes:
    """The bytes of the tables that a benchmark makes of its results."""
    folder.mkdir(exist_ok=True)
    rows = [row for result in results for row in result.episodes]
    agents = tuple(dict.fromkeys(result.spec.agent for result in results))
    resampling = Resampling(resamples=resamples)
    made: tuple[tuple[Any, Any], ...] = (
        (Episode, rows),
        (store.CurvePoint, summary.curve_points(results)),
        (store.AdaptationPoint, summary.adaptation_points(results)),
        (store.LearningPoint, summary.learning_points(results)),
        (store.Row, leaderboard(rows, agents, {}, resampling)),
        (store.WorldRow, world_rows(rows, agents, resampling)),
        (store.Metric, summary.metrics_of(results, resampling)),
    )
    write: Any = store.write_table
    store.write_sessions(folder, [x for result in results for x in result.sessions])
    sessions = (folder / store.SESSIONS).read_bytes()
    return sessions + b"".join(write(folder, *table).read_bytes() for table in made)


def records_of(folder: Path) -> list[dict[str, Any]]:
    """What the files of results hold, in the order in which they were written."""
    paths = sorted((folder / RUNS).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_bytes())["content"] for path in paths]


def child(
    folder: Path,
    specs: list[RunSpec],
    before: str = "",
    execute: str = "made_up.fake",
    **options: Any,
) -> subprocess.Popen:
    """Sweeps in another process: says "go", then the digest of what comes out."""
    code = f"""
import hashlib, os, resource, signal, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import made_up
from experiments.runs.spec import RunSpec
from experiments.runs.runner import run_sweep
specs = [RunSpec(**x) for x in {[dataclasses.asdict(spec) for spec in specs]!r}]
folder = Path({str(folder)!r})
{before}
print("go", flush=True)
results = run_sweep(specs, folder, execute={execute}, **{options!r})
print(hashlib.sha256(made_up.tables(folder / str(os.getpid()), results)).hexdigest(), flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
