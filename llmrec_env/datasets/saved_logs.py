"""Logs of a saved world: numbers alone, neither what users are called nor what they typed."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from llmrec_env.content.catalogues.saved import read_columns
from llmrec_env.datasets.records import Records, RecordsError
from llmrec_env.saved_world import read_file, read_manifest

LOGS = "logs.npz"
_COLUMNS = ("user", "item", "event", "value", "timestamp")


def logs_file(records: Records) -> bytes:
    """Returns the file of clean records without queries, items numbered as in the catalogue."""
    columns = {name: getattr(records, name) for name in _COLUMNS}
    held = {name: column for name, column in columns.items() if column is not None}
    content = io.BytesIO()
    np.savez_compressed(content, rating_range=np.array(records.rating_range), **held)
    return content.getvalue()


def saved_records(folder: str | os.PathLike[str]) -> Records:
    """Returns the logs of a saved world; users are called by their number.

    Raises:
        RecordsError: the world was made without logs.
        SavedWorldError: a file is missing or damaged.
    """
    if LOGS not in read_manifest(folder)["files"]:
        raise RecordsError(f"{folder} was made without logs; make it with logs.")
    with np.load(io.BytesIO(read_file(folder, LOGS)), allow_pickle=False) as arrays:
        columns: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    columns.setdefault("timestamp", None)
    low, high = columns.pop("rating_range").tolist()
    items = read_columns(folder)
    return Records(
        **columns,
        user_ids=tuple(map(str, range(int(columns["user"].max()) + 1))),
        item_ids=tuple(items.ids or map(str, range(len(items.texts)))),
        item_texts=tuple(items.texts),
        rating_range=(low, high),
    )
