"""Cold start: users and items of whom the agents know little or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from agents import Agent, make_agent
from agents.rollout import Episodes, rollout
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.offline_ranking import known_histories
from experiments.runs.spec import TRAIN_ENVS, RunSpec, environment, task_config, users_of
from experiments.runs.threads import one_thread
from experiments.statistics.intervals import (
    Interval,
    Scores,
    bootstrap_interval,
    improvement_if_defined,
)
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.world import PublicData, consumption_of, load_world

KNOWN = (0, 1, 5)
"""Logged slates known of a user, beside all of them."""
Variants = Mapping[str, tuple[str, dict[str, Any]]]
"""Agents and their settings, by label."""
_HALVES: Variants = {
    "joint": ("joint", {}),
    "joint, λ1 = 0": ("joint", {"click": 0.0}),
    "joint, λ2 = 0": ("joint", {"text": 0.0}),
}
BY_USERS: Variants = {x: (x, {}) for x in ("random", "popular", "content", "drift-aware")} | _HALVES
BY_ITEMS: Variants = (
    {x: (x, {}) for x in ("content", "collaborative")}
    | _HALVES
    | {"joint, no map of texts": ("joint", {"text_map": 0.0})}
)
COLD_SHARE = 0.2
"""Of the items, those whose clicks are withheld."""
_DRAW = 23

Ids = npt.NDArray[np.int64]
Worlds = list[Episodes]
"""Sessions of an agent, world by world."""


@one_thread()
def cold_users(base: RunSpec, worlds: int) -> dict[str, dict[int, dict[str, Interval | None]]]:
    """Plays users of whom the agents and the recall of candidates know the first logged slates.

    What users did before stays done, and they are the same; nobody knows of it. So what they
    consumed then can be offered again.

    Args:
        base: what the runs have in common; its settings are those of `joint`.
        worlds: worlds 0 to worlds - 1.

    Returns:
        `return`, and the paired improvement over `content`, by label and number of slates known.
    """
    sessions: dict[str, dict[int, Worlds]] = {}
    for spec in _specs(base, BY_USERS, worlds, "cold users"):
        agent = _trained(spec)
        env, users = _held_out(spec, agent)
        logged = env.config.warmup_slates
        for slates in (*(x for x in KNOWN if x < logged), logged):
            histories = known_histories(env.simulator.world, users, slates)
            episodes = rollout(agent, env, users, EVALUATION_SEED, histories=histories)
            sessions.setdefault(spec.label, {}).setdefault(slates, []).append(episodes)
    return {
        name: {
            slates: _returns(own) | {"content": _improvement(own, sessions["content"][slates])}
            for slates, own in points.items()
        }
        for name, points in sessions.items()
    }


@one_thread()
def cold_items(base: RunSpec, worlds: int) -> dict[str, dict[str, Any]]:
    """Plays agents that learnt from logs without a click on some of the items, drawn at random.

    Args:
        base: what the runs have in common; its settings are those of `joint`.
        worlds: worlds 0 to worlds - 1.

    Returns:
        By label, the `return` and what of it cold items earned, `return_cold`; the shares of cold
        items in what was `shown` and `consumed`; and
        the shares that satisfied of the cold items consumed, `satisfied`, and of the others,
        `satisfied_others`; None where nothing was consumed.
    """
    sessions: dict[str, Worlds] = {}
    texts = load_world(task_config(base.task, base.env)).text
    cold = [_drawn(len(texts.catalog), world) for world in range(worlds)]
    for spec in _specs(base, BY_ITEMS, worlds, "cold items"):
        agent = _trained(spec, cold[spec.world])
        episodes = rollout(agent, *_held_out(spec, agent), EVALUATION_SEED)
        sessions.setdefault(spec.label, []).append(episodes)
    return {
        name: _returns(own) | _returns(own, cold) | _shares(own, cold)
        for name, own in sessions.items()
    }


def withheld(data: PublicData, cold: npt.NDArray[np.bool_], seed: int = 0) -> PublicData:
    """Returns public data of a platform that has not shown the cold items yet.

    Steps in which one was clicked are gone, and others stand in their place on the slates of other
    steps, so that not being clicked does not count against them.

    Args:
        data: of an environment.
        cold: which items, (N,).
        seed: of the items that stand in.
    """
    logs = Logs._make(column.copy() for column in data.logs)
    generator, warm = np.random.default_rng([seed, _DRAW]), np.flatnonzero(~cold)
    gone = ((logs.feedback >= 0) & cold[logs.slates]).any(axis=2)
    for column, nothing in zip(logs, (-1, -1, 0, -1), strict=True):
        column[gone] = nothing
    bad = (logs.slates >= 0) & cold[logs.slates]
    while bad.any():
        logs.slates[bad] = generator.choice(warm, int(bad.sum()))
        bad &= _twice(logs.slates)
    user, item, satisfied = logs.clicks(np.arange(len(logs.slates)))
    user, item = user[satisfied == 1], item[satisfied == 1]
    items = data.items._replace(**consumption_of(data.users[user], item, len(cold)))
    return dataclasses.replace(data, logs=logs, items=items)


class _Withheld:
    """An environment to learn from, whose public data knows no click on the cold items."""

    def __init__(self, env: RecVectorEnv, cold: npt.NDArray[np.bool_]) -> None:
        self.config, self._env, self._cold = env.config, env, cold

    def public_data(self) -> PublicData:
        return withheld(self._env.public_data(), self._cold)


def _twice(slates: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which slots of slates hold an item that another slot holds too, (U, W, K)."""
    same = slates[..., :, None] == slates[..., None, :]
    return same.sum(axis=-1) > 1


def _drawn(num_items: int, world: int) -> npt.NDArray[np.bool_]:
    order = np.random.default_rng([world, _DRAW]).permutation(num_items)
    cold = np.zeros(num_items, np.bool_)
    cold[order[: round(COLD_SHARE * num_items)]] = True
    return cold


def _specs(base: RunSpec, variants: Variants, worlds: int, what: str) -> Iterable[RunSpec]:
    """Runs under a progress bar, world by world so that each world is built once."""
    specs = [
        dataclasses.replace(
            base,
            agent=agent,
            world=world,
            label=label,
            settings=base.settings | own if agent == "joint" else own,
        )
        for world in range(worlds)
        for label, (agent, own) in variants.items()
    ]
    return track(specs, what, console=Console(stderr=True), transient=True)


def _trained(spec: RunSpec, cold: npt.NDArray[np.bool_] | None = None) -> Agent:
    config = task_config(spec.task, spec.env)
    agent = make_agent(spec.agent, config, spec.seed, **spec.settings)
    env = environment(spec, agent, TRAIN_ENVS, "train")
    known: Any = env if cold is None else _Withheld(env, cold)
    agent.fit(known, 0)
    return agent


def _held_out(spec: RunSpec, agent: Agent) -> tuple[RecVectorEnv, Ids]:
    """The environment of held-out users, and who they are."""
    users = users_of(spec)[: spec.users]
    return environment(spec, agent, len(users), spec.split), users


def _scores(sessions: Worlds, cold: list[npt.NDArray[np.bool_]] | None = None) -> Scores:
    """Returns of sessions; of cold items alone if they are given."""
    parts = [episodes.reward for episodes in sessions]
    if cold is not None:
        parts = [
            reward * (is_cold[np.maximum(episodes.item, 0)] & (episodes.item >= 0))
            for reward, episodes, is_cold in zip(parts, sessions, cold, strict=True)
        ]
    returns = np.concatenate([reward.sum(axis=1) for reward in parts])
    users = np.concatenate([episodes.user for episodes in sessions])
    worlds = np.repeat(np.arange(len(sessions)), len(sessions[0].user))
    return Scores.of(returns, worlds, users)


def _returns(
    sessions: Worlds, cold: list[npt.NDArray[np.bool_]] | None = None
) -> dict[str, Interval]:
    name = "return" if cold is None else "return_cold"
    return {name: bootstrap_interval(_scores(sessions, cold))}


def _improvement(own: Worlds, other: Worlds) -> Interval | None:
    return improvement_if_defined(_scores(own), _scores(other))


def _shares(sessions: Worlds, cold: list[npt.NDArray[np.bool_]]) -> dict[str, float | None]:
    """How much of what was shown and consumed was cold, and how much of either satisfied."""
    shown, consumed, satisfied = [], [], []
    for episodes, is_cold in zip(sessions, cold, strict=True):
        took = episodes.feedback >= 0
        shown.append(is_cold[episodes.slate[episodes.alive].ravel()])
        consumed.append(is_cold[episodes.slate[took]])
        satisfied.append(episodes.feedback[took] == 1)
    cold_consumed, was_satisfied = np.concatenate(consumed), np.concatenate(satisfied)
    return {
        "shown": _mean(np.concatenate(shown)),
        "consumed": _mean(cold_consumed),
        "satisfied": _mean(was_satisfied[cold_consumed]),
        "satisfied_others": _mean(was_satisfied[~cold_consumed]),
    }


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None
