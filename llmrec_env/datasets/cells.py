"""Cells of a table of records to values; no value at all is one thing, a wrong type another."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from llmrec_env.content.item_tables import MAX_TEXT
from llmrec_env.datasets.rows import SURROGATE, MalformedError

MAX_IDENTIFIER = 256  # characters
MISSING = -1
TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class Numbering:
    """Numbers names from 0 in the order of their first appearance."""

    def __init__(self, name_of: Callable[[Any], str]) -> None:
        """Numbers what `name_of` makes of a cell."""
        self.names: list[str] = []
        self._name_of = name_of
        self._places: dict[str, int] = {}

    def __call__(self, cell: Any) -> int:
        """Returns the number of a cell's name, `MISSING` for an empty one."""
        # Equal keys of other types would meet in the dictionary: 1 == 1.0 == True.
        if type(cell) is str and (known := self._places.get(cell)) is not None:
            return known
        name = self._name_of(cell)
        if not name:
            return MISSING
        place = self._places.setdefault(name, len(self.names))
        if place == len(self.names):
            self.names.append(name)
        if type(cell) is str:
            self._places[cell] = place
        return place


def identifier(cell: Any) -> str:
    """The name of a user or an item, "" for none.

    Raises:
        MalformedError: it is neither a string nor a whole number, or no name.
    """
    if _is_missing(cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():  # whole numbers beside a missing one
        cell = int(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell) if abs(cell) < 10**40 else _wrong("an identifier of over 40 digits")
    name = _characters(cell, "an identifier").strip()
    if len(name) > MAX_IDENTIFIER:
        _wrong(f"an identifier of {len(name)} characters; shorten it to {MAX_IDENTIFIER}")
    return name


def text(cell: Any) -> str:
    """The text in Unicode normal form C with single spaces, "" for none.

    Raises:
        MalformedError: it is not a string, or too long.
    """
    if _is_missing(cell):
        return ""
    words = " ".join(_characters(cell, "a text").split())
    if len(words) > MAX_TEXT:
        _wrong(f"a text of {len(words)} characters; shorten it to {MAX_TEXT}")
    return words


def number(cell: Any) -> float:
    """The number in a cell; not a number where there is none."""
    if cell is None or (isinstance(cell, str) and "_" in cell):  # Python reads 1_0 as 10
        return math.nan
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def seconds(cell: Any, ticks: float) -> float:
    """Seconds of Unix time in a cell; not a number where there is none.

    Args:
        cell: a number of ticks, or a date and time (ISO 8601 where a string), UTC without a zone.
        ticks: in a second.
    """
    if isinstance(cell, bool):
        return math.nan
    if not isinstance(cell, date):
        value = number(cell)
        if not isinstance(cell, str) or not math.isnan(value):
            return value / ticks
        try:
            cell = datetime.fromisoformat(cell.strip())
        except ValueError:
            return math.nan
    if not isinstance(cell, datetime):
        cell = datetime.combine(cell, time())
    return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp()


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _characters(cell: Any, what: str) -> str:
    if not isinstance(cell, str):
        _wrong(f"{what} of type {type(cell).__name__}; write a string")
    if cell.isascii() and "\0" not in cell:
        return cell
    if "\0" in cell:
        _wrong(f"{what} with a NUL character; remove it")
    if SURROGATE.search(cell):
        _wrong(f"{what} with a lone surrogate, which is no character; remove it")
    return unicodedata.normalize("NFC", cell)


def _wrong(what: str) -> Any:
    raise MalformedError(what)
