"""Figures over time: within a session, after a switch of interests, and in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from experiments.report.figures.style import (
    COLUMN,
    FAINT,
    Floats,
    colour_of,
    label_ends,
    lines_of,
    smooth,
    styled,
)
from experiments.store import AdaptationPoint, CurvePoint, LearningPoint

SMOOTHED = 5  # steps of the running mean over rewards
_DASHES = (0, (4, 2))


@styled
def dynamics(points: Sequence[CurvePoint]) -> Figure:
    """Returns tracking errors, reward and share of users left, step by step, one under another.

    The panel of beliefs is left out where no agent holds one.
    """
    panels = {
        "belief_error": "tracking error of the agent's belief, degrees",
        "tracking_error": "tracking error of the pooled history, degrees",
        "reward": f"reward per step, mean of {SMOOTHED} steps",
        "alive": "users who have not left",
    }
    if not any(math.isfinite(point.belief_error) for point in points):
        del panels["belief_error"]
    figure = Figure((COLUMN, 1.8 * len(panels)))
    rows = zip(figure.subplots(len(panels), sharex=True), panels.items(), strict=True)
    for axes, (name, title) in rows:
        ends: dict[str, tuple[float, float]] = {}
        for agent, (steps, values) in lines_of(points, "step", name).items():
            if name == "reward":
                values = smooth(values, SMOOTHED)
            axes.plot(steps, values, color=colour_of(agent))
            ends |= _end(agent, steps, values)
        axes.set_title(title, loc="left")
        axes.set_xlim(min(p.step for p in points), max(p.step for p in points))
        if not name.endswith("error"):
            axes.set_ylim(bottom=0)
        if name == "alive":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set(ylim=(0, 1.02), xlabel="step of the session")
        label_ends(axes, ends)
    return figure


_Curves = dict[str, tuple[Floats, Floats]]
REFERENCE = "oracle-myopic"
"""Who is told of a switch at once: what others earn beside it is what they lose by not knowing."""


@styled
def adaptation(points: Sequence[AdaptationPoint]) -> Figure | None:
    """Returns the reward by steps since the latest switch of a user's interests.

    It is a share of what REFERENCE earns at the same lag, because a new interest is fresh: it pays
    more than the one it replaced, to whoever knows of it. Without REFERENCE it is the reward. Lines
    are running means that do not reach over the switch; dots at lag 0 are before it shows. A line
    ends where too few users are left to average. None where nothing switches.
    """
    curves = {
        agent: (lags, _after_switch(values))
        for agent, (lags, values) in lines_of(points, "lag", "reward").items()
    }
    if not any(np.isfinite(values).any() for _, values in curves.values()):
        return None
    shares = _shares(curves)
    figure = Figure((COLUMN, 2.5))
    axes = figure.subplots()
    ends: dict[str, tuple[float, float]] = {}
    for agent, (lags, values) in (shares or curves).items():
        axes.plot(lags, values, color=colour_of(agent))
        axes.plot(lags[0], values[0], "o", color=colour_of(agent), markersize=3, clip_on=False)
        ends |= _end(agent, lags, values)
    axes.set_xlim(0, max((x for x, _ in ends.values()), default=1.0))
    axes.set_ylim(bottom=0)
    if shares:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.axvline(0.5, color=FAINT, linewidth=0.7, linestyle=_DASHES, zorder=0)
    style = {"va": "bottom", "color": FAINT, "fontsize": 6}
    axes.text(0.5, 1.01, "the switch shows", transform=axes.get_xaxis_transform(), **style)
    unit = f"reward, share of {REFERENCE}'s" if shares else "reward per step"
    axes.set(xlabel="steps since an interest was replaced", ylabel=unit)
    label_ends(axes, ends)
    return figure


def _shares(curves: _Curves) -> _Curves:
    """Each curve divided by that of REFERENCE, or nothing where there is none to divide by."""
    if REFERENCE not in curves or len(curves) < 2:
        return {}
    whole = dict(zip(*curves[REFERENCE], strict=True))
    shares = {}
    for agent, (lags, values) in curves.items():
        parts = np.array([whole.get(lag, np.nan) for lag in lags])
        shares[agent] = lags, values / np.where(parts > 0.0, parts, np.nan)
    return shares


def _after_switch(values: Floats) -> Floats:
    """The value before a switch shows, and the running mean of those after it."""
    return np.concatenate([values[:1], smooth(values[1:], 3)])


@styled
def learning(
    points: Sequence[LearningPoint], references: Mapping[str, float] | None = None
) -> Figure:
    """Returns the return on validation users against the environment steps of training.

    A line is the mean over worlds and training seeds, the band the range over seeds of their means
    over worlds. `references` are returns of other agents, drawn as dashed lines, by what they are
    called: an agent, and whose returns they are in brackets.
    """
    figure = Figure((COLUMN, 2.2))
    axes = figure.subplots()
    last = float(max(point.train_steps for point in points))
    ends: dict[str, tuple[float, float]] = {}
    for name, value in (references or {}).items():
        colour = colour_of(name.partition(" (")[0])
        axes.axhline(value, color=colour, linestyle=_DASHES, linewidth=0.9)
        style = {"color": colour, "fontsize": 6, "va": "bottom"}
        axes.text(0.01 * last, value, name, **style)
    for agent in dict.fromkeys(point.agent for point in points):
        steps, seeds = _by_seed([point for point in points if point.agent == agent])
        band = {"color": colour_of(agent), "alpha": 0.2, "linewidth": 0}
        axes.fill_between(steps, np.nanmin(seeds, axis=0), np.nanmax(seeds, axis=0), **band)
        mean = np.nanmean(seeds, axis=0)
        marker = {"marker": "." if len(steps) < 20 else "", "clip_on": False}
        axes.plot(steps, mean, color=colour_of(agent), **marker)
        ends[agent] = (float(steps[-1]), float(mean[-1]))
    axes.set(xlim=(0, last), xlabel="environment steps of training")
    axes.set(ylim=(0, 1.05 * axes.get_ylim()[1]), ylabel="return, validation users")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    label_ends(axes, ends)
    return figure


def _by_seed(points: Sequence[LearningPoint]) -> tuple[Floats, Floats]:
    """Steps of training, (t,), and at each the mean over worlds of every seed, (seeds, t)."""
    seeds = sorted({point.seed for point in points})
    steps = sorted({point.train_steps for point in points})
    means = np.full((len(seeds), len(steps)), np.nan)
    for i, seed in enumerate(seeds):
        for j, step in enumerate(steps):
            own = [p.ret for p in points if (p.seed, p.train_steps) == (seed, step)]
            if own:
                means[i, j] = np.mean(own)
    return np.array(steps, np.float64), means


def _end(agent: str, x: Floats, y: Floats) -> dict[str, tuple[float, float]]:
    """Where the line of an agent ends; nothing if it has no point."""
    known = np.flatnonzero(np.isfinite(y))
    return {agent: (float(x[known[-1]]), float(y[known[-1]]))} if len(known) else {}
