"""Formats of published logs, read as the tables of items and logs that `make_world` takes.

A format is two layouts: what a file's columns are called, and what one of its rows says, by the
roles of own tables. Everything else, and every refusal, is the strict reader's. Sources: MovieLens,
Harper and Konstan 2015; MIND, Wu et al. 2020; Amazon Reviews 2023, Hou et al. 2024; KuaiRec, Gao et
al. 2022.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from llmrec_env.config import ConfigError, unknown
from llmrec_env.content.catalogues.movielens import article_in_front, film_text
from llmrec_env.content.cells import MalformedError, number_of
from llmrec_env.content.table_lines import Lines, open_lines
from llmrec_env.content.table_reader import Names, Row, Table, TableReader

Cells = Mapping[str, Any]
"""A row of a file, by column; or of an own table, by role."""
_LONGEST = 1000  # characters of a text: encoders read a few hundred words
_WATCHED_TWICE = 2.0
"""Watch ratio of KuaiRec from which on its authors call a user interested."""
_YEAR = re.compile(r"\s*\(\d{4}[^)]*\)\s*$")
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()


@dataclass(frozen=True)
class Layout:
    """One file of a format."""

    columns: tuple[str, ...]
    """Those that are read; of a file without a header, all of them in order."""
    roles: tuple[str, ...]
    """What rows hold."""
    adapt: Callable[[Cells, set[str]], list[Cells]]
    """The rows, by role, that a row of the file makes; the set holds the texts made before."""
    delimiter: str | None = None
    """Of a file without a header and without quotes; None: a table as own ones are."""
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Format:
    """Files of items and logs."""

    items: Layout
    logs: Layout
    options: Mapping[str, Any] = field(default_factory=dict)
    """How the logs are read: fields of `Reading`."""
    note: str = ""
    """What of the logs is not read, or means something else here."""


class LayoutReader(TableReader):
    """The rows of a file of a format, as those of an own table."""

    def __init__(
        self, layout: Layout, table: Table, error: type[ValueError], count_malformed: bool
    ) -> None:
        """Reads nothing yet; the last three are those of `TableReader`."""
        super().__init__(table, error, count_malformed, encoding=layout.encoding)
        self._layout, self._made = layout, set[str]()
        if layout.delimiter and self._frame is None:
            self._kind = ".csv"

    def header(self) -> list[str]:
        """Returns the roles that rows hold."""
        return [*self._layout.roles]

    def rows(self, names: Names, required: tuple[str, ...]) -> Iterator[Row]:
        """Yields a row for each that a row of the file makes; see `TableReader.rows`."""
        columns = self._layout.columns
        for number, cells in super().rows({name: name for name in columns}, columns):
            try:
                made = self._layout.adapt(dict(zip(columns, cells, strict=True)), self._made)
            except MalformedError as error:
                self.refuse(number, str(error))
                continue
            for row in made:
                yield number, tuple(row.get(role) for role in names)

    def fail(self, number: int, problem: str) -> NoReturn:
        """Raises for what no other row can make good; columns of a format have no other names."""
        if "is called" in problem:
            wanted = ", ".join(self._layout.columns)
            problem = f"it lacks some of the columns {wanted}; is it the file of the format?"
        super().fail(number, problem.rstrip("."))

    def _csv_records(self, names: Names) -> Iterator[tuple[int, Any]]:
        """The header, which the file lacks, and its lines."""
        delimiter = self._layout.delimiter
        if delimiter is None:
            yield from super()._csv_records(names)
            return
        yield 0, [*self._layout.columns]
        with open_lines(self.path, self._encoding) as file:
            lines = Lines(file)
            while True:
                number = lines.begin()
                try:
                    line = next(lines).rstrip("\r\n")
                except StopIteration:
                    return
                except MalformedError as error:
                    self.refuse(number, str(error))
                    continue
                if line:
                    yield number, line.split(delimiter)


def format_of(name: str) -> Format:
    """Returns a format by its name, or raises ConfigError."""
    if name not in FORMATS:
        raise ConfigError(unknown("format", name, list(FORMATS)))
    return FORMATS[name]


# --- MovieLens


def _film(cells: Cells, made: set[str]) -> list[Cells]:
    genres = [name for name in str(cells["genres"]).split("|") if name and "(" not in name]
    return [_film_of(cells["movieId"], cells["title"], genres, made)]


def _film_of_100k(cells: Cells, made: set[str]) -> list[Cells]:
    genres = [name for name in _GENRES[1:] if cells[name] == "1"]
    return [_film_of(cells["movieId"], cells["title"], genres, made)]


def _film_of(item: Any, title: Any, genres: list[str], made: set[str]) -> Cells:
    """A film: its title without the year, by which texts would cluster before they do by genre."""
    full = article_in_front(" ".join(str(title or "").split()))
    name = _YEAR.sub("", full)
    if not name:
        raise MalformedError("no title; write one, or delete the row")
    text = film_text(name, genres)
    if text in made:  # a remake
        text = film_text(full, genres)
    made.add(text)
    return {"item": item, "title": name, "text": text}


def _rating(cells: Cells, made: set[str]) -> list[Cells]:
    named = {"user": "userId", "item": "movieId", "value": "rating", "timestamp": "timestamp"}
    return [{role: cells[column] for role, column in named.items()}]


_FILM_ROLES, _RATING_ROLES = ("item", "text", "title"), ("user", "item", "value", "timestamp")
_FILM_COLUMNS = ("movieId", "title", "genres")
_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_COLUMNS_OF_100K = ("movieId", "title", "released", "video released", "url", *_GENRES)


def _movielens(delimiter: str | None, encoding: str, low: float) -> Format:
    films = Layout(_FILM_COLUMNS, _FILM_ROLES, _film, delimiter, encoding)
    ratings = Layout(_RATING_COLUMNS, _RATING_ROLES, _rating, delimiter, encoding)
    return Format(films, ratings, {"rating_range": (low, 5.0)})


# --- MIND


def _news(cells: Cells, made: set[str]) -> list[Cells]:
    title, abstract = str(cells["title"]).strip(), str(cells["abstract"]).strip()
    row = {"item": cells["news"], "topic": cells["category"], "title": title}
    return [row | {"text": _shortened(f"{title}. {abstract}" if abstract else title)}]


def _impressions(cells: Cells, made: set[str]) -> list[Cells]:
    try:
        time = datetime.strptime(str(cells["time"]).strip(), "%m/%d/%Y %I:%M:%S %p")
    except ValueError:
        raise MalformedError("a time that is not MM/DD/YYYY HH:MM:SS AM; correct it") from None
    rows = []
    for impression in str(cells["impressions"]).split():
        item, _, clicked = impression.rpartition("-")
        if clicked not in ("0", "1") or not item:
            raise MalformedError("an impression that is not ITEM-0 or ITEM-1; use labelled logs")
        event = "click" if clicked == "1" else "browse"
        rows.append({"user": cells["user"], "item": item, "event": event, "timestamp": time})
    return rows


_MIND = Format(
    Layout(
        ("news", "category", "subcategory", "title", "abstract", "url", "in title", "in abstract"),
        ("item", "text", "topic", "title"),
        _news,
        "\t",
    ),
    Layout(
        ("impression", "user", "time", "history", "impressions"),
        ("user", "item", "event", "timestamp"),
        _impressions,
        "\t",
    ),
    note="the column of histories, clicks without times, is not read",
)


# --- Amazon Reviews 2023


def _product(cells: Cells, made: set[str]) -> list[Cells]:
    title, categories = str(cells["title"] or "").strip(), cells["categories"]
    if not title:
        raise MalformedError("no title; write one, or delete the row")
    told = [part for name in ("features", "description") for part in _strings(cells[name])]
    kinds = _strings(categories)
    topic = kinds[1] if len(kinds) > 1 else (cells["main_category"] or "other")
    text = _shortened(" ".join([f"{title}.", *told]))
    return [{"item": cells["parent_asin"], "text": text, "topic": topic, "title": title}]


def _review(cells: Cells, made: set[str]) -> list[Cells]:
    row = {"user": cells["user_id"], "item": cells["parent_asin"], "value": cells["rating"]}
    return [row | {"timestamp": cells["timestamp"]}]


_AMAZON = Format(
    Layout(
        ("parent_asin", "title", "features", "description", "main_category", "categories"),
        ("item", "text", "topic", "title"),
        _product,
    ),
    Layout(("user_id", "parent_asin", "rating", "timestamp"), _RATING_ROLES, _review),
    {"time_unit": "ms"},
)


# --- KuaiRec


def _video(cells: Cells, made: set[str]) -> list[Cells]:
    levels = [
        _known(cells[f"{level}_level_category_name"]) for level in ("first", "second", "third")
    ]
    tags = _known(cells["topic_tag"]).strip("[]").replace(",", " ")
    words = [_known(cells["caption"]), _known(cells["manual_cover_text"]), tags, *levels]
    text = " ".join(dict.fromkeys(word for word in words if word))
    return [{"item": cells["video_id"], "text": _shortened(text), "topic": levels[0] or "other"}]


def _watched(cells: Cells, made: set[str]) -> list[Cells]:
    ratio = number_of(cells["watch_ratio"])
    if not ratio >= 0.0:
        raise MalformedError("a watch_ratio that is no number from 0 on; correct it")
    row = {"user": cells["user_id"], "item": cells["video_id"], "timestamp": cells["timestamp"]}
    return [row | {"event": "click", "value": float(ratio >= _WATCHED_TWICE)}]


_KUAIREC = Format(
    Layout(
        (
            "video_id",
            "manual_cover_text",
            "caption",
            "topic_tag",
            "first_level_category_name",
            "second_level_category_name",
            "third_level_category_name",
        ),
        ("item", "text", "topic"),
        _video,
    ),
    Layout(
        ("user_id", "video_id", "timestamp", "watch_ratio"),
        ("user", "item", "event", "value", "timestamp"),
        _watched,
    ),
    note="a watched video is a click, satisfied from a watch ratio of 2 on",
)

FORMATS: dict[str, Format] = {
    "movielens-100k": Format(
        Layout(_COLUMNS_OF_100K, _FILM_ROLES, _film_of_100k, "|", "latin-1"),
        Layout(_RATING_COLUMNS, _RATING_ROLES, _rating, "\t", "latin-1"),
    ),
    "movielens-1m": _movielens("::", "latin-1", 1.0),
    "movielens-10m": _movielens("::", "utf-8", 0.5),
    "movielens-20m": _movielens(None, "utf-8", 0.5),
    "movielens-25m": _movielens(None, "utf-8", 0.5),
    "movielens-32m": _movielens(None, "utf-8", 0.5),
    "movielens-latest": _movielens(None, "utf-8", 0.5),
    "mind": _MIND,
    "amazon-2023": _AMAZON,
    "kuairec": _KUAIREC,
}
"""Every format by the name that `make_world(format=...)` and `--format` take."""


def _strings(value: Any) -> list[str]:
    """The strings of a list; none of anything else."""
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []


def _known(value: Any) -> str:
    """A cell of KuaiRec, "" where it says that there is nothing."""
    text = " ".join(str(value or "").split())
    return "" if text.lower() in ("unknown", "nan", "[]") else text


def _shortened(text: str) -> str:
    """The text, cut at a blank if there is one."""
    if len(text) <= _LONGEST:
        return text
    return text[:_LONGEST].rsplit(" ", 1)[0]
