"""What sessions say about the users in them: predicted and actual responses, randomness, drift."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.creators import attachment_to
from llmrec_env.simulation.questions import gate
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import appeal, new_scratch, satiation_of, sigmoid
from llmrec_env.simulation.user_record import USER
from llmrec_env.simulation.users import compare

EVENTS = ("died", "born", "woken", "slept", "refined_to")
STATES = ("goodwill", "patience", "active interests", "log-weight", "satiation")

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@kernel
def predict(users, params, phrases, vectors, traits, slates, choice, satisfaction):
    """Writes P(choose slot k), and P(z = 1) of each slot if it is chosen, both (n, k)."""
    k = slates.shape[1]
    scratch = new_scratch(k, vectors.shape[1])
    for i in range(users.shape[0]):
        compare(users[i], phrases, vectors, traits, slates[i], params[0], scratch)
        total = 1.0
        for j in range(k):
            item, relevance = slates[i, j], scratch.relevance[j]
            satiation = satiation_of(users[i], vectors, item)
            attachment = attachment_to(users[i], params[0], traits[item].creator)
            utility, logit = appeal(
                users[i], params[0], traits[item], relevance, satiation, attachment
            )
            logit = gate(users[i], params[0], traits[item], scratch.affinity, j, logit)
            choice[i, j] = math.exp(utility - params[0].null) * params[0].examined[j]
            satisfaction[i, j] = sigmoid(logit)
            total += choice[i, j]
        for j in range(k):
            choice[i, j] /= total


class Responses:
    """Writes down what the model of the users predicts for each slate, and what they did.

    For `play(watch=...)`. The prediction is made from the state before the step, without the
    randomness of the step.
    """

    def __init__(self, env: RecVectorEnv) -> None:
        """Prepares to watch all sessions of an environment."""
        self.simulator = env.simulator
        self.events = dict.fromkeys(EVENTS, 0)
        self._states: dict[str, list[_Floats]] = {name: [] for name in STATES}
        self._choice: list[_Floats] = []
        self._satisfaction: list[_Floats] = []
        self._chosen: list[_Ints] = []
        self._satisfied: list[_Ints] = []

    def __call__(self, t: int, running: npt.NDArray[np.bool_], observation: Any = None) -> None:
        """Looks at the environment before step t."""
        if t > 0:
            self._write(self.simulator.responses[self._running])
        self._running = running.copy()
        self._before = self.simulator.users[running]
        self._write_states(self._before)

    @property
    def choice(self) -> _Floats:
        """P of each slot, then of nothing, for every step played, (m, k + 1)."""
        slots = np.concatenate(self._choice)
        return np.column_stack([slots, 1.0 - slots.sum(axis=1)])

    @property
    def chosen(self) -> npt.NDArray[np.bool_]:
        """Which of these was chosen, (m, k + 1)."""
        chosen, options = np.concatenate(self._chosen), self.choice.shape[1]
        return np.where(chosen < 0, options - 1, chosen)[:, None] == np.arange(options)

    @property
    def satisfaction(self) -> _Floats:
        """P(z = 1) of every item that was consumed, (c,)."""
        chosen = np.concatenate(self._chosen)
        consumed = np.flatnonzero(chosen >= 0)
        return np.concatenate(self._satisfaction)[consumed, chosen[consumed]]

    @property
    def satisfied(self) -> npt.NDArray[np.bool_]:
        """Whether it satisfied, (c,)."""
        return np.concatenate(self._satisfied)[np.concatenate(self._chosen) >= 0] == 1

    @property
    def states(self) -> dict[str, _Floats]:
        """Values that each part of the state took, over users and steps."""
        return {name: np.concatenate(values) for name, values in self._states.items()}

    def _write(self, responses: npt.NDArray[np.void]) -> None:
        world, slates = self.simulator.world, responses["slate"]
        choice, satisfaction = np.empty(slates.shape), np.empty(slates.shape)
        if len(responses):
            predict(
                compiled_view(self._before, USER),
                world.params,
                world.interests.vectors,
                world.text_vectors,
                world.traits,
                np.ascontiguousarray(slates),
                choice,
                satisfaction,
            )
        self._choice.append(choice)
        self._satisfaction.append(satisfaction)
        self._chosen.append(responses["choice"].astype(np.int64))
        self._satisfied.append(responses["satisfied"].astype(np.int64))
        for name in EVENTS:
            self.events[name] += int(np.sum(responses[name] >= 0))

    def _write_states(self, users: npt.NDArray[np.void]) -> None:
        awake = users["active"] == 1
        columns = (
            users["goodwill"],
            users["patience"],
            awake.sum(axis=1),
            users["weight"][awake],
            np.linalg.norm(users["satiation"], axis=1),
        )
        for name, column in zip(STATES, columns, strict=True):
            self._states[name].append(column.astype(np.float64))


class Calibration(NamedTuple):
    """Frequencies beside predicted probabilities."""

    error: float
    """Mean distance between the two over the bins, weighted by their size."""
    chance: float
    """What that distance is on average if every probability is right."""
    bins: list[tuple[float, float]]
    """(predicted, observed) of each bin; all bins hold as many predictions."""


def calibrated(predicted: npt.ArrayLike, observed: npt.ArrayLike, bins: int = 10) -> Calibration:
    """Returns how far frequencies are from probabilities (Naeini et al. 2015, equal-mass bins)."""
    p, z = (np.asarray(x, np.float64).ravel() for x in (predicted, observed))
    if len(p) != len(z) or len(p) < bins:
        raise ValueError(
            f"{len(p)} predictions, {len(z)} events: needs {bins} pairs; play more users."
        )
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    points = [(float(p[part].mean()), float(z[part].mean())) for part in parts]
    share = np.array([len(part) for part in parts]) / len(p)
    error = float(share @ [abs(mean - rate) for mean, rate in points])
    spread = [math.sqrt(float((p[x] * (1 - p[x])).sum())) / len(x) for x in parts]
    return Calibration(error, float(share @ spread) * math.sqrt(2.0 / math.pi), points)


def position_exponent(clicks: npt.ArrayLike) -> tuple[float, float]:
    """Returns g of clicks ~ k^-g on slot k, over slates in random order, and its standard error.

    NaN: fewer than two slots, or a slot that was never clicked.
    """
    counts = np.asarray(clicks, np.float64)
    if len(counts) < 2 or not counts.all():
        return math.nan, math.nan
    rank, weight = np.log(np.arange(1, len(counts) + 1)), np.sqrt(counts)  # var log n = 1 / n
    line, spread = np.polyfit(rank, np.log(counts), 1, w=weight, cov="unscaled")
    return -float(line[0]), math.sqrt(spread[0, 0])


def variance_shares(rewards: npt.ArrayLike) -> dict[str, float]:
    """Returns shares of the variance of a step's reward: `users`, `sessions` of one, `steps`.

    The components of a nested random-effects analysis of variance, none below 0.

    Args:
        rewards: of the same users in several sessions each, (users, sessions, steps).
    """
    y = np.asarray(rewards, np.float64)
    n, s, t = y.shape
    of_session, of_user = y.mean(axis=2), y.mean(axis=(1, 2))
    within = ((y - of_session[..., None]) ** 2).sum() / (n * s * (t - 1))
    session = t * ((of_session - of_user[:, None]) ** 2).sum() / (n * (s - 1))
    user = s * t * ((of_user - y.mean()) ** 2).sum() / (n - 1)
    parts = {
        "users": max(user - session, 0.0) / (s * t),
        "sessions": max(session - within, 0.0) / t,
        "steps": within,
    }
    total = sum(parts.values())
    return {name: float(part / total) if total else math.nan for name, part in parts.items()}


def user_share(returns: npt.ArrayLike) -> float:
    """Returns the share of the variance of returns, (users, sessions), that lies between users.

    The intraclass correlation of Shrout and Fleiss 1979, ICC(1, 1), not below 0.
    """
    y = np.asarray(returns, np.float64)
    n, s = y.shape
    of_user = y.mean(axis=1)
    within = ((y - of_user[:, None]) ** 2).sum() / (n * (s - 1))
    between = max(s * ((of_user - y.mean()) ** 2).sum() / (n - 1) - within, 0.0) / s
    total = between + within
    return float(between / total) if total else math.nan


def half_life(likeness: npt.ArrayLike, floor: float) -> int | None:
    """Returns the first step at which likeness has come half of the way from its start to `floor`.

    None: not within these steps.
    """
    values = np.asarray(likeness, np.float64)
    below = np.flatnonzero(values <= (values[0] + floor) / 2.0)
    return int(below[0]) if len(below) else None
