"""Items, phrases and topics of a saved world, as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

from llmrec_env.content.catalogues import Columns
from llmrec_env.saved_world import read_file

ITEMS, PHRASES, TOPICS = "items.csv", "phrases.csv", "topics.csv"
_TEXTS = {"item": "ids", "text": "texts", "title": "titles", "topic": "topics", "facet": "facets"}
_NUMBERS = ("substance", "probe", "quality")


def to_files(columns: Columns) -> dict[str, bytes]:
    """Returns the files that hold items with topics, facets and phrases."""
    named = {name: getattr(columns, field) for name, field in _TEXTS.items()}
    named |= {name: getattr(columns, name) for name in _NUMBERS}
    held = {name: values for name, values in named.items() if values is not None}
    phrases = [(*pair, text) for pair, texts in (columns.interests or {}).items() for text in texts]
    files = {
        ITEMS: _csv(held, zip(*held.values(), strict=True)),
        PHRASES: _csv(("topic", "facet", "text"), phrases),
    }
    if columns.topic_share is not None:
        files[TOPICS] = _csv(("topic", "share"), columns.topic_share.items())
    return files


def read_columns(folder: str | os.PathLike[str]) -> Columns:
    """Returns the items of a saved world.

    Raises:
        SavedWorldError: a file is missing or damaged.
    """
    header, *rows = _rows(folder, ITEMS)
    held = dict(zip(header, zip(*rows, strict=True), strict=True))
    # A facet whose phrases are all those of another one has none.
    pairs = zip(held["topic"], held["facet"], strict=True)
    interests: dict[tuple[str, str], list[str]] = {pair: [] for pair in pairs}
    for topic, facet, text in _rows(folder, PHRASES)[1:]:
        interests[topic, facet].append(text)
    shares = None
    if "quality" in held:  # logs tell both
        shares = {topic: float(share) for topic, share in _rows(folder, TOPICS)[1:]}
    found: dict[str, Any] = {field: held[name] for name, field in _TEXTS.items() if name in held}
    found |= {name: list(map(float, held[name])) for name in _NUMBERS if name in held}
    return Columns(
        **found,
        interests={pair: tuple(texts) for pair, texts in interests.items()},
        topic_share=shares,
    )


def _csv(header: Iterable[str], rows: Iterable[Sequence[object]]) -> bytes:
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return content.getvalue().encode()


def _rows(folder: str | os.PathLike[str], name: str) -> list[list[str]]:
    content = read_file(folder, name).decode()
    return list(csv.reader(io.StringIO(content, newline="")))
