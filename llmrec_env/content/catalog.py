"""Catalogue of items: texts, vectors, topics and substance, bundled or from a table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import ConfigError, unknown
from llmrec_env.content.catalogues import (
    MIN_ITEMS,
    CatalogError,
    Columns,
    generator,
    movielens,
)
from llmrec_env.content.catalogues.item_table import read_items
from llmrec_env.content.catalogues.saved import read_columns
from llmrec_env.content.item_graph import Links, saved_item_graph
from llmrec_env.content.item_vectors import saved_item_vectors
from llmrec_env.content.table_reader import FRAME, SUFFIXES, Table, TableReader
from llmrec_env.saved_world import is_saved_world
from llmrec_env.simulation.records import aligned

__all__ = ["BUNDLED", "Catalog", "CatalogError"]

BUNDLED = (*generator.DEFAULT_ITEMS, "movielens")


@dataclass(frozen=True, eq=False)
class Catalog:
    """Items in a fixed order; an item's id is its index.

    Raises:
        ValueError: columns of different lengths, or labels out of range.
    """

    name: str
    """The bundled name, or the table's file name."""
    texts: tuple[str, ...]
    """What the encoder reads, (N,); no two alike."""
    topics: npt.NDArray[np.int32]
    """Topic of each item, (N,); all -1 until `phrases_of` has clustered texts without labels."""
    topic_names: tuple[str, ...]
    """Names by topic; empty as long as topics are unknown."""
    facets: npt.NDArray[np.int32]
    """Part of the topic, numbered over all topics, (N,); all -1 as long as unknown."""
    substance: npt.NDArray[np.float32] | None = None
    """-1 (clickbait) to 1 (in-depth), (N,), 0 in tables without labels; None: drawn for a world."""
    titles: tuple[str, ...] | None = None
    """Short names, (N,), for rendering and for phrases."""
    creators: npt.NDArray[np.int32] | None = None
    """Who made each item, numbered, (N,); None: the catalogue names nobody."""
    genres: tuple[tuple[str, ...], ...] | None = None
    """Genres of films, (N,)."""
    interests: tuple[tuple[str, ...], ...] | None = None
    """Authored interest phrases by facet; None: `phrases_of` derives them."""
    vectors: npt.NDArray[np.float32] | None = None
    """Unit rows, (N, d); None until encoded."""
    probe: npt.NDArray[np.float32] | None = None
    """Substance as read off the texts, standardised, (N,); None: generic sentences tell."""
    quality: npt.NDArray[np.float32] | None = None
    """HIDDEN: standardised, estimated from logs, (N,); None: drawn for a world."""
    topic_share: npt.NDArray[np.float64] | None = None
    """HIDDEN: shares of the topics in what users like, (topics,); None: drawn for a world."""
    ids: tuple[str, ...] | None = None
    """What the items are called in a table of one's own, (N,)."""
    item_vectors: npt.NDArray[np.float32] | None = None
    """Of a saved world: what items carry beside their texts, (N, D), NaN where there is none."""
    links: Links | None = None
    """Of a saved world: what items are linked to in a knowledge graph."""

    def __post_init__(self) -> None:
        columns = (
            self.topics,
            self.facets,
            self.substance,
            self.titles,
            self.creators,
            self.genres,
            self.vectors,
            self.probe,
            self.quality,
            self.ids,
            self.item_vectors,
        )
        for column in columns:
            if column is not None and len(column) != len(self.texts):
                raise ValueError(f"a column has {len(column)} entries for {len(self.texts)} texts")
        if self.topic_names:
            _check_labels("topics", self.topics, len(self.topic_names))
        if self.facets.max() >= 0:
            count = self.facets.max() + 1 if self.interests is None else len(self.interests)
            _check_labels("facets", self.facets, int(count))

    def __len__(self) -> int:
        return len(self.texts)

    def public(self) -> Catalog:
        """Returns what a recommender may know of this catalogue."""
        return dataclasses.replace(self, substance=None, quality=None, topic_share=None)

    def with_vectors(self, vectors: npt.ArrayLike) -> Catalog:
        """Returns this catalogue with unit rows (N, d), which become read-only."""
        rows = aligned(np.asarray(vectors, dtype=np.float32))
        if rows.ndim != 2:
            raise ValueError(f"vectors must have shape ({len(self)}, d), got {rows.shape}")
        rows.setflags(write=False)
        return dataclasses.replace(self, vectors=rows)

    @classmethod
    def load(
        cls, name_or_path: str | os.PathLike[str], num_items: int | None = None, seed: int = 0
    ) -> Catalog:
        """Returns a bundled catalogue or a table with the default column names.

        Args:
            name_or_path: one of `BUNDLED`, the folder of a saved world, or a .csv, .tsv, .jsonl
                (each also .gz) or .parquet file with column `text` and, where there are such,
                `topic`, `substance` (-1 to 1), `title` and `item` (identifiers).
            num_items: number of items; None: 4,000 films or videos, 2,400 of another bundled
                catalogue, all of a table or a saved world.
            seed: draws the wording and the order of the authored catalogues.

        Raises:
            ConfigError: an unknown name, or a `num_items` that cannot be had.
            CatalogError: a table that cannot be used, or data that are not installed.
        """
        name = os.fspath(name_or_path)
        _check_number(num_items)
        if name in generator.DEFAULT_ITEMS:
            return catalog_of(name, generator.make_items(name, num_items, seed))
        if name == "movielens":
            return catalog_of(name, movielens.films(num_items or movielens.DEFAULT_ITEMS))
        if is_saved_world(name):
            return _from_saved(name, num_items)
        if Path(name.lower().removesuffix(".gz")).suffix in SUFFIXES or Path(name).is_file():
            columns = {role: role for role in ("text", "topic", "substance", "title", "item")}
            table = read_items(TableReader(name, CatalogError), columns, limit=num_items)
            return _from_rows(name, table.columns, num_items)
        raise ConfigError(
            unknown("catalogue", name, list(BUNDLED))
            + " Or a .csv, .tsv, .jsonl or .parquet file, or the folder of a saved world."
        )

    @classmethod
    def from_table(
        cls,
        path: Table,
        text: str = "text",
        topic: str | None = None,
        substance: str | None = None,
        title: str | None = None,
        num_items: int | None = None,
    ) -> Catalog:
        """Returns the items of a table, whatever its columns are called.

        Args:
            path: a .csv, .tsv, .jsonl (each also .gz) or .parquet file, or a data frame.
            text: column of what the encoder reads; no two texts alike.
            topic: column of topic labels; None: topics are clusters of the texts.
            substance: column of numbers from -1 (clickbait) to 1 (in-depth).
            title: column of short names.
            num_items: read only that many rows.

        Raises:
            CatalogError: the file, a line or a cell cannot be used; says which and why.
            ConfigError: the table has fewer than `num_items` rows, or that is too few.
        """
        _check_number(num_items)
        names = {"text": text, "topic": topic, "substance": substance, "title": title}
        required = tuple(role for role, name in names.items() if name is not None)
        reader = TableReader(path, CatalogError)
        table = read_items(reader, names, required=required, limit=num_items)
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else FRAME
        return _from_rows(name, table.columns, num_items)


def _check_labels(kind: str, labels: npt.NDArray[np.int32], number: int) -> None:
    # An empty topic has no phrase, and users would be drawn to it.
    if not np.array_equal(np.unique(labels), np.arange(number)):
        raise ValueError(f"{kind} must be the numbers 0 to {number - 1}, each at least once")


def _check_number(num_items: int | None) -> None:
    if num_items is not None and num_items < MIN_ITEMS:
        raise ConfigError(f"num_items={num_items} is too few; ask for at least {MIN_ITEMS}.")


def _from_rows(path: str, table: Columns, num_items: int | None) -> Catalog:
    count = len(table.texts)
    if count < MIN_ITEMS:
        raise CatalogError(f"{path}: {count} items; a catalogue needs at least {MIN_ITEMS}.")
    if num_items is not None and count < num_items:
        raise ConfigError(f"num_items={num_items} is more than {path} has: its most is {count}.")
    return without_substance(catalog_of(Path(path).name, table))


def _from_saved(path: str, num_items: int | None) -> Catalog:
    columns = read_columns(path)
    if num_items not in (None, len(columns.texts)):
        raise ConfigError(
            f"num_items={num_items}, but the saved world {path} has {len(columns.texts)} items and "
            "their phrases; leave num_items out, or make the world with fewer items."
        )
    catalog = catalog_of(Path(path).name, columns)
    vectors, links = saved_item_vectors(path), saved_item_graph(path)
    return dataclasses.replace(catalog, item_vectors=vectors, links=links)


def without_substance(catalog: Catalog) -> Catalog:
    """Returns the catalogue with substance 0 everywhere, and a probe that says so, if unlabelled.

    Nobody may be told what an item is worth that its maker did not say.
    """
    if catalog.substance is not None:
        return catalog
    zeros = _frozen(np.zeros(len(catalog), np.float32))
    return dataclasses.replace(catalog, substance=zeros, probe=zeros)


def catalog_of(name: str, columns: Columns) -> Catalog:
    """Returns the catalogue of plain columns: labels become numbers."""
    topics, topic_names = _numbered(columns.topics, len(columns.texts))
    facets, interests = np.full(len(columns.texts), -1, np.int32), None
    if columns.topics is not None and columns.facets is not None:
        pairs = list(zip(columns.topics, columns.facets, strict=True))
        ordered = sorted(set(pairs))  # topic by topic, so that facets ascend with topics
        facet_of = {pair: facet for facet, pair in enumerate(ordered)}
        facets = np.array([facet_of[pair] for pair in pairs], np.int32)
        if columns.interests is not None:
            interests = tuple(columns.interests[pair] for pair in ordered)
    shares = columns.topic_share
    return Catalog(
        name=name,
        texts=tuple(columns.texts),
        topics=_frozen(topics),
        topic_names=topic_names,
        facets=_frozen(facets),
        substance=_numbers(columns.substance),
        probe=_numbers(columns.probe),
        quality=_numbers(columns.quality),
        topic_share=None if shares is None else np.array([shares[name] for name in topic_names]),
        titles=None if columns.titles is None else tuple(columns.titles),
        creators=None if columns.creators is None else _numbered(columns.creators, 0)[0],
        genres=None if columns.genres is None else tuple(columns.genres),
        ids=None if columns.ids is None else tuple(columns.ids),
        interests=interests,
    )


def _numbered(
    labels: Sequence[str] | None, n: int
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    if labels is None:
        return np.full(n, -1, np.int32), ()
    names = tuple(sorted(set(labels)))
    number_of = {name: number for number, name in enumerate(names)}
    return np.array([number_of[label] for label in labels], np.int32), names


def _numbers(column: Sequence[float] | None) -> npt.NDArray[np.float32] | None:
    return None if column is None else _frozen(np.array(column, np.float32))


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.setflags(write=False)
    return array
