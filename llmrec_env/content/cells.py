"""Cells of a table to values: no value at all is one thing, a wrong type another."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, date, datetime, time
from typing import Any

MAX_TEXT = 10_000  # characters; encoders read a few hundred words
MAX_IDENTIFIER = 256  # characters
SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedError(ValueError):
    """What is wrong with a row or a cell, and the fix; it never repeats the cell."""


def text_of(cell: Any, kind: str = "a text") -> str:
    """The text in Unicode normal form C with single spaces, "" for none.

    Raises:
        MalformedError: it is not a string, or too long; calls it `kind`.
    """
    if _is_missing(cell):
        return ""
    text = " ".join(_characters(cell, kind).split())
    if len(text) > MAX_TEXT:
        raise MalformedError(f"{kind} of {len(text)} characters; shorten it to {MAX_TEXT}")
    return text


def identifier_of(cell: Any) -> str:
    """The name of a user or an item, "" for none.

    Raises:
        MalformedError: it is neither a string nor a whole number, or no name.
    """
    if _is_missing(cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():  # whole numbers beside a missing one
        cell = int(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        if abs(cell) >= 10**40:
            raise MalformedError("an identifier of over 40 digits")
        return str(cell)
    name = _characters(cell, "an identifier").strip()
    if len(name) > MAX_IDENTIFIER:
        raise MalformedError(
            f"an identifier of {len(name)} characters; shorten it to {MAX_IDENTIFIER}"
        )
    return name


def number_of(cell: Any) -> float:
    """The number in a cell; not a number where there is none."""
    if cell is None or (isinstance(cell, str) and "_" in cell):  # Python reads 1_0 as 10
        return math.nan
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def seconds_of(cell: Any, ticks: float = 1.0) -> float:
    """Seconds of Unix time in a cell; not a number where there is none.

    Args:
        cell: a number of ticks, or a date and time (ISO 8601 where a string), UTC without a zone.
        ticks: in a second.
    """
    if isinstance(cell, bool):
        return math.nan
    if _is_missing(cell):
        return math.nan
    if not isinstance(cell, date):
        value = number_of(cell)
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
    """Whether there is no value: null, or what a data frame writes for it."""
    if isinstance(cell, float):
        return math.isnan(cell)
    return cell is None or type(cell).__name__ in ("NAType", "NaTType")


def _characters(cell: Any, kind: str) -> str:
    if not isinstance(cell, str):
        raise MalformedError(f"{kind} of type {type(cell).__name__}; write a string")
    if "\0" in cell:
        raise MalformedError(f"{kind} with a NUL character; remove it")
    if cell.isascii():
        return cell
    if SURROGATE.search(cell):
        raise MalformedError(f"{kind} with a lone surrogate, which is no character; remove it")
    return unicodedata.normalize("NFC", cell)
