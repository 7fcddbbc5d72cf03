"""Saved folders: `config.json` and `weights.safetensors`, the one format of all that is saved.

Agents, adapters and classifiers share it. Neither file can run code. Reading takes regular files of
bounded size only, and whatever is in them ends in the result or in a ValueError.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.atomic_files import write_atomically

RECORD, WEIGHTS = "config.json", "weights.safetensors"
FORMAT = 1
_MAX_BYTES = {RECORD: 10_000_000, WEIGHTS: 4 * 2**30}
_FIELDS = {"format": int, "weights_sha256": str, "record_sha256": str}

Arrays = dict[str, npt.NDArray[Any]]


def save(path: Path, record: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes a record and arrays into a folder, which is made if it is missing.

    Whenever it is killed, the folder holds what it held, the new files, or no record; never half.

    Args:
        path: folder.
        record: plain JSON data.
        arrays: by name.

    Raises:
        OSError: the folder cannot be written or is full; it holds what it held.
        ValueError: the record is not plain data.
    """
    from safetensors.numpy import save as serialise

    path.mkdir(parents=True, exist_ok=True)
    data = serialise({name: np.asarray(value, order="C") for name, value in arrays.items()})
    fields = {"format": FORMAT, **record, "weights_sha256": hashlib.sha256(data).hexdigest()}
    fields["record_sha256"] = _digest(fields)
    text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    staged = {name: path / f".new-{name}" for name in (WEIGHTS, RECORD)}
    try:
        write_atomically(staged[WEIGHTS], data)
        write_atomically(staged[RECORD], text.encode())
        (path / RECORD).unlink(missing_ok=True)  # without it there is nothing to load
        for name, file in staged.items():
            os.replace(file, path / name)
    finally:
        for file in staged.values():
            file.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Returns the record and the arrays that `save` wrote.

    Raises:
        ValueError: the files are missing, damaged, or do not belong together.
    """
    record = read_record(path)
    return record, read_arrays(path, record)


def read_record(path: Path) -> dict[str, Any]:
    """Returns the record that `save` wrote, without its arrays.

    Raises:
        ValueError: it is missing, damaged, edited, or of another format.
    """
    file = path / RECORD
    data = _read(file, "train into this folder, or name another")
    try:
        record: Any = json.loads(data, parse_constant=_refuse)
        fields = record if isinstance(record, dict) else {}
        digest = _digest(fields)
    except (ValueError, RecursionError):
        fields, digest = {}, ""
    if any(type(fields.get(name)) is not kind for name, kind in _FIELDS.items()):
        raise ValueError(f"{file} is not a record that was saved here; restore it, or train again.")
    if fields["format"] != FORMAT:
        raise ValueError(
            f"{file} has format {fields['format']}, of another llmrec_env; this one reads format "
            f"{FORMAT}: install the one that wrote it, or train again."
        )
    if fields["record_sha256"] != digest:
        raise ValueError(
            f"{file} is not the file that was written: it has been edited; restore it, or train "
            "again with other settings."
        )
    return fields


def read_arrays(path: Path, record: Mapping[str, Any]) -> Arrays:
    """Returns the arrays that `save` wrote with this record, by name.

    Raises:
        ValueError: they are missing, damaged, or not those that the record was written with.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    file = path / WEIGHTS
    data = _read(file, "restore it, or train again")
    if hashlib.sha256(data).hexdigest() != record["weights_sha256"]:
        raise ValueError(
            f"{file} is not the file that {RECORD} was written with; restore both, or train again."
        )
    try:
        return parse(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} does not hold arrays ({type(error).__name__}); restore it, or train again."
        ) from None


def write_agent(
    path: Path,
    name: str,
    config: Mapping[str, Any],
    weights: Mapping[str, npt.NDArray[Any]],
    **more: Any,
) -> None:
    """Saves an agent; see `save`.

    Args:
        path: folder.
        name: of the agent.
        config: its settings, what its constructor takes, as plain data.
        weights: arrays by name.
        **more: fields of the record beside these.
    """
    save(path, {"agent": name, "config": dict(config), **more}, weights)


def read_agent(path: Path) -> tuple[str, dict[str, Any], Arrays]:
    """Returns (name, settings, weights) of a saved agent.

    Raises:
        ValueError: the files are missing, damaged, do not belong together, or are no agent's.
    """
    record = agent_record(path)
    return record["agent"], record["config"], read_arrays(path, record)


def agent_record(path: Path) -> dict[str, Any]:
    """Returns the record of a saved agent.

    Raises:
        ValueError: as `read_record`, or it is no agent's.
    """
    record = read_record(path)
    if not (isinstance(record.get("agent"), str) and isinstance(record.get("config"), dict)):
        raise ValueError(f"{path / RECORD} is not the record of an agent; name an agent's folder.")
    return record


def identity_of(source: Any) -> Any:
    """Returns the digest of what a folder holds, if it is one of `save`, or else the source itself.

    Raises:
        ValueError: the record in the folder is damaged.
    """
    if isinstance(source, str) and (Path(source) / RECORD).is_file():
        return read_record(Path(source))["record_sha256"]
    return source


def _digest(record: Mapping[str, Any]) -> str:
    """Of all fields but itself."""
    fields = {name: value for name, value in record.items() if name != "record_sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _read(file: Path, fix: str) -> bytes:
    """Returns what a regular file of bounded size holds; nothing else is waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(file, flags)
        try:
            status, limit = os.fstat(descriptor), _MAX_BYTES[file.name]
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{file} is not a regular file; {fix}.")
            if status.st_size > limit:
                raise ValueError(f"{file} has more than {limit:,} bytes; {fix}.")
            with open(descriptor, "rb", closefd=False) as stream:
                return stream.read(limit)  # it may have grown: what is cut has another digest
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or type(error).__name__}; {fix}.") from None
