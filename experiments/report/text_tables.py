"""Tables of results for a terminal, Markdown, LaTeX and HTML, with one notation of numbers.

A number is written as `13.84 [13.34, 14.37]`, a share as `+15.5 % [+11.9, +19.3]`: the unit once, a
hyphen as minus, nothing where nothing was measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich import box, table
from rich.console import Console
from rich.markup import escape

from experiments.statistics.intervals import Interval


class Cell(NamedTuple):
    """What stands at one place of a table."""

    value: str
    interval: str = ""
    clear: bool | None = None
    """Whether the interval leaves out zero: then it is bold, otherwise faint; None: neither."""

    @property
    def text(self) -> str:
        """Value and interval in one line."""
        return f"{self.value} {self.interval}".strip()


class Column(NamedTuple):
    """A head, and what stands below it of a record."""

    name: str
    cell: Callable[[Any], Cell | str]


@dataclass(frozen=True)
class Table:
    """A title, the heads of columns, and rows of as many cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    title: str = ""
    labels: int = 1
    """So many columns at the left hold names; the others hold numbers, which end at the right."""

    @classmethod
    def of(
        cls, columns: Sequence[Column], records: Iterable[Any], title: str = "", labels: int = 1
    ) -> Table:
        """Returns a row for each record, made by the columns; the first of them are labels."""
        rows = [[column.cell(record) for column in columns] for record in records]
        return cls([column.name for column in columns], rows, title, labels)

    def cells(self) -> list[list[Cell]]:
        """Returns the rows, plain strings made cells."""
        return [[x if isinstance(x, Cell) else Cell(x) for x in row] for row in self.rows]


# --- numbers


def number(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    decimals: int | None = 2,
    unit: str = "",
    signed: bool = False,
) -> Cell:
    """Returns a number with its interval, if any; nothing for None.

    Args:
        value: the number.
        low: lower end of its interval.
        high: upper end of its interval.
        decimals: digits behind the point; None: three that count.
        unit: what follows the number, with the blank before it.
        signed: whether a plus is written.
    """
    if value is None:
        return Cell("")
    sign = "+" if signed else ""
    form = f"{sign}.3g" if decimals is None else f"{sign},.{decimals}f"
    ends = "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"
    return Cell(f"{value:{form}}{unit}", ends)


def percent(
    share: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    decimals: int = 1,
    signed: bool = False,
) -> Cell:
    """Returns a share in percent with its interval, if any; nothing for None."""
    share, low, high = (None if x is None else 100.0 * x for x in (share, low, high))
    return number(share, low, high, decimals=decimals, unit=" %", signed=signed)


def improvement(share: Interval | None, decimals: int = 1) -> Cell:
    """Returns a relative improvement in percent with its interval; nothing for None."""
    if share is None:
        return Cell("")
    return percent(*share, decimals=decimals, signed=True)._replace(clear=share.is_clear)


# --- what is made of a table


def print_tables(*tables: Table, console: Console | None = None) -> None:
    """Prints tables in a terminal; improvements that are clear of zero are bold."""
    for own in tables:
        shown = table.Table(title=escape(own.title) or None, title_justify="left", box=box.SIMPLE)
        for index, name in enumerate(own.columns):
            shown.add_column(escape(name), justify="left" if index < own.labels else "right")
        for row in own.cells():
            texts = ((escape(cell.text), cell.clear) for cell in row)
            shown.add_row(*(f"[bold]{text}[/bold]" if clear else text for text, clear in texts))
        # Where no terminal says how wide it is, in a log, rows stay whole.
        (console or Console(width=None if sys.stdout.isatty() else 160)).print(shown)


def markdown(*tables: Table) -> str:
    """Returns tables as Markdown, each below its title; bold as in `print_tables`."""
    lines = []
    for own in tables:
        rule = "---|" * own.labels + "--:|" * (len(own.columns) - own.labels)
        lines += [f"**{own.title}**", ""] if own.title else []
        lines += [_piped(own.columns), f"|{rule}"]
        for row in own.cells():
            lines.append(_piped(f"**{x.text}**" if x.clear else x.text for x in row))
        lines.append("")
    return "\n".join(lines)


def latex(*tables: Table) -> str:
    """Returns tables of the same columns as one LaTeX tabular for the package booktabs."""
    columns, labels = tables[0].columns, tables[0].labels
    places = "l" * labels + "r" * (len(columns) - labels)
    lines = [rf"\begin{{tabular}}{{{places}}}", r"\toprule"]
    lines.append(_joined(_latex(name[:1].upper() + name[1:]) for name in columns))
    for own in tables:
        title = rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{_latex(own.title)}}}}} \\"
        lines += [r"\midrule", title] if own.title else [r"\midrule"]
        for row in own.cells():
            texts = ((_latex(cell.text), cell.clear) for cell in row)
            lines.append(_joined(rf"\textbf{{{text}}}" if clear else text for text, clear in texts))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _piped(texts: Iterable[str]) -> str:
    cells = " | ".join(text.replace("|", r"\|") for text in texts)
    return f"| {cells} |"


def _joined(texts: Iterable[str]) -> str:
    return " & ".join(texts) + r" \\"


def _latex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
