"""Recorded sessions: all that was observed, done and earned, with propensities if there are any."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from agents.base import Actions, Observation, Privileged
from agents.rollout import session_seeds
from llmrec_env.envs.vector import RecVectorEnv


class Policy(Protocol):
    """What acts: an agent, or a mixture of agents."""

    def act(self, observation: Observation, episode_starts: npt.NDArray[np.bool_]) -> Actions:
        """Returns one action a session, (n, ...)."""
        ...


class Session(NamedTuple):
    """One session of a user, t steps."""

    user: int
    observations: Any  # (t + 1, ...), or a dict of such arrays; the last one follows the last step
    actions: npt.NDArray[Any]  # (t, ...)
    rewards: npt.NDArray[np.float32]  # (t,)
    terminated: npt.NDArray[np.bool_]  # (t,)
    truncated: npt.NDArray[np.bool_]  # (t,)
    propensities: npt.NDArray[np.float64] | None  # (t, K), of the slots; None: not known


def record_sessions(
    policy: Policy, env: RecVectorEnv, users: npt.NDArray[np.int64], seed: int
) -> list[Session]:
    """Returns one session with each user.

    Args:
        policy: a fitted agent; of one with `propensities`, as `SlotMixture`, they are recorded.
        env: of as many sessions as users, which does not reset in the step that ends one.
        users: ids, (n,).
        seed: of the sessions: the noise of one depends on it and the user alone.

    Raises:
        ValueError: another number of sessions, or the environment resets in the step.
    """
    if len(users) != env.num_envs or env.autoreset_mode == AutoresetMode.SAME_STEP:
        raise ValueError(
            f"users has {len(users)} ids and the environment {env.num_envs} sessions with "
            f"autoreset_mode={env.autoreset_mode}; build it with num_envs={len(users)} and "
            "autoreset_mode='next_step'."
        )
    if isinstance(policy, Privileged):
        policy.attach(env)
    seeds = session_seeds(seed, users)
    observation, _ = env.reset(seed=seeds, options={"user_id": users})
    observations, steps = [observation], []
    running, starts = np.ones(len(users), np.bool_), np.ones(len(users), np.bool_)
    while running.any():
        actions = policy.act(observation, starts)
        known = getattr(policy, "propensities", None)
        observation, reward, terminated, truncated, _ = env.step(actions)
        observations.append(observation)
        steps.append((actions, reward.astype(np.float32), terminated, truncated, known, running))
        running = running & ~(terminated | truncated)
        starts = np.zeros(len(users), np.bool_)
    length = np.sum([step[-1] for step in steps], axis=0)
    return [
        Session(int(user), _session(observations, i, t + 1), *_columns(steps, i, t))
        for i, (user, t) in enumerate(zip(users, length.tolist(), strict=True))
    ]


def _session(observations: list[Any], i: int, t: int) -> Any:
    if isinstance(observations[0], dict):
        return {name: _session([x[name] for x in observations], i, t) for name in observations[0]}
    return np.stack([observation[i] for observation in observations[:t]])


def _columns(steps: list[tuple[Any, ...]], i: int, t: int) -> list[Any]:
    columns = list(zip(*(step[:-1] for step in steps[:t]), strict=True))
    return [None if column[0] is None else np.stack([x[i] for x in column]) for column in columns]
