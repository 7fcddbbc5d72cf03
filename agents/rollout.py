"""Rollout of an agent: one session with each of some users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.base import Agent, MemorylessAgent, Privileged
from llmrec_env.envs.spaces import observation_of
from llmrec_env.envs.vector import RecVectorEnv

Watch = Callable[[int, npt.NDArray[np.bool_], Any], None]
"""Called before step t, and after the last, with t, whose session is still running, (n,),
and the observation."""


class Episodes(NamedTuple):
    """One session of each of n users; the second axis is the step."""

    user: npt.NDArray[np.int64]  # (n,)
    reward: npt.NDArray[np.float64]  # (n, T), 0 after the end
    alive: npt.NDArray[np.bool_]  # (n, T), whether the step was played
    slate: npt.NDArray[np.int32]  # (n, T, K), -1 after the end
    item: npt.NDArray[np.int32]  # (n, T), consumed, the last one of the slate, -1 for none
    satisfied: npt.NDArray[np.bool_]  # (n, T), whether it did
    feedback: npt.NDArray[np.int8]  # (n, T, K), of each slot: satisfied 1 or 0, -1: not consumed
    survived: npt.NDArray[np.bool_]  # (n,), whether the user stayed to the horizon

    @property
    def consumed(self) -> npt.NDArray[np.int32]:
        """Every item consumed, in order of step and slot, (n, T K), -1 for the other slots."""
        items = np.where(self.feedback >= 0, self.slate, -1)
        return items.reshape(len(items), -1)


def rollout(
    agent: Agent,
    env: RecVectorEnv,
    users: npt.NDArray[np.int64],
    seed: int,
    watch: Watch | None = None,
    histories: npt.NDArray[np.void] | None = None,
) -> Episodes:
    """Plays one session with each user and returns the episodes.

    Every agent meets common random numbers: the noise of a session depends on `seed` and the user
    alone, so agents can be compared user by user.

    Args:
        agent: a fitted agent.
        env: environment of as many sessions as users; it must not reset in the step that ends one.
        users: ids, (n,).
        seed: of the sessions.
        watch: called before each step, to measure what the environment holds and agents believe.
        histories: what is known of the users at the start, (n,); None: all that was logged.
    """
    if isinstance(agent, Privileged):
        agent.attach(env)
    n, horizon = len(users), env.config.horizon
    seeds = session_seeds(seed, users)
    observation, _ = env.reset(seed=seeds, options={"user_id": users})
    if histories is not None:
        observation = _observation_after(env, histories)
    log = _empty(users, n, horizon, env.config.slate_size)
    running, starts = np.ones(n, np.bool_), np.ones(n, np.bool_)
    for t in range(horizon):
        actions = _actions(agent, observation, starts, running)
        if watch:
            watch(t, running, observation)
        observation, reward, terminated, truncated, info = env.step(actions)
        log.alive[:, t] = running
        log.reward[running, t] = reward[running]
        log.slate[running, t] = info["slate"][running]
        log.item[running, t] = info["item"][running]
        log.satisfied[:, t] = running & (info["satisfied"] == 1)
        log.feedback[running, t] = env.simulator.responses["feedback"][running]
        log.survived[running & truncated & ~terminated] = True
        running = running & ~(terminated | truncated)
        starts = np.zeros(n, np.bool_)
        if not running.any():
            break
    if watch:
        watch(int(log.alive.any(axis=0).sum()), running, observation)
    return log


def _actions(
    agent: Agent,
    observation: Any,
    starts: npt.NDArray[np.bool_],
    running: npt.NDArray[np.bool_],
) -> npt.NDArray[Any]:
    """An action of each session; one that has ended repeats another's, if nobody minds.

    Ended sessions begin anew until the last one ends, and acting in them can cost as much as all
    the rest.
    """
    if running.all() or not (isinstance(agent, MemorylessAgent) and agent.memoryless):
        return agent.act(observation, starts)
    rows = np.flatnonzero(running)
    if isinstance(observation, dict):
        some: Any = {name: block[rows] for name, block in observation.items()}
    else:
        some = tuple(observation[row] for row in rows)
    return agent.act(some, starts[rows])[np.maximum(np.cumsum(running) - 1, 0)]


def session_seeds(seed: int, users: npt.NDArray[np.integer]) -> list[int]:
    """Returns the seed of a session with each user, which depends on the user and `seed` alone."""
    return [seed * 10_000_019 + int(user) for user in users]


def _observation_after(env: RecVectorEnv, histories: npt.NDArray[np.void]) -> Any:
    """What is observed at the start of sessions if these histories are known."""
    env.simulator.histories[:] = histories
    env.simulator.show(np.arange(env.num_envs))
    return observation_of(env.simulator, slice(None))


def _empty(users: npt.NDArray[np.int64], n: int, horizon: int, slate_size: int) -> Episodes:
    return Episodes(
        user=users.copy(),
        reward=np.zeros((n, horizon)),
        alive=np.zeros((n, horizon), np.bool_),
        slate=np.full((n, horizon, slate_size), -1, np.int32),
        item=np.full((n, horizon), -1, np.int32),
        satisfied=np.zeros((n, horizon), np.bool_),
        feedback=np.full((n, horizon, slate_size), -1, np.int8),
        survived=np.zeros(n, np.bool_),
    )
