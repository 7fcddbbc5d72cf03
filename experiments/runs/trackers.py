"""Following a training while it runs: TensorBoard, and Weights & Biases without its server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from experiments.runs.spec import RunSpec

Track = Literal["tensorboard", "wandb"]


class Follower:
    """Receives numbers of one training; by default it keeps none."""

    def __init__(self, folder: Path | None = None, writer: Any = None) -> None:
        """Takes the folder where the agent's own numbers go, and what writes ours."""
        self.folder, self._writer = folder, writer

    def write(self, name: str, value: float, steps: int) -> None:
        """Writes a number at some user-steps of training."""
        if self._writer:
            self._writer.add_scalar(name, value, steps)
            self._writer.flush()


@contextlib.contextmanager
def tracker(folder: Path | None, spec: RunSpec, track: tuple[str, ...]) -> Iterator[Follower]:
    """Follows the training of a cell below `folder`, in `tensorboard/` and `wandb/`.

    Raises:
        ImportError: the package is not installed; the message says which to install.
    """
    if not track or folder is None:
        yield Follower()
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard is not installed; pip install llmrec-env[track].") from None
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{spec.name}-{spec.agent}-w{spec.world}-s{spec.seed}")
    logs = folder / "tensorboard" / name
    with contextlib.ExitStack() as stack:
        if "wandb" in track:
            stack.enter_context(_wandb(folder, name, logs))
        writer = stack.enter_context(SummaryWriter(str(logs)))
        yield Follower(logs, writer)


@contextlib.contextmanager
def _wandb(folder: Path, name: str, logs: Path) -> Iterator[None]:
    """A run in `wandb/` that copies what TensorBoard is told; `wandb sync` can send it later."""
    try:
        # In no extra, so it may be missing where types are checked.
        import wandb  # pyright: ignore[reportMissingImports]
        from wandb.integration import tensorboard  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("wandb is not installed; pip install wandb.") from None
    tensorboard.patch(root_logdir=str(logs))
    run = wandb.init(project="llmrec-env", name=name, dir=str(folder), mode="offline")
    try:
        yield
    finally:
        run.finish()
        tensorboard.unpatch()
