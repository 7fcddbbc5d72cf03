"""Measures of the sessions of an agent: hidden truth, diversity, exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.base import Agent, BeliefAgent
from agents.rollout import Episodes
from experiments.runs.spec import RunSpec
from experiments.store import Episode
from llmrec_env import metrics
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.counterfactual import without_recommendations
from llmrec_env.simulation.response import INSTRUCTION
from llmrec_env.world import World

MAX_LAG = 30
"""Steps after a switch that the adaptation curve shows."""
_CEILING_STRIDE = 10  # steps between two looks at the whole catalogue
_EVENTS = ("died", "born", "woken", "slept")

_Floats = npt.NDArray[np.float64]


class Truth:
    """Watches an environment and writes down what its users hide; for `rollout(watch=...)`.

    Attributes:
        tracking_error: angle between the true interests and the recent history that the
            environment pools for every agent, (n, T), degrees; NaN: one is zero.
        belief_error: the same of what the agent believes; NaN: it holds no belief.
        switched: whether an interest died in the step, (n, T).
        ceiling: share of the best slate's relevance that the candidates allow, (n,).
        start, end: phrases active at the start and at the end, (n, P), -1 for other slots.
        interest: true interest at the end, (n, d).
        goodwill: at the end, (n,).
        noise_keys: of the sessions, (n,).
        sessions: step by step, what the first users did; ids only.
    """

    def __init__(self, env: RecVectorEnv, watched: int = 0, agent: Agent | None = None) -> None:
        """Prepares to watch all sessions, and the first few step by step.

        Args:
            env: whose users are observed.
            watched: so many sessions are written down step by step.
            agent: who plays them, if it may be asked what it believes.
        """
        n, horizon, config = env.num_envs, env.config.horizon, env.config
        self.simulator, self.config = env.simulator, config
        self.tracking_error = np.full((n, horizon), np.nan)
        self.belief_error = np.full((n, horizon), np.nan)
        self.belief_agent = agent if isinstance(agent, BeliefAgent) else None
        self.switched = np.zeros((n, horizon), np.bool_)
        self.interest = np.zeros((n, config.dim), np.float32)
        self.goodwill = np.zeros(n)
        self.start = self.end = np.full((n, config.interest_slots), -1)
        self.noise_keys = np.zeros(n, np.uint64)
        self.sessions: list[list[dict[str, Any]]] = [[] for _ in range(min(watched, n))]
        self._ceilings: list[_Floats] = []  # NaN where nobody is there
        self._running = np.ones(n, np.bool_)

    @property
    def ceiling(self) -> _Floats:
        """Mean over the steps that were looked at, (n,); 1 where everything is offered."""
        if not self._ceilings:
            return np.ones(len(self.goodwill))
        seen = np.stack(self._ceilings)
        known = np.isfinite(seen)
        with np.errstate(invalid="ignore"):
            return np.where(known, seen, 0.0).sum(axis=0) / known.sum(axis=0)

    def __call__(self, t: int, running: npt.NDArray[np.bool_], observation: Any = None) -> None:
        """Looks at the environment before step t."""
        users, interests = self.simulator.users, self.simulator.interests()
        if t == 0:
            self.noise_keys = users["noise_key"].copy()
            self.start, self.end = self._active(), self._active()
        else:
            self.switched[:, t - 1] = self._running & (self.simulator.responses["died"] >= 0)
            self._write_responses()
        # A session that ended keeps its state until the next step begins another.
        now = self._running
        self.interest[now] = interests[now]
        self.goodwill[now] = users["goodwill"][now]
        self.end = np.where(now[:, None], self._active(), self.end)
        if t < self.tracking_error.shape[1]:
            seen, true = self.simulator.histories["recent"], self.simulator.interests(as_read=True)
            self.tracking_error[running, t] = metrics.tracking_error(true, seen)[running]
            if self.belief_agent:
                belief = self.belief_agent.belief(observation)
                self.belief_error[running, t] = metrics.tracking_error(true, belief)[running]
            if self.config.candidates and t % _CEILING_STRIDE == 0:
                self._ceilings.append(np.where(running, self._ceiling(interests), np.nan))
            self._write_interests(running)
        self._running = running.copy()

    def _active(self) -> npt.NDArray[np.int64]:
        users = self.simulator.users
        return np.where(users["active"] == 1, users["phrase"], -1)

    def _ceiling(self, interests: npt.NDArray[np.float32]) -> _Floats:
        world, ids = self.simulator.world, self.simulator.buffers.ids
        relevance = world.relevance(interests, self.simulator.users["taste"])
        offered = np.where(ids >= 0, np.take_along_axis(relevance, np.maximum(ids, 0), axis=1), 0.0)
        return metrics.recall_ceiling(offered, relevance, self.config.slate_size)

    def _write_interests(self, running: npt.NDArray[np.bool_]) -> None:
        for i, session in enumerate(self.sessions):
            if not running[i]:
                continue
            user = self.simulator.users[i]
            awake = np.flatnonzero(user["active"] == 1)
            weight = np.exp(user["weight"][awake] - user["weight"][awake].max())
            phrases = zip(user["phrase"][awake].tolist(), weight.tolist(), strict=True)
            step: dict[str, Any] = {"interests": [[phrase, _short(w)] for phrase, w in phrases]}
            for name in ("goodwill", "patience"):
                step[name] = _short(user[name])
            for name in ("tracking_error", "belief_error"):
                error = float(getattr(self, name)[i, len(session)])
                step[name] = None if np.isnan(error) else _short(error)
            session.append(step)

    def _write_responses(self) -> None:
        for i, session in enumerate(self.sessions):
            if not self._running[i]:
                continue
            response = self.simulator.responses[i]
            step = session[-1]
            step["slate"] = response["slate"].tolist()
            for name in ("choice", "satisfied", "query"):
                step[name] = int(response[name])
            if self.config.response == "cascade":
                step["feedback"] = response["feedback"].tolist()
            if response["instruction"] >= 0:
                step["instruction"] = [int(response[name]) for name in INSTRUCTION]
            events = [[name, int(response[name])] for name in _EVENTS if response[name] >= 0]
            if response["refined_from"] >= 0:
                moved = [int(response[name]) for name in ("refined_from", "refined_to")]
                events.append(["refined", *moved])
            step["events"] = events


def episode_rows(spec: RunSpec, episodes: Episodes, truth: Truth) -> list[Episode]:
    """Returns one record a session."""
    world = truth.simulator.world
    steps = episodes.alive.sum(axis=1)
    tracking_error = _mean_known(truth.tracking_error)
    change = metrics.discovered_and_lost(truth.start, truth.end)
    columns = (
        episodes.user,
        episodes.reward.sum(axis=1),
        steps,
        (episodes.feedback >= 0).sum(axis=(1, 2)),
        (episodes.feedback == 1).sum(axis=(1, 2)),
        tracking_error,
        episodes.survived,
        _diversity(episodes, world),
        _topics(episodes, world),
        _novelty(episodes, world),
        truth.ceiling,
        _shift(truth, episodes.user, steps),
        change.discovered,
        change.lost,
        truth.goodwill,
        _mean_known(truth.belief_error),
    )
    values = zip(*(column.tolist() for column in columns), strict=True)
    return [Episode(spec.name, spec.agent, spec.world, spec.seed, *row) for row in values]


def sums_over_sessions(episodes: Episodes, truth: Truth) -> dict[str, list[float]]:
    """Returns sums of reward, alive and errors by step, and of rewards and their number by lag.

    The error of the belief is left out where the agent holds none.
    """
    curve = metrics.adaptation_curve(episodes.reward, truth.switched, episodes.alive, MAX_LAG)
    sums = {"reward": episodes.reward.sum(axis=0), "alive": episodes.alive.sum(axis=0)}
    errors = {"tracking_error": truth.tracking_error}
    if truth.belief_agent:
        errors["belief_error"] = truth.belief_error
    for name, error in errors.items():
        known = episodes.alive & np.isfinite(error)
        sums[name] = np.where(known, error, 0.0).sum(axis=0)
        sums[f"{name}_count"] = known.sum(axis=0)
    sums["adaptation_count"] = curve.counts
    sums["adaptation_reward"] = np.nan_to_num(curve.reward) * curve.counts
    return {name: values.astype(np.float64).tolist() for name, values in sums.items()}


def exposure_values(episodes: Episodes, truth: Truth) -> dict[str, float]:
    """Returns how evenly the sessions together showed the catalogue."""
    counts = metrics.exposure(episodes.slate, len(truth.simulator.world.catalog))
    return {"coverage": float(np.mean(counts > 0)), "gini": metrics.gini(counts)}


def watched_sessions(spec: RunSpec, episodes: Episodes, truth: Truth) -> list[dict[str, Any]]:
    """Returns the sessions that were watched step by step, as plain data; ids, not texts."""
    sessions = []
    for i, steps in enumerate(truth.sessions):
        for t, step in enumerate(steps):
            step["reward"] = _short(episodes.reward[i, t])
        about = {"label": spec.name, "task": spec.task, "env": spec.env, "agent": spec.agent}
        about |= {"world": spec.world, "seed": spec.seed, "user": int(episodes.user[i])}
        sessions.append(about | {"survived": bool(episodes.survived[i]), "steps": steps})
    return sessions


def _mean_known(values: _Floats) -> _Floats:
    """Mean over the steps in which a value is known, (n,); NaN where there is none."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)


def _diversity(episodes: Episodes, world: World) -> _Floats:
    """Mean over the steps of a session, (n,)."""
    means = np.full(len(episodes.user), np.nan)
    if episodes.slate.shape[2] < 2:
        return means
    for i, alive in enumerate(episodes.alive):  # a user at a time: all slates at once are large
        means[i] = metrics.intra_list_diversity(world.text_vectors[episodes.slate[i, alive]]).mean()
    return means


def _topics(episodes: Episodes, world: World) -> _Floats:
    topics = world.catalog.topics
    items = episodes.consumed
    return metrics.effective_topics(np.where(items >= 0, topics[items], -1))


def _novelty(episodes: Episodes, world: World) -> _Floats:
    _, clicked, _ = world.logs.clicks(world.users_of("train"))
    count = np.bincount(clicked, minlength=len(world.catalog)) + 1.0
    return metrics.novelty(episodes.consumed, count / count.sum())


def _shift(truth: Truth, users: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]) -> _Floats:
    """Angle at the end between the interests, and those of a user who was shown nothing, (n,)."""
    world = truth.simulator.world
    alone = without_recommendations(world, users, truth.noise_keys, int(steps.max()))
    return metrics.preference_shift(truth.interest, alone[np.arange(len(users)), steps])


def _short(value: Any) -> float:
    return round(float(value), 4)
