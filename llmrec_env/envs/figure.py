"""Picture of a session, 1280 x 720 pixels, drawn with matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from llmrec_env.envs.bands import FONT, Floats, fit, roomiest, stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Tol's "muted" scheme: told apart by people with any of the common colour blindnesses.
_COLOURS = "#332288 #88CCEE #CC6677 #117733 #DDCC77 #882255 #44AA99 #AA4499 #999933".split()
_LIGHT = ("#88CCEE", "#DDCC77", "#44AA99", "#999933")  # dark letters are read better on these
_INK, _GREY, _FAINT, _SLOW, _RECENT = "#222222", "#666666", "#E4E4E4", "#004488", "#BB5566"
_GOOD, _BAD = "#D5EBDD", "#F6DFD3"  # behind a chosen row; the mark says the same without colour
# Two poolings of the public history, by their half-life: no estimate of an agent's.
_POOLINGS = ("long", _SLOW, "-"), ("recent", _RECENT, (0, (4, 1.5)))

_WIDTH, _HEIGHT, _DPI = 1280, 720, 100
_LEFT, _SPAN, _GUTTER, _GUTTER_SPAN = 58, 500, 574, 232  # the time axes, their labels [pixels]
_TABLE, _TABLE_END = 842, 1256  # the slate
_EVENTS, _STREAMGRAPH, _TRACKING = (76, 65), (168, 262), (464, 100)  # top, height
_RETURN = (598, 72)


class Story(NamedTuple):
    """What a picture shows: t moments of p interests."""

    title: str
    status: str
    steps: npt.NDArray[np.int64]  # (t,)
    weights: Floats  # (p, t), 0 where an interest is not active
    labels: Sequence[str]  # (p,)
    colours: Sequence[int]  # (p,)
    events: Mapping[str, Sequence[int]]  # steps by kind
    tracking_errors: Floats  # (2, t), of the long and of the recent pooled history [degrees]
    returns: Floats  # (t,)
    slate: Sequence[tuple[str, str, float]]  # (k,), text, topic and f
    feedback: Sequence[int]  # (k,), satisfied 1 or 0, -1: not consumed
    slate_title: str
    result: str
    notes_title: str
    notes: Sequence[str]


def colour_numbers(weights: Sequence[Mapping[int, float]]) -> dict[int, int]:
    """Returns the colour of every phrase, in order of appearance.

    A new phrase gets, of the colours no active phrase has, the one unused for longest. Nothing
    depends on what comes later, so that a colour stays while a session is filmed.
    """
    colours: dict[int, int] = {}
    numbers, last_used = range(len(_COLOURS)), [-1] * len(_COLOURS)
    for moment, active in enumerate(weights):
        for phrase in active:
            if phrase not in colours:
                in_use = {colours[other] for other in active if other in colours}
                colours[phrase] = min(numbers, key=lambda c: (c in in_use, last_used[c]))
        for phrase in active:
            last_used[colours[phrase]] = moment
    return colours


def draw(story: Story) -> npt.NDArray[np.uint8]:
    """Returns the picture, (720, 1280, 3), or raises DependencyNotInstalled."""
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes; one warning a letter helps nobody.
        warnings.filterwarnings("ignore", "Glyph")
        page = _Page(story.steps)
        page.write(_LEFT, 30, story.title, 15, weight="bold")
        page.write(_TABLE_END, 30, story.status, 10, ha="right", color=_GREY)
        for panel in (_draw_events, _draw_streamgraph, _draw_tracking_errors, _draw_return):
            panel(page, story)
        _draw_notes(page, story, _draw_slate(page, story))
        page.canvas.draw()
    return np.asarray(page.canvas.buffer_rgba())[..., :3].copy()


class _Page:
    """A figure under a transparent sheet, whose coordinates are pixels from the top left."""

    def __init__(self, steps: npt.NDArray[np.int64]) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise gymnasium.error.DependencyNotInstalled(
                "render_mode='rgb_array' needs matplotlib; run `pip install llmrec-env[render]`."
            ) from error
        self.figure = Figure((_WIDTH / _DPI, _HEIGHT / _DPI), _DPI, facecolor="white")
        self.figure.set_layout_engine("none")
        self.canvas = FigureCanvasAgg(self.figure)
        self.sheet = self.figure.add_axes((0, 0, 1, 1), zorder=1)
        self.sheet.set(xlim=(0, _WIDTH), ylim=(_HEIGHT, 0), autoscale_on=False)
        self.sheet.set_axis_off()
        self.span = float(steps[0]), float(max(steps[-1], steps[0] + 1))

    def axes(self, panel: tuple[int, int], title: str) -> Axes:
        """Time axes at (top, height), with a title above."""
        top, height = panel
        box = (_LEFT / _WIDTH, 1 - (top + height) / _HEIGHT, _SPAN / _WIDTH, height / _HEIGHT)
        axes = self.figure.add_axes(box, facecolor="white", xlim=self.span)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8, labelcolor=_GREY, labelfontfamily=FONT)
        axes.tick_params(labelbottom=False)
        self.write(_LEFT, top - 14, title, 10, weight="bold")
        return axes

    def write(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Writes lines, their middle at height y; a `$` in them is a dollar."""
        style = {"color": _INK, "va": "center", "fontfamily": FONT} | style
        self.sheet.text(x, y, text, fontsize=size, parse_math=False, usetex=False, **style)


def _fit(text: str, size: float, pixels: float, lines: int = 1) -> list[str]:
    """The text in lines no wider than so many pixels, with an ellipsis where it is cut."""
    return fit(text, size, pixels * 72 / _DPI, lines)


def _draw_events(page: _Page, story: Story) -> None:
    top, height = _EVENTS
    axes = page.axes(_EVENTS, "Events")
    axes.set(ylim=(len(story.events) - 0.5, -0.5), yticks=[])
    for lane, (kind, steps) in enumerate(story.events.items()):
        axes.axhline(lane, color=_FAINT, linewidth=0.8, zorder=0)
        axes.vlines(steps, lane - 0.38, lane + 0.38, color=_INK, linewidth=1.6, clip_on=False)
        y = top + height * (lane + 0.5) / len(story.events)
        page.write(_GUTTER, y, kind, 8, color=_GREY)


def _draw_streamgraph(page: _Page, story: Story) -> None:
    axes = page.axes(_STREAMGRAPH, "True interests of the user, weight ω")
    once = len(story.steps) == 1  # a moment has no width
    steps = np.array(page.span) if once else story.steps
    weights = np.repeat(story.weights, 2, axis=1) if once else story.weights
    lower, upper = stack(weights)
    most = float(upper[-1].max()) * 1.02
    axes.set_ylim(0.0, most)
    axes.locator_params("y", integer=True, nbins=4)
    edge = 0.8 if len(steps) < 150 else 0.2  # white edges would hide narrow peaks
    for weight, below, above, number in zip(weights, lower, upper, story.colours, strict=True):
        active = weight > 0.0
        # One moment more at either end, where the area rises from nothing.
        visible = active | np.append(active[1:], False) | np.append(False, active[:-1])
        style: dict[str, Any] = {"facecolor": _COLOURS[number], "linewidth": edge}
        axes.fill_between(steps, below, above, visible.tolist(), edgecolor="white", **style)
    top, height = _STREAMGRAPH
    below, above = (top + height * (1 - edges / most) for edges in (lower, upper))
    _label_active(page, story, weights[:, -1] > 0.0, (below[:, -1] + above[:, -1]) / 2)
    for number in np.flatnonzero(weights[:, -1] == 0.0).tolist():
        _label_past(page, story.labels[number], below[number], above[number], story.colours[number])


def _label_active(
    page: _Page, story: Story, active: npt.NDArray[np.bool_], middles: Floats
) -> None:
    """Writes the texts of what is active into the margin, apart from each other."""
    numbers = np.flatnonzero(active).tolist()
    lines = 1 + (len(numbers) <= 8)
    texts = [_fit(story.labels[number], 8, _GUTTER_SPAN, lines) for number in numbers]
    heights = [12.0 * len(text) + 5.0 for text in texts]
    centres = spread(middles[numbers], heights, _STREAMGRAPH)
    for number, text, y in zip(numbers, texts, centres, strict=True):
        ends = (_LEFT + _SPAN + 1, _GUTTER - 4), (middles[number], y)
        page.sheet.plot(*ends, color=_COLOURS[story.colours[number]], linewidth=1.6)
        page.write(_GUTTER, y, "\n".join(text), 8)


def _label_past(page: _Page, label: str, below: Floats, above: Floats, colour: int) -> None:
    """Writes a past interest into its band [pixels from the top], where most of the text fits."""
    pixels = _SPAN / (len(below) - 1)
    best, x, y = [""], 0.0, 0.0
    for length in sorted({min(int(wide / pixels) + 2, len(below)) for wide in range(50, 200, 20)}):
        start, top, bottom = roomiest(above, below, length)
        lines = int((bottom - top) / 11)
        text = _fit(label, 7, (length - 1) * pixels - 6, lines) if lines > 0 else [""]
        if sum(map(len, text)) > sum(map(len, best)):
            best, y = text, (bottom + top) / 2
            x = _LEFT + pixels * (start + (length - 1) / 2)
    ink = _INK if _COLOURS[colour] in _LIGHT else "white"
    page.write(x, y, "\n".join(best), 7, ha="center", color=ink)


def spread(middles: Floats, heights: Sequence[float], panel: tuple[int, int]) -> list[float]:
    """Returns where labels go so that none overlap: near `middles`, in order, inside the panel."""
    order, free, end = np.argsort(middles, kind="stable"), float(panel[0]), float(sum(panel))
    centres = [0.0] * len(heights)
    for number in order:
        centres[number] = max(middles[number], free + heights[number] / 2)
        free = centres[number] + heights[number] / 2
    for number in order[::-1]:
        centres[number] = min(centres[number], end - heights[number] / 2)
        end = centres[number] - heights[number] / 2
    return [float(centre) for centre in centres]


def _draw_tracking_errors(page: _Page, story: Story) -> None:
    top, height = _TRACKING
    axes = page.axes(_TRACKING, "Tracking error: true interests against the pooled history")
    highest = max(95.0, 5.0 + float(np.nan_to_num(story.tracking_errors).max()))
    axes.set_ylim(0.0, highest)
    axes.set_yticks([0, 45, 90], ["0°", "45°", "90°"])
    axes.hlines([0, 45, 90], *page.span, color=_FAINT, linewidth=0.8, zorder=0)
    heights = top + height * (1 - np.nan_to_num(story.tracking_errors[:, -1]) / highest)
    labels = spread(heights, [13.0, 13.0], _TRACKING)
    dot = {"marker": "o", "clip_on": False} if len(story.steps) == 1 else {}
    for row, (kind, colour, dashes) in enumerate(_POOLINGS):
        errors = story.tracking_errors[row]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "linestyle": dashes} | dot
        axes.plot(story.steps, errors, **style)
        now = "unknown" if np.isnan(errors[-1]) else f"{errors[-1]:.0f}°"
        page.write(_GUTTER, labels[row], f"{kind} history: {now}", 8, color=colour)


def _draw_return(page: _Page, story: Story) -> None:
    top, height = _RETURN
    axes = page.axes(_RETURN, "Return so far")
    most = max(1.0, float(story.returns.max()) * 1.08)
    axes.set_ylim(0.0, most)
    axes.locator_params("y", nbins=3)
    axes.locator_params("x", integer=True, nbins=8)
    axes.tick_params(labelbottom=True)
    axes.axhline(0.0, color=_FAINT, linewidth=0.8, zorder=0)
    axes.fill_between(story.steps, story.returns, color="#BBCCEE", linewidth=0)
    axes.plot(story.steps, story.returns, color=_SLOW, linewidth=1.6)
    y = top + height * (1 - story.returns[-1] / most)
    page.write(_GUTTER, y, f"{story.returns[-1]:.2f}", 8, color=_SLOW)
    page.write(_LEFT + _SPAN / 2, top + height + 32, "step", 8, ha="center", color=_GREY)


def _draw_slate(page: _Page, story: Story) -> float:
    """Draws the slate as a table and returns the height at which it ends."""
    top, numbers = _EVENTS[0] - 14, _TABLE_END - 26
    page.write(_TABLE, top, story.slate_title, 10, weight="bold")
    if not story.slate:
        return top
    page.write(numbers, top, "relevance f", 8, ha="right", color=_GREY)
    height = min(54.0, 400 / len(story.slate))
    for rank, (text, topic, relevance) in enumerate(story.slate):
        y = top + 14 + (rank + 0.5) * height
        satisfied = story.feedback[rank] == 1
        if story.feedback[rank] >= 0:
            back, edges = _GOOD if satisfied else _BAD, [_TABLE - 8, _TABLE_END + 8]
            page.sheet.fill_between(edges, y - height / 2, y + height / 2, color=back, linewidth=0)
            page.write(_TABLE_END, y, "✓" if satisfied else "✗", 11, ha="right")
        page.write(_TABLE + 14, y, str(rank + 1), 8, ha="right", color=_GREY)
        bar = [numbers - 66, numbers - 66 + 36 * min(relevance, 1.0)]
        page.sheet.fill_between(bar, y - 3, y + 3, color="#7799CC", linewidth=0)
        page.write(numbers, y, f"{relevance:.2f}", 8, ha="right")
        span, room = numbers - _TABLE - 98, int(height / 16)  # lines, with air between rows
        named, below = _fit(text, 8, span, max(room - 1, 1)), bool(topic) and room > 1
        page.write(_TABLE + 22, y - 6.5 * below, "\n".join(named), 8)
        if below:
            page.write(_TABLE + 22, y + 6.5 * len(named), _fit(topic, 8, span)[0], 8, color=_GREY)
    return top + 14 + height * len(story.slate)


def _draw_notes(page: _Page, story: Story, top: float) -> None:
    page.write(_TABLE, top + 22, _fit(story.result, 8, _TABLE_END - _TABLE)[0], 8)
    page.write(_TABLE, top + 52, story.notes_title, 10, weight="bold")
    y = top + 65
    for note in story.notes:
        lines = _fit(note, 8, _TABLE_END - _TABLE, lines=5)
        if y + 14 * len(lines) > _HEIGHT:
            return
        page.write(_TABLE, y, "\n".join(lines), 8, va="top")
        y += 14 * len(lines) + 5
