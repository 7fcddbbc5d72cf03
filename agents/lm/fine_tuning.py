"""Fine-tuning of a causal model: which weights learn, how they are kept, and how endings do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agents.joint.lora import with_lora
from agents.lm.causal import CausalModel, token_losses
from agents.neural.trainer import Progress, TrainConfig, fit
from llmrec_env.config import unknown
from llmrec_env.content.encoders import WeightsError

MODES = ("lora", "full")
HELD_OUT = 0.05
"""Share of the groups of examples whose loss says which epoch was the best."""
_EXAMPLES_A_STEP = 32
_BASE = "base_sha256"


class Example(NamedTuple):
    """A prompt and what is to follow it, as tokens."""

    prompt: npt.NDArray[np.int32]
    ending: npt.NDArray[np.int32]


def check_mode(mode: str) -> None:
    """Raises ValueError for a mode that is none of MODES."""
    if mode not in MODES:
        raise ValueError(unknown("mode:", mode, list(MODES)))


def learning_weights(lm: CausalModel, mode: str, rank: int, seed: int) -> dict[str, Tensor]:
    """Changes a model so that it learns in a mode, and returns the weights that do, by name.

    Args:
        lm: as it was loaded.
        mode: low-rank changes of all linear layers (`lora`), or all weights (`full`).
        rank: of these changes.
        seed: of the first change, which adds nothing.
    """
    if mode == "lora":
        lm.model = with_lora(lm.model, "all-linear", rank, 2 * rank, 0.0, seed)
    else:
        lm.model.requires_grad_(True)
    return {name: weight for name, weight in lm.model.named_parameters() if weight.requires_grad}


def arrays_of(lm: CausalModel, weights: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Returns what a folder keeps: weights that learnt, and the digest of the model before."""
    arrays: dict[str, npt.NDArray[Any]] = {
        name: weight.detach().float().cpu().numpy() for name, weight in weights.items()
    }
    return arrays | {_BASE: np.frombuffer(lm.digest, np.uint8)}


def take_arrays(
    lm: CausalModel, weights: Mapping[str, Tensor], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Writes what `arrays_of` returned into the weights.

    Raises:
        WeightsError: they are changes of another model.
    """
    if arrays[_BASE].tobytes() != lm.digest:
        raise WeightsError(
            f"the model in {str(lm.directory)!r} is not the one that this agent was fine-tuned "
            "from; restore it, or train again."
        )
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(np.array(arrays[name])))


def learn_endings(
    lm: CausalModel,
    examples: Sequence[Example],
    groups: npt.NDArray[np.int64],
    epochs: int,
    learning_rate: float,
    seed: int,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fine-tunes what learns of a model by the cross-entropy of the endings' tokens alone.

    A share of the groups is held out; the weights of the epoch with the lowest loss on these stay.

    Args:
        lm: its weights that require gradients learn.
        examples: (m,).
        groups: of whom each example is, (m,): those of one are held out together.
        epochs: passes over the examples, at most.
        learning_rate: of AdamW.
        seed: of the order, and of what is held out.
        on_epoch: called after each epoch.

    Raises:
        ValueError: too few examples.
        FloatingPointError: a loss is not finite.
    """
    everyone = np.random.default_rng([seed, 7]).permutation(np.unique(groups))
    is_held = np.isin(groups, everyone[: max(1, round(HELD_OUT * len(everyone)))])
    training, held_out = np.flatnonzero(~is_held), np.flatnonzero(is_held)
    if not len(training):
        raise ValueError(
            f"{len(examples)} examples are of {len(everyone)} users; fine-tuning takes those of "
            "two or more: use more users, or epochs=0."
        )
    steps = TrainConfig(epochs, _EXAMPLES_A_STEP, learning_rate, seed=seed)
    return fit(
        lm.model,
        len(training),
        lambda rows: _loss(lm, [examples[i] for i in training[rows].tolist()]),
        lambda: float(_loss(lm, [examples[i] for i in held_out.tolist()])),
        steps,
        on_epoch=on_epoch,
    )


def _loss(lm: CausalModel, examples: Sequence[Example]) -> Tensor:
    """The mean cross-entropy of the endings' tokens, read `batch_size` at a time."""
    ordered = sorted(examples, key=lambda example: len(example.prompt))  # less padding
    sums: list[Tensor] = []
    for first in range(0, len(ordered), lm.batch_size):
        batch = ordered[first : first + lm.batch_size]
        logits, tokens, told = lm.logits_behind(
            [example.prompt for example in batch], [example.ending for example in batch]
        )
        sums.append(token_losses(logits, tokens, told).sum())
    return torch.stack(sums).sum() / sum(len(example.ending) for example in ordered)
