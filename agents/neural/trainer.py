"""Training loop of torch models, resumable bit for bit, on one process or several.

Warm-up and cosine decay (Loshchilov and Hutter 2017), AdamW (2019), gradient clipping, early
stopping on validation users. Several processes (`torchrun`) each take a share of every batch and
average their gradients, so that the loss curve is that of one process within rounding.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec_env.atomic_files import write_atomically


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast a model learns."""

    epochs: int = 8
    batch_size: int = 2048
    """Samples, over all processes."""
    learning_rate: float = 2e-3
    warm_up: float = 0.1
    """Share of the steps in which the learning rate rises."""
    clip: float = 1.0
    """Longest gradient."""
    patience: int = 2
    """Epochs without a better validation loss after which training stops."""
    seed: int = 0


@dataclass
class Progress:
    """Where a training is; all that the next epoch depends on."""

    epoch: int = 0
    best: float = math.inf
    since_best: int = 0
    train_loss: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()


def fit(
    model: nn.Module,
    num_samples: int,
    loss: Callable[[np.ndarray], torch.Tensor],
    validate: Callable[[], float],
    config: TrainConfig,
    *,
    groups: Sequence[Mapping[str, Any]] | None = None,
    checkpoint: Path | None = None,
    identity: str = "",
    log_folder: Path | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Trains a model and leaves it with the weights of the best epoch.

    Args:
        model: learns in place.
        num_samples: samples are numbered 0 to num_samples - 1.
        loss: mean loss of some samples; what is random is drawn from torch's generator.
        validate: loss on validation users.
        config: how long and how fast.
        groups: parameter groups with a `rate`, by which the learning rate is multiplied, and a
            `weight_decay`; None: all alike.
        checkpoint: file to go on from, written after each epoch.
        identity: of data and settings; a checkpoint of others is refused.
        log_folder: of TensorBoard; None: nothing is written.
        on_epoch: called after each epoch.

    Raises:
        FloatingPointError: a loss is not finite; the model has the weights of the best epoch.
        ValueError: the checkpoint is damaged or of another training.
    """
    rank, world = _process()
    training = _Training(model, num_samples, config, groups, identity)
    if checkpoint is not None and checkpoint.exists():
        training.load(checkpoint)
    writer = _writer(log_folder) if rank == 0 else None
    while not training.ended:
        epoch = training.progress.epoch
        order = np.random.default_rng([config.seed, epoch]).permutation(num_samples)
        with torch.random.fork_rng(devices=[]):  # leaves the caller's RNG state alone
            torch.manual_seed(_seed(config.seed, epoch, rank))
            train_loss = training.run_epoch(order, loss, rank, world)
        model.eval()
        with torch.no_grad():
            validation_loss = validate()
        training.record(train_loss, validation_loss)
        if writer:
            writer.add_scalar("loss/train", train_loss, epoch + 1)
            writer.add_scalar("loss/validation", validation_loss, epoch + 1)
        if checkpoint is not None and rank == 0:
            training.save(checkpoint)
        if on_epoch:
            on_epoch(training.progress)
    if writer:
        writer.close()
    training.take_best()
    return training.progress


class _Training:
    """A model, its optimiser and its progress: what a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        num_samples: int,
        config: TrainConfig,
        groups: Sequence[Mapping[str, Any]] | None,
        identity: str,
    ) -> None:
        self.model, self.config = model, config
        self.identity = {"config": vars(config), "identity": identity}
        self.optimiser = _optimiser(model, groups, config)
        steps = config.epochs * math.ceil(num_samples / config.batch_size)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, _cosine(steps, config.warm_up)
        )
        self.progress, self.best = Progress(), self._weights()

    @property
    def ended(self) -> bool:
        progress, config = self.progress, self.config
        return progress.epoch >= config.epochs or progress.since_best > config.patience

    def run_epoch(
        self, order: np.ndarray, loss: Callable[[np.ndarray], torch.Tensor], rank: int, world: int
    ) -> float:
        """Mean loss of one pass over the samples."""
        self.model.train()
        total, count = 0.0, 0
        for first in range(0, len(order), self.config.batch_size):
            batch = order[first : first + self.config.batch_size]
            own = batch[rank::world]
            self.optimiser.zero_grad()
            own_loss = loss(own)
            if not torch.isfinite(own_loss):
                self.take_best()
                raise FloatingPointError(
                    f"the loss is {float(own_loss.detach())} in epoch {self.progress.epoch}; the "
                    "weights are those of the best epoch before it; lower learning_rate, or look "
                    "for values that are not finite."
                )
            (own_loss * (len(own) / len(batch))).backward()
            total += _summed(self.model, float(own_loss.detach()) * len(own), world)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimiser.step()
            self.schedule.step()
            count += len(batch)
        return total / max(count, 1)

    def record(self, train_loss: float, validation_loss: float) -> None:
        """Counts an epoch, and keeps its weights if they are the best."""
        before = self.progress
        better = validation_loss < before.best
        self.progress = Progress(
            epoch=before.epoch + 1,
            best=min(validation_loss, before.best),
            since_best=0 if better else before.since_best + 1,
            train_loss=(*before.train_loss, train_loss),
            validation_loss=(*before.validation_loss, validation_loss),
        )
        if better:
            self.best = self._weights()

    def take_best(self) -> None:
        """Leaves the model with the weights of the best epoch."""
        self.model.load_state_dict(self.best, strict=False)
        self.model.eval()

    def save(self, path: Path) -> None:
        state = {"model": self._weights(), "best": self.best, "identity": self.identity}
        state |= {"optimiser": self.optimiser.state_dict(), "progress": vars(self.progress)}
        state["schedule"] = self.schedule.last_epoch
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(path, content.getvalue())

    def load(self, path: Path) -> None:
        try:  # weights_only: a checkpoint cannot run code
            state = torch.load(path, weights_only=True)
            other = [x for x in self.identity if state["identity"][x] != self.identity[x]]
            if not other:
                self.model.load_state_dict(state["model"], strict=False)
                self.optimiser.load_state_dict(state["optimiser"])
                self.schedule.last_epoch = state["schedule"]
                self.progress, self.best = Progress(**state["progress"]), state["best"]
                return
        except Exception as error:  # whatever the file holds
            text = f"{path}: not a checkpoint of this model ({type(error).__name__})"
            raise ValueError(f"{text}; delete it and train again.") from None
        what = "configuration" if "config" in other else "data or with other settings"
        text = f"{path}: was trained {'by another' if 'config' in other else 'on other'} {what}"
        raise ValueError(f"{text}; delete it, or name another file.")

    def _weights(self) -> dict[str, torch.Tensor]:
        """Copies of what learns, and of buffers; a frozen language model is not copied."""
        model = self.model
        frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
        state = model.state_dict()
        return {name: state[name].detach().clone() for name in state if name not in frozen}


def _optimiser(
    model: nn.Module, groups: Sequence[Mapping[str, Any]] | None, config: TrainConfig
) -> torch.optim.Optimizer:
    default = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    options: list[dict[str, Any]] = [dict(group) for group in groups or default]
    for group in options:
        group["lr"] = config.learning_rate * group.pop("rate", 1.0)
    return torch.optim.AdamW(options, weight_decay=0.0)


def _cosine(steps: int, warm_up: float) -> Callable[[int], float]:
    rise = max(1, round(steps * warm_up))
    return lambda i: min(1.0, (i + 1) / rise) * 0.5 * (1.0 + math.cos(math.pi * min(i / steps, 1)))


def _seed(seed: int, epoch: int, rank: int) -> int:
    return (seed * 1_000_003 + epoch * 7_919 + rank * 104_729 + 1) % 2**63


def _process() -> tuple[int, int]:
    """Rank and number of processes; joins the group that `torchrun` describes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    import torch.distributed as distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size()


def _summed(model: nn.Module, loss: float, world: int) -> float:
    """Adds gradients over all processes, and returns the sum of the losses."""
    if world == 1:
        return loss
    import torch.distributed as distributed

    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
    total = torch.tensor(loss, dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total)


def _writer(folder: Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard is not installed; pip install llmrec-env[track].") from None
    return SummaryWriter(str(folder))
