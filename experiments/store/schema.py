"""The records of a run, one table for each kind: numbers and names of agents, never texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Episode:
    """One session of one held-out user with one trained agent; `episodes.csv`."""

    task: str
    agent: str
    world: int
    seed: int  # of the agent's training
    user: int
    ret: float  # undiscounted return; the column is called `return`
    steps: int
    consumed: int  # items; a user with `response="logit"` consumes at most one a step
    satisfied: int  # of them
    tracking_error: float
    """Degrees from the true interests to the recent history that the environment pools, mean over
    steps; NaN: unknown."""
    survived: bool  # still there at the horizon
    diversity: float = math.nan  # of the slates, 1 - mean cosine; NaN: slates of one item
    topics: float = math.nan  # effective number of topics consumed; NaN: nothing consumed
    novelty: float = math.nan  # of the items consumed, bits; NaN: nothing consumed
    ceiling: float = math.nan  # share of the catalogue's best slate that the candidates allowed
    shift: float = math.nan
    """Degrees between the interests at the end, and those without recommendations."""
    discovered: int = 0  # interests active at the end and not at the start
    lost: int = 0  # interests active at the start and not at the end
    goodwill: float = math.nan  # at the end
    belief_error: float = math.nan
    """As `tracking_error`, of what the agent believes; NaN: it holds no belief."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Means over the users of an agent at one step; `curves.csv`."""

    task: str
    agent: str
    step: int
    reward: float  # NaN where nobody is left to measure
    alive: float  # share of users who have not left
    tracking_error: float  # of the pooled history, degrees; NaN: too few are left to measure
    belief_error: float = math.nan  # of the agent's belief; NaN: it holds none, or too few are left


@dataclass(frozen=True, slots=True)
class AdaptationPoint:
    """Mean reward some steps after the latest switch of a user's interests; `adaptation.csv`."""

    task: str
    agent: str
    lag: int  # 0: the last step before the switch shows
    reward: float  # of users who are still there; NaN: too few of them
    count: int  # rewards averaged


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """Return on validation users, some way into training; `learning.csv`."""

    task: str
    agent: str
    world: int
    seed: int
    train_steps: int
    ret: float


@dataclass(frozen=True, slots=True)
class Row:
    """One agent on one task; None where there is nothing to measure; `leaderboard.csv`."""

    task: str
    agent: str
    mean: float
    ci_low: float  # 95 % interval of the mean
    ci_high: float
    iqm: float
    iqm_low: float
    iqm_high: float
    improvement: float | None  # paired, relative: mean / mean - 1
    improvement_low: float | None
    improvement_high: float | None
    improvement_over: str | None  # the agent of the row above
    p_improve: float | None  # that a session beats the same session of `improvement_over`
    normalised: float | None  # 0 is random, 1 is oracle-planning
    survive: float
    steps: float
    ctr: float  # of the steps, those in which something was consumed
    satisfaction_rate: float | None  # of what was consumed
    tracking_error: float | None  # of the pooled history, degrees
    worlds: int
    seeds: int
    users: int  # in all worlds together
    train_steps: int


@dataclass(frozen=True, slots=True)
class WorldRow:
    """One agent in one world: whether the pooled numbers hold everywhere; `worlds.csv`."""

    task: str
    agent: str
    world: int
    mean: float
    ci_low: float
    ci_high: float
    improvement: float | None
    improvement_low: float | None
    improvement_high: float | None
    improvement_over: str | None
    seeds: int
    users: int


@dataclass(frozen=True, slots=True)
class Metric:
    """What else was measured of an agent on a task; `metrics.csv`."""

    task: str
    agent: str
    metric: str
    value: float | None  # None: not defined for this agent or task
    low: float | None  # 95 % interval, None where there is none
    high: float | None


FILES: dict[type, str] = {
    Episode: "episodes.csv",
    CurvePoint: "curves.csv",
    AdaptationPoint: "adaptation.csv",
    LearningPoint: "learning.csv",
    Row: "leaderboard.csv",
    WorldRow: "worlds.csv",
    Metric: "metrics.csv",
}
Record = TypeVar(
    "Record", Episode, CurvePoint, AdaptationPoint, LearningPoint, Row, WorldRow, Metric
)
