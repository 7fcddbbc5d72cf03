"""Bands of a streamgraph: their edges, where a label has most room, and texts cut to a width."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

FONT = "DejaVu Sans"  # comes with matplotlib, so that pictures are alike everywhere

Floats = npt.NDArray[np.float64]


def stack(weights: Floats) -> tuple[Floats, Floats]:
    """Returns the lower and upper edges of bands stacked in order, each (p, t) as the weights."""
    upper = np.cumsum(weights, axis=0)
    return upper - weights, upper


def roomiest(lower: Floats, upper: Floats, length: int) -> tuple[int, float, float]:
    """Returns where a band, (t,) and (t,), is widest over `length` moments in a row.

    Returns:
        The first of these moments, and the lower and upper edge that all of them keep clear.
    """
    windows = np.lib.stride_tricks.sliding_window_view
    bottom, top = windows(lower, length).max(axis=1), windows(upper, length).min(axis=1)
    start = int(np.argmax(top - bottom))
    return start, float(bottom[start]), float(top[start])


def text_width(text: str, size: float) -> float:
    """Returns how wide a text of `size` points is [points]."""
    return sum(_advance(letter, size) for letter in text)


def fit(text: str, size: float, width: float, lines: int = 1) -> list[str]:
    """Returns the text in lines no wider than `width` points, with an ellipsis where it is cut."""
    fitted = [""]
    for word in text.split():
        longer = f"{fitted[-1]} {word}".strip()
        if len(fitted) == lines or not fitted[-1] or text_width(longer, size) <= width:
            fitted[-1] = longer
        else:
            fitted.append(word)
    return [_cut(line, size, width) for line in fitted]


def _cut(line: str, size: float, width: float) -> str:
    if text_width(line, size) <= width:
        return line
    ends = np.cumsum([_advance(letter, size) for letter in line])
    count = np.count_nonzero(ends <= width - _advance("…", size))
    return f"{line[:count].rstrip()}…"


@lru_cache(4096)
def _advance(letter: str, size: float) -> float:
    """Width of a letter [points], 2 % more than its outline: drawn letters snap to pixels."""
    font = _font()
    font.set_size(size, 72)
    return font.load_glyph(font.get_char_index(ord(letter))).linearHoriAdvance / 65536 * 1.02


@lru_cache(1)
def _font() -> Any:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties(family=FONT)))
