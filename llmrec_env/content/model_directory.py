"""Directory of a local language model: what is checked before anything of it is loaded.

Only weights in safetensors form are read, and no code of the directory is run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmrec_env.content.encoders.protocol import DeviceError, WeightsError
from llmrec_env.content.encoders.weights import digest_files, import_framework

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a weight."""
_WORKING_ROOM = 1.2  # memory over that of the weights


class Kind(NamedTuple):
    """What a language model puts out, and how transformers calls such models."""

    words: str
    loader: str
    """The class that loads them."""
    classes: str
    """The table of the classes that are such models, by model_type."""


CAUSAL = Kind("causal language model", "AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
CLASSIFIER = Kind(
    "sequence classifier",
    "AutoModelForSequenceClassification",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
)


class ModelDirectory(NamedTuple):
    """A directory that may be loaded."""

    path: Path
    kind: Kind
    digest: bytes
    """SHA-256 of the files of the model."""


def checked_directory(
    model: str | Path, kinds: Sequence[Kind], name: str, naming: str, instead: str
) -> ModelDirectory:
    """Returns the directory of a model of one of some kinds that needs no code of its own.

    Args:
        model: the directory.
        kinds: that are taken.
        name: of the setting, for errors.
        naming: how the setting is given, for errors.
        instead: what to use in place of another kind of model, for errors.

    Raises:
        WeightsError: it is no directory, or holds no weights in safetensors form, or another kind
            of model.
    """
    directory, wanted = Path(model).expanduser(), " or ".join(kind.words for kind in kinds)
    if not str(model) or not directory.is_dir():
        raise WeightsError(
            f"{name}={str(model)!r} is not a directory; name one that holds a {wanted}, as "
            f"`hf download ID --local-dir DIR` writes it: {naming}."
        )
    digest = _digest(directory)
    config = read_config(directory)
    known = import_framework("transformers").models.auto.modeling_auto
    model_type, classes = config.get("model_type"), config.get("architectures") or []
    native = [getattr(known, kind.classes).get(model_type) for kind in kinds]
    if not any(native) and "auto_map" in config:
        raise WeightsError(
            f"{directory} asks to run code of its own (auto_map in config.json), which is never "
            "done; use a model that transformers knows."
        )
    found = [kind for kind, own in zip(kinds, native, strict=True) if own and own in classes]
    if not found or config.get("is_encoder_decoder"):
        raise WeightsError(
            f"{directory} holds no {wanted} (model_type={model_type!r}, "
            f"architectures={classes}); {instead}."
        )
    return ModelDirectory(directory.resolve(), found[0], digest)


def model_identity(source: Any) -> Any:
    """Returns the digest of the model in a directory, wherever it lies, or else the source itself.

    A model is not read again while its files are as old and as large as before.
    """
    directory = Path(source).expanduser() if isinstance(source, str) and source else None
    if directory is None or not any(directory.glob("*.safetensors")):
        return source
    files = [(file.name, file.stat()) for file in sorted(directory.iterdir()) if file.is_file()]
    state = tuple((name, status.st_size, status.st_mtime_ns) for name, status in files)
    return _known_digest(directory.resolve(), state).hex()


@lru_cache(maxsize=64)
def _known_digest(directory: Path, state: tuple[tuple[str, int, int], ...]) -> bytes:
    """By the state of the files too."""
    return _digest(directory)


def _digest(directory: Path) -> bytes:
    return hashlib.sha256(json.dumps(digest_files(directory), sort_keys=True).encode()).digest()


def read_config(directory: Path) -> dict[str, Any]:
    """Returns what config.json says.

    Raises:
        WeightsError: it is missing or damaged.
    """
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{directory / 'config.json'} cannot be read ({type(error).__name__}); restore it."
        ) from error
    return config if isinstance(config, dict) else {}


def check_memory(directory: Path, device: str, dtype: str) -> None:
    """Raises DeviceError where the weights do not fit into the free memory of a device."""
    needed = _WORKING_ROOM * DTYPES[dtype] * sum(_sizes(directory))
    free = free_memory(device)
    if needed > free:
        raise DeviceError(
            f"{directory.name} needs about {needed / 1e9:.1f} GB in {dtype}, but {device} has "
            f"{free / 1e9:.1f} GB free; use a smaller model, dtype=bfloat16, or another device."
        )


def _sizes(directory: Path) -> Iterator[int]:
    """The number of weights in each tensor of the files."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():
                    yield int(np.prod(tensors.get_slice(name).get_shape(), dtype=np.int64))
        except SafetensorError as error:
            raise WeightsError(f"{file} is damaged ({error}); restore it.") from error


def free_memory(device: str) -> float:
    """Returns the bytes that are free on a device; infinite where that cannot be asked."""
    if device.startswith("cuda"):
        return float(import_framework("torch").cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(rows["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return float("inf")
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
