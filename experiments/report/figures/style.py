"""What all figures share: size, letters, colours, labels that do not overlap, and files."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import BboxBase

from agents import AGENTS
from experiments.store import write_file

COLUMN, PAGE = 3.4, 7.0  # inches, one column of a two-column page, and both
INK, FAINT, GRID = "#222222", "#8a8a8a", "#e4e4e4"

COLOURS = {name: spec.colour for name, spec in AGENTS.items() if spec.colour}
_OTHERS = ("#882255", "#6a51a3", "#7a7a1f", "#661100", "#332288", "#117733", "#aa4499", "#3b5b92")
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7,  # of labels too
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "llmrec",  # otherwise identifiers in the file are random
    "figure.constrained_layout.use": True,
}
styled = mpl.rc_context(_STYLE)
Floats = npt.NDArray[np.float64]
# Where a label stands: horizontal and vertical shift from its point, in points of type.
_OFFSETS = ((5, 0), (-5, 0), (0, 6), (0, -6), (5, 6), (5, -6), (-5, 6), (-5, -6))


def colour_of(agent: str) -> str:
    """Returns the colour of an agent, which depends on nothing but its name."""
    return COLOURS.get(agent, _OTHERS[zlib.crc32(agent.encode()) % len(_OTHERS)])


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Writes a figure as PNG (200 dpi), SVG and PDF; returns the paths. `path` has no suffix."""
    base = Path(path)
    base.parent.mkdir(parents=True, exist_ok=True)
    kinds = ("png", "svg", "pdf")
    return [write_file(Path(f"{base}.{kind}"), _drawn(figure, kind)) for kind in kinds]


@styled
def _drawn(figure: Figure, kind: str) -> bytes:
    """The file of a figure without the time at which it was made."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes; one warning a letter helps nobody.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(file, format=kind, dpi=200, metadata=metadata[kind])
    return file.getvalue()


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]]) -> None:
    """Writes each name to the right of the axes at the height of its end, pushed apart."""
    if not ends:
        return
    bottom, top = axes.get_ylim()
    names = sorted(ends, key=lambda name: ends[name][1])
    wanted = np.array([(ends[name][1] - bottom) / (top - bottom) for name in names])
    heights = apart(wanted, gap=min(0.098, 1.0 / max(1, len(names) - 1)))
    left, right = axes.get_xlim()
    for name, height in zip(names, heights, strict=True):
        x, y = (ends[name][0] - left) / (right - left), (ends[name][1] - bottom) / (top - bottom)
        line = {"color": colour_of(name), "linewidth": 0.5, "clip_on": False, "alpha": 0.7}
        axes.plot([x, 1.03], [y, height], transform=axes.transAxes, **line)
        style = {"color": colour_of(name), "va": "center", "fontsize": 6}
        axes.text(1.04, height, name, transform=axes.transAxes, **style)


def apart(heights: Floats, gap: float) -> Floats:
    """Returns ascending heights within [0, 1], moved as little as makes them `gap` apart."""
    steps = gap * np.arange(len(heights))
    pools: list[list[float]] = []
    for height in heights - steps:  # isotonic regression: pool neighbours that would cross
        pools.append([height])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    level = np.concatenate([[np.mean(pool)] * len(pool) for pool in pools])
    return np.clip(level, 0.0, 1.0 - steps[-1]) + steps


def label_points(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes each name beside its point, where it covers no other name and no line or mark."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # only now is the place of the axes on the page known
    frame = axes.get_window_extent()
    covered = [line.get_window_extent().padded(1.0) for line in axes.lines]
    for name, point in points.items():
        tried = [_annotation(axes, name, point, offset) for offset in _OFFSETS]
        boxes = [label.get_window_extent() for label in tried]
        costs = [box.count_overlaps(covered) + 9 * (not _within(box, frame)) for box in boxes]
        best = costs.index(min(costs))
        covered.append(boxes[best])
        for label in tried[:best] + tried[best + 1 :]:
            label.remove()


def _annotation(
    axes: Axes, text: str, point: tuple[float, float], offset: tuple[int, int]
) -> Annotation:
    style: Any = {"fontsize": 6, "color": colour_of(text), "textcoords": "offset points"}
    style["ha"] = ("right", "center", "left")[int(np.sign(offset[0])) + 1]
    style["va"] = ("top", "center", "bottom")[int(np.sign(offset[1])) + 1]
    return axes.annotate(text, point, offset, **style)


def _within(box: BboxBase, frame: BboxBase) -> bool:
    return box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1


def smooth(values: Floats, steps: int) -> Floats:
    """Returns the centred running mean over the values there are; NaN where a value is NaN."""
    known = np.isfinite(values)
    window = np.ones(min(steps, len(values)))
    sums = np.convolve(np.where(known, values, 0.0), window, "same")
    counts = np.convolve(known.astype(np.float64), window, "same")
    return np.where(known, sums / np.maximum(counts, 1.0), np.nan)


def lines_of(points: Sequence[Any], x: str, y: str) -> dict[str, tuple[Floats, Floats]]:
    """Returns the curve of every agent, x ascending, in the order in which agents come."""
    agents = dict.fromkeys(point.agent for point in points)
    curves = {}
    for agent in agents:
        own = sorted((getattr(p, x), getattr(p, y)) for p in points if p.agent == agent)
        steps, values = np.array(own, np.float64).T
        curves[agent] = (steps, values)
    return curves
