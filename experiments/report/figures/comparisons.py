"""Figures that compare agents: returns, distributions, pairs of agents, worlds, diversity."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from experiments.report.figures.style import (
    COLUMN,
    FAINT,
    GRID,
    INK,
    colour_of,
    label_points,
    styled,
)
from experiments.statistics import intervals
from experiments.statistics.intervals import DEFAULT, Resampling, probability_of_improvement
from experiments.statistics.leaderboard import improvement_of, scores_of
from experiments.store import Episode, Metric, Row, WorldRow


@styled
def leaderboard(rows: Sequence[Row]) -> Figure:
    """Returns mean returns with 95 % intervals, and between rows the improvement.

    An improvement whose interval holds zero is grey and in brackets.
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
        if improved := improvement_of(row):
            text, colour = f"{100 * improved.value:+.0f} %", INK
            if not improved.is_clear:
                text, colour = f"({text})", FAINT
            axes.annotate(text, (1, y - 0.5), (56, 0), color=colour, **beside)
    axes.annotate("improvement", (1, -0.5), (56, 0), **beside)
    axes.set_yticks(range(len(rows)), [row.agent for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="return per session, mean and 95 % interval")
    axes.set_xlim(left=min(0.0, *(row.ci_low for row in rows)))
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def distribution(
    episodes: Mapping[str, Sequence[Episode]], resampling: Resampling = DEFAULT
) -> Figure:
    """Returns the share of sessions of every agent whose return exceeds x, with 95 % bands.

    The performance profile of Agarwal et al. 2021, "Deep reinforcement learning at the edge of the
    statistical precipice".
    """
    figure = Figure((COLUMN, 2.5))
    axes = figure.subplots()
    top = max(np.quantile([x.ret for x in own], 0.99) for own in episodes.values())
    at = np.linspace(0.0, max(float(top), 1e-9), 101)
    for agent, own in episodes.items():
        profile, colour = (
            intervals.performance_profile(scores_of(own), at, resampling),
            colour_of(agent),
        )
        axes.fill_between(at, profile.low, profile.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, profile.share, color=colour, label=agent)
    axes.set(xlim=(0, at[-1]), ylim=(0, 1.01), xlabel="return x", ylabel="sessions above x")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, fontsize=6, labelspacing=0.25, labelcolor="linecolor")
    return figure


@styled
def improvement(
    episodes: Mapping[str, Sequence[Episode]], resampling: Resampling = DEFAULT
) -> Figure:
    """Returns how often the agent of a row beats that of a column in the same session, in %.

    A number is faint where its interval holds 50 %. All agents must have met the same users.
    """
    agents = list(episodes)
    scores = [scores_of(episodes[agent]) for agent in agents]
    shares = np.full((len(agents), len(agents)), np.nan)
    figure = Figure((COLUMN, 0.75 + 0.25 * len(agents)))
    axes = figure.subplots()
    for i, j in itertools.combinations(range(len(agents)), 2):
        chance, low, high = probability_of_improvement(scores[j], scores[i], resampling)
        shares[j, i], shares[i, j] = chance, 1.0 - chance
        colour = "white" if abs(chance - 0.5) > 0.33 else INK  # on dark cells
        colour = FAINT if low <= 0.5 <= high else colour
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


@styled
def diversity(rows: Sequence[Row], metrics: Sequence[Metric]) -> Figure | None:
    """Returns return against diversity of the slates, a point an agent with both 95 % intervals.

    None where no agent has a diversity: slates of one item.
    """
    measured = {x.agent: x for x in metrics if x.metric == "diversity" and x.value is not None}
    shown = [row for row in rows if row.agent in measured]
    if not shown:
        return None
    figure = Figure((COLUMN, 2.6))
    axes = figure.subplots()
    points: dict[str, tuple[float, float]] = {}
    for row in shown:
        x, colour = measured[row.agent], colour_of(row.agent)
        value = float(x.value or 0.0)
        bars = {"color": colour, "linewidth": 0.9, "alpha": 0.6}
        if x.low is not None and x.high is not None:
            axes.plot([x.low, x.high], [row.mean, row.mean], **bars)
        axes.plot([value, value], [row.ci_low, row.ci_high], **bars)
        axes.plot(value, row.mean, "o", color=colour, markersize=4)
        points[row.agent] = (value, row.mean)
    axes.margins(0.16, 0.08)
    axes.set(xlabel="diversity of the slates, 1 - mean cosine", ylabel="return per session")
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    label_points(axes, points)
    return figure


@styled
def worlds(rows: Sequence[WorldRow]) -> Figure | None:
    """Returns the improvement of each agent over the row above, in every world.

    Lines are 95 % intervals, marks hollow where one holds zero. None where there are fewer than two
    worlds.
    """
    improvements = {(row.agent, row.world): improvement_of(row) for row in rows}
    drawn = {key: x for key, x in improvements.items() if x and x.low > -1.0}
    agents = list(dict.fromkeys(agent for agent, _ in drawn))
    if len({world for _, world in drawn}) < 2:
        return None
    figure = Figure((COLUMN, 0.6 + 0.3 * len(agents)))
    axes = figure.subplots()
    for lane, agent in enumerate(agents):
        own = [improved for (name, _), improved in drawn.items() if name == agent]
        colour = colour_of(agent)
        style: Any = {"color": colour, "markersize": 3.2, "markeredgewidth": 0.8}
        for index, improved in enumerate(own):
            y = lane + 0.6 * ((index + 0.5) / len(own) - 0.5)
            ends = [1 + improved.low, 1 + improved.high]
            axes.plot(ends, [y, y], color=colour, linewidth=1.2, alpha=0.55)
            fill = colour if improved.is_clear else "white"
            axes.plot(1 + improved.value, y, "o", markerfacecolor=fill, **style)
    axes.axvline(1.0, color=FAINT, linewidth=0.7, zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, (1, 1.5, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"×{x:g}"))  # noqa: RUF001
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(agents)), agents)
    axes.set(ylim=(len(agents) - 0.5, -0.5), xlabel="return against the row above, a mark a world")
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    return figure
