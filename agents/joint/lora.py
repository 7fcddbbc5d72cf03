"""LoRA: low-rank adapters of a language model, and their files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.saving import load, save
from llmrec_env.content.encoders import EncoderError, WeightsError

_PROJECTIONS = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"))
"""What query and value are called: in BERT, RoBERTa and ELECTRA; LLaMA and Qwen; DistilBERT."""


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raises ValueError unless the argument lies between the two; NaN does not."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range; allowed: {low} to {high}.")


def attention_projections(model: nn.Module) -> tuple[str, str]:
    """Returns what the query and value projections of a model are called.

    Raises:
        ValueError: the model has none by a known name.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    for pair in _PROJECTIONS:
        if names.issuperset(pair):
            return pair
    known = ", ".join("/".join(pair) for pair in _PROJECTIONS)
    raise ValueError(
        f"mode='lora' finds no attention projections in {type(model).__name__}; it knows models "
        f"that call them {known}. Use mode='full'."
    )


def with_lora(
    model: Any, targets: tuple[str, str] | str, rank: int, alpha: int, dropout: float, seed: int
) -> Any:
    """Returns the model with low-rank changes of the targets that learn, and nothing else.

    Args:
        model: to be changed.
        targets: names of layers, or `all-linear`.
        rank: of a change.
        alpha: a change counts alpha / rank times.
        dropout: on what enters a change.
        seed: of the first change, which adds nothing.

    Raises:
        ValueError: a setting is out of range.
        EncoderError: peft is not installed.
    """
    check_range("rank", rank, 1, 1024)
    check_range("alpha", alpha, 1, 65_536)
    check_range("dropout", dropout, 0.0, 0.9)
    try:
        import peft
    except ImportError as error:
        raise EncoderError("mode='lora' needs peft; pip install llmrec-env[lora].") from error
    layers = targets if isinstance(targets, str) else list(targets)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=layers)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers renamed
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def save_adapter(path: Path, settings: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Saves what an adapter learnt and the settings it needs; see `agents.saving.save`."""
    save(path, settings, {name: weight.numpy() for name, weight in weights.items()})


def load_adapter(path: Path, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of an adapter that was saved with the same settings.

    Raises:
        WeightsError: it was made for another base or rank, or its files are damaged.
    """
    try:
        record, weights = load(path)
    except ValueError as error:
        raise WeightsError(str(error)) from None
    for name, value in settings.items():
        if record.get(name) != value:
            other = "another base model" if name == "base" else f"{name}={record.get(name)!r}"
            own = "this one" if name == "base" else f"{value!r}"
            raise WeightsError(
                f"the adapter in {path} was made for {other}, not for {own}; "
                "build the tower with what the adapter was trained with"
            )
    return {name: torch.from_numpy(weight) for name, weight in weights.items()}
