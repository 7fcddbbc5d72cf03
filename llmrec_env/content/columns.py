"""What every source of items hands to the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_ITEMS = 20


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
