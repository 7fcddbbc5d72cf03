"""Offline ranking metrics of an agent: does it find the next logged clicks of held-out users?

The last logged slates of each held-out user are hidden; what the user clicked there and was
satisfied with is relevant. An agent ranks the whole catalogue from the history before them, page
by page: what it showed is not offered again. Logs were not made by the agent, so that a high
score here need not mean a high return: that is what the two numbers side by side show.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from agents import Agent
from agents.base import Privileged
from experiments.runs.spec import RunSpec, environment
from llmrec_env import metrics
from llmrec_env.envs.spaces import observation_of
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.world import World, histories_of

LIST_LENGTH = 10
HIDDEN_SHARE = 0.25
"""Share of the logged slates, the last ones, that are to be predicted."""
_SEED = 2


def offline_values(agent: Agent, spec: RunSpec, users: npt.NDArray[np.int64]) -> dict[str, float]:
    """Returns `ndcg@10` and `recall@10`, means over the users who have a relevant item.

    NaN for agents whose action is an index into a list of candidates they were trained on.
    """
    names = (f"ndcg@{LIST_LENGTH}", f"recall@{LIST_LENGTH}")
    picks = getattr(agent, "fixed_candidates", False) and agent.action in ("slate", "item")
    env = None if picks else _environment(agent, spec, len(users))
    if env is None or env.config.horizon < LIST_LENGTH:  # histories cannot hold so many
        return dict.fromkeys(names, np.nan)
    world = env.simulator.world
    past = _past(world, users)
    scores = np.zeros((len(users), len(world.catalog)))
    shown = _ranked(agent, env, users, past)
    np.put_along_axis(scores, shown, 1.0 + np.arange(LIST_LENGTH)[::-1], axis=1)
    relevant = _relevant(world, users, past)
    some = relevant.any(axis=1)
    if not some.any():
        return dict.fromkeys(names, np.nan)
    values = (
        metrics.ndcg_at_k(scores[some], relevant[some], LIST_LENGTH),
        metrics.recall_at_k(scores[some], relevant[some], LIST_LENGTH),
    )
    return {name: float(x.mean()) for name, x in zip(names, values, strict=True)}


def known_histories(
    world: World, users: npt.NDArray[np.int64], slates: int
) -> npt.NDArray[np.void]:
    """Returns the public history of users after the first of their logged slates, (n,)."""
    logs = Logs._make(np.ascontiguousarray(x[users, :slates]) for x in world.logs)
    return histories_of(world.config, logs, world.items, world.item_space.phrase_vectors)


def _environment(agent: Agent, spec: RunSpec, n: int) -> RecVectorEnv:
    full_catalogue = dataclasses.replace(spec, env=spec.env | {"candidates": 0})
    env = environment(full_catalogue, agent, n, spec.split)
    if isinstance(agent, Privileged):
        agent.attach(env)
    return env


def _hidden(world: World) -> int:
    return max(1, round(HIDDEN_SHARE * world.config.warmup_slates))


def _past(world: World, users: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """The public history of users before the hidden slates, (n,)."""
    return known_histories(world, users, world.config.warmup_slates - _hidden(world))


def _relevant(
    world: World, users: npt.NDArray[np.int64], past: npt.NDArray[np.void]
) -> npt.NDArray[np.bool_]:
    """What satisfied in the hidden slates and was not consumed before them, (n, items)."""
    relevant = np.zeros((len(users), len(world.catalog)), np.bool_)
    hidden = _hidden(world)
    slates, feedback = (x[users, -hidden:] for x in (world.logs.slates, world.logs.feedback))
    user, step, slot = np.nonzero(feedback == 1)
    relevant[user, slates[user, step, slot]] = True
    for row, history in zip(relevant, past, strict=True):
        row[history["consumed_items"][: history["num_consumed_items"]]] = (
            False  # is not offered again
        )
    return relevant


def _ranked(
    agent: Agent,
    env: RecVectorEnv,
    users: npt.NDArray[np.int64],
    histories: npt.NDArray[np.void],
) -> npt.NDArray[np.int64]:
    """The first items that the agent would show, best first, (n, LIST_LENGTH)."""
    simulator, n = env.simulator, len(users)
    everyone, k = np.arange(n), env.config.slate_size
    keys = np.random.default_rng(_SEED).integers(0, 2**63, n, dtype=np.uint64)
    pages: list[npt.NDArray[np.int64]] = []
    for _ in range(-(-LIST_LENGTH // k)):
        simulator.start(everyone, users, keys)
        simulator.histories[:] = histories
        for page in pages:  # not to be offered again
            index = simulator.histories["num_consumed_items"][:, None] + np.arange(k)
            simulator.histories["consumed_items"][everyone[:, None], index] = page
            simulator.histories["num_consumed_items"] += k
        simulator.show(everyone)
        starts = np.ones(n, np.bool_)
        simulator.step(agent.act(observation_of(simulator, slice(None)), starts))
        pages.append(simulator.responses["slate"].astype(np.int64))
    return np.concatenate(pages, axis=1)[:, :LIST_LENGTH]
