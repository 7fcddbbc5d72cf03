"""How our torch models are trained: one config, resumable bit for bit, on one process or several.

Warm-up and cosine decay (Loshchilov and Hutter 2017), AdamW (2019), gradient clipping, early
stopping on validation users. Several processes (`torchrun`) each take a share of every batch and
average their gradients, so that the loss curve is that of one process within rounding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


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
    optimiser = _optimiser(model, groups, config)
    steps = config.epochs * math.ceil(num_samples / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _cosine(steps, config.warm_up))
    told = {"config": vars(config), "identity": identity}
    progress, best = Progress(), _changing(model)
    if checkpoint is not None and checkpoint.exists():
        progress, best = _load(checkpoint, model, optimiser, schedule, told)
    writer = _writer(log_folder) if rank == 0 else None
    while progress.epoch < config.epochs and progress.since_best <= config.patience:
        order = np.random.default_rng([config.seed, progress.epoch]).permutation(num_samples)
        with torch.random.fork_rng(devices=[]):  # the caller's luck is not ours to use up
            torch.manual_seed(_seed(config.seed, progress.epoch, rank))
            total = _epoch(model, order, loss, config, optimiser, schedule, (rank, world))
        if not math.isfinite(total):
            model.load_state_dict(best, strict=False)
            raise FloatingPointError(
                f"the loss is {total} in epoch {progress.epoch}; the weights are those of the best "
                "epoch before it; lower learning_rate, or look for values that are not finite."
            )
        model.eval()
        with torch.no_grad():
            reached = validate()
        progress = _after(progress, total, reached)
        if progress.since_best == 0:
            best = _changing(model)
        if writer:
            writer.add_scalar("loss/train", total, progress.epoch)
            writer.add_scalar("loss/validation", reached, progress.epoch)
        if checkpoint is not None and rank == 0:
            _save(checkpoint, model, optimiser, schedule, progress, best, told)
        if on_epoch:
            on_epoch(progress)
    if writer:
        writer.close()
    model.load_state_dict(best, strict=False)
    model.eval()
    return progress


def _changing(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of what learns, and of buffers; a frozen language model is not copied."""
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    state = model.state_dict()
    return {name: state[name].detach().clone() for name in state if name not in frozen}


def _epoch(
    model: nn.Module,
    order: np.ndarray,
    loss: Callable[[np.ndarray], torch.Tensor],
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    process: tuple[int, int],
) -> float:
    """Mean loss of one pass over the samples; NaN as soon as one is not finite."""
    model.train()
    rank, world = process
    total, count = 0.0, 0
    for first in range(0, len(order), config.batch_size):
        batch = order[first : first + config.batch_size]
        own = batch[rank::world]
        optimiser.zero_grad()
        found = loss(own)
        if not torch.isfinite(found):
            return math.nan
        (found * (len(own) / len(batch))).backward()
        whole = _summed(model, float(found.detach()) * len(own), world)
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        total, count = total + whole, count + len(batch)
    return total / max(count, 1)


def _after(progress: Progress, train_loss: float, reached: float) -> Progress:
    better = reached < progress.best
    return Progress(
        epoch=progress.epoch + 1,
        best=min(reached, progress.best),
        since_best=0 if better else progress.since_best + 1,
        train_loss=(*progress.train_loss, train_loss),
        validation_loss=(*progress.validation_loss, reached),
    )


def _optimiser(
    model: nn.Module, groups: Sequence[Mapping[str, Any]] | None, config: TrainConfig
) -> torch.optim.Optimizer:
    default = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    given: list[dict[str, Any]] = [dict(group) for group in groups or default]
    for group in given:
        group["lr"] = config.learning_rate * group.pop("rate", 1.0)
    return torch.optim.AdamW(given, weight_decay=0.0)


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


# --- checkpoints


def _save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    progress: Progress,
    best: Mapping[str, torch.Tensor],
    told: Mapping[str, Any],
) -> None:
    state = {"model": _changing(model), "best": dict(best), "optimiser": optimiser.state_dict()}
    state |= {"schedule": schedule.last_epoch, "progress": vars(progress), "told": dict(told)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def _load(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    told: Mapping[str, Any],
) -> tuple[Progress, dict[str, torch.Tensor]]:
    try:  # weights_only: a checkpoint cannot run code
        state = torch.load(path, weights_only=True)
        other = [name for name in told if state["told"][name] != told[name]]
        if not other:
            model.load_state_dict(state["model"], strict=False)
            optimiser.load_state_dict(state["optimiser"])
            schedule.last_epoch = state["schedule"]
            return Progress(**state["progress"]), state["best"]
    except Exception as error:  # whatever the file holds
        text = f"{path}: not a checkpoint of this model ({type(error).__name__})"
        raise ValueError(f"{text}; delete it and train again.") from None
    what = (
        "by another configuration" if "config" in other else "on other data or with other settings"
    )
    raise ValueError(f"{path}: was trained {what}; delete it, or name another file.")
