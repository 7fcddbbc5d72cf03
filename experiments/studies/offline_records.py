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
from llmrec_env.world import TextSpace, load_text_space


def read_logs(logs: str, least: int, encoder: str, dim: int) -> tuple[Records, TextSpace]:
    """Returns clean records whose items are numbered as in a catalogue, and the catalogue encoded.

    Args:
        logs: `movielens`, or the path of a table of records.
        least: users and items with fewer clicks or ratings are left out, until none is left.
        encoder: of the texts.
        dim: of the encodings.

    Raises:
        RecordsError: the records cannot be read, or have no texts.
    """
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
    with TemporaryDirectory() as folder:
        path = Path(folder) / "items.csv"
        first = records.write_catalog(path)  # the first item with each text
        texts = load_text_space(str(path), None, encoder, dim, "auto")
    assert records.item_texts is not None  # there would be no catalogue
    row = {records.item_texts[item]: index for index, item in enumerate(first.tolist())}
    numbers = np.array([row[words] for words in records.item_texts])
    return _renumbered(records, numbers, len(texts.catalog)), texts


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
