"""Recorded sessions for other libraries: SB3's replay buffers and Minari's datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from agents.off_policy.recording import Session
from llmrec_env import TASKS
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv


def replay_buffer(sessions: Sequence[Session], env: RecVectorEnv) -> Any:
    """Returns a full replay buffer of SB3, one environment wide, with every step of the sessions.

    `model.replay_buffer = replay_buffer(...)` and `model.train(gradient_steps)` learn from it. A
    session that the horizon cut is marked as such, so that its last state keeps its value.

    Args:
        sessions: recorded in `env` or one like it.
        env: whose spaces they are of.

    Raises:
        ValueError: there is no session.
    """
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

    size = sum(len(session.rewards) for session in _some(sessions))
    space, actions = env.single_observation_space, env.single_action_space
    kind: Any = DictReplayBuffer if isinstance(space, spaces.Dict) else ReplayBuffer
    buffer = kind(size, space, actions, device="cpu", handle_timeout_termination=True)
    for session in sessions:
        for t in range(len(session.rewards)):
            done = session.terminated[t] | session.truncated[t]
            cut = bool(session.truncated[t] & ~session.terminated[t])
            buffer.add(
                _at(session.observations, t),
                _at(session.observations, t + 1),
                session.actions[t][None],
                session.rewards[t][None],
                np.array([done]),
                [{"TimeLimit.truncated": cut}],
            )
    return buffer


def minari_dataset(
    sessions: Sequence[Session], env: RecVectorEnv, dataset_id: str, **describing: Any
) -> Any:
    """Returns a new Minari dataset of the sessions, which lies in Minari's folder.

    The user of each step, and the propensities of slots where they are known, are in its infos;
    `recover_environment` makes the environment again.

    Args:
        sessions: recorded in `env` or one like it.
        env: whose spaces they are of.
        dataset_id: as `llmrec/drift-uniform-v0`.
        **describing: `algorithm_name`, `author`, `description` and what else Minari takes.

    Raises:
        ImportError: Minari is not installed.
        ValueError: there is no session.
    """
    try:
        import minari  # pyright: ignore[reportMissingImports]
        from minari.data_collector import EpisodeBuffer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("minari is not installed; pip install 'llmrec-env[offline]'.") from None

    # Minari's annotations know of lists alone, and of no merged keywords.
    new_buffer: Any = EpisodeBuffer
    create: Any = minari.create_dataset_from_buffers
    buffers = [
        new_buffer(
            id=i,
            observations=session.observations,
            actions=session.actions,
            rewards=session.rewards,
            terminations=session.terminated,
            truncations=session.truncated,
            infos=_infos(session),
        )
        for i, session in enumerate(_some(sessions))
    ]
    return create(
        dataset_id=dataset_id,
        buffer=buffers,
        env=_spec(env.config),
        observation_space=env.single_observation_space,
        action_space=env.single_action_space,
        **({"data_format": "arrow"} | describing),
    )


def _spec(config: EnvConfig) -> EnvSpec:
    """How a single environment of this configuration is made."""
    spec = gymnasium.spec(next(iter(TASKS)))
    return dataclasses.replace(spec, kwargs=config.to_dict())  # every field: of whichever task


def _infos(session: Session) -> dict[str, Any]:
    length = len(session.rewards) + 1  # the reset has one too
    # Minari's arrow files do not give back columns without a second axis.
    infos: dict[str, Any] = {"user_id": np.full((length, 1), session.user)}
    if session.propensities is not None:
        first = np.ones((1, session.propensities.shape[1]))
        infos["propensities"] = np.concatenate([first, session.propensities])
    return infos


def _at(observations: Any, t: int) -> Any:
    if isinstance(observations, dict):
        return {name: x[t][None] for name, x in observations.items()}
    return observations[t][None]


def _some(sessions: Sequence[Session]) -> Sequence[Session]:
    if not sessions:
        raise ValueError("sessions is empty; record at least one: record_sessions(...).")
    return sessions
