"""Figure of a search of hyper-parameters: how good it had become by then, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from experiments.report.figures.style import FAINT, INK, PAGE, colour_of, styled


class Point(NamedTuple):
    """A trial that ended, in the order in which trials began."""

    value: float | None
    """Return on validation users; None: it was given up."""
    user_steps: int


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
