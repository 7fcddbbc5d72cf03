"""Logs of the offline study: records whose items are those of an encoded catalogue."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from llmrec_env.datasets import (
    CLICK,
    RATING,
    Records,
    RecordsError,
    clean,
    load_records,
    movielens_records,
)
from llmrec_env.saved_world import is_saved_world, parameters_of
from llmrec_env.text_space import TextSpace, load_text_space

_ENCODING = {"encoder": "minilm", "dim": 128}


def read_logs(
    logs: str, least: int, encoder: str | None = None, dim: int | None = None
) -> tuple[Records, TextSpace]:
    """Returns clean records whose items are numbered as in a catalogue, and the catalogue encoded.

    Args:
        logs: `movielens`, the folder of a saved world, or the path of a table of records.
        least: users and items with fewer clicks or ratings are left out, until none is left.
        encoder: of the texts; None: the world's own, else `minilm`.
        dim: of the encodings; None: the world's own, else 128.

    Raises:
        RecordsError: the records cannot be read, or have no texts.
        SavedWorldError: the world is damaged.
    """
    own = _ENCODING | parameters_of(logs)
    encoder, dim = encoder or own["encoder"], dim or own["dim"]
    if logs == "movielens":
        records, report = clean(movielens_records(), min_user=least, min_item=least)
        print(report)
        texts = load_text_space("movielens", None, encoder, dim, "auto")
        numbers = np.array([int(name) for name in records.item_ids])
        return _renumbered(records, numbers, len(texts.catalog)), texts
    raw, report = clean(load_records(logs))
    print(report)
    records, report = clean(raw.take(_usable(raw)), min_user=least, min_item=least)
    print(report)
    assert records.item_texts is not None  # those without one were left out
    if is_saved_world(logs):
        texts = load_text_space(logs, None, encoder, dim, "auto")
        words = texts.catalog.texts
    else:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "items.csv"
            first = records.write_catalog(path)  # the first item with each text
            texts = load_text_space(str(path), None, encoder, dim, "auto")
        words = [records.item_texts[item] for item in first]
    row = {text: number for number, text in enumerate(words)}
    numbers = np.array([row[text] for text in records.item_texts])
    return _renumbered(records, numbers, len(words)), texts


def _usable(records: Records) -> npt.NDArray[np.bool_]:
    """Which records say that an item that has a text was consumed, (M,)."""
    if records.item_texts is None:
        raise RecordsError("the records hold no texts of items; add a column called text.")
    consumed = (records.event == CLICK) | (records.event == RATING)
    has_text = np.array([bool(words) for words in records.item_texts])
    return consumed & has_text[np.where(consumed, records.item, 0)]


def _renumbered(records: Records, numbers: npt.NDArray[np.int64], num_items: int) -> Records:
    return Records(
        user=records.user,
        item=numbers[records.item],
        event=records.event,
        value=records.value,
        timestamp=records.timestamp,
        user_ids=records.user_ids,
        item_ids=tuple(map(str, range(num_items))),
        rating_range=records.rating_range,
    )
