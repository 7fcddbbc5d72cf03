"""Logged slates for off-policy evaluation: what was drawn, what targets would show, and the truth.

The truth is what no log tells: in every logged context the session is forked, and each target
policy's slate is shown to a copy of the user.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents import Agent, Privileged
from agents.off_policy import SlotMixture
from agents.rollout import session_seeds
from llmrec_env.envs.vector import RecVectorEnv

Floats = npt.NDArray[np.float64]
FOLDS = 2
"""Parts of the users, the rewards of each predicted by a model of the others."""
RewardModel = Callable[[Any, npt.NDArray[np.int64]], Floats]
"""Expected reward of slates, (n,), by `dict` observations and candidate indices, (n, K)."""
_RIDGE = 10.0  # steps' worth of the prior that a feature tells nothing
_STRIDE = np.uint64(0x9E3779B97F4A7C15)  # between noise keys of forks


class Target(NamedTuple):
    """What a policy would have done in m logged steps."""

    probabilities: Floats  # (m, K), that it fills each slot as it was
    features: npt.NDArray[np.float32]  # (m, K, F), of what it would show
    value: Floats  # (m,), mean reward of forks that showed it
    modelled: Floats  # (m, R), what each reward model expects of it


class LoggedSlates(NamedTuple):
    """m steps of a logging policy, in order of time and user."""

    users: npt.NDArray[np.int64]  # (m,)
    rewards: Floats  # (m, K), of each slot
    propensities: Floats  # (m, K)
    features: npt.NDArray[np.float32]  # (m, K, F), of what was shown
    modelled: Floats  # (m, R), what each reward model expects of it
    targets: dict[str, Target]


def log_slates(
    policy: SlotMixture,
    targets: Mapping[str, Agent],
    env: RecVectorEnv,
    users: npt.NDArray[np.int64],
    seed: int,
    forks: int = 4,
    models: Sequence[RewardModel] = (),
) -> LoggedSlates:
    """Returns the steps of one session with each user under the logging policy.

    Args:
        policy: draws the slates, and tells its propensities.
        targets: fitted agents by name, none of them one of the policy's own.
        env: of as many sessions as users, which does not reset in the step that ends one.
        users: ids, (n,).
        seed: of the sessions.
        forks: copies of each session, with other noise, that each target is shown to once.
        models: of what slates earn.

    Raises:
        ValueError: users may consume several items, of which the reward tells only the sum.
    """
    if env.config.response != "logit":
        raise ValueError(
            f"response={env.config.response!r} pays for several slots at once and rewards do not "
            "say which; evaluate policies with response='logit'."
        )
    for agent in targets.values():
        if isinstance(agent, Privileged):
            agent.attach(env)
    seeds = session_seeds(seed, users)
    observation, _ = env.reset(seed=seeds, options={"user_id": users})
    n = len(users)
    running, starts, steps = np.ones(n, np.bool_), np.ones(n, np.bool_), []
    while running.any():
        shown = {
            name: np.asarray(x.act(observation, starts), np.int64) for name, x in targets.items()
        }
        slates = policy.act(observation, starts)
        told = {
            name: _target(env, observation, slates, shown[name], forks, models) for name in shown
        }
        features = slot_features(observation, slates)
        modelled = _modelled(models, observation, slates)
        observation, reward, terminated, truncated, info = env.step(slates)
        rewards = reward[:, None] * (info["choice"][:, None] == np.arange(slates.shape[1]))
        step = LoggedSlates(users, rewards, policy.propensities, features, modelled, told)
        steps.append(_rows(step, running))
        running, starts = running & ~(terminated | truncated), np.zeros(n, np.bool_)
    return joined(steps)


def _target(
    env: RecVectorEnv,
    observation: Any,
    slates: npt.NDArray[np.int64],
    shown: npt.NDArray[np.int64],
    forks: int,
    models: Sequence[RewardModel],
) -> Target:
    return Target(
        (slates == shown).astype(np.float64),
        slot_features(observation, shown),
        np.mean([_fork_rewards(env, shown, fork) for fork in range(forks)], axis=0),
        _modelled(models, observation, shown),
    )


def _modelled(
    models: Sequence[RewardModel], observation: Any, slates: npt.NDArray[np.int64]
) -> Floats:
    columns = [model(observation, slates) for model in models]
    return np.stack(columns, 1) if columns else np.empty((len(slates), 0))


def _fork_rewards(env: RecVectorEnv, slates: npt.NDArray[np.int64], fork: int) -> Floats:
    """What copies of the sessions earn with these slates, and noise of their own, (n,)."""
    simulator = copy.deepcopy(env.simulator)
    with np.errstate(over="ignore"):
        simulator.users["noise_key"] += np.uint64(fork + 1) * _STRIDE
    return simulator.step(slates).astype(np.float64)


def _rows(step: LoggedSlates, rows: npt.NDArray[np.bool_]) -> LoggedSlates:
    targets = {name: Target(*_taken(one, rows)) for name, one in step.targets.items()}
    return LoggedSlates(*_taken(step[:-1], rows), targets=targets)


def _taken(columns: Sequence[Any], rows: npt.NDArray[np.bool_]) -> Any:
    return [column[rows] for column in columns]


def joined(parts: Sequence[LoggedSlates]) -> LoggedSlates:
    """Returns several logs as one."""
    targets = {
        name: Target(*_stacked([part.targets[name] for part in parts])) for name in parts[0].targets
    }
    return LoggedSlates(*_stacked([part[:-1] for part in parts]), targets=targets)


def _stacked(parts: Sequence[Sequence[Any]]) -> Any:
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


# --- a model of rewards


def slot_features(observation: Any, slates: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Returns public features of what slots hold, (n, K, F): of the item, in pairs, of the session.

    Args:
        observation: `dict` observations of n sessions.
        slates: candidate indices, (n, K).
    """
    item = np.take_along_axis(observation["candidate_features"], slates[..., None], 1)
    first, second = np.triu_indices(item.shape[2])
    session = np.repeat(observation["session"][:, None], slates.shape[1], 1)
    one = np.ones((*slates.shape, 1), np.float32)
    pairs = item[..., first] * item[..., second]
    return np.concatenate([one, item, pairs, session], 2)


def predicted_rewards(logs: LoggedSlates) -> tuple[Floats, dict[str, Floats]]:
    """Returns the expected reward of the slots logged, (m, K), and of those of each target.

    A ridge regression a slot; the steps of a user are predicted by the steps of others.
    """
    fold = logs.users // 10 % FOLDS  # the last digit of an id is its split
    own = np.empty(logs.rewards.shape)
    others = {name: np.empty(logs.rewards.shape) for name in logs.targets}
    for part in range(FOLDS):
        held, learnt = fold == part, fold != part
        for k in range(logs.rewards.shape[1]):
            weights = _ridge(logs.features[learnt, k], logs.rewards[learnt, k])
            own[held, k] = logs.features[held, k] @ weights
            for name, target in logs.targets.items():
                others[name][held, k] = target.features[held, k] @ weights
    return own, others


def modelled_rewards(logs: LoggedSlates, model: int) -> dict[str, Floats]:
    """Returns what a reward model expects of the slates of each target, (m,).

    It is scaled so that it foretells the mean reward of what was logged; the steps of a user by the
    steps of others.
    """
    fold, rewards = logs.users // 10 % FOLDS, logs.rewards.sum(1)
    scale = np.empty(len(rewards))
    for part in range(FOLDS):
        learnt = fold != part
        scale[fold == part] = rewards[learnt].sum() / logs.modelled[learnt, model].sum()
    return {name: scale * target.modelled[:, model] for name, target in logs.targets.items()}


def _ridge(features: npt.NDArray[np.float32], rewards: Floats) -> Any:
    x = features.astype(np.float64)
    return np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ rewards)
