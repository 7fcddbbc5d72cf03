"""Training in reproducible segments, so that a long cell goes on where it was killed.

What a segment does depends on the agent's state at its start, its seed and the segment's number.
A training that was killed and goes on gives the bits of one that was not.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.base import SEGMENT, OnlineAgent
from experiments.runs.spec import RunSpec, key_of
from experiments.runs.trackers import tracker
from experiments.store import CHECKPOINTS, ResultsError, storing, write_file
from llmrec_env.simulation.kernel_cache import source_digest
from llmrec_env.envs.vector import RecVectorEnv


def train(
    agent: OnlineAgent,
    env: RecVectorEnv,
    spec: RunSpec,
    validate: Callable[[], float],
    folder: Path | None = None,
    track: tuple[str, ...] = (),
) -> list[list[float]]:
    """Trains within the cell's budget; returns (user-steps, validation return) of each segment.

    Args:
        agent: learns.
        env: of training users.
        cell: names the budget.
        validate: returns how good the agent is now.
        folder: of checkpoints; None: none are kept.
        track: where training is to be followed.

    Raises:
        ResultsError: the checkpoint is damaged, or cannot be written.
    """
    path = None if folder is None else _path(folder, spec)
    done, learning = _restored(agent, spec, path)
    with tracker(folder, spec, track) as follow:
        agent.log_folder = follow.folder
        while done < spec.train_steps:
            steps = min(SEGMENT, spec.train_steps - done)
            done += agent.learn(env, steps, len(learning), done)
            learning.append([float(done), validate()])
            follow.write("validation/return", learning[-1][1], done)
            if path and done < spec.train_steps:  # an agent that was restored cannot act yet
                _save(agent, path, spec, done, learning)
    return learning


def discard(folder: Path, spec: RunSpec) -> None:
    """Deletes the checkpoint of a cell whose result is kept."""
    with storing(_path(folder, spec)):
        _path(folder, spec).unlink(missing_ok=True)


def _path(folder: Path, spec: RunSpec) -> Path:
    return folder / CHECKPOINTS / f"{key_of(spec)[:32]}.pt"


def _save(agent: OnlineAgent, path: Path, spec: RunSpec, done: int, learning: list[list[float]]) -> None:
    import torch

    state = {"agent": agent.state(), "done": done, "learning": learning}
    file = io.BytesIO()
    torch.save({**state, "cell": key_of(spec), "code": source_digest()}, file)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, file.getvalue())


def _restored(agent: OnlineAgent, spec: RunSpec, path: Path | None) -> tuple[int, list[list[float]]]:
    """User-steps done and learning points; (0, []) where there is no checkpoint."""
    import torch

    if path is None or not path.exists():
        return 0, []
    with storing(path):
        data = path.read_bytes()
    try:  # weights_only: a checkpoint cannot run code
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
        code, key = state["code"], state["cell"]
        done, learning = int(state["done"]), [[float(x) for x in row] for row in state["learning"]]
        if code == source_digest() and key == key_of(spec):
            agent.restore(state["agent"])
            return done, learning
    except Exception as error:  # whatever the file holds
        text = f"{path}: not a checkpoint of this agent ({type(error).__name__})"
        raise ResultsError(f"{text}; delete it and run again.") from None
    what = "under other dynamics" if code != source_digest() else "for another cell"
    raise ResultsError(f"{path}: was trained {what}; delete it, or name another folder.")
