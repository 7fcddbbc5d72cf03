"""Training of an online agent in reproducible segments, with checkpoints and trackers.

What a segment does depends on the agent's state at its start, its seed and the segment's number.
A training that was killed and resumed gives the bits of one that was not.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import llmrec_env
from agents.base import SEGMENT, OnlineAgent
from experiments.runs.spec import RunSpec, key_of
from experiments.store import CHECKPOINTS, ResultsError, storing, write_file
from experiments.store.folder import checked, with_checksum
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.kernel_cache import source_digest

Track = Literal["tensorboard", "wandb"]


def train(
    agent: OnlineAgent,
    env: RecVectorEnv,
    spec: RunSpec,
    validate: Callable[[], float],
    folder: Path | None = None,
    track: tuple[str, ...] = (),
) -> list[list[float]]:
    """Trains within the budget of a run; returns (steps, validation return) of each segment.

    Args:
        agent: learns.
        env: of training users.
        spec: names the budget, in environment steps.
        validate: returns how good the agent is now.
        folder: of checkpoints; None: none are kept.
        track: where training is to be followed.

    Raises:
        ResultsError: the checkpoint is damaged, or cannot be written.
    """
    path = None if folder is None else checkpoint_path(folder, spec)
    done, learning = _restored(agent, spec, path)
    with summary_writer(folder, spec, track) as writer:
        agent.log_folder = Path(writer.log_dir) if writer else None
        while done < spec.train_steps:
            steps = min(SEGMENT, spec.train_steps - done)
            done += agent.learn(env, steps, len(learning), done)
            learning.append([float(done), validate()])
            if writer:
                writer.add_scalar("validation/return", learning[-1][1], done)
                writer.flush()
            if path and done < spec.train_steps:  # an agent that was restored cannot act yet
                _save(agent, path, spec, done, learning)
    return learning


# --- checkpoints


def checkpoint_path(folder: Path, spec: RunSpec) -> Path:
    """Returns where the checkpoint of a run lies."""
    return folder / CHECKPOINTS / f"{key_of(spec)}.pt"


def discard_checkpoint(folder: Path, spec: RunSpec) -> None:
    """Deletes the checkpoint of a run whose result is kept, and what a killed write left of one."""
    path = checkpoint_path(folder, spec)
    with storing(path):
        for file in (path, *path.parent.glob(f".{path.name}.*")):
            file.unlink(missing_ok=True)


def _save(
    agent: OnlineAgent, path: Path, spec: RunSpec, done: int, learning: list[list[float]]
) -> None:
    import torch

    file = io.BytesIO()
    state = {
        "run": key_of(spec),
        "code": _code(),
        "agent": agent.state(),
        "done": done,
        "learning": learning,
    }
    torch.save(state, file)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, with_checksum(file.getvalue()))


def _restored(
    agent: OnlineAgent, spec: RunSpec, path: Path | None
) -> tuple[int, list[list[float]]]:
    """Steps done and learning points; (0, []) where there is no checkpoint."""
    import torch

    if path is None or not path.exists():
        return 0, []
    with storing(path):
        data = path.read_bytes()
    try:  # weights_only: a checkpoint cannot run code
        content = io.BytesIO(checked(path, data))
        state: dict[str, Any] = torch.load(content, weights_only=True)
        code, key = state["code"], state["run"]
        done, learning = int(state["done"]), [[float(x) for x in row] for row in state["learning"]]
        if code == _code() and key == key_of(spec):
            agent.restore(state["agent"])
            return done, learning
    except ResultsError:
        raise
    except Exception as error:  # whatever the file holds
        text = f"{path}: not a checkpoint of this agent ({type(error).__name__})"
        raise ResultsError(f"{text}; delete it and run again.") from None
    difference = "under other dynamics" if code != _code() else "for another run"
    raise ResultsError(f"{path}: was trained {difference}; delete it, or name another folder.")


def _code() -> str:
    return f"{llmrec_env.__version__} {source_digest()}"


# --- trackers


@contextlib.contextmanager
def summary_writer(folder: Path | None, spec: RunSpec, track: tuple[str, ...]) -> Iterator[Any]:
    """Yields a TensorBoard writer for a training, below `folder` in `tensorboard/`, or None.

    What it is told also goes to `wandb/` if `track` names it; `wandb sync` can send that later.

    Raises:
        ImportError: the package is not installed; the message says which to install.
    """
    if not track or folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard is not installed; pip install llmrec-env[track].") from None
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{spec.name}-{spec.agent}-w{spec.world}-s{spec.seed}")
    logs = str(folder / "tensorboard" / name)
    with contextlib.ExitStack() as stack:
        if "wandb" in track:
            stack.enter_context(_wandb(folder, name, logs))
        yield stack.enter_context(SummaryWriter(logs))


@contextlib.contextmanager
def _wandb(folder: Path, name: str, logs: str) -> Iterator[None]:
    try:
        # In no extra, so it may be missing where types are checked.
        import wandb  # pyright: ignore[reportMissingImports]
        from wandb.integration import tensorboard  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("wandb is not installed; pip install wandb.") from None
    tensorboard.patch(root_logdir=logs)
    run = wandb.init(project="llmrec-env", name=name, dir=str(folder), mode="offline")
    try:
        yield
    finally:
        run.finish()
        tensorboard.unpatch()
