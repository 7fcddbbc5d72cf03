"""Spaces of texts and items: what hidden truth reads, and what agents read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.content.bundled_encodings import load_encoder_of
from llmrec_env.content.catalog import Catalog, CatalogError
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.encoders import Encoder
from llmrec_env.content.fusion import FUSIONS, Channel, ItemSpace, channel_of, joined
from llmrec_env.content.item_graph import Links, read_item_graph
from llmrec_env.content.item_vectors import Places, read_item_vectors
from llmrec_env.content.phrases import (
    Phrases,
    neighbours,
    phrases_of,
    read_substance,
    substance_probe,
)
from llmrec_env.content.table_reader import TableReader
from llmrec_env.interface.co_consumption import co_consumption_factors
from llmrec_env.simulation.records import aligned

_CHANNEL_SHARE = 2  # a channel has at most d / 2 components


class ItemVectorsWarning(UserWarning):
    """Some items carry nothing beside their texts, though others do."""


@dataclass(frozen=True)
class TextSpace:
    """A catalogue, its interest phrases, and where they lie: the same for every world seed.

    It is the space of hidden truth. Agents read items as an `ItemSpace` has them, which is the
    same unless items carry more than a text.
    """

    catalog: Catalog  # with vectors
    phrases: Phrases
    phrase_vectors: npt.NDArray[np.float32]  # (phrases, d)
    neighbours: npt.NDArray[np.int32]  # (phrases, 6)
    space: Space
    probe: npt.NDArray[np.float32]  # (items,), standardised substance as the probe reads it
    encoder: Encoder

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Of the items' texts, (items, d)."""
        assert self.catalog.vectors is not None  # `load_text_space` encoded them
        return self.catalog.vectors


@lru_cache(maxsize=4)
def load_text_space(
    catalog: str, num_items: int | None, encoder: str, dim: int, device: str
) -> TextSpace:
    """Returns the encoded catalogue and phrases, made at their first use in the process."""
    items = Catalog.load(catalog, num_items=num_items)
    reader, axes = load_encoder_of(items, encoder, device)
    raw_items = reader.encode(items.texts)
    items, phrases = phrases_of(items, raw_items)
    raw_phrases = reader.encode(phrases.texts)
    space = Space.fit(raw_items, raw_phrases, dim, axes)
    vectors, phrase_vectors = space.project_items(raw_items), space.project_phrases(raw_phrases)
    phrase_vectors = aligned(phrase_vectors)
    close = neighbours(phrase_vectors, phrases.topics)
    probe = items.probe
    if probe is None:
        probe = read_substance(vectors, substance_probe(reader.encode, space))
    # Read-only from the first world on: numba compiles the warm-up anew for other flags.
    for array in (phrase_vectors, close, phrases.topic_start):
        array.setflags(write=False)
    return TextSpace(
        catalog=items.with_vectors(vectors),
        phrases=phrases,
        phrase_vectors=phrase_vectors,
        neighbours=close,
        space=space,
        probe=probe,
        encoder=reader,
    )


def load_item_space(config: EnvConfig) -> ItemSpace:
    """Returns how agents read items and phrases, made at its first use in the process.

    Raises:
        CatalogError: the item vectors cannot be used.
    """
    return _load_item_space(*_read_by(config), config.fusion, config.channel_weight)


def load_channel(config: EnvConfig) -> Channel | None:
    """Returns what items carry beside their texts: by a file, by a saved world, or nothing.

    Raises:
        CatalogError: the item vectors cannot be used.
    """
    return _load_channel(*_read_by(config))


def load_links(config: EnvConfig) -> Links | None:
    """Returns what items are linked to, by a table, by a saved world, or nothing.

    Raises:
        CatalogError: the item graph cannot be used.
    """
    text, _, item_graph = _read_by(config)
    return _load_links(text, item_graph)


def _read_by(config: EnvConfig) -> tuple[tuple[Any, ...], str | None, str | None]:
    text = (config.catalog, config.num_items, config.encoder, config.dim, config.device)
    return text, config.item_vectors, config.item_graph


@lru_cache(maxsize=4)
def _load_item_space(
    text: tuple[Any, ...],
    item_vectors: str | None,
    item_graph: str | None,
    fusion: str,
    weight: float,
) -> ItemSpace:
    read, channel = load_text_space(*text), _load_channel(text, item_vectors, item_graph)
    alone = ItemSpace(read.vectors, read.phrase_vectors, read.space)
    if channel is None:
        return alone
    fused = FUSIONS[fusion](alone, channel, weight)
    vectors, phrase_vectors = aligned(fused.vectors), aligned(fused.phrase_vectors)
    for array in (vectors, phrase_vectors):
        array.setflags(write=False)
    return ItemSpace(vectors, phrase_vectors, fused.space)


@lru_cache(maxsize=4)
def _load_channel(
    text: tuple[Any, ...], item_vectors: str | None, item_graph: str | None
) -> Channel | None:
    read = load_text_space(*text)
    rows = read.catalog.item_vectors
    if item_vectors is not None:
        places = Places.of(read.catalog.ids, len(read.catalog))
        rows, _ = read_item_vectors(item_vectors, places)
        _tell_without_vectors(item_vectors, rows)
    links = _load_links(text, item_graph)
    both = [rows, None if links is None else _embedded(links, len(read.catalog))]
    known = [x for x in both if x is not None]
    most = read.space.dim // _CHANNEL_SHARE // max(len(known), 1)
    return joined([channel_of(x, most) for x in known]) if known else None


@lru_cache(maxsize=4)
def _load_links(text: tuple[Any, ...], item_graph: str | None) -> Links | None:
    catalog = load_text_space(*text).catalog
    if item_graph is None:
        return catalog.links
    reader = TableReader(item_graph, CatalogError)
    return read_item_graph(reader, Places.of(catalog.ids, len(catalog)))[0]


def _embedded(links: Links, num_items: int) -> npt.NDArray[np.float32]:
    """A vector of each item, NaN where it has no link: a regularised spectral embedding.

    It is that of who consumed what, with things in the place of users.
    """
    factors = co_consumption_factors(links.things, links.items, num_items)
    factors[np.linalg.norm(factors, axis=1) == 0.0] = np.nan
    return factors


def _tell_without_vectors(path: str, rows: npt.NDArray[np.float32]) -> None:
    without = int(np.isnan(rows[:, 0]).sum())
    if without:
        warnings.warn(
            f"{path} has no vector of {without:,} of {len(rows):,} items, which are read by their "
            "texts alone.",
            ItemVectorsWarning,
            stacklevel=2,
        )
