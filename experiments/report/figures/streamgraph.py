"""Streamgraph of one user's interests as texts, and the slates of a few of its steps."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.report.figures.style import FAINT, INK, PAGE, Floats, styled
from experiments.report.run_results import Session, Texts, feedback_of
from llmrec_env.envs.bands import fit, roomiest, stack, text_width

# Tol's "light" scheme, made to be written on, and more of its kind for long sessions.
_COLOURS = "#77AADD #EE8866 #EEDD88 #FFAABB #99DDFF #44BB99 #BBCC33 #AAAA00 #DDDDDD".split()
_COLOURS += "#C8A2D8 #D9B08C #A8D5A2 #F7C59F #9FB3C8 #E0A0A0".split()
_GOOD, _BAD = "#d5ebdd", "#f6dfd3"  # behind a chosen item; its mark says the same without colour
_GREY = "#666666"
_SMALL, _LETTERS = 5.6, 6.2  # points of type: of titles, of names on bands
_LEFT, _KEY = 0.42, 1.75  # inches: beside the graph
_STREAM, _TOP, _GAP, _MARKS = 2.0, 0.3, 0.34, 0.2  # inches: heights
_COLUMNS, _LINES, _LINE, _SPACE = 4, 3, 0.092, 0.05  # slates; lines of a title; inches
_SHORTEST = 14  # letters that are left of a name on a narrow band


class _Band(NamedTuple):
    """Where a phrase lies in the graph, step by step."""

    phrase: int
    low: Floats
    high: Floats


@styled
def streamgraph(session: Session, texts: Texts) -> Figure:
    """Returns one session: shares of the active interests, and the slates of a few steps.

    A band is as wide as its interest's share of what the user is into. Triangles mark steps in
    which an interest was replaced by another; circles below, what was chosen.
    """
    steps = session["steps"]
    columns = _chosen_steps(steps)
    rows = max(len(step["slate"]) for step in steps)
    below = 0.34 + rows * (_LINES * _LINE + _SPACE) + 0.16
    height = _TOP + _STREAM + _MARKS + _GAP + below
    figure = Figure((PAGE, height))
    figure.set_layout_engine("none")
    bands = _bands(steps)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # as in the file: drawn as boxes
        axes, sheet = _axes(figure, 0.0), figure.add_axes((0, 0, 1, 1), facecolor="none")
        if _name_bands(axes, bands, texts, draw=False):
            axes.remove()
            axes = _axes(figure, _KEY)
        sheet.set(xlim=(0, PAGE), ylim=(0, height))
        sheet.set_axis_off()
        _draw_bands(axes, bands)
        _draw_key(axes, _name_bands(axes, bands, texts), texts)
        _draw_marks(axes, steps)
        _write_title(sheet, session)
        for column, step in enumerate(columns):
            _draw_slate(sheet, axes, column, step, steps[step], texts)
    return figure


def _axes(figure: Figure, right: float) -> Axes:
    """The axes of the graph, with `right` inches for a key beside them."""
    width, height = figure.get_size_inches()
    box = (_LEFT, height - _TOP - _STREAM, width - _LEFT - 0.12 - right, _STREAM)
    axes = figure.add_axes(tuple(np.array(box) / [width, height, width, height]))
    axes.set(ylim=(0, 1), yticks=(), ylabel="share of interest")
    axes.spines[:].set_visible(False)
    return axes


def _chosen_steps(steps: Sequence[Mapping[str, Any]]) -> list[int]:
    """The steps in which something was chosen that lie next to evenly spread moments."""
    consumed = [t for t, step in enumerate(steps) if step["choice"] >= 0] or [*range(len(steps))]
    chosen: list[int] = []
    for part in range(_COLUMNS):
        moment = (part + 0.5) / _COLUMNS * len(steps)
        candidates = [t for t in consumed if t not in chosen]
        chosen += [min(candidates, key=lambda t: abs(t - moment))] if candidates else []
    return sorted(chosen)


def _bands(steps: Sequence[Mapping[str, Any]]) -> list[_Band]:
    phrases = list(dict.fromkeys(phrase for step in steps for phrase, _ in step["interests"]))
    rows = {phrase: row for row, phrase in enumerate(phrases)}
    weights = np.zeros((len(phrases), len(steps)))
    for t, step in enumerate(steps):
        for phrase, weight in step["interests"]:
            weights[rows[phrase], t] = weight
    lower, upper = stack(weights / np.maximum(weights.sum(axis=0), 1e-9))
    return [_Band(*band) for band in zip(phrases, lower, upper, strict=True)]


def _draw_bands(axes: Axes, bands: Sequence[_Band]) -> None:
    for band, colour in zip(bands, itertools.cycle(_COLOURS), strict=False):
        style = {"facecolor": colour, "edgecolor": "white", "linewidth": 0.6}
        x = 1 + np.arange(len(band.low))
        axes.fill_between(x, band.low, band.high, label=str(band.phrase), **style)


def _name_bands(axes: Axes, bands: Sequence[_Band], texts: Texts, draw: bool = True) -> list[_Band]:
    """Writes the phrase on each band that is wide enough, and returns those not told in full."""
    last = max(len(bands[0].low) - 1, 1)
    axes.set_xlim(1, 1 + last)
    dots = axes.figure.dpi / 72
    width, height = axes.bbox.width / dots, axes.bbox.height / dots  # points
    others = []
    for band in bands:
        for text in _forms(texts.phrases[band.phrase]):
            lines = text.split("\n")
            span = max(text_width(line, _LETTERS) for line in lines) / width * last
            at, room = _widest(band, span)
            if room >= 1.2 * _LETTERS * len(lines) / height:
                break
        else:
            others.append(band)
            continue
        if text.endswith("…"):
            others.append(band)
        if draw:
            style: Any = {"ha": "center", "va": "center", "fontsize": _LETTERS, "color": INK}
            axes.text(*at, text, parse_math=False, linespacing=1.05, **style)
    return others


def _forms(text: str) -> Iterator[str]:
    """The text in one line, in two of about one length, and then ever shorter beginnings."""
    yield text
    words = text.split()
    breaks = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    if breaks:
        yield "\n".join(min(breaks, key=lambda lines: max(map(len, lines))))
    for count in range(len(words) - 1, 0, -1):
        if len(short := " ".join(words[:count])) >= _SHORTEST:
            yield f"{short}…"


def _widest(band: _Band, span: float) -> tuple[tuple[float, float], float]:
    """Where a text `span` steps long has most room on a band: its middle, and how much."""
    count = int(np.ceil(span)) + 2  # both ends may lie between two steps
    if count > len(band.low):
        return (0.0, 0.0), -1.0
    start, low, high = roomiest(band.low, band.high, count)
    return (1 + start + (count - 1) / 2, (low + high) / 2), high - low


def _draw_key(axes: Axes, bands: Sequence[_Band], texts: Texts) -> None:
    """Names beside the graph, each with its colour, the bands too narrow for theirs."""
    colours = {str(x.get_label()): x.get_facecolor() for x in axes.collections}
    names = [fit(texts.phrases[band.phrase], _SMALL, 72 * (_KEY - 0.35), 2) for band in bands]
    gap = min(0.055, 1.0 / max(sum(map(len, names)), 1))
    size = min(_SMALL, 0.8 * gap * 72 * _STREAM)
    y = 1.0
    for band, lines in zip(bands, names, strict=True):
        swatch = Rectangle((1.02, y - 0.9 * gap), 0.02, 0.8 * gap, transform=axes.transAxes)
        swatch.set(facecolor=colours[str(band.phrase)], edgecolor="none", clip_on=False)
        axes.add_patch(swatch)
        for line in lines:
            style: Any = {"transform": axes.transAxes, "va": "center", "fontsize": size}
            axes.text(1.05, y - gap / 2, line, parse_math=False, color=INK, **style)
            y -= gap


def _draw_marks(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    """Marks switches above the graph, and what was chosen below it."""
    style: Any = {"clip_on": False, "transform": axes.get_xaxis_transform(), "linestyle": "none"}
    numbered = [*enumerate(steps, 1)]
    switched = [t + 0.5 for t, step in numbered if any(x[0] == "died" for x in step["events"])]
    for at in switched:
        axes.axvline(at, color=INK, linewidth=0.5, linestyle=(0, (3, 2)), alpha=0.7)
    axes.plot(switched, [1.02] * len(switched), "v", color=INK, markersize=3.5, **style)
    style |= {"markersize": 2.4, "markeredgewidth": 0.5, "color": INK}
    for satisfied, fill in ((True, INK), (False, "white")):
        chosen = [t for t, step in numbered if max(feedback_of(step)) == satisfied]
        axes.plot(chosen, [-0.03] * len(chosen), "o", markerfacecolor=fill, **style)
    tens = range(10, len(steps) + 1, 10)
    axes.set_xticks([1, *tens], ["step 1", *map(str, tens)])
    axes.tick_params(axis="x", length=0, pad=7)
    axes.set_xlim(1, max(len(steps), 2))


def _write_title(sheet: Axes, session: Session) -> None:
    top, steps = sheet.get_ylim()[1], session["steps"]
    end = "stayed to the end" if session["survived"] else f"left after step {len(steps)}"
    total = sum(step["reward"] for step in steps)
    about = f"{session['agent']}, user {session['user']} of world {session['world']}"
    text = f"{about}: return {total:.1f}, {end}"
    sheet.text(_LEFT, top - 0.1, text, fontsize=7.5, va="center", parse_math=False)
    key = "▼ an interest is replaced    ● chosen and satisfied    ○ chosen, not satisfied"
    sheet.text(PAGE - 0.12, top - 0.1, key, fontsize=_SMALL, va="center", ha="right", color=_GREY)


def _draw_slate(
    sheet: Axes, axes: Axes, column: int, t: int, step: Mapping[str, Any], texts: Texts
) -> None:
    """Writes the slate of a step into one of the columns, joined to its step in the graph."""
    width = (PAGE - _LEFT - 0.12) / _COLUMNS
    left, top = _LEFT + column * width, sheet.get_ylim()[1] - _TOP - _STREAM - _MARKS - _GAP
    pixels = axes.transData.transform((t + 1, 0.0))
    x, y = sheet.transData.inverted().transform(pixels)
    ends = [x, x, left + width / 2 - 0.04], [y - 0.24, y - 0.3, top + 0.03]
    sheet.plot(*ends, color=FAINT, linewidth=0.6)
    feedback, outcome = feedback_of(step), "nothing chosen"
    chosen, satisfied = sum(z >= 0 for z in feedback), sum(z == 1 for z in feedback)
    if chosen:
        outcome = "satisfied" if satisfied else "not satisfied"
    if chosen > 1:
        outcome = f"{chosen} chosen, {satisfied} satisfied"
    style: Any = {"va": "center", "fontsize": _SMALL, "parse_math": False}
    sheet.text(left, top - 0.06, f"step {t + 1}", fontsize=7, fontweight="bold", va="center")
    sheet.text(left + width - 0.12, top - 0.06, outcome, ha="right", color=_GREY, **style)
    y, tall = top - 0.18, _LINES * _LINE + _SPACE
    slate: list[int] = step["slate"]
    for slot, item in enumerate(slate):
        mine, good = feedback[slot] >= 0, feedback[slot] == 1
        if mine:
            colour = _GOOD if good else _BAD
            sheet.add_patch(Rectangle((left - 0.03, y - tall), width - 0.06, tall, color=colour))
            sheet.text(left + 0.03, y - tall / 2, "✓" if good else "✗", ha="center", **style)
        lines = fit(texts.items[item], _SMALL, 72 * (width - 0.24), _LINES)
        for number, line in enumerate(lines):
            at = y - tall / 2 + _LINE * ((len(lines) - 1) / 2 - number)
            sheet.text(left + 0.09, at, line, color=INK if mine else _GREY, **style)
        y -= tall
