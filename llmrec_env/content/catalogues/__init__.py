"""Sources of items: the bundled catalogues (generated videos, MovieLens films), and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_ITEMS = 20
MAX_ROWS = 2_000_000


class CatalogError(ValueError):
    """A table of items cannot be used; the message says where, why and what to do."""


@dataclass(frozen=True)
class Columns:
    """Items as plain columns, one entry an item; a column that the source lacks is None."""

    texts: Sequence[str]
    topics: Sequence[str] | None = None
    facets: Sequence[str] | None = None
    substance: Sequence[float] | None = None
    titles: Sequence[str] | None = None
    genres: Sequence[tuple[str, ...]] | None = None
    interests: dict[tuple[str, str], tuple[str, ...]] | None = None
    """Authored interest phrases by (topic, facet)."""
    creators: Sequence[str] | None = None
    """Who made the items."""
    ids: Sequence[str] | None = None
    """What the items are called in a table of one's own."""
    probe: Sequence[float] | None = None
    """What a probe trained on labels of substance reads off the texts, standardised."""
    quality: Sequence[float] | None = None
    """HIDDEN: standardised, as logs tell it."""
    topic_share: dict[str, float] | None = None
    """HIDDEN: of what users consume, by topic."""
