"""Figures of a run at the width of a paper's column; an agent has the same colour in all of them.

Every function takes the records of one task, in the order in which agents are to appear, and
returns a figure that no window owns. The same records give the same file, byte for byte.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from experiments.leaderboard import group, is_clear
from experiments.leaderboard import scores_of as scores_of_sessions
from experiments.results import CurvePoint, Episode, LearningPoint, Row, write_file
from experiments.statistics import DEFAULT, Resampling, probability_of_improvement

COLUMN = 3.4  # inches, one column of a two-column page
SMOOTHED = 5  # steps of the running mean over rewards

# Okabe and Ito 2008, "Color universal design", light tones darkened to be read as text.
COLOURS = {
    "random": "#8a8a8a",
    "popular": "#8c6d4f",
    "collaborative": "#b8619a",
    "content": "#45a0dc",
    "content-recency": "#0062a3",
    "drift-aware": "#00886a",
    "ppo": "#c98a00",
    "oracle-myopic": "#d55e00",
    "oracle-planning": "#111111",
}
_OTHERS = ("#882255", "#6a51a3", "#7a7a1f", "#661100", "#332288", "#117733", "#aa4499", "#3b5b92")
_INK, _FAINT = "#222222", "#8a8a8a"
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7,  # of labels too
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.edgecolor": _FAINT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "llmrec",  # otherwise identifiers in the file are random
    "figure.constrained_layout.use": True,
}
_styled = mpl.rc_context(_STYLE)
_Floats = npt.NDArray[np.float64]


def colour_of(agent: str) -> str:
    """Returns the colour of an agent, which depends on nothing but its name."""
    return COLOURS.get(agent, _OTHERS[zlib.crc32(agent.encode()) % len(_OTHERS)])


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Writes a figure as PNG (200 dpi), SVG and PDF; returns the paths. `path` has no suffix."""
    base = Path(path)
    base.parent.mkdir(parents=True, exist_ok=True)
    kinds = ("png", "svg", "pdf")
    return [write_file(Path(f"{base}.{kind}"), _drawn(figure, kind)) for kind in kinds]


def write_figures(
    folder: str | os.PathLike[str],
    rows: Sequence[Row],
    episodes: Iterable[Episode],
    curves: Iterable[CurvePoint],
    points: Iterable[LearningPoint] = (),
) -> dict[tuple[str, str], Path]:
    """Writes the figures of all tasks into `figures/`; returns the SVG of each (task, figure)."""
    sessions, curves, points = group(episodes), list(curves), list(points)
    written = {}
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        agents = {row.agent: i for i, row in enumerate(own)}
        mine = [point for point in curves if point.task == task and point.agent in agents]
        played = {agent: sessions[task][agent] for agent in agents}
        figures = {
            "leaderboard": leaderboard(own),
            "dynamics": dynamics(sorted(mine, key=lambda point: agents[point.agent])),
            "distribution": distribution(played),
            "improvement": improvement(played),
        }
        if learned := [point for point in points if point.task == task]:
            baseline = {row.agent: row.mean for row in own if row.agent == "drift-aware"}
            figures["learning"] = learning(learned, baseline)
        for name, figure in figures.items():
            stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{task}-{name}")
            written[task, name] = save(figure, Path(folder) / "figures" / stem)[1]
    return written


@_styled
def leaderboard(rows: Sequence[Row]) -> Figure:
    """Returns mean returns with 95 % intervals, and between rows the paired gain.

    A gain whose interval holds zero is grey and in brackets.
    """
    figure = Figure((COLUMN, 0.55 + 0.26 * len(rows)))
    axes = figure.subplots()
    beside: Any = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    beside |= {"ha": "right", "va": "center"}
    for y, row in enumerate(rows):
        colour = colour_of(row.agent)
        axes.plot([row.ci_low, row.ci_high], [y, y], color=colour, linewidth=2, alpha=0.55)
        axes.plot(row.mean, y, "o", color=colour, markersize=4)
        axes.annotate(f"{row.mean:.1f}", (1, y), (22, 0), **beside)
        if row.gain is not None:
            text, clear = f"{100 * row.gain:+.0f} %", is_clear(row)
            colour = _INK if clear else _FAINT
            axes.annotate(
                text if clear else f"({text})", (1, y - 0.5), (56, 0), color=colour, **beside
            )
    axes.annotate("gain", (1, -0.5), (56, 0), **beside)
    axes.set_yticks(range(len(rows)), [row.agent for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="return per session, mean and 95 % interval")
    axes.set_xlim(left=min(0.0, *(row.ci_low for row in rows)))
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    return figure


@_styled
def dynamics(points: Sequence[CurvePoint]) -> Figure:
    """Returns tracking angle, reward and share of users left, step by step, one under another."""
    agents = list(dict.fromkeys(point.agent for point in points))
    figure = Figure((COLUMN, 5.4))
    panels = (
        ("angle", "angle to the true interests, degrees"),
        ("reward", f"reward per step, mean of {SMOOTHED} steps"),
        ("alive", "users who have not left"),
    )
    for axes, (name, title) in zip(figure.subplots(len(panels), sharex=True), panels, strict=True):
        ends: dict[str, tuple[float, float]] = {}
        for agent in agents:
            own = sorted((p.step, getattr(p, name)) for p in points if p.agent == agent)
            steps, values = np.array(own, np.float64).T
            if name == "reward":
                values = _smooth(values)
            axes.plot(steps, values, color=colour_of(agent))
            known = np.flatnonzero(np.isfinite(values))
            if len(known):
                ends[agent] = (float(steps[known[-1]]), float(values[known[-1]]))
        axes.set_title(title, loc="left")
        axes.set_xlim(min(p.step for p in points), max(p.step for p in points))
        if name != "angle":
            axes.set_ylim(bottom=0)
        if name == "alive":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set(ylim=(0, 1.02), xlabel="step of the session")
        _label_ends(axes, ends)
    return figure


@_styled
def distribution(episodes: Mapping[str, Sequence[Episode]]) -> Figure:
    """Returns the share of sessions of every agent whose return exceeds x.

    The performance profile of Agarwal et al. 2021, "Deep reinforcement learning at the edge of the
    statistical precipice".
    """
    figure = Figure((COLUMN, 2.5))
    axes = figure.subplots()
    share = np.linspace(0.0, 1.0, 401)  # every session would make files of megabytes
    for agent, own in episodes.items():
        x = np.quantile([episode.ret for episode in own], share, method="inverted_cdf")
        axes.plot(x, 1.0 - share, drawstyle="steps-pre", color=colour_of(agent), label=agent)
    top = max(np.quantile([x.ret for x in own], 0.99) for own in episodes.values())
    axes.set(xlim=(0, max(top, 1e-9)), ylim=(0, 1.01), xlabel="return x", ylabel="sessions above x")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, fontsize=6, labelspacing=0.25, labelcolor="linecolor")
    return figure


@_styled
def improvement(episodes: Mapping[str, Sequence[Episode]], how: Resampling = DEFAULT) -> Figure:
    """Returns how often the agent of a row beats that of a column in the same session, in %.

    A number is faint where its interval holds 50 %. All agents must have met the same users.
    """
    agents = list(episodes)
    scores = [scores_of_sessions(episodes[agent]) for agent in agents]
    shares = np.full((len(agents), len(agents)), np.nan)
    figure = Figure((COLUMN, 0.75 + 0.25 * len(agents)))
    axes = figure.subplots()
    for i, j in itertools.combinations(range(len(agents)), 2):
        chance, low, high = probability_of_improvement(scores[j], scores[i], how)
        shares[j, i], shares[i, j] = chance, 1.0 - chance
        colour = "white" if abs(chance - 0.5) > 0.33 else _INK  # on dark cells
        colour = _FAINT if low <= 0.5 <= high else colour
        for row, column in ((i, j), (j, i)):
            style = {"ha": "center", "va": "center", "fontsize": 6, "color": colour}
            axes.text(column, row, f"{100 * shares[row, column]:.0f}", **style)
    axes.imshow(shares, cmap="PuOr_r", vmin=-0.15, vmax=1.15, aspect="auto")
    axes.set_xticks(range(len(agents)), agents, rotation=90)
    axes.set_yticks(range(len(agents)), agents)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("sessions in which the row beats the column, %", loc="left")
    return figure


@_styled
def learning(
    points: Sequence[LearningPoint], references: Mapping[str, float] | None = None
) -> Figure:
    """Returns the return against the user-steps of training: mean and range over training seeds.

    `references` are returns of agents, drawn as dashed lines.
    """
    figure = Figure((COLUMN, 2.2))
    axes = figure.subplots()
    last = float(max(point.train_steps for point in points))
    ends = {agent: (last, value) for agent, value in (references or {}).items()}
    for agent, (_, value) in ends.items():
        axes.axhline(value, color=colour_of(agent), linestyle=(0, (4, 2)), linewidth=0.9)
    for agent in dict.fromkeys(point.agent for point in points):
        own = [point for point in points if point.agent == agent]
        steps = sorted({point.train_steps for point in own})
        at = [[point.ret for point in own if point.train_steps == step] for step in steps]
        means = [float(np.mean(values)) for values in at]
        band = {"color": colour_of(agent), "alpha": 0.2, "linewidth": 0}
        axes.fill_between(steps, [*map(min, at)], [*map(max, at)], **band)
        axes.plot(steps, means, color=colour_of(agent))
        ends[agent] = (steps[-1], means[-1])
    axes.set(xlim=(0, last), xlabel="user-steps of training", ylabel="return per session")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _label_ends(axes, ends)
    return figure


# --- drawing


@_styled
def _drawn(figure: Figure, kind: str) -> bytes:
    """The file of a figure without the time at which it was made."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=200, metadata=metadata[kind])
    return file.getvalue()


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]]) -> None:
    """Writes each name to the right of the axes at the height of its end, pushed apart."""
    if not ends:
        return
    bottom, top = axes.get_ylim()
    names = sorted(ends, key=lambda name: ends[name][1])
    wanted = np.array([(ends[name][1] - bottom) / (top - bottom) for name in names])
    heights = _apart(wanted, gap=min(0.098, 1.0 / max(1, len(names) - 1)))
    left, right = axes.get_xlim()
    for name, height in zip(names, heights, strict=True):
        x, y = (ends[name][0] - left) / (right - left), (ends[name][1] - bottom) / (top - bottom)
        line = {"color": colour_of(name), "linewidth": 0.5, "clip_on": False, "alpha": 0.7}
        axes.plot([x, 1.03], [y, height], transform=axes.transAxes, **line)
        style = {"color": colour_of(name), "va": "center", "fontsize": 6}
        axes.text(1.04, height, name, transform=axes.transAxes, **style)


def _apart(heights: _Floats, gap: float) -> _Floats:
    """Ascending heights within [0, 1], moved as little as makes neighbours `gap` apart."""
    steps = gap * np.arange(len(heights))
    pools: list[list[float]] = []
    for height in heights - steps:  # isotonic regression: pool neighbours that would cross
        pools.append([height])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    level = np.concatenate([[np.mean(pool)] * len(pool) for pool in pools])
    return np.clip(level, 0.0, 1.0 - steps[-1]) + steps


def _smooth(values: _Floats) -> _Floats:
    """Centred running mean over the values there are; NaN where a value is NaN."""
    known = np.isfinite(values)
    window = np.ones(min(SMOOTHED, len(values)))
    sums = np.convolve(np.where(known, values, 0.0), window, "same")
    counts = np.convolve(known.astype(np.float64), window, "same")
    return np.where(known, sums / np.maximum(counts, 1.0), np.nan)
