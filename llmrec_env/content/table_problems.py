"""Problems of a table: all of them in one message, and the column that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_EXAMPLES = 5  # lines named of a kind

_USUAL: dict[str, tuple[str, ...]] = {
    "user": ("userid", "uid", "customerid", "customer", "visitorid", "reviewerid", "accountid"),
    "item": ("itemid", "movieid", "productid", "articleid", "newsid", "videoid", "asin", "id"),
    "event": ("eventtype", "action", "interaction", "behavior", "type"),
    "value": ("rating", "stars", "score", "overall"),
    "timestamp": ("time", "date", "datetime", "createdat", "unixtime", "ts"),
    "text": ("description", "content", "body", "abstract", "summary", "title", "name"),
    "topic": ("category", "categories", "genre", "genres", "department"),
    "title": ("name", "headline"),
}
"""What columns of a role are called elsewhere, in letters and digits alone."""


class Problems:
    """Rows that cannot be used, counted by kind; a kind is a message without its numbers."""

    def __init__(self) -> None:
        """None yet."""
        self._counts: Counter[str] = Counter()
        self._lines: dict[str, list[int]] = {}
        self._messages: dict[str, str] = {}

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, line: int, problem: str) -> None:
        """Counts the row of a line."""
        kind = re.sub(r"\d+", "#", problem)
        self._messages.setdefault(kind, problem)
        self._counts[kind] += 1
        lines = self._lines.setdefault(kind, [])
        if len(lines) < _EXAMPLES:
            lines.append(line)

    def table(self, unit: str) -> list[str]:
        """Returns a line of text for each kind, the most frequent first."""
        rows = []
        for kind, count in self._counts.most_common():
            lines = self._lines[kind]
            shown = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
            plural = "s" if count > 1 else ""
            rows.append(f"{count:,} x {self._messages[kind]} ({unit}{plural} {shown})")
        return rows

    def message(self, place: str, unit: str) -> str:
        """Returns what to say of all of them."""
        if len(self) == 1:
            (kind,) = self._counts
            return f"{place}, {unit} {self._lines[kind][0]}: {self._messages[kind]}."
        rows = "".join(f"\n  {row}" for row in self.table(unit))
        return f"{place}: {len(self):,} rows cannot be used:{rows}"


def missing_column(role: str, name: str, columns: Iterable[str], kind: str = "columns") -> str:
    """Returns what to say of a column that is not there.

    A name is repeated only if it is nearly the one that was wanted, or a usual one: the first line
    of a table without a header holds what people wrote.
    """
    names = [column for column in columns if isinstance(column, str)]
    near = nearest_column(role, name, names)
    said = f"none of the {len(names)} {kind} is called {name!r}; "
    if near is None:
        return said + f"give the name of that column as {role}=..., or write a header"
    return said + f"did you mean {near!r}? Give it as {role}={near!r} or --rename {near}={role}"


def nearest_column(role: str, name: str, columns: Iterable[str]) -> str | None:
    """Returns the column that was probably meant, or None."""
    plain: Mapping[str, str] = {_letters(column): column for column in columns}
    near = difflib.get_close_matches(_letters(name), plain, n=1, cutoff=0.75)
    usual = [word for word in _USUAL.get(role, ()) if word in plain]
    return next((plain[word] for word in [*near, *usual]), None)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
