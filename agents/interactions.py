"""The one loop that plays an agent in an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agents.base import Agent, Privileged
from llmrec_env.vector_env import RecVectorEnv


class Episodes(NamedTuple):
    """One session of each of n users; the second axis is the step."""

    user: npt.NDArray[np.int64]  # (n,)
    reward: npt.NDArray[np.float64]  # (n, T), 0 after the end
    alive: npt.NDArray[np.bool_]  # (n, T), whether the step was played
    consumed: npt.NDArray[np.bool_]  # (n, T)
    satisfied: npt.NDArray[np.bool_]  # (n, T)
    angle: npt.NDArray[np.float64]  # (n, T), degrees between u and the observed recent interest
    survived: npt.NDArray[np.bool_]  # (n,), whether the user stayed to the horizon


def play(
    agent: Agent,
    env: RecVectorEnv,
    users: npt.NDArray[np.int64],
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> Episodes:
    """Plays one session with each user and returns what happened.

    Every agent meets the same luck: the noise of a session depends on `seed` and the user alone
    (common random numbers), so agents can be compared user by user.

    Args:
        agent: a fitted agent.
        env: next-step environment of as many sessions as users.
        users: ids, (n,).
        seed: of the sessions.
        on_step: called with the number of steps played after each.
    """
    if isinstance(agent, Privileged):
        agent.attach(env)
    n, horizon = len(users), env.config.horizon
    seeds = [seed * 10_000_019 + int(user) for user in users]
    observation, _ = env.reset(seed=seeds, options={"user_id": users})
    log = _empty(users, n, horizon)
    running, starts = np.ones(n, np.bool_), np.ones(n, np.bool_)
    for t in range(horizon):
        log.angle[:, t] = tracking_angle(env)
        observation, reward, terminated, truncated, info = env.step(agent.act(observation, starts))
        log.alive[:, t] = running
        log.reward[running, t] = reward[running]
        log.consumed[:, t] = running & (info["item"] >= 0)
        log.satisfied[:, t] = running & (info["satisfied"] == 1)
        log.survived[running & truncated & ~terminated] = True
        running &= ~(terminated | truncated)
        starts = np.zeros(n, np.bool_)
        if on_step:
            on_step(t + 1)
        if not running.any():
            break
    return log


def tracking_angle(env: RecVectorEnv) -> npt.NDArray[np.float64]:
    """Returns the angle between true interest and observed recent interest, (n,), in degrees."""
    true, seen = env.simulator.interests(), env.simulator.histories["recent"]
    norms = np.linalg.norm(true, axis=1) * np.linalg.norm(seen, axis=1)
    cosine = np.vecdot(true, seen) / np.maximum(norms, 1e-9)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def _empty(users: npt.NDArray[np.int64], n: int, horizon: int) -> Episodes:
    return Episodes(
        user=users.copy(),
        reward=np.zeros((n, horizon)),
        alive=np.zeros((n, horizon), np.bool_),
        consumed=np.zeros((n, horizon), np.bool_),
        satisfied=np.zeros((n, horizon), np.bool_),
        angle=np.zeros((n, horizon)),
        survived=np.zeros(n, np.bool_),
    )
