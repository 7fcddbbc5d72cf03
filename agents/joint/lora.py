"""Low-rank adapters of a language model: putting them in, and their files."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmrec_env.content.encoders import EncoderError, WeightsError

WEIGHTS, RECORD = "adapter_model.safetensors", "config.json"

_PROJECTIONS = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"))
"""What query and value are called: in BERT, RoBERTa and ELECTRA; LLaMA and Qwen; DistilBERT."""
_MAX_RECORD = 1_000_000  # bytes


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
    model: Any, targets: tuple[str, str], rank: int, alpha: int, dropout: float, seed: int
) -> Any:
    """Returns the model with low-rank changes of the targets that learn, and nothing else.

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
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets)
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers renamed
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def write_adapter(path: Path, settings: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Writes `adapter_model.safetensors` and `config.json` into the folder `path`."""
    from safetensors.torch import save

    path.mkdir(parents=True, exist_ok=True)
    data = save(weights)
    (path / WEIGHTS).write_bytes(data)
    record = settings | {"weights_sha256": hashlib.sha256(data).hexdigest()}
    (path / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_adapter(path: Path, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of an adapter that was written with the same settings.

    Raises:
        WeightsError: it was made for another base or rank, or its files are damaged.
    """
    from safetensors.torch import load

    record = _record(path, settings)
    for name, value in settings.items():
        if record[name] != value:
            found = "another base model" if name == "base" else f"{name}={record[name]!r}"
            wanted = "this one" if name == "base" else f"{value!r}"
            raise WeightsError(
                f"the adapter in {path} was made for {found}, not for {wanted}; "
                "build the tower with what the adapter was trained with"
            )
    try:
        data = (path / WEIGHTS).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path / WEIGHTS}: {error.strerror}; restore it") from None
    if hashlib.sha256(data).hexdigest() != record["weights_sha256"]:
        raise WeightsError(
            f"{path / WEIGHTS} is not the file that {RECORD} was written with; restore both"
        )
    return load(data)


def _record(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    file = path / RECORD
    try:
        with open(file, "rb") as stream:
            record: object = json.loads(stream.read(_MAX_RECORD))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read ({type(error).__name__}); restore it") from None
    if not isinstance(record, dict) or not {*settings, "weights_sha256"} <= record.keys():
        raise WeightsError(f"{file} is not the record of an adapter; name its folder")
    return record
