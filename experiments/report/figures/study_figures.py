"""Figures of the studies: returns and improvements when a parameter or a part changes, a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from experiments.report.figures.style import COLUMN, FAINT, INK, PAGE, colour_of, label_ends, styled
from experiments.statistics.intervals import Interval

Points = Mapping[float, Interval]
"""Intervals by the value of a parameter."""
_ZERO: Any = {"color": FAINT, "linewidth": 0.6}


class Point(NamedTuple):
    """A trial that ended, in the order in which trials began."""

    value: float | None
    """Return on validation users; None: it was given up."""
    user_steps: int


@styled
def by_value(
    parameter: str, metric: str, agents: Mapping[str, Points], improvements: Mapping[str, Points]
) -> Figure:
    """Returns a metric by the value of a parameter, a line an agent, and improvements below.

    Args:
        parameter: name of the horizontal axis.
        metric: name of what is drawn of the agents.
        agents: by name.
        improvements: relative, by what is compared, as "drift-aware over content"; may be empty.
    """
    panels = 2 if improvements else 1
    figure = Figure((COLUMN, 2.3 * panels))
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    for agent, points in agents.items():
        _band(axes[0], points, agent, colour_of(agent))
    axes[0].set_title(f"{metric}, mean and 95 % interval", loc="left")
    if metric == "return":
        axes[0].set_ylim(bottom=0)
    last = {agent: max(points) for agent, points in agents.items()}
    axes[0].set_xlim(right=max(last.values()))
    label_ends(axes[0], {agent: (x, agents[agent][x].value) for agent, x in last.items()})
    for name, points in improvements.items():
        _band(axes[1], points, name, colour_of(name.split(" over ")[0]))
    if improvements:
        handles, names = axes[1].get_legend_handles_labels()
        style: Any = {"frameon": False, "fontsize": 6, "labelcolor": "linecolor"}
        figure.legend(handles, names, loc="outside lower left", **style)
        axes[1].axhline(0.0, **_ZERO)
        axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
        axes[1].set_title("relative improvement, with 95 % interval", loc="left")
    axes[-1].set_xlabel(parameter)
    return figure


@styled
def forest(improvements: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Returns improvements with intervals by variant, a panel for each comparison.

    Args:
        improvements: relative, by comparison and then by variant; intervals that hold 0 are grey.
    """
    rows = [len(variants) for variants in improvements.values()]
    figure = Figure((1.35 * COLUMN, 0.2 + 0.45 * len(rows) + 0.17 * sum(rows)))
    shape = {"height_ratios": [1 + count for count in rows]}
    panels = figure.subplots(len(rows), squeeze=False, gridspec_kw=shape)[:, 0]
    for axes, (name, variants) in zip(panels, improvements.items(), strict=True):
        _intervals(axes, variants)
        axes.set_title(f"improvement of {name}", loc="left")
    return figure


@styled
def variants_and_known(
    improvements: Mapping[str, Interval], over: str, known: Mapping[str, Mapping[int, Interval]]
) -> Figure:
    """Returns improvements of variants, and beside them returns by what is known of users.

    Args:
        improvements: relative, by variant; intervals that hold 0 are grey.
        over: what they improve on.
        known: return by the number of logged slates, by agent; if empty, there is one panel.
    """
    panels = 2 if known else 1
    figure = Figure((PAGE if known else 1.35 * COLUMN, max(2.0, 0.5 + 0.17 * len(improvements))))
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _intervals(axes[0], improvements)
    axes[0].set_title(f"relative improvement over {over}", loc="left")
    if known:
        slates = sorted({number for points in known.values() for number in points})
        ends: dict[str, tuple[float, float]] = {}
        for agent, points in known.items():
            placed = {float(slates.index(number)): x for number, x in points.items()}
            _band(axes[1], placed, agent, colour_of(agent))
            ends[agent] = (max(placed), placed[max(placed)].value)
        axes[1].set_xticks(range(len(slates)), [str(number) for number in slates])
        axes[1].set(xlim=(0, len(slates) - 1), xlabel="logged slates known")
        axes[1].set_ylim(bottom=0)
        axes[1].set_title("return, mean and 95 % interval", loc="left")
        label_ends(axes[1], ends)
    return figure


@styled
def heat_map(values: Mapping[float, Mapping[float, float]], name: str, y: str, x: str) -> Figure:
    """Returns values by two parameters, written into cells of their colour.

    Args:
        values: by the value of one parameter, downwards, and of the other; some may be missing.
        name: of the values.
        y: name of the first parameter.
        x: name of the second one.
    """
    columns = sorted({column for row in values.values() for column in row})
    cells = np.array([[row.get(column, np.nan) for column in columns] for row in values.values()])
    figure = Figure((COLUMN, 0.8 * COLUMN))
    axes = figure.subplots()
    axes.imshow(cells, cmap="viridis")
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2.0
    for (i, j), value in np.ndenumerate(cells):
        if np.isfinite(value):
            colour = "white" if value < middle else INK
            axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), [f"{column:g}" for column in columns])
    axes.set_yticks(range(len(values)), [f"{row:g}" for row in values])
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(name, loc="left")
    return figure


@styled
def calibration(panels: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Returns frequencies against predicted probabilities, a panel for each kind of event.

    Args:
        panels: (predicted, observed) of each bin, by the name of the event.
    """
    figure = Figure((COLUMN, 0.55 * COLUMN))
    for axes, (name, bins) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        top = max(max(point) for point in bins) * 1.05
        axes.plot([0, top], [0, top], **_ZERO)
        axes.plot(*zip(*bins, strict=True), "o", color=INK, markersize=3)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="predicted probability", ylabel="frequency")
        axes.set_title(name, loc="left")
    return figure


@styled
def best_so_far(agent: str, points: Sequence[Point], default: float | None) -> Figure:
    """Returns the best return so far, by trials in one panel and by environment steps in the other.

    Dots are trials, ticks at the lower edge those that were given up.

    Args:
        agent: whose settings were searched.
        points: at least one trial.
        default: return of the agent as it was, drawn as a dashed line; None: unknown.
    """
    figure = Figure((PAGE, 2.2))
    panels = figure.subplots(1, 2, sharey=True)
    values = np.array([np.nan if p.value is None else p.value for p in points])
    best = np.fmax.accumulate(values)
    spent = np.cumsum([point.user_steps for point in points])
    lost = np.isnan(values)
    for axes, x in zip(panels, (np.arange(len(points)), spent), strict=True):
        style: Any = {"color": colour_of(agent), "clip_on": False}
        axes.plot(x, values, "o", markersize=2.5, alpha=0.5, **style)
        axes.step(x, best, where="post", **style)
        if lost.any():
            edge: Any = {"transform": axes.get_xaxis_transform(), "color": FAINT}
            axes.plot(x[lost], np.zeros(lost.sum()), "|", markersize=5, clip_on=False, **edge)
        if default is not None:
            axes.axhline(default, color=INK, linestyle=(0, (4, 2)), linewidth=0.8, zorder=0)
    if default is not None:
        style = {"color": INK, "fontsize": 6, "va": "center"}
        style["transform"] = panels[1].get_yaxis_transform()
        panels[1].text(1.02, default, "as it was", **style)
    panels[0].set(xlabel="trial", ylabel=f"return of {agent}, validation users")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set_xlabel("environment steps of training in all trials")
    panels[1].xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure


def _band(axes: Axes, points: Points, name: str, colour: str) -> None:
    values = sorted(points)
    middle, low, high = zip(*(points[value] for value in values), strict=True)
    axes.fill_between(values, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(values, middle, "o-", color=colour, markersize=2.5, label=name)


def _intervals(axes: Axes, improvements: Mapping[str, Interval]) -> None:
    for y, improved in enumerate(improvements.values()):
        colour = INK if improved.is_clear else FAINT
        axes.plot([improved.low, improved.high], [y, y], color=colour, linewidth=1.6)
        axes.plot(improved.value, y, "o", color=colour, markersize=3.5)
    axes.axvline(0.0, **_ZERO)
    axes.set_yticks(range(len(improvements)), list(improvements))
    axes.set_ylim(len(improvements) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(axis="y", length=0)
