"""Users by what can be known of them: how strong their taste is, and how clear their texts are."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.spec import RunSpec
from experiments.statistics.intervals import Interval
from experiments.store import Episode
from experiments.studies import study
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.portable_math import unit_rows

GROUPS = ("low", "middle", "high")
"""Thirds of the users of each world."""
Ids = npt.NDArray[np.int64]


def user_traits(spec: RunSpec, users: Ids) -> dict[str, npt.NDArray[np.float64]]:
    """Returns hidden numbers of users before their session, each (n,).

    `taste strength` is the length of a, what a user likes beside the texts; `text clarity` the
    cosine of the true interest u with v, the encoding of the public past.

    Args:
        spec: of a run; its task, overrides and world count.
        users: ids.
    """
    kwargs = spec.env | {"world_seed": spec.world, "observation": "dict", "split": spec.split}
    env = gymnasium.make_vec(spec.task, num_envs=len(users), **kwargs).unwrapped
    assert isinstance(env, RecVectorEnv)  # the registered vector entry point
    observation: Any = env.reset(seed=EVALUATION_SEED, options={"user_id": users})[0]
    true = unit_rows(env.simulator.interests(as_read=True))
    seen = unit_rows(observation["interest"])
    strength = np.linalg.norm(env.simulator.users["taste"], axis=1)
    env.close()
    return {
        "taste strength": strength.astype(np.float64),
        "text clarity": (seen * true).sum(1).astype(np.float64),
    }


def group_members(traits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Returns which of GROUPS each user is in, (n,): thirds by rank, ties by position."""
    ranks = np.argsort(np.argsort(traits, kind="stable"), kind="stable")
    return ranks * len(GROUPS) // max(len(traits), 1)


def improvements_by_group(
    spec: RunSpec, own: Sequence[Episode], others: Mapping[str, Sequence[Episode]]
) -> dict[str, dict[str, Interval | None]]:
    """Returns paired improvements in return over others, in thirds of the users by each trait.

    Args:
        spec: what the runs have in common.
        own: sessions of an agent.
        others: sessions of the same users with other agents, by label.

    Returns:
        By trait and group, as "taste strength: low", the improvement over each of the others; None
        where a group has one user of a world.
    """
    groups: dict[str, set[tuple[int, int]]] = {}
    for world in sorted({episode.world for episode in own}):
        users = np.unique([episode.user for episode in own if episode.world == world])
        traits = user_traits(dataclasses.replace(spec, world=world), users)
        for trait, values in traits.items():
            for user, group in zip(users.tolist(), group_members(values), strict=True):
                groups.setdefault(f"{trait}: {GROUPS[group]}", set()).add((world, user))
    return {
        label: {name: _improvement_of(own, sessions, users) for name, sessions in others.items()}
        for label, users in sorted(groups.items(), key=_by_trait)
    }


def _improvement_of(
    own: Sequence[Episode], other: Sequence[Episode], users: set[tuple[int, int]]
) -> Interval | None:
    if min(Counter(world for world, _ in users).values()) < 2:
        return None
    parts = ([x for x in sessions if (x.world, x.user) in users] for sessions in (own, other))
    return study.improvement_of(*parts)


def _by_trait(group: tuple[str, object]) -> tuple[str, int]:
    trait, _, name = group[0].partition(": ")
    return trait, GROUPS.index(name)
