"""Figure of what moved an agent's scores: texts by items, and tokens of one text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.figures.style import PAGE, styled

Doubles = npt.NDArray[np.float64]
_MOST_TOKENS = 32
_COLOURS = "RdBu"


@styled
def attribution_map(
    rows: Sequence[str],
    columns: Sequence[str],
    amounts: Doubles,
    tokens: tuple[Any, Doubles] | None = None,
) -> Figure:
    """Returns a heat map of amounts, blue where a text speaks for an item, red where against it.

    Args:
        rows: names of texts, R.
        columns: names of items, K.
        amounts: (R, K).
        tokens: a `TokenAttribution` and attention between its tokens, (T, T), drawn below.
    """
    height = 1.2 + 0.22 * len(rows)
    if tokens is None:
        figure = Figure((PAGE, height))
        _heat(figure.subplots(), rows, columns, amounts)
        return figure
    figure = Figure((PAGE, height + 4.0))
    top, below = figure.subplots(2, height_ratios=[height, 4.0])
    _heat(top, rows, columns, amounts)
    _draw_tokens(below, *tokens)
    return figure


def _heat(axes: Axes, rows: Sequence[str], columns: Sequence[str], amounts: Doubles) -> None:
    bound = max(float(np.abs(amounts).max(initial=0.0)), 1e-9)
    axes.imshow(amounts, cmap=_COLOURS, vmin=-bound, vmax=bound, aspect="auto")
    axes.set_yticks(range(len(rows)), [_plain(row) for row in rows])
    names = [
        textwrap.fill(_plain(textwrap.shorten(x, 44, placeholder=" ...")), 16) for x in columns
    ]
    axes.set_xticks(range(len(columns)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for (row, column), amount in np.ndenumerate(amounts):
        colour = "white" if abs(amount) > 0.6 * bound else "black"
        axes.text(column, row, f"{amount:+.2f}", ha="center", va="center", color=colour, fontsize=6)


def _draw_tokens(axes: Axes, found: Any, attention: Doubles) -> None:
    """Attention between tokens, and beside each token what it adds."""
    count = min(len(found.tokens), _MOST_TOKENS)
    axes.imshow(attention[:count, :count], cmap="Greys", vmin=0.0, aspect="auto")
    labels = [
        f"{_plain(token)}  {amount:+.2f}"
        for token, amount in zip(found.tokens[:count], found.amounts[:count], strict=True)
    ]
    axes.set_yticks(range(count), labels)
    axes.set_xticks(range(count), [_plain(token) for token in found.tokens[:count]], rotation=90)
    bound = max(float(np.abs(found.amounts).max(initial=0.0)), 1e-9)
    for label, amount in zip(axes.get_yticklabels(), found.amounts[:count], strict=True):
        label.set_color(
            "#b2182b" if amount < -0.1 * bound else "#2166ac" if amount > 0.1 * bound else "#555555"
        )
    axes.tick_params(length=0)
    axes.set_title(
        "first item: what its tokens add to the likeness to the text\n"
        "that moved it most, and where they attend, from rows to columns",
        loc="left",
    )


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # which matplotlib reads as mathematics
